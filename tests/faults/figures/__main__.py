"""Measure and print the figures: `python -m tests.faults.figures [--only kills …]`."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Coroutine
from typing import Any

from benchmarks import durability
from tests.faults.figures import cancels, flush, kills, recovery


def main() -> None:
    arguments = _arguments()
    everything: dict[str, Coroutine[Any, Any, None]] = {
        "cancels": cancels.measure(arguments.tasks // 10),
        "flush": flush.measure(arguments.tasks // 2),
        "recovery": recovery.measure(arguments.runs),
        "kills": kills.measure(
            tasks=arguments.tasks,
            kills=arguments.kills,
            seed=arguments.seed,
            pause=arguments.pause,
        ),
    }
    chosen = arguments.only or (*everything, "cost")
    for name, measurement in everything.items():
        if name in chosen:
            asyncio.run(measurement)
        else:
            measurement.close()
    if "cost" in chosen:
        durability.main(arguments.tasks // 5, rounds=3)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--tasks", type=int, default=2000)
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--runs", type=int, default=5, help="of each recovery")
    parser.add_argument("--pause", type=float, default=0.6, help="between two kills")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
