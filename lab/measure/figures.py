# SPDX-License-Identifier: MIT
"""The figures of `lab bench`: medians, ratios, and how a person and a program read them."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

COLD, CLONE, IN_PLACE = "cold", "clone", "in place"
UNWATCHED = "unwatched"  # in place, and it is not looked what modules leave behind: what that costs
SAME, ANOTHER = "the same", "others"  # which scenarios: one over and over, or one after the other of a file
# What one scenario costs, less is better: name -> how it is headed.
COSTS: Mapping[str, str] = {
    "wall_ms": "wall ms",
    "steps_ms": "steps ms",
    "cpu_ms": "QEMU's CPU ms",
    "blocks": "blocks",
    "private_mib": "private MiB",
}
_COMPARED = {"wall_ms": "wall", "cpu_ms": "CPU"}  # in a table; a program gets all


@dataclass(frozen=True)
class Figure:
    """One measured quantity."""

    median: float
    least: float
    most: float
    runs: int


def figure(values: Sequence[float]) -> Figure:
    """Return the figure of some measured values, of which there is at least one."""
    return Figure(statistics.median(values), min(values), max(values), len(values))


@dataclass(frozen=True)
class Row:
    """What scenarios cost in one mode."""

    mode: str
    scenario: str  # SAME or ANOTHER
    qemu: str  # which one: its version, and what tells it from others of that
    costs: Mapping[str, Figure]  # by the names of COSTS
    rates: Mapping[int, Figure] = field(default_factory=dict)  # scenarios a second, by how many workers


@dataclass(frozen=True)
class Report:
    """What was measured on one target."""

    target: str
    rows: tuple[Row, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)  # mode -> why
    notes: tuple[str, ...] = ()
    failed: str = ""  # why nothing was


def ratios(row: Row, clone: Row) -> dict[str, float]:
    """Return how many times better than a clone's each figure is: 2 is half the cost, or twice the rate."""
    found = {
        name: clone.costs[name].median / mine.median
        for name, mine in row.costs.items()
        if name in clone.costs and mine.median > 0
    }
    for workers, rate in row.rates.items():
        if workers in clone.rates and clone.rates[workers].median > 0:
            found[_workers(workers)] = rate.median / clone.rates[workers].median
    return found


def _workers(count: int) -> str:
    return f"{count} worker{'s' if count > 1 else ''}"


def clone_of(row: Row, rows: Sequence[Row]) -> Row | None:
    """Return the clones' row that a row is to be compared with."""
    clones = [each for each in rows if each.mode == CLONE]
    return next((each for each in clones if each.scenario == row.scenario), None)


def table(report: Report) -> tuple[list[str], list[list[str]]]:
    """Return a report's table: the heads of its columns, and its rows; what was not measured is '-'."""
    workers = sorted({count for row in report.rows for count in row.rates})
    compared = [*_COMPARED, *map(_workers, workers)]
    head = ["mode", "scenario", *COSTS.values(), *(f"{_workers(count)} /s" for count in workers)]
    head += [f"x {_COMPARED.get(name, name)}" for name in compared]
    rows = []
    for row in report.rows:
        cells = [row.mode, row.scenario]
        cells += [_cell(row.costs.get(name)) for name in COSTS]
        cells += [_cell(row.rates.get(count), digits=1) for count in workers]
        clone = clone_of(row, report.rows)
        better = ratios(row, clone) if clone is not None else {}
        cells += [f"{better[name]:.2f}" if name in better else "-" for name in compared]
        rows.append(cells)
    return head, rows


def _cell(made: Figure | None, *, digits: int = 0) -> str:
    return "-" if made is None else f"{made.median:,.{digits}f}"


def remarks(report: Report) -> list[str]:
    """Return what stands below a report's table."""
    runs = {row.mode: row.costs["wall_ms"].runs for row in report.rows if row.scenario == SAME}
    lines = ["medians over " + ", ".join(f"{count} ({mode})" for mode, count in runs.items())]
    for qemu in dict.fromkeys(row.qemu for row in report.rows):
        users = dict.fromkeys(row.mode for row in report.rows if row.qemu == qemu)
        lines.append(f"QEMU {qemu}: {', '.join(users)}")
    lines += [f"{mode}: left out: {why}" for mode, why in report.left_out.items()]
    return lines + [f"note: {note}" for note in report.notes]


def to_json(report: Report) -> dict[str, Any]:
    """Return a report for programs."""
    rows = []
    for row in report.rows:
        clone = clone_of(row, report.rows)
        rows.append(
            {
                "mode": row.mode,
                "scenario": row.scenario,
                "qemu": row.qemu,
                **{name: asdict(made) for name, made in row.costs.items()},
                "scenarios_a_second": {str(count): asdict(rate) for count, rate in row.rates.items()},
                "times_a_clone": ratios(row, clone) if clone is not None else {},
            }
        )
    return {
        "target": report.target,
        "rows": rows,
        "left_out": dict(report.left_out),
        "failed": report.failed,
        "notes": list(report.notes),
    }
