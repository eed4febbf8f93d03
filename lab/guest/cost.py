# SPDX-License-Identifier: MIT
"""What a guest costs its host: what `lab bench` shows, and what a change is measured by.

Most of a clone's CPU time goes into translating the kernel's code anew, block by block. How many blocks that
are depends less on the host than the time does, if not on it alone: on a busy one a guest sees more ticks.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.errors import HostError
from lab.guest.template import cpu_seconds

if TYPE_CHECKING:
    from lab.guest.machine import Guest

_NO_TCG = "only available with accel=tcg"
_BLOCKS = re.compile(r"^TB count\s+(\d+)", re.MULTILINE)


@dataclass(frozen=True)
class Cost:
    """Of a QEMU since it was started, or of one of its guests."""

    blocks: int = 0  # of code that QEMU has translated; 0 under KVM, which translates nothing
    cpu_seconds: float = 0.0  # of QEMU, all of its threads


def cost(guest: Guest) -> Cost:
    """Return what QEMU has cost so far; raises GuestLost, GuestHung or HostError when it does not say."""
    spent = cpu_seconds(guest.pid)  # before the monitor is asked, which costs something itself
    return Cost(blocks(guest.process.qmp.human("info jit")), spent)


def blocks(text: str) -> int:
    """Return how many blocks the monitor's `info jit` tells of; raises HostError for what it does not say."""
    found = _BLOCKS.search(text)
    if found is None and _NO_TCG in text:
        return 0
    if found is None:
        raise HostError(f"QEMU does not say how many blocks it has translated: {text[:80]!r}")
    return int(found[1])


class Meter:
    """Tells what each of the guests that it is shown, in order, has cost.

    The price of one in place is what its QEMU has spent since the guest before it: getting there is part of
    it.
    """

    def __init__(self) -> None:
        self._before: dict[int, Cost] = {}  # by QEMU's pid, when the last of its guests was read

    def read(self, guest: Guest) -> Cost:
        """Return what a guest has cost; asked once a guest, at its end. Raises what cost() does."""
        now = cost(guest)
        before = self._before.get(guest.pid, Cost()) if guest.process.life > 1 else Cost()
        # Asking is nobody's cost.
        self._before[guest.pid] = Cost(now.blocks, cpu_seconds(guest.pid))
        # QEMU may have thrown away all that it had translated: what is there is of this guest then.
        made = now.blocks - before.blocks if now.blocks >= before.blocks else now.blocks
        return Cost(made, now.cpu_seconds - before.cpu_seconds)
