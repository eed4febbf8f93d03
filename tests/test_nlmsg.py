# SPDX-License-Identifier: MIT
"""Netlink datagrams are made and read in either byte order."""

import contextlib
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.packets import nlmsg
from lab.packets.nlmsg import ByteOrder, DatagramError, Message

ORDERS = ["little", "big"]
orders = st.sampled_from(ORDERS)
small = st.binary(max_size=40)


@given(orders, st.lists(st.tuples(st.integers(0, 0x3FFF), st.booleans(), small), max_size=5))
def test_attributes_come_back(order: ByteOrder, wanted: list[Any]) -> None:
    data = b"".join(
        nlmsg.attribute(number | (nlmsg.NLA_F_NESTED if nested else 0), payload, order)
        for number, nested, payload in wanted
    )
    assert len(data) % 4 == 0
    found = [(each.type, each.nested, each.payload) for each in nlmsg.attributes(data, order)]
    assert found == wanted


@given(orders, st.lists(st.tuples(st.integers(0, 0xFFFF), st.integers(0, 0xFFFFFFFF), small), max_size=5))
def test_messages_come_back(order: ByteOrder, wanted: list[Any]) -> None:
    data = b"".join(nlmsg.message(Message(kind, 5, seq, 7, payload), order) for kind, seq, payload in wanted)
    found = nlmsg.messages(data, order)
    assert [(each.type, each.seq, each.payload) for each in found] == wanted
    assert all(each.flags == 5 and each.pid == 7 for each in found)


@given(orders, small)
def test_whatever_came_is_read_or_refused(order: ByteOrder, data: bytes) -> None:
    for read in (nlmsg.messages, nlmsg.attributes):
        with contextlib.suppress(DatagramError):  # and nothing else
            read(data, order)


def test_a_header_as_the_kernel_has_it() -> None:
    made = nlmsg.message(Message(0x10, 0x305, 9, 42, b"abc"), "little")
    assert made == struct.pack("<IHHII", 19, 0x10, 0x305, 9, 42) + b"abc\0"


def test_a_length_may_lie() -> None:
    assert nlmsg.message(Message(1, 0, 0, 0, b""), "big", length=99)[:4] == b"\0\0\0\x63"
    assert nlmsg.attribute(1, b"abcd", "little", length=3)[:2] == b"\3\0"
    with pytest.raises(DatagramError, match="length 99, 16 bytes are there"):
        nlmsg.messages(nlmsg.message(Message(1, 0, 0, 0, b""), "big", length=99), "big")


def test_what_a_header_cannot_hold_is_said() -> None:
    with pytest.raises(DatagramError, match="type and flags have 16 bits"):
        nlmsg.message(Message(0x10000, 0, 0, 0, b""), "little")
    with pytest.raises(DatagramError, match="at most 65535"):
        nlmsg.attribute(1, bytes(65532), "little")
    with pytest.raises(DatagramError, match="8, 8 and 16 bits"):
        nlmsg.genl_header(256, 1, "little")


def verdict(message: Message, order: ByteOrder) -> nlmsg.Verdict:
    said = nlmsg.verdict(message, order)
    assert said is not None
    return said


def error_message(
    order: ByteOrder, errno: int, *, request: bytes = b"", flags: int = 0, tlvs: bytes = b""
) -> Message:
    mark = "<" if order == "little" else ">"
    head = struct.pack(mark + "i", -errno) + struct.pack(mark + "IHHII", 16 + len(request), 0x10, 1, 3, 0)
    body = nlmsg.padded(head + (b"" if flags & nlmsg.NLM_F_CAPPED else request))
    return Message(nlmsg.NLMSG_ERROR, flags, 3, 0, body + tlvs)


@pytest.mark.parametrize("order", ORDERS)
def test_an_error_with_all_that_an_extack_can_say(order: ByteOrder) -> None:
    def number(n: int, size: int = 4) -> bytes:
        return n.to_bytes(size, order)

    def tlv(kind: int, data: bytes) -> bytes:
        return nlmsg.attribute(kind, data, order)

    policy = tlv(1, number(2)) + tlv(4, number(1, 8)) + tlv(5, number(100, 8)) + tlv(2, b"\xff" * 8)
    tlvs = tlv(1, b"no\0") + tlv(2, number(20)) + tlv(3, b"\1\2") + tlv(4, policy) + tlv(5, number(7))
    said = nlmsg.verdict(
        error_message(order, 34, request=b"12345", flags=nlmsg.NLM_F_ACK_TLVS, tlvs=tlvs), order
    )
    assert said is not None
    assert said.error == 34
    assert said.request is not None
    assert said.request.payload == b"12345"
    assert said.extack.msg == "no"
    assert said.extack.offset == 20
    assert said.extack.cookie == b"\1\2"
    assert said.extack.miss_type == 7
    assert said.extack.miss_nest is None
    assert said.extack.policy == {"type": 2, "min_value_u": 1, "max_value_u": 100, "min_value_s": -1}


def test_an_acknowledgement_that_is_capped() -> None:
    tlvs = nlmsg.attribute(3, b"cookie", "little")
    flags = nlmsg.NLM_F_CAPPED | nlmsg.NLM_F_ACK_TLVS
    said = verdict(error_message("little", 0, request=b"x" * 100, flags=flags, tlvs=tlvs), "little")
    assert said.request is not None
    assert (said.error, said.extack.cookie, said.request.payload) == (0, b"cookie", b"")


def test_done_carries_an_error_too() -> None:
    done = Message(nlmsg.NLMSG_DONE, 2, 1, 0, struct.pack("<i", -4))
    assert verdict(done, "little").error == 4
    assert verdict(Message(nlmsg.NLMSG_DONE, 2, 1, 0, b""), "little").error == 0
    assert nlmsg.verdict(Message(0x10, 0, 1, 0, b""), "little") is None


def test_a_short_error_is_refused() -> None:
    with pytest.raises(DatagramError, match="no error number"):
        nlmsg.verdict(Message(nlmsg.NLMSG_ERROR, 0, 1, 0, b"\1"), "little")
    with pytest.raises(DatagramError, match="without the header"):
        nlmsg.verdict(Message(nlmsg.NLMSG_ERROR, 0, 1, 0, bytes(8)), "little")
