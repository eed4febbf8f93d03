# SPDX-License-Identifier: MIT
"""What an actor reads of /dev/kmsg in one go."""

from __future__ import annotations

from typing import Any

import pytest

from lab.abi import Abi
from lab.arch import X86_64
from lab.errors import UsageError
from lab.guest import wire
from lab.language.context import Context
from lab.language.plan import Call
from lab.verbs import table

AGAIN, OVERWRITTEN = -11, -32


def drain(*results: int | bytes, only: str = "") -> Any:
    call = Call(Context(Abi(X86_64, {"EAGAIN": 11}, {}, {}, {"read": 0})), wire.Program(X86_64), actor="main")
    plan = table()["kmsg_drain"].signature.function(call, 3, only=only, most=len(results))
    calls = [
        wire.CallResult(each, 0) if isinstance(each, int) else wire.CallResult(len(each), 1)
        for each in results
    ]
    data = tuple(b"" if isinstance(each, int) else each for each in results)
    return plan.decode(wire.Reply(calls=tuple(calls), data=data))


def test_the_end_is_no_error() -> None:
    got = drain(b"6,7,1,-;one\n", rb"14,8,2,-;two\x0alines" + b"\n A=b\n", AGAIN)
    assert (got.returns, got.errno, got.missing) == (2, None, 0)
    assert [(each.level, each.facility, each.text) for each in got.records] == [
        (6, 0, "one"),
        (6, 1, "two\nlines"),
    ]
    assert got.records[1].fields == {"A": "b"}
    assert got.records[1].raw == rb"14,8,2,-;two\x0alines" + b"\n A=b\n"


def test_only_some_are_kept_and_all_are_counted() -> None:
    got = drain(b"6,7,1,-;ours\n", b"6,9,2,-;theirs\n", b"6,10,3,-;ours too\n", AGAIN, only="^ours")
    assert (got.returns, got.missing) == (2, 1)


def test_numbers_that_fall_are_noticed() -> None:
    assert drain(b"6,7,1,-;one\n", b"6,7,1,-;one\n").missing == 1


def test_an_error_does_not_end_it() -> None:
    got = drain(OVERWRITTEN, b"6,9,2,-;later\n", AGAIN)
    assert (got.returns, got.errno, len(got.records)) == (None, 32, 1)


def test_mistakes() -> None:
    with pytest.raises(UsageError, match="no regular expression"):
        drain(only="(")
    with pytest.raises(UsageError, match=r"no /dev/kmsg"):
        drain(b"hello")


def test_syslog_reads_into_room_of_its_own() -> None:
    context = Context(Abi(X86_64, {}, {}, {}, {"syslog": 103}))
    made = Call(context, wire.Program(X86_64), actor="main")
    plan = table()["syslog"].signature.function(made, "SYSLOG_ACTION_READ_ALL", len_=64)
    reply = wire.Reply(calls=(wire.CallResult(5, 1),), data=(b"<6>hi",))
    assert (plan.decode(reply).returns, plan.decode(reply).data) == (5, b"<6>hi")
    made = Call(context, wire.Program(X86_64), actor="main")
    plan = table()["syslog"].signature.function(made, "SYSLOG_ACTION_CONSOLE_LEVEL", len_=4)
    assert plan.decode(wire.Reply(calls=(wire.CallResult(0, 1),), data=())).returns == 0
