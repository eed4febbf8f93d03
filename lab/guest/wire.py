# SPDX-License-Identifier: MIT
"""Programs, as the host writes them for an actor, and replies, as they come back. Pure.

A *program* is what one actor does in one go: memory first, then operations in order. It is built by calls on
`Program`, which return the index under which `Reply` holds each result.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import TYPE_CHECKING, Final, Literal

from lab.errors import AgentError, UsageError
from lab.guest.frames import MAX_FRAME, Reader, padded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lab.arch import Architecture

MAX_BUFFERS: Final = 1024
MAX_OPERATIONS: Final = 4096
MAX_ARGUMENTS: Final = 6
ACTORS: Final = 96  # numbers 0..95; 0 is the agent's own 'lab'
BARRIER_SECONDS: Final = 10.0  # how long an actor waits for the others before it gives up
NO_CALL: Final = 0xFFFFFFFF
U64: Final = (1 << 64) - 1


class Kind(Enum):
    """How a buffer lies in the actor's memory."""

    PLAIN = 0  # ends exactly at a guard page
    UNMAPPED = 1  # an address where nothing ever is
    READONLY = 2  # holds its data; may not be written
    PARTIAL = 3  # the first half (rounded down) is mapped, the rest is beyond the guard


class Op(IntEnum):
    """Operation codes."""

    CALL = 1
    FETCH = 2
    LOAD = 3
    STORE = 4
    SIGACTION = 5
    SIGNALS = 6
    BARRIER = 7
    FORK = 8
    SEND_FD = 9
    RECEIVE_FD = 10
    EXIT = 11
    READ_FILE = 12  # the agent's own: a whole file, however its reads are cut
    SETTLE = 13  # the agent's own: wait for the CRNG, sync, drop caches
    BECOME = 14  # the agent's own: go on as another program of the same agent


class OwnCall(IntEnum):
    """System calls of the lab's own use, by name: their numbers are known where the agent is compiled."""

    INIT_MODULE = 0
    DELETE_MODULE = 1
    OPENAT = 2
    LSEEK = 3
    WRITE = 4
    CLOSE = 5
    READ = 6
    EVENTFD2 = 7
    SCHED_SETAFFINITY = 8


OWN_CALL: Final = 1 << 32

_HOW: Final = {"default": 0, "ignore": 1, "record": 2}
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
        self._pointers: list[bytes] = []
        self._operations: list[bytes] = []

    def buffer(self, data: bytes = b"", size: int | None = None, kind: Kind = Kind.PLAIN) -> Buffer:
        """Memory of `size` bytes (default: as long as `data`) that begins with `data`, zeros after it."""
        size = len(data) if size is None else size
        if size < len(data):
            raise UsageError(f"a buffer of {size} bytes cannot hold {len(data)} bytes of data")
        if len(self._buffers) >= MAX_BUFFERS:
            raise UsageError(f"more than {MAX_BUFFERS} buffers in one step")
        buffer = Buffer(len(self._buffers), size, kind)
        self._buffers.append((buffer, bytes(data)))
        return buffer

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
        self._pointers.append(self._pack("IIQQ", where.index, to.index, offset, to_offset & U64))

    def call(self, nr: int, *args: Argument, times: int = 1, want: tuple[int, int] | None = None) -> int:
        """Make a raw system call; return its index in `Reply.calls`.

        `times` repeats it in the guest and stops after the first result outside `want` (lowest and highest
        value; default: any value >= 0).
        """
        if len(args) > MAX_ARGUMENTS:
            raise UsageError(f"a system call takes at most {MAX_ARGUMENTS} arguments, not {len(args)}")
        if times < 1:
            raise UsageError(f"times: {times} is less than 1")
        low, high = (0, U64 >> 1) if want is None else want
        body = self._pack("QQqq", nr, times, low, high)
        self._add(Op.CALL, body + b"".join(self._argument(each) for each in args))
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
        clip = NO_CALL if up_to_call is None else up_to_call
        self._add(Op.FETCH, self._pack("IIQQ", buffer.index, clip, offset, size))
        return self._next_data()

    def load(self, address: Argument, size: int) -> int:
        """Read memory with the actor's own instructions; a fault is recorded, its data is empty."""
        self._add(Op.LOAD, self._argument(address) + self._pack("Q", size))
        return self._next_data()

    def store(self, address: Argument, data: bytes) -> None:
        """Write memory with the actor's own instructions; a fault is recorded."""
        self._add(Op.STORE, self._argument(address) + self._pack("Q", len(data)) + padded(data))

    def sigaction(self, signum: int, how: SigactionHow, flags: int = 0) -> int:
        """Set what a signal does: 'record' its siginfo, 'ignore' or 'default'; the index of the result."""
        self._add(Op.SIGACTION, self._pack("IIQ", signum, _HOW[how], flags & U64))
        return self._next_call()

    def signals(self) -> None:
        """Take the siginfos recorded so far in this process into `Reply.signals`."""
        self._add(Op.SIGNALS, b"")

    def barrier(self, ident: int, parties: int) -> None:
        """Wait until `parties` actors have come to barrier `ident` (0..65535, fresh for each meeting)."""
        if not (0 <= ident <= 0xFFFF and 1 <= parties <= ACTORS):
            raise UsageError(f"no barrier {ident} for {parties} actors")
        self._add(Op.BARRIER, self._pack("IIQ", ident, parties, int(BARRIER_SECONDS * 1e9)))

    def fork(self, child: int) -> int:
        """Fork; the child becomes actor number `child` (see Agent.reserve); the index of the parent's result.

        The child is a sibling under the agent (CLONE_PARENT) and does none of the program's later operations.
        """
        if not 0 < child < ACTORS:
            raise UsageError(f"no actor number {child}")
        self._add(Op.FORK, self._pack("II", child, 0))
        self.forks.append((self.calls, child))
        return self._next_call()

    def send_fd(self, fd: Argument, ident: int) -> int:
        """Send a file descriptor to whoever receives `ident`; the index of the sendmsg's result."""
        self._add(Op.SEND_FD, self._argument(fd) + self._pack("II", ident & 0xFFFFFFFF, 0))
        return self._next_call()

    def receive_fd(self, ident: int) -> int:
        """Receive the file descriptor sent as `ident`; the index in `Reply.calls` of the new descriptor."""
        self._add(Op.RECEIVE_FD, self._pack("II", ident & 0xFFFFFFFF, 0))
        return self._next_call()

    def exit(self, status: int) -> None:
        """End the actor (a thread alone, when it is one); the reply has only `exited`."""
        self._add(Op.EXIT, self._pack("Q", status & U64))

    def read_file(self, path: str) -> int:
        """Read a whole file, for the agent's own use; the index in `Reply.data`, its call tells the errno."""
        buffer = self.string(path)
        self._add(Op.READ_FILE, self._pack("II", buffer.index, 0))
        self._next_call()
        return self._next_data()

    def settle(self) -> int:
        """Wait for the CRNG, sync, drop caches, for the agent's own use; the index of the result."""
        self._add(Op.SETTLE, b"")
        return self._next_call()

    def become(self, path: str) -> int:
        """Let the actor go on as the agent that another compiler made; the index of the result.

        The only operation of its program.
        """
        self._add(Op.BECOME, self._pack("II", self.string(path).index, 0))
        return self._next_call()

    @property
    def parts(self) -> tuple[Sequence[tuple[Buffer, bytes]], Sequence[bytes], Sequence[bytes]]:
        """Its buffers with their data, its pointers and its operations: for lab.guest.rounds."""
        return self._buffers, self._pointers, self._operations

    def encode(self) -> bytes:
        """Return the program's bytes. Raises UsageError when they are more than a frame holds."""
        parts = [self._pack("IIII", len(self._buffers), len(self._pointers), len(self._operations), 0)]
        for buffer, data in self._buffers:
            parts.append(self._pack("IIQQ", buffer.kind.value, 0, buffer.size, len(data)))
            parts.append(padded(data))
        encoded = b"".join([*parts, *self._pointers, *self._operations])
        if len(encoded) > MAX_FRAME:
            raise UsageError(f"a step of {len(encoded)} bytes is more than the {MAX_FRAME} of a frame")
        return encoded

    def _pack(self, layout: str, *values: int) -> bytes:
        return struct.pack(self._order + layout, *values)

    def _argument(self, value: Argument) -> bytes:
        match value:
            case Buffer():
                self._own(value)
                return self._pack("IIQ", 1, value.index, 0)
            case At(buffer, offset):
                self._own(buffer)
                return self._pack("IIQ", 1, buffer.index, offset & U64)
            case Result(call, offset):
                if not 0 <= call < self.calls:
                    raise UsageError(f"no call {call} before this point of the program")
                return self._pack("IIQ", 2, call, offset & U64)
            case int():
                if not -(1 << 63) <= value <= U64:
                    raise UsageError(f"{value:#x} does not fit an argument of 64 bits")
                return self._pack("IIQ", 0, 0, value & U64)

    def _add(self, op: Op, body: bytes) -> None:
        if len(self._operations) >= MAX_OPERATIONS:
            raise UsageError(f"more than {MAX_OPERATIONS} operations in one step")
        self._operations.append(self._pack("II", op, len(body)) + body)

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


@dataclass(frozen=True)
class Fault:
    """A signal that a memory access of the actor's own got."""

    signal: int
    code: int
    address: int
    during: Literal["call", "load", "store"]


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


_TROUBLE: Final = {
    1: "the program is malformed",
    2: "no memory for the program's buffers",
    3: "the other actors did not come to the barrier in time",
    4: "the program asked for something that the kernel refused",
    5: "the reply would be larger than a frame",
}
_DURING: Final[dict[int, Literal["call", "load", "store"]]] = {0: "call", Op.LOAD: "load", Op.STORE: "store"}


def decode_reply(payload: bytes, arch: Architecture) -> Reply:
    """Decode the payload of a DONE frame.

    Raises AgentError for nonsense and for what kept the agent from running the program.
    """
    reader = Reader(payload, arch)
    trouble, op, detail, calls, data, signals, exited, status = reader.take("IIqIIIIi")
    fault_signal, fault_code, during, address = reader.take("IiIQ")
    if trouble:
        why = _TROUBLE.get(trouble, f"trouble {trouble}")
        tail = f" (errno {-detail})" if detail < 0 else f" ({detail})" if detail else ""
        raise AgentError(f"{why}, at its operation {op}{tail}")
    if exited:
        reader.end()
        return Reply(exited=status)
    reply = Reply(
        calls=tuple(CallResult(*reader.take("qQ")) for _ in range(calls)),
        data=tuple(reader.padded() for _ in range(data)),
        signals=tuple(_signal(reader) for _ in range(signals)),
        fault=Fault(fault_signal, fault_code, address, _during(during)) if fault_signal else None,
    )
    reader.end()
    return reply


def _during(code: int) -> Literal["call", "load", "store"]:
    try:
        return _DURING[code]
    except KeyError:
        raise AgentError(f"the agent tells of a fault during operation {code}") from None


def _signal(reader: Reader) -> SignalInfo:
    signo, code, pid, uid, value, fd, _, band = reader.take("iiiIqiIq")
    return SignalInfo(signo, code, pid, uid, value, fd, band, reader.raw(128))


def _mapped(buffer: Buffer) -> int:
    """How many bytes of a buffer can be read."""
    return {Kind.UNMAPPED: 0, Kind.PARTIAL: buffer.size // 2}.get(buffer.kind, buffer.size)
