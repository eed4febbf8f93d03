# SPDX-License-Identifier: MIT
"""Several programs as one: what is whose of the one reply."""

from __future__ import annotations

import pytest

from lab.arch import X86_64
from lab.errors import UsageError
from lab.guest.joint import Joint
from lab.guest.layouts import OpCall, OpFetch, OpLoop
from lab.guest.wire import CallResult, Fault, Op, Program, Reply, Result


def parts() -> list[Program]:
    """A call whose memory is fetched around a load; two calls, the second of what the first gave."""
    first, second = Program(X86_64), Program(X86_64)
    buffer = first.buffer(size=8)
    first.fetch(buffer)
    call = first.call(0, 3, buffer, 8)
    first.load(0x1000, 4)
    first.fetch(buffer, up_to_call=call)
    opened = second.call(257, second.string("/x"))
    second.call(3, Result(opened))
    second.load(0x2000, 4)
    return [first, second]


def test_fetches_come_once_after_all_rounds() -> None:
    joint = Joint(X86_64, parts(), 7)
    assert [op for op, _ in joint.operations] == [
        Op.LOOP, Op.CALL, Op.LOAD, Op.CALL, Op.CALL, Op.LOAD, Op.FETCH, Op.FETCH,
    ]  # fmt: skip
    assert joint.operations[0][1] == OpLoop(5, 0, 7)
    assert (joint.calls, joint.data) == (4, 4)


def test_what_refers_to_its_own_still_does() -> None:
    joint = Joint(X86_64, parts(), 7)
    close = joint.operations[4][1]
    assert isinstance(close, OpCall)
    assert close.args[0].index == 2  # the loop's own, read, openat: its third
    opened = joint.operations[3][1]
    assert isinstance(opened, OpCall)
    assert opened.args[0].index == 1
    last = joint.operations[-1][1]
    assert isinstance(last, OpFetch)
    assert (last.buffer, last.clip) == (0, 1)
    joint.encode()


def reply(done: int, completed: int, fault: Fault | None = None) -> Reply:
    calls = (CallResult(done, completed), *(CallResult(value, 1) for value in (8, 5, 0)))
    return Reply(calls=calls, data=(b"load", b"more", b"before", b"after"), fault=fault)


def test_each_gets_its_own_reply_in_its_own_order() -> None:
    joint = Joint(X86_64, parts(), 7)
    first, second = joint.replies(reply(5, 7))
    assert first.data == (b"before", b"load", b"after")
    assert [call.value for call in first.calls] == [8]
    assert second.data == (b"more",)
    assert [call.value for call in second.calls] == [5, 0]
    assert joint.completed(reply(5, 7)) == 7


@pytest.mark.parametrize(("done", "whose"), [(0, 0), (1, 0), (2, 1), (4, 1), (5, None)])
def test_who_stopped_it(done: int, whose: int | None) -> None:
    assert Joint(X86_64, parts(), 7).stopped(reply(done, 3)) == whose


@pytest.mark.parametrize(("operation", "whose"), [(1, 0), (2, 0), (3, 1), (5, 1), (6, 0), (7, 0)])
def test_whose_fault_it_is(operation: int, whose: int | None) -> None:
    fault = Fault(11, 1, 0, "load", operation)
    found = [each.fault for each in Joint(X86_64, parts(), 7).replies(reply(0, 0, fault))]
    assert found == [fault if whose == index else None for index in range(2)]


def test_what_no_loop_may_have() -> None:
    program = Program(X86_64)
    program.exit(0)
    with pytest.raises(UsageError, match="exit cannot be done in a loop"):
        Joint(X86_64, [program], 2)
