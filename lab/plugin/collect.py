# SPDX-License-Identifier: MIT
"""What is collected, and in which order it is run."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lab.plugin.items import ScenarioItem, YamlFile, target_of
from lab.plugin.options import asked, holds_scenarios, is_makefile, is_scenario_file
from lab.plugin.run import RUN
from lab.plugin.smoke import Makefile, needless

if TYPE_CHECKING:
    from collections.abc import Generator

_CONTROLLER = "dsession"  # of xdist: where it is, others run the scenarios


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    """Find out about the targets before anything is collected, so that what is wrong is said once."""
    if not any(holds_scenarios(session.config, Path(arg.partition("::")[0])) for arg in session.config.args):
        return (yield)  # of another project's tests none shall notice
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
    if any(holds_scenarios(config, place) for place in places):
        run = config.stash[RUN]
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
    """Collect YAML files in directories of scenarios and those that are named, and Makefiles of trees."""
    named = file_path.suffix in (".yaml", ".yml") and parent.session.isinitpath(file_path)
    if (named and asked(parent.config)) or is_scenario_file(parent.config, file_path):
        return YamlFile.from_parent(parent, path=file_path)
    if is_makefile(parent.config, file_path):
        return Makefile.from_parent(parent, path=file_path)
    return None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Run target by target: what the next one needs is made meanwhile, and guests of few kinds wait."""
    run = config.stash[RUN]
    dropped = needless(items)
    if dropped:
        items[:] = [item for item in items if item not in dropped]
        config.hook.pytest_deselected(items=dropped)
    if any(isinstance(item, ScenarioItem) for item in items):
        order = {target: number for number, target in enumerate(run.targets())}
        items.sort(key=lambda item: order.get(target, -1) if (target := target_of(item)) is not None else -1)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Tell the lab what will be run, so that it knows what pays to be made ahead."""
    run = session.config.stash[RUN]
    for item in session.items:
        if isinstance(item, ScenarioItem):
            run.lab.expect(item.target, item.scenario)
    if session.items and session.config.option.stress and not session.config.option.collectonly:
        run.disturb()
