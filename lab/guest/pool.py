# SPDX-License-Identifier: MIT
"""Where a target's guests come from: QEMUs that wait for a template's state, made ahead; else cold boots."""

from __future__ import annotations

import asyncio
from collections import deque
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

from lab.errors import GuestError, HostError
from lab.guest import qmp
from lab.guest.machine import Guest, boot, clone_seed
from lab.guest.template import RESTORE_SECONDS, Template, prepare_async, restore
from lab.settings import cgroup_values

if TYPE_CHECKING:
    from lab.guest.argv import BootSpec
    from lab.guest.qemu import Process

# What a guest may take beyond its template: what it writes, and QEMU's own. Measured: 60 to 80 MiB.
_GUEST_MIB = 100
_PAUSE_SECONDS = 0.01  # whoever has just taken a guest comes first
_TRIES = 2  # one clone may be killed by chance; two in a row have a reason


class Pool:
    """Hands out guests, each pristine; a context manager that leaves none behind. For one thread."""

    def __init__(
        self,
        template: Template | None,
        spec: BootSpec,
        *,
        waiting: int = 1,
        seed: int = 0,
        cold: bool = False,
    ) -> None:
        """Make `waiting` clones ahead, fewer where memory is short; `seed` is the run's."""
        self.notes: list[str] = []  # what the user should be told, once each
        self.spec = spec
        self._template = template
        self._seed = seed
        self._count = 0
        self._guests: list[Guest] = []
        self._waiting: deque[tuple[Future[Process], int]] = deque()
        self._cold = cold or template is None
        if not self._cold and template is not None and template.refused:
            self._go_cold(template.refused)
        self._wanted = 0 if self._cold else self._affordable(waiting)
        self._fill()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def cold(self) -> bool:
        """Whether guests are booted, not restored."""
        return self._cold

    def take(self) -> Guest:
        """Return a fresh guest whose agent has answered; it is the caller's to close.

        Raises BootFailed or HostError when there is none to be had, restored or booted.
        """
        self._guests = [guest for guest in self._guests if guest.alive()]
        guest = self._restored() or self._booted()
        self._guests.append(guest)
        self._fill()
        return guest

    def _restored(self) -> Guest | None:
        """Return a clone; None, and cold boots from now on, when the template gives none."""
        why = ""
        for _ in range(_TRIES):
            if self._cold or self._template is None:
                return None
            try:
                process, count = self._next()
                material, jitter = clone_seed(self._seed, count)
                return restore(process, self._template, self.spec, seed=material, jitter_us=jitter)
            except (GuestError, HostError) as error:
                why = error.message
        self._go_cold(why)
        return None

    def _booted(self) -> Guest:
        self._count += 1
        return boot(self.spec, seed=self._seed, count=self._count)

    def _next(self) -> tuple[Process, int]:
        """Return a QEMU that waits for its state, and its number."""
        while self._waiting:
            future, count = self._waiting.popleft()
            process = _result(future)
            if process.popen.poll() is None:
                return process, count
            process.close()  # somebody killed it while it waited: that says nothing about the next one
        future, count = self._order()
        return _result(future), count

    def _order(self, pause: float = 0.0) -> tuple[Future[Process], int]:
        """Have a QEMU started by the background thread, which outlives every pool: see PR_SET_PDEATHSIG."""
        assert self._template is not None
        self._count += 1
        return qmp.begin(_prepare(self.spec, self._template, pause)), self._count

    def _fill(self) -> None:
        while len(self._waiting) < self._wanted:
            self._waiting.append(self._order(_PAUSE_SECONDS if self._guests else 0.0))

    def _go_cold(self, why: str) -> None:
        self._cold = True
        self._wanted = 0
        self._drop_waiting()
        name = self.spec.name or self.spec.kernel.kernel.release
        self.notes.append(f"{name}: every guest is booted, none restored: {why}")

    def _affordable(self, wanted: int) -> int:
        """Return how many may wait: one is in use besides, and others need memory too."""
        available = available_mib()
        if available is None:
            return wanted
        fits = max(0, (available // 2) // _GUEST_MIB - 1)
        if fits < wanted:
            self.notes.append(f"{available} MiB of memory left: {fits} clones wait instead of {wanted}")
        return min(wanted, fits)

    def _drop_waiting(self) -> None:
        while self._waiting:
            future, _ = self._waiting.popleft()
            with suppress(GuestError, HostError):
                _result(future).close()

    def close(self) -> None:
        """End the clones that wait, and every guest that is still there."""
        self._wanted = 0
        self._drop_waiting()
        for guest in self._guests:
            guest.close()
        self._guests.clear()


async def _prepare(spec: BootSpec, template: Template, pause: float) -> Process:
    await asyncio.sleep(pause)
    return await prepare_async(spec, template.ram, template.state)


def _result(future: Future[Process]) -> Process:
    try:
        return future.result(RESTORE_SECONDS)
    except (TimeoutError, CancelledError, asyncio.CancelledError):
        future.cancel()
        raise HostError(f"QEMU did not start within {RESTORE_SECONDS:g} s") from None


def available_mib(meminfo: Path = Path("/proc/meminfo")) -> int | None:
    """Return how much memory this process may still take: the host's and its cgroups'; None: not known."""
    found: list[int] = []
    with suppress(OSError, ValueError, StopIteration):
        lines = meminfo.read_text().splitlines()
        found.append(int(next(line for line in lines if line.startswith("MemAvailable")).split()[1]) >> 10)
    limits, used = cgroup_values("memory.max"), cgroup_values("memory.current")
    for limit, current in zip(limits, used[: len(limits)], strict=False):
        if limit != "max":
            found.append(max(0, int(limit) - int(current)) >> 20)
    return min(found, default=None)
