# SPDX-License-Identifier: MIT
"""What the kernel itself complains about, found in what it printed. Pure.

A report begins with a line that only the kernel writes like that, at the line's beginning, and goes on with
lines that look like parts of one. Records of /dev/kmsg say besides who wrote them and how urgent they are, so
what a process wrote, and what a module merely informs about, is not taken for a report. On a bare console
such lines look alike.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

WARNING_PRIORITY = 4  # KERN_WARNING: nothing below that urgency begins a report
_MOST_LINES = 600  # of one report: a deep stack overflow prints hundreds
_MESSAGE_LINES = 12  # between "cut here" and the line that says what it is


class Record(Protocol):
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

    def matches(self, pattern: str) -> bool:
        """Return whether a regular expression is found in the title or in one of the lines."""
        return any(re.search(pattern, line) for line in (self.title, *self.lines))


@dataclass(frozen=True)
class _Head:
    """How a report begins."""

    kind: str
    pattern: re.Pattern[str]  # group `say`: what the title is made of; without it, all of the match
    where: bool = True  # the title says in which function
    priority: int = WARNING_PRIORITY


def _head(kind: str, pattern: str, *, where: bool = True, priority: int = WARNING_PRIORITY) -> _Head:
    return _Head(kind, re.compile(pattern), where, priority)


_OOPS = r"(?:divide error|invalid opcode|stack segment|overflow|bounds|int3|double fault|stack guard page"
_FLAGS = r"(?: [A-Z]\w+(?:\(\w+\))?)*$"  # 'PREEMPT SMP NOPTI', and no more
# In this order; the first that matches says what it is. Each is matched from the beginning of the line.
_HEADS = (
    _head("panic", r"(?P<say>Kernel panic - not syncing.*)", where=False),
    _head("panic", r"(?P<say>PANIC: double fault)|traps: (?P<say2>PANIC: double fault)"),
    _head("KASAN", r"BUG: KASAN: (?P<say>[\w -]+ in \S+(?: \[\w+\])?)", where=False),
    _head("KFENCE", r"BUG: KFENCE: (?P<say>[\w -]+ in \S+(?: \[\w+\])?)", where=False),
    _head("KMSAN", r"BUG: KMSAN: (?P<say>[\w -]+ in \S+(?: \[\w+\])?)", where=False),
    _head("KCSAN", r"BUG: KCSAN: (?P<say>[\w -]+ in .*)", where=False),
    _head("UBSAN", r"UBSAN: (?P<say>[\w-]+)(?: in \S+)?"),
    _head(
        "lockdep",
        r"(?:WARNING|INFO): (?P<say>possible circular locking dependency detected|"
        r"possible irq lock inversion dependency detected|possible recursive locking detected|"
        r"possible bad bit-spinlock.*|inconsistent lock state|suspicious RCU usage.*|"
        r"bad (?:unlock|contention) balance detected!?|held lock freed!|"
        r"lock held when returning to user space!?|Nested lock was not taken|"
        r"[\w-]+-safe -> [\w-]+-unsafe lock order detected|\S+ still has locks held!|"
        r"trying to register non-static key.*)",
    ),
    _head("lockdep", r"\[ (?:BUG|INFO): (?P<say>.*) \]"),
    _head(
        "lockdep",
        r"(?:BUG: )(?P<say>Invalid wait context|MAX_LOCKDEP_\w+ too low|key \S+ has not been reg.*)",
    ),
    # '… CPU: 1 PID: 7 at lib/x.c:3 f+0x1/0x2' up to 6.18, '… lib/x.c:3 at f+0x1/0x2, CPU#1: init/7' later
    _head("WARNING", r"WARNING: (?:CPU: \d+ PID: \d+ at \S+|\S+:\d+ at \S+(?: \[\w+\])?, CPU#\d+: )"),
    _head("soft lockup", r"(?:watchdog: )?BUG: (?P<say>soft lockup) - CPU#\d+ stuck for"),
    _head("hard lockup", r"(?:watchdog: |NMI watchdog: )?(?:BUG: )?Watchdog detected (?P<say>hard LOCKUP)"),
    _head("hung task", r"INFO: (?P<say>task \S+:\d+ (?:is )?blocked) (?:for more than|on a)", where=False),
    _head("RCU stall", r"(?:rcu: )?INFO: (?P<say>rcu\w* (?:self-)?detected (?:expedited )?stall)"),
    _head("BUG", r"BUG: (?P<say>kernel NULL pointer dereference)"),
    _head("BUG", r"BUG: (?P<say>unable to handle (?:page fault|kernel \w+(?: \w+)*?))(?: for| at| in|,|$)"),
    _head("BUG", r"(?P<say>Unable to handle kernel (?:NULL pointer dereference|paging request|[\w ]+?)) at "),
    _head("BUG", r"(?P<say>kernel BUG) at \S+"),
    _head("BUG", r"(?P<say>list_(?:add|del) (?:corruption|double add))"),
    _head(
        "BUG",
        r"BUG: (?P<say>scheduling while atomic|sleeping function called from invalid context|"
        r"Bad page state|Bad page map|Bad rss-counter state|non-zero pgtables_bytes on freeing mm|"
        r"workqueue lockup|workqueue leaked (?:lock or )?atomic|\w+ stack guard page was hit|"
        r"using [\w()]+ in preemptible|spinlock [\w ]+|rwlock [\w ]+|atomic counter underflow|"
        r"Dentry .* still in use|corrupted list|IRQ handler .* returned IRQ_WAKE|recent printk recursion)",
    ),
    _head("BUG", r"BUG (?P<say>\S+ \([^)]*\): .*)", where=False),  # slub's
    _head("BUG", r"(?P<say>usercopy: Kernel memory (?:exposure|overwrite) attempt detected)"),
    _head("BUG", r"(?P<say>\S+ \S+: Slab cache still has objects)", where=False),
    _head("general protection fault", r"(?:Oops: )?(?P<say>general protection fault)[,:]"),
    _head("Oops", rf"(?:Oops: )?(?P<say>{_OOPS}|[\w -]+)): [0-9a-f]{{4}} \[#\d+\]{_FLAGS}"),
    _head("Oops", r"(?P<say>Oops|Internal error): .*\[#\d+\]"),
    _head("WARNING", r"(?P<say>sysfs: cannot create duplicate filename .*)", where=False),
    _head("WARNING", r"(?P<say>unregister_netdevice: waiting for \S+ to become free)", where=False),
    _head("WARNING", r"(?P<say>VFS: Busy inodes after unmount)", where=False),
    _head("WARNING", r"irq \d+: (?P<say>nobody cared)", where=False),
    _head("WARNING", r"kmemleak: \d+ (?P<say>new suspected memory leaks)", where=False, priority=6),
)
KINDS = (*dict.fromkeys(head.kind for head in _HEADS), "stack dump")

# The prefix of a console line: '<4>', '[    3.016] ', '[    3.016][  T138] '.
_PREFIX = re.compile(r"(?:<\d+>)?\[ *\d+\.\d+\](?:\[ *[TC]\d+\])? ?")
_CUT_HERE = re.compile(r"-+\[ cut here \]-+")
_RULE = re.compile(r"={20,}$")
_END = re.compile(r"---\[ end (?:trace|Kernel panic)")
_CPU = re.compile(r"CPU: \d+ (?:UID: \d+ )?PID: \d+ Comm: ")
# What a report is made of, wherever it stands in it.
_BODY = re.compile(
    r"""\s                                # stack entries, details
    |$
    |(?:CPU|Tainted|Hardware\ name|Workqueue|Modules\ linked\ in|Call\ Trace|Code|Call\ trace|Sched\ter)\b.*:?
    |(?:[A-Z][A-Z0-9]{1,4}|R\d\d|pc|lr|sp|x\d+|pstate|epc|ra|EFLAGS|PKRU|CR\d|DR\d|GPR\w*|Krnl\ \w+)\s*:
    |</?(?:TASK|IRQ|NMI|SOFTIRQ|\#DF|\#DB|EOI|ENTRY_TRAMPOLINE)\w*>
    |\#PF:|PGD\ |Oops:|Internal\ error:|note:|Kernel\ Offset|Dumping\ ftrace|Unloaded\ tainted|last\ unloaded
    |---\[|\[last\ unloaded|Mem\ abort|Data\ abort|user\ pgtable|KASAN:
    |Fixing\ recursive|Sending\ NMI|NMI\ backtrace
    |rcu:|task:|"echo\ 0|INFO:\ lockdep|\d+\ locks?\ held|page:|raw:|flags:|page\ dumped|head:|Disabling\ lock
    |irq\ event|hardirqs|softirqs|preempt|stack\ backtrace|RIP:|RSP:|FS:|Stack:|CR2:|Kernel\ code|in_atomic
    |RCU\ nest
    |(?:invalid\ opcode|stack\ guard\ page|divide\ error|general\ protection).*\[\#
    |kernel\ BUG\ at|\.\.\.|\?\ |\S+\+0x[0-9a-f]+/0x[0-9a-f]+|handlers:|Showing\ |allocated\ by|freed\ by
    |which\ lock|Preemption\ disabled|Tail\ call|sched_clock""",
    re.VERBOSE,
)
_FRAME = re.compile(
    r"^\s+(?:\[<[0-9a-fx]+>\] )?(?P<name>[A-Za-z_][\w.]*)\+0x[0-9a-f]+/0x[0-9a-f]+(?P<module> \[\w+)?"
)
_COUNTER = re.compile(
    r"^(?:RIP: 0010:|pc : |epc : |NIP \[\w+\] )(?P<name>[A-Za-z_][\w.]*)\+0x\S+(?P<module> \[\w+)?"
)
# What stands on top of a stack and is not what went wrong.
_NOT_CULPRIT = re.compile(
    r"(?:dump_stack|show_stack|show_regs|die|__die|oops|exc_|asm_|page_fault|report_bug|handle_bug|__warn|"
    r"warn_slowpath|kasan_|__asan|print_|__ubsan|ubsan_|lockdep_|__might|___might|__schedule|bad_page|"
    r"check_noncircular|validate_chain|__lock_acquire|lock_acquire|schedule|__list_|refcount_|"
    r"sysfs_warn_dup|panic)"
)


_TRACE = ("Call Trace", "Call trace")
_TRACE_LINE = re.compile("Call [Tt]race")
# The console's own words, amid whatever it was printing.
_NOISE = re.compile(r"\*\* (?:replaying previous|\d+) printk messages? (?:dropped )?\*\*")


@dataclass
class _Report:
    """A report that is being read."""

    kind: str
    head: _Head | None
    say: str
    lines: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    until: re.Pattern[str] | None = None  # every line belongs to it up to this one
    traced: bool = False  # a call trace has begun

    def add(self, raw: str, text: str) -> None:
        if len(self.lines) < _MOST_LINES:
            self.lines.append(raw)
            self.texts.append(text)
        if self.until is not None and self.until.match(text) and len(self.texts) > 1:
            self.until = None
        self.traced = self.traced or text.startswith(_TRACE)

    def done(self) -> Splat:
        title = cut(self.say)
        if self.head is None or self.head.where:
            where = _where(self.kind, self.texts)
            if where and where not in title:
                title = f"{title} in {where}"
        while self.texts and not self.texts[-1].strip():
            self.texts.pop()
            self.lines.pop()
        return Splat(self.kind, title, tuple(self.lines))


def splats(lines: Iterable[str | Record]) -> list[Splat]:
    """Return the reports in what the kernel printed, in order.

    `lines`: lines of a console, with their time stamps or without, or records of /dev/kmsg.
    """
    reader = _Reader()
    for line in lines:
        if isinstance(line, str):
            raw = line.rstrip("\r\n")
            reader.take(raw, _PREFIX.sub("", raw, count=1), None)
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
        if _NOISE.match(text):
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
        if _CUT_HERE.match(text):
            self._cut = [(raw, text)]
            return
        head = _find(text, priority)
        if head is not None:
            self._start(head, raw, text)
        elif _CPU.match(text) and (priority is None or priority <= WARNING_PRIORITY):
            # dump_stack() by somebody unknown: what was said just before names it.
            before = self._last[1]
            report = _Report("stack dump", None, before or "of the stack")
            if before.startswith("BUG:"):
                report.kind, report.say = "BUG", before.removeprefix("BUG:").strip()
            if before:
                report.add(*self._last)
            report.add(raw, text)
            self._open = report

    def _start(self, head: tuple[_Head, str], raw: str, text: str) -> None:
        kind, say = head
        self._open = report = _Report(kind.kind, kind, say)
        if kind.kind in ("KASAN", "KFENCE", "KMSAN", "KCSAN"):
            report.until = _RULE
        elif kind.kind == "lockdep":
            report.until = _TRACE_LINE
        elif kind.kind in ("Oops", "general protection fault") or "BUG: " in text[:24]:
            report.until = None if _NO_END.match(text) else _END
        report.add(raw, text)

    def _after_cut(self, raw: str, text: str, priority: int | None) -> None:
        """Collect what is said between "cut here" and the line that tells what it is."""
        assert self._cut is not None
        head = _find(text, priority)
        if head is None and len(self._cut) < _MESSAGE_LINES and not _CUT_HERE.match(text):
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
            report.head = _Head(kind.kind, kind.pattern, where=kind.kind == "BUG")
        elif kind.kind == "WARNING":
            report.say = "WARNING"
        if kind.kind != "panic":
            report.until = _END
        for pair in [*collected, (raw, text)]:
            report.add(*pair)
        self._open = report

    def _belongs(self, text: str, priority: int | None) -> bool:
        """Return whether a line is part of the open report."""
        report = self._open
        assert report is not None
        if _CUT_HERE.match(text):
            if report.traced or report.until is not None:
                return False
            # 'list_del corruption …', and only then "cut here" and 'kernel BUG at': one report.
            report.until = _END
            return True
        head = _find(text, priority)
        if head is not None:
            return _continues(report, head[0].kind, text)
        if report.until is not None:
            return True
        if _RULE.match(text):
            return report.kind in ("UBSAN", "lockdep", "BUG")
        return bool(_BODY.match(text))

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


# Reports with BUG: in front that end without "end trace".
_NO_END = re.compile(
    r"(?:watchdog: )?BUG: (?:soft lockup|scheduling while|sleeping function|Bad |using |workqueue|non-zero|"
    r"spinlock|rwlock|Invalid|MAX_LOCKDEP|key|recent)"
)


def _cut_short(collected: list[tuple[str, str]]) -> Splat:
    """Return the report of a "cut here" after which nothing known came: the guest died, say."""
    message = next((text for _, text in collected[1:] if text.strip()), "a report that was cut off")
    return Splat("WARNING", cut(message), tuple(raw for raw, _ in collected))


def _find(text: str, priority: int | None) -> tuple[_Head, str] | None:
    """Return the head that a line is, and what it says."""
    for head in _HEADS:
        if priority is not None and priority > head.priority:
            continue
        match = head.pattern.match(text)
        if match:
            groups = match.groupdict()
            return head, groups.get("say") or groups.get("say2") or match[0]
    return None


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
        if text.startswith(_TRACE) and not interrupted:
            break
        match = _COUNTER.match(text)
        if match and not _NOT_CULPRIT.match(match["name"]):
            return _function(match)
    tracing = False
    for text in texts:
        tracing = tracing or text.startswith(_TRACE)
        match = _FRAME.match(text) if tracing else None
        if match and not _NOT_CULPRIT.match(match["name"]):
            return _function(match)
    return ""


def _function(match: re.Match[str]) -> str:
    name = re.sub(r"\.(?:cold|constprop|isra|part)(?:\.\d+)?", "", match["name"])
    return f"{name}{match['module']}]" if match["module"] else name


_CUTS = (
    (re.compile(r"\+0x[0-9a-f]+(?:/0x[0-9a-f]+)?"), ""),
    (re.compile(r"\b(?:0x[0-9a-f]+|[0-9a-f]{8,})\b"), "ADDR"),
    (re.compile(r"(?<![\w.])\d+(?![\w.])|(?<=[:/#.])\d+\b"), "N"),
    (re.compile(r"\s+"), " "),
)


def cut(text: str) -> str:
    """Return a text without what differs from run to run: addresses, offsets, numbers."""
    for pattern, instead in _CUTS:
        text = pattern.sub(instead, text)
    return text.strip()
