# SPDX-License-Identifier: MIT
"""Events as they lie in memory, and what they are read as."""

import struct

import pytest

from lab.abi import Abi
from lab.abi.layout import Field, Struct
from lab.arch import ARMHF, S390X, X86_64, Architecture
from lab.guest import wire
from lab.language.context import Context
from lab.language.plan import Call
from lab.verbs import table
from lab.verbs.input import InputEvent


def call(arch: Architecture) -> Call:
    time = 2 * arch.word
    fields = (
        Field("time", 0, time, "bytes", time),
        Field("type", time, 2, "uint"),
        Field("code", time + 2, 2, "uint"),
        Field("value", time + 4, 4, "int"),
    )
    abi = Abi(arch, {}, {}, {"input_event": Struct("input_event", time + 8, fields)}, {"read": 0})
    return Call(Context(abi), wire.Program(arch), actor="main")


@pytest.mark.parametrize("arch", [X86_64, ARMHF, S390X], ids=lambda arch: arch.name)
def test_events_are_read_as_the_target_stores_them(arch: Architecture) -> None:
    order, word = "<" if arch.byteorder == "little" else ">", "Q" if arch.word == 8 else "I"
    data = struct.pack(f"{order}{word}{word}HHi", 5, 6, 1, 30, -1)
    plan = table()["input_read"].signature.function(call(arch), 3)
    # Half an event at the end is none: no kernel gives one.
    reply = wire.Reply(calls=(wire.CallResult(len(data) + 3, 1),), data=(data + b"abc",))
    assert plan.decode(reply).events == [InputEvent(type=1, code=30, value=-1, sec=5, usec=6)]


def test_a_read_that_failed_has_no_events() -> None:
    plan = table()["input_read"].signature.function(call(X86_64), 3)
    got = plan.decode(wire.Reply(calls=(wire.CallResult(-11, 0),), data=(b"",)))
    assert (got.errno, got.events) == (11, [])
