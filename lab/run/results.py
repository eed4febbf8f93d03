# SPDX-License-Identifier: MIT
"""What the last run of each scenario gave, on each target: kept in the cache, told by `lab channels`."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from lab.run.verdict import Verdict
from lab.store.cache import digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from lab.scenario import ScenarioFile
    from lab.store.cache import Cache


@dataclass(frozen=True)
class Row:
    """One scenario's verdict on one target."""

    target: str
    channel: str
    scenario: str  # its id
    verdict: str
    reason: str = ""  # of `unsupported`, or what went wrong


@dataclass(frozen=True)
class Cell:
    """A channel on a target."""

    channel: str
    target: str
    passed: int = 0
    unsupported: Mapping[str, int] = field(default_factory=dict)  # by reason
    failed: Mapping[str, str] = field(default_factory=dict)  # by scenario: the verdict and what happened
    not_run: int = 0

    def __str__(self) -> str:
        parts = [f"{len(self.failed)} FAILED"] if self.failed else []
        parts += [str(self.passed)] if self.passed else []
        parts += [f"{sum(self.unsupported.values())}u"] if self.unsupported else []
        parts += [f"{self.not_run}?"] if self.not_run else []
        return " ".join(parts)

    def to_json(self) -> dict[str, Any]:
        """Return it for programs."""
        return asdict(self)


def _fact(root: Path) -> str:
    return f"results-{digest(str(root.resolve()))}"


def record(cache: Cache, root: Path, rows: Iterable[Row]) -> None:
    """Keep the verdicts of a run of the tree in `root`; what was not run keeps the verdict that it had.

    Raises CacheError.
    """
    kept = _recall(cache, root)
    for row in rows:
        kept.setdefault(row.target, {}).setdefault(row.channel, {})[row.scenario] = [row.verdict, row.reason]
    cache.remember(_fact(root), kept)


def _recall(cache: Cache, root: Path) -> dict[str, dict[str, dict[str, list[str]]]]:
    found = cache.recall(_fact(root))
    return found if isinstance(found, dict) else {}


def cells(cache: Cache, root: Path, files: Iterable[ScenarioFile]) -> list[Cell]:
    """Return each channel on each target that was ever run here, as far as its scenarios are still there."""
    kept = _recall(cache, root)
    wanted: dict[str, list[str]] = {}
    for file in files:
        wanted.setdefault(file.channel, []).extend(each.id for each in file.scenarios)
    return [
        _cell(channel, target, scenarios, kept[target].get(channel, {}))
        for channel, scenarios in sorted(wanted.items())
        for target in kept
    ]


def _cell(channel: str, target: str, scenarios: list[str], kept: Mapping[str, list[str]]) -> Cell:
    unsupported: Counter[str] = Counter()
    failed: dict[str, str] = {}
    passed = not_run = 0
    for scenario in scenarios:
        verdict, reason = kept.get(scenario, ("", ""))
        if not verdict:
            not_run += 1
        elif verdict == Verdict.PASSED.value:
            passed += 1
        elif verdict == Verdict.UNSUPPORTED.value:
            unsupported[reason] += 1
        else:
            failed[scenario] = f"{verdict}: {reason}" if reason else verdict
    return Cell(channel, target, passed, dict(unsupported), failed, not_run)


__all__ = ["Cell", "Row", "cells", "record"]
