# SPDX-License-Identifier: MIT
"""Scenarios as pytest's items: collected from YAML files, run, and told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from lab.errors import BootFailed, BuildFailed, LabError, Unsupported
from lab.plugin.run import RUN
from lab.run.verdict import Result, Verdict

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable
    from pathlib import Path

    from lab.kernels.model import Target
    from lab.scenario import Scenario


class YamlFile(pytest.File):
    """A scenario file."""

    def collect(self) -> Iterable[pytest.Item]:
        """Yield one item per scenario and target; a mistake in the file is a collection error."""
        from lab.language import reader  # noqa: PLC0415 - only runs that have scenarios pay for it
        from lab.verbs import table  # noqa: PLC0415 - only runs that have scenarios pay for it

        run = self.config.stash[RUN]
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
        run = self.config.stash[RUN]
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
        run = self.config.stash[RUN]
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
            again = self.config.stash[RUN].again(self.nodeid, self.target)
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
    target = target_of(item)
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


def target_of(item: pytest.Item) -> Target | None:
    """Return the target of a scenario or of a Python test that is run for each target."""
    if isinstance(item, ScenarioItem):
        return item.target
    callspec = getattr(item, "callspec", None)
    found: Target | None = callspec.params.get("target") if callspec is not None else None
    return found
