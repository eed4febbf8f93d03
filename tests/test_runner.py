# SPDX-License-Identifier: MIT
"""The one loop, with a guest and a session that are made up: what the first finding is, and what follows."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lab.errors import GuestHung, GuestLost
from lab.guest.kmsg import KernelMessage
from lab.guest.names import Names
from lab.language.meant import Meant
from lab.language.requires import Machine
from lab.language.steps import Step
from lab.run import runner
from lab.run.record import Finding, Identity, Record, Verdict
from lab.run.session import LeakedReference, StepFailed
from lab.run.unclean import Complaints
from lab.run.watched import Watched
from lab.scenario import ModuleLoad, Scenario, SplatWanted

if TYPE_CHECKING:
    from collections.abc import Callable

WARNING = [
    "------------[ cut here ]------------",
    "WARNING: CPU: 0 PID: 7 at trouble.c:33 trouble_warn+0x10/0x20 [lab_trouble]",
    "Call Trace:",
    " <TASK>",
    "---[ end trace 0000000000000000 ]---",
]
STALL = ["watchdog: BUG: soft lockup - CPU#1 stuck for 26s! [main:9]"]


@dataclass
class Agent:
    taint: int = 12288

    def tainted(self, timeout: float) -> int:
        return self.taint

    def busy(self, actor: str) -> bool:
        return False

    def deadline(self, seconds: float) -> Callable[[], float]:
        return lambda: 0.0


@dataclass
class Guest:
    agent: Agent = field(default_factory=Agent)
    how: str = "clone"
    restored: bool = True
    hello: Any = None
    names: Any = None
    timers: Any = None
    sections: tuple[Any, ...] = ()
    dead: str = ""
    console: str = ""

    def alive(self) -> bool:
        return not self.dead

    def death(self) -> str:
        return self.dead

    def console_text(self) -> str:
        return self.console

    def armed(self) -> None:
        pass

    def where(self, *_: object) -> list[Any]:
        return []

    def pointing(self, *_: object) -> list[Any]:
        return []

    def learn_modules(self, timeout: float) -> None:
        pass

    def cpus(self, *_: object) -> list[str]:
        return ["CPU 0: trouble_loop+0x1 [lab_trouble]"]


class Cast:
    """Its actors."""

    def whereabouts(self, timeout: float) -> list[str]:
        return ["actor 'main' runs (R)"]


class Session:
    """A session whose steps are functions."""

    def __init__(
        self, steps: dict[int, Callable[[Session], None]], finish: Callable[[Session], None]
    ) -> None:
        self.messages: list[KernelMessage] = []
        self.meant: set[int] = set()
        self.lost = 0
        self.names = self.there = Names({"/proc": b"cpuinfo"}, 200 << 10)
        self.loaded: list[str] = []
        self.looks: list[bool] = []
        self.handless = False
        self.agent = Agent()
        self.current = Step(Path("x.yaml"), 1, "load", "loading lab_x")
        self.patience = 5.0
        self._steps, self._finish = steps, finish
        self.cast = Cast()

    def start(self, scenario: Scenario, *, loaded: bool = False) -> None:
        self.names = self.there

    def step(self, step: Step) -> None:
        self.current = step
        does = self._steps.get(step.line)
        if does is not None:
            does(self)

    def finish(self) -> None:
        self.current = Step(Path("x.yaml"), 1, "load", "unloading lab_x")
        self._finish(self)

    def look(self, *, wide: bool) -> Names:
        self.looks.append(wide)
        return self.there

    def nudge(self) -> None:
        pass

    def say(self, lines: list[str], priority: int = 4) -> None:
        for line in lines:
            self.messages.append(KernelMessage(priority, 0, len(self.messages), 0, line))


def steps(count: int = 2) -> tuple[Step, ...]:
    return tuple(Step(Path("x.yaml"), line, "read", f"step {line}") for line in range(1, count + 1))


def trial(
    monkeypatch: pytest.MonkeyPatch,
    does: dict[int, Callable[[Session], None]] | None = None,
    *,
    finish: Callable[[Session], None] = lambda _: None,
    guest: Guest | None = None,
    images: dict[str, bytes] | None = None,
    **about: Any,
) -> Record:
    session = Session(does or {}, finish)
    monkeypatch.setattr(runner, "session", lambda *_, **__: session)
    monkeypatch.setattr(runner, "_REPORT_SECONDS", 0.0)
    facts = {
        "patience": 1.0,
        "target": "6.12-x86_64",
        "complaints": Complaints(),
        "machine": Machine("x86_64", "6.12"),
    }
    ready: Any = type("Ready", (), facts)()
    scenario = Scenario("x", "x", Path("x.yaml"), 1, "x", steps=steps(), **about)
    there: Any = guest or Guest()
    symbols: Any = lambda: None  # noqa: E731 - stands for what is never asked
    return runner.run(scenario, ready, there, seed=0, images=images or {}, symbols=symbols)


def fails(session: Session) -> None:
    raise StepFailed(steps()[1], "returns: 5", "returns: 4", title="read: returns not as wanted")


def warns(session: Session) -> None:
    session.say(WARNING)


def hangs(session: Session) -> None:
    raise GuestHung("no answer from the agent in time")


def complains(session: Session) -> None:
    session.say(["lab_x: this should not be"])


def test_a_complaint_makes_a_scenario_unclean(monkeypatch: pytest.MonkeyPatch) -> None:
    result = trial(monkeypatch, {1: complains})
    assert result.verdict is Verdict.UNCLEAN
    (found,) = result.findings
    assert found.got == "lab_x: this should not be"
    assert found.place.line == 1  # where it came, not where it was noticed
    assert not result.well  # nobody else gets such a guest


def test_a_complaint_that_is_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    meant = Meant(complains=(re.compile("should not be$"),))
    assert trial(monkeypatch, {1: complains}, meant=meant).verdict is Verdict.PASSED
    other = Meant(complains=(re.compile("something else"),))
    assert trial(monkeypatch, {1: complains}, meant=other).verdict is Verdict.UNCLEAN


def test_a_step_that_fails_says_more_than_a_complaint(monkeypatch: pytest.MonkeyPatch) -> None:
    result = trial(monkeypatch, {1: complains, 2: fails})
    assert [each.verdict for each in result.findings] == [Verdict.STEP_FAILED]
    assert any("should not be" in line for line in result.messages)


def test_what_a_module_leaves_makes_a_scenario_unclean(monkeypatch: pytest.MonkeyPatch) -> None:
    def leaves(session: Session) -> None:
        session.there = Names({"/proc": b"cpuinfo\0lab_x"}, 200 << 10)

    about: dict[str, Any] = {"finish": leaves, "modules": (ModuleLoad("lab_x"),)}
    result = trial(monkeypatch, **about)
    assert result.verdict is Verdict.UNCLEAN
    assert result.title == "/proc/lab_x stayed behind"
    assert trial(monkeypatch, meant=Meant(leaves=("/proc/lab_x",)), **about).verdict is Verdict.PASSED
    missing = trial(monkeypatch, meant=Meant(leaves=("/proc/lab_x", "/proc/lab_y")), **about)
    assert missing.title == "/proc/lab_y was to stay behind and did not"
    # The kernel's own modules stay, and who loads none is not blamed for what others do.
    shipped = about | {"modules": (ModuleLoad("configfs", shipped=True),)}
    assert trial(monkeypatch, **shipped).verdict is Verdict.PASSED


def test_what_is_found_in_memory_is_told_before_who_looks_dies_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hook = Finding(Verdict.UNCLEAN, "a_list still points to lab_x_hook of lab_x, which has gone")
    monkeypatch.setattr("lab.run.watched.Watched.remains", lambda _self: [hook])

    def dies(_session: Session, *, wide: bool) -> Names:
        raise StepFailed(steps()[1], "it comes back", "killed", title="looking what is left was fatal")

    monkeypatch.setattr(Session, "look", dies)
    result = trial(monkeypatch, finish=lambda _session: None, modules=(ModuleLoad("lab_x"),))
    assert [each.title for each in result.findings] == [hook.title, "looking what is left was fatal"]


def test_memory_that_nobody_gives_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def takes(session: Session) -> None:
        session.there = Names(session.there.places, 190 << 10)

    about: dict[str, Any] = {"finish": takes, "modules": (ModuleLoad("lab_x"),)}
    hello = type("Hello", (), {"free_kib": 200 << 10, "tainted": 0})()
    result = trial(monkeypatch, guest=Guest(hello=hello), **about)
    assert result.title == "memory that nobody gave back"
    assert "10 MiB less" in result.findings[0].got
    meant = Meant(leaves=("memory",))
    assert trial(monkeypatch, guest=Guest(hello=hello), meant=meant, **about).verdict is Verdict.PASSED
    little = type("Hello", (), {"free_kib": 192 << 10, "tainted": 0})()
    assert trial(monkeypatch, guest=Guest(hello=little), **about).verdict is Verdict.PASSED
    # A kernel that has just booted takes some for itself.
    booted = Guest(hello=hello, restored=False, how="booted")
    assert trial(monkeypatch, guest=booted, **about).verdict is Verdict.PASSED


def test_a_step_that_was_right_but_for_what_leaked_is_unclean(monkeypatch: pytest.MonkeyPatch) -> None:
    def leaks(session: Session) -> None:
        raise StepFailed(steps()[1], "out: zero", "out: 5a", title="ioctl: padding", unclean=True)

    assert [each.verdict for each in trial(monkeypatch, {2: leaks}).findings] == [Verdict.UNCLEAN]


def test_lost_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    def loses(session: Session) -> None:
        session.lost = 3

    assert trial(monkeypatch, {1: loses}).title == "messages of the kernel were lost"
    assert trial(monkeypatch, {1: loses}, meant=Meant(loses_messages=True)).verdict is Verdict.PASSED


def test_all_well(monkeypatch: pytest.MonkeyPatch) -> None:
    result = trial(monkeypatch)
    assert result.verdict is Verdict.PASSED
    assert result.messages == ()


def test_a_step_that_fails_is_told_with_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    result = trial(monkeypatch, {2: fails})
    assert result.verdict is Verdict.STEP_FAILED
    report = result.report("pytest x")
    assert "x.yaml:2: step 2" in report
    assert "wanted  returns: 5" in report
    assert report.endswith("see it again:\n  pytest x")


def test_a_splat_ends_the_scenario_at_its_step(monkeypatch: pytest.MonkeyPatch) -> None:
    result = trial(monkeypatch, {1: warns, 2: fails})
    assert [each.verdict for each in result.findings] == [Verdict.SPLAT]
    assert str(result.findings[0].place) == "x.yaml:1: step 1"


def test_a_splat_that_made_the_step_fail_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    def both(session: Session) -> None:
        warns(session)
        fails(session)

    result = trial(monkeypatch, {2: both})
    assert [each.verdict for each in result.findings] == [Verdict.SPLAT, Verdict.STEP_FAILED]


def test_a_splat_that_is_expected_passes_and_its_taint_is_forgiven(monkeypatch: pytest.MonkeyPatch) -> None:
    guest = Guest(Agent(12288 | 512))
    result = trial(monkeypatch, {1: warns}, guest=guest, expect_splat=SplatWanted("WARNING", "trouble_warn"))
    assert result.verdict is Verdict.PASSED


def test_another_splat_than_the_expected_one_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    result = trial(monkeypatch, {1: warns}, expect_splat=SplatWanted("BUG"))
    assert [each.verdict for each in result.findings] == [Verdict.SPLAT, Verdict.STEP_FAILED]


def test_a_splat_that_is_wanted_may_kill_who_loads_or_unloads(monkeypatch: pytest.MonkeyPatch) -> None:
    def dies(session: Session) -> None:
        session.handless = True
        session.say(WARNING)
        raise StepFailed(session.current, "it comes back", "who did it was killed")

    assert trial(monkeypatch, finish=dies, expect_splat=SplatWanted("WARNING")).verdict is Verdict.PASSED
    unwanted = trial(monkeypatch, finish=dies)
    assert [each.verdict for each in unwanted.findings] == [Verdict.SPLAT, Verdict.STEP_FAILED]
    assert str(unwanted.findings[0].place) == "x.yaml:1: unloading lab_x"
    another = trial(monkeypatch, finish=dies, expect_splat=SplatWanted("BUG"))
    assert another.verdict is Verdict.SPLAT


def test_an_init_that_returns_neither_success_nor_an_error_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    words = [
        "do_init_module: 'lab_x'->init suspiciously returned 1, it should follow 0/-E convention",
        "do_init_module: loading module anyway...",
        "CPU: 0 PID: 7 Comm: lab Tainted: G           OE",
        "Call Trace:",
        " dump_stack_lvl+0x60/0x80",
    ]
    found = trial(monkeypatch, {1: lambda session: session.say(words)})
    assert [each.title for each in found.findings] == ["the init of lab_x returned 1"]
    assert found.verdict is Verdict.STEP_FAILED


def test_a_taint_that_nobody_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    result = trial(monkeypatch, guest=Guest(Agent(12288 | 32)))
    assert result.verdict is Verdict.SPLAT
    assert "(B)" in result.title
    meant = trial(monkeypatch, guest=Guest(Agent(12288 | 32)), meant=Meant(taint="BC"))
    assert meant.verdict is Verdict.PASSED
    more = trial(monkeypatch, guest=Guest(Agent(12288 | 32 | 1 << 10)), meant=Meant(taint="B"))
    assert "(C)" in more.title


@pytest.mark.parametrize(
    ("said", "taints", "passes"),
    [
        (b"CDDL", 1, True),
        (b"GPL", 1, False),
        (b"Dual BSD/GPL", 1, False),
        (b"CDDL", 1 | 1 << 10, False),
        (b"CDDL", 0, True),
    ],
)
def test_a_licence_of_the_modules_own_taints_and_is_told(
    monkeypatch: pytest.MonkeyPatch, said: bytes, taints: int, *, passes: bool
) -> None:
    images = {"lab_x": b"\x7fELF\0author=me\0license=" + said + b"\0depends=\0"}
    guest = Guest(Agent(12288 | taints))
    found = trial(monkeypatch, guest=guest, images=images, modules=(ModuleLoad("lab_x"),))
    assert (found.verdict is Verdict.PASSED) == passes
    assert [remark.startswith("lab_x is under 'CDDL'") for remark in found.remarks] == [True] * (
        said == b"CDDL"
    )
    assert not found.well


def test_a_leaked_reference_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def leaks(session: Session) -> None:
        raise LeakedReference("lab_x cannot be unloaded after the scenario: EAGAIN")

    result = trial(monkeypatch, finish=leaks)
    assert result.verdict is Verdict.STEP_FAILED
    assert str(result.findings[0].place) == "x.yaml:1: unloading lab_x"


def test_a_hang_says_where_everybody_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    result = trial(monkeypatch, {2: hangs})
    assert result.verdict is Verdict.HUNG
    assert "CPU 0: trouble_loop" in result.report()
    assert "actor 'main' runs" in result.report()


def test_a_hang_that_the_kernel_notices_too_is_one_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def both(session: Session) -> None:
        session.say(STALL, priority=0)
        hangs(session)

    result = trial(monkeypatch, {2: both})
    assert [each.verdict for each in result.findings] == [Verdict.HUNG]
    assert "soft lockup" in result.report()


def test_a_death_is_lost_with_its_last_words(monkeypatch: pytest.MonkeyPatch) -> None:
    guest = Guest()

    def dies(session: Session) -> None:
        guest.dead = "Kernel panic - not syncing: lab_trouble"
        guest.console = "[    1.000000] Kernel panic - not syncing: lab_trouble\n"
        raise GuestLost(guest.dead)

    result = trial(monkeypatch, {1: dies}, guest=guest)
    assert [each.verdict for each in result.findings] == [Verdict.LOST]
    assert result.title == "Kernel panic - not syncing: lab_trouble"


@pytest.mark.parametrize("verdict", ["lost", "hung"])
def test_a_verdict_that_is_expected_and_does_not_come(monkeypatch: pytest.MonkeyPatch, verdict: Any) -> None:
    result = trial(monkeypatch, expect_verdict=verdict)
    assert result.verdict is Verdict.STEP_FAILED


def test_a_hang_that_is_expected_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert trial(monkeypatch, {2: hangs}, expect_verdict="hung").verdict is Verdict.PASSED


def test_a_hang_that_is_expected_is_waited_for_less_long(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[float] = []
    for verdict in (None, "hung"):
        trial(monkeypatch, {1: lambda session: given.append(session.patience)}, expect_verdict=verdict)
    assert given == [5.0, 2.0]


def test_a_hang_that_is_expected_does_not_replace_a_splat_that_is(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = SplatWanted("WARNING")

    def warns_and_hangs(session: Session) -> None:
        session.say(WARNING)
        hangs(session)

    both = trial(monkeypatch, {2: warns_and_hangs}, expect_verdict="hung", expect_splat=wanted)
    assert both.verdict is Verdict.PASSED
    one = trial(monkeypatch, {2: hangs}, expect_verdict="hung", expect_splat=wanted)
    assert one.verdict is Verdict.STEP_FAILED
    assert "the splat that was expected did not come" in one.title


def test_a_failed_step_is_not_the_hang_that_was_expected(monkeypatch: pytest.MonkeyPatch) -> None:
    assert trial(monkeypatch, {2: fails}, expect_verdict="hung").verdict is Verdict.STEP_FAILED


def test_a_long_log_is_cut_at_its_beginning() -> None:
    here = Identity("x", "x", "x.yaml", 1, "6.12-x86_64")
    found = Record(here, (Finding(Verdict.LOST, "gone"),), messages=tuple(f"line {n}" for n in range(100)))
    report = found.report()
    assert "the last 60 of 100" in report
    assert "line 39" not in report
    assert "line 99" in report


def taints(number: int) -> Guest:
    return Guest(Agent(12288 | number))


@pytest.mark.parametrize(
    ("well", "does", "guest", "about"),
    [
        (True, {}, None, {}),
        (False, {2: fails}, None, {}),
        (False, {1: warns}, None, {}),
        # Meant, and all the same nobody should live in such a guest.
        (False, {1: warns}, None, {"expect_splat": SplatWanted("WARNING", "trouble_warn")}),
        (False, {1: hangs}, None, {"expect_verdict": "hung"}),
        (False, {}, taints(1), {}),
        (False, {}, taints(512), {}),
    ],
)
def test_only_a_guest_in_which_all_was_well_may_be_followed_by_another(
    monkeypatch: pytest.MonkeyPatch,
    well: bool,
    does: dict[int, Callable[[Session], None]],
    guest: Guest | None,
    about: dict[str, Any],
) -> None:
    assert trial(monkeypatch, does, guest=guest, **about).well is well


def test_what_a_step_leaves_is_told_with_it_unless_it_died_as_it_was_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    left = Finding(Verdict.UNCLEAN, "a notifier stayed")
    monkeypatch.setattr(Watched, "after", lambda *_: [left])

    def dies(session: Session) -> None:
        session.say(["Oops: 0002 [#1] SMP NOPTI", "Call Trace:", "---[ end trace 11aa5f95e9f03d7b ]---"])

    result = trial(monkeypatch, {2: fails})
    assert [each.title for each in result.findings] == [left.title, "read: returns not as wanted"]
    died = trial(monkeypatch, {1: dies}, expect_splat=SplatWanted("Oops"))
    assert died.verdict is Verdict.PASSED, died.report()


class Later(Session):
    """A session after a scenario: something comes when it has looked some times."""

    def __init__(self, comes: Callable[[Session], None], after: int) -> None:
        super().__init__({}, lambda _: None)
        self.machine = Machine("x86_64", "6.12")
        self._comes = comes
        self._left = after

    def nudge(self) -> None:
        self._left -= 1
        if self._left == 0:
            self._comes(self)


def lingered(
    monkeypatch: pytest.MonkeyPatch,
    comes: Callable[[Session], None],
    guest: Guest | None = None,
    after: int = 3,
    **about: Any,
) -> list[Finding]:
    later = Later(comes, after)
    monkeypatch.setattr(runner, "session", lambda *_, **__: later)
    monkeypatch.setattr("time.sleep", lambda _: None)
    clock = iter(range(1000))
    monkeypatch.setattr("time.monotonic", lambda: float(next(clock)))
    scenario = Scenario("x", "x", Path("x.yaml"), 1, "x", **about)
    ready: Any = type("Ready", (), {"complaints": Complaints()})()
    there: Any = guest or Guest()
    return runner.linger(scenario, ready, there, 9.0)


def test_what_comes_late(monkeypatch: pytest.MonkeyPatch) -> None:
    (found,) = lingered(monkeypatch, warns)
    assert (found.verdict, found.title) == (Verdict.SPLAT, "WARNING")
    assert str(found.place) == "the 9 s after its end"


def test_nothing_comes_late(monkeypatch: pytest.MonkeyPatch) -> None:
    assert lingered(monkeypatch, lambda _: None) == []
    assert lingered(monkeypatch, warns, after=50) == []  # nobody waits so long


def test_a_complaint_that_comes_late(monkeypatch: pytest.MonkeyPatch) -> None:
    says: Callable[[Session], None] = lambda session: session.say(["lab_x: odd"])  # noqa: E731 - two uses
    (found,) = lingered(monkeypatch, says)
    assert (found.verdict, found.title) == (Verdict.UNCLEAN, "the kernel complained: lab_x: odd")
    assert lingered(monkeypatch, says, meant=Meant(complains=(re.compile("odd$"),))) == []


def test_a_guest_that_dies_late(monkeypatch: pytest.MonkeyPatch) -> None:
    guest = Guest()

    def dies(_: Session) -> None:
        guest.dead = "Kernel panic - not syncing"
        raise GuestLost("the guest died")

    (found,) = lingered(monkeypatch, dies, guest)
    assert (found.verdict, found.title) == (Verdict.LOST, "Kernel panic - not syncing")


def test_a_guest_that_hangs_late(monkeypatch: pytest.MonkeyPatch) -> None:
    def hangs(_: Session) -> None:
        raise GuestHung("no answer from the agent in time")

    (found,) = lingered(monkeypatch, hangs)
    assert (found.verdict, found.title) == (Verdict.HUNG, "no answer from the agent in time")
