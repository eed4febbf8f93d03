# SPDX-License-Identifier: MIT
"""Programs whose every round is brought back: what is whose of the one reply."""

from __future__ import annotations

import pytest

from lab.arch import X86_64
from lab.errors import UsageError
from lab.guest.layouts import OpCall, OpFetch, OpLoop
from lab.guest.unrolled import Unrolled
from lab.guest.wire import CallResult, Fault, Op, Program, Reply, Result


def parts() -> list[Program]:
    """A call whose memory is fetched; two calls, the second of what the first gave."""
    first, second = Program(X86_64), Program(X86_64)
    buffer = first.buffer(size=8)
    call = first.call(0, 3, buffer, 8)
    first.fetch(buffer, up_to_call=call)
    opened = second.call(257, second.string("/x"))
    second.call(3, Result(opened))
    second.load(0x2000, 4)
    return [first, second]


ROUND = [Op.CALL, Op.FETCH, Op.CALL, Op.CALL, Op.LOAD]


def test_each_round_has_operations_of_its_own_and_the_same_memory() -> None:
    made = Unrolled(X86_64, parts(), 3, meeting=(5, 2, 1.0))
    assert [op for op, _ in made.operations] == [Op.BARRIER, Op.LOOP, *ROUND * 3]
    assert made.operations[1][1] == OpLoop(15, 0, 1)
    assert len(made.buffers) == 2
    assert (made.calls, made.data) == (1 + 9, 6)
    fetches = [what for op, what in made.operations if op is Op.FETCH]
    assert [(each.buffer, each.clip) for each in fetches if isinstance(each, OpFetch)] == [
        (0, 1),
        (0, 4),
        (0, 7),
    ]
    closes = [what for _, what in made.operations[5::5]]
    assert [each.args[0].index for each in closes if isinstance(each, OpCall)] == [2, 5, 8]
    made.encode()


def reply(done: int, completed: int, fault: Fault | None = None) -> Reply:
    calls = (CallResult(done, completed), *(CallResult(100 + number, 1) for number in range(9)))
    return Reply(calls=calls, data=tuple(b"%d" % number for number in range(6)), fault=fault)


def test_each_program_has_its_own_of_each_round() -> None:
    made = Unrolled(X86_64, parts(), 3)
    assert made.stopped(reply(15, 1)) is None
    assert made.completed(reply(15, 1)) == 3
    found = list(made.rounds(reply(15, 1)))
    assert [[call.value for call in each.calls] for each in found[1]] == [[103], [104, 105]]
    assert [[each.data for each in replies] for replies in found] == [
        [(b"0",), (b"1",)],
        [(b"2",), (b"3",)],
        [(b"4",), (b"5",)],
    ]


@pytest.mark.parametrize(
    ("done", "where"), [(0, (0, 0)), (4, (0, 1)), (5, (1, 0)), (8, (1, 1)), (14, (2, 1))]
)
def test_what_stopped_it(done: int, where: tuple[int, int]) -> None:
    made = Unrolled(X86_64, parts(), 3)
    assert made.stopped(reply(done, 0)) == where
    assert made.completed(reply(done, 0)) == where[0]
    assert len(list(made.rounds(reply(done, 0)))) == where[0] + 1


def test_a_fault_is_whose_it_was() -> None:
    made = Unrolled(X86_64, parts(), 3)
    fault = Fault(11, 1, 0x2000, "load", 1 + 9)
    first, second = list(made.rounds(reply(9, 0, fault)))
    assert [each.fault for each in (*first, *second)] == [None, None, None, fault]


def test_what_cannot_be_repeated_or_is_too_much() -> None:
    program = Program(X86_64)
    program.signals()
    with pytest.raises(UsageError, match="signals cannot be done in a loop"):
        Unrolled(X86_64, [program], 2)
    with pytest.raises(UsageError, match="times: 819 is more than 818"):
        Unrolled(X86_64, parts(), 819)
    Unrolled(X86_64, parts(), 818).encode()
