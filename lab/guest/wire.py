# SPDX-License-Identifier: MIT
"""Programs, as the host writes them for an actor, and replies, as they come back. Pure.

A *program* is what one actor does in one go: memory first, then operations in order. It is built by calls on
`Program`, which return the index under which `Reply` holds each result.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

from lab.errors import AgentError, UsageError
from lab.guest import layouts
from lab.guest.frames import Reader, padded
from lab.guest.layouts import (
    ACTORS,
    MAX_ARGUMENTS,
    MAX_BUFFERS,
    MAX_FRAME,
    MAX_OPERATIONS,
    NONE,
    OWN_CALL,
    ArgumentKind,
    OwnCall,
    SignalHow,
    Trouble,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lab.arch import Architecture

BARRIER_SECONDS: Final = 10.0  # how long an actor waits for the others, unless it is said
U64: Final = (1 << 64) - 1
_MOST_MEMORY: Final = 1 << 40  # bytes of a buffer: a page count of it fits everywhere

Kind = layouts.BufferKind
Op = layouts.OpCode
# What a loop may have.
REPEATABLE: Final = frozenset(
    (Op.CALL, Op.INVOKE, Op.FETCH, Op.LOAD, Op.STORE, Op.PEEK, Op.POKE, Op.WANT, Op.SIGACTION)
)
SigactionHow = Literal["record", "ignore", "default"]


@dataclass(frozen=True)
class Buffer:
    """Memory of one program; `size` in bytes. As an argument of a call it is its address."""

    index: int
    size: int
    kind: Kind


@dataclass(frozen=True)
class At:
    """An address inside (or just past) a buffer."""

    buffer: Buffer
    offset: int


@dataclass(frozen=True)
class Result:
    """The result of an earlier call of the same program, plus `offset`."""

    call: int
    offset: int = 0


Argument = int | Buffer | At | Result


class Program:
    """What one actor does in one go. Wrong use (an index that is not there, too much) raises UsageError."""

    def __init__(self, arch: Architecture) -> None:
        self.arch = arch
        self.calls = 0  # how many results Reply.calls will have
        self.data = 0  # and Reply.data
        self.forks: list[tuple[int, int]] = []  # index of the call, number of the child
        self._order = "<" if arch.byteorder == "little" else ">"
        self._buffers: list[tuple[Buffer, bytes]] = []
        self._kept: set[int] = set()  # indices of buffers
        self._pointers: list[layouts.Pointer] = []
        self._operations: list[tuple[Op, layouts.Record | None]] = []

    def buffer(self, data: bytes = b"", size: int | None = None, kind: Kind = Kind.PLAIN) -> Buffer:
        """Memory of `size` bytes (default: as long as `data`) that begins with `data`, zeros after it."""
        size = len(data) if size is None else size
        if size > _MOST_MEMORY:
            raise UsageError(f"a buffer of {size:,} bytes is more than any guest has")
        if size < len(data):
            raise UsageError(f"a buffer of {size} bytes cannot hold {len(data)} bytes of data")
        if len(self._buffers) >= MAX_BUFFERS:
            raise UsageError(f"more than {MAX_BUFFERS} buffers in one step")
        buffer = Buffer(len(self._buffers), size, kind)
        self._buffers.append((buffer, bytes(data)))
        return buffer

    def keep(self, buffer: Buffer) -> None:
        """Let a plain buffer, and what its pointers point to, stay when the program is over (Kind.KEPT)."""
        self._own(buffer)
        if buffer.kind not in (Kind.PLAIN, Kind.KEPT):
            raise UsageError("only plain memory can be kept")
        if buffer.index in self._kept:
            return
        self._kept.add(buffer.index)
        for pointer in self._pointers:
            if pointer.where == buffer.index:
                self.keep(self._buffers[pointer.to][0])

    def string(self, text: str) -> Buffer:
        """Memory that holds `text` and its NUL, and more of those up to a whole word.

        The kernel reads strings word by word: behind a buffer is a page that may not be touched, and each
        string that did not end with a word would cost a fault and the byte after byte that follows it.
        """
        return self.buffer(padded(text.encode() + b"\0"))

    def pointer(self, where: Buffer, offset: int, to: Buffer, to_offset: int = 0) -> None:
        """Write the address of `to` (plus `to_offset`) into `where` at `offset`, one word of the guest."""
        self._own(where)
        self._own(to)
        if where.kind is Kind.UNMAPPED or not 0 <= offset <= _mapped(where) - self.arch.word:
            raise UsageError(f"a pointer at offset {offset} does not fit a buffer of {where.size} bytes")
        self._pointers.append(layouts.Pointer(where.index, to.index, offset, to_offset & U64))

    def call(self, nr: int, *args: Argument, times: int = 1, want: tuple[int, int] | None = None) -> int:
        """Make a raw system call; return its index in `Reply.calls`.

        `times` repeats it in the guest and stops after the first result outside `want` (lowest and highest
        value; default: any value >= 0).
        """
        _check_call(len(args), times, "a system call")
        low, high = (0, U64 >> 1) if want is None else want
        self._add(Op.CALL, layouts.OpCall(nr, times, low, high, tuple(map(self._argument, args))))
        return self._next_call()

    def own_call(self, call: OwnCall, *args: Argument) -> int:
        """`call` for the lab's own few system calls, whose numbers the agent knows."""
        return self.call(OWN_CALL | call, *args)

    def fetch(
        self, buffer: Buffer, offset: int = 0, size: int | None = None, up_to_call: int | None = None
    ) -> int:
        """Bring back bytes of a buffer; return the index in `Reply.data`.

        `up_to_call` cuts them to the result of that call (nothing when it failed).
        """
        self._own(buffer)
        size = max(_mapped(buffer) - offset, 0) if size is None else size
        if offset < 0 or size < 0 or offset + size > _mapped(buffer):
            there = f"the {_mapped(buffer)} that can be read"
            raise UsageError(f"bytes {offset} to {offset + size} are not among {there} of the buffer")
        if up_to_call is not None and not 0 <= up_to_call < self.calls:
            raise UsageError(f"no call {up_to_call} before this point of the program")
        clip = NONE if up_to_call is None else up_to_call
        self._add(Op.FETCH, layouts.OpFetch(buffer.index, clip, offset, size))
        return self._next_data()

    def load(self, address: Argument, size: int) -> int:
        """Read memory with the actor's own instructions; a fault is recorded, its data is empty."""
        self._add(Op.LOAD, layouts.OpAccess(self._argument(address), size))
        return self._next_data()

    def store(self, address: Argument, data: bytes) -> None:
        """Write memory with the actor's own instructions; a fault is recorded."""
        self._add(Op.STORE, layouts.OpAccess(self._argument(address), len(data), padded(data)))

    def invoke(
        self, address: Argument, *args: Argument, times: int = 1, want: tuple[int, int] | None = None
    ) -> int:
        """Call what is code at an address of the actor's, by the rules of C; the index of the result.

        Its value is a long as it was returned: no errno is made of it. A fault in it (SIGSEGV, SIGBUS,
        SIGILL, SIGFPE, SIGTRAP) is recorded and ends it, with completed less than `times`. `want` is as for
        call(), by default any value.
        """
        low, high = want or (-(1 << 63), U64 >> 1)
        _check_call(len(args), times, "what is called")
        packed = tuple(map(self._argument, args))
        self._add(Op.INVOKE, layouts.OpInvoke(self._argument(address), times, low, high, packed))
        return self._next_call()

    def code(self, instructions: bytes) -> Buffer:
        """Memory that holds machine code, for invoke(): written first, executable then, never both."""
        return self.buffer(padded(instructions), kind=Kind.CODE)

    def peek(self, address: Argument, size: int) -> int:
        """Read a number of 1, 2, 4 or 8 bytes; the index of a result that later operations can use.

        As load(), and what it reads was written before all that is read after it. A fault leaves 0.
        """
        _check_number(size)
        self._add(Op.PEEK, layouts.OpAccess(self._argument(address), size))
        return self._next_call()

    def poke(self, address: Argument, value: Argument, size: int) -> None:
        """Write a number of 1, 2, 4 or 8 bytes; who sees it sees what was written before."""
        _check_number(size)
        self._add(Op.POKE, layouts.OpPoke(self._argument(address), self._argument(value), size))

    def want(self, address: Argument, data: bytes, *, of_call: int | None = None) -> int:
        """Compare memory with `data`; the index of a result: how many bytes are the same, completed 1 if all.

        `of_call`: and that call gave just so many.
        """
        if of_call is not None and not 0 <= of_call < self.calls:
            raise UsageError(f"no call {of_call} before this point of the program")
        clip = NONE if of_call is None else of_call
        self._add(Op.WANT, layouts.OpWant(self._argument(address), clip, 0, len(data), padded(data)))
        return self._next_call()

    @contextmanager
    def loop(self, times: int) -> Iterator[int]:
        """Do what is added inside `times` times, until one operation does not come out as wanted.

        That is a result outside its bounds, a fault, or other bytes than want() says. Gives the index of a
        result: completed is how many rounds were done, its value how many operations of the last one were.
        Of the operations inside the reply has what the last round gave, completed 0 where it did not come to
        them. No loop is in another one.
        """
        if not 1 <= times <= U64:
            raise UsageError(f"a loop of {times} rounds")
        at = len(self._operations)
        self._add(Op.LOOP, layouts.OpLoop(0, 0, times))
        yield self._next_call()
        inside = self._operations[at + 1 :]
        if not inside:
            raise UsageError("a loop of nothing")
        for op, _ in inside:
            if op not in REPEATABLE:
                raise UsageError(f"{op.name.lower()} cannot be done in a loop")
        self._operations[at] = (Op.LOOP, layouts.OpLoop(len(inside), 0, times))

    def address(self, what: Argument) -> int:
        """Tell what an argument is; the index of the result. Where a buffer lies is known by this alone."""
        self._add(Op.ADDRESS, self._argument(what))
        return self._next_call()

    def let_go(self, address: Argument) -> int:
        """Give back what an earlier program of the process kept (Kind.KEPT); the index of the result.

        All of that program, by any address in it; EINVAL where there is none.
        """
        self._add(Op.LET_GO, self._argument(address))
        return self._next_call()

    def sigaction(self, signum: int, how: SigactionHow, flags: int = 0) -> int:
        """Set what a signal does: 'record' its siginfo, 'ignore' or 'default'; the index of the result."""
        self._add(Op.SIGACTION, layouts.OpSigaction(signum, SignalHow[how.upper()], flags & U64))
        return self._next_call()

    def signals(self) -> None:
        """Take the siginfos recorded so far in this process into `Reply.signals`."""
        self._add(Op.SIGNALS)

    def barrier(self, ident: int, parties: int, seconds: float = BARRIER_SECONDS) -> None:
        """Wait until `parties` actors have come to barrier `ident` (0..65535, fresh for each meeting).

        The program fails when they have not after `seconds`.
        """
        if not (0 <= ident <= 0xFFFF and 1 <= parties <= ACTORS):
            raise UsageError(f"no barrier {ident} for {parties} actors")
        self._add(Op.BARRIER, layouts.OpBarrier(ident, parties, int(seconds * 1e9)))

    def fork(self, child: int) -> int:
        """Fork; the child becomes actor number `child` (see Agent.reserve); the index of the parent's result.

        The child is a sibling under the agent (CLONE_PARENT) and does none of the program's later operations.
        """
        if not 0 < child < ACTORS:
            raise UsageError(f"no actor number {child}")
        self._add(Op.FORK, layouts.OpPair(child))
        self.forks.append((self.calls, child))
        return self._next_call()

    def send_fd(self, fd: Argument, ident: int) -> int:
        """Send a file descriptor to whoever receives `ident`; the index of the sendmsg's result."""
        self._add(Op.SEND_FD, layouts.OpSendFd(self._argument(fd), ident & 0xFFFFFFFF))
        return self._next_call()

    def receive_fd(self, ident: int) -> int:
        """Receive the file descriptor sent as `ident`; the index in `Reply.calls` of the new descriptor."""
        self._add(Op.RECEIVE_FD, layouts.OpPair(ident & 0xFFFFFFFF))
        return self._next_call()

    def exit(self, status: int) -> None:
        """End the actor (a thread alone, when it is one); the reply has only `exited`."""
        self._add(Op.EXIT, layouts.OpExit(status & U64))

    def read_file(self, path: str) -> int:
        """Read a whole file, for the agent's own use; the index in `Reply.data`, its call tells the errno."""
        buffer = self.string(path)
        self._add(Op.READ_FILE, layouts.OpPair(buffer.index))
        self._next_call()
        return self._next_data()

    def settle(self) -> int:
        """Wait for the CRNG, sync, drop caches, for the agent's own use; the index of the result."""
        self._add(Op.SETTLE)
        return self._next_call()

    def names(self, *, wide: bool) -> int:
        """Tell what has a name in the kernel, for the agent's own use; the index of the data."""
        self._add(Op.NAMES, layouts.OpPair(int(wide)))
        self._next_call()
        return self._next_data()

    def become(self, path: str) -> int:
        """Let the actor go on as the agent that another compiler made; the index of the result.

        The only operation of its program.
        """
        self._add(Op.BECOME, layouts.OpPair(self.string(path).index))
        return self._next_call()

    @property
    def buffers(self) -> Sequence[tuple[Buffer, bytes]]:
        """Its memory, with what is in it first."""
        return self._buffers

    @property
    def operations(self) -> Sequence[tuple[Op, layouts.Record | None]]:
        """What it does so far."""
        return self._operations

    def adopt(self, other: Program) -> int:
        """Take over another program's memory, not what it does; return how many buffers were there before."""
        before = len(self._buffers)
        for buffer, data in other.buffers:
            self.buffer(data, buffer.size, buffer.kind)
        self._kept |= {before + index for index in other._kept}
        for each in other._pointers:
            self._pointers.append(replace(each, where=each.where + before, to=each.to + before))
        return before

    def encode(self) -> bytes:
        """Return the program's bytes. Raises UsageError when they are more than a frame holds."""
        head = layouts.Program(len(self._buffers), len(self._pointers), len(self._operations))
        parts = [head.pack(self._order)]
        for buffer, data in self._buffers:
            kind = Kind.KEPT if buffer.index in self._kept else buffer.kind
            parts.append(layouts.Buffer(kind, 0, buffer.size, len(data)).pack(self._order))
            parts.append(padded(data))
        parts += [pointer.pack(self._order) for pointer in self._pointers]
        for op, what in self._operations:
            body = b"" if what is None else what.pack(self._order)
            parts += [layouts.Op(op, len(body)).pack(self._order), body]
        encoded = b"".join(parts)
        if len(encoded) > MAX_FRAME:
            raise UsageError(f"a step of {len(encoded)} bytes is more than the {MAX_FRAME} of a frame")
        return encoded

    def _argument(self, value: Argument) -> layouts.Argument:
        match value:
            case Buffer():
                self._own(value)
                return layouts.Argument(ArgumentKind.BUFFER, value.index, 0)
            case At(buffer, offset):
                self._own(buffer)
                return layouts.Argument(ArgumentKind.BUFFER, buffer.index, offset & U64)
            case Result(call, offset):
                if not 0 <= call < self.calls:
                    raise UsageError(f"no call {call} before this point of the program")
                return layouts.Argument(ArgumentKind.RESULT, call, offset & U64)
            case int():
                if not -(1 << 63) <= value <= U64:
                    raise UsageError(f"{value:#x} does not fit an argument of 64 bits")
                return layouts.Argument(ArgumentKind.NUMBER, 0, value & U64)

    def _add(self, op: Op, what: layouts.Record | None = None) -> None:
        if len(self._operations) >= MAX_OPERATIONS:
            raise UsageError(f"more than {MAX_OPERATIONS} operations in one step")
        self._operations.append((op, what))

    def _own(self, buffer: Buffer) -> None:
        if buffer.index >= len(self._buffers) or self._buffers[buffer.index][0] is not buffer:
            raise UsageError("a buffer of another program")

    def _next_call(self) -> int:
        self.calls += 1
        return self.calls - 1

    def _next_data(self) -> int:
        self.data += 1
        return self.data - 1


@dataclass(frozen=True)
class CallResult:
    """What a system call gave: the raw result, and how many of its `times` were as wanted."""

    value: int
    completed: int

    @property
    def errno(self) -> int | None:
        """The positive error number, None for a success."""
        return -self.value if -4095 <= self.value <= -1 else None


During = Literal["call", "load", "store", "invoke"]


@dataclass(frozen=True)
class Fault:
    """A signal that an instruction of the actor's own got."""

    signal: int
    code: int
    address: int
    during: During
    operation: int = 0  # of the program


@dataclass(frozen=True)
class SignalInfo:
    """A recorded siginfo. Which fields mean something depends on `code`; `value` is si_int."""

    signo: int
    code: int
    pid: int
    uid: int
    value: int
    fd: int
    band: int
    raw: bytes


@dataclass(frozen=True)
class Reply:
    """What a program did. `exited` is the wait status of an actor that died instead of answering.

    The status is -1 where nobody can know it: a helper's parent is the kernel.
    """

    calls: tuple[CallResult, ...] = ()
    data: tuple[bytes, ...] = ()
    fault: Fault | None = None
    signals: tuple[SignalInfo, ...] = ()
    exited: int | None = None


_TROUBLE: Final[dict[int, str]] = {
    Trouble.MALFORMED: "the program is malformed",
    Trouble.MEMORY: "no memory for the program's buffers",
    Trouble.BARRIER: "the other actors did not come to the barrier in time",
    Trouble.REFUSED: "the program asked for something that the kernel refused",
    Trouble.TOO_LARGE: "the reply would be larger than a frame",
}
_DURING: Final[dict[int, During]] = {
    0: "call",
    Op.LOAD: "load",
    Op.STORE: "store",
    Op.PEEK: "load",
    Op.POKE: "store",
    Op.WANT: "load",
    Op.INVOKE: "invoke",
}


def decode_reply(payload: bytes, arch: Architecture) -> Reply:
    """Decode the payload of a DONE frame.

    Raises AgentError for nonsense and for what kept the agent from running the program.
    """
    reader = Reader(payload, arch)
    head = reader.record(layouts.Reply)
    if head.trouble:
        why = _TROUBLE.get(head.trouble, f"trouble {head.trouble}")
        tail = f" (errno {-head.detail})" if head.detail < 0 else f" ({head.detail})" if head.detail else ""
        raise AgentError(f"{why}, at its operation {head.op}{tail}")
    if head.exited:
        reader.end()
        return Reply(exited=head.status)
    reply = Reply(
        calls=tuple(_call(reader) for _ in range(head.calls)),
        data=tuple(reader.padded() for _ in range(head.data)),
        signals=tuple(_signal(reader) for _ in range(head.signals)),
        fault=_fault(head),
    )
    reader.end()
    return reply


def _call(reader: Reader) -> CallResult:
    found = reader.record(layouts.CallResult)
    return CallResult(found.value, found.completed)


def _fault(head: layouts.Reply) -> Fault | None:
    if not head.fault_signal:
        return None
    during = _DURING.get(head.fault_during)
    if during is None:
        raise AgentError(f"the agent tells of a fault during operation {head.fault_during}")
    return Fault(head.fault_signal, head.fault_code, head.fault_address, during, head.op)


def _signal(reader: Reader) -> SignalInfo:
    seen = reader.record(layouts.SignalRecord)
    return SignalInfo(
        signo=seen.signo,
        code=seen.code,
        pid=seen.pid,
        uid=seen.uid,
        value=seen.value,
        fd=seen.fd,
        band=seen.band,
        raw=seen.raw,
    )


def moved(what: layouts.Record | None, buffers: int, calls: int) -> layouts.Record | None:
    """Return an operation as it is in a program where so many buffers and calls come before its own."""

    def argument(given: layouts.Argument) -> layouts.Argument:
        more = {ArgumentKind.BUFFER: buffers, ArgumentKind.RESULT: calls}.get(ArgumentKind(given.kind), 0)
        return replace(given, index=given.index + more)

    match what:
        case layouts.OpCall():
            return replace(what, args=tuple(map(argument, what.args)))
        case layouts.OpInvoke():
            args = tuple(map(argument, what.args))
            return replace(what, address=argument(what.address), args=args)
        case layouts.OpAccess():
            return replace(what, address=argument(what.address))
        case layouts.OpPoke():
            return replace(what, address=argument(what.address), value=argument(what.value))
        case layouts.OpWant():
            clip = NONE if what.clip == NONE else what.clip + calls
            return replace(what, address=argument(what.address), clip=clip)
        case layouts.Argument():
            return argument(what)
        case layouts.OpFetch():
            clip = NONE if what.clip == NONE else what.clip + calls
            return replace(what, buffer=what.buffer + buffers, clip=clip)
        case _:
            return what


def _check_call(count: int, times: int, what: str) -> None:
    if count > MAX_ARGUMENTS:
        raise UsageError(f"{what} takes at most {MAX_ARGUMENTS} arguments, not {count}")
    if times < 1:
        raise UsageError(f"times: {times} is less than 1")
    if times > U64:
        raise UsageError(f"times: {times} does not fit 64 bits")


def _check_number(size: int) -> None:
    if size not in (1, 2, 4, 8):
        raise UsageError(f"a number has 1, 2, 4 or 8 bytes, not {size}")


def _mapped(buffer: Buffer) -> int:
    """How many bytes of a buffer can be read."""
    return {Kind.UNMAPPED: 0, Kind.PARTIAL: buffer.size // 2}.get(buffer.kind, buffer.size)
