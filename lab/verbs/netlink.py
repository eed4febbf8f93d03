# SPDX-License-Identifier: MIT
"""Netlink: messages as data, datagrams that are read as messages, generic netlink families by name."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from lab.language.context import Context
from lab.language.data import form
from lab.packets import nlmsg as protocol
from lab.packets.nlvalues import Attrs, Messages
from lab.packets.nlwishes import ReceivedKind, View, views
from lab.verbs import Call, Fd, Flags, Int, Memory, Outcome, Plan, Size, Text, Tree, verb, wire
from lab.verbs.sockets import DATAGRAM, Datagram, datagram_from

CTRL_ID = 16  # GENL_ID_CTRL: the family that knows the others
CTRL_GETFAMILY = 3
CTRL_FAMILY_ID, CTRL_FAMILY_NAME, CTRL_VERSION, CTRL_HDRSIZE, CTRL_MAXATTR, CTRL_OPS, CTRL_GROUPS = range(
    1, 8
)
GROUP_NAME, GROUP_ID = 1, 2
OP_ID, OP_FLAGS = 1, 2
MOST_DATAGRAMS = 64
DRAIN_SIZE = 32768  # what the kernel fills at most in one go of a dump


@form
def nlmsg(context: Context, messages: Messages) -> bytes:
    """Make one netlink message, or a list of them in one datagram.

    Each has `type`, `flags`, `seq`, `pid`, and its content: `data`, then `attrs`; or `genl: {cmd, version,
    attrs}`. `length` lies about its size. Attributes are `NAME: data`; `NAME:` alone is a flag,
    `NAME: {nested: {…}}` holds attributes; a list of mappings where a name comes twice.
    """
    return b"".join(message.pack(context) for message in messages)


@form
def attributes(context: Context, attrs: Attrs) -> bytes:  # noqa: ARG001 - packed when it was resolved
    """Make netlink attributes as plain data: in an attribute they nest without NLA_F_NESTED."""
    return attrs


@dataclass(frozen=True, kw_only=True)
class NetlinkGot(Datagram):
    """A datagram and the messages that it is made of."""

    messages: Annotated[Any, ReceivedKind()] = None


@dataclass(frozen=True, kw_only=True)
class Drained(Outcome):
    """All that was there: `returns` datagrams, `sizes` their bytes; `errno` of the first that failed.

    `flags` are those of all messages, or'ed: NLM_F_DUMP_INTR may be in any of them.
    """

    sizes: list[Int] | None = None
    flags: Flags | None = None
    messages: Annotated[Any, ReceivedKind()] = None


@dataclass(frozen=True, kw_only=True)
class Family(Outcome):
    """A generic netlink family: its number, its multicast groups by name, its commands {id, flags}."""

    bare: ClassVar[Mapping[str, str]] = {"int": "id"}

    id: Int | None = None
    version: Int | None = None
    hdrsize: Int | None = None
    maxattr: Int | None = None
    groups: Tree | None = None
    ops: Tree | None = None


@verb
def netlink_receive(
    call: Call, fd: Fd, *, size: Size | None = None, buffer: Memory | None = None, flags: Flags = 0
) -> Plan[NetlinkGot]:
    """Receive one datagram and read it as netlink messages: recvfrom(2). `size` is 64 KiB if not given."""
    into = call.room(buffer, size, default=DATAGRAM)
    index, data, sender = datagram_from(call, fd, into, into.size if size is None else size, flags)
    return call.plan(
        NetlinkGot, index, data=data, sender=sender, messages=lambda reply: views(data(reply), call)
    )


@verb
def netlink_drain(
    call: Call, fd: Fd, *, most: Int = MOST_DATAGRAMS, size: Size = DRAIN_SIZE
) -> Plan[Drained]:
    """Receive all datagrams that are there, `most` at most, without waiting: recvfrom(2) with MSG_DONTWAIT.

    A dump's answers are all there. An error on the way (ENOBUFS) does not end it.
    """
    dont_wait = call.constant("MSG_DONTWAIT")
    gone = -call.constant("EAGAIN")
    taken = []
    for _ in range(most):
        into = call.room(None, size)
        index = call.syscall("recvfrom", fd, into, size, dont_wait, 0, 0, once=True)
        taken.append((index, into.fetch(call, up_to_call=index)))

    def decode(reply: wire.Reply) -> Drained:
        if reply.exited is not None:
            return Drained(**call.result(reply))
        results = [(reply.calls[index], take(reply)) for index, take in taken]
        failed = [each.errno for each, _ in results if each.errno is not None and each.value != gone]
        pieces = [data for each, data in results if each.errno is None]
        messages = _joined([views(piece, call) for piece in pieces])
        sizes = [each.value for each, _ in results if each.errno is None]
        errno = failed[0] if failed else None
        flags = 0
        for each in messages:
            flags |= each["flags"] if isinstance(each, View) else 0
        returns = len(sizes) if errno is None else None
        return Drained(returns=returns, errno=errno, sizes=sizes, flags=flags, messages=messages)

    return Plan(decode)


def _joined(found: list[list[View] | str | None]) -> list[View] | str:
    """Return the messages of all datagrams; a text when one of these is none."""
    messages: list[View] = []
    for each in found:
        if isinstance(each, str):
            return each
        messages += each or []
    return messages


@verb
def genl_family(call: Call, name: Text) -> Plan[Family]:
    """Ask the kernel for a generic netlink family by its name, on a socket of its own.

    `$family` (or `$family.id`) is its number for messages, `$family.groups.NAME` that of a multicast group.
    `errno` is also what the kernel answers: ENOENT for a family that is not there.
    """
    order = call.abi.arch.byteorder
    asked = protocol.attribute(CTRL_FAMILY_NAME, name.encode() + b"\0", order)
    payload = protocol.genl_header(CTRL_GETFAMILY, 1, order) + asked
    request = call.place(
        protocol.message(protocol.Message(CTRL_ID, call.constant("NLM_F_REQUEST"), 1, 0, payload), order)
    )
    into = call.room(None, DRAIN_SIZE)
    kind = call.constant("SOCK_RAW") | call.constant("SOCK_CLOEXEC")
    family = call.constant("AF_NETLINK")
    fd = call.syscall("socket", family, kind, call.constant("NETLINK_GENERIC"), once=True)
    sent = call.syscall("sendto", wire.Result(fd), request, request.size, 0, 0, 0, once=True)
    dont_wait = call.constant("MSG_DONTWAIT")
    got = call.syscall("recvfrom", wire.Result(fd), into, DRAIN_SIZE, dont_wait, 0, 0, once=True)
    take = into.fetch(call, up_to_call=got)
    call.syscall("close", wire.Result(fd), once=True)

    def decode(reply: wire.Reply) -> Family:
        if reply.exited is not None:
            return Family(**call.result(reply))
        failed = next((each for each in (fd, sent, got) if reply.calls[each].errno is not None), None)
        if failed is not None:
            return Family(errno=reply.calls[failed].errno)
        return _family(protocol.messages(take(reply), order)[0], order)

    return Plan(decode)


def _family(message: protocol.Message, order: protocol.ByteOrder) -> Family:
    said = protocol.verdict(message, order)
    if said is not None:
        return Family(errno=said.error)
    found = {each.type: each.payload for each in protocol.attributes(message.payload[4:], order)}
    number = protocol.number(found[CTRL_FAMILY_ID], order)
    return Family(
        returns=number,
        id=number,
        version=protocol.number(found.get(CTRL_VERSION, b""), order),
        hdrsize=protocol.number(found.get(CTRL_HDRSIZE, b""), order),
        maxattr=protocol.number(found.get(CTRL_MAXATTR, b""), order),
        groups={
            each[GROUP_NAME].rstrip(b"\0").decode(): protocol.number(each[GROUP_ID], order)
            for each in _nested(found.get(CTRL_GROUPS, b""), order)
        },
        ops=[
            {"id": protocol.number(each[OP_ID], order), "flags": protocol.number(each[OP_FLAGS], order)}
            for each in _nested(found.get(CTRL_OPS, b""), order)
        ],
    )


def _nested(data: bytes, order: protocol.ByteOrder) -> list[dict[int, bytes]]:
    """Return an array of nests, each as its attributes by number."""
    return [
        {each.type: each.payload for each in protocol.attributes(entry.payload, order)}
        for entry in protocol.attributes(data, order)
    ]
