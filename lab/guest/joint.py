# SPDX-License-Identifier: MIT
"""Several steps' programs as one, which does them in turn, again and again, in the guest.

What they bring back of memory is fetched once, after the last round.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.guest.wire import Op, Program, Reply, moved

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lab.arch import Architecture


@dataclass(frozen=True)
class _Part:
    """One of the programs: where what it has lies among all."""

    calls: range  # of the reply
    data: tuple[int, ...]  # of the reply, in the program's own order
    operations: range  # of the round, among all
    fetches: range  # after it

    def did(self, operation: int) -> bool:
        """Tell whether an operation of all is one of its own."""
        return operation in self.operations or operation in self.fetches


class Joint(Program):
    """Some programs in turn, `times` times, until something does not come out as wanted.

    UsageError for what no loop may have, and for too much.
    """

    def __init__(self, arch: Architecture, programs: Sequence[Program], times: int) -> None:
        """`programs` are what a round is made of, in order; a barrier and the like belong to none of them."""
        super().__init__(arch)
        self.times = times
        buffers = [self.adopt(program) for program in programs]
        loaded: list[dict[int, int]] = []  # of each: its own index among the data, and the one among all
        begins: list[int] = []
        operations: list[range] = []
        with self.loop(times) as self._loop:
            begin = self._begin = len(self.operations)
            for program, before in zip(programs, buffers, strict=True):
                begins.append(self.calls)
                loaded.append(self._take(program, before, self.calls, fetches=False))
                end = begin + sum(op is not Op.FETCH for op, _ in program.operations)
                operations.append(range(begin, end))
                begin = end
        fetches: list[range] = []
        for program, before, calls, data in zip(programs, buffers, begins, loaded, strict=True):
            begin = len(self.operations)
            data.update(self._take(program, before, calls, fetches=True))
            fetches.append(range(begin, len(self.operations)))
        self._parts = [
            _Part(
                range(calls, calls + program.calls), tuple(data[index] for index in sorted(data)), each, last
            )
            for program, calls, data, each, last in zip(
                programs, begins, loaded, operations, fetches, strict=True
            )
        ]

    def _take(self, program: Program, buffers: int, calls: int, *, fetches: bool) -> dict[int, int]:
        """Add a program's fetches, or all else of it; return which data of its own is which of all."""
        found: dict[int, int] = {}
        own = 0
        for op, what in program.operations:
            brings = op in (Op.FETCH, Op.LOAD)
            if (op is Op.FETCH) == fetches:
                self._add(op, moved(what, buffers, calls))
                if brings:
                    found[own] = self._next_data()
            own += brings
        if not fetches:
            self.calls += program.calls
        return found

    def completed(self, reply: Reply) -> int:
        """Return how many rounds were done as wanted."""
        return reply.calls[self._loop].completed

    def stopped(self, reply: Reply) -> int | None:
        """Return which program it was that did not come out as wanted, None: all did."""
        done = reply.calls[self._loop].value
        at = self._begin + done
        return next((index for index, part in enumerate(self._parts) if at in part.operations), None)

    def replies(self, reply: Reply) -> list[Reply]:
        """Return what each program would have been answered, in the last round; a fault is whose it was."""
        return [
            Reply(
                calls=reply.calls[part.calls.start : part.calls.stop],
                data=tuple(reply.data[index] for index in part.data),
                fault=reply.fault if reply.fault and part.did(reply.fault.operation) else None,
                exited=reply.exited,
            )
            for part in self._parts
        ]


__all__ = ["Joint"]
