# SPDX-License-Identifier: MIT
"""What the terminal says, and what xdist's processes tell one another for that."""

from __future__ import annotations

from typing import Any

import pytest

from lab.plugin.run import PROGRESS, RUN, RUN_ID, SEED

_NOTES, _LAGS, _DOUBTS = "chanlab_notes", "chanlab_lags", "chanlab_doubts"
_HYPOTHESIS = "hypothesispytest"


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Say what makes this run repeatable."""
    lines = [f"chanlab: seed {config.stash[RUN].seed}"]
    if config.option.stress:
        from lab.guest.stress import allowed  # noqa: PLC0415 - only --stress needs it

        number, may = getattr(config.option, "numprocesses", 0) or "no", allowed()
        lines.append(f"chanlab: stress by that seed, {number} workers, {len(may.cpus)} CPUs: {may.lines()}")
    return lines


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Let a worker of xdist's hand its notes to the process that has the terminal; doubts fail the run."""
    run = session.config.stash[RUN]
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
    """Tell a worker of what run it is, and where to say what it does."""
    option = node.config.option
    node.workerinput[RUN_ID], node.workerinput[SEED] = option.chanlab_run, option.lab_seed
    node.workerinput[PROGRESS] = node.config.stash[RUN].hub().address


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take over the notes of a worker; one that crashed left none."""
    run, output = node.config.stash[RUN], getattr(node, "workeroutput", {})
    run.hub().forget(node.workerinput["workerid"])
    run.heard += output.get(_NOTES, [])
    run.doubts += output.get(_DOUBTS, [])
    run.lags.update(output.get(_LAGS, {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say once what the reader should know: the accelerator and why, cold boots and why."""
    run = config.stash[RUN]
    notes = [*(f"NOT TO BE BELIEVED: {doubt}" for doubt in run.doubts), *run.notes()]
    if config.option.stress and run.verdicts:
        from lab.guest.stress import told  # noqa: PLC0415 - only --stress needs it

        notes.append(told(run.lags))
    if not notes and not run.verdicts:
        return
    terminalreporter.section("chanlab", sep="-")
    for target, verdicts in sorted(run.verdicts.items()):
        terminalreporter.write_line(
            f"{target}: " + ", ".join(f"{number} {verdict}" for verdict, number in verdicts.items())
        )
    for note in notes:
        terminalreporter.write_line(note)
