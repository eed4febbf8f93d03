# SPDX-License-Identifier: MIT
"""What became of one scenario on one target, and how it is told."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class Verdict(enum.Enum):
    """The verdicts; what each means to pytest is the plugin's matter."""

    PASSED = "passed"
    STEP_FAILED = "step failed"
    SPLAT = "splat"
    HUNG = "hung"
    LOST = "lost"
    UNSUPPORTED = "unsupported"
    BUILD_FAILED = "build failed"
    BOOT_FAILED = "boot failed"
    LAB_ERROR = "lab error"


@dataclass(frozen=True)
class Finding:
    """One thing that was wrong. The first of a run is its verdict, the others follow from it."""

    verdict: Verdict
    title: str  # one line, stable across runs: what happened
    where: str = ""  # 'scenarios/ioctl.yaml:14: {ioctl: $dev, …}', or the part of the run
    wanted: str = ""
    got: str = ""
    notes: tuple[str, ...] = ()  # further lines: where each CPU stands, the splat, the compiler's words
    hint: str = ""
    kind: str = ""  # of a splat: WARNING, BUG, …

    def lines(self) -> list[str]:
        """Return the finding as a person reads it."""
        head = f"{self.verdict.value}: {self.title}"
        out = [head, *([f"  at      {self.where}"] if self.where else [])]
        for label, text in (("wanted", self.wanted), ("got", self.got)):
            if text:
                first, *rest = text.splitlines() or [""]
                out += [f"  {label:<7} {first}", *(f"          {line}" for line in rest)]
        out += [f"  {line}" for note in self.notes for line in note.splitlines()]
        if self.hint:
            out.append(f"  hint    {self.hint}")
        return out


@dataclass(frozen=True)
class Result:
    """What became of one scenario on one target."""

    findings: tuple[Finding, ...] = ()  # none: passed
    messages: tuple[str, ...] = ()  # what the kernel printed while it ran
    seconds: float = 0.0
    restored: bool = False  # from a template, not booted
    well: bool = False  # the guest was, at the end, and never was otherwise
    outcomes: tuple[object, ...] = ()  # of the steps that were made, in order
    said: tuple[str, ...] = ()  # all that the kernel printed, without times
    remarks: tuple[str, ...] = ()  # what the reader should know although nothing is wrong

    @property
    def verdict(self) -> Verdict:
        """The first finding's, or passed."""
        return self.findings[0].verdict if self.findings else Verdict.PASSED

    @property
    def title(self) -> str:
        """One line: what happened."""
        return self.findings[0].title if self.findings else ""

    def report(self, again: str = "", *, most_messages: int = 60) -> str:
        """Return the whole story: the findings, the kernel's words, how to see it again."""
        out: list[str] = []
        if self.findings:
            first, *rest = self.findings
            out += first.lines()
            for finding in rest:
                out += ["and then", *(f"  {line}" for line in finding.lines())]
        out += _messages(self.messages, most_messages)
        out += [f"note: {remark}" for remark in self.remarks]
        if again:
            out += ["see it again:", f"  {again}"]
        return "\n".join(out)


def _messages(messages: Sequence[str], most: int) -> list[str]:
    if not messages:
        return []
    cut = len(messages) - most
    head = ["kernel messages:"] if cut <= 0 else [f"kernel messages (the last {most} of {len(messages)}):"]
    return head + [f"  {message}" for message in messages[-most:]]
