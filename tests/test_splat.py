# SPDX-License-Identifier: MIT
"""The splat parser on consoles of real guests: stock Debian kernels, and modules that make trouble."""

import re
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.guest import splat_words
from lab.guest.kmsg import KernelMessage
from lab.guest.splat import KINDS, Splat, cut, splats

LOGS = Path(__file__).parent / "splats"
IDLE = "bad: scheduling from the idle thread! in dequeue_task_idle"
REFCOUNT = [
    ("WARNING", "refcount_t: decrement hit N; leaking memory."),
    ("WARNING", "refcount_t: saturated; leaking memory."),
    ("WARNING", "refcount_t: underflow; use-after-free."),
]
STALLED = ("hung task", "task kworker/N:N:N blocked")  # it waits for a grace period
# What each architecture calls a NULL pointer.
OTHERS = {
    "6.1-i386": "kernel NULL pointer dereference",
    "6.12-arm64": "Unable to handle kernel NULL pointer dereference",
    "6.12-armhf": "Unhandled fault: page domain fault",
    "6.12-ppc64el": "Kernel NULL pointer dereference",
    "6.12-riscv64": "Unable to handle kernel access to user memory without uaccess routines",
    "6.12-s390x": "Unable to handle kernel pointer dereference",
    "7.2-loong64": "Unable to handle kernel paging request",
}
EXPECTED: dict[str, list[tuple[str, str]]] = {
    "5.10-gpf": [("general protection fault", "general protection fault in tm_init [tm]")],
    "5.10-hung": [("hung task", "task tm_hung:N blocked")],
    "5.10-list": [("BUG", "list_del corruption in tm_init [tm]")],
    "5.10-null": [("BUG", "kernel NULL pointer dereference in tm_init [tm]")],
    "5.10-rcu": [("RCU stall", "rcu_sched self-detected stall in rcuspin [tm]"), STALLED],
    "5.10-warnon": [("WARNING", "WARNING in tm_init [tm]")],
    "6.1-div": [("Oops", "divide error in tm_init [tm]")],
    "6.1-paging": [("BUG", "unable to handle page fault in tm_init [tm]")],
    "6.1-stack": [("BUG", "TASK stack guard page was hit in deep [tm]")],
    "6.12-badpage": [("BUG", "Bad page state in __rmqueue_pcplist")],
    "6.12-badpage-typed": [("BUG", "Bad page state in free_unref_page")],
    "6.12-bug": [("BUG", "kernel BUG in tm_init [tm]")],
    "6.12-dump": [("stack dump", "lab: a look at the stack in tm_init [tm]")],
    "6.12-fake": [],
    "6.12-gpf": [("general protection fault", "general protection fault in tm_init [tm]")],
    "6.12-hung": [("hung task", "task tm_hung:N blocked")],
    "6.12-kfence": [("KFENCE", "use-after-free read in tm_init [tm]")] * 3,
    "6.12-list": [("BUG", "list_del corruption in tm_init [tm]")],
    "6.12-null": [("BUG", "kernel NULL pointer dereference in tm_init [tm]")],
    "6.12-panic": [("panic", "Kernel panic - not syncing: lab: panic N")],
    "6.12-proc": [("WARNING", "proc_dir_entry '/proc/lab_twice' already registered")],
    "6.12-rcu": [("RCU stall", "rcu_preempt self-detected stall in rcuspin [tm]"), STALLED],
    "6.12-refcount": REFCOUNT,
    "6.12-sysfs": [("WARNING", "sysfs: cannot create duplicate filename '/kernel/lab_twice'")],
    "6.12-sysrqc": [("panic", "Kernel panic - not syncing: sysrq triggered crash")],
    "6.12-ud": [("Oops", "invalid opcode in tm_init [tm]")],
    "6.12-warn": [("WARNING", "lab: something odd N")],
    **{f"{kernel}-bug": [("BUG", "kernel BUG in trouble_bug [lab_trouble]")] for kernel in OTHERS},
    **{
        f"{kernel}-null": [("BUG", f"{said} in write_to_nowhere [lab_trouble]")]
        for kernel, said in OTHERS.items()
    },
    # A consequence: the thread that died never left the kernel's context.
    "6.12-arm64-bug": [
        ("BUG", "kernel BUG in trouble_bug [lab_trouble]"),
        ("WARNING", "WARNING in ct_kernel_exit"),
    ],
    "6.12-riscv64-bug": [
        ("BUG", "kernel BUG in trouble_bug [lab_trouble]"),
        ("panic", "Kernel panic - not syncing: Fatal exception in interrupt"),
    ],
    # Its second entry stands in parentheses: the unwinder is not sure.
    "6.12-s390x-guess": [
        ("BUG", "Unable to handle kernel pointer dereference in write_to_nowhere [lab_trouble]")
    ],
    "7.3-bug": [("BUG", "kernel BUG in tm_init [tm]")],
    "7.3-kfenceoob": [("KFENCE", "memory corruption in tm_init [tm]")] * 3,
    "7.3-nullcall": [("BUG", "kernel NULL pointer dereference in tm_init [tm]")],
    "7.3-panic": [("panic", "Kernel panic - not syncing: lab: panic N")],
    "7.3-shift": [("UBSAN", "shift-out-of-bounds in tm_init [tm]")],
    "7.3-softlockup": [
        ("soft lockup", "soft lockup in spin [tm]"),
        ("RCU stall", "rcu_preempt self-detected stall in spin [tm]"),
        STALLED,
    ],
    "7.3-stack": [
        ("BUG", "TASK stack guard page was hit in deep [tm]"),
        ("panic", "Kernel panic - not syncing: Fatal exception in interrupt"),
    ],
    "7.3-ubsan": [("UBSAN", "array-index-out-of-bounds in tm_init [tm]")],
    "7.3-warn": [("WARNING", "lab: something odd N")],
    "7.3-warnon": [("WARNING", "WARNING in tm_init [tm]")],
}


def log(name: str) -> list[str]:
    return (LOGS / f"{name}.log").read_text().splitlines()


def short(found: list[Splat]) -> list[tuple[str, str]]:
    return [(splat.kind, splat.title) for splat in found]


@pytest.mark.parametrize("name", EXPECTED)
def test_stored_logs(name: str) -> None:
    assert short(splats(log(name))) == EXPECTED[name]


@pytest.mark.parametrize("name", [*(f"{kernel}-null" for kernel in OTHERS), "6.12-s390x-guess"])
def test_a_report_is_whole(name: str) -> None:
    assert list(splats(log(name))[0].lines) == log(name)


def test_who_meets_a_lock_that_was_not_given_back_is_not_blamed() -> None:
    lines = [
        "BUG: scheduling while atomic: main/57/0x00000002",
        "Call Trace:",
        " <TASK>",
        " schedule+0x27/0xc0",
        " pipe_read+0x2a0/0x450",
        " ksys_read+0xc2/0xf0",
        " do_syscall_64+0x82/0x190",
        " </TASK>",
    ]
    (found,) = splats(lines)
    assert found.title == "scheduling while atomic: a call before has returned with a lock held"
    (found,) = splats([*lines[:4], " lab_write+0x20/0x80 [lab_x]", *lines[5:]])
    assert found.title == "scheduling while atomic in lab_write [lab_x]"


@pytest.mark.parametrize("name", ["6.12-atomic", "7.3-atomic"])
def test_one_mistake_that_the_kernel_reports_again_and_again(name: str) -> None:
    found = short(splats(log(name)))
    assert found[0] == ("BUG", "scheduling while atomic in msleep")
    assert ("stack dump", IDLE) in found


def test_every_log_is_tested() -> None:
    stored = {path.stem for path in LOGS.glob("*.log")}
    assert stored == {*EXPECTED, "6.12-atomic", "7.3-atomic"}


@pytest.mark.parametrize("name", EXPECTED)
def test_kinds_are_the_declared_ones_and_lines_are_as_printed(name: str) -> None:
    lines = log(name)
    for splat in splats(lines):
        assert splat.kind in KINDS
        assert set(splat.lines) <= set(lines)


@pytest.mark.parametrize("name", EXPECTED)
def test_titles_hold_without_time_stamps(name: str) -> None:
    bare = [line.partition("] ")[2] for line in log(name)]
    assert short(splats(bare)) == EXPECTED[name]


@pytest.mark.parametrize("name", EXPECTED)
def test_records_give_what_the_console_gives(name: str) -> None:
    texts = [line.partition("] ")[2] for line in log(name)]
    records = [KernelMessage(3, 0, n, n, text) for n, text in enumerate(texts)]
    assert short(splats(records)) == EXPECTED[name]


@pytest.mark.parametrize("name", ["6.12-null", "7.3-warn", "5.10-gpf", "6.12-panic", "7.3-kfenceoob"])
def test_a_guest_that_dies_in_the_middle_is_still_told(name: str) -> None:
    lines = log(name)
    whole = splats(lines)[0]
    first = lines.index(whole.lines[0])
    for cut_at in range(first + 3, first + len(whole.lines)):
        found = splats(lines[:cut_at])
        assert len(found) == 1
        assert found[0].kind == whole.kind


def test_what_a_process_wrote_is_no_splat() -> None:
    texts = [line.partition("] ")[2] for line in log("6.12-null")]
    assert splats(KernelMessage(1, 1, n, n, text) for n, text in enumerate(texts)) == []


def test_what_a_module_informs_about_is_no_splat() -> None:
    texts = ["BUG: kernel NULL pointer dereference, address: 0", "Kernel panic - not syncing: not really"]
    assert splats(KernelMessage(6, 0, n, n, text) for n, text in enumerate(texts)) == []


@pytest.mark.parametrize(
    "line",
    [
        "lab: BUG: kernel NULL pointer dereference",
        "BUG: this is not one",
        "WARNING: nothing that the kernel would say like that",
        "WARNING: CPU: 1 is warm",
        "an Oops: 0000 [#1] in the middle",
        "Kernel panic is a phrase",
        "traps: main[7] general protection fault ip:401000 sp:7ffd error:0 in main",
        "main[7]: segfault at 0 ip 0000000000401000 sp 00007ffd error 4",
        "KASAN: this and that",
        "lab: module verification failed: signature and/or required key missing - tainting kernel",
    ],
)
def test_lines_that_only_look_like_it(line: str) -> None:
    assert splats([line]) == []
    assert splats([f"[    1.234567] {line}"]) == []


# No stock kernel has these checkers. The words are those of the kernel's printk calls.
KASAN = """\
==================================================================
BUG: KASAN: slab-use-after-free in lab_read+0x1f/0x60 [lab_x]
Read of size 8 at addr ffff888004c2a300 by task main/101

CPU: 1 PID: 101 Comm: main Tainted: G           OE      6.12.1 #1
Call Trace:
 <TASK>
 dump_stack_lvl+0x5d/0x80
 print_report+0xc4/0x620
 kasan_report+0xbd/0xf0
 lab_read+0x1f/0x60 [lab_x]
 </TASK>

Allocated by task 101:
 kasan_save_stack+0x33/0x60

The buggy address belongs to the object at ffff888004c2a300
 which belongs to the cache kmalloc-64 of size 64
Memory state around the buggy address:
>ffff888004c2a300: fa fb fb fb fb fb fb fb fc fc fc fc fc fc fc fc
                   ^
==================================================================
lab_x: the next line
"""
LOCKDEP = """\

======================================================
WARNING: possible circular locking dependency detected
6.12.1 #1 Tainted: G           OE
------------------------------------------------------
main/101 is trying to acquire lock:
ffffffffc0402060 (lab_b){+.+.}-{3:3}, at: lab_write+0x21/0x80 [lab_x]

but task is already holding lock:
ffffffffc04020c0 (lab_a){+.+.}-{3:3}, at: lab_write+0x15/0x80 [lab_x]

which lock already depends on the new lock.

the existing dependency chain (in reverse order) is:

-> #1 (lab_a){+.+.}-{3:3}:
       __mutex_lock+0x9b/0xb60

 *** DEADLOCK ***

1 lock held by main/101:
 #0: ffffffffc04020c0 (lab_a){+.+.}-{3:3}, at: lab_write+0x15/0x80 [lab_x]

stack backtrace:
CPU: 0 PID: 101 Comm: main Tainted: G           OE      6.12.1 #1
Call Trace:
 <TASK>
 dump_stack_lvl+0x5d/0x80
 print_circular_bug.cold+0x178/0x1be
 check_noncircular+0x14a/0x160
 __lock_acquire+0x1452/0x2460
 lock_acquire+0xd1/0x2f0
 __mutex_lock+0x9b/0xb60
 lab_write+0x21/0x80 [lab_x]
 </TASK>
lab_x: the next line
"""
SLEEPING = """\
BUG: sleeping function called from invalid context at kernel/locking/mutex.c:585
in_atomic(): 1, irqs_disabled(): 0, non_block: 0, pid: 101, name: main
preempt_count: 1, expected: 0
RCU nest depth: 0, expected: 0
CPU: 0 UID: 0 PID: 101 Comm: main Tainted: G           OE      6.12.1 #1
Call Trace:
 <TASK>
 dump_stack_lvl+0x5d/0x80
 __might_resched.cold+0xeb/0xf5
 mutex_lock+0x1f/0x60
 lab_write+0x21/0x80 [lab_x]
 </TASK>
lab_x: the next line
"""
OVERRUN = """\
Insufficient stack space to handle exception!
Task stack:     [0xff20000000010000..0xff20000000014000]
Overflow stack: [0xff600000ffdad070..0xff600000ffdae070]
CPU: 1 UID: 0 PID: 101 Comm: main Tainted: G           OE      6.12.107+deb13-riscv64 #1  Debian 6.12.107-1
Hardware name: riscv-virtio,qemu (DT)
epc : deep+0xa/0x198 [lab_x]
 ra : deep+0x20/0x60 [lab_x]
epc : ffffffff802b732a ra : ffffffff801e6070 sp : ff2000000000ffe0
 gp : ffffffff82262ed0 tp : 0000000000000000 t0 : ffffffff80022320
status: 0000000200000120 badaddr: ff2000000000ffe0 cause: 000000000000000f
Kernel panic - not syncing: Kernel stack overflow
CPU: 1 UID: 0 PID: 101 Comm: main Tainted: G           OE      6.12.107+deb13-riscv64 #1  Debian 6.12.107-1
Hardware name: riscv-virtio,qemu (DT)
Call Trace:
[<ffffffff8000605a>] dump_backtrace+0x1c/0x24
[<ffffffff80006342>] show_stack+0x2c/0x38
[<ffffffff80a69000>] panic+0x100/0x2c0
[<ffffffff80005700>] handle_bad_stack+0x9c/0xa0
SMP: stopping secondary CPUs
---[ end Kernel panic - not syncing: Kernel stack overflow ]---
lab_x: the next line
"""
LOCKED_UP = """\
watchdog: CPU3: Watchdog detected hard LOCKUP on cpu 3
Modules linked in: lab_x(OE)
CPU: 3 UID: 0 PID: 101 Comm: main Tainted: G           OE      6.12.107+deb13-amd64 #1
RIP: 0010:spin+0x2a/0x8e [lab_x]
Call Trace:
 <TASK>
 lab_write+0x21/0x80 [lab_x]
 </TASK>
lab_x: the next line
"""
LOCKED_UP_PPC64EL = """\
watchdog: CPU 1 self-detected hard LOCKUP @ spin+0x24/0x40 [lab_x]
watchdog: CPU 1 TB:35168293, last heartbeat TB:30040261 (10015ms ago)
Modules linked in: lab_x(OE)
CPU: 1 UID: 0 PID: 101 Comm: main Tainted: G           OE      6.12.107+deb13-powerpc64le #1
NIP:  c0080000012d0084 LR: c0080000012d0070 CTR: c0000000001a3c40
REGS: c00000000fff7d60 TRAP: 0900   Tainted: G           OE
NIP [c0080000012d0084] spin+0x24/0x40 [lab_x]
LR [c0080000012d0070] spin+0x10/0x40 [lab_x]
Call Trace:
[c000000008f3bca0] [c0080000012d0070] spin+0x10/0x40 [lab_x] (unreliable)
lab_x: the next line
"""


# How each architecture prints a call trace, in a report that no "end trace" ends.
TRACES = {
    "x86_64": " dump_stack_lvl+0x5d/0x80\n __might_resched+0x1/0x2\n lab_write+0x21/0x80 [lab_x]\n",
    "arm64": " dump_backtrace+0x94/0xec\n show_stack+0x18/0x24\n lab_write+0x21/0x80 [lab_x]\n",
    "armhf": " unwind_backtrace from show_stack+0x18/0x1c\n lab_write [lab_x] from vfs_write+0xe4/0x400\n",
    "ppc64el": "[c00000000001bca0] [c000000001012d00] dump_stack_lvl+0x70/0xa0 (unreliable)\n"
    "[c00000000001bd50] [c0080000012d0070] lab_write+0x10/0x40 [lab_x]\n",
    "riscv64": "[<ffffffff8000605a>] dump_backtrace+0x1c/0x24\n"
    "[<ffffffff01e763d2>] lab_write+0x8e/0xee [lab_x]\n",
    "s390x": " [<000003ffe0a0d6f0>] dump_stack_lvl+0x5d/0x80\n"
    " [<000003ff80001234>] lab_write+0x8/0xee [lab_x]\n",
}


@pytest.mark.parametrize("arch", TRACES)
def test_a_call_trace_of_each_architecture(arch: str) -> None:
    head = SLEEPING.partition(" <TASK>")[0]
    trace = TRACES[arch]
    (found,) = splats(f"{head}{trace}lab_x: the next line".splitlines())
    assert found.title == "sleeping function called from invalid context in lab_write [lab_x]"
    assert found.frames[-1] == "lab_write [lab_x]"
    assert len(found.lines) == len(f"{head}{trace}".splitlines())


def test_a_stack_that_overran_and_the_panic_after_it() -> None:
    assert short(splats(OVERRUN.splitlines())) == [
        ("BUG", "Insufficient stack space to handle exception in deep [lab_x]"),
        ("panic", "Kernel panic - not syncing: Kernel stack overflow"),
    ]


@pytest.mark.parametrize("text", [LOCKED_UP, LOCKED_UP_PPC64EL], ids=["x86_64", "ppc64el"])
def test_a_hard_lockup(text: str) -> None:
    (found,) = splats(text.splitlines())
    assert (found.kind, found.title) == ("hard lockup", "hard LOCKUP in spin [lab_x]")
    assert len(found.lines) == len(text.splitlines()) - 1


@pytest.mark.parametrize(
    ("text", "kind", "title", "lines"),
    [
        (KASAN, "KASAN", "slab-use-after-free in lab_read [lab_x]", 20),
        (LOCKDEP, "lockdep", "possible circular locking dependency detected in __mutex_lock", 33),
        (SLEEPING, "BUG", "sleeping function called from invalid context in mutex_lock", 11),
    ],
)
def test_checkers_that_no_stock_kernel_has(text: str, kind: str, title: str, lines: int) -> None:
    (found,) = splats(text.splitlines())
    assert (found.kind, found.title) == (kind, title)
    assert len(found.lines) >= lines
    assert not any("next line" in line for line in found.lines)


def test_matches_looks_at_title_and_lines() -> None:
    (found,) = splats(log("6.12-warn"))
    assert found.matches(r"lab: something odd 7$")
    assert found.matches(r"lab: .*")
    assert not found.matches(r"lab: something even")


@pytest.mark.parametrize(
    ("text", "short_text"),
    [
        (
            "list_del corruption, ff276b4101e552f0->next is LIST_POISON1",
            "list_del corruption, ADDR->next is LIST_POISON1",
        ),
        ("f+0x1c/0x40 at 0xffffffff81000000", "f at ADDR"),
        ("task 17 of kworker/0:1 on cpu 3", "task N of kworker/N:N on cpu N"),
        ("lab_x2 stays, ext4 too", "lab_x2 stays, ext4 too"),
    ],
)
def test_cut(text: str, short_text: str) -> None:
    assert cut(text) == short_text


@dataclass(frozen=True)
class Foreign:
    """Any record with these three will do."""

    priority: int
    facility: int
    text: str


def test_a_record_of_several_lines() -> None:
    text = "BUG: KFENCE: invalid read in f+0x1/0x2 [m]\n\nInvalid read at 0x00000000cbcf3695:"
    (found,) = splats([Foreign(3, 0, "=" * 66), Foreign(3, 0, text), Foreign(3, 0, "=" * 66)])
    assert found.title == "invalid read in f [m]"
    assert len(found.lines) == 4


PATTERNS = [
    *(head.pattern for head in splat_words.HEADS),
    splat_words.CPU,
    splat_words.CUT_HERE,
    splat_words.NOISE,
]


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: pattern._text.split("\n")[0][:40])
@settings(max_examples=5, deadline=None)
@given(data=st.data())
def test_a_pattern_needs_no_word_that_what_it_matches_lacks(
    pattern: splat_words.Pattern, data: st.DataObject
) -> None:
    text = data.draw(st.from_regex(re.compile(rf"\A(?:{pattern._text})", pattern._flags)))
    assert pattern.match(text) is not None
