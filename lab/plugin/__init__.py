# SPDX-License-Identifier: MIT
"""The lab as pytest sees it: options, collection, one item per scenario and target, reports.

The only room of the lab that imports pytest. What pytest calls is named here and stands in the files beside.
"""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING

from lab.plugin.collect import (
    pytest_collect_file,
    pytest_collection,
    pytest_collection_finish,
    pytest_collection_modifyitems,
)
from lab.plugin.items import pytest_runtest_makereport
from lab.plugin.options import pytest_addoption, pytest_cmdline_main
from lab.plugin.run import RECORD, RUN, RUN_ID, SEED, Run
from lab.plugin.terminal import (
    pytest_configure_node,
    pytest_report_header,
    pytest_sessionfinish,
    pytest_terminal_summary,
    pytest_testnodedown,
)
from lab.run.record import Record

if TYPE_CHECKING:
    import pytest

_SEED_BITS = 32


def pytest_configure(config: pytest.Config) -> None:
    """Register what is known before anything is collected; nothing is fetched here."""
    config.addinivalue_line("markers", "scenario: a scenario from a YAML file, run in a guest")
    config.addinivalue_line("markers", "guest: a Python test that is given a guest")
    worker = getattr(config, "workerinput", {})
    # A worker of xdist's is told: it reads the command line by itself, and would make a seed of its own.
    if SEED in worker:
        config.option.lab_seed = worker[SEED]
    elif config.option.lab_seed is None:
        config.option.lab_seed = secrets.randbits(_SEED_BITS)
    now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    config.option.chanlab_run = worker.get(RUN_ID) or f"{now}-{secrets.token_hex(3)}"
    config.stash[RUN] = run = Run(config)
    config.pluginmanager.register(_Reports(run, keeps=not worker))


def pytest_unconfigure(config: pytest.Config) -> None:
    """Let go of guests and locks, however the run ended."""
    run = config.stash.get(RUN, None)
    if run is not None:
        run.close()


class _Reports:
    """Hands a run what is reported: pytest gives a report without its config."""

    def __init__(self, run: Run, *, keeps: bool) -> None:
        self._run = run
        self._keeps = keeps  # a worker of xdist's hands its records on with its reports

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._run.seen()
        found = getattr(report, RECORD, None)
        if found is not None and self._keeps:
            self._run.keep(Record.from_json(found))


__all__ = [
    "pytest_addoption",
    "pytest_cmdline_main",
    "pytest_collect_file",
    "pytest_collection",
    "pytest_collection_finish",
    "pytest_collection_modifyitems",
    "pytest_configure",
    "pytest_configure_node",
    "pytest_report_header",
    "pytest_runtest_makereport",
    "pytest_sessionfinish",
    "pytest_terminal_summary",
    "pytest_testnodedown",
    "pytest_unconfigure",
]
