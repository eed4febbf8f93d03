# SPDX-License-Identifier: MIT
"""One module's mutants on one target: each is built, and the scenarios run against it until one fails.

One that nobody noticed is tried again with scenarios that are made again and again: it may leak.
"""

from __future__ import annotations

import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from elftools.elf.elffile import ELFFile

from lab.errors import BuildFailed, LabError, Unsupported
from lab.mutate.journal import Outcome, Verdict
from lab.run.record import TROUBLE
from lab.run.record import Verdict as Run

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from concurrent.futures import Future

    from lab.kernels.model import Target
    from lab.mutate.journal import Journal
    from lab.mutate.operators import Mutant
    from lab.run.lab import Lab
    from lab.run.record import Record
    from lab.scenario import Scenario

_STORE = "core"
_LONG_SECONDS = 3.0  # of a scenario that fails: it may have been the time
_AHEAD = 2  # mutants that are built while the one before them is tried
# What differs although the code is the same: a digest of the debug information, one of the source.
_NO_CODE = (".note.gnu.build-id", ".modinfo")


class NotWell(LabError):  # noqa: N818 - what happened
    """A scenario does not pass without any mutant, so that its failure would say nothing."""


@dataclass(frozen=True)
class Subject:
    """A module and what shows that it is right."""

    name: str  # X of X.c
    source: bytes
    scenarios: tuple[Scenario, ...]

    @property
    def module(self) -> str:
        """The kernel's name for it."""
        return f"lab_{self.name}"


class Trial:
    """The mutants of a module against its scenarios on one target."""

    def __init__(self, lab: Lab, target: Target, subject: Subject, journal: Journal) -> None:
        self._lab = lab
        self._target = target
        self._subject = subject
        self._journal = journal
        self._scenarios: list[Scenario] = []  # those that this target can do
        self._catches: dict[
            str, dict[str, None]
        ] = {}  # by function, the scenarios that caught, the last first
        self._leaks: dict[str, bool] = {}  # scenarios, whether they leak without any mutant
        # Its doors use the store, and no module here uses another one.
        self._needs = [] if subject.name == _STORE else [f"lab_{_STORE}"]

    def run(self, mutants: Sequence[Mutant]) -> Iterator[tuple[Mutant, Outcome]]:
        """Yield what becomes of each mutant, in order; what is known from before at once.

        Raises NotWell where the scenarios do not pass without any, other LabErrors where something is in the
        way. What was yielded is kept.
        """
        todo = [mutant for mutant in mutants if self._journal.known(mutant) is None]
        if todo:
            self._without()
        with (
            tempfile.TemporaryDirectory(prefix="chanlab-mutants-") as directory,
            ThreadPoolExecutor(1, thread_name_prefix="mutants") as builder,
        ):
            builds: dict[str, Future[_Built | None]] = {}
            waiting = iter(todo)
            try:
                for mutant in mutants:
                    known = self._journal.known(mutant)
                    if known is None:
                        while len(builds) <= _AHEAD and (ahead := next(waiting, None)) is not None:
                            patch = Path(directory, f"mutant-{len(builds)}-{ahead.start}.patch")
                            builds[ahead.id] = builder.submit(self._build, ahead, patch)
                        known = self._try(mutant, builds.pop(mutant.id).result())
                        self._journal.write(mutant, known)
                    if known.scenario:
                        self._remember(mutant.function, known.scenario)
                    yield mutant, known
            finally:
                for build in builds.values():
                    build.cancel()

    def _without(self) -> None:
        """Find out which scenarios this target can do; raises NotWell where one fails as things are."""
        known = self._journal.well()
        if known is None:
            known = frozenset(each.id for each in self._passing())
            self._journal.write_well(known)
        self._scenarios = [each for each in self._subject.scenarios if each.id in known]
        if not self._scenarios:
            raise NotWell(f"{self._target} can do none of the scenarios of {self._subject.name}")

    def _passing(self) -> Iterator[Scenario]:
        lab, target = self._lab, self._target
        scenarios = self._subject.scenarios
        for scenario in scenarios:
            lab.expect(target, scenario, 0)  # its modules are built, and none is loaded ahead
        with lab.progress.task(f"{self._subject.name}: without a mutant", len(scenarios)) as task:
            for scenario in scenarios:
                try:
                    lab.ready(target, scenario)
                    record = lab.run(target, scenario)
                except Unsupported:
                    continue
                finally:
                    task.advance(1)
                if record.verdict is not Run.PASSED:
                    raise NotWell(
                        f"{scenario.id} on {target} without a mutant: {record.verdict.value}: {record.title}",
                        hint=f"pytest {scenario.file} shows it; mutants are tried where all is well",
                    )
                yield scenario

    def _build(self, mutant: Mutant, patch: Path) -> _Built | None:
        """Return the modules with a mutant, None where they do not build."""
        text = mutant.patch(f"{self._subject.name}.c", self._subject.source)
        patch.write_text(f"SPDX-License-Identifier: GPL-2.0-only\n{mutant.id}\n\n{text}", encoding="utf-8")
        try:
            images = self._lab.target(self._target).mutated(patch, self._subject.module, self._needs)
        except BuildFailed:
            return None
        return _Built(patch, images)

    def _try(self, mutant: Mutant, built: _Built | None) -> Outcome:
        if built is None:
            return Outcome(mutant.id, Verdict.NO_BUILD)
        module = self._subject.module
        if same_code(built.images[module], self._lab.target(self._target).images[module]):
            return Outcome(mutant.id, Verdict.IDENTICAL)
        caught = self._caught(mutant, built, leaks=False)
        if caught is None and mutant.kind != "errno":
            caught = self._caught(mutant, built, leaks=True)
        return caught or Outcome(mutant.id, Verdict.SURVIVED)

    def _caught(self, mutant: Mutant, built: _Built, *, leaks: bool) -> Outcome | None:
        """Return by which scenario a mutant is caught; `leaks`: made again and again in one guest."""
        for scenario in self._ordered(mutant):
            self._lab.ready(self._target, scenario)
            record = self._lab.run(
                self._target, scenario, patches=[built.patch], images=built.images, leaks=leaks
            )
            if record.verdict in TROUBLE:
                raise LabError(
                    f"{scenario.id} with {mutant.id}: {record.verdict.value}: {record.title}",
                    hint=record.findings[0].hint or "what was found so far is kept: start again",
                )
            if record.verdict is not Run.PASSED:
                if leaks and not self._tight(scenario):
                    continue
                if not leaks and record.seconds.steps > _LONG_SECONDS:
                    self._confirm(scenario)
                return Outcome(mutant.id, Verdict.CAUGHT, scenario.id, _seen(record))
        return None

    def _tight(self, scenario: Scenario) -> bool:
        """Whether a scenario that is made again and again passes without any mutant."""
        if scenario.id not in self._leaks:
            record = self._lab.run(self._target, scenario, leaks=True)
            self._leaks[scenario.id] = record.verdict is not Run.PASSED
        return not self._leaks[scenario.id]

    def _confirm(self, scenario: Scenario) -> None:
        """Make sure that it was the mutant that took so long, and not the host; raises NotWell."""
        record = self._lab.run(self._target, scenario)
        if record.verdict is not Run.PASSED:
            raise NotWell(
                f"{scenario.id} on {self._target} failed without a mutant, too: {record.title}",
                hint="others use this host: what was found so far is kept, start again when it is quiet",
            )

    def _ordered(self, mutant: Mutant) -> list[Scenario]:
        """Return the scenarios, those first that are likely to notice: a mutant that is caught ends there."""
        hint = self._journal.hint(mutant)
        likely = [*([hint] if hint else []), *self._catches.get(mutant.function, ())]
        place = {name: number for number, name in reversed(list(enumerate(likely)))}
        return sorted(self._scenarios, key=lambda each: place.get(each.id, len(likely)))

    def _remember(self, function: str, scenario: str) -> None:
        before = self._catches.get(function, {})
        self._catches[function] = {scenario: None, **before}


@dataclass(frozen=True)
class _Built:
    """The modules with one mutant."""

    patch: Path
    images: Mapping[str, bytes]


def _seen(record: Record) -> str:
    finding = record.findings[0]
    return f"{finding.verdict.value}: {finding.title}: {finding.place}"


def same_code(one: bytes, other: bytes) -> bool:
    """Tell whether two images of a module are the same but for what is no code and no data."""
    return one == other or _code(one) == _code(other)


def _code(image: bytes) -> dict[str, bytes]:
    found = ELFFile(BytesIO(image))
    return {
        f"{number} {section.name}": section.data()
        for number, section in enumerate(found.iter_sections())
        if section.name not in _NO_CODE
    }
