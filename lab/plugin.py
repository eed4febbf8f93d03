# SPDX-License-Identifier: MIT
"""The lab as pytest sees it: options, collection, one item per scenario and target, reports.

The only file of the lab that imports pytest.
"""

from __future__ import annotations

import gc
import os
import random
import shlex
from collections import Counter
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lab.arch import ARCHITECTURES, DEFAULT
from lab.errors import BootFailed, BuildFailed, LabError, Unsupported
from lab.run.verdict import Result, Verdict

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Sequence

    from lab.guest.stress import Stress
    from lab.kernels.model import Target
    from lab.progress import Progress
    from lab.relay import Hub
    from lab.run.hand import Hand
    from lab.run.lab import Lab
    from lab.run.results import Row
    from lab.scenario import Scenario

DEFAULT_KERNEL = "6.12"  # the line that Debian's stable release ships
SCENARIOS = "scenarios"  # YAML files below a directory of this name are scenario files
_LAB = pytest.StashKey["Run"]()
_SEED_BITS = 32
# What xdist's processes tell each other.
_NOTES, _LAGS, _PROGRESS = "chanlab_notes", "chanlab_lags", "chanlab_progress"
_DOUBTS = "chanlab_doubts"
_HYPOTHESIS = "hypothesispytest"
_CONTROLLER = "dsession"  # of xdist: where it is, others run the scenarios


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the lab's options, and its settings as ini options of the same names."""
    group = parser.getgroup("chanlab", "guests under QEMU")
    group.addoption(
        "--kernel",
        action="append",
        default=None,
        metavar="SPEC",
        help="6.12, 6.12.107, '>=6.1', oldest, newest or all; repeatable "
        f"(default: {DEFAULT_KERNEL}; `lab kernels` lists what there is)",
    )
    group.addoption(
        "--arch",
        action="append",
        default=None,
        metavar="ARCH",
        help=f"{', '.join(ARCHITECTURES)} or all; repeatable (default: {DEFAULT})",
    )
    group.addoption(
        "--flavour",
        action="append",
        default=None,
        metavar="NAME",
        help="stock, cloud, rt … or all (default: stock)",
    )
    group.addoption(
        "--cold", action="store_true", help="boot a guest for each scenario instead of cloning one"
    )
    group.addoption(
        "--seed", type=int, default=None, help="the run's seed (default: a new one, which is printed)"
    )
    group.addoption(
        "--journal",
        type=Path,
        default=None,
        metavar="FILE",
        help="append what each scenario's steps and the kernel gave, for `lab compare`",
    )
    group.addoption("--qemu", type=Path, default=None, metavar="PATH", help="a QEMU of your own")
    group.addoption(
        "--fault",
        action="append",
        default=[],
        metavar="NAME",
        help="apply kmod/faults/NAME.patch to a copy of the modules, to see a scenario fail; repeatable",
    )
    group.addoption(
        "--stress",
        action="store_true",
        help="let the CPUs of guests lag behind one another at random while twice as many workers run as "
        "there are CPUs (or -n)",
    )
    from lab.settings import SETTINGS  # noqa: PLC0415 - pytest starts without the lab's parts

    for setting in SETTINGS:
        parser.addini(setting.name, f"{setting.meaning} (default: {setting.default})", default="")


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Decide how many workers there are where -n does not; before xdist looks at it."""
    option = config.option
    # A worker of xdist's comes by here too, with the option reset: it must not start workers of its own.
    if hasattr(config, "workerinput") or getattr(option, "numprocesses", 0) is not None:
        return
    if option.dist != "no" or _by_hand(option):
        return
    from lab import workers  # noqa: PLC0415 - only a process that may start some needs it

    if option.stress:
        option.numprocesses = workers.crowd()
        return
    # What -k and --lf leave is known when all is read; mostly it is little.
    chosen = option.keyword and not option.keyword.startswith("not ")
    if chosen or getattr(option, "lf", False):  # -p no:cacheprovider: there is no --lf
        return
    places = [Path(arg) for arg in config.args if "::" not in arg]
    targets = workers.targets(option.kernel or "", option.arch or "", option.flavour or "")
    count = workers.roughly([place for place in places if _holds_scenarios(place)], targets)
    count += len(config.args) - len(places)
    if (found := workers.number(count)) > 1:
        option.numprocesses = found


def _by_hand(option: Any) -> bool:
    """Whether somebody is looking at what one process does, or nothing is run."""
    return bool(option.collectonly or option.usepdb or option.trace or option.capture == "no")


def _holds_scenarios(place: Path) -> bool:
    return SCENARIOS in place.absolute().parts or place.suffix in (".yaml", ".yml")


def pytest_configure(config: pytest.Config) -> None:
    """Register what is known before anything is collected; nothing is fetched here."""
    config.addinivalue_line("markers", "scenario: a scenario from a YAML file, run in a guest")
    config.addinivalue_line("markers", "guest: a Python test that is given a guest")
    if config.option.seed is None:
        # Made here, in the controller, so that the workers of one run share it.
        config.option.seed = random.SystemRandom().getrandbits(_SEED_BITS)
    config.stash[_LAB] = run = Run(config)
    config.pluginmanager.register(_Verdicts(run))


def pytest_unconfigure(config: pytest.Config) -> None:
    """Let go of guests and locks, however the run ended."""
    run = config.stash.get(_LAB, None)
    if run is not None:
        run.close()


class Run:
    """What one pytest process knows of the lab; everything is made when first needed."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._lab: Lab | None = None
        self._targets: tuple[Target, ...] | None = None
        self.heard: list[str] = []  # what xdist's workers want said
        self.doubts: list[str] = []  # verdicts that do not stand
        self.lags = Counter[str]()  # what --stress did, here and in workers
        self._stress: Stress | None = None
        self._hub: Hub | None = None
        self.reported = False  # whether there is a line of dots
        # Nothing is captured yet: what is shown here reaches whoever waits, and not a report.
        self._stderr = os.fdopen(os.dup(2), "w", encoding="utf-8", errors="replace")

    @property
    def seed(self) -> int:
        """The run's seed."""
        return int(self._config.option.seed)

    @property
    def lab(self) -> Lab:
        """The lab of this process."""
        if self._lab is None:
            from lab import settings  # noqa: PLC0415 - only runs that have scenarios pay for it
            from lab.run import lab as run_lab  # noqa: PLC0415 - as above

            option = self._config.option
            ini = {setting.name: str(self._config.getini(setting.name)) for setting in settings.SETTINGS}
            wishes = run_lab.Wishes(
                seed=self.seed,
                cold=option.cold,
                patches=tuple(run_lab.fault(name) for name in option.fault),
                qemu=option.qemu,
                journal=option.journal.absolute() if option.journal is not None else None,
            )
            self._lab = run_lab.Lab(settings.load(ini), wishes, self.progress)
        return self._lab

    @cached_property
    def progress(self) -> Progress:
        """Where this process says what takes long: a worker of xdist's to the one with the terminal."""
        from lab.progress import Progress  # noqa: PLC0415 - as above

        worker = getattr(self._config, "workerinput", {})
        if _PROGRESS in worker:
            from lab.relay import Remote  # noqa: PLC0415 - as above

            return Remote(worker[_PROGRESS], worker["workerid"])
        return Progress(
            self._stderr, quiet=self._config.option.verbose < 0 or bool(worker), fresh=self._fresh
        )

    def _fresh(self) -> None:
        """End the line of dots, if there is one."""
        terminal = self._config.pluginmanager.get_plugin("terminalreporter")
        if terminal is not None and self.reported:
            self.reported = False
            # With workers it does not know that there is one.
            terminal.currentfspath = terminal.currentfspath or -2
            terminal.ensure_newline()

    def hub(self) -> Hub:
        """Return where workers say what takes them long."""
        if self._hub is None:
            from lab.relay import Hub  # noqa: PLC0415 - only where there are workers

            self._hub = Hub(self.progress)
        return self._hub

    def verdict(self) -> None:
        """Take note that there is something to see: what takes long has to take longer to be told."""
        self.reported = True
        if self._hub is not None:
            from lab.relay import LATE  # noqa: PLC0415 - as above

            self._hub.patience = LATE

    def targets(self) -> tuple[Target, ...]:
        """Return the targets that the command line asks for.

        Raises pytest.UsageError with the lab's own words where it asks for what is not there.
        """
        if self._targets is None:
            option = self._config.option
            try:
                self._targets = self.lab.targets(
                    option.kernel or [DEFAULT_KERNEL],
                    option.arch or [DEFAULT],
                    option.flavour or ["stock"],
                    fetch=not option.collectonly,
                )
            except LabError as error:
                raise pytest.UsageError(str(error)) from error
        return self._targets

    def again(self, nodeid: str, target: Target) -> str:
        """Return the one line that runs an item again as it ran here."""
        option = self._config.option
        words = ["pytest", nodeid, "--kernel", target.name]
        if target.kernel.arch != DEFAULT:
            words += ["--arch", target.kernel.arch]
        if target.kernel.flavour != "stock":
            words += ["--flavour", target.kernel.flavour]
        words += ["--seed", str(self.seed)]
        words += ["--cold"] if option.cold else []
        words += ["--qemu", str(option.qemu)] if option.qemu is not None else []
        words += ["--stress"] if option.stress else []
        words += [word for name in option.fault for word in ("--fault", name)]
        return shlex.join(words)

    def disturb(self) -> None:
        """Begin what --stress asks for, until close().

        Raises pytest.UsageError where that is impossible.
        """
        from lab.guest.stress import Stress  # noqa: PLC0415 - only --stress needs it

        worker = getattr(self._config, "workerinput", {}).get("workerid", "")
        try:
            self._stress = Stress(f"{self.seed} {worker}", self.lags).__enter__()
        except LabError as error:
            raise pytest.UsageError(str(error)) from error

    def calm(self) -> None:
        """End what disturb() began."""
        if self._stress is not None:
            self._stress.close()

    def record(self, rows: Sequence[Row]) -> None:
        """Keep what became of each scenario, for `lab channels`."""
        try:
            self.lab.record(self._config.rootpath, rows)
        except LabError as error:
            self.heard.append(f"what became of the scenarios is not kept: {error.message}")

    def notes(self) -> list[str]:
        """Return what the lab wants said once at the end of a run."""
        own = self._lab.notes() if self._lab is not None else []
        return list(dict.fromkeys([*self.heard, *own]))

    def settle(self) -> None:
        """End the guests, and hear which verdicts do not stand."""
        if self._lab is not None:
            self.doubts += self._lab.settle()

    def close(self) -> None:
        """Let go of everything."""
        self.calm()
        if self._lab is not None:
            self._lab.close()
            self._lab = None
        if self._hub is not None:
            self._hub.close()
        if "progress" in self.__dict__:
            self.progress.close()
        self._stderr.close()


# --- collection -----------------------------------------------------------------------------------


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    """Find out about the targets before anything is collected, so that what is wrong is said once."""
    # What is imported and collected stays to the end: looking through it for garbage again and again was a
    # tenth of the time to a run's first scenario, and some of each scenario's.
    collecting = gc.isenabled()
    gc.disable()
    try:
        _prepare(session)
        return (yield)
    finally:
        gc.freeze()
        if collecting:
            gc.enable()


def _prepare(session: pytest.Session) -> None:
    config = session.config
    places = [Path(arg.partition("::")[0]) for arg in config.args]
    if any(map(_holds_scenarios, places)):
        run = config.stash[_LAB]
        targets = run.targets()
        if targets and not config.option.collectonly and not config.pluginmanager.has_plugin(_CONTROLLER):
            run.lab.begin(
                targets[0], guest=bool(config.option.keyword) or any("::" in arg for arg in config.args)
            )
        terminal = config.pluginmanager.get_plugin("terminalreporter")
        # Here, since only here xdist's main process comes by; its workers have no terminal.
        if len(targets) > 1 and terminal is not None and not config.option.collectonly:
            for line in run.lab.plan(targets):
                terminal.write_line(f"chanlab: {line}")


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Collect YAML files below a directory named scenarios, and those named on the command line."""
    if file_path.suffix not in (".yaml", ".yml"):
        return None
    if SCENARIOS in file_path.parent.parts or parent.session.isinitpath(file_path):
        return YamlFile.from_parent(parent, path=file_path)
    return None


class YamlFile(pytest.File):
    """A scenario file."""

    def collect(self) -> Iterable[pytest.Item]:
        """Yield one item per scenario and target; a mistake in the file is a collection error."""
        from lab.language import reader  # noqa: PLC0415 - only runs that have scenarios pay for it
        from lab.verbs import table  # noqa: PLC0415 - only runs that have scenarios pay for it

        run = self.config.stash[_LAB]
        file = reader.load(self.path, root=self.config.rootpath, verbs=table())
        channel = _mark(self.config, file.channel)
        for target in run.targets():
            for entry in file.scenarios:
                name = f"{entry.id}[{target}]"
                # As text: pytest 9.1 on takes what is in brackets for parameters when it reads an id again
                # (--lf, --ff), but not when it makes one out of an item's name.
                item: ScenarioItem = ScenarioItem.from_parent(
                    self, name=name, nodeid=f"{self.nodeid}::{name}", scenario=entry, target=target
                )
                item.add_marker(pytest.mark.scenario)
                item.add_marker(channel)
                yield item

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:  # noqa: ARG002 - pytest's signature
        """Show the lab's own errors in their own words, without a traceback."""
        if isinstance(excinfo.value, LabError):
            return str(excinfo.value)
        return super().repr_failure(excinfo)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Run target by target: what the next one needs is made meanwhile, and guests of few kinds wait."""
    run = config.stash[_LAB]
    if any(isinstance(item, ScenarioItem) for item in items):
        order = {target: number for number, target in enumerate(run.targets())}
        items.sort(key=lambda item: order.get(target, -1) if (target := _target(item)) is not None else -1)


def _target(item: pytest.Item) -> Target | None:
    """Return the target of a scenario or of a Python test that is run for each target."""
    if isinstance(item, ScenarioItem):
        return item.target
    callspec = getattr(item, "callspec", None)
    found: Target | None = callspec.params.get("target") if callspec is not None else None
    return found


def pytest_collection_finish(session: pytest.Session) -> None:
    """Tell the lab what will be run, so that it knows what pays to be made ahead."""
    run = session.config.stash[_LAB]
    for item in session.items:
        if isinstance(item, ScenarioItem):
            run.lab.expect(item.target, item.scenario)
    if session.items and session.config.option.stress and not session.config.option.collectonly:
        run.disturb()


def _mark(config: pytest.Config, channel: str) -> pytest.MarkDecorator:
    """Return the marker of a channel, registered so that --strict-markers knows it."""
    line = f"{channel}: scenarios of the channel {channel}"
    if line not in config.getini("markers"):
        config.addinivalue_line("markers", line)
    mark: pytest.MarkDecorator = getattr(pytest.mark, channel)
    return mark


class Failed(Exception):  # noqa: N818 - an outcome, not an error
    """A scenario did not pass; pytest shows the result's own report."""

    def __init__(self, result: Result, again: str) -> None:
        super().__init__(result.title)
        self.result = result
        self.again = again


_ERRORS = {BuildFailed: Verdict.BUILD_FAILED, BootFailed: Verdict.BOOT_FAILED}


class ScenarioItem(pytest.Item):
    """One scenario on one target."""

    def __init__(self, *, scenario: Scenario, target: Target, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scenario = scenario
        self.target = target

    def setup(self) -> None:
        """Make what the target needs; what fails here is no verdict on the scenario."""
        run = self.config.stash[_LAB]
        for name, value in (
            ("target", str(self.target)),
            ("channel", self.scenario.channel),
            ("scenario", self.scenario.id),
            ("kernel", self.target.kernel.release),
            ("seed", str(run.seed)),
        ):
            self.user_properties.append((name, value))
        try:
            run.lab.ready(self.target, self.scenario)
        except Unsupported as error:
            raise _skipped(error) from error.with_traceback(None)
        except LabError as error:
            self._verdict(_ERRORS.get(type(error), Verdict.LAB_ERROR))
            self.user_properties.append(("title", error.message))
            # Of any other exception in a setup pytest makes a report with the source of every frame, a tenth
            # of a second each, and one error may stop a thousand scenarios: each would add frames to it.
            raise pytest.fail.Exception(str(error), pytrace=False) from error.with_traceback(None)

    def runtest(self) -> None:
        """Run the scenario in a guest of its own."""
        run = self.config.stash[_LAB]
        try:
            result = run.lab.run(self.target, self.scenario)
        except Unsupported as error:
            raise _skipped(error) from error.with_traceback(None)
        self._verdict(result.verdict)
        self.user_properties.append(("guest", "clone" if result.restored else "booted"))
        if result.findings:
            self.user_properties.append(("title", result.title))
            raise Failed(result, run.again(self.nodeid, self.target))

    def _verdict(self, verdict: Verdict) -> None:
        self.user_properties.append(("verdict", verdict.value))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Show the scenario's own report; a traceback only for a mistake of the lab's."""
        error = _told(excinfo)
        if isinstance(error, Failed):
            return error.result.report(error.again)
        if isinstance(error, LabError):
            verdict = next((v for k, v in reversed(self.user_properties) if k == "verdict"), "lab error")
            again = self.config.stash[_LAB].again(self.nodeid, self.target)
            return f"{verdict}: {error}\nsee it again:\n  {again}"
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int, str]:
        """Return where the scenario stands, so that -v and editors lead there."""
        return self.path, self.scenario.line - 1, self.name


def _skipped(error: Unsupported) -> BaseException:
    """Return what says that to pytest: of an error it does not know it reports each frame's source."""
    return pytest.skip.Exception(error.reason)


def _told(excinfo: pytest.ExceptionInfo[BaseException]) -> BaseException:
    """Return what was raised; of a scenario that was stopped, the lab's own error."""
    cause = excinfo.value.__cause__
    stopped = isinstance(excinfo.value, (pytest.fail.Exception, pytest.skip.Exception))
    if stopped and isinstance(cause, (LabError, Unsupported)):
        return cause
    return excinfo.value


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Report what a target cannot do as skipped, and trouble of the harness or the host as an ERROR.

    The latter says nothing about the module.
    """
    report = yield
    error = _told(call.excinfo) if call.excinfo is not None else None
    target = _target(item)
    if isinstance(error, Unsupported) and target is not None:  # elsewhere it is an error like any other
        path, line, _ = item.reportinfo()
        report.outcome = "skipped"
        report.longrepr = (str(path), (line or 0) + 1, f"unsupported on {target}: {error.reason}")
        if isinstance(item, ScenarioItem):
            report.user_properties.append(("verdict", Verdict.UNSUPPORTED.value))
            report.user_properties.append(("title", error.reason))
        return report
    ours = isinstance(error, LabError) or (
        isinstance(error, Failed)
        and error.result.verdict in (Verdict.LAB_ERROR, Verdict.BOOT_FAILED, Verdict.BUILD_FAILED)
    )
    if ours and call.excinfo is not None:
        if call.when == "setup":  # pytest asks for repr_failure() in the call alone
            scenario = isinstance(item, ScenarioItem)
            report.longrepr = item.repr_failure(call.excinfo) if scenario else str(error)
        elif isinstance(item, ScenarioItem):
            report.when = "setup"  # what pytest and its junitxml count as an error instead of a failure
    return report


# --- Python tests ---------------------------------------------------------------------------------


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a Python test that asks for a guest once per target."""
    if "target" in metafunc.fixturenames:
        targets = metafunc.config.stash[_LAB].targets()
        metafunc.parametrize("target", targets, ids=[str(target) for target in targets], scope="session")


@pytest.fixture
def lab(target: Target, request: pytest.FixtureRequest) -> Lab:  # noqa: ARG001 - what uses it runs on a target
    """Give the lab itself, for tests of what it catches."""
    return request.config.stash[_LAB].lab


@pytest.fixture
def guest(target: Target, request: pytest.FixtureRequest) -> Iterator[Hand]:
    """Give a pristine guest of the target: every verb is a method of it, with the same checks and report.

    ``@pytest.mark.guest(modules=["lab_core", "lab_ioctl"], uapi=["lab_ioctl.h"])`` says what it loads.
    """
    run = request.config.stash[_LAB]
    mark = request.node.get_closest_marker("guest")
    wants = dict(mark.kwargs) if mark is not None else {}
    with run.lab.hand(target, **wants) as hand:
        yield hand


# --- what the terminal says -----------------------------------------------------------------------


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Say what makes this run repeatable."""
    lines = [f"chanlab: seed {config.stash[_LAB].seed}"]
    if config.option.stress:
        from lab.guest.stress import allowed  # noqa: PLC0415 - only --stress needs it

        number, may = getattr(config.option, "numprocesses", 0) or "no", allowed()
        lines.append(f"chanlab: stress by that seed, {number} workers, {len(may.cpus)} CPUs: {may.lines()}")
    return lines


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Let a worker of xdist's hand its notes to the process that has the terminal; doubts fail the run."""
    run = session.config.stash[_LAB]
    run.calm()
    run.settle()
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output[_NOTES], output[_DOUBTS] = run.notes(), run.doubts
        output[_LAGS] = dict(run.lags)
    elif run.doubts and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    plugins = session.config.pluginmanager
    terminal = plugins.get_plugin("terminalreporter")
    if terminal is not None and plugins.has_plugin(_HYPOTHESIS) and _only_scenarios(terminal):
        # Its summary imports all of hypothesis, a fifth of a second, and has nothing to say of scenarios.
        plugins.unregister(name=_HYPOTHESIS)


def _only_scenarios(terminalreporter: pytest.TerminalReporter) -> bool:
    """Tell whether no other test was run."""
    reports = (report for some in terminalreporter.stats.values() for report in some)
    return all("scenario" in report.keywords for report in reports if isinstance(report, pytest.TestReport))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker where to say what it does."""
    node.workerinput[_PROGRESS] = node.config.stash[_LAB].hub().address


class _Verdicts:
    """Tells a run that there is one: pytest gives a report without its config."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def pytest_runtest_logreport(self) -> None:
        self._run.verdict()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take over the notes of a worker; one that crashed left none."""
    run, output = node.config.stash[_LAB], getattr(node, "workeroutput", {})
    run.hub().forget(node.workerinput["workerid"])
    run.heard += output.get(_NOTES, [])
    run.doubts += output.get(_DOUBTS, [])
    run.lags.update(output.get(_LAGS, {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say once what the reader should know: the accelerator and why, cold boots and why."""
    run = config.stash[_LAB]
    rows = list(_rows(terminalreporter))
    if rows and not config.option.fault:  # a module that is wrong on purpose says nothing about a channel
        run.record(rows)
    notes = [*(f"NOT TO BE BELIEVED: {doubt}" for doubt in run.doubts), *run.notes()]
    if config.option.stress and rows:
        from lab.guest.stress import told  # noqa: PLC0415 - only --stress needs it

        notes.append(told(run.lags))
    counts: dict[str, dict[str, int]] = {}
    for row in rows:
        verdicts = counts.setdefault(row.target, {})
        verdicts[row.verdict] = verdicts.get(row.verdict, 0) + 1
    if not notes and not counts:
        return
    terminalreporter.section("chanlab", sep="-")
    for target, verdicts in sorted(counts.items()):
        terminalreporter.write_line(
            f"{target}: " + ", ".join(f"{number} {verdict}" for verdict, number in verdicts.items())
        )
    for note in notes:
        terminalreporter.write_line(note)


def _rows(terminalreporter: pytest.TerminalReporter) -> Iterator[Row]:
    """Yield what became of each scenario of this run, on each target."""
    from lab.run.results import Row  # noqa: PLC0415 - only runs that have scenarios pay for it

    for reports in terminalreporter.stats.values():
        for report in reports:
            facts = dict(getattr(report, "user_properties", ()))
            if "verdict" in facts and getattr(report, "when", "") in ("call", "setup"):
                names = {key: facts[key] for key in ("target", "channel", "scenario", "verdict")}
                yield Row(**names, reason=facts.get("title", ""))


__all__ = ["ScenarioItem", "YamlFile", "guest", "lab"]
