# SPDX-License-Identifier: MIT
"""The lab as pytest sees it: options, collection, one item per scenario and target, reports.

The only room of the lab that imports pytest. What pytest calls is named here and stands in the files beside.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from lab.plugin.collect import (
    pytest_collect_file,
    pytest_collection,
    pytest_collection_finish,
    pytest_collection_modifyitems,
    pytest_generate_tests,
)
from lab.plugin.fixtures import guest, lab
from lab.plugin.items import pytest_runtest_makereport
from lab.plugin.options import pytest_addoption, pytest_cmdline_main
from lab.plugin.run import RUN, Run
from lab.plugin.terminal import (
    pytest_configure_node,
    pytest_report_header,
    pytest_sessionfinish,
    pytest_terminal_summary,
    pytest_testnodedown,
)

if TYPE_CHECKING:
    import pytest

_SEED_BITS = 32


def pytest_configure(config: pytest.Config) -> None:
    """Register what is known before anything is collected; nothing is fetched here."""
    config.addinivalue_line("markers", "scenario: a scenario from a YAML file, run in a guest")
    config.addinivalue_line("markers", "guest: a Python test that is given a guest")
    if config.option.seed is None:
        # Made here, in the controller, so that the workers of one run share it.
        config.option.seed = random.SystemRandom().getrandbits(_SEED_BITS)
    config.stash[RUN] = run = Run(config)
    config.pluginmanager.register(_Verdicts(run))


def pytest_unconfigure(config: pytest.Config) -> None:
    """Let go of guests and locks, however the run ended."""
    run = config.stash.get(RUN, None)
    if run is not None:
        run.close()


class _Verdicts:
    """Tells a run that there is one: pytest gives a report without its config."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def pytest_runtest_logreport(self) -> None:
        self._run.verdict()


__all__ = [
    "guest",
    "lab",
    "pytest_addoption",
    "pytest_cmdline_main",
    "pytest_collect_file",
    "pytest_collection",
    "pytest_collection_finish",
    "pytest_collection_modifyitems",
    "pytest_configure",
    "pytest_configure_node",
    "pytest_generate_tests",
    "pytest_report_header",
    "pytest_runtest_makereport",
    "pytest_sessionfinish",
    "pytest_terminal_summary",
    "pytest_testnodedown",
    "pytest_unconfigure",
]
