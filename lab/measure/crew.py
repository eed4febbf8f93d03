# SPDX-License-Identifier: MIT
"""Processes that run a scenario over and over side by side, as pytest -n has them: scenarios a second."""

from __future__ import annotations

import multiprocessing
import signal
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from lab.errors import HostError, LabError
from lab.progress import Progress
from lab.run.lab import Lab
from lab.run.record import Verdict

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess

    from lab.guest.machine import Guest
    from lab.kernels.model import Target
    from lab.run.ready import Wishes
    from lab.scenario import Scenario
    from lab.settings import Settings

_WARM = 3  # scenarios before anything is counted: what is made at first use is not what is measured
OFTEN = 100  # times that a scenario is run, roughly: its modules are loaded ahead
_START_SECONDS = 300.0
_END_SECONDS = 20.0
_DOUBTED = 3  # exit status


@dataclass(frozen=True)
class Shift:
    """What one worker did in one stretch of time."""

    scenarios: int
    in_place: int  # those of them whose QEMU had been another guest's
    seconds: float


class Crew:
    """Workers that wait until they are told to run for a while; a context manager that ends them."""

    def __init__(
        self, workers: int, settings: Settings, wishes: Wishes, target: Target, scenario: Scenario
    ) -> None:
        self._processes: list[BaseProcess] = []
        self._pipes: list[Connection] = []
        context = multiprocessing.get_context("spawn")  # a fork would have the caller's threads half
        for _ in range(workers):
            ours, theirs = context.Pipe()
            process = context.Process(
                target=_work, args=(theirs, settings, wishes, target, scenario), daemon=True
            )
            process.start()
            theirs.close()
            self._processes.append(process)
            self._pipes.append(ours)

    def __enter__(self) -> Self:
        try:
            for pipe in self._pipes:
                _answer(pipe, _START_SECONDS)
        except BaseException:
            self._end(0.0)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._end(0.0 if kind else _END_SECONDS)

    def _end(self, patience: float) -> None:
        """Give the workers so many seconds to end in order. Those that are killed take their QEMUs along.

        Raises HostError when one of them found that its guests were not what they should have been.
        """
        for pipe in self._pipes:
            pipe.close()  # nobody asks for more
        until = time.monotonic() + patience
        for process in self._processes:
            process.join(max(0.0, until - time.monotonic()))
            process.kill()
            process.join()
        if patience and any(process.exitcode == _DOUBTED for process in self._processes):
            raise HostError("guests of a worker of the benchmark had something of the ones before them")

    def shift(self, workers: int, seconds: float) -> list[Shift]:
        """Let some of them run scenarios at once, each for so long; raises LabError when one cannot."""
        chosen = self._pipes[:workers]
        for pipe in chosen:
            pipe.send(seconds)
        return [_answer(pipe, seconds + _START_SECONDS) for pipe in chosen]


def rate(shifts: list[Shift]) -> float:
    """Return the scenarios a second of workers that ran side by side."""
    return sum(shift.scenarios / shift.seconds for shift in shifts)


def _answer(pipe: Connection, seconds: float) -> Shift:
    try:
        answer = pipe.recv() if pipe.poll(seconds) else None
    except (EOFError, OSError):
        raise HostError("a worker of the benchmark ended without a word") from None
    if isinstance(answer, Shift):
        return answer
    raise HostError(answer or f"a worker of the benchmark did not answer within {seconds:g} s")


def _work(pipe: Connection, settings: Settings, wishes: Wishes, target: Target, scenario: Scenario) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's Ctrl+C is the caller's, who ends this
    lab = Lab(settings, wishes, Progress(quiet=True))
    try:
        lab.expect(target, scenario, OFTEN)
        lab.ready(target, scenario)
        for _ in range(_WARM):
            _run(lab, target, scenario, [])
        pipe.send(Shift(0, 0, 0.0))
        while True:
            pipe.send(_stretch(lab, target, scenario, pipe.recv()))
    except (EOFError, OSError):  # nobody asks for more
        if lab.settle() or lab.left_over:
            sys.exit(_DOUBTED)
    except LabError as error:
        pipe.send(f"a worker of the benchmark: {error}")
    finally:
        lab.close()


def _stretch(lab: Lab, target: Target, scenario: Scenario, seconds: float) -> Shift:
    lives: list[int] = []
    started = time.perf_counter()
    while time.perf_counter() - started < seconds:
        _run(lab, target, scenario, lives)
    took = time.perf_counter() - started
    return Shift(len(lives), sum(life > 1 for life in lives), took)


def _run(lab: Lab, target: Target, scenario: Scenario, lives: list[int]) -> None:
    def afterwards(guest: Guest) -> None:
        lives.append(guest.process.life)

    result = lab.run(target, scenario, afterwards=afterwards)
    if result.verdict is not Verdict.PASSED:
        raise HostError(f"the scenario that is timed did not pass\n{result.report()}")
