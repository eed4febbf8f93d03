# SPDX-License-Identifier: MIT
"""Several steps' programs as one, which does them again and again and looks at the clock between the rounds.

So the host has no part in what happens between two looks. What a round brings back to the lab is fetched
once, after the last one: whoever uses a channel does not fetch either.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from lab.errors import UsageError
from lab.guest.layouts import MAX_OPERATIONS, OpAccess
from lab.guest.wire import At, Op, Program, Reply, moved

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lab.arch import Architecture
    from lab.guest.layouts import Record

WARM: Final = 2  # rounds before the first look: page faults, caches of the kernel's allocators
LOOKS: Final = 9  # at the clock before the first round: eight times what a look costs
LEAST, _MOST = 8, 64  # rounds
_ROOM: Final = 46 << 10  # bytes of the reply that an actor has at hand: beyond it each page is a fault
_RAW_CLOCK: Final = 4  # CLOCK_MONOTONIC_RAW, everywhere
_STAMP: Final = 16  # bytes of a struct timespec of 64 bits
_REPEATABLE: Final = (Op.CALL, Op.LOAD, Op.STORE, Op.FETCH, Op.SIGACTION)
_WORDS: Final = (1, 2, 4, 8)  # sizes of single accesses


@dataclass(frozen=True)
class _Part:
    """One step's program: its operations, and where its buffers begin among all."""

    operations: tuple[tuple[Op, Record | None], ...]
    buffers: int
    calls: int


class Rounds(Program):
    """The program of some rounds; raises UsageError for what cannot be done in rounds."""

    def __init__(self, arch: Architecture, programs: Sequence[Program], clock: int) -> None:
        """`programs` are the steps of a round, in order; `clock` is the number of clock_gettime."""
        super().__init__(arch)
        self._clock = clock
        self._parts = [self._adopt(program) for program in programs]
        self._calls: list[list[int]] = []  # of each round: where each part's calls begin
        self._loads: list[list[int]] = []  # of each round: where each part's loads are among the data
        self._fetches: list[list[int]] = []  # of each part
        self.rounds = self._affordable()
        self._stamps = self.buffer(bytes(_STAMP * (LOOKS + self.rounds)))
        self._looks = 0
        self._write()

    def _adopt(self, program: Program) -> _Part:
        for op, _ in program.operations:
            if op not in _REPEATABLE:
                raise UsageError(f"{op.name.lower()} cannot be done in rounds")
        return _Part(tuple(program.operations), self.adopt(program), program.calls)

    def _affordable(self) -> int:
        """Return how many rounds the reply has room for, and the program."""
        count, size = 1, 16
        for part in self._parts:
            for op, what in part.operations:
                count += op is not Op.FETCH
                size += 16 if op in (Op.CALL, Op.SIGACTION) else 0
                size += 8 + what.size if op is Op.LOAD and isinstance(what, OpAccess) else 0
        rounds = min(_MOST, MAX_OPERATIONS // (2 * count), _ROOM // size - WARM)
        if rounds < LEAST:
            raise UsageError("a round does more, or brings back more, than an actor has room for")
        return rounds

    def _write(self) -> None:
        for _ in range(WARM):
            self._round()
        self._look()
        for _ in range(LOOKS - 1):
            self._nothing()
            self._look()
        for _ in range(self.rounds):
            self._round()
            self._look()
        last = self._calls[-1]
        for part, calls in zip(self._parts, last, strict=True):
            self._fetches.append(
                [self._again(op, what, part, calls) for op, what in part.operations if op is Op.FETCH]
            )
        self._taken = self.fetch(self._stamps)

    def _look(self) -> None:
        self.call(self._clock, _RAW_CLOCK, At(self._stamps, _STAMP * self._looks))
        self._looks += 1

    def _nothing(self) -> None:
        """Do what a round's loads and stores cost an actor besides: to survive faults it makes some calls."""
        for part, calls in zip(self._parts, self._calls[-1], strict=True):
            for op, what in part.operations:
                if isinstance(what, OpAccess):
                    # Memory is copied, of which a byte is left here. A register is not to be touched.
                    left = int(what.size not in _WORDS)
                    self._again(op, replace(what, size=left), part, calls)

    def _round(self) -> None:
        self._calls.append([])
        self._loads.append([])
        for part in self._parts:
            calls = self.calls
            self._calls[-1].append(calls)
            for op, what in part.operations:
                if op is not Op.FETCH:
                    index = self._again(op, what, part, calls)
                    if op is Op.LOAD:
                        self._loads[-1].append(index)

    def _again(self, op: Op, what: Record | None, part: _Part, calls: int) -> int:
        """Add an operation once more; returns its index among the data, of those that give some."""
        self._add(op, moved(what, part.buffers, calls))
        if op in (Op.CALL, Op.SIGACTION):
            self._next_call()
        return self._next_data() if op in (Op.FETCH, Op.LOAD) else 0

    # --- what came of it --------------------------------------------------------------------------------

    def replies(self, reply: Reply) -> list[list[Reply]]:
        """Return for each round what each of its programs would have been answered.

        What is fetched is the last round's: that the calls gave the same in each is for the caller to see.
        """
        found = []
        for calls, loads in zip(self._calls, self._loads, strict=True):
            left = iter(loads)
            found.append(
                [
                    Reply(
                        calls=reply.calls[begin : begin + part.calls],
                        data=tuple(self._data(reply, part, iter(fetches), left)),
                        fault=reply.fault,
                        exited=reply.exited,
                    )
                    for part, begin, fetches in zip(self._parts, calls, self._fetches, strict=True)
                ]
            )
        return found

    def _data(
        self, reply: Reply, part: _Part, fetches: Iterator[int], loads: Iterator[int]
    ) -> Iterator[bytes]:
        for op, _ in part.operations:
            if op is Op.FETCH:
                yield reply.data[next(fetches)]
            elif op is Op.LOAD:
                yield reply.data[next(loads)]

    def times(self, reply: Reply) -> tuple[list[int], list[int]]:
        """Return nanoseconds: what each look took with nothing done, and what each round took with one."""
        layout = struct.iter_unpack(f"{self._order}qq", reply.data[self._taken])
        stamps = [seconds * 1_000_000_000 + nanoseconds for seconds, nanoseconds in layout]
        spans = [after - before for before, after in pairwise(stamps)]
        return spans[: LOOKS - 1], spans[LOOKS - 1 :]


__all__ = ["LEAST", "LOOKS", "WARM", "Rounds"]
