# SPDX-License-Identifier: MIT
"""What the head of a deliberate mistake's patch says of it, and whether a run shows just that mistake.

A run that fails is not enough: a patch that breaks open() fails every scenario, also the one about a wake-up.
So a head says too by which step, or in which words, it must be seen::

    Seen: {read: $r, size: 64 … read failed: EAGAIN

The pieces between the … stand in this order in the finding that decides the verdict: the step as reports show
it, the title, what was wanted, what came, and the notes. Several such lines are each enough.

A leak of a few objects is seen when the scenario is made again and again; such a head says `With: --leaks`.
What a target cannot show is told by it too, and why: `Unseen: s390x: why`, `Unseen: <5.12: why`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.arch import ARCHITECTURES
from lab.errors import UsageError
from lab.language.requires import VERSION, Requires

if TYPE_CHECKING:
    from pathlib import Path

    from lab.language.requires import Machine
    from lab.run.record import Finding, Record

_LINE = re.compile(r"^(\w+): (.+)$", re.MULTILINE)
_BETWEEN = "…"
_LEAKS = "--leaks"
_ONCE = ("Channel", "Breaks", "Scenario", "Verdict")


@dataclass(frozen=True)
class Fault:
    """A deliberate mistake."""

    name: str
    channel: str
    breaks: str  # what
    file: str  # of scenarios, relative to the tree's root
    scenario: str  # of that file, by its id, or by its name for all that `with` makes of it
    verdicts: tuple[str, ...]  # each is enough: what comes of freed memory differs from run to run
    seen: tuple[str, ...]  # likewise
    leaks: bool = False  # it takes what --leaks does to see it
    unseen: tuple[tuple[Requires, str], ...] = ()  # what cannot show it, and why

    def why_unseen(self, machine: Machine) -> str | None:
        """Return why a target cannot show this mistake; None where it can."""
        return next((why for condition, why in self.unseen if condition.fits(machine)), None)

    def missed(self, record: Record) -> str | None:
        """Return why a run of the scenario does not show this mistake, None where it does."""
        found = record.verdict.value
        if found not in self.verdicts:
            return f"wanted {' or '.join(self.verdicts)}, got {found}: {record.title or 'as without it'}"
        finding = record.findings[0]
        words = words_of(finding)
        if any(_stands(seen, words) for seen in self.seen):
            return None
        place = finding.place
        where = f"step {place.what} at line {place.line}" if place.line else place.what or "no step"
        return f"the fault was seen by {where} ({finding.title}), it must be by {' or by '.join(self.seen)}"


def read(path: Path) -> Fault:
    """Return what stands before a patch's diff; raises UsageError for a head that says too little."""
    text = path.read_text(encoding="utf-8").split("\n--- ")[0]
    found: dict[str, list[str]] = {}
    for key, value in _LINE.findall(text):
        found.setdefault(key, []).append(value)
    missing = [key for key in (*_ONCE, "Seen") if key not in found]
    if missing:
        raise UsageError(
            f"{path.name} does not say {', '.join(missing)}", hint="CONTRIBUTING.md says what its head has"
        )
    channel, breaks, scenario, verdict = (found[key][0] for key in _ONCE)
    file, _, name = scenario.partition("::")
    options = found.get("With", [])
    if options not in ([], [_LEAKS]):
        raise UsageError(f"{path.name}: With is {_LEAKS} or nothing, not {', '.join(options)}")
    return Fault(
        path.stem,
        channel,
        breaks,
        file,
        name,
        tuple(verdict.split(", ")),
        tuple(found["Seen"]),
        leaks=bool(options),
        unseen=tuple(_unseen(each, path) for each in found.get("Unseen", [])),
    )


def _unseen(text: str, path: Path) -> tuple[Requires, str]:
    condition, _, why = text.partition(": ")
    if why and condition in ARCHITECTURES:
        return Requires(arch=(condition,)), why
    if why and VERSION.fullmatch(condition):
        return Requires(kernel=(condition,)), why
    raise UsageError(f"{path.name}: Unseen is an architecture or a range of kernels, a colon and why")


def words_of(finding: Finding) -> str:
    """Return a finding's words in which a mistake is seen; one line, without what differs between runs."""
    parts = (finding.place.what, finding.title, finding.wanted, finding.got, *finding.notes)
    return " ".join(" ".join(parts).split())


def _stands(seen: str, words: str) -> bool:
    """Tell whether the pieces stand in the words, one behind the other."""
    at = 0
    for piece in seen.split(_BETWEEN):
        found = words.find(piece.strip(), at)
        if found < 0:
            return False
        at = found + len(piece.strip())
    return True
