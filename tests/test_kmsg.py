# SPDX-License-Identifier: MIT
"""Records of /dev/kmsg, as kernels write them."""

from __future__ import annotations

import pytest

from lab.errors import AgentError
from lab.guest.kmsg import KernelMessage, parse_record


def test_a_plain_record() -> None:
    assert parse_record(b"6,339,5140900,-;NET: Registered protocol family 10\n") == KernelMessage(
        6, 0, 339, 5140900, "NET: Registered protocol family 10"
    )


def test_facility_and_priority_share_a_number() -> None:
    message = parse_record(b"12,356,14211681,-;lab: hi; there\n")
    assert (message.priority, message.facility, message.text) == (4, 1, "lab: hi; there")


def test_a_device_dictionary() -> None:
    message = parse_record(
        b"4,700,1,-;lab_sysfs lab.0: stored\n SUBSYSTEM=platform\n DEVICE=+platform:lab.0\n"
    )
    assert message.text == "lab_sysfs lab.0: stored"
    assert message.fields == {"SUBSYSTEM": "platform", "DEVICE": "+platform:lab.0"}


def test_escapes_and_continuation() -> None:
    message = parse_record(rb"6,1,2,c;two\x0alines \x5c \xc3\xa9" + b"\n")
    assert (message.text, message.continues) == ("two\nlines \\ é", True)


def test_fields_to_come_are_ignored() -> None:
    assert parse_record(b"6,1,2,-,caller=T1;x\n").text == "x"


@pytest.mark.parametrize("record", [b"", b"hello", b"6,1,2;x", b"6,a,2,-;x", b"6,1,2,-"])
def test_nonsense(record: bytes) -> None:
    with pytest.raises(AgentError):
        parse_record(record)
