# SPDX-License-Identifier: MIT
"""What the kernel's reports look like, line by line: patterns, and nothing that remembers anything."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

WARNING_PRIORITY = 4  # KERN_WARNING: nothing below that urgency begins a report


class Pattern:
    """A regular expression that is compiled when it is first tried: most runs never see a report."""

    def __init__(self, text: str, flags: int = 0, *, needs: str = "") -> None:
        """Take an expression; `needs`: words, divided by ``|``, one of which is in all that it matches."""
        self._text = text
        self._flags = flags
        self._needs = tuple(needs.split("|"))

    @cached_property
    def _compiled(self) -> re.Pattern[str]:
        return re.compile(self._text, self._flags)

    def match(self, text: str) -> re.Match[str] | None:
        """Match at the text's beginning; a tenth of a regular expression's price for texts without a word."""
        for word in self._needs:
            if word in text:
                return self._compiled.match(text)
        return None

    def sub(self, instead: str, text: str, count: int = 0) -> str:
        """Replace what matches, anywhere."""
        return self._compiled.sub(instead, text, count=count)


@dataclass(frozen=True)
class Head:
    """How a report begins."""

    kind: str
    pattern: Pattern  # group `say`: what the title is made of; without it, all of the match
    where: bool = True  # the title says in which function
    priority: int = WARNING_PRIORITY


def _head(
    kind: str, pattern: str, *, needs: str, where: bool = True, priority: int = WARNING_PRIORITY
) -> Head:
    return Head(kind, Pattern(pattern, needs=needs), where, priority)


_OOPS = r"(?:divide error|invalid opcode|stack segment|overflow|bounds|int3|double fault|stack guard page"
_FLAGS = r"(?: [A-Z]\w+(?:\(\w+\))?)*$"  # 'PREEMPT SMP NOPTI', and no more
# In this order; the first that matches says what it is. Each is matched from the beginning of the line.
HEADS = (
    _head("panic", r"(?P<say>Kernel panic - not syncing.*)", needs="Kernel panic - not syncing", where=False),
    _head(
        "panic",
        r"(?P<say>PANIC: double fault)|traps: (?P<say2>PANIC: double fault)",
        needs="PANIC: double fault",
    ),
    _head("KASAN", r"BUG: KASAN: (?P<say>[\w -]+ in \S+(?: \[\w+\])?)", needs="BUG: KASAN: ", where=False),
    _head("KFENCE", r"BUG: KFENCE: (?P<say>[\w -]+ in \S+(?: \[\w+\])?)", needs="BUG: KFENCE: ", where=False),
    _head("KMSAN", r"BUG: KMSAN: (?P<say>[\w -]+ in \S+(?: \[\w+\])?)", needs="BUG: KMSAN: ", where=False),
    _head("KCSAN", r"BUG: KCSAN: (?P<say>[\w -]+ in .*)", needs="BUG: KCSAN: ", where=False),
    _head("UBSAN", r"UBSAN: (?P<say>[\w-]+)(?: in \S+)?", needs="UBSAN: "),
    _head(
        "lockdep",
        r"(?:WARNING|INFO): (?P<say>possible circular locking dependency detected|"
        r"possible irq lock inversion dependency detected|possible recursive locking detected|"
        r"possible bad bit-spinlock.*|inconsistent lock state|suspicious RCU usage.*|"
        r"bad (?:unlock|contention) balance detected!?|held lock freed!|"
        r"lock held when returning to user space!?|Nested lock was not taken|"
        r"[\w-]+-safe -> [\w-]+-unsafe lock order detected|\S+ still has locks held!|"
        r"trying to register non-static key.*)",
        needs="WARNING: |INFO: ",
    ),
    _head("lockdep", r"\[ (?:BUG|INFO): (?P<say>.*) \]", needs="[ BUG: |[ INFO: "),
    _head(
        "lockdep",
        r"(?:BUG: )(?P<say>Invalid wait context|MAX_LOCKDEP_\w+ too low|key \S+ has not been reg.*)",
        needs="BUG: ",
    ),
    # '… CPU: 1 PID: 7 at lib/x.c:3 f+0x1/0x2' up to 6.18, '… lib/x.c:3 at f+0x1/0x2, CPU#1: init/7' later
    _head(
        "WARNING",
        r"WARNING: (?:CPU: \d+ PID: \d+ at \S+|\S+:\d+ at \S+(?: \[\w+\])?, CPU#\d+: )",
        needs="WARNING: ",
    ),
    _head(
        "soft lockup",
        r"(?:watchdog: )?BUG: (?P<say>soft lockup) - CPU#\d+ stuck for",
        needs="soft lockup - CPU#",
    ),
    _head(
        "hard lockup",
        # 'CPU1: Watchdog …' since 6.9; 'watchdog: CPU 1 self-detected …' on ppc64el
        r"(?:watchdog: |NMI watchdog: )?(?:BUG: |CPU\d+: )?Watchdog detected (?P<say>hard LOCKUP)|"
        r"watchdog: CPU \d+ (?:self-)?detected (?P<say2>hard LOCKUP)",
        needs="hard LOCKUP",
    ),
    _head(
        "hung task",
        r"INFO: (?P<say>task \S+:\d+ (?:is )?blocked) (?:for more than|on a)",
        needs="INFO: task ",
        where=False,
    ),
    _head(
        "RCU stall",
        r"(?:rcu: )?INFO: (?P<say>rcu\w* (?:self-)?detected (?:expedited )?stall)",
        needs="INFO: rcu",
    ),
    _head("BUG", r"BUG: (?P<say>[Kk]ernel NULL pointer dereference)", needs="ernel NULL pointer dereference"),
    _head(
        "BUG",
        r"BUG: (?P<say>[Uu]nable to handle (?:page fault|kernel \w+(?: \w+)*?))(?: for| at| in|,|$)",
        needs="nable to handle ",
    ),
    # 'CPU 1 Unable …' on loongarch
    _head(
        "BUG", r"(?:CPU \d+ )?(?P<say>Unable to handle kernel [\w ]+?) at ", needs="Unable to handle kernel "
    ),
    _head("BUG", r"(?P<say>Unhandled fault: [\w -]+?) \(0x", needs="Unhandled fault: "),  # arm
    # arm, arm64, riscv64: the kernel's stack overran; "Kernel panic" is a report of its own
    _head(
        "BUG",
        r"(?P<say>Insufficient stack space to handle exception)",
        needs="Insufficient stack space to handle exception",
    ),
    # s390: the address is in a line of its own, two further down
    _head(
        "BUG",
        r"(?P<say>Unable to handle kernel pointer dereference) in ",
        needs="Unable to handle kernel pointer dereference",
    ),
    _head("BUG", r"(?P<say>kernel BUG) at \S+", needs="kernel BUG at "),
    _head("BUG", r"(?P<say>list_(?:add|del) (?:corruption|double add))", needs="list_"),
    _head(
        "BUG",
        r"BUG: (?P<say>scheduling while atomic|sleeping function called from invalid context|"
        r"Bad page state|Bad page map|Bad rss-counter state|non-zero pgtables_bytes on freeing mm|"
        r"workqueue lockup|workqueue leaked (?:lock or )?atomic|\w+ stack guard page was hit|"
        r"using [\w()]+ in preemptible|spinlock [\w ]+|rwlock [\w ]+|atomic counter underflow|"
        r"Dentry .* still in use|corrupted list|IRQ handler .* returned IRQ_WAKE|recent printk recursion)",
        needs="BUG: ",
    ),
    _head("BUG", r"BUG (?P<say>\S+ \([^)]*\): .*)", needs="BUG ", where=False),  # slub's
    _head(
        "BUG",
        r"(?P<say>usercopy: Kernel memory (?:exposure|overwrite) attempt detected)",
        needs="usercopy: Kernel memory ",
    ),
    _head(
        "BUG",
        r"(?P<say>\S+ \S+: Slab cache still has objects)",
        needs="Slab cache still has objects",
        where=False,
    ),
    _head(
        "general protection fault",
        r"(?:Oops: )?(?P<say>general protection fault)[,:]",
        needs="general protection fault",
    ),
    _head("Oops", rf"(?:Oops: )?(?P<say>{_OOPS}|[\w -]+)): [0-9a-f]{{4}} \[#\d+\]{_FLAGS}", needs="[#"),
    _head("Oops", r"(?P<say>Oops|Internal error): .*\[#\d+\]", needs="[#"),
    _head(
        "WARNING",
        r"(?P<say>sysfs: cannot create duplicate filename .*)",
        needs="sysfs: cannot create duplicate filename ",
        where=False,
    ),
    _head(
        "WARNING",
        r"(?P<say>unregister_netdevice: waiting for \S+ to become free)",
        needs="unregister_netdevice: waiting for ",
        where=False,
    ),
    _head(
        "WARNING",
        r"(?P<say>VFS: Busy inodes after unmount)",
        needs="VFS: Busy inodes after unmount",
        where=False,
    ),
    _head("WARNING", r"irq \d+: (?P<say>nobody cared)", needs="nobody cared", where=False),
    _head(
        "WARNING",
        r"kmemleak: \d+ (?P<say>new suspected memory leaks)",
        needs="new suspected memory leaks",
        where=False,
        priority=6,
    ),
)
KINDS = (*dict.fromkeys(head.kind for head in HEADS), "stack dump")

# The prefix of a console line: '<4>', '[    3.016] ', '[    3.016][  T138] '.
PREFIX = Pattern(r"(?:<\d+>)?\[ *\d+\.\d+\](?:\[ *[TC]\d+\])? ?")
CUT_HERE = Pattern(r"-+\[ cut here \]-+|8<-+ cut here -+", needs=" cut here ")
RULE = Pattern(r"={20,}$")
END = Pattern(r"---\[ end (?:trace|Kernel panic)")
CPU = Pattern(r"CPU: \d+ (?:UID: \d+ )?PID: \d+ Comm: ", needs="CPU: ")
# What a report is made of, wherever it stands in it.
BODY = Pattern(
    r"""\s|\(\[<                          # stack entries, s390's guesses among them, details
    |$
    |(?:CPU|Tainted|Hardware\ name|Workqueue|Modules\ linked\ in|Call\ Trace|Code|Call\ trace|Sched\ter)\b.*:?
    |(?:[A-Z][A-Z0-9]{1,4}|R\d\d|pc|lr|sp|x\d+|pstate|epc|ra|EFLAGS|PKRU|CR\d|DR\d|GPR\w*|Krnl\ \w+)\s*:
    |</?(?:TASK|IRQ|NMI|SOFTIRQ|\#DF|\#DB|EOI|ENTRY_TRAMPOLINE)\w*>
    |\#PF:|PGD\ |Oops:|Internal\ error:|note:|Kernel\ Offset|Dumping\ ftrace|Unloaded\ tainted|last\ unloaded
    |---\[|\[last\ unloaded|Mem\ abort|Data\ abort|user\ pgtable|KASAN:
    |Fixing\ recursive|Sending\ NMI|NMI\ backtrace
    |rcu:|task:|"echo\ 0|INFO:\ lockdep|\d+\ locks?\ held|Disabling\ lock
    |page:|raw:|flags:|page\ dumped|head:|page_type:|memcg:|aops:|(?:anon|ksm)\ flags:
    |Failing\ address:|Fault\ in\ |AS:[0-9a-f]{16}|Last\ Breaking-Event
    |\[[0-9a-f]{8,16}\]\ \*?p[gm]d|\*pdpt|PC\ is\ at|LR\ is\ at|r\d+\s*:|Flags:|Control:|Register\ r
    |Process\ \w+\ \(pid|[0-9a-f]{4}:(?:\s+[0-9a-f]{8})+$|Exception\ stack|Faulting\ instruction
    |(?:Oops|Kernel\ BUG)\ \[\#|LE\ PAGE_SIZE|NIP|LR\ |MSR:|REGS:|CFAR:
    |Oops(?:\ -\ \w+)?\[\#|[ast]\d\ [0-9a-f]{16}\ |pc\ [0-9a-f]{16}\ |Stack\ :
    |(?:CRMD|PRMD|EUEN|ECFG|ESTAT|BADV|PRID):
    |(?:Task|IRQ|Overflow)\ stack:|watchdog:\ CPU\ \d+\ TB:|(?:\[<?[0-9a-f]{8,16}>?\]\ ){1,2}\S
    |Instruction\ dump|Current\ \w+\ pgtable:|status:|E[A-DIS][XPI]:
    |irq\ event|hardirqs|softirqs|preempt|stack\ backtrace|RIP:|RSP:|FS:|Stack:|CR2:|Kernel\ code|in_atomic
    |RCU\ nest
    |(?:invalid\ opcode|stack\ guard\ page|divide\ error|general\ protection).*\[\#
    |kernel\ BUG\ at|\.\.\.|\?\ |\S+\+0x[0-9a-f]+/0x[0-9a-f]+|handlers:|Showing\ |allocated\ by|freed\ by
    |which\ lock|Preemption\ disabled|Tail\ call|sched_clock""",
    re.VERBOSE,
)
FRAME = Pattern(
    r"^(?:\s+\(?|(?=\[))(?:\[<?[0-9a-fx]+>?\] ){0,2}"
    r"(?P<name>[A-Za-z_][\w.]*)(?=\+0x[0-9a-f]+/0x|(?: \[\w+\])? from \S+\+0x)"  # arm: 'f [m] from g+0x1/0x2'
    r"(?:\+0x[0-9a-f]+/0x[0-9a-f]+)?(?P<module> \[\w+)?"
)
COUNTER = Pattern(
    r"^(?:RIP: 0010:|EIP: |PC is at |pc : |epc : |NIP \[\w+\] |Krnl PSW : \w+ \w+ \(|\s+ERA: [0-9a-f]+ )"
    r"(?P<name>[A-Za-z_][\w.]*)\+0x\S+(?P<module> \[\w+)?"
)
# What stands on top of a stack and is not what went wrong.
NOT_CULPRIT = Pattern(
    r"(?:dump_stack|dump_backtrace|unwind_backtrace|show_stack|show_regs|die|__die|oops|exc_|asm_|page_fault|"
    r"report_bug|handle_bug|__warn|"
    r"warn_slowpath|kasan_|__asan|print_|__ubsan|ubsan_|lockdep_|__might|___might|__schedule|bad_page|"
    r"check_noncircular|validate_chain|__lock_acquire|lock_acquire|schedule|__list_|refcount_|"
    r"sysfs_warn_dup|panic)"
)


TRACE = ("Call Trace", "Call trace")
TRACE_LINE = Pattern("Call [Tt]race")
# What comes before the stack of who loads a module whose init returns more than 0: no report of a mistake
# by itself, see lab.run.runner.
ODD_INIT = "loading module anyway..."
# The console's own words, amid whatever it was printing.
NOISE = Pattern(
    r"\*\* (?:replaying previous|\d+) printk messages? (?:dropped )?\*\*", needs=" printk message"
)
# How those begin that end with "end trace", besides the ones with a kind of their own.
ENDED = Pattern(r".{0,20}BUG: |Unable to handle kernel ")
# Reports with BUG: in front that end without "end trace".
NO_END = Pattern(
    r"(?:watchdog: )?BUG: (?:soft lockup|scheduling while|sleeping function|Bad |using |workqueue|non-zero|"
    r"spinlock|rwlock|Invalid|MAX_LOCKDEP|key|recent)"
)
CUTS = (
    (Pattern(r"\+0x[0-9a-f]+(?:/0x[0-9a-f]+)?"), ""),
    (Pattern(r"\b(?:0x[0-9a-f]+|[0-9a-f]{8,})\b"), "ADDR"),
    (Pattern(r"(?<![\w.])\d+(?![\w.])|(?<=[:/#.])\d+\b"), "N"),
    (Pattern(r"\s+"), " "),
)


def find(text: str, priority: int | None) -> tuple[Head, str] | None:
    """Return the head that a line is, and what it says."""
    for head in HEADS:
        if priority is not None and priority > head.priority:
            continue
        match = head.pattern.match(text)
        if match:
            groups = match.groupdict()
            return head, groups.get("say") or groups.get("say2") or match[0]
    return None
