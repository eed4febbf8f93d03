# SPDX-License-Identifier: MIT
"""The lab catches what it must: trouble that a scenario means to make, made when it is not expected."""

from __future__ import annotations

import os
import re
import signal
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NoReturn

import pytest

from lab import scenario
from lab.arch import architecture
from lab.house import TREES
from lab.language import reader
from lab.language.meant import Meant
from lab.run import ready, runner
from lab.run.record import Verdict
from lab.verbs import table

if TYPE_CHECKING:
    from lab.kernels.model import Target
    from lab.run.lab import Lab
    from lab.scenario import Scenario

HOUSE = Path(__file__).resolve().parent.parent
TROUBLE = reader.load(HOUSE / "scenarios" / "trouble.yaml", root=HOUSE, verbs=table(), trees=TREES)
EXPECTED = [each for each in TROUBLE.scenarios if each.expect_splat or each.expect_verdict]
CALM = reader.load(HOUSE / "scenarios" / "ioctl.yaml", root=HOUSE, verbs=table(), trees=TREES).scenarios[0]
PEACE = next(each for each in TROUBLE.scenarios if each.name == "an unknown word is refused and harmless")
LITTER = reader.load(HOUSE / "scenarios" / "litter.yaml", root=HOUSE, verbs=table(), trees=TREES).scenarios
UNCLEAN = [each for each in LITTER if each.meant != Meant()]
CLEAN = next(each for each in LITTER if each.name == "a module that cleans up leaves nothing")
KEPT = next(each for each in LITTER if each.name == "an open file keeps the module")
FIRST_ONES = {each.name: each for each in reversed(EXPECTED)}.values()  # one set of `with` values each


def unexpected(trouble: Scenario) -> Scenario:
    """Return a scenario that makes its trouble without saying so."""
    return replace(trouble, expect_splat=None, expect_verdict=None)


def told_of(trouble: Scenario) -> Verdict:
    """Return the verdict of a scenario that makes its trouble without saying so."""
    if trouble.expect_splat is not None:
        return Verdict.SPLAT
    if trouble.expect_verdict == "hung" and trouble.steps[-1].verb == "finish":
        return Verdict.STEP_FAILED  # that step is about a call that sleeps, and tells where
    return Verdict(trouble.expect_verdict)


@pytest.mark.parametrize("trouble", FIRST_ONES, ids=lambda each: each.id)
def test_trouble_that_is_not_expected(
    trouble: Scenario, target: Target, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nothing here takes long but what hangs, and for that there is no need to wait so long.
    monkeypatch.setattr(ready, "_STEP_SECONDS", 2.0)
    secret = unexpected(trouble)
    lab.ready(target, secret)
    result = lab.run(target, secret)
    assert result.verdict is told_of(trouble), result.report()
    assert str(trouble.steps[0].file) in result.report()
    # The next scenario runs as if nothing had happened.
    lab.ready(target, CALM)
    assert lab.run(target, CALM).verdict is Verdict.PASSED


@pytest.mark.parametrize(
    ("when", "word", "verdict", "told"),
    [
        ("at_init", "warn", Verdict.SPLAT, "loading lab_trouble with at_init=warn"),
        ("at_init", "null", Verdict.SPLAT, "loading lab_trouble with at_init=null was fatal"),
        ("at_exit", "null", Verdict.SPLAT, "in write_to_nowhere [lab_trouble]"),
        ("at_init", "sleep_deep", Verdict.HUNG, "in init_module"),
        ("at_exit", "sleep_deep", Verdict.HUNG, "unloading lab_trouble does not come back"),
        ("at_init", "one", Verdict.STEP_FAILED, "the init of lab_trouble returned 1"),
        ("at_init", "no", Verdict.STEP_FAILED, "EINVAL"),
    ],
)
def test_trouble_while_a_module_comes_or_goes(
    when: str,
    word: str,
    verdict: Verdict,
    told: str,
    target: Target,
    lab: Lab,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ready, "_STEP_SECONDS", 2.0)
    trouble = replace(PEACE, modules=(scenario.ModuleLoad("lab_trouble", ((when, word),)),))
    lab.ready(target, trouble)
    record = lab.run(target, trouble)
    assert record.verdict is verdict, record.report()
    assert told in record.report()
    assert str(record.findings[0].place).startswith(str(trouble.file))


@pytest.mark.parametrize("litter", UNCLEAN, ids=lambda each: each.id)
def test_what_is_left_and_not_meant(litter: Scenario, target: Target, lab: Lab) -> None:
    careless = replace(litter, meant=Meant())
    lab.ready(target, careless)
    record = lab.run(target, careless)
    assert record.verdict is Verdict.UNCLEAN, record.report()
    for name in litter.meant.leaves:
        assert f"{name.rpartition('/')[2]}" in record.report()


@pytest.mark.parametrize(
    ("params", "told"),
    [
        ({"leaves": "cache"}, "/sys/kernel/slab/lab_litter stayed behind"),
        ({"leaves": "major"}, "lab_litter_major stayed behind"),
        ({"leaves": "thread"}, "the kernel thread lab_litter stayed behind"),
        # Up to 6.7 by its own name, and with 15 characters in some releases since.
        ({"leaves": "queue"}, "the kernel thread (kworker/R-)?lab_l(itter)? stayed behind"),
        # 64-bit kernels tell where their timers and their variables are.
        ({"leaves": "timer"}, "a timer of litter_tick"),
        ({"leaves": "timer_elsewhere"}, "a timer of litter_tick"),
        ({"leaves": "work"}, "a delayed work of litter_work_fn"),
        ({"leaves": "work_elsewhere"}, "a delayed work of litter_work_fn"),
        ({"leaves": "notifier"}, "still points to litter_block of lab_litter, which has gone"),
    ],
)
def test_what_cannot_be_meant(params: dict[str, str], told: str, target: Target, lab: Lab) -> None:
    if told.startswith(("a ", "still")) and architecture(target.kernel.arch).word != 8:
        pytest.skip(f"where the kernel of {target.kernel.arch} has its own is not looked for")
    litter = replace(CLEAN, modules=(scenario.ModuleLoad("lab_litter", tuple(params.items())),), steps=())
    lab.ready(target, litter)
    record = lab.run(target, litter)
    assert record.verdict is Verdict.UNCLEAN, record.report()
    assert re.search(told, record.report()), record.report()


def test_an_open_file_that_does_not_keep_its_module(target: Target, lab: Lab) -> None:
    unowned = (scenario.ModuleLoad("lab_litter", (("unowned", "1"),)),)
    careless = replace(KEPT, modules=unowned, steps=KEPT.steps[:1])
    lab.ready(target, careless)
    record = lab.run(target, careless)
    assert record.title == "an open file of /dev/lab_litter does not keep its module", record.report()
    assert record.findings[0].place.line == KEPT.steps[0].line


@pytest.mark.parametrize("verdict", ["lost", "hung"])
def test_trouble_that_does_not_come(verdict: Literal["lost", "hung"], target: Target, lab: Lab) -> None:
    hopeful = replace(CALM, expect_verdict=verdict)
    lab.ready(target, hopeful)
    result = lab.run(target, hopeful)
    assert result.verdict is Verdict.STEP_FAILED
    assert f"expect_verdict: {verdict}" in result.report()


def test_a_splat_that_does_not_come(target: Target, lab: Lab) -> None:
    hopeful = replace(CALM, expect_splat=scenario.SplatWanted("WARNING"))
    lab.ready(target, hopeful)
    result = lab.run(target, hopeful)
    assert result.verdict is Verdict.STEP_FAILED
    assert "the splat that was expected did not come" in result.report()


def not_asked() -> NoReturn:
    raise AssertionError("where a dead guest's CPUs stand is asked for")


def test_a_killed_qemu_is_lost_and_said_so(target: Target, lab: Lab) -> None:
    lab.ready(target, CALM)
    with lab.pool(target, CALM.boot).take() as guest:
        os.kill(guest.pid, signal.SIGKILL)
        parts = lab.target(target)
        result = runner.run(CALM, parts, guest, seed=0, images=parts.images, symbols=not_asked)
    assert result.verdict is Verdict.LOST
    assert "SIGKILL" in result.report() or "signal 9" in result.report()
    assert lab.run(target, CALM).verdict is Verdict.PASSED
