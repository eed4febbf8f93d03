# SPDX-License-Identifier: MIT
"""The records of earlier runs, kept beside the cache for each tree, and what `lab channels` makes of them.

A line is a record (lab.run.record), with the id of its provenance; each provenance is a line of its own,
since thousands of records have the same.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from lab.errors import CacheError
from lab.run.record import FORMAT, Verdict
from lab.store import lines
from lab.store.cache import digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from lab.run.record import Record
    from lab.scenario import ScenarioFile
    from lab.store.cache import Cache

_MOST_BYTES = 32 << 20  # then only the last record of each scenario on each target stays
_PROVENANCE = "provenance"
_PATCHED = "patched"  # a module that is wrong on purpose says nothing about a channel


class Records:
    """The records of the runs of one tree; several runs may add to them at once."""

    def __init__(self, cache: Cache, root: Path) -> None:
        self.path = cache.records / f"{digest(str(root.resolve()))}.jsonl"
        self._known: set[str] = set()  # provenances that were written

    def add(self, record: Record) -> None:
        """Keep a record; raises CacheError for a full or unwritable disk."""
        line = record.to_json()
        new: list[Mapping[str, Any]] = []
        if record.provenance is not None:
            line[_PROVENANCE] = name = record.provenance.id
            if record.provenance.patches:
                line[_PATCHED] = True
            if name not in self._known:
                new.append({"id": name, **asdict(record.provenance)})
                self._known.add(name)
        try:
            lines.append(self.path, [*new, line])
        except OSError as error:
            raise CacheError(f"{self.path} cannot be written: {error.strerror}") from error

    def shorten(self) -> None:
        """Drop all but the last record of each scenario on each target where there are very many."""
        try:
            if self.path.stat().st_size > _MOST_BYTES:
                lines.rewrite(self.path, _last_ones)
        except OSError:
            return  # not there, or not ours to write: add() tells

    def last(self) -> Iterator[dict[str, Any]]:
        """Yield the last record, as JSON, of each scenario on each target, without deliberate faults."""
        yield from _last(lines.read(self.path)).values()


def _last(found: Iterable[dict[str, Any]]) -> dict[tuple[str, ...], dict[str, Any]]:
    """Return the last records by target, channel and scenario, in the order of the first ones."""
    last: dict[tuple[str, ...], dict[str, Any]] = {}
    for line in found:
        if line.get("format") == FORMAT and not line.get(_PATCHED):
            last[line["target"], line["channel"], line["scenario"]] = line
    return last


def _last_ones(found: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    every = list(found)
    last = list(_last(every).values())
    wanted = {line.get(_PROVENANCE) for line in last}
    yield from {line["id"]: line for line in every if line.get("id") in wanted}.values()
    yield from last


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


def cells(records: Records, files: Iterable[ScenarioFile]) -> list[Cell]:
    """Return each channel on each target that was ever run here, as far as its scenarios are still there."""
    kept: dict[str, dict[tuple[str, str], dict[str, Any]]] = {}
    for line in records.last():
        kept.setdefault(line["target"], {})[line["channel"], line["scenario"]] = line
    wanted: dict[str, list[str]] = {}
    for file in files:
        wanted.setdefault(file.channel, []).extend(each.id for each in file.scenarios)
    return [
        _cell(channel, target, [found.get((channel, each)) for each in scenarios])
        for channel, scenarios in sorted(wanted.items())
        for target, found in kept.items()
    ]


def _cell(channel: str, target: str, found: Iterable[dict[str, Any] | None]) -> Cell:
    unsupported: Counter[str] = Counter()
    failed: dict[str, str] = {}
    passed = not_run = 0
    for record in found:
        if record is None:
            not_run += 1
        elif record["verdict"] == Verdict.PASSED.value:
            passed += 1
        elif record["verdict"] == Verdict.UNSUPPORTED.value:
            unsupported[record["unsupported"]] += 1
        else:
            failed[record["scenario"]] = f"{record['verdict']}: {record['findings'][0].get('title', '')}"
    return Cell(channel, target, passed, dict(unsupported), failed, not_run)


__all__ = ["Cell", "Records", "cells"]
