# SPDX-License-Identifier: MIT
"""Sockets of any family: what their system calls take and give."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from lab.guest import wire
from lab.language.kinds import IntKind
from lab.language.memory import PlacedValue
from lab.language.memory_kinds import DataKind, MemoryKind
from lab.language.nodes import Node, ScalarNode
from lab.language.reading import Reading
from lab.language.values import Value
from lab.packets.msghdr import Control, ControlKind, Received, control_bytes, control_records, header
from lab.verbs import (
    Call,
    Content,
    Fd,
    Flags,
    Int,
    Memory,
    Outcome,
    Placed,
    Plan,
    Size,
    Tree,
    verb,
)
from lab.verbs.addresses import decode
from lab.verbs.files import Got, Opened, taken

ADDRESS_ROOM = 128  # sizeof(struct sockaddr_storage)
DATAGRAM = 65536
_MSG_TRUNC = 0x20  # on every architecture


@dataclass(frozen=True, kw_only=True)
class Accepted(Opened):
    """A connection, and who is at its other end."""

    name: Tree | None = None


@dataclass(frozen=True, kw_only=True)
class Pair(Outcome):
    """The two ends of a socket pair."""

    bare: ClassVar[Mapping[str, str]] = {"int": "returns"}

    first: Fd | None = None
    second: Fd | None = None


@dataclass(frozen=True, kw_only=True)
class Named(Outcome):
    """A socket's address: {family, …} and the parts of its kind; `length` as the kernel says."""

    name: Tree | None = None
    length: Int | None = None


@dataclass(frozen=True, kw_only=True)
class Option(Outcome):
    """A socket option: its bytes, as a number where they are 1, 2, 4 or 8, and how many they are."""

    bare: ClassVar[Mapping[str, str]] = {"int": "value", "data": "data"}

    value: Int | None = None
    data: Annotated[bytes | None, DataKind()] = None
    length: Int | None = None


@dataclass(frozen=True, kw_only=True)
class Datagram(Got):
    """What was received, and from whom."""

    sender: Tree | None = None


@dataclass(frozen=True, kw_only=True)
class GotMessage(Datagram):
    """The same with the message's flags (MSG_TRUNC, MSG_CTRUNC …) and its control messages."""

    flags: Flags | None = None
    control: list[Received] | None = None


@dataclass(frozen=True)
class OptionValueKind(MemoryKind):
    """An option's value: a number alone is an int."""

    title: ClassVar[str] = "an int, or memory: {buffer: …}, {bad: …}, {struct: …}, data forms"

    def parse(self, node: Node, scope: Reading) -> Value:
        """Read a number as the int that it points to; all else as memory."""
        node = scope.given(node)
        if isinstance(node, ScalarNode):
            return PlacedValue(_IntMemory(IntKind().parse(node, scope)))
        return super().parse(node, scope)


@dataclass(frozen=True)
class _IntMemory:
    """A number as the target's int."""

    value: Value

    def resolve(self, context: Any) -> bytes:
        """Return its bytes."""
        number = int(self.value.resolve(context)) & 0xFFFFFFFF
        return number.to_bytes(4, context.abi.arch.byteorder)


OptionValue = Annotated[Placed, OptionValueKind()]


@verb
def socket(call: Call, family: Int, *, type_: Flags, protocol: Int = 0) -> Plan[Opened]:
    """Make a socket.

    See socket(2). `type` may carry SOCK_NONBLOCK and SOCK_CLOEXEC.
    """
    return call.plan(Opened, call.syscall("socket", family, type_, protocol))


@verb
def socketpair(call: Call, family: Int, *, type_: Flags, protocol: Int = 0) -> Plan[Pair]:
    """Make two sockets that are connected.

    See socketpair(2).
    """
    ends = call.place(bytes(8))
    index = call.syscall("socketpair", family, type_, protocol, ends)
    take = ends.fetch(call)

    def end(reply: wire.Reply, at: int) -> int | None:
        data = take(reply)
        if data is None or call.result(reply, index).get("errno") is not None:
            return None
        return int.from_bytes(data[at : at + 4], call.abi.arch.byteorder, signed=True)

    return call.plan(Pair, index, first=lambda reply: end(reply, 0), second=lambda reply: end(reply, 4))


@verb
def bind(call: Call, fd: Fd, *, address: Content, size: Size | None = None) -> Plan[Outcome]:
    """Give a socket its address.

    See bind(2). `size` (of the address) is by default all of it.
    """
    return call.plan(Outcome, call.syscall("bind", fd, address, address.size if size is None else size))


@verb
def connect(call: Call, fd: Fd, *, address: Content, size: Size | None = None) -> Plan[Outcome]:
    """Connect a socket, or set where it sends to.

    See connect(2).
    """
    return call.plan(Outcome, call.syscall("connect", fd, address, address.size if size is None else size))


@verb
def listen(call: Call, fd: Fd, *, backlog: Int = 16) -> Plan[Outcome]:
    """Take connections.

    See listen(2).
    """
    return call.plan(Outcome, call.syscall("listen", fd, backlog))


@verb
def accept(call: Call, fd: Fd, *, flags: Flags = 0) -> Plan[Accepted]:
    """Wait for a connection.

    See accept4(2). `name` is the address of who connected.
    """
    name, length = _room_for_address(call)
    index = call.syscall("accept4", fd, name, length, flags)
    return call.plan(Accepted, index, name=_address(call, name, length, index))


@verb
def getsockname(call: Call, fd: Fd, *, size: Size = ADDRESS_ROOM) -> Plan[Named]:
    """Tell a socket's own address.

    See getsockname(2). `size` is the room for it.
    """
    return _name(call, "getsockname", fd, size)


@verb
def getpeername(call: Call, fd: Fd, *, size: Size = ADDRESS_ROOM) -> Plan[Named]:
    """Tell the address of a socket's other end.

    See getpeername(2).
    """
    return _name(call, "getpeername", fd, size)


def _name(call: Call, syscall: str, fd: int, size: int) -> Plan[Named]:
    name, length = _room_for_address(call, size)
    index = call.syscall(syscall, fd, name, length)
    said = _int32(call, length)
    return call.plan(Named, index, name=_address(call, name, length, index), length=said)


@verb
def shutdown(call: Call, fd: Fd, *, how: Int) -> Plan[Outcome]:
    """End a connection's one or both directions.

    See shutdown(2).
    """
    return call.plan(Outcome, call.syscall("shutdown", fd, how))


@verb
def setsockopt(
    call: Call, fd: Fd, *, level: Int, option: Int, value: OptionValue, size: Size | None = None
) -> Plan[Outcome]:
    """Set a socket's option.

    See setsockopt(2). A `value` that is a number is an int.
    """
    length = value.size if size is None else size
    return call.plan(Outcome, call.syscall("setsockopt", fd, level, option, value, length))


@verb
def getsockopt(
    call: Call, fd: Fd, *, level: Int, option: Int, size: Size = 4, buffer: Memory | None = None
) -> Plan[Option]:
    """Get a socket's option.

    See getsockopt(2). `size` is the room for it, an int by default.
    """
    into = call.room(buffer, size)
    length = call.place(size.to_bytes(4, call.abi.arch.byteorder))
    index = call.syscall("getsockopt", fd, level, option, into, length)
    take, said = into.fetch(call), _int32(call, length)

    def data(reply: wire.Reply) -> bytes | None:
        found, most = take(reply), said(reply)
        return found[:most] if isinstance(found, bytes) else None

    def value(reply: wire.Reply) -> int | None:
        found = data(reply)
        if found is None or len(found) not in (1, 2, 4, 8):
            return None
        return int.from_bytes(found, call.abi.arch.byteorder, signed=True)

    return call.plan(Option, index, value=value, data=data, length=said)


@verb
def send(call: Call, fd: Fd, *, data: Content, size: Size | None = None, flags: Flags = 0) -> Plan[Outcome]:
    """Send to where the socket is connected.

    See send(2), which is sendto(2) without an address.
    """
    length = data.size if size is None else size
    return call.plan(Outcome, call.syscall("sendto", fd, data, length, flags, 0, 0, moves=taken(length)))


@verb
def sendto(
    call: Call,
    fd: Fd,
    *,
    data: Content,
    to: Content,
    size: Size | None = None,
    flags: Flags = 0,
    to_size: Size | None = None,
) -> Plan[Outcome]:
    """Send to an address.

    See sendto(2).
    """
    length = data.size if size is None else size
    to_length = to.size if to_size is None else to_size
    index = call.syscall("sendto", fd, data, length, flags, to, to_length, moves=taken(length))
    return call.plan(Outcome, index)


@verb
def recv(
    call: Call, fd: Fd, *, size: Size | None = None, buffer: Memory | None = None, flags: Flags = 0
) -> Plan[Got]:
    """Receive.

    See recv(2), which is recvfrom(2) without an address. `size` is 64 KiB when nothing is said.
    """
    into = call.room(buffer, size, default=DATAGRAM)
    length = into.size if size is None else size
    moves = _moves(length, flags)
    index = call.syscall("recvfrom", fd, into, length, flags, 0, 0, gives=into, moves=moves)
    return call.plan(Got, index, data=into.fetch(call, up_to_call=index))


@verb
def recvfrom(
    call: Call, fd: Fd, *, size: Size | None = None, buffer: Memory | None = None, flags: Flags = 0
) -> Plan[Datagram]:
    """Receive, and tell from whom.

    See recvfrom(2). `size` is 64 KiB when nothing is said.
    """
    into = call.room(buffer, size, default=DATAGRAM)
    index, data, sender = datagram_from(call, fd, into, into.size if size is None else size, flags)
    return call.plan(Datagram, index, data=data, sender=sender)


def datagram_from(
    call: Call, fd: int, into: Placed, size: int, flags: int
) -> tuple[int, Callable[[wire.Reply], Any], Callable[[wire.Reply], Any]]:
    """Add a recvfrom to the program: its index, and what takes data and sender out of the reply."""
    name, length = _room_for_address(call)
    moves = _moves(size, flags)
    index = call.syscall("recvfrom", fd, into, size, flags, name, length, gives=into, moves=moves)
    return index, into.fetch(call, up_to_call=index), _address(call, name, length, index)


@verb
def sendmsg(
    call: Call,
    fd: Fd,
    *,
    iov: list[Content],
    to: Content | None = None,
    control: Annotated[list[Control] | None, ControlKind()] = None,
    flags: Flags = 0,
) -> Plan[Outcome]:
    """Send data from several places, with control messages.

    See sendmsg(2).
    """
    parts = control_bytes(call, control or [])
    space = call.place(parts) if parts else None
    message = header(call, name=to, iov=iov, control=space)
    count = sum(piece.size for piece in iov)
    return call.plan(Outcome, call.syscall("sendmsg", fd, message, flags, moves=taken(count)))


@verb
def recvmsg(
    call: Call,
    fd: Fd,
    *,
    size: Size | None = None,
    iov: list[Memory] | None = None,
    control_size: Size = 256,
    flags: Flags = 0,
) -> Plan[GotMessage]:
    """Receive to one place of `size` (64 KiB) or to several (`iov`), with control messages.

    See recvmsg(2).
    """
    places = iov if iov is not None else [call.room(None, size, default=DATAGRAM)]
    name = call.place(bytes(ADDRESS_ROOM))
    control = call.place(bytes(control_size)) if control_size else None
    message = header(call, name=name, iov=places, control=control)
    moves = _moves(sum(place.size for place in places), flags)
    index = call.syscall("recvmsg", fd, message, flags, moves=moves)
    taken = [place.fetch(call) for place in places]
    head = message.fetch(call)
    named = name.fetch(call)
    controlled = control.fetch(call) if control is not None else None
    word = call.abi.arch.word

    def field(reply: wire.Reply, at: int, size: int) -> int | None:
        data = head(reply)
        if data is None or call.result(reply, index).get("errno") is not None:
            return None
        return int.from_bytes(data[at : at + size], call.abi.arch.byteorder)

    def sender(reply: wire.Reply) -> Any:
        length = field(reply, word, 4)
        return None if not length else decode(call, named(reply)[:length])

    def records(reply: wire.Reply) -> list[Received] | None:
        length = field(reply, 5 * word, word)
        if length is None or controlled is None:
            return None
        return control_records(call, controlled(reply)[:length])

    return call.plan(
        GotMessage,
        index,
        data=_gathered(call, taken, index),
        sender=sender,
        flags=lambda reply: field(reply, 6 * word, 4),
        control=records,
    )


def _moves(room: int, flags: int) -> tuple[int, int] | None:
    """Return how much a receiving call may give: with MSG_TRUNC the datagram's length, whatever the room."""
    return None if flags & _MSG_TRUNC else (0, room)


def _gathered(
    call: Call, taken: Sequence[Callable[[wire.Reply], Any]], index: int
) -> Callable[[wire.Reply], bytes | None]:
    """Join what lies in several places, cut to what the call returned."""

    def data(reply: wire.Reply) -> bytes | None:
        returned = call.result(reply, index).get("returns")
        parts = [take(reply) for take in taken]
        if returned is None:
            return None
        return b"".join(part for part in parts if isinstance(part, bytes))[:returned]

    return data


def _room_for_address(call: Call, size: int = ADDRESS_ROOM) -> tuple[Placed, Placed]:
    """Memory for an address, and the int that says how long it is."""
    return call.place(bytes(size)), call.place(size.to_bytes(4, call.abi.arch.byteorder))


def _int32(call: Call, place: Placed) -> Callable[[wire.Reply], int | None]:
    """Bring an int back."""
    take = place.fetch(call)

    def number(reply: wire.Reply) -> int | None:
        data = take(reply)
        return None if data is None else int.from_bytes(data, call.abi.arch.byteorder, signed=True)

    return number


def _address(
    call: Call, name: Placed, length: Placed, index: int
) -> Callable[[wire.Reply], dict[str, Any] | None]:
    """Bring an address back, as long as the kernel says that it is; None where the call failed."""
    take, said = name.fetch(call), _int32(call, length)

    def address(reply: wire.Reply) -> dict[str, Any] | None:
        data, size = take(reply), said(reply)
        if data is None or size is None or call.result(reply, index).get("errno") is not None:
            return None
        return decode(call, data[:size])

    return address
