# SPDX-License-Identifier: MIT
"""The one loop: a scenario's steps against a guest, then the health check.

The first mistake that happened is the verdict; what follows from it is listed below it. A splat came
first when the kernel printed it before the step that it broke gave its answer.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

from lab.errors import GuestError, GuestHung, GuestLost, LabError
from lab.guest.answers import LAB
from lab.guest.splat import splats
from lab.kernels.modinfo import GPL_COMPATIBLE, licence
from lab.language.meant import TAINTS
from lab.run import leftovers, unclean
from lab.run.record import Finding, Identity, Place, Record, Seconds, Verdict
from lab.run.session import LeakedReference, Session, StepFailed
from lab.run.watched import Unwatched, Watch, Watched
from lab.verbs import table

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from lab.guest.machine import Guest
    from lab.guest.splat import Splat
    from lab.guest.symbols import Symbols
    from lab.language.meant import Meant
    from lab.run.ready import Ready
    from lab.run.unclean import Complaints
    from lab.scenario import Scenario, SplatWanted

# Taint bits of Documentation/admin-guide/tainted-kernels.rst that loading our own modules sets.
_MODULE_TAINT = (1 << 12) | (1 << 13)  # O: out of tree, E: unsigned
_OTHER_LICENCE_TAINT = 1 << 0  # P: a module that is not under the GPL
_SPLAT_TAINT = (1 << 7) | (1 << 9) | (1 << 14)  # D: died, W: warned, L: soft lockup: a splat says more
_DEADLY = ("BUG", "Oops")  # kinds after which something of the kernel is gone
_AFTER_DEATH = r"Tainted: [A-Z ]*D"  # of a report that comes after such a one
_HANG_KINDS = ("soft lockup", "hard lockup", "hung task", "RCU stall")  # what a hang looks like to the kernel
# The kernel goes on with such a module, and shows the stack of who loads it.
# "do_init_module: 'x'->init …", since 7.x "x: init …".
_ODD_INIT = re.compile(r"(?P<module>\w+)(?:'->|: )init suspiciously returned (?P<value>-?\d+).*")
_REPORT_SECONDS = 1.0  # for the rest of a report whose beginning was seen
_LINGER_SECONDS = 0.1  # between two looks
_QUIET_LOOKS = 5  # in a row without a new line: it is over
_AFTERMATH_SECONDS = 2.0  # for each question to a guest that is in trouble already
_MEANT_TO_HANG = 0.4  # of the usual deadline: nobody doubts whether such a scenario is only slow


def run(
    scenario: Scenario,
    ready: Ready,
    guest: Guest,
    *,
    seed: int,
    images: Mapping[str, bytes],
    symbols: Callable[[], Symbols],
    loaded: bool = False,
    watch: Watch | None = None,
) -> Record:
    """Run one scenario in a guest that is its own, and return what became of it.

    `images` are the modules by name, `loaded`: the guest has the scenario's already, `symbols` makes the
    kernel's when they are needed; `watch` is what was looked at before (None: nothing). The guest is the
    caller's to close. Raises Unsupported; what happens in the guest is in the record.
    """
    trial = Trial(scenario, ready, guest, seed, images, symbols, loaded, watch or Watch())
    began, started = time.time(), time.monotonic()
    trial.go()
    return Record(
        Identity.of(scenario, ready.target),
        findings=tuple(trial.findings),
        messages=tuple(trial.kernel_lines()) if trial.findings else (),
        began=began,
        seconds=Seconds(steps=time.monotonic() - started),
        guest=guest.how,
        remarks=trial.remarks(),
        well=trial.well,
        outcomes=tuple(trial.outcomes),
        said=tuple(message.text for message in trial.session.messages),
    )


@dataclass
class Trial:
    """One scenario under way."""

    scenario: Scenario
    ready: Ready
    guest: Guest
    seed: int
    images: Mapping[str, bytes]
    symbols: Callable[[], Symbols]
    loaded: bool = False
    watch: Watch = field(default_factory=Watch)
    findings: list[Finding] = field(default_factory=list)
    beside: Place | None = None  # where we are, while that is not what the session does
    looked: int = 0  # at so many kernel messages
    told: int = 0  # splats of the log that are findings already
    met: bool = False  # the splat that is wanted has come
    died: bool = False  # of a splat that was wanted
    outcomes: list[object] = field(default_factory=list)
    places: list[tuple[int, Place]] = field(default_factory=list)  # up to which message, where we were
    healthy: bool = False  # all steps are done, and the health check

    def __post_init__(self) -> None:
        self.session = session(self.ready, self.guest, self.scenario.uapi, seed=self.seed, images=self.images)
        if self.scenario.expect_verdict == "hung":
            self.session.patience *= _MEANT_TO_HANG
        watched = Unwatched if self.watch.off else Watched
        self.watched = watched(self.scenario, self.guest, self.session, self.images, self.watch)

    def go(self) -> None:
        """Do the steps and the health check; afterwards `findings` says it all."""
        try:
            self._steps()
        except StepFailed as error:
            if self.session.handless:
                _let_it_speak(self.session)
            self._splats()
            # Who loads or unloads dies of the splat that is wanted there, and nothing can be unloaded then.
            if not (self.session.handless and self.met and not self.findings):
                self.findings.append(self._failed(error))
        except LeakedReference as error:
            self._splats()
            first, *rest = str(error).splitlines()
            self.findings.append(Finding(Verdict.STEP_FAILED, first, self.place, notes=tuple(rest)))
        except GuestHung as error:
            reports = self._last_words()
            self.findings.append(self._hung(error, reports))
        except GuestLost as error:
            self._lost(error)
        except _Stop:
            pass
        except LabError as error:
            self._splats()
            self.findings.append(Finding(Verdict.LAB_ERROR, error.message, self.place, hint=error.hint))
        self._judge()

    def _steps(self) -> None:
        self.session.names = self.guest.names
        self.session.start(self.scenario, loaded=self.loaded)
        self._check()
        self.watched.begun()
        if self.scenario.expect_verdict == "hung":
            self.guest.learn_modules(self.ready.patience)  # afterwards nobody may be there to answer
        for step in self.scenario.steps:
            self.outcomes.append(self.session.step(step))
            self._check()
            if not self.died:  # what it died of is half done, and nobody goes on with it
                self.findings += self.watched.after(step, self.outcomes[-1])
        self.session.finish()
        self._check()
        self._left_behind()
        self.beside = Place("the health check after the last step")
        self._taint()
        self._complaints()
        self.healthy = True

    def _left_behind(self) -> None:
        """Look at what the modules have left, now that they have gone."""
        if not self.watched.tested or self.died or self.scenario.expect_verdict is not None:
            return
        self.beside = leftovers.PLACE
        self.findings += self.watched.remains()  # first, before a timer expires
        found = self.watched.gone()
        self._check()  # who looks may have met something that is gone
        self.findings += found

    @property
    def place(self) -> Place:
        """Where the scenario is."""
        return self.beside or Place.of(self.session.current)

    def _check(self) -> None:
        """Look for splats; one that nobody wanted ends the scenario at the step that caused it."""
        count = len(self.session.messages)
        if count == self.looked and self.guest.alive():
            return
        new, self.looked = self.session.messages[self.looked : count], count
        self.places.append((count, self.place))
        odd = next(filter(None, (_ODD_INIT.search(message.text) for message in new)), None)
        if odd is not None:
            title = f"the init of {odd['module']} returned {odd['value']}"
            self.findings.append(Finding(Verdict.STEP_FAILED, title, self.place, "0, or -E…", odd[0]))
            raise _Stop
        if len(splats(self.session.messages)) > self.told:
            _let_it_speak(self.session)
        if self._splats():
            raise _Stop

    def _splats(self) -> bool:
        """Turn new splats into findings; True when there was one that is not wanted."""
        found = splats(
            self.session.messages if self.guest.alive() else self.guest.console_text().splitlines()
        )
        new, self.told = found[self.told :], max(self.told, len(found))
        unwanted = False
        for splat in new:
            if self._wanted(splat):
                self.died = self.died or splat.kind in _DEADLY
                self.met = self.met or splat.kind not in _HANG_KINDS or self.scenario.expect_verdict is None
                continue
            if self.died and splat.kind == "WARNING" and splat.matches(_AFTER_DEATH):
                continue  # arm64 has one each time: the context tracking of a thread that never left
            unwanted = True
            self.findings.append(finding(splat, self.place))
        return unwanted

    def _wanted(self, splat: Splat) -> bool:
        wanted = self.scenario.expect_splat
        if self.scenario.expect_verdict == "hung" and splat.kind in _HANG_KINDS:
            return True  # on a busy host the kernel's own detectors may be as fast as our deadline
        return wanted is not None and matches(wanted, splat)

    def kernel_lines(self) -> list[str]:
        """Return what the kernel printed so far; of a dead guest, what reached the console."""
        if not self.guest.alive():
            return self.guest.console_text().splitlines()
        return [
            f"[{message.time_us // 1_000_000:5}.{message.time_us % 1_000_000:06}] {message.text}"
            for message in self.session.messages
        ]

    @property
    def well(self) -> bool:
        """Whether the guest got through the health check without anything ever having been wrong."""
        return self.healthy and not self.findings and not self.told and not self.others

    @cached_property
    def others(self) -> dict[str, str]:
        """The modules that are not under the GPL, with their licences."""
        named = ((name, licence(self.images[name])) for name in self.scenario.loads if name in self.images)
        return {name: said for name, said in named if said not in GPL_COMPATIBLE}

    def remarks(self) -> tuple[str, ...]:
        """Return what the reader should know although it is no mistake."""
        return tuple(
            f"{name} is under {said!r}, not the GPL: the kernel is tainted (P), and lockdep is off"
            for name, said in self.others.items()
            if said
        )

    def _taint(self) -> None:
        forgive = (_SPLAT_TAINT if self.met else 0) | (_OTHER_LICENCE_TAINT if self.others else 0)
        forgive |= self.scenario.meant.taint_bits
        found = taint(self.guest, timeout=self.ready.patience, forgive=forgive)
        if found is not None:
            self.findings.append(replace(found, place=self.place))

    def _complaints(self) -> None:
        """Turn what the kernel said and nobody wanted, though it is no report, into findings."""
        messages = self.session.messages
        found = unclean.complaints(
            messages,
            told=splats(messages),
            meant=self.session.meant,
            known=self.ready.complaints,
            machine=self.ready.machine,
            complains=self.scenario.meant.complains,
        )
        number = {message.sequence: place for place, message in enumerate(messages)}
        self.findings += unclean.complained(
            [(message, self._place_of(number[message.sequence])) for message in found]
        )
        if self.session.lost and not self.scenario.meant.loses_messages:
            self.findings.append(unclean.lost(self.session.lost))

    def _place_of(self, message: int) -> Place:
        """Return where the scenario was when a message came."""
        return next((place for count, place in self.places if message < count), self.place)

    def _failed(self, error: StepFailed) -> Finding:
        return Finding(
            Verdict.UNCLEAN if error.unclean else Verdict.STEP_FAILED,
            error.title,
            Place.of(error.step),
            wanted=error.wanted,
            got=error.got,
            notes=tuple(error.notes),
        )

    def _last_words(self) -> list[str]:
        """Return what the kernel reported of a hang in the last step: the hang itself, no other mistake."""
        before = len(self.findings)
        self._splats()
        ours = [item for item in self.findings[before:] if item.kind in _HANG_KINDS]
        self.findings[before:] = [item for item in self.findings[before:] if item not in ours]
        return [line for item in ours for line in (item.title, *item.notes)]

    def _hung(self, error: GuestHung, reports: list[str]) -> Finding:
        notes = []
        try:
            notes += self.session.cast.whereabouts(timeout=_AFTERMATH_SECONDS)
            if not self.session.agent.busy(LAB):
                self.guest.learn_modules(_AFTERMATH_SECONDS)
        except GuestError as trouble:  # whom it does not answer at first it will not answer later either
            notes.append(f"the agent does not answer either: {trouble.message}")
        except OSError:
            pass  # without the modules' places their functions have no names, that is all
        notes += reports
        try:
            notes += self.guest.cpus(self.symbols(), self.images)
        except LabError as trouble:
            notes.append(f"the kernel's symbols are not to be had: {trouble.message}")
            notes += self.guest.cpus()
        return Finding(Verdict.HUNG, error.message, self.place, notes=tuple(notes), hint=error.hint)

    def _lost(self, error: GuestLost) -> None:
        before = len(self.findings)
        self._splats()
        # What the guest said while dying is the reason of its death, not a mistake of its own.
        last = [line for item in self.findings[before:] for line in (item.title, *item.notes)]
        del self.findings[before:]
        why = self.guest.death()
        self.findings.append(
            Finding(Verdict.LOST, why or error.message, self.place, notes=tuple(last), hint=error.hint)
        )

    def _judge(self) -> None:
        """Weigh the findings against the trouble that the scenario means to make."""
        verdict = self.scenario.expect_verdict
        if verdict is not None:
            if self.findings and self.findings[0].verdict.value == verdict:
                self.findings.clear()
            elif not self.findings:
                self.findings.append(
                    Finding(
                        Verdict.STEP_FAILED,
                        f"the guest was to be {verdict} and was not",
                        Place("", str(self.scenario.file), self.scenario.line),
                        wanted=f"expect_verdict: {verdict}",
                        got="every step did what it says, and the guest is well",
                    )
                )
        wanted = self.scenario.expect_splat
        if wanted is not None and not self.met:
            missing = Finding(
                Verdict.STEP_FAILED,
                "the splat that was expected did not come",
                Place("", str(self.scenario.file), self.scenario.line),
                wanted=f"expect_splat: {wanted}",
                got=", ".join(item.title for item in self.findings) or "no splat",
            )
            self.findings.append(missing)


def _let_it_speak(session: Session) -> None:
    """Wait until the kernel has printed all of a report: another CPU may be in the middle of one."""
    deadline = time.monotonic() + _REPORT_SECONDS
    quiet = 0
    while quiet < _QUIET_LOOKS and time.monotonic() < deadline:
        before = len(session.messages)
        session.nudge()
        quiet = quiet + 1 if len(session.messages) == before else 0


class _Stop(Exception):  # noqa: N818 - ends the steps; the finding is made already
    pass


def session(
    ready: Ready, guest: Guest, uapi: Sequence[str], *, seed: int, images: Mapping[str, bytes]
) -> Session:
    """Return a session with a guest, in which nothing has happened yet."""
    abi = ready.abi(uapi)
    if guest.hello is not None and guest.hello.page_size != abi.page_size:
        abi = replace(abi, page_size=guest.hello.page_size)  # no header has it: it is the kernel's choice
    return Session(
        guest.agent,
        abi,
        arch=ready.arch,
        modules=images,
        verbs=table(),
        seed=seed,
        patience=ready.patience,
        config=ready.config,
        narrow=lambda: ready.narrow(uapi),
        machine=ready.machine,
    )


def taint(guest: Guest, *, timeout: float, forgive: int = 0) -> Finding | None:
    """Return a finding when the kernel is tainted by more than our modules; `forgive` are further bits."""
    before = guest.hello.tainted if guest.hello is not None else 0
    bits = guest.agent.tainted(timeout) & ~before & ~_MODULE_TAINT & ~forgive
    if not bits:
        return None
    letters = "".join(letter for bit, letter in enumerate(TAINTS) if bits >> bit & 1)
    return Finding(
        Verdict.SPLAT,
        f"the kernel is tainted ({letters}) although nothing was reported",
        hint="the letters: Documentation/admin-guide/tainted-kernels.rst; where one is meant: `taint: [C]`",
    )


def look_after(guest: Guest, session: Session, known: Complaints, meant: Meant) -> Finding | None:
    """Return what is wrong with a guest after a Python test, None when it is well."""
    found, place = splats(session.messages), Place("during the test")
    if found:
        return finding(found[0], place)
    assert session.machine is not None
    said = unclean.complaints(
        session.messages,
        told=(),
        meant=session.meant,
        known=known,
        machine=session.machine,
        complains=meant.complains,
    )
    if said:
        return unclean.complained([(message, place) for message in said])[0]
    if session.lost and not meant.loses_messages:
        return unclean.lost(session.lost)
    return taint(guest, timeout=session.patience, forgive=meant.taint_bits)


def linger(scenario: Scenario, ready: Ready, guest: Guest, seconds: float) -> list[Finding]:
    """Let a guest live on after a scenario that was well; return what went wrong by then, at once."""
    later = session(ready, guest, (), seed=0, images={})
    place = Place(f"the {seconds:g} s after its end")
    end = time.monotonic() + seconds
    try:
        while True:
            later.nudge()
            over = time.monotonic() >= end
            if over or later.messages:
                _let_it_speak(later)
                found = look_after(guest, later, ready.complaints, scenario.meant)
                if found is not None:
                    return [replace(found, place=place)]
            if over:
                return []
            time.sleep(min(_LINGER_SECONDS, max(0.0, end - time.monotonic())))
    except GuestError as error:
        hung = isinstance(error, GuestHung)
        title = error.message if hung else guest.death() or error.message
        return [Finding(Verdict.HUNG if hung else Verdict.LOST, title, place, hint=error.hint)]


def matches(wanted: SplatWanted, splat: Splat) -> bool:
    """Tell whether a splat is the one that the scenario wants."""
    return wanted.kind.lower() == splat.kind.lower() and splat.matches(wanted.matches)


def finding(splat: Splat, place: Place) -> Finding:
    """Return a splat as a finding of the step during which it came."""
    return Finding(Verdict.SPLAT, splat.title, place, notes=splat.lines, kind=splat.kind, frames=splat.frames)


__all__ = [
    "Trial",
    "finding",
    "linger",
    "look_after",
    "matches",
    "run",
    "session",
    "taint",
]
