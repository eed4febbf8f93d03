# SPDX-License-Identifier: MIT
"""What sendmsg and recvmsg take: struct msghdr, iovecs and control messages.

These structs are the C library's names for what the kernel takes, so no uapi header has them; they are
made of words, ints and pointers, at the same places on every architecture of a word size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from lab.guest import wire
from lab.language.annotations import Fd, Int, Pid
from lab.language.composites import ListKind, RecordKind, kind_of
from lab.language.context import Context
from lab.language.kinds import FdKind, Kind
from lab.language.memory_kinds import Data, DataKind
from lab.language.nodes import MappingNode, Node, SequenceNode, text_of
from lab.language.plan import Call, Placed
from lab.language.reading import Reading
from lab.language.values import NOTHING, Several, Value


@dataclass(frozen=True)
class Credentials:
    """Who sends: struct ucred."""

    pid: Pid
    uid: Int = 0
    gid: Int = 0


@dataclass(frozen=True)
class Control:
    """One control message to send."""

    level: Int
    type: Int
    data: Data


@dataclass(frozen=True, kw_only=True)
class Received:
    """One control message that came: descriptors of SCM_RIGHTS, the sender of SCM_CREDENTIALS, its bytes."""

    level: Int
    type: Int
    fds: list[Fd] | None = None
    credentials: Credentials | None = None
    data: Annotated[bytes | None, DataKind()] = None


@dataclass(frozen=True)
class _Rights:
    """``{SCM_RIGHTS: [$fd]}``."""

    fds: Value

    def resolve(self, context: Context) -> Control:
        """Return the control message that hands descriptors over."""
        order = context.abi.arch.byteorder
        data = b"".join((int(fd) & 0xFFFFFFFF).to_bytes(4, order) for fd in self.fds.resolve(context))
        return Control(context.constant("SOL_SOCKET"), context.constant("SCM_RIGHTS"), data)


@dataclass(frozen=True)
class _Credentials:
    """``{SCM_CREDENTIALS: {pid: main, uid: 0, gid: 0}}``."""

    credentials: Value

    def resolve(self, context: Context) -> Control:
        """Return the control message that says who sends."""
        who = self.credentials.resolve(context)
        order = context.abi.arch.byteorder
        data = b"".join((int(part) & 0xFFFFFFFF).to_bytes(4, order) for part in (who.pid, who.uid, who.gid))
        return Control(context.constant("SOL_SOCKET"), context.constant("SCM_CREDENTIALS"), data)


@dataclass(frozen=True)
class ControlKind(Kind):
    """Control messages."""

    title: ClassVar[str] = "a list of control messages"
    forms: ClassVar[tuple[str, ...]] = (
        "[{SCM_RIGHTS: [$fd]}]",
        "[{SCM_CREDENTIALS: {pid: main, uid: 0, gid: 0}}]",
        "[{level: SOL_SOCKET, type: 1, data: {u32: 0}}]",
    )

    def read(self, node: Node, scope: Reading) -> Value:
        """Read the list."""
        if isinstance(node, SequenceNode):
            return Several(tuple(self._one(scope.given(item), scope) for item in node.value))
        return super().read(node, scope)

    def _one(self, node: Node, scope: Reading) -> Value:
        if not isinstance(node, MappingNode):
            scope.mistakes.add(node, f"a control message is a mapping, not {text_of(node, 40)}")
            return NOTHING
        pairs = scope.mistakes.pairs(node, "a control message")
        for word, kind, made in (
            ("SCM_RIGHTS", ListKind(of=FdKind()), _Rights),
            ("SCM_CREDENTIALS", RecordKind(record=Credentials), _Credentials),
        ):
            if word in pairs:
                scope.mistakes.known(pairs, (word,), f"{{{word}: …}}")
                scope.constant(word, node)
                scope.constant("SOL_SOCKET", node)
                with scope.at(f"{{{word}: …}}"):
                    return made(kind.parse(pairs[word][1], scope))
        return kind_of(Control).parse(node, scope)

    def schema(self) -> dict[str, Any]:
        """Return a list of objects."""
        return {"type": "array", "items": {"type": "object"}}


def _aligned(size: int, word: int) -> int:
    return -(-size // word) * word


def control_bytes(context: Context, control: Sequence[Control]) -> bytes:
    """Return control messages one after the other, each as long as CMSG_SPACE says."""
    word, order = context.abi.arch.word, context.abi.arch.byteorder
    out = b""
    for each in control:
        length = _aligned(word + 8, word) + len(each.data)
        head = length.to_bytes(word, order) + each.level.to_bytes(4, order) + each.type.to_bytes(4, order)
        one = head.ljust(_aligned(len(head), word), b"\0") + each.data
        out += one.ljust(_aligned(len(one), word), b"\0")
    return out


def control_records(context: Context, data: bytes) -> list[Received]:
    """Return what the kernel wrote; what is cut short at the end is left out (MSG_CTRUNC tells)."""
    word, order = context.abi.arch.word, context.abi.arch.byteorder
    found = []
    at = 0
    head = _aligned(word + 8, word)
    while at + head <= len(data):
        length = int.from_bytes(data[at : at + word], order)
        if length < head or at + length > len(data):
            break
        level = int.from_bytes(data[at + word : at + word + 4], order)
        kind = int.from_bytes(data[at + word + 4 : at + word + 8], order)
        found.append(_record(context, level, kind, data[at + head : at + length]))
        at += _aligned(length, word)
    return found


def _record(context: Context, level: int, kind: int, data: bytes) -> Received:
    order = context.abi.arch.byteorder
    ints = [int.from_bytes(data[at : at + 4], order, signed=True) for at in range(0, len(data) - 3, 4)]
    if level == context.constant("SOL_SOCKET"):
        if kind == context.constant("SCM_RIGHTS"):
            return Received(level=level, type=kind, fds=ints, data=data)
        if kind == context.constant("SCM_CREDENTIALS") and len(ints) == 3:
            return Received(level=level, type=kind, credentials=Credentials(*ints), data=data)
    return Received(level=level, type=kind, data=data)


def header(call: Call, *, name: Placed | None, iov: Sequence[Placed], control: Placed | None) -> Placed:
    """Put a struct msghdr with its iovecs into the program's memory."""
    word = call.abi.arch.word
    vector = _words(call, [part for place in iov for part in (place, place.size)])
    pointers: list[Placed | int] = [
        name or 0,
        name.size if name else 0,  # an int, and padding after it
        vector if iov else 0,
        len(iov),
        control or 0,
        control.size if control else 0,
        0,  # flags: an int
    ]
    if call.abi.arch.byteorder == "big" and word == 8:
        pointers[1] = (name.size if name else 0) << 32  # the int is the first half of its word
    return _words(call, pointers)


def _words(call: Call, words: Sequence[Placed | int]) -> Placed:
    """Put words into memory; memory among them becomes its address."""
    word, order = call.abi.arch.word, call.abi.arch.byteorder
    mask = (1 << (8 * word)) - 1
    raw = [each.argument if isinstance(each, Placed) else each for each in words]
    data = b"".join((each & mask if isinstance(each, int) else 0).to_bytes(word, order) for each in raw)
    made = call.place(data)
    assert isinstance(made.argument, wire.Buffer)
    for index, each in enumerate(raw):
        if isinstance(each, wire.At):
            call.program.pointer(made.argument, index * word, each.buffer, each.offset)
        elif isinstance(each, wire.Buffer):
            call.program.pointer(made.argument, index * word, each)
    return made
