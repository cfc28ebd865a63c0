"""`celeriac` and `python -m orchestrator`."""

from __future__ import annotations

import sys

INTERRUPTED = 130
"""As `exit_codes` has it, which is not there yet."""


def main() -> None:
    """Run the command line and exit with its code."""
    try:
        # Within the `try`: Ctrl-C may come while it is imported.
        from orchestrator.cli.group import run  # noqa: PLC0415

        code = run(sys.argv[1:])
    except KeyboardInterrupt:
        code = INTERRUPTED
    sys.exit(code)


if __name__ == "__main__":
    main()
