# SPDX-License-Identifier: MIT
"""Scenarios as pytest's items: collected from YAML files, run, and told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from lab.errors import LabError, ModuleFailed, Unsupported
from lab.kernels.model import Target
from lab.plugin.run import RECORD, RUN
from lab.run.record import TROUBLE, Verdict

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable
    from pathlib import Path

    from lab.plugin.run import Run
    from lab.run.record import Record
    from lab.scenario import Scenario, ScenarioFile


class YamlFile(pytest.File):
    """A scenario file."""

    def collect(self) -> Iterable[pytest.Item]:
        """Yield one item per scenario and target; a mistake in the file is a collection error."""
        file = self.scenarios()
        channel = _mark(self.config, file.channel)
        for target in self.run.targets():
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

    @property
    def run(self) -> Run:
        """What this process knows of the lab."""
        return self.config.stash[RUN]

    def scenarios(self) -> ScenarioFile:
        """Return what is in it; raises ScenarioError."""
        return self.load(None)

    def load(self, text: str | None) -> ScenarioFile:
        """Return what is in a text, or else in the file."""
        from lab.language import reader  # noqa: PLC0415 - only runs that have scenarios pay for it
        from lab.verbs import table  # noqa: PLC0415 - only runs that have scenarios pay for it

        trees = self.run.lab.wishes.trees
        return reader.load(self.path, root=self.config.rootpath, verbs=table(), trees=trees, text=text)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:  # noqa: ARG002 - pytest's signature
        """Show the lab's own errors in their own words, without a traceback."""
        if isinstance(excinfo.value, (LabError, pytest.UsageError)):
            return str(excinfo.value)
        return super().repr_failure(excinfo)


def _mark(config: pytest.Config, channel: str) -> pytest.MarkDecorator:
    """Return the marker of a channel, registered so that --strict-markers knows it."""
    line = f"{channel}: scenarios of the channel {channel}"
    if line not in config.getini("markers"):
        config.addinivalue_line("markers", line)
    mark: pytest.MarkDecorator = getattr(pytest.mark, channel)
    return mark


class ScenarioItem(pytest.Item):
    """One scenario on one target."""

    def __init__(self, *, scenario: Scenario, target: Target, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scenario = scenario
        self.target = target
        self.record: Record | None = None  # what became of it, once that is known

    def setup(self) -> None:
        """Make what the target needs; what fails here is no verdict on the scenario."""
        lab = self.config.stash[RUN].lab
        try:
            lab.ready(self.target, self.scenario)
        except ModuleFailed as error:
            self.record = lab.refused(self.target, self.scenario, error)  # a verdict: runtest() tells
        except (LabError, Unsupported) as error:
            self._ends(lab.refused(self.target, self.scenario, error))

    def runtest(self) -> None:
        """Run the scenario in a guest of its own."""
        lab = self.config.stash[RUN].lab
        if self.record is not None:
            self._ends(self.record)
        try:
            record = lab.run(self.target, self.scenario)
        except Unsupported as error:
            record = lab.refused(self.target, self.scenario, error)
        self._ends(record)

    def _ends(self, record: Record) -> None:
        """Keep the record, and tell pytest what it cannot see of it."""
        self.record = record
        self.user_properties += record.properties()
        # Of an exception that it does not know pytest makes a report with the source of every frame, a tenth
        # of a second each, and one error may stop a thousand scenarios.
        if record.verdict is Verdict.UNSUPPORTED:
            raise pytest.skip.Exception(record.title) from None
        if record.verdict is not Verdict.PASSED:
            raise pytest.fail.Exception(record.title, pytrace=False) from None

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Show the record's own report; a traceback only for a mistake of the lab's."""
        if self.record is not None and isinstance(excinfo.value, pytest.fail.Exception):
            run = self.config.stash[RUN]
            return run.first_time(self.record).report(run.again(self.nodeid, self.target))
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int, str]:
        """Return where the scenario stands, so that -v and editors lead there."""
        return self.path, self.scenario.line - 1, self.name


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Report what a target cannot do as skipped, and trouble of the harness or the host as an ERROR.

    The latter says nothing about the module.
    """
    report = yield
    if isinstance(item, ScenarioItem):
        _scenario_report(item, call, report)
    elif call.excinfo is not None and (target := target_of(item)) is not None:
        error = call.excinfo.value
        if isinstance(error, Unsupported):
            _skipped(item, report, f"unsupported on {target}: {error.reason}")
        elif isinstance(error, LabError) and call.when == "setup":
            report.longrepr = str(error)
    return report


def _scenario_report(item: ScenarioItem, call: pytest.CallInfo[None], report: pytest.TestReport) -> None:
    record = item.record
    if call.when == "teardown":
        return
    if record is None:
        if call.excinfo is not None and isinstance(call.excinfo.value, Exception):
            # A mistake of the lab's: its traceback is shown, and the record says that there was one.
            error = LabError(f"{type(call.excinfo.value).__name__}: {call.excinfo.value}")
            found = item.config.stash[RUN].lab.refused(item.target, item.scenario, error)
            setattr(report, RECORD, found.to_json())
        return
    if call.excinfo is not None or call.when == "call":
        setattr(report, RECORD, record.to_json())
    if record.verdict is Verdict.UNSUPPORTED:
        _skipped(item, report, f"unsupported on {item.target}: {record.title}")
    elif record.verdict in TROUBLE and call.excinfo is not None:
        report.longrepr = item.repr_failure(call.excinfo)  # pytest asks for it in the call alone
        report.when = "setup"  # what pytest and its junitxml count as an error instead of a failure


def _skipped(item: pytest.Item, report: pytest.TestReport, why: str) -> None:
    path, line, _ = item.reportinfo()
    report.outcome = "skipped"
    report.longrepr = (str(path), (line or 0) + 1, why)


def target_of(item: pytest.Item) -> Target | None:
    """Return the target of a scenario or of a Python test that is run for each target."""
    if isinstance(item, ScenarioItem):
        return item.target
    callspec = getattr(item, "callspec", None)
    found = callspec.params.get("target") if callspec is not None else None
    return found if isinstance(found, Target) else None
