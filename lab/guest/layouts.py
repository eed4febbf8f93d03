# SPDX-License-Identifier: MIT
"""rootfs/wire.h in Python: every number, word and struct that goes over the agent's port.

tests/test_layouts.py reads that header and compares all of it with what is here: neither side changes alone.
A struct is a record with the header's fields in the header's order; it packs and unpacks itself, in the
guest's byte order and nothing between the fields.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, Any, ClassVar, Final, Self, get_args

PROTOCOL: Final = 6
MAGIC: Final = 0x43484C42  # "CHLB"
MAX_FRAME: Final = 32 << 20  # bytes of payload
MAX_BUFFERS: Final = 1024
MAX_OPERATIONS: Final = 4096
MAX_ARGUMENTS: Final = 6
ACTORS: Final = 96  # numbers 0..95; 0 is the agent's own 'lab'
NONE: Final = 0xFFFFFFFF  # no actor, no call
OWN_CALL: Final = 1 << 32  # the number of a call is one of OwnCall
SETUP_CAPS: Final = 1
UNKNOWN_STATUS: Final = -1


class FrameType(IntEnum):
    """What a frame is; a reply has the id of the request that it answers."""

    HELLO = 1
    QUIESCE = 2
    SPAWN = 3
    SUBMIT = 4
    FINISH = 5
    BLOCKED = 6
    STAYS = 7
    UPCALL = 8
    REAP = 9
    STATE = 10
    TAINTED = 11
    READY = 64  # unasked: the agent is up
    MESSAGES = 65  # unasked: records of /dev/kmsg
    EXIT = 66  # unasked: an actor died
    DONE = 67  # a program ended; the id is that of its SUBMIT
    ANSWER = 68  # to everything but SUBMIT
    ERROR = 69  # the agent refuses; the text says why


class InnerFrame(IntEnum):
    """Frames between the processes of the agent: never on the port."""

    SETUP = 32
    THREAD = 33
    SETUP_DONE = 34
    REPORT = 35
    CLAIM = 36


class BufferKind(IntEnum):
    """How a buffer lies in the actor's memory."""

    PLAIN = 0  # ends exactly at a guard page
    UNMAPPED = 1  # an address where nothing ever is
    READONLY = 2  # holds its data; may not be written
    PARTIAL = 3  # the first half (rounded down) is mapped, the rest is beyond the guard
    CODE = 4  # may be executed, not written
    KEPT = 5  # all of a program stay when it is over, until one is let go or their process ends


class OpCode(IntEnum):
    """Operations of a program."""

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
    INVOKE = 15
    LOOP = 16
    WANT = 17
    PEEK = 18
    POKE = 19
    ADDRESS = 20
    LET_GO = 21
    NAMES = 22  # the agent's own: what has a name in the kernel


class ArgumentKind(IntEnum):
    """Where an argument comes from."""

    NUMBER = 0
    BUFFER = 1
    RESULT = 2


class Trouble(IntEnum):
    """What keeps an actor from running a program."""

    MALFORMED = 1
    MEMORY = 2
    BARRIER = 3
    REFUSED = 4
    TOO_LARGE = 5


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
    UMOUNT2 = 9
    UNLINKAT = 10
    GETDENTS64 = 11
    MEMBARRIER = 12


class SignalHow(IntEnum):
    """What a signal does to an actor."""

    DEFAULT = 0
    IGNORE = 1
    RECORD = 2


class SetupStep(IntEnum):
    """What an actor does to be as it was wanted."""

    START = 0
    BOUNDS = 1
    GROUPS = 2
    GID = 3
    UID = 4
    CAPS = 5
    SIGMASK = 6
    STACK = 7
    CLONE = 8


class WaitOutcome(IntEnum):
    """What became of a wait."""

    YES = 0
    ENDED = 1
    NO = 2


# How struct has the types of the header; of an array of bytes its length stands before the letter.
_LETTERS: Final = {"uint8_t": "B", "uint32_t": "I", "int32_t": "i", "uint64_t": "Q", "int64_t": "q"}
_PIECES: Final = {"uint8_t": "s", "char": "s"}

U32 = Annotated[int, "uint32_t"]
I32 = Annotated[int, "int32_t"]
U64 = Annotated[int, "uint64_t"]
I64 = Annotated[int, "int64_t"]
Tail = Annotated[bytes, "uint8_t[]"]  # what follows the struct, packed already


class Record:
    """A struct of the header; its subclasses are frozen dataclasses."""

    layout: ClassVar[str] = ""  # for struct, without the byte order
    types: ClassVar[dict[str, str]] = {}  # each field's type, as the header has it
    tailed: ClassVar[bool] = False  # its last field is what follows the struct

    def __init_subclass__(cls) -> None:
        cls.types = {name: _spelled(kind) for name, kind in cls.__annotations__.items()}
        cls.layout = "".join(_letters(kind) for kind in cls.__annotations__.values())
        cls.tailed = [*cls.types.values()][-1].endswith("[]")

    def pack(self, order: str) -> bytes:
        """Return its bytes; `order` is struct's letter."""
        *values, last = self._values()
        if isinstance(last, tuple):
            tail = b"".join(each.pack(order) for each in last)
        elif self.tailed:
            tail = last
        else:
            values.append(last)
            tail = b""
        return struct.pack(order + self.layout, *values) + tail

    def _values(self) -> Iterator[Any]:
        for name in self.types:
            value = getattr(self, name)
            if isinstance(value, Record):
                yield from value._values()  # noqa: SLF001 - of the same class
            else:
                yield value

    @classmethod
    def unpack(cls, order: str, data: bytes) -> Self:
        """Return the record that these bytes are."""
        return cls(*struct.unpack(order + cls.layout, data))

    @classmethod
    def nbytes(cls) -> int:
        """Return how many bytes it has, without a tail."""
        return struct.calcsize(f"={cls.layout}")


def _spelled(kind: object) -> str:
    if isinstance(kind, type) and issubclass(kind, Record):
        return f"struct {c_name(kind)}"
    return str(get_args(kind)[1])


def _letters(kind: object) -> str:
    if isinstance(kind, type) and issubclass(kind, Record):
        return kind.layout
    name, _, count = str(get_args(kind)[1]).rstrip("]").partition("[")
    if "[" in str(get_args(kind)[1]):
        return f"{count}{_PIECES[name]}" if count else ""
    return _LETTERS[name]


def c_name(record: type[Record]) -> str:
    """Return a record's name in the header: OpCall is op_call."""
    name = record.__name__
    return "".join(f"_{c.lower()}" if c.isupper() and i else c.lower() for i, c in enumerate(name))


@dataclass(frozen=True)
class Frame(Record):
    """The head of every frame."""

    magic: U32
    type: U32
    length: U32
    id: U32
    life: U32
    reserved: U32 = 0


# --- programs -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Submit(Record):
    """Whose program it is that follows."""

    number: U32
    reserved: U32 = 0


@dataclass(frozen=True)
class Program(Record):
    """The head of a program."""

    buffers: U32
    pointers: U32
    ops: U32
    reserved: U32 = 0


@dataclass(frozen=True)
class Buffer(Record):
    """Memory of a program; its data follows, padded."""

    kind: U32
    reserved: U32
    size: U64
    used: U64


@dataclass(frozen=True)
class Pointer(Record):
    """An address that is written into a buffer."""

    where: U32
    to: U32
    offset: U64
    to_offset: U64


@dataclass(frozen=True)
class Op(Record):
    """The head of an operation; its body follows."""

    code: U32
    length: U32


@dataclass(frozen=True)
class Argument(Record):
    """An argument of an operation."""

    kind: U32
    index: U32
    value: U64


Arguments = Annotated[tuple[Argument, ...], "struct argument[]"]


@dataclass(frozen=True)
class OpCall(Record):
    """A system call."""

    nr: U64
    times: U64
    low: I64
    high: I64
    args: Arguments = ()


@dataclass(frozen=True)
class OpInvoke(Record):
    """A call of what is code at an address."""

    address: Argument
    times: U64
    low: I64
    high: I64
    args: Arguments = ()


@dataclass(frozen=True)
class OpLoop(Record):
    """So many operations that follow, again and again."""

    ops: U32
    reserved: U32
    times: U64


@dataclass(frozen=True)
class OpWant(Record):
    """Bytes that memory must hold."""

    address: Argument
    clip: U32
    reserved: U32
    size: U64
    data: Tail = b""


@dataclass(frozen=True)
class OpPoke(Record):
    """A number that is written."""

    address: Argument
    value: Argument
    size: U64


@dataclass(frozen=True)
class OpFetch(Record):
    """Bytes of a buffer, brought back."""

    buffer: U32
    clip: U32
    offset: U64
    size: U64


@dataclass(frozen=True)
class OpAccess(Record):
    """A load or store."""

    address: Argument
    size: U64
    data: Tail = b""


@dataclass(frozen=True)
class OpSigaction(Record):
    """What a signal does."""

    signum: U32
    how: U32
    flags: U64


@dataclass(frozen=True)
class OpBarrier(Record):
    """A meeting of actors."""

    ident: U32
    parties: U32
    patience: U64


@dataclass(frozen=True)
class OpPair(Record):
    """One number."""

    value: U32
    reserved: U32 = 0


@dataclass(frozen=True)
class OpExit(Record):
    """The end of the actor."""

    status: U64


@dataclass(frozen=True)
class OpSendFd(Record):
    """A descriptor that is sent."""

    fd: Argument
    ident: U32
    reserved: U32 = 0


# --- replies ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reply(Record):
    """The head of a reply."""

    trouble: U32
    op: U32
    detail: I64
    calls: U32
    data: U32
    signals: U32
    exited: U32
    status: I32
    fault_signal: U32
    fault_code: I32
    fault_during: U32
    fault_address: U64


@dataclass(frozen=True)
class CallResult(Record):
    """What a call gave."""

    value: I64
    completed: U64


@dataclass(frozen=True)
class SignalRecord(Record):
    """A signal that came."""

    signo: I32
    code: I32
    pid: I32
    uid: U32
    value: I64
    fd: I32
    reserved: U32
    band: I64
    raw: Annotated[bytes, "uint8_t[128]"]


# --- requests and answers -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Hello(Record):
    """The first words to a guest."""

    wall_clock: U64
    jitter: U32
    seed_length: U32
    seed: Tail = b""


@dataclass(frozen=True)
class HelloAnswer(Record):
    """Who answered; strings follow."""

    protocol: U32
    page_size: U32
    cpus: U32
    clock_errno: I32
    seed_errno: I32
    standby: U32
    tainted: U64
    boot_ns: U64
    standby_pid: U32
    free_kib: U32


@dataclass(frozen=True)
class Setup(Record):
    """How an actor is to be."""

    flags: U32
    uid: U32
    gid: U32
    thread_of: U32
    caps: U64
    sigmask: U64
    name: Annotated[bytes, "char[16]"]


@dataclass(frozen=True)
class SetupAnswer(Record):
    """What came of it."""

    status: I64
    step: U32
    number: U32
    pid: U32
    tid: U32
    start_ns: U64


@dataclass(frozen=True)
class WaitRequest(Record):
    """What is waited for, and how long."""

    program: U32
    reserved: U32
    patience: U64


@dataclass(frozen=True)
class WaitAnswer(Record):
    """What became of the wait; a string follows where it was about sleep."""

    outcome: U32
    state: U32
    nr: I64


@dataclass(frozen=True)
class UpcallAnswer(Record):
    """A program that the kernel started; strings follow."""

    outcome: U32
    number: U32
    pid: U32
    uid: U32
    gid: U32
    ppid: U32


@dataclass(frozen=True)
class Leftover(Record):
    """A process that does not die; strings follow."""

    number: U32
    pid: U32


@dataclass(frozen=True)
class ExitNotice(Record):
    """The end of an actor."""

    number: U32
    status: I32
    pid: U32
    reserved: U32


@dataclass(frozen=True)
class Ready(Record):
    """The agent is up."""

    protocol: U32
    max_frame: U32
    actors: U32
    reserved: U32
