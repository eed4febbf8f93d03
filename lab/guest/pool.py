# SPDX-License-Identifier: MIT
"""Where guests come from: the QEMU of the last one, one that waits for a template's state, cold boots."""

from __future__ import annotations

import asyncio
from collections import deque
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

from lab.errors import GuestError, HostError
from lab.guest import qmp
from lab.guest.lives import CannotRewind, LeftOver, Lives
from lab.guest.machine import Guest, boot, clone_seed
from lab.guest.ram import CannotLook
from lab.guest.template import RESTORE_SECONDS, TRIES, Template, prepare_async, restore
from lab.settings import cgroup_values

if TYPE_CHECKING:
    from lab.guest.argv import BootSpec
    from lab.guest.qemu import Process

# What a guest may take beyond its template: what it writes, and QEMU's own. Measured: 60 to 80 MiB.
_GUEST_MIB = 100
_PAUSE_SECONDS = 0.01  # whoever has just taken a guest comes first
_REWINDS: dict[str, bool] = {}  # whether a QEMU, by its digest, was seen to restore guests in place


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
        turns: bool = False,
        loaded: bool = False,
        in_place: bool = True,
    ) -> None:
        """Make `waiting` clones of `template`, closed with the pool, ahead; fewer where memory is short.

        `seed` is the run's. `turns`: CPUs of a clone may take turns, see lab.run.beside. `loaded`: modules
        are in the template already, see lab.guest.loaded. `in_place`: a guest that was well may be followed
        by another in the same QEMU, where that can be.
        """
        self.notes: list[str] = []  # what the user should be told, once each
        self.spec = spec
        self.loaded = loaded
        self._template = template
        self._seed = seed
        self._turns = turns
        self.doubted: list[str] = []  # what guests were for that may have had something of another one's
        self._guests: list[Guest] = []
        self._waiting: deque[Future[Process]] = deque()
        self._cold = cold or template is None
        if not self._cold and template is not None and template.refused:
            self._go_cold(template.refused)
        self._lives: Lives | None = None
        possible = in_place and spec.arch.in_place and spec.accel == "tcg"
        if possible and template is not None and not self._cold and _REWINDS.get(spec.qemu.digest, True):
            self._lives = Lives(template, spec, seed)
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

    @property
    def origin(self) -> str:
        """What tells the template of its guests from others; '' when they are booted."""
        return self._template.facts.nonce if self._template is not None and not self._cold else ""

    def take(self, what: str = "") -> Guest:
        """Return a fresh guest whose agent has answered; it is the caller's to close.

        `what` it is for, a scenario's id: together with the run's seed it decides the guest's entropy and
        starting point, so that one scenario alone gets what it got among others. Raises BootFailed or
        HostError when there is no guest to be had, restored or booted.
        """
        self._guests = [guest for guest in self._guests if guest.alive()]
        guest = (
            self._again(what)
            or self._restored(what)
            or boot(self.spec, seed=self._seed, what=what, turns=self._turns)
        )
        self._guests.append(guest)
        if guest.remark:
            self.notes.append(guest.remark)
        if self._lives is None or not _REWINDS.get(self.spec.qemu.digest):
            self._fill()
        return guest

    def give_back(self, guest: Guest) -> None:
        """Let the QEMU of a guest that is over and was well be the next one; else the guest is closed."""
        if self._lives is None or not guest.restored or not guest.alive() or guest not in self._guests:
            guest.close()
            return
        self._guests.remove(guest)
        self._lives.give(guest)

    def _again(self, what: str) -> Guest | None:
        """Return a guest in a QEMU that has been another one, None where there is none."""
        if self._lives is None or not self._lives.waiting or self._template is None:
            return None
        try:
            process = self._lives.take(what)
            _REWINDS[self.spec.qemu.digest] = True
            if process is None:
                return None
            material, jitter = clone_seed(self._seed, what)
            return restore(process, self._template, self.spec, seed=material, jitter_us=jitter)
        except (CannotRewind, CannotLook) as error:  # where nobody may look, nobody could vouch for guests
            self._lives = None
            # Any other reason is this machine's, or this moment's, and says nothing about others.
            if "x-rewind has not been" in str(error):
                _REWINDS.setdefault(self.spec.qemu.digest, False)
            else:
                self.notes.append(f"{self.name}: each guest is a clone: {error.message}")
        except LeftOver as error:
            self._doubt(error)
        except (GuestError, HostError) as error:
            self.notes.append(f"{self.name}: a guest could not be restored in place: {error.message}")
        return None

    def _doubt(self, error: LeftOver) -> None:
        if self._lives is not None:
            self.doubted += [*self._lives.unseen, *self._lives.ours]
            self._lives = None
        self.notes.append(f"{self.name}: each guest is a clone from here on: {error.message}")

    @property
    def name(self) -> str:
        """The target, for people."""
        return self.spec.name or self.spec.kernel.kernel.release

    def _restored(self, what: str) -> Guest | None:
        """Return a clone; None, and cold boots from now on, when the template gives none."""
        why = ""
        for _ in range(TRIES):
            if self._cold or self._template is None:
                return None
            try:
                material, jitter = clone_seed(self._seed, what)
                return restore(self._next(), self._template, self.spec, seed=material, jitter_us=jitter)
            except (GuestError, HostError) as error:
                why = error.message
        self._go_cold(why)
        return None

    def _next(self) -> Process:
        """Return a QEMU that waits to go on."""
        while True:
            if not self._waiting:
                self._order()
            try:
                process = _result(self._waiting[0])
            except (GuestError, HostError):
                self._waiting.popleft()
                raise
            self._waiting.popleft()  # not before: interrupted in between, close() still finds it
            if process.popen.poll() is None:
                return process
            process.close()  # somebody killed it while it waited: that says nothing about the next one

    def _order(self, pause: float = 0.0) -> None:
        """Have a QEMU started by the background thread, which outlives every pool: see PR_SET_PDEATHSIG."""
        assert self._template is not None
        self._waiting.append(qmp.begin(_prepare(self.spec, self._template, pause, self._turns)))

    def _fill(self) -> None:
        while len(self._waiting) < self._wanted:
            self._order(_PAUSE_SECONDS if self._guests else 0.0)

    def _go_cold(self, why: str) -> None:
        self._cold = True
        self._wanted = 0
        self._drop_waiting()
        self.notes.append(f"{self.name}: every guest is booted, none restored: {why}")

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
            with suppress(GuestError, HostError):
                _result(self._waiting.popleft()).close()

    def close(self) -> None:
        """End the clones that wait, and every guest that is still there.

        Whether the last guests in place left something is looked at before: `doubted` says whose verdicts
        are not to be believed.
        """
        self._wanted = 0
        if self._lives is not None:
            try:
                self._lives.last_look()
            except LeftOver as error:
                self._doubt(error)
            except (GuestError, HostError) as error:
                self.notes.append(f"{self.name}: the last guest in place was not looked at: {error.message}")
            if self._lives is not None:
                self._lives.close()
                self._lives = None
        self._drop_waiting()
        for guest in self._guests:
            guest.close()
        self._guests.clear()
        if self._template is not None:
            self._template.close()
            self._template = None


async def _prepare(spec: BootSpec, template: Template, pause: float, turns: bool) -> Process:
    await asyncio.sleep(pause)
    return await prepare_async(spec, template, turns=turns)


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
