# SPDX-License-Identifier: MIT
"""Signals and the life of actors."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from lab.language.plan import exit_fields
from lab.run.session import Session
from lab.verbs import (
    ActorName,
    Bool,
    Call,
    Flags,
    Int,
    NewActor,
    Outcome,
    Pid,
    Plan,
    Signal,
    Timeout,
    verb,
    wire,
)
from lab.verbs.files import Opened
from lab.verbs.poll import signal_set, timespec

SIGINFO_SIZE = 128  # include/uapi/asm-generic/siginfo.h: SI_MAX_SIZE

# kernel/signal.c: sig_specific_sicodes(), without SIGIO
_SIGNALS_WITH_CODES = ("SIGILL", "SIGFPE", "SIGSEGV", "SIGBUS", "SIGTRAP", "SIGCHLD", "SIGSYS")


@dataclass(frozen=True)
class Seen:
    """A signal that came: its siginfo. Which fields mean something depends on `code`; `value` is si_int."""

    signo: Signal = 0
    code: Int = 0
    pid: Pid = 0
    uid: Int = 0
    value: Int = 0
    fd: Int = 0
    band: Flags = 0


@dataclass(frozen=True, kw_only=True)
class Recorded(Outcome):
    """The signals that a handler recorded, in the order of their arrival."""

    signals: list[Seen] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Received(Outcome):
    """A signal that was waited for."""

    info: Seen | None = None


@dataclass(frozen=True, kw_only=True)
class Masked(Outcome):
    """The signals that were blocked before."""

    old: list[Signal] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Ended(Outcome):
    """How an actor ended."""

    ends: ClassVar[bool] = True


@dataclass(frozen=True, kw_only=True)
class Forked(Outcome):
    """A new process; `returns` is its pid."""

    bare: ClassVar[Mapping[str, str]] = {"int": "returns"}


@verb
def kill(call: Call, pid: Pid, *, signal: Signal) -> Plan[Outcome]:
    """Send a signal to a process.

    kill(2). The process is an actor by its name, or a number: `$r.number` of a file that holds it.
    """
    return call.plan(Outcome, call.syscall("kill", pid, signal))


@verb
def pidfd_open(call: Call, pid: Pid, *, flags: Flags = 0) -> Plan[Opened]:
    """Make a descriptor of a process or a kernel thread, which is readable (POLLIN) when that has ended.

    pidfd_open(2).
    """
    return call.plan(Opened, call.syscall("pidfd_open", pid, flags))


@verb
def tgkill(call: Call, pid: Pid, *, signal: Signal, tid: Pid | None = None) -> Plan[Outcome]:
    """Send a signal to one thread of a process.

    tgkill(2). `tid` is the thread's ($actor.tid); without it that is the process's first.
    """
    return call.plan(Outcome, call.syscall("tgkill", pid, pid if tid is None else tid, signal))


@verb
def sigqueue(
    call: Call,
    pid: Pid,
    *,
    signal: Signal,
    value: Int = 0,
    code: Int | None = None,
    tid: Pid | None = None,
) -> Plan[Outcome]:
    """Send a signal with a value.

    sigqueue(3), made with rt_sigqueueinfo(2), or with `tid` to that thread alone, with rt_tgsigqueueinfo(2).
    `code` is si_code (default SI_QUEUE).
    """
    info = siginfo(call, signal, call.constant("SI_QUEUE") if code is None else code, value)
    if tid is not None:
        return call.plan(Outcome, call.syscall("rt_tgsigqueueinfo", pid, tid, signal, call.place(info)))
    return call.plan(Outcome, call.syscall("rt_sigqueueinfo", pid, signal, call.place(info)))


def siginfo(call: Call, signal: int, code: int, value: int) -> bytes:
    """Return a siginfo_t as rt_sigqueueinfo takes it: sent by the actor itself, with a value."""
    word, order = call.abi.arch.word, call.abi.arch.byteorder
    head = b"".join((part % (1 << 32)).to_bytes(4, order) for part in (signal, 0, code))
    head = head.ljust(-(-len(head) // word) * word, b"\0")  # the union begins where a pointer may
    body = b"".join((part % (1 << 32)).to_bytes(4, order) for part in (call.pid, 0))
    # A union of an int and a pointer: an int lies at its beginning, in either byte order.
    size = 4 if -(1 << 31) <= value < 1 << 31 else word
    return (head + body + (value % (1 << 8 * size)).to_bytes(size, order)).ljust(SIGINFO_SIZE, b"\0")


@verb
def sigaction(
    call: Call, signal: Signal, *, how: Literal["record", "ignore", "default"] = "record", flags: Flags = 0
) -> Plan[Outcome]:
    """Say what a signal does to the actor.

    sigaction(2). `how`: a handler records its siginfo, it is ignored, or the default. `flags`: SA_RESTART …
    `signals` takes what was recorded.
    """
    index = call.program.sigaction(signal, how, flags)
    return call.plan(Outcome, index)


@verb
def signals(call: Call, take: Bool = True) -> Plan[Recorded]:
    """Take the signals that were recorded since the last time.

    No system call. They are in `signals`, each with signo, code, pid, uid, value, fd, band.
    """
    if take:
        call.program.signals()
    return call.plan(Recorded, signals=lambda reply: [seen(each) for each in reply.signals])


def seen(info: wire.SignalInfo) -> Seen:
    """Return a recorded siginfo as a step's result."""
    return Seen(info.signo, info.code, info.pid, info.uid, info.value, info.fd, info.band)


@verb
def sigprocmask(call: Call, how: Int, *, set_: list[Signal]) -> Plan[Masked]:
    """Block and unblock signals of the actor.

    sigprocmask(2): SIG_BLOCK, SIG_UNBLOCK, SIG_SETMASK. The result's `old` is what was blocked before.
    """
    room = call.place(b"", 8)
    index = call.syscall("rt_sigprocmask", how, signal_set(call, set_), room, 8)
    take = room.fetch(call)

    def old(reply: wire.Reply) -> list[int]:
        word, order, data = call.abi.arch.word, call.abi.arch.byteorder, take(reply)
        words = [int.from_bytes(data[at : at + word], order) for at in range(0, 8, word)]
        bits = sum(each << (8 * word * at) for at, each in enumerate(words))
        return [number for number in range(1, 65) if bits >> (number - 1) & 1]

    return call.plan(Masked, index, old=old)


@verb
def sigtimedwait(call: Call, set_: list[Signal], *, timeout: Timeout) -> Plan[Received]:
    """Wait for one of some blocked signals.

    sigtimedwait(2). The result's `info` is its siginfo, `returns` its number.
    """
    room = call.place(b"", SIGINFO_SIZE)
    index = call.syscall("rt_sigtimedwait", signal_set(call, set_), room, timespec(call, timeout), 8)
    take = room.fetch(call)

    def info(reply: wire.Reply) -> Seen | None:
        return _decode_siginfo(call, take(reply)) if reply.calls[index].value > 0 else None

    return call.plan(Received, index, info=info)


def _decode_siginfo(call: Call, data: bytes) -> Seen:
    """Return what a siginfo_t says: a file's signal has band and fd, the others pid, uid and value."""
    layout, order = call.struct("siginfo"), call.abi.arch.byteorder

    def number(path: str) -> int:
        member = layout.find(path)
        return int.from_bytes(data[member.offset : member.offset + member.size], order, signed=True)

    signo, code = number("si_signo"), number("si_code")
    if _is_poll(call, signo, code):
        poll = "_sifields._sigpoll"
        return Seen(signo, code, band=number(f"{poll}._band"), fd=number(f"{poll}._fd"))
    sent = "_sifields._rt"
    return Seen(
        signo, code, number(f"{sent}._pid"), number(f"{sent}._uid"), number(f"{sent}._sigval.sival_int")
    )


def _is_poll(call: Call, signo: int, code: int) -> bool:
    """Tell whether it is about a file: F_SETSIG may name any signal, as rootfs/signals.c has it.

    POLL_IN and the others are codes of SIGIO, and of each signal that has no codes of its own; those that
    have get SI_SIGIO.
    """
    if code == call.constant("SI_SIGIO"):
        return True
    known = {call.constant(name) for name in _SIGNALS_WITH_CODES}
    return signo not in known and call.constant("POLL_IN") <= code <= call.constant("POLL_HUP")


@verb
def exit_(call: Call, status: Int = 0) -> Plan[Ended]:
    """End the actor: its descriptors and mappings are given back as of any process that ends.

    exit_group(2); of a thread exit(2). `status` of the result is its exit status.
    """
    call.program.exit(status)
    return call.plan(Ended)


@verb(inherits=True)
def fork(session: Session, child: NewActor) -> Forked:
    """Fork the actor; the child is a new actor of the given name, with the same descriptors and mappings.

    fork(2), made with clone(2). Steps are its own with `by: NAME`.
    """
    name = str(child)
    parent = session.current.by
    session.cast.need(parent)
    program = session.program()
    index = program.fork(session.agent.reserve(name))
    reply = session.run(program)
    result = reply.calls[index]
    if result.errno is not None:
        return Forked(errno=result.errno)
    session.cast.born(name, result.value, of=parent)
    return Forked(returns=result.value)


@verb
def wait(session: Session, actor: ActorName) -> Ended:
    """Wait until an actor has ended: `status` is its exit status, `signal` what killed it.

    Not wait4(2): an actor's parent is the lab. `within` says how long.
    """
    return Ended(**exit_fields(session.await_end(actor)))


@verb
def getpid(call: Call, of: Literal["process", "thread"] = "process") -> Plan[Outcome]:
    """Ask for the actor's own number.

    getpid(2), gettid(2).
    """
    return call.plan(Outcome, call.syscall("getpid" if of == "process" else "gettid"))
