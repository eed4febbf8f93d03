# SPDX-License-Identifier: MIT
"""Guests in place: one QEMU is one guest after the other, each as pristine as a clone.

A QEMU that knows `x-rewind` (kernels/qemu/, built by `lab turbo`) takes the template's state in again without
being started again: pages that were written to are dropped, devices are reset, translations of what nobody
changed stay. Only a guest that was found well is followed by another one. Whether nothing of a guest is left
is looked at from outside, by comparing all of the memory with the template's: after the first two, at random
later, and at the end.
"""

from __future__ import annotations

import mmap
import random
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from lab.errors import HostError
from lab.guest import qmp
from lab.guest.ram import overwritten

if TYPE_CHECKING:
    from concurrent.futures import Future

    from lab.guest.argv import BootSpec
    from lab.guest.machine import Guest
    from lab.guest.qemu import Process
    from lab.guest.template import Template

_REWIND_SECONDS = 30.0  # it takes a hundredth of one
_FIRST_LOOKS = 2
_LOOK_EACH = 200  # on average; a look takes some tens of ms
MOST_LIVES = 5000  # then the process is a new one: whatever grows in it begins again
MOST_MIB = 160  # of its own memory, the same
_SIZE_EACH = 32  # lives between two looks at that


class LeftOver(HostError):  # noqa: N818 - what was found
    """A guest that was restored in place is not what its template is."""


class CannotRewind(HostError):  # noqa: N818 - what happened
    """This QEMU, or this machine of it, cannot be restored in place."""


class Lives:
    """A QEMU that waits to be the next guest; for one template. close() ends it."""

    def __init__(self, template: Template, spec: BootSpec, seed: int) -> None:
        self._template = template
        self._spec = spec
        self._random = random.Random(f"{seed} {template.nonce.hex()}")  # noqa: S311 - when to look, not a secret
        self._process: Process | None = None
        self._rewinding: Future[None] | None = None
        self._looks = 0
        # What guests were for since somebody looked and all was well: in the QEMU that there is, and in those
        # that ended before anybody did.
        self.ours: list[str] = []
        self.unseen: list[str] = []

    @property
    def waiting(self) -> bool:
        """Whether there is a QEMU for the next guest."""
        return self._process is not None

    def give(self, guest: Guest) -> None:
        """Take the QEMU of a guest that is over and was well; it is rewound meanwhile."""
        self.close()
        self._process = guest.hand_over()
        if self._process.life == 1:
            self.unseen += self.ours
            self.ours.clear()
        self._rewinding = qmp.begin(self._process.rewind_async(self._template.state))

    def take(self, what: str) -> Process | None:
        """Return a QEMU that waits to go on as the next guest, which is for `what`; None: it is renewed.

        Raises CannotRewind where it never will, LeftOver when something of the last guest is there, and what
        ended it otherwise. The QEMU is gone then.
        """
        process, rewinding = self._process, self._rewinding
        assert process is not None
        assert rewinding is not None
        try:
            self._wait(rewinding, process)
            if self._used_up(process):
                self._look(process)
                self.close()
                return None
            if self._looks < _FIRST_LOOKS or self._random.randrange(_LOOK_EACH) == 0:
                self._look(process)
        except BaseException:
            self.close()
            raise
        self._process = self._rewinding = None
        self.ours.append(what)
        return process

    def last_look(self) -> None:
        """Look once more, where guests have been since the last time; raises as take() does."""
        if self.ours and self._process is not None and self._rewinding is not None:
            try:
                self._wait(self._rewinding, self._process)
                self._look(self._process)
            finally:
                self.close()

    def _wait(self, rewinding: Future[None], process: Process) -> None:
        try:
            rewinding.result(_REWIND_SECONDS)
        except TimeoutError:
            rewinding.cancel()
            raise HostError(f"QEMU did not rewind within {_REWIND_SECONDS:g} s") from None
        except HostError as error:
            if process.life == 1:  # it has never been able to
                raise CannotRewind(error.message) from error
            raise

    def _used_up(self, process: Process) -> bool:
        if process.life > MOST_LIVES:
            return True
        return process.life % _SIZE_EACH == 0 and own_mib(process.pid) > MOST_MIB

    def _look(self, process: Process) -> None:
        changed = overwritten(process.pid, self._template.ram, self._spec.arch.overwritten)
        if changed:
            raise LeftOver(
                f"a guest that was restored in place differs from its template in {len(changed)} places, "
                f"from {changed[0]:#x} on"
            )
        self._looks += 1
        self.ours.clear()

    def close(self) -> None:
        """End the QEMU that waits, if there is one."""
        process, rewinding = self._process, self._rewinding
        self._process = self._rewinding = None
        if process is None:
            return
        if rewinding is not None:
            rewinding.cancel()
            with suppress(Exception):  # of a QEMU that is ended now, nobody wants to know
                rewinding.result(0)
        process.close()


def own_mib(pid: int) -> int:
    """Return how much memory a process has for itself, in MiB; 0 when it is gone. proc_pid_statm(5)."""
    try:
        _, resident, shared, *_ = (int(word) for word in Path(f"/proc/{pid}/statm").read_text().split())
    except (OSError, ValueError):
        return 0
    return (resident - shared) * mmap.PAGESIZE >> 20
