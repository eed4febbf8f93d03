# SPDX-License-Identifier: MIT
"""What Python tests may ask for: a guest, a target, the lab itself.

Whoever wants these names says so in a conftest.py: ``pytest_plugins = ["lab.plugin.fixtures"]``. Other
projects may have fixtures of the same names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lab.plugin.run import RUN

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab.kernels.model import Target
    from lab.run.hand import Hand
    from lab.run.lab import Lab


@pytest.fixture
def lab(target: Target, request: pytest.FixtureRequest) -> Lab:  # noqa: ARG001 - what uses it runs on a target
    """Give the lab itself, for tests of what it catches."""
    return request.config.stash[RUN].lab


@pytest.fixture
def guest(target: Target, request: pytest.FixtureRequest) -> Iterator[Hand]:
    """Give a pristine guest of the target: every verb is a method of it, with the same checks and report.

    ``@pytest.mark.guest(modules=["lab_core", "lab_ioctl"], uapi=["lab_ioctl.h"])`` says what it loads.
    """
    run = request.config.stash[RUN]
    mark = request.node.get_closest_marker("guest")
    wants = dict(mark.kwargs) if mark is not None else {}
    with run.lab.hand(target, **wants) as hand:
        yield hand


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a Python test that asks for a guest once per target."""
    if "target" in metafunc.fixturenames:
        targets = metafunc.config.stash[RUN].targets()
        metafunc.parametrize("target", targets, ids=[str(target) for target in targets], scope="session")
