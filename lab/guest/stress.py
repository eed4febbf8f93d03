# SPDX-License-Identifier: MIT
"""Stress: the CPUs of a guest lag behind one another, for moments, at random.

What an ordinary user may do to threads of his own (sched(7), setpriority(2)): make them nicer, and pin them
to a CPU and let them go again. No way leads back from a higher nice value or from SCHED_IDLE without
CAP_SYS_NICE, or an RLIMIT_NICE of 20 less the nice value to go back to. So without these one thread of a
guest gets a little nicer, for good, and what comes and goes is that all its CPUs share one of the host's.
"""

from __future__ import annotations

import math
import os
import random
import re
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from lab.errors import HostError
from lab.guest.qemu import running

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Mapping

# The names that QEMU gives its threads with debug-threads=on; `ALL CPUs` where they take turns.
_CPU_THREAD = re.compile(r"(CPU \d+|ALL CPUs)/")
_LOOK_SECONDS = (0.003, 0.03)  # between two looks at the guests
_LAG_SECONDS = (0.002, 0.4)  # how long a lag lasts: most of them are short, and none is for good
_REST_SECONDS = (0.005, 0.1)  # between two lags of a guest
_NICEST = 19
# What is for good must not starve a guest: nice 5 is a third of an equal share.
_NICE_FOR_GOOD = 5

NICE, IDLE, PINNED = "nice", "SCHED_IDLE", "one CPU for all"
WAITED = "ms"  # for which threads had to wait for a CPU in lags, beside the counts


@dataclass(frozen=True)
class Allowed:
    """What this process may do to the priority of its QEMUs' threads."""

    nice: int  # what they start with
    back: bool  # whether a lower priority can be raised again
    cpus: frozenset[int]  # of the host

    @property
    def means(self) -> tuple[str, ...]:
        """Return how a CPU can be made to lag."""
        pinned = (PINNED,) if len(self.cpus) > 1 else ()
        return (
            (NICE, IDLE, *pinned)
            if self.back
            else (*((NICE,) if self.nice < _NICE_FOR_GOOD else ()), *pinned)
        )

    def lines(self) -> str:
        """Return it for people."""
        if self.back:
            return ", ".join(self.means)
        return (
            f"{', '.join(self.means)}; nice to {_NICE_FOR_GOOD} at most and no SCHED_IDLE, "
            "since only root or RLIMIT_NICE lets threads come back"
        )


def allowed() -> Allowed:
    """Find out what is allowed, by trying it on a thread that ends afterwards."""
    found: list[bool] = []

    def attempt() -> None:
        try:
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
            nice = os.getpriority(os.PRIO_PROCESS, 0)
            os.setpriority(os.PRIO_PROCESS, 0, nice + 1)
            os.setpriority(os.PRIO_PROCESS, 0, nice)
        except OSError:
            return
        found.append(True)

    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join()
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    return Allowed(nice, bool(found), frozenset(os.sched_getaffinity(0)))


def guests(proc: Path = Path("/proc")) -> dict[int, list[int]]:
    """Return the thread ids of the CPUs of every QEMU of this process, by QEMU's process id."""
    found = {pid: _cpu_threads(proc / str(pid) / "task") for pid in tuple(running)}
    return {pid: threads for pid, threads in found.items() if threads}


def _cpu_threads(tasks: Path) -> list[int]:
    found = []
    with suppress(OSError):  # it ends at any time
        for task in tasks.iterdir():
            with suppress(OSError):
                if _CPU_THREAD.match((task / "comm").read_text()):
                    found.append(int(task.name))
    return sorted(found)


@dataclass
class _Lag:
    """One that is under way."""

    threads: list[int]
    end: float  # time.monotonic()
    undo: Callable[[], None] | None  # None: for good
    before: float  # seconds that its threads had waited when it began


@dataclass
class _Guest:
    rest: float = 0.0  # until when nothing happens
    lag: _Lag | None = None
    nicer: bool = False  # one of its threads is, for good


class Stress:
    """Makes the CPUs of this process' guests lag while the block runs; a context manager.

    `counts` says how often by which means, and for how many milliseconds threads waited meanwhile.
    """

    def __init__(self, seed: str, counts: Counter[str], may: Allowed | None = None) -> None:
        """Find out what is allowed; raises HostError where that is nothing. `seed` decides what happens."""
        self._random = random.Random(seed)  # noqa: S311 - chance, not a secret
        self._may = may if may is not None else allowed()
        if not self._may.means:
            raise HostError(
                f"--stress can do nothing here: one CPU, and this process' nice value is {self._may.nice}",
                hint="be root, raise RLIMIT_NICE, or start without nice(1)",
            )
        self._counts = counts
        self._guests: dict[int, _Guest] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="chanlab-stress", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let every guest go on as it was. May be called twice."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()
        for pid in list(self._guests):
            self._end_lag(pid)

    def _run(self) -> None:
        while not self._stop.wait(self._random.uniform(*_LOOK_SECONDS)):
            self.look(guests(), time.monotonic())

    def look(self, found: Mapping[int, list[int]], now: float) -> None:
        """End the lags that are over, and begin new ones; `found` is what guests() says."""
        for pid in [pid for pid in self._guests if pid not in found]:
            del self._guests[pid]
        for pid, threads in found.items():
            guest = self._guests.setdefault(pid, _Guest(now + self._between(_REST_SECONDS)))
            if guest.lag is not None:
                if now >= guest.lag.end:
                    self._end_lag(pid)
                    guest.rest = now + self._between(_REST_SECONDS)
            elif now >= guest.rest and self._may.means:
                self._begin_lag(guest, threads, now)

    def _begin_lag(self, guest: _Guest, threads: list[int], now: float) -> None:
        how = self._random.choice(self._may.means)
        chosen = threads if how == PINNED else [self._random.choice(threads)]
        lag = _Lag(chosen, now + self._between(_LAG_SECONDS), None, _waited(chosen))
        with suppress(OSError):  # it may end at any moment
            if how == PINNED:
                cpu = self._random.choice(sorted(self._may.cpus))
                lag.undo = lambda: _pin(threads, self._may.cpus)
                _pin(threads, {cpu})
            elif how == IDLE:
                lag.undo = lambda: os.sched_setscheduler(chosen[0], os.SCHED_OTHER, os.sched_param(0))
                os.sched_setscheduler(chosen[0], os.SCHED_IDLE, os.sched_param(0))
            elif self._may.back:
                lag.undo = lambda: os.setpriority(os.PRIO_PROCESS, chosen[0], self._may.nice)
                nice = self._random.randint(min(self._may.nice + 1, _NICEST), _NICEST)
                os.setpriority(os.PRIO_PROCESS, chosen[0], nice)
            elif guest.nicer:  # of one guest one CPU only: the other must not lag as much
                return
            else:
                guest.nicer = True
                nice = self._random.randint(self._may.nice + 1, _NICE_FOR_GOOD)
                os.setpriority(os.PRIO_PROCESS, chosen[0], nice)
            self._counts[how] += 1
        guest.lag = lag

    def _end_lag(self, pid: int) -> None:
        guest = self._guests[pid]
        lag, guest.lag = guest.lag, None
        if lag is None:
            return
        if lag.undo is not None:
            with suppress(OSError):  # it has ended
                lag.undo()
        self._counts[WAITED] += max(0, round(1000 * (_waited(lag.threads) - lag.before)))

    def _between(self, bounds: tuple[float, float]) -> float:
        """Return seconds, as often between 2 and 4 ms as between 100 and 200."""
        return math.exp(self._random.uniform(*map(math.log, bounds)))


def _pin(threads: list[int], cpus: set[int] | frozenset[int]) -> None:
    for thread in threads:
        with suppress(OSError):  # it has ended
            os.sched_setaffinity(thread, cpus)


def _waited(threads: list[int]) -> float:
    """Return the seconds that threads were ready to run and did not; 0 for those that ended."""
    total = 0
    for thread in threads:
        with suppress(OSError, ValueError, IndexError):
            total += int(Path(f"/proc/{thread}/schedstat").read_text().split()[1])
    return total / 1e9


def told(counts: Mapping[str, int]) -> str:
    """Return what was done, for people."""
    done = ", ".join(f"{counts[how]} by {how}" for how in (NICE, IDLE, PINNED) if counts.get(how))
    if not done:
        return "--stress: no guest ran long enough to be disturbed"
    number = sum(counts.get(how, 0) for how in (NICE, IDLE, PINNED))
    waited = counts.get(WAITED, 0) / 1000
    return (
        f"--stress: CPUs of guests lagged {number} times: {done}; they waited {waited:.1f} s for a CPU then"
    )


__all__ = ["Allowed", "Stress", "allowed", "guests", "told"]
