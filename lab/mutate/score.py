# SPDX-License-Identifier: MIT
"""How many of a module's mutants its scenarios notice, and what is to be told of the others."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lab.mutate.journal import Verdict
from lab.mutate.operators import KINDS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from lab.mutate.journal import Outcome
    from lab.mutate.operators import Mutant

HEAD = ("kind of mistake", "mutants", "caught", "excluded", "survived", "identical", "does not build")


@dataclass
class Score:
    """One module on one target."""

    file: str  # the module's, as it is told
    target: str
    there: int  # mutants that the module has; fewer may have been tried
    sample: str = ""  # how the others were left out, '' where none was
    argued: Mapping[str, str] = field(default_factory=dict)  # why some are excluded, by id
    outcomes: list[tuple[Mutant, Outcome]] = field(default_factory=list)

    def add(self, mutant: Mutant, outcome: Outcome) -> None:
        """Take one in."""
        self.outcomes.append((mutant, outcome))

    def excluded(self, mutant: Mutant, outcome: Outcome) -> bool:
        """Tell whether nobody had to notice a mutant, and nobody did."""
        return outcome.verdict is Verdict.SURVIVED and mutant.id in self.argued

    @property
    def survivors(self) -> list[Mutant]:
        """Those that somebody should have noticed."""
        return [
            mutant
            for mutant, outcome in self.outcomes
            if outcome.verdict is Verdict.SURVIVED and not self.excluded(mutant, outcome)
        ]

    @property
    def stale(self) -> list[Mutant]:
        """Those that are excluded, and caught all the same."""
        return [
            mutant
            for mutant, outcome in self.outcomes
            if outcome.verdict is Verdict.CAUGHT and mutant.id in self.argued
        ]

    def counts(self) -> tuple[int, int, int]:
        """Return how many were caught, of how many that make another module, and how many are excluded."""
        verdicts = Counter(outcome.verdict for _, outcome in self.outcomes)
        excluded = sum(self.excluded(*each) for each in self.outcomes)
        caught = verdicts[Verdict.CAUGHT]
        return caught, caught + verdicts[Verdict.SURVIVED], excluded

    def lines(self) -> list[str]:
        """Return the score, and what should be done about it, for people."""
        caught, tried, excluded = self.counts()
        out = [f"{self.file} on {self.target}: {caught} of {tried} caught, {_percent(caught, tried)}"]
        if excluded:
            seen = tried - excluded
            out[0] += (
                f"; without {excluded} that a stock kernel cannot show (docs/mutants.md): "
                f"{caught} of {seen}, {_percent(caught, seen)}"
            )
        if self.sample:
            out.append(f"a sample, {self.sample}")
        out += [f"SURVIVED {self.file}:{mutant.line}: {mutant.id}" for mutant in self.survivors]
        out += [f"caught, though docs/mutants.yaml excludes it: {mutant.id}" for mutant in self.stale]
        return out

    def rows(self) -> Iterator[Sequence[str]]:
        """Yield the rows of a table with HEAD: a kind each."""
        for kind in KINDS:
            some = [each for each in self.outcomes if each[0].kind == kind]
            verdicts = Counter(outcome.verdict for _, outcome in some)
            excluded = sum(self.excluded(*each) for each in some)
            numbers = (
                len(some),
                verdicts[Verdict.CAUGHT],
                excluded,
                verdicts[Verdict.SURVIVED] - excluded,
                verdicts[Verdict.IDENTICAL],
                verdicts[Verdict.NO_BUILD],
            )
            if some:
                yield kind, *(str(number) if number else "" for number in numbers)

    def to_json(self) -> dict[str, Any]:
        """Return it for programs."""
        caught, tried, excluded = self.counts()
        return {
            "file": self.file,
            "target": self.target,
            "mutants": self.there,
            "sample": self.sample,
            "caught": caught,
            "tried": tried,
            "excluded": excluded,
            "outcomes": [
                {
                    "line": mutant.line,
                    "mutant": mutant.id,
                    "verdict": outcome.verdict.value,
                    "scenario": outcome.scenario,
                    "seen": outcome.seen,
                    "excluded": self.argued.get(mutant.id, ""),
                }
                for mutant, outcome in self.outcomes
            ],
        }


def _percent(part: int, whole: int) -> str:
    return f"{100 * part // whole} %" if whole else "none to catch"
