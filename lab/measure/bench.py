# SPDX-License-Identifier: MIT
"""What a scenario costs on this host: cold, in a clone, in place, measured in turn and compared by ratio."""

from __future__ import annotations

import json
import os
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lab import verbs
from lab.errors import HostError, LabError
from lab.house import HOUSE, SCENARIOS, TREES, WISHES
from lab.language import reader
from lab.measure.crew import Crew, rate
from lab.measure.figures import (
    ANOTHER,
    CLONE,
    COLD,
    COSTS,
    IN_PLACE,
    SAME,
    UNWATCHED,
    Report,
    Row,
    figure,
    remarks,
    table,
    to_json,
)
from lab.measure.stand import Stand
from lab.run.lab import Lab
from lab.settings import cpus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from lab.kernels.model import Target
    from lab.measure.crew import Shift
    from lab.measure.figures import Figure
    from lab.measure.stand import Sample
    from lab.progress import Progress
    from lab.run.ready import Wishes
    from lab.scenario import Scenario
    from lab.settings import Settings

    Table = Callable[[Sequence[str], Iterable[Sequence[str]]], None]

SUBJECTS = SCENARIOS / "ioctl.yaml"  # its first scenario is the one that is run over and over
_TURN = 5  # scenarios in one mode before another has its turn
_COLD = 3  # boots, each of some seconds
_SETTLE_SECONDS = 0.5  # until what one mode does ahead, behind its scenarios, is done
_SHIFT_SECONDS = 3.0
_SHIFTS = 3  # of each mode and number of workers
_REUSED = (IN_PLACE, UNWATCHED)
_WARM = 3  # guests of a mode before it is measured
_BUSY = "others use them too, and CPU time and blocks say more than wall time and rates"


@dataclass(frozen=True)
class Plan:
    """What is to be measured."""

    kernel: str
    arches: tuple[str, ...]
    runs: int  # scenarios in each mode, but for cold boots
    workers: int  # side by side, at most
    stock: bool  # cold boots and clones are of Debian's QEMU, whatever the settings say


def modes(settings: Settings, *, stock: bool) -> dict[str, tuple[Settings, Wishes]]:
    """Return by which settings and wishes the guests of each mode come about.

    In place is what a run has with these settings; cold and clone are of the user's QEMU or Debian's.
    """
    without = replace(settings, qemu=None if stock else settings.qemu, turbo=False)
    return {
        COLD: (without, replace(WISHES, cold=True, in_place=False)),
        CLONE: (without, replace(WISHES, in_place=False)),
        IN_PLACE: (settings, WISHES),
        UNWATCHED: (settings, replace(WISHES, watched=False)),
    }


def host() -> str:
    """Return what figures depend on besides the lab: the CPUs, and who else uses them."""
    load = os.getloadavg()[0]
    busy = f": {_BUSY}" if load > cpus() / 2 else ""
    return f"{cpus()} CPUs, load {load:.1f}{busy}"


def main(settings: Settings, progress: Progress, plan: Plan, show: Table, *, as_json: bool) -> bool:
    """Measure and print, by `show` or as JSON; returns whether all targets could be measured.

    Raises what measure() does.
    """
    about = host()
    reports = []
    if not as_json:
        print(about)
    for report in measure(settings, progress, plan):
        reports.append(report)
        if as_json:
            continue
        if report.failed:
            print(f"\nFAILED {report.target}: {report.failed}")
            continue
        print(f"\n{report.target}")
        show(*table(report))
        print("\n".join(remarks(report)), flush=True)
    if as_json:
        print(json.dumps({"host": about, "targets": [to_json(report) for report in reports]}, indent=1))
    return not any(report.failed for report in reports)


def measure(settings: Settings, progress: Progress, plan: Plan) -> Iterator[Report]:
    """Yield the figures of each target that was asked for; where several were, one may have failed.

    Raises LabError where no target can be had, or the only one not be measured.
    """
    lab = Lab(settings, WISHES, progress)
    try:
        targets = lab.targets([plan.kernel], plan.arches, ["stock"])
    finally:
        lab.close()
    for target in targets:
        try:
            yield _Bench(settings, progress, plan, target).report()
        except LabError as error:
            if len(targets) == 1:
                raise
            yield Report(str(target), failed=str(error))


class _Bench:
    """The measuring of one target."""

    def __init__(self, settings: Settings, progress: Progress, plan: Plan, target: Target) -> None:
        self._progress = progress
        self._plan = plan
        self._target = target
        self._modes = modes(settings, stock=plan.stock)
        self._left_out: dict[str, str] = {}
        self._notes: dict[str, None] = {}  # in order, each once

    def report(self) -> Report:
        """Measure."""
        stands: dict[str, Stand] = {}
        try:
            for name, (settings, wishes) in self._modes.items():
                stands[name] = Stand(Lab(settings, wishes, self._progress), self._target)
            subject, others = self._prepare(stands)
            samples = self._samples(stands, subject, others)
            qemus = {name: stand.qemu for name, stand in stands.items()}
            for stand in stands.values():
                self._notes.update(dict.fromkeys(stand.settle()))
        finally:
            for stand in stands.values():
                stand.lab.close()
        rates = self._rates([name for name in stands if name != COLD], subject)
        rows = [
            Row(name, which, qemus[name], costs(name, made), rates.get(name, {}) if which == SAME else {})
            for which in (SAME, ANOTHER)
            for name in qemus
            if (made := samples.get((name, which)))
        ]
        return Report(str(self._target), tuple(rows), self._left_out, tuple(self._notes))

    def _prepare(self, stands: dict[str, Stand]) -> tuple[Scenario, list[Scenario]]:
        """Return the scenarios to run, after the first guests; modes that cannot be are taken away."""
        subject, *rest = reader.load(SUBJECTS, root=HOUSE, verbs=verbs.table(), trees=TREES).scenarios
        for name, stand in stands.items():
            with self._progress.task(f"{self._target}: {name}: the first guests"):
                stand.ready(subject)
                lives = [stand.sample(subject).life for _ in range(0 if name == COLD else _WARM)]
            if name in _REUSED and max(lives) == 1:
                self._left_out[name] = stand.why_clones()
        for name in self._left_out:
            stands.pop(name).lab.close()
        return subject, stands[CLONE].like(subject, rest)

    def _samples(
        self, stands: Mapping[str, Stand], subject: Scenario, others: Sequence[Scenario]
    ) -> dict[tuple[str, str], list[Sample]]:
        """Return what each mode's scenarios cost, by mode and which scenarios they were."""
        made: dict[tuple[str, str], list[Sample]] = {(COLD, SAME): []}
        runs = self._plan.runs
        with self._progress.task(f"{self._target}: {min(runs, _COLD)} cold boots"):
            made[COLD, SAME] += [stands[COLD].sample(subject) for _ in range(min(runs, _COLD))]
        names = [name for name in stands if name != COLD]
        for which, chosen in ((SAME, [subject] * runs), (ANOTHER, list(others[:runs]))):
            made |= {(name, which): [] for name in names}
            for at in range(0, len(chosen), _TURN):
                with self._progress.task(f"{self._target}: {which}, {at} of {len(chosen)} done"):
                    for name in names:
                        made[name, which] += self._turn(stands[name], subject, chosen[at : at + _TURN])
                names.reverse()
        return made

    def _turn(self, stand: Stand, subject: Scenario, chosen: Sequence[Scenario]) -> list[Sample]:
        time.sleep(_SETTLE_SECONDS)
        stand.sample(subject)  # its guest was made while all was quiet, unlike those that follow
        return [stand.sample(scenario) for scenario in chosen]

    def _rates(self, names: Sequence[str], subject: Scenario) -> dict[str, dict[int, Figure]]:
        """Return the scenarios a second of each mode, by the number of workers; in turn, too."""
        counts = sorted({1, self._plan.workers})
        found: dict[str, dict[int, list[float]]] = {name: {count: [] for count in counts} for name in names}
        with ExitStack() as stack, self._progress.task(f"{self._target}: workers side by side"):
            crews = {
                name: stack.enter_context(Crew(counts[-1], *self._modes[name], self._target, subject))
                for name in names
            }
            for _ in range(_SHIFTS):
                for count in counts:
                    for name, crew in crews.items():
                        time.sleep(_SETTLE_SECONDS)
                        shifts = crew.shift(count, _SHIFT_SECONDS)
                        check(name, shifts)
                        found[name][count].append(rate(shifts))
        return {
            name: {count: figure(values) for count, values in each.items()} for name, each in found.items()
        }


def costs(mode: str, samples: Sequence[Sample]) -> dict[str, Figure]:
    """Return the figures of some scenarios of a mode.

    In place, one whose QEMU was renewed was a clone, and does not count. Raises HostError when all were.
    """
    counted = [sample for sample in samples if mode not in _REUSED or sample.life > 1]
    if not counted:
        raise HostError(
            f"none of {len(samples)} guests was restored in place", hint="`lab doctor` may say why"
        )
    return {name: figure([sample.costs[name] for sample in counted]) for name in COSTS}


def check(mode: str, shifts: Sequence[Shift]) -> None:
    """Raise HostError where workers were not in the mode that is measured."""
    scenarios, in_place = sum(shift.scenarios for shift in shifts), sum(shift.in_place for shift in shifts)
    if mode in _REUSED and in_place < 0.9 * scenarios:
        raise HostError(f"only {in_place} of {scenarios} guests of the workers were restored in place")
