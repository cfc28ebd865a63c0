"""A run's rows as a table with ratios, and as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

HEADER = (
    "contender", "slots", "job", "N", "jobs/s", "CPU ms", "Redis ms", "running",
    "idle MiB", "MiB", "submit/s", "CPU x Celery", "jobs/s x loop",
)  # fmt: skip


@dataclass(kw_only=True)
class Row:
    """One batch of one contender."""

    contender: str
    slots: int
    kind: str
    count: int
    seconds: float
    cpu_ms: float
    """Of the worker, for one job."""
    redis_ms: float | None = None
    running: int = 0
    idle_mib: float | None = None
    mib: float | None = None
    submitted_per_second: float | None = None

    @property
    def per_second(self) -> float:
        return self.count / self.seconds


def show(rows: Sequence[Row]) -> str:
    """Return the table in Markdown."""
    lines = [HEADER, tuple("---" for _ in HEADER)]
    for row in rows:
        by_hand = _of(rows, row, "celery threads")
        loop = _of(rows, row, "bare loop")
        lines.append(
            (
                row.contender,
                str(row.slots),
                row.kind,
                str(row.count),
                f"{row.per_second:.0f}",
                f"{row.cpu_ms:.2f}",
                _number(row.redis_ms, 2),
                str(row.running or "-"),
                _number(row.idle_mib, 0),
                _number(row.mib, 0),
                _number(row.submitted_per_second, 0),
                _number(row.cpu_ms / by_hand.cpu_ms if by_hand else None, 2),
                _number(row.per_second / loop.per_second if loop else None, 2),
            )
        )
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def draw(rows: Sequence[Row], path: Path) -> None:
    """Write bars of the CPU of a job and of jobs a second."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    shown = [row for row in rows if row.kind != "noop"]
    names = [f"{row.contender}\n{row.kind} {row.slots}" for row in shown]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(14, 6))
    left.barh(names, [row.cpu_ms for row in shown])
    left.set_xlabel("CPU of the worker, ms a job (scripted endpoint)")
    right.barh(names, [row.per_second for row in shown])
    right.set_xlabel("jobs a second")
    right.set_yticks([])
    figure.tight_layout()
    figure.savefig(path)


def _of(rows: Sequence[Row], row: Row, contender: str) -> Row | None:
    same = (row.slots, row.kind, row.count)
    return next(
        (
            other
            for other in rows
            if other.contender == contender
            and (other.slots, other.kind, other.count) == same
        ),
        None,
    )


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
