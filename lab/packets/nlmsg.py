# SPDX-License-Identifier: MIT
"""Netlink datagrams: made and read in a target's byte order. Pure.

Numbers of the protocol itself (header layout, NLMSG_ERROR, NLMSGERR_ATTR_*) are the same on every
architecture and release, so they stand here; those of a family come from its header.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from lab.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ByteOrder = Literal["little", "big"]

ALIGN: Final = 4
HEADER_SIZE: Final = 16
GENL_HEADER_SIZE: Final = 4

NLMSG_NOOP: Final = 1
NLMSG_ERROR: Final = 2
NLMSG_DONE: Final = 3
NLMSG_OVERRUN: Final = 4

NLM_F_CAPPED: Final = 0x100  # in NLMSG_ERROR: the request's payload was not repeated
NLM_F_ACK_TLVS: Final = 0x200  # in NLMSG_ERROR and NLMSG_DONE: attributes follow

NLA_F_NESTED: Final = 1 << 15
NLA_F_NET_BYTEORDER: Final = 1 << 14
NLA_TYPE_MASK: Final = NLA_F_NET_BYTEORDER - 1

_POLICY: Final = {  # enum netlink_policy_type_attr
    1: "type",
    2: "min_value_s",
    3: "max_value_s",
    4: "min_value_u",
    5: "max_value_u",
    6: "min_length",
    7: "max_length",
    8: "policy_index",
    9: "policy_maxtype",
    10: "bitfield32_mask",
    12: "mask",
}
_SIGNED: Final = frozenset({"min_value_s", "max_value_s"})


class DatagramError(UsageError):
    """Bytes that are no netlink messages, or a message that cannot be made."""


@dataclass(frozen=True)
class Attribute:
    """One attribute: its number without the flag bits, whether NLA_F_NESTED was set, its bytes, its place."""

    type: int
    payload: bytes
    nested: bool = False
    offset: int = 0  # from the start of what was read


@dataclass(frozen=True)
class Message:
    """One message of a datagram. `length` is what its header says, `offset` where it begins there."""

    type: int
    flags: int
    seq: int
    pid: int
    payload: bytes
    length: int = 0
    offset: int = 0


@dataclass(frozen=True)
class Extack:
    """What NETLINK_EXT_ACK adds to an error or an acknowledgement; None where the kernel said nothing."""

    msg: str | None = None
    offset: int | None = None  # of the attribute in the request, from the request's header on
    cookie: bytes | None = None
    policy: Mapping[str, int] | None = None  # the rule that was broken
    miss_type: int | None = None  # the attribute that is missing
    miss_nest: int | None = None  # offset of the nest that it is missing from


@dataclass(frozen=True)
class Verdict:
    """What NLMSG_ERROR or NLMSG_DONE says: an error's positive number, 0 for success."""

    error: int
    extack: Extack = field(default_factory=Extack)
    request: Message | None = None  # its header, and its payload where the kernel repeats it


def aligned(size: int) -> int:
    """Return a size with the padding that follows it."""
    return -(-size // ALIGN) * ALIGN


def padded(data: bytes) -> bytes:
    """Return data with the zeros that follow it."""
    return data + bytes(aligned(len(data)) - len(data))


def _mark(order: ByteOrder) -> str:
    return "<" if order == "little" else ">"


def attribute(number: int, payload: bytes, order: ByteOrder, *, length: int | None = None) -> bytes:
    """Return one attribute with its padding; `number` may carry NLA_F_*, `length` lies about its size.

    Raises DatagramError for what 16 bits cannot say.
    """
    size = ALIGN + len(payload) if length is None else length
    if not 0 <= size <= 0xFFFF:
        raise DatagramError(
            f"attribute {number & NLA_TYPE_MASK} of {size} bytes: an attribute has at most 65535",
            hint="65531 bytes of data and 4 of header",
        )
    if not 0 <= number <= 0xFFFF:
        raise DatagramError(f"attribute number {number} does not fit 16 bits")
    return padded(struct.pack(_mark(order) + "HH", size, number) + payload)


def attributes(data: bytes, order: ByteOrder) -> list[Attribute]:
    """Return the attributes that data is made of.

    Raises DatagramError when a length does not fit, or when anything is left behind the last.
    """
    found = []
    at = 0
    while at < len(data):
        if len(data) - at < ALIGN:
            raise DatagramError(f"{len(data) - at} bytes behind the attributes, at offset {at}")
        size, number = struct.unpack_from(_mark(order) + "HH", data, at)
        if size < ALIGN or at + size > len(data):
            raise DatagramError(
                f"the attribute at offset {at} has length {size}, {len(data) - at} bytes are there"
            )
        found.append(
            Attribute(number & NLA_TYPE_MASK, data[at + ALIGN : at + size], bool(number & NLA_F_NESTED), at)
        )
        at += aligned(size)
    return found


def message(one: Message, order: ByteOrder, *, length: int | None = None) -> bytes:
    """Return one message with its padding; `length` lies about its size.

    Raises DatagramError for numbers that its header cannot hold.
    """
    size = HEADER_SIZE + len(one.payload) if length is None else length
    try:
        header = struct.pack(_mark(order) + "IHHII", size, one.type, one.flags, one.seq, one.pid)
    except struct.error:
        raise DatagramError(
            f"a message of length {size}, type {one.type}, flags {one.flags:#x}, seq {one.seq}, "
            f"pid {one.pid}: type and flags have 16 bits, the others 32"
        ) from None
    return padded(header + one.payload)


def messages(data: bytes, order: ByteOrder) -> list[Message]:
    """Return the messages of a datagram.

    Raises DatagramError when a length does not fit.
    """
    return list(_messages(data, order))


def _messages(data: bytes, order: ByteOrder) -> Iterator[Message]:
    at = 0
    while at < len(data):
        if len(data) - at < HEADER_SIZE:
            raise DatagramError(f"{len(data) - at} bytes at offset {at} of the datagram are no message")
        size, kind, flags, seq, pid = struct.unpack_from(_mark(order) + "IHHII", data, at)
        if size < HEADER_SIZE or at + size > len(data):
            raise DatagramError(
                f"the message at offset {at} of the datagram has length {size}, "
                f"{len(data) - at} bytes are there"
            )
        yield Message(kind, flags, seq, pid, data[at + HEADER_SIZE : at + size], size, at)
        at += aligned(size)


def genl_header(cmd: int, version: int, order: ByteOrder, *, reserved: int = 0) -> bytes:
    """Return a generic netlink header. Raises DatagramError for numbers that it cannot hold."""
    try:
        return struct.pack(_mark(order) + "BBH", cmd, version, reserved)
    except struct.error:
        raise DatagramError(
            f"a generic netlink header with cmd {cmd}, version {version}, reserved {reserved}: "
            "they have 8, 8 and 16 bits"
        ) from None


def verdict(one: Message, order: ByteOrder) -> Verdict | None:
    """Return what NLMSG_ERROR or NLMSG_DONE says; None for a message that is neither.

    Raises DatagramError when it is too short or its attributes are malformed. A dump's NLMSG_DONE carries an
    error number too, and from 6.x on an extack.
    """
    if one.type not in (NLMSG_ERROR, NLMSG_DONE):
        return None
    if one.type == NLMSG_DONE and not one.payload:
        return Verdict(0)
    if len(one.payload) < ALIGN:
        raise DatagramError(f"an error message of {len(one.payload)} bytes has no error number")
    error = -struct.unpack_from(_mark(order) + "i", one.payload)[0]
    rest = one.payload[4:]
    request = None
    if one.type == NLMSG_ERROR:
        request, rest = _request(one, rest, order)
    tlvs = attributes(rest, order) if one.flags & NLM_F_ACK_TLVS else []
    return Verdict(error, _extack(tlvs, order), request)


def _request(one: Message, rest: bytes, order: ByteOrder) -> tuple[Message, bytes]:
    """Take the repeated request off; what is left are attributes."""
    if len(rest) < HEADER_SIZE:
        raise DatagramError("an error message without the header of its request")
    size, kind, flags, seq, pid = struct.unpack_from(_mark(order) + "IHHII", rest)
    whole = not one.flags & NLM_F_CAPPED
    end = max(size, HEADER_SIZE) if whole else HEADER_SIZE
    payload = rest[HEADER_SIZE : min(end, len(rest))]
    return Message(kind, flags, seq, pid, payload, size), rest[aligned(end) :]


def _extack(tlvs: list[Attribute], order: ByteOrder) -> Extack:
    found: dict[str, object] = {}
    for tlv in tlvs:
        match tlv.type:
            case 1:
                found["msg"] = tlv.payload.rstrip(b"\0").decode(errors="replace")
            case 2:
                found["offset"] = number(tlv.payload, order)
            case 3:
                found["cookie"] = tlv.payload
            case 4:
                found["policy"] = _policy(tlv.payload, order)
            case 5:
                found["miss_type"] = number(tlv.payload, order)
            case 6:
                found["miss_nest"] = number(tlv.payload, order)
    return Extack(**found)  # type: ignore[arg-type]  # each key has its own type, see above


def _policy(data: bytes, order: ByteOrder) -> dict[str, int]:
    found = {}
    for each in attributes(data, order):
        name = _POLICY.get(each.type)
        if name is not None:
            found[name] = number(each.payload, order, signed=name in _SIGNED)
    return found


def number(data: bytes, order: ByteOrder, *, signed: bool = False) -> int:
    """Return an attribute's payload as the number that it is, of as many bytes as there are."""
    return int.from_bytes(data, order, signed=signed)
