# SPDX-License-Identifier: MIT
"""What the kernel itself complains about, found in what it printed. Pure.

A report begins with a line that only the kernel writes like that, at the line's beginning, and goes on with
lines that look like parts of one. Records of /dev/kmsg say besides who wrote them and how urgent they are, so
what a process wrote, and what a module merely informs about, is not taken for a report. On a bare console
such lines look alike.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from lab.guest.splat_words import (
    BODY,
    COUNTER,
    CPU,
    CUT_HERE,
    CUTS,
    END,
    ENDED,
    FRAME,
    KINDS,
    NO_END,
    NOISE,
    NOT_CULPRIT,
    ODD_INIT,
    PREFIX,
    RULE,
    TRACE,
    TRACE_LINE,
    WARNING_PRIORITY,
    Head,
    Pattern,
    find,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["KINDS", "Message", "Splat", "cut", "splats"]

_ATOMIC = "scheduling while atomic"
_OF_A_MODULE = re.compile(r"\+0x[0-9a-f]+/0x[0-9a-f]+ \[\w+\]")
_MOST_LINES = 600  # of one report: a deep stack overflow prints hundreds
_MESSAGE_LINES = 12  # between "cut here" and the line that says what it is


class Message(Protocol):
    """A record of /dev/kmsg: lab.guest.kmsg.KernelMessage."""

    @property
    def priority(self) -> int:
        """0 emergency … 7 debug."""

    @property
    def facility(self) -> int:
        """0: the kernel."""

    @property
    def text(self) -> str:
        """Without time stamp."""


@dataclass(frozen=True)
class Splat:
    """One report of the kernel's."""

    kind: str  # one of KINDS
    title: str  # one line, stable across runs: no addresses, no numbers
    lines: tuple[str, ...]  # as they were printed

    @property
    def frames(self) -> tuple[str, ...]:
        """The functions of its call traces, the innermost first: 'tm_init [tm]'."""
        found, tracing = [], False
        for line in self.lines:
            text = PREFIX.sub("", line, count=1)
            tracing = tracing or text.startswith(TRACE)
            match = FRAME.match(text) if tracing else None
            if match:
                found.append(_function(match))
        return tuple(found)

    def matches(self, pattern: str) -> bool:
        """Return whether a regular expression is found in the title or in one of the lines."""
        return any(re.search(pattern, line) for line in (self.title, *self.lines))


@dataclass
class _Report:
    """A report that is being read."""

    kind: str
    head: Head | None
    say: str
    lines: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    until: Pattern | None = None  # every line belongs to it up to this one
    traced: bool = False  # a call trace has begun

    def add(self, raw: str, text: str) -> None:
        if len(self.lines) < _MOST_LINES:
            self.lines.append(raw)
            self.texts.append(text)
        if self.until is not None and self.until.match(text) and len(self.texts) > 1:
            self.until = None
        self.traced = self.traced or text.startswith(TRACE)

    def done(self) -> Splat:
        title = cut(self.say)
        if self.head is None or self.head.where:
            where = _where(self.kind, self.texts)
            if where and where not in title:
                title = f"{title} in {where}"
        while self.texts and not self.texts[-1].strip():
            self.texts.pop()
            self.lines.pop()
        found = Splat(self.kind, title, tuple(self.lines))
        if title.startswith(_ATOMIC) and not any(_OF_A_MODULE.search(line) for line in self.lines):
            # Whoever meets it, in a system call of their own, is not who did it.
            return replace(found, title=f"{_ATOMIC}: a call before has returned with a lock held")
        return found


def splats(lines: Iterable[str | Message]) -> list[Splat]:
    """Return the reports in what the kernel printed, in order.

    `lines`: lines of a console, with their time stamps or without, or records of /dev/kmsg.
    """
    reader = _Reader()
    for line in lines:
        if isinstance(line, str):
            raw = line.rstrip("\r\n")
            reader.take(raw, PREFIX.sub("", raw, count=1), None)
        elif line.facility == 0:
            for part in line.text.split("\n"):
                reader.take(part, part, line.priority)
    return reader.end()


class _Reader:
    """Puts lines into reports."""

    def __init__(self) -> None:
        self._found: list[Splat] = []
        self._open: _Report | None = None
        self._cut: list[tuple[str, str]] | None = None  # since "cut here"
        self._last: tuple[str, str] = ("", "")

    def take(self, raw: str, text: str, priority: int | None) -> None:
        """Take one line. `priority`: None where it is not known."""
        if NOISE.match(text):
            return
        if self._cut is not None:
            self._after_cut(raw, text, priority)
        elif self._open is not None and self._belongs(text, priority):
            self._open.add(raw, text)
        else:
            self._close()
            self._begin(raw, text, priority)
        self._last = (raw, text)

    def _begin(self, raw: str, text: str, priority: int | None) -> None:
        """See whether a line begins a report."""
        if CUT_HERE.match(text):
            self._cut = [(raw, text)]
            return
        head = find(text, priority)
        if head is not None:
            self._start(head, raw, text)
        elif CPU.match(text) and (priority is None or priority <= WARNING_PRIORITY):
            # dump_stack() by somebody unknown: what was said just before names it.
            before = self._last[1]
            if before.endswith(ODD_INIT):
                return
            report = _Report("stack dump", None, before or "of the stack")
            if before.startswith("BUG:"):
                report.kind, report.say = "BUG", before.removeprefix("BUG:").strip()
            if before:
                report.add(*self._last)
            report.add(raw, text)
            self._open = report

    def _start(self, head: tuple[Head, str], raw: str, text: str) -> None:
        kind, say = head
        self._open = report = _Report(kind.kind, kind, say)
        if kind.kind in ("KASAN", "KFENCE", "KMSAN", "KCSAN"):
            report.until = RULE
        elif kind.kind == "lockdep":
            report.until = TRACE_LINE
        elif kind.kind in ("Oops", "general protection fault") or ENDED.match(text):
            report.until = None if NO_END.match(text) else END
        report.add(raw, text)

    def _after_cut(self, raw: str, text: str, priority: int | None) -> None:
        """Collect what is said between "cut here" and the line that tells what it is."""
        assert self._cut is not None
        head = find(text, priority)
        if head is None and len(self._cut) < _MESSAGE_LINES and not CUT_HERE.match(text):
            self._cut.append((raw, text))
            return
        collected, self._cut = self._cut, None
        message = next((part for _, part in collected[1:] if part.strip()), "")
        if head is None:
            self._found.append(_cut_short(collected))
            self._begin(raw, text, priority)
            return
        kind, say = head
        report = _Report(kind.kind, kind, say)
        if message and kind.kind in ("WARNING", "BUG"):
            report.say = message
            # A message of its author's says more than where it was printed; a bare BUG() has no other name.
            report.head = Head(kind.kind, kind.pattern, where=kind.kind == "BUG")
        elif kind.kind == "WARNING":
            report.say = "WARNING"
        if kind.kind != "panic":
            report.until = END
        for pair in [*collected, (raw, text)]:
            report.add(*pair)
        self._open = report

    def _belongs(self, text: str, priority: int | None) -> bool:
        """Return whether a line is part of the open report."""
        report = self._open
        assert report is not None
        if CUT_HERE.match(text):
            if report.traced or report.until is not None:
                return False
            # 'list_del corruption …', and only then "cut here" and 'kernel BUG at': one report.
            report.until = END
            return True
        head = find(text, priority)
        if head is not None:
            return _continues(report, head[0].kind, text)
        if report.until is not None:
            return True
        if RULE.match(text):
            return report.kind in ("UBSAN", "lockdep", "BUG")
        return bool(BODY.match(text))

    def _close(self) -> None:
        if self._open is not None:
            self._found.append(self._open.done())
            self._open = None

    def end(self) -> list[Splat]:
        """Return what was found; what was cut off in the middle counts."""
        self._close()
        if self._cut is not None:
            self._found.append(_cut_short(self._cut))
            self._cut = None
        return self._found


def _cut_short(collected: list[tuple[str, str]]) -> Splat:
    """Return the report of a "cut here" after which nothing known came: the guest died, say."""
    message = next((text for _, text in collected[1:] if text.strip()), "a report that was cut off")
    return Splat("WARNING", cut(message), tuple(raw for raw, _ in collected))


def _continues(report: _Report, kind: str, text: str) -> bool:
    """Return whether a line that could begin a report is a part of the open one."""
    if kind in ("Oops", "general protection fault"):
        # BUG: …, kernel BUG at …: then 'Oops: …' or 'invalid opcode: 0000 [#1]' tells the same again.
        return report.kind in ("BUG", "KASAN", "UBSAN") and not report.traced
    if text.startswith("kernel BUG at"):
        return not report.traced and report.kind == "BUG"
    # A stall is told for each CPU, a lockup's backtrace comes from another one.
    return kind == report.kind == "RCU stall" and "expedited" not in text


def _where(kind: str, texts: list[str]) -> str:
    """Return the function that a report is about: 'tm_init [tm]'; '' where it does not tell."""
    # Told by the interrupt that noticed: what it interrupted is the culprit, and stands behind its own trace.
    interrupted = kind in ("RCU stall", "soft lockup", "hard lockup")
    for text in texts:
        # In other reports, what comes behind that is where an interrupt struck, or user space.
        if text.startswith(TRACE) and not interrupted:
            break
        match = COUNTER.match(text)
        if match and not NOT_CULPRIT.match(match["name"]):
            return _function(match)
    tracing = False
    for text in texts:
        tracing = tracing or text.startswith(TRACE)
        match = FRAME.match(text) if tracing else None
        if match and not NOT_CULPRIT.match(match["name"]):
            return _function(match)
    return ""


def _function(match: re.Match[str]) -> str:
    name = re.sub(r"\.(?:cold|constprop|isra|part)(?:\.\d+)?", "", match["name"])
    return f"{name}{match['module']}]" if match["module"] else name


def cut(text: str) -> str:
    """Return a text without what differs from run to run: addresses, offsets, numbers."""
    for pattern, instead in CUTS:
        text = pattern.sub(instead, text)
    return text.strip()
