# SPDX-License-Identifier: MIT
"""What pytest users expect of scenarios, with a lab that gives verdicts out of the scenarios' names."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar
from xml.etree import ElementTree as ET

import pytest

from lab import settings, workers
from lab.errors import HostError, LabError, ModuleFailed, Unsupported
from lab.guest import pool
from lab.house import HOUSE, WISHES
from lab.kernels.build import Modules
from lab.kernels.model import Kernel, Target
from lab.plugin import options
from lab.run import lab as run_lab
from lab.run.record import Finding, Identity, Record, Verdict, refused

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from lab.run.ready import Wishes
    from lab.scenario import Scenario

pytest_plugins = ["pytester"]

FILE = """channel: ioctl
scenarios:
  - {name: fine, steps: [open: /dev/null]}
  - {name: broken, steps: [open: /dev/null]}
  - {name: "broken: with (a, b) and [brackets]", steps: [open: /dev/null]}
  - {name: elsewhere, steps: [open: /dev/null]}
  - {name: the host, steps: [open: /dev/null]}
"""


def target(name: str) -> Target:
    return Target(name, Kernel(name, name, name, name, "x86_64", "stock", "debian", "gcc-14", True))


class Lab:
    """Stands in for run_lab.Lab."""

    def __init__(self, _settings: object = None, wishes: Wishes = WISHES, _progress: object = None) -> None:
        self.wishes = wishes

    def targets(self, kernels: Sequence[str], *_: Any, fetch: bool = True) -> tuple[Target, ...]:
        assert isinstance(fetch, bool)
        return tuple(target(name) for name in kernels)

    built: ClassVar[dict[str, Modules]] = {}  # by the target's name
    elsewhere: ClassVar[dict[str, str]] = {}

    def target(self, target: Target) -> Any:
        if target.name not in self.built:
            raise ModuleFailed("mine/dkms.conf cannot be read", "line 1: no")
        return SimpleNamespace(modules=self.built[target.name])

    def plan(self, targets: Sequence[Target]) -> list[str]:
        return [f"{len(targets)} targets, the last is {targets[-1]}"]

    def begin(self, _target: Target, *, guest: bool) -> None:
        pass

    def expect(self, *_: Any) -> None:
        pass

    fails: ClassVar[set[str]] = set()  # scenarios in which the lab itself makes a mistake
    broken: LabError | None = None  # what stops every scenario, if anything

    def ready(self, _target: Target, scenario: Scenario) -> None:
        if self.broken is not None:
            raise self.broken
        if scenario.name == "elsewhere":
            raise Unsupported("CONFIG_ELSEWHERE is not set")

    def run(self, target: Target, scenario: Scenario) -> Record:
        here = Identity.of(scenario, target)
        if scenario.name.startswith("broken"):
            return Record(here, (Finding(Verdict.STEP_FAILED, "not as wanted"),))
        if scenario.name in self.fails:
            raise ZeroDivisionError("of the lab's own")
        if scenario.name == "the host":
            return Record(here, (Finding(Verdict.LAB_ERROR, HostError("disk full").message),))
        return Record(here)

    def refused(self, target: Target, scenario: Scenario, error: LabError | Unsupported) -> Record:
        return refused(Identity.of(scenario, target), error)

    recorded: ClassVar[list[Record]] = []

    def records(self, _root: Path) -> Lab:
        return self

    def shorten(self) -> None:
        pass

    def add(self, record: Record) -> None:
        self.recorded.append(record)

    def settle(self) -> list[str]:
        return []

    def notes(self) -> list[str]:
        return []

    def close(self) -> None:
        pass


@pytest.fixture
def house(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    monkeypatch.setattr(run_lab, "Lab", Lab)
    Lab.recorded.clear()
    pytester.makeconftest('pytest_plugins = ["lab.plugin", "lab.plugin.fixtures"]')
    directory = pytester.mkdir("scenarios")
    (directory / "ioctl.yaml").write_text(FILE)
    return pytester


def run(house: pytest.Pytester, *words: str) -> pytest.RunResult:
    return house.runpytest_inprocess("-p", "no:xdist", "scenarios", "--kernel", "6.12", *words)


def test_verdicts_become_outcomes(house: pytest.Pytester) -> None:
    result = run(house)
    result.assert_outcomes(passed=1, failed=2, skipped=1, errors=1)
    result.stdout.fnmatch_lines(
        [
            "lab error: disk full",
            "step failed: not as wanted",
            "  pytest 'scenarios/ioctl.yaml::broken?6.12-x86_64?' --kernel 6.12 --lab-seed *",
            "6.12-x86_64: 1 passed, 2 step failed, 1 unsupported, 1 lab error",
        ]
    )


def test_the_line_that_shows_it_again_has_what_the_run_was_told(house: pytest.Pytester) -> None:
    mine = house.mkdir("mine")
    (mine / "Kbuild").write_text("obj-m := x.o\n")
    (mine / "faults").mkdir()
    (mine / "faults/late.patch").touch()
    options = (
        "--cold",
        "--qemu",
        "/opt/my qemu",
        "--module",
        "mine",
        "--fault",
        "late",
        "--lab-seed",
        "7",
    )
    run(house, *options, "-k", "broken and not brackets").stdout.fnmatch_lines(
        ["  pytest * --lab-seed 7 --cold --qemu '/opt/my qemu' --module mine --fault late"]
    )


def test_what_became_of_the_scenarios_is_kept(house: pytest.Pytester) -> None:
    run(house, "-k", "fine or broken or elsewhere", "--deselect", "scenarios/ioctl.yaml::fine[6.12-x86_64]")
    assert {(each.identity.scenario, each.verdict.value, each.title) for each in Lab.recorded} == {
        ("broken", "step failed", "not as wanted"),
        ("broken: with (a, b) and [brackets]", "step failed", "not as wanted"),
        ("elsewhere", "unsupported", "CONFIG_ELSEWHERE is not set"),
    }


def test_another_project_may_have_what_the_lab_has_too(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        """
        import pytest

        def pytest_addoption(parser):
            parser.addoption("--seed", default="theirs")

        @pytest.fixture
        def guest(): return "Ann"

        @pytest.fixture
        def lab(): return "chemistry"

        @pytest.fixture
        def target(guest): return f"a present for {guest}"
        """
    )
    pytester.makepyfile(
        """
        import pytest

        def test_theirs(target, lab, request):
            assert (target, lab) == ("a present for Ann", "chemistry")
            assert request.config.option.seed == "theirs"

        @pytest.mark.parametrize("target", ["the moon"])
        def test_parameters(target):
            assert target == "the moon"
        """
    )
    (pytester.mkdir("scenarios") / "play.yaml").write_text("acts: [one, two]\n")
    pytester.runpytest_inprocess("-p", "lab.plugin", "-p", "no:xdist").assert_outcomes(passed=2)


def test_scenarios_are_where_the_ini_file_says(house: pytest.Pytester) -> None:
    house.makeini("[pytest]\nchanlab_scenarios = mine\n")
    (house.mkdir("mine") / "a.yaml").write_text(FILE)
    result = house.runpytest_inprocess("-p", "no:xdist")
    result.assert_outcomes(passed=1, failed=2, skipped=1, errors=1)
    assert "mine/a.yaml" in result.stdout.str()
    assert "scenarios/ioctl.yaml" not in result.stdout.str()


def test_a_directory_that_is_named_may_be_called_anything(house: pytest.Pytester) -> None:
    place = house.mkdir("mine")
    (place / "one.yaml").write_text("# mine\nchannel: mine\nscenarios:\n- {name: open, steps: []}\n")
    (place / "compose.yaml").write_text("services: {web: {channel: none}}\n")
    result = house.runpytest_inprocess("-p", "no:xdist", "mine", "--kernel", "6.12", "--collect-only", "-q")
    assert [line for line in result.outlines if "::" in line] == ["mine/one.yaml::open[6.12-x86_64]"]
    # Whoever runs other tests is given no guests.
    result = house.runpytest_inprocess("-p", "no:xdist", "mine", "--collect-only", "-q")
    assert [line for line in result.outlines if "::" in line] == []


def test_the_plugin_is_registered_once_however_often_it_is_named(crowd: pytest.Pytester) -> None:
    words = ("-p", "lab.plugin", "-p", "no:xdist", "scenarios", "--kernel", "6.12", "-k", "fine")
    result = crowd.runpytest_subprocess(*words, "--collect-only", "-q")
    result.stdout.fnmatch_lines(["scenarios/ioctl.yaml::fine*"])


def test_a_mistake_of_the_labs_is_on_record_too(
    house: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Lab, "fails", {"fine"})
    result = run(house, "-k", "fine")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*ZeroDivisionError: of the lab's own*", "6.12-x86_64: 1 lab error"])
    assert [each.title for each in Lab.recorded] == ["ZeroDivisionError: of the lab's own"]


def test_only_a_target_can_be_unable(house: pytest.Pytester) -> None:
    test = house.makepyfile(
        "from lab.errors import Unsupported\ndef test_it():\n    raise Unsupported('this')"
    )
    house.runpytest_inprocess("-p", "no:xdist", test).assert_outcomes(failed=1)


def test_what_stops_all_scenarios_is_told_without_a_traceback(
    house: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Lab, "broken", HostError("no disk", hint="buy one"))
    # Without the summary, which repeats errors in full where CI is set and a line of each elsewhere.
    result = run(house, "--tb=short", "-rN")
    result.assert_outcomes(errors=5)
    text = result.stdout.str()
    assert text.count("lab error: no disk") == 5
    assert "run/lab.py" not in text
    assert "test_plugin.py" not in text


def test_a_module_that_does_not_compile_fails_and_its_lines_are_told_once(
    house: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Lab, "broken", ModuleFailed("x does not compile", "x.c:3: error: y"))
    result = run(house, "-rN")
    result.assert_outcomes(failed=5)
    text = result.stdout.str()
    assert text.count("build failed: x does not compile") == 5
    assert text.count("x.c:3: error: y") == 1
    assert text.count("the compiler's lines are above") == 4
    assert sum("x.c:3: error: y" in each.findings[0].notes for each in Lab.recorded) == 5  # JUnit has all


def module(house: pytest.Pytester, name: str, **files: str) -> Path:
    directory = house.mkdir(name)
    for stem, text in files.items():
        (directory / stem.replace("_c", ".c")).write_text(text)
    return directory


def test_a_module_for_which_nobody_wrote_anything_comes_and_goes(house: pytest.Pytester) -> None:
    source = (
        "module_param(depth, int, 0444);\nmodule_param(hidden, int, 0);\nmodule_param(w, int, S_IWUSR);\n"
    )
    module(house, "mine", Makefile="obj-m := my-drv.o", my_drv_c="")
    (house.path / "mine/my-drv.c").write_text(source)
    result = house.runpytest_inprocess(
        "-p", "no:xdist", "--module", "mine", "--kernel", "6.12", "--kernel", "6.1", "-v"
    )
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["mine/Makefile::my_drv comes and goes?6.12-x86_64? PASSED*"])
    (first, _) = Lab.recorded
    assert (first.identity.file, first.identity.line) == ("mine/Makefile", 1)
    named = house.runpytest_inprocess(
        "-p",
        "no:xdist",
        "mine/Makefile::my_drv comes and goes[6.1-x86_64]",
        "--module",
        "mine",
        "--kernel",
        "6.1",
    )
    named.assert_outcomes(passed=1)


def test_a_dkms_conf_may_have_other_modules_for_each_kernel(
    house: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = module(house, "mine")
    (place / "dkms.conf").write_text("")

    def made(*names: str, **excluded: str) -> Modules:
        paths = dict.fromkeys(names, place)
        return Modules(paths, {}, {}, {}, "", (), excluded, {**paths, **dict.fromkeys(excluded, place)})

    words = ("-p", "no:xdist", "--module", "mine", "--kernel", "6.12", "--kernel", "5.10", "-v")
    monkeypatch.setattr(Lab, "built", {"6.12": made("one"), "5.10": made("two", three="too old")})
    monkeypatch.setattr(Lab, "elsewhere", {})
    result = house.runpytest_inprocess(*words)
    result.assert_outcomes(passed=6)
    result.stdout.fnmatch_lines(["mine/dkms.conf::two comes and goes?6.12-x86_64? PASSED*"])
    assert Lab.elsewhere["two"] == "its dkms.conf has two for 5.10-x86_64, and not for this kernel"
    monkeypatch.setattr(Lab, "built", {"5.10": made("two")})
    house.runpytest_inprocess(*words).assert_outcomes(passed=2)
    monkeypatch.setattr(Lab, "built", {})
    result = house.runpytest_inprocess(*words)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*mine/dkms.conf cannot be read*"])


def test_a_module_that_scenarios_load_needs_no_more(house: pytest.Pytester) -> None:
    module(house, "mine", Kbuild="obj-m := one.o two.o")
    (house.path / "scenarios/more.yaml").write_text(
        "channel: x\nmodules: [one]\nscenarios: [{name: a, steps: [open: /dev/null]}]\n"
    )
    house.makeini("[pytest]\nchanlab_modules = mine\nchanlab_scenarios = scenarios\n")
    words = ("-p", "no:xdist", "mine", "scenarios/more.yaml", "--kernel", "6.12", "-v")
    result = house.runpytest_inprocess(*words)
    result.assert_outcomes(passed=2, deselected=1)
    result.stdout.fnmatch_lines_random(["mine/Kbuild::two comes and goes*", "scenarios/more.yaml::a*"])
    house.makeini(
        "[pytest]\nchanlab_modules = mine\nchanlab_scenarios = scenarios\ntestpaths = scenarios/more.yaml\n"
    )
    result = house.runpytest_inprocess("-p", "no:xdist", "--kernel", "6.12", "-v")
    result.assert_outcomes(passed=2, deselected=1)
    # Without --module on the command line, nobody who runs other tests is given guests.
    house.runpytest_inprocess("-p", "no:xdist", "mine").assert_outcomes()


def test_a_directory_where_nothing_says_what_to_build(house: pytest.Pytester) -> None:
    house.mkdir("mine")
    result = house.runpytest_inprocess("-p", "no:xdist", "--module", "mine", "--kernel", "6.12")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--module names */mine, which has neither a Kbuild nor a Makefile*"])


def test_last_failed_selects_what_failed_and_nothing_else(house: pytest.Pytester) -> None:
    run(house)
    again = run(house, "--lf")
    again.assert_outcomes(failed=2, errors=1)
    first = run(house, "--ff", "-x")
    first.assert_outcomes(failed=1)


def test_ids_lead_to_one_item(house: pytest.Pytester) -> None:
    item = "scenarios/ioctl.yaml::broken: with (a, b) and [brackets][6.12-x86_64]"
    result = house.runpytest_inprocess("-p", "no:xdist", item, "--kernel", "6.12")
    result.assert_outcomes(failed=1)


def test_markers_and_keywords(house: pytest.Pytester) -> None:
    run(house, "-m", "ioctl", "-k", "fine").assert_outcomes(passed=1, deselected=4)
    run(house, "-m", "not ioctl").assert_outcomes(deselected=5)


def test_each_kernel_has_its_items(house: pytest.Pytester) -> None:
    result = run(house, "--kernel", "5.10", "-k", "fine")
    result.assert_outcomes(passed=2, deselected=8)
    result.stdout.fnmatch_lines(["5.10-x86_64: 1 passed", "6.12-x86_64: 1 passed"])


def test_mistakes_in_a_file_are_its_own_error(house: pytest.Pytester) -> None:
    (house.path / "scenarios" / "bad.yaml").write_text(
        "channel: ioctl\nscenarios:\n  - {name: x, stepps: []}\n"
    )
    result = run(house)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*bad.yaml:3: *'stepps'*"])
    assert "Traceback" not in result.stdout.str()


def test_workers_notes_reach_the_terminal(house: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(HOUSE))  # the workers are processes of their own
    house.makeconftest(
        """
        import pytest
        from lab import settings, workers
        from lab.run import lab as run_lab
        from tests.test_plugin import Lab

        class Talking(Lab):
            def notes(self):
                return ["every guest is booted, none restored: a reason"]

        run_lab.Lab = Talking
        pytest_plugins = ["lab.plugin"]
        """
    )
    result = house.runpytest_subprocess("-n", "2", "scenarios", "--kernel", "6.12", "-k", "fine or broken")
    result.assert_outcomes(passed=1, failed=2)
    assert result.stdout.str().count("every guest is booted, none restored: a reason") == 1


def test_workers_have_the_seed_that_is_printed(crowd: pytest.Pytester) -> None:
    crowd.path.joinpath("test_seed.py").write_text(
        "def test_a(request): assert request.config.option.lab_seed == 7\n"
        "def test_b(request): print(request.config.option.chanlab_run)\n"
        "def test_c(request): print(request.config.option.chanlab_run)\n"
    )
    crowd.runpytest_subprocess("-n", "2", "test_seed.py", "--lab-seed", "7").assert_outcomes(passed=3)
    result = crowd.runpytest_subprocess("-n", "2", "test_seed.py", "-rP")
    result.assert_outcomes(passed=2, failed=1)
    text = result.stdout.str()
    printed = re.search(r"chanlab: seed (\d+)", text)
    assert printed is not None
    assert f"assert {printed[1]} == 7" in text
    assert len(set(re.findall(r"\d{8}T\d{6}Z-\w{6}", text))) == 1


@pytest.mark.parametrize("workers", [[], ["-n", "2"]])
def test_a_doubt_at_the_end_fails_the_run(
    house: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, workers: list[str]
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(HOUSE))
    house.makeconftest(
        """
        from lab.run import lab as run_lab
        from tests.test_plugin import Lab

        class Doubting(Lab):
            ran = False

            def run(self, target, scenario):
                self.ran = True
                return super().run(target, scenario)

            def settle(self):
                return ["a scenario passed where something was left"] if self.ran else []

        run_lab.Lab = Doubting
        pytest_plugins = ["lab.plugin"]
        """
    )
    result = house.runpytest_subprocess(*workers, "scenarios", "--kernel", "6.12", "-k", "fine")
    result.assert_outcomes(passed=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert result.stdout.str().count("NOT TO BE BELIEVED: a scenario passed where something was left") == 1


def test_a_matrix_is_planned_first_and_run_target_by_target(house: pytest.Pytester) -> None:
    result = run(house, "--kernel", "6.1", "-k", "fine or elsewhere", "-v")
    result.stdout.fnmatch_lines(
        [
            "chanlab: 2 targets, the last is 6.1-x86_64",
            "*::fine*6.12-x86_64* PASSED*",
            "*::elsewhere*6.12-x86_64* SKIPPED*",
            "*::fine*6.1-x86_64* PASSED*",
        ]
    )
    assert "2 targets" not in run(house, "-k", "fine").stdout.str()


@pytest.mark.parametrize(("more", "kept"), [((), False), (("test_more.py",), True)])
def test_hypothesis_has_its_say_only_where_other_tests_were_run(
    house: pytest.Pytester, more: tuple[str, ...], *, kept: bool
) -> None:
    house.makepyfile(test_more="def test_more(): pass")
    had: list[bool] = []

    class Looks:
        @pytest.hookimpl(tryfirst=True)
        def pytest_terminal_summary(self, config: pytest.Config) -> None:
            had.append(config.pluginmanager.has_plugin("hypothesispytest"))

    words = ("-p", "no:xdist", "scenarios", *more, "--kernel", "6.12", "-k", "fine or more")
    house.runpytest_inprocess(*words, plugins=[Looks()]).assert_outcomes(passed=1 + len(more), deselected=4)
    assert had == [kept]


@pytest.fixture
def crowd(house: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """Give a house whose processes have the stand-in too, and where two workers are a crowd."""
    monkeypatch.setenv("PYTHONPATH", str(HOUSE))
    house.makeconftest(
        """
        from lab import workers
        from lab.run import lab as run_lab
        from tests.test_plugin import Lab

        run_lab.Lab = Lab
        workers.crowd = lambda: 2
        pytest_plugins = ["lab.plugin"]
        """
    )
    return house


@pytest.mark.parametrize(
    ("words", "number"),
    [
        ("scenarios", 2),
        ("scenarios -n 0", 0),
        ("scenarios -n 3", 3),
        ("scenarios/iotcl.yaml -n 3", 0),  # one process, which says that it is not there
        ("scenarios -x -m ioctl", 2),
        ("scenarios -k fine", None),
        ("scenarios --lf", None),
        ("scenarios --pdb", None),
        ("scenarios -s", None),
        ("scenarios --collect-only", None),
        ("scenarios/ioctl.yaml::fine[6.12-x86_64]", None),
        ("scenarios --stress -k fine", 4),
        ("scenarios --stress --collect-only", None),
        ("scenarios --stress -n 0", 0),
        ("conftest.py", None),
    ],
)
def test_few_scenarios_and_watched_ones_are_run_by_one_process(
    house: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, words: str, number: int | None
) -> None:
    monkeypatch.setattr(workers, "number", lambda scenarios: 2 if scenarios >= 5 else 1)
    monkeypatch.setattr(workers, "crowd", lambda: 4)
    config = house.parseconfig(*words.split(), "--kernel", "6.12")
    options.decide_workers(config)
    assert config.option.numprocesses == number
    config.workerinput = {"workerid": "gw0"}  # type: ignore[attr-defined]  # as xdist's workers have it
    config.option.numprocesses = None  # and this is what xdist makes of it there
    options.decide_workers(config)
    assert config.option.numprocesses is None


def test_stress_starts_workers_that_start_none_and_says_what_it_did(crowd: pytest.Pytester) -> None:
    words = ("scenarios", "--kernel", "6.12", "--stress", "--lab-seed", "3")
    result = crowd.runpytest_subprocess(*words, timeout=120)
    result.assert_outcomes(passed=1, failed=2, skipped=1, errors=1)
    result.stdout.fnmatch_lines(
        [
            "chanlab: stress by that seed, 2 workers, * CPUs: *",
            "2 workers *",
            "*pytest * --lab-seed 3 --stress",
            "--stress: no guest ran long enough to be disturbed",
        ]
    )


def test_about_how_many_scenarios_there_are(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for file in (tmp_path / "a.yaml", tmp_path / "sub" / "b.yml"):
        file.write_text(FILE)
    assert workers.roughly([tmp_path], 1) == 10
    assert workers.roughly([tmp_path / "a.yaml"], 3) == 15
    assert workers.targets(["6.12"], [], []) == 1
    assert workers.targets(["6.1", "6.12"], ["all"], ["stock"]) == 8
    assert workers.targets([">=6.1"], [], []) > 1


def test_workers_are_as_many_as_cpus_and_memory_and_work_allow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "cpus", lambda: 8)
    monkeypatch.setattr(pool, "available_mib", lambda: 100_000)
    assert [workers.number(count) for count in (0, 10, 64, 1500)] == [1, 1, 4, 8]
    monkeypatch.setattr(pool, "available_mib", lambda: 1300)
    assert workers.number(1500) == 3
    monkeypatch.setattr(pool, "available_mib", lambda: 10)
    assert workers.number(1500) == 1
    monkeypatch.setattr(pool, "available_mib", lambda: None)
    assert workers.number(1500) == 8


@pytest.mark.parametrize("workers", [["-p", "no:xdist"], ["-n", "2"]])
def test_junit_says_what_a_record_says(crowd: pytest.Pytester, workers: list[str]) -> None:
    crowd.runpytest_subprocess(*workers, "scenarios", "--kernel", "6.12", "--junitxml=j.xml")
    tree = ET.parse(crowd.path / "j.xml")  # noqa: S314 - it is ours
    cases = tree.getroot().iter("testcase")
    found = {
        case.attrib["name"]: {each.attrib["name"]: each.attrib["value"] for each in case.iter("property")}
        for case in cases
    }
    assert len(found) == 5
    fine, elsewhere = found["fine[6.12-x86_64]"], found["elsewhere[6.12-x86_64]"]
    assert (fine["verdict"], fine["target"], "title" in fine) == ("passed", "6.12-x86_64", False)
    assert (elsewhere["verdict"], elsewhere["title"]) == ("unsupported", "CONFIG_ELSEWHERE is not set")
    assert found["the host[6.12-x86_64]"]["verdict"] == "lab error"
