# SPDX-License-Identifier: MIT
"""What became of mutants, kept in the cache: a run goes on where the one before it was ended.

A line is good for as long as the module, what it is compiled with, its scenarios and the kernel are the same.
Older ones still say which scenario is worth trying first.
"""

from __future__ import annotations

import enum
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from lab.errors import CacheError
from lab.store import lines
from lab.store.cache import digest

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from lab.mutate.operators import Mutant

_FORMAT = 2


class Verdict(enum.Enum):
    """What became of a mutant."""

    CAUGHT = "caught"
    SURVIVED = "survived"
    NO_BUILD = "does not build"
    IDENTICAL = "identical"  # the compiler makes the same of it


@dataclass(frozen=True)
class Outcome:
    """One mutant's."""

    mutant: str  # its id
    verdict: Verdict
    scenario: str = ""  # that caught it
    seen: str = ""  # by which step, and what it said


class Journal:
    """The outcomes of one module's mutants on one target."""

    def __init__(self, path: Path, inputs: str) -> None:
        """Read what is there; `inputs` is a digest of all that an outcome depends on but the mutant."""
        self._path = path
        self._inputs = inputs
        self._known: dict[str, Outcome] = {}
        self._hints: dict[str, str] = {}
        self._well: frozenset[str] | None = None
        for line in lines.read(path):
            try:
                found = Outcome(line["mutant"], Verdict(line["verdict"]), line["scenario"], line["seen"])
                key = str(line["key"])
            except (KeyError, TypeError, ValueError):
                if line.get("well") == inputs and isinstance(line.get("scenarios"), list):
                    self._well = frozenset(map(str, line["scenarios"]))
                continue  # or of another version, or damaged: it is made again
            self._known[key] = found
            if found.scenario:
                self._hints[found.mutant] = found.scenario

    def known(self, mutant: Mutant) -> Outcome | None:
        """Return what became of a mutant when all was as it is now."""
        return self._known.get(self._key(mutant))

    def hint(self, mutant: Mutant) -> str:
        """Return which scenario caught it last, whatever has changed since; '' for none."""
        return self._hints.get(mutant.id, "")

    def well(self) -> frozenset[str] | None:
        """Return which scenarios passed without a mutant, None where nobody has tried."""
        return self._well

    def write_well(self, scenarios: Collection[str]) -> None:
        """Keep which scenarios passed without a mutant; raises CacheError."""
        self._well = frozenset(scenarios)
        self._append({"well": self._inputs, "scenarios": sorted(scenarios)})

    def write(self, mutant: Mutant, outcome: Outcome) -> None:
        """Keep an outcome; raises CacheError."""
        key = self._key(mutant)
        self._known[key] = outcome
        self._append({"key": key, **asdict(outcome), "verdict": outcome.verdict.value})

    def _append(self, line: Mapping[str, Any]) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            lines.append(self._path, [line])
        except OSError as error:
            raise CacheError(
                f"cannot write {self._path}: {error.strerror}",
                hint="free some there (`lab clean` frees the cache) or set CHANLAB_CACHE elsewhere",
            ) from error

    def _key(self, mutant: Mutant) -> str:
        return digest("mutant", _FORMAT, self._inputs, mutant.id, mutant.by.decode())[:24]
