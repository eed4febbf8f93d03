# SPDX-License-Identifier: MIT
"""Programs again and again in the guest, with all that each round brings back.

A loop (lab/guest/joint.py) keeps what its last round gave. Here each round has operations of its own: the
host sees what came each time, and any wish can be looked at.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.errors import UsageError
from lab.guest.layouts import MAX_OPERATIONS
from lab.guest.wire import Op, Program, Reply, moved

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lab.arch import Architecture


@dataclass(frozen=True)
class _Part:
    """One program in one round: where what it has lies among all."""

    calls: range
    data: range
    operations: range


def most_rounds(programs: Sequence[Program]) -> int:
    """Return how often programs can be done in turn, with all that each round brings back."""
    return (MAX_OPERATIONS - 2) // max(sum(len(program.operations) for program in programs), 1)


class Unrolled(Program):
    """Some programs in turn, `times` times, until something does not come out as wanted.

    They use the same memory each time. UsageError for what no loop may have, and for too much.
    """

    def __init__(
        self,
        arch: Architecture,
        programs: Sequence[Program],
        times: int,
        *,
        meeting: tuple[int, int, float] | None = None,
    ) -> None:
        """`programs` are what a round is made of, in order; `meeting` is a barrier before the first round."""
        super().__init__(arch)
        self.times = times
        most = most_rounds(programs)
        if times > most:
            raise UsageError(
                f"times: {times} is more than {most}: what is expected is looked at by the host, not "
                "(as `returns`, `errno`, or data that is given to the byte) by the guest"
            )
        if meeting is not None:
            self.barrier(*meeting)
        buffers = [self.adopt(program) for program in programs]
        self._rounds: list[list[_Part]] = []
        with self.loop(1) as self._loop:
            self._begin = len(self.operations)
            for _ in range(times):
                self._rounds.append(
                    [self._take(program, before) for program, before in zip(programs, buffers, strict=True)]
                )

    def _take(self, program: Program, buffers: int) -> _Part:
        calls, data, operations = self.calls, self.data, len(self.operations)
        for op, what in program.operations:
            self._add(op, moved(what, buffers, calls))
            if op in (Op.FETCH, Op.LOAD):
                self._next_data()
        self.calls += program.calls
        return _Part(
            range(calls, self.calls), range(data, self.data), range(operations, len(self.operations))
        )

    def stopped(self, reply: Reply) -> tuple[int, int] | None:
        """Return in which round which program did not come out as wanted, None: all did."""
        if reply.calls[self._loop].completed:
            return None
        at = self._begin + reply.calls[self._loop].value
        return next(
            (number, index)
            for number, parts in enumerate(self._rounds)
            for index, part in enumerate(parts)
            if at in part.operations
        )

    def completed(self, reply: Reply) -> int:
        """Return how many rounds were done as wanted."""
        stopped = self.stopped(reply)
        return self.times if stopped is None else stopped[0]

    def rounds(self, reply: Reply) -> Iterator[list[Reply]]:
        """Yield for each round that was begun what each of its programs would have been answered."""
        stopped = self.stopped(reply)
        for parts in self._rounds if stopped is None else self._rounds[: stopped[0] + 1]:
            yield [
                Reply(
                    calls=reply.calls[part.calls.start : part.calls.stop],
                    data=reply.data[part.data.start : part.data.stop],
                    fault=reply.fault if reply.fault and reply.fault.operation in part.operations else None,
                )
                for part in parts
            ]


__all__ = ["Unrolled", "most_rounds"]
