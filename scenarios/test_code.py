# SPDX-License-Identifier: MIT
"""What an actor does with its own instructions: calls of addresses, loops, comparisons, kept memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lab.errors import Unsupported
from lab.guest.wire import At, Program, Result
from lab.run.session import StepFailed

if TYPE_CHECKING:
    from lab.guest.wire import Reply
    from lab.run.hand import Hand

SIGTRAP, SIGSEGV = 5, 11  # everywhere
NOWHERE = 0x1000
CLOCKS = ("rdtsc", "mrs cntvct_el0", "mrrc cntvct", "mftb", "rdtime", "stckf", "rdtime.d")
ENTRIES = ("syscall", "int 0x80", "svc 0", "sc", "ecall", "syscall 0")
TRAPS = ("int3", "brk 0", "trap", "ebreak", "break 0")
ILLEGAL = ("ud2", "udf 0", "unimp", ".long 0")


def one_of(guest: Hand, names: tuple[str, ...]) -> str:
    """Return which of these instructions the target has."""
    found = [name for name in names if name in guest.session.arch.instructions]
    if not found:
        raise Unsupported(f"{guest.session.arch.name} has none of {', '.join(names)}")
    return found[0]


def entry(guest: Hand) -> str:
    """Return the instruction by which a program of the target's own word size enters the kernel."""
    compat = "int 0x80" if guest.session.arch.word == 8 else ""
    return one_of(guest, tuple(name for name in ENTRIES if name != compat))


def program(guest: Hand) -> Program:
    return Program(guest.session.cast.abi("main").arch)


def run(guest: Hand, what: Program) -> Reply:
    return guest.session.run(what, "main")


def nr(guest: Hand, name: str) -> int:
    return guest.session.cast.abi("main").syscalls[name]


# --- code -------------------------------------------------------------------------------------------------


def test_the_vdso_agrees_with_the_system_call(guest: Hand) -> None:
    wide = guest.session.arch.word == 4  # the struct of 64 bits has a call of its own there
    function = guest.vdso("clock_gettime64" if wide else "clock_gettime")
    name = "clock_gettime64" if wide else "clock_gettime"
    room = {"s64": [0, 0]}
    before = guest.syscall(name, args=["CLOCK_MONOTONIC", room]).out[1]
    seen = guest.call(function, args=["CLOCK_MONOTONIC", room], expect={"returns": 0}).out[1]
    after = guest.syscall(name, args=["CLOCK_MONOTONIC", room]).out[1]
    assert before <= seen <= after
    assert before < after
    assert function.symbol.endswith(name)


def test_the_vdso_gives_what_it_returns_as_it_is(guest: Hand) -> None:
    """A clock that there is none of: -EINVAL, positive on powerpc, where a bit tells; either way no errno."""
    narrow = guest.session.arch.word == 4
    function = guest.vdso("clock_gettime64" if narrow else "clock_gettime")
    got = guest.call(function, args=[77, {"s64": [5, 5]}])
    assert abs(got.returns) == guest.session.abi.constants["EINVAL"]
    assert got.errno is None
    assert got.out[1] == [5, 5]


def test_a_clock_is_read_by_an_instruction(guest: Hand) -> None:
    name = one_of(guest, CLOCKS)
    first = guest.instruction(name).returns
    second = guest.instruction(name, times=1000).returns
    bits = 8 * guest.session.arch.word
    assert 0 < (second - first) % (1 << bits) < 1 << (bits - 1)


def test_cpuid_puts_its_registers_into_memory(guest: Hand) -> None:
    got = guest.instruction(one_of(guest, ("cpuid",)), args=[0, 0, {"u32": [0, 0, 0, 0]}])
    highest, *vendor = got.out[2]
    assert highest >= 1
    assert b"".join(part.to_bytes(4, "little") for part in vendor).isalpha()


def test_a_system_call_is_entered_by_an_instruction(guest: Hand) -> None:
    calls = guest.session.cast.abi("main").syscalls
    name = entry(guest)
    pid = guest.getpid().returns
    assert guest.instruction(name, args=[calls["getpid"]]).returns == pid
    bad = guest.session.abi.constants["EBADF"]
    guest.instruction(name, args=[calls["dup3"], -1, 9, 0], expect={"returns": -bad})
    # Each argument gets where it belongs: splice has six, the last of which is 0 here.
    ends = guest.pipe()
    guest.write(ends.write, data="hello")
    other = guest.pipe()
    guest.instruction(name, args=[calls["splice"], ends.read, 0, other.write, 0, 5], expect={"returns": 5})
    guest.read(other.read, size=8, expect={"data": "hello"})


def test_the_entry_of_32_bits_from_64(guest: Hand) -> None:
    if "int 0x80" not in guest.session.arch.instructions or guest.session.arch.word == 4:
        raise Unsupported("int 0x80 from 64 bits is x86_64's")
    of_32_bits = 20  # arch/x86/entry/syscalls/syscall_32.tbl: getpid
    assert guest.instruction("int 0x80", args=[of_32_bits]).returns == guest.getpid().returns


def test_a_process_of_32_bits_has_its_own_code(guest: Hand) -> None:
    if not guest.session.arch.compat.arch:
        raise Unsupported("no 32-bit programs of an architecture that the lab knows")
    guest.actor("old", word=32)
    calls = guest.session.cast.abi("old").syscalls
    pid = guest.getpid(by="old").returns
    name = "int 0x80" if guest.session.arch.name == "x86_64" else "svc 0"
    assert guest.instruction(name, args=[calls["getpid"]], by="old").returns == pid
    function = guest.vdso("clock_gettime64", by="old")
    room = {"s64": [0, 0]}
    seconds, _ = guest.call(function, args=["CLOCK_MONOTONIC", room], by="old", expect={"returns": 0}).out[1]
    assert seconds > 0
    guest.call(NOWHERE, by="old", expect={"signal": "SIGSEGV"})
    memory = guest.keep({"buffer": "hello", "size": 5000}, by="old")
    assert memory.address < 1 << 32
    guest.load(memory, size=5, by="old", expect={"data": "hello"})
    guest.let_go(memory, by="old")


@pytest.mark.parametrize(
    ("names", "signal"), [(TRAPS, "SIGTRAP"), (ILLEGAL, "SIGILL"), (("hlt",), "SIGSEGV")]
)
def test_an_instruction_that_is_refused_is_told(guest: Hand, names: tuple[str, ...], signal: str) -> None:
    name = one_of(guest, names)
    for _ in range(2):  # the actor goes on
        guest.instruction(name, times=5, expect={"signal": signal, "completed": 0})
    with pytest.raises(StepFailed, match=signal):
        guest.instruction(name)
    guest.getpid()


def test_a_call_of_what_is_no_code_is_a_fault(guest: Hand) -> None:
    guest.call(NOWHERE, expect={"signal": "SIGSEGV", "address": NOWHERE})
    page = "PAGE_SIZE"
    data = guest.mmap(-1, length=page, prot="PROT_READ|PROT_WRITE", flags="MAP_PRIVATE|MAP_ANONYMOUS")
    code = bytes.fromhex(guest.session.arch.instructions[one_of(guest, CLOCKS)])
    guest.store(data, data=code)
    if guest.session.arch.name != "i386":  # core2duo without PAE's bit: whatever is read can be executed
        guest.call(data, expect={"signal": "SIGSEGV", "address": data})
    guest.mprotect(data, length=page, prot="PROT_READ|PROT_EXEC")
    assert guest.call(data).returns != 0


def test_code_may_not_be_written(guest: Hand) -> None:
    what = program(guest)
    code = what.code(bytes.fromhex(guest.session.arch.instructions[one_of(guest, CLOCKS)]))
    what.invoke(code)
    what.store(code, b"x")
    reply = run(guest, what)
    assert reply.calls[0].completed == 1
    assert reply.fault is not None
    assert (reply.fault.signal, reply.fault.during, reply.fault.operation) == (SIGSEGV, "store", 1)


def test_a_signal_that_waits_is_not_delivered_by_a_call(guest: Hand) -> None:
    """What the scenario blocks stays blocked, also where the code could have that fault."""
    guest.sigprocmask("SIG_BLOCK", set=["SIGTRAP", "SIGSEGV"])
    guest.tgkill("main", signal="SIGTRAP")
    guest.instruction(one_of(guest, CLOCKS))
    guest.load(NOWHERE, size=8, expect={"signal": "SIGSEGV"})
    got = guest.sigprocmask("SIG_BLOCK", set=[])
    assert got.old == [SIGTRAP, SIGSEGV]
    guest.sigtimedwait(["SIGTRAP"], timeout=0, expect={"info": {"signo": "SIGTRAP", "pid": "$main.pid"}})


def test_signals_are_recorded_as_before_once_code_was_called(guest: Hand) -> None:
    guest.sigaction("SIGTRAP", how="record")
    guest.sigaction("SIGILL", how="ignore")
    guest.instruction(one_of(guest, CLOCKS))
    guest.tgkill("main", signal="SIGTRAP")
    guest.tgkill("main", signal="SIGILL")
    guest.signals(expect={"signals": [{"signo": "SIGTRAP"}]})
    guest.instruction(one_of(guest, ILLEGAL), expect={"signal": "SIGILL"})
    guest.sigaction("SIGTRAP", how="default")
    guest.tgkill("main", signal="SIGTRAP", expect={"signal": "SIGTRAP"})


def test_who_sleeps_in_called_code_is_seen_asleep(guest: Hand) -> None:
    name = entry(guest)
    ends = guest.pipe()
    guest.actor("sleeper", thread_of="main")
    args = [nr(guest, "read"), ends.read, {"buffer": "", "size": 16}, 16]
    pending = guest.instruction(name, args=args, by="sleeper", background=True)
    guest.blocked(pending, expect={"call": "read"})
    guest.stays_blocked(pending, for_=0.05)
    guest.write(ends.write, data="awake")
    assert guest.finish(pending, expect={"returns": 5}).out[2][:5] == b"awake"


# --- loops ------------------------------------------------------------------------------------------------


def test_a_block_is_done_again_and_again(guest: Hand) -> None:
    guest.getpid()
    what = program(guest)
    ends, buffer, counter = what.buffer(size=8), what.buffer(b"abcd"), what.buffer(size=8)
    what.call(nr(guest, "pipe2"), ends, 0)
    reader, writer = what.peek(ends, 4), what.peek(At(ends, 4), 4)
    with what.loop(1000) as loop:
        what.call(nr(guest, "write"), Result(writer), buffer, 4, want=(4, 4))
        got = what.call(nr(guest, "read"), Result(reader), buffer, 4)
        same = what.want(buffer, b"abcd", of_call=got)
        count = what.peek(counter, 8)
        what.poke(counter, Result(count, 3), 8)
    total = what.fetch(counter)
    after = what.call(nr(guest, "getpid"))
    reply = run(guest, what)
    assert (reply.calls[loop].completed, reply.calls[loop].value) == (1000, 5)
    assert (reply.calls[got].value, reply.calls[same].value, reply.calls[count].value) == (4, 4, 2997)
    assert int.from_bytes(reply.data[total], guest.session.arch.byteorder) == 3000
    assert reply.calls[after].value > 0


@pytest.mark.parametrize("size", [1, 2, 4, 8])
@pytest.mark.parametrize("offset", [0, 1])
def test_numbers_of_every_size_are_read_and_written(guest: Hand, size: int, offset: int) -> None:
    guest.getpid()
    order = guest.session.arch.byteorder
    value = int.from_bytes(bytes(range(0xF1, 0xF1 + size)), "big")
    what = program(guest)
    buffer = what.buffer(bytes(offset) + value.to_bytes(size, order) + bytes(16))
    index = what.peek(At(buffer, offset), size)
    what.poke(At(buffer, offset + size), Result(index, 1), size)
    after = what.fetch(buffer, offset + size, size + 1)
    reply = run(guest, what)
    assert reply.fault is None
    assert reply.calls[index].value % (1 << 64) == value
    assert reply.data[after] == (value + 1).to_bytes(size, order) + b"\0"


def test_a_loop_ends_at_the_first_that_is_not_as_wanted(guest: Hand) -> None:
    guest.getpid()
    what = program(guest)
    counter = what.buffer(size=8)
    with what.loop(100) as loop:
        count = what.peek(counter, 8)
        what.poke(counter, Result(count, 1), 8)
        same = what.want(counter, b"\7" if guest.session.arch.byteorder == "little" else bytes(8))
        never = what.call(nr(guest, "getpid"))
        data = what.load(counter, 8)
    after = what.call(nr(guest, "getpid"))
    reply = run(guest, what)
    assert (reply.calls[loop].completed, reply.calls[loop].value) == (0, 2)
    assert (reply.calls[same].completed, reply.calls[never].completed) == (0, 0)
    assert reply.data[data] == b""
    assert reply.calls[after].completed == 1


def test_a_loop_ends_where_it_faults_or_a_call_fails(guest: Hand) -> None:
    guest.getpid()
    page = guest.session.abi.page_size
    what = program(guest)
    place, bytes_ = what.buffer(size=8), what.buffer(size=page)
    begin = what.address(bytes_)
    what.poke(place, Result(begin, page - 3), 8)
    with what.loop(10) as loop:
        at = what.peek(place, 8)
        what.load(Result(at), 1)
        what.poke(place, Result(at, 1), 8)
    with what.loop(10) as other:
        what.call(nr(guest, "close"), 99999, want=(0, 0))
    reply = run(guest, what)
    assert (reply.calls[loop].completed, reply.calls[loop].value) == (3, 1)
    assert (reply.calls[other].completed, reply.calls[other].value) == (0, 0)
    assert reply.fault is not None
    assert (reply.fault.signal, reply.fault.operation) == (SIGSEGV, 4)
    guest.load(NOWHERE, size=1, expect={"signal": "SIGSEGV"})  # and the next one is survived too


def test_steps_are_made_in_turn(guest: Hand) -> None:
    ends = guest.pipe()
    later = guest.later
    wrote, got = guest.in_turn(
        later.write(ends.write, data="abcd", expect={"returns": 4}),
        later.read(ends.read, size=8, expect={"data": "abcd"}),
        times=500,
    )
    assert (wrote.returns, got.data) == (4, b"abcd")
    guest.write(ends.write, data="abcdabce")
    with pytest.raises(StepFailed, match="data not as wanted") as caught:
        guest.in_turn(
            later.getpid(), later.read(ends.read, size=4, expect={"data": "abcd"}), later.getpid(), times=9
        )
    assert caught.value.notes[-1] == "in round 2 of 9"


def test_data_is_compared_at_each_repetition(guest: Hand) -> None:
    ends = guest.pipe()
    guest.write(ends.write, data="xxxxyx")
    guest.read(ends.read, size=1, times=3, expect={"data": "x"})
    with pytest.raises(StepFailed, match="completed, data not as wanted") as caught:
        guest.read(ends.read, size=1, times=3, expect={"data": "x"})
    assert "1 times" in caught.value.got
    guest.write(ends.write, data="xx")
    with pytest.raises(StepFailed, match="completed, data not as wanted"):
        guest.read(ends.read, size=8, times=2, expect={"data": "x"})  # more than was wanted


def test_memory_is_looked_at_again_and_again(guest: Hand) -> None:
    memory = guest.keep({"buffer": "same", "size": 4096})
    guest.load(memory, size=4, times=1000, expect={"data": "same"})
    guest.store(memory, data="diff", times=10)
    with pytest.raises(StepFailed, match="completed, data not as wanted"):
        guest.load(memory, size=4, times=1000, expect={"data": "same"})


# --- memory that is kept ------------------------------------------------------------------------------------


def test_what_is_kept_is_there_in_later_steps(guest: Hand) -> None:
    memory = guest.keep({"buffer": "hello", "size": 10000})
    guest.load(memory, size=6, expect={"data": b"hello\0"})
    guest.store(memory, data="J")
    guest.getpid()
    assert guest.load(memory, size=5).data == b"Jello"
    guest.load(memory.address + 10000, size=1, expect={"signal": "SIGSEGV"})
    guest.let_go(memory.address + 5000)
    guest.load(memory, size=1, expect={"signal": "SIGSEGV"})
    guest.let_go(memory, expect={"errno": "EINVAL"})


def test_pointers_of_what_is_kept_point_to_what_is_kept(guest: Hand) -> None:
    iov = guest.keep({"struct": "iovec", "iov_base": {"buffer": "hello"}, "iov_len": 5})
    ends = guest.pipe()
    for _ in range(2):
        guest.syscall("writev", args=[ends.write, iov, 1], expect={"returns": 5})
        guest.read(ends.read, size=8, expect={"data": "hello"})
    guest.let_go(iov)
    guest.syscall("writev", args=[ends.write, iov, 1], expect={"errno": "EFAULT"})


def test_threads_share_what_is_kept_and_wait_for_one_another_there(guest: Hand) -> None:
    guest.getpid()
    guest.actor("other", thread_of="main")
    word = guest.keep({"u32": 7})
    futex = "futex" if "futex" in guest.session.abi.syscalls else "futex_time64"
    wait = guest.syscall(futex, args=[word, "FUTEX_WAIT", 7, 0], by="other", background=True)
    guest.blocked(wait)
    guest.syscall(futex, args=[word, "FUTEX_WAKE", 1], expect={"returns": 1})
    guest.finish(wait, expect={"returns": 0})


def test_much_is_kept_and_let_go(guest: Hand) -> None:
    guest.getpid()
    held = [guest.keep({"buffer": "", "size": 8}) for _ in range(40)]
    assert len({each.address for each in held}) == 40
    for each in held:
        guest.let_go(each)
    guest.let_go(held[0], expect={"errno": "EINVAL"})
