# SPDX-License-Identifier: MIT
"""Patience with a guest on a busy host.

Time in which QEMU's threads wait for a CPU of the host is not the guest's: deadlines move by it. A guest that
sleeps waits for no CPU; one that spins on a busy host is given up in the end.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_FRESH_SECONDS = 1.0  # a look costs a tenth of a millisecond, and most answers take less than that
MOST = 5.0  # times what was given


class Patience:
    """Deadlines, in terms of time.monotonic(), that move by what `waited` tells of a guest: run_delay()."""

    def __init__(self, waited: Callable[[], float]) -> None:
        self._waited = waited
        self._since = float("-inf")
        self._before = 0.0

    def begin(self) -> None:
        """Count what is lost from now on; or from a moment ago, where that was so."""
        now = time.monotonic()
        if now - self._since > _FRESH_SECONDS:
            self._since = now
            self._before = self._waited()

    def left(self, deadline: float) -> float:
        """Return the seconds until a deadline; where there are none, those that the host still owes."""
        now = time.monotonic()
        if now < deadline:
            return deadline - now
        lost = max(0.0, self._waited() - self._before)
        return deadline + min(lost, MOST * max(0.0, deadline - self._since)) - now


def deadline(seconds: float, waited: Callable[[], float]) -> Callable[[], float]:
    """Return what tells how much is left of so many seconds from now on; 0 or less: nothing."""
    patience = Patience(waited)
    patience.begin()
    end = time.monotonic() + seconds
    return lambda: patience.left(end)


def run_delay(pid: int) -> float:
    """Return the seconds that the thread of a process that waited longest was ready to run and did not.

    Not the sum: CPUs of a guest that wait at the same time lose that time once. 0 where the host does not say
    (Documentation/scheduler/sched-stats.rst).
    """
    longest = 0
    # Without pathlib: looked at several times a scenario, and what it says is 20 bytes.
    with suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208 - as above
            with suppress(OSError, ValueError, IndexError):
                longest = max(longest, int(_read(f"/proc/{pid}/task/{task}/schedstat").split()[1]))
    return longest / 1e9


def _read(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, 4096)
    finally:
        os.close(descriptor)
