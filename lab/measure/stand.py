# SPDX-License-Identifier: MIT
"""Scenarios of `lab bench` in one mode on one target, and what each of them costs."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.errors import HostError, Unsupported
from lab.guest.cost import Meter
from lab.measure.crew import OFTEN
from lab.run import beside
from lab.run.record import Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lab.guest.cost import Cost
    from lab.guest.machine import Guest
    from lab.kernels.model import Target
    from lab.run.lab import Lab
    from lab.scenario import Scenario

_CLONES = "each guest is a clone: "  # as a pool says it


@dataclass(frozen=True)
class Sample:
    """What one scenario cost."""

    costs: Mapping[str, float]  # by the names of lab.measure.figures.COSTS
    life: int  # which guest of its QEMU it was in


class Stand:
    """One mode on a target; its lab is the caller's to close."""

    def __init__(self, lab: Lab, target: Target) -> None:
        self.lab = lab
        self.qemu = ""  # which one, once it is ready
        self._target = target
        self._meter = Meter()

    def ready(self, scenario: Scenario) -> None:
        """Make ready for a scenario that is run often; raises LabError where that cannot be."""
        self.lab.expect(self._target, scenario, OFTEN)
        try:
            self.lab.ready(self._target, scenario)
        except Unsupported as error:
            raise HostError(f"the scenario that is timed cannot run on {self._target}: {error}") from error
        found = self.lab.target(self._target).spec(scenario.boot).qemu
        self.qemu = f"{found.version} ({found.digest[:8]})"

    def like(self, subject: Scenario, scenarios: Sequence[Scenario]) -> list[Scenario]:
        """Return those scenarios that run in the same kind of guest as one, and can run here."""
        parts = self.lab.target(self._target)
        turns = beside.alone(subject, parts.images)
        found = []
        for each in scenarios:
            same = (each.modules, each.boot, each.words) == (subject.modules, subject.boot, subject.words)
            troubled = each.expect_splat is not None or each.expect_verdict is not None
            if same and not troubled and beside.alone(each, parts.images) == turns:
                with suppress(Unsupported):
                    parts.check(each)
                    found.append(each)
        return found

    def sample(self, scenario: Scenario) -> Sample:
        """Run a scenario and return what it cost, without what asking for that did."""
        told: list[tuple[float, Cost, float, int]] = []

        def afterwards(guest: Guest) -> None:
            asked = time.perf_counter()
            cost, mib = self._meter.read(guest), guest.private_kib() / 1024
            told.append((time.perf_counter() - asked, cost, mib, guest.process.life))

        started = time.perf_counter()
        record = self.lab.run(self._target, scenario, afterwards=afterwards)
        took = time.perf_counter() - started
        if record.verdict is not Verdict.PASSED:
            raise HostError(f"a scenario that is timed did not pass: {scenario.id}\n{record.report()}")
        ((asking, cost, mib, life),) = told
        measured = {
            "wall_ms": (took - asking) * 1000,
            "steps_ms": record.seconds.steps * 1000,
            "cpu_ms": cost.cpu_seconds * 1000,
            "blocks": float(cost.blocks),
            "private_mib": mib,
        }
        return Sample(measured, life)

    def why_clones(self) -> str:
        """Return why no guest came about in place."""
        reasons = [note.partition(_CLONES)[2] for note in self.lab.notes() if _CLONES in note]
        return reasons[0] if reasons else f"QEMU {self.qemu} does not know how to restore a guest in place"

    def settle(self) -> list[str]:
        """End all guests; return what the user should know."""
        return [*self.lab.settle(), *self.lab.notes()]
