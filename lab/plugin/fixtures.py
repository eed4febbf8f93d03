# SPDX-License-Identifier: MIT
"""What Python tests may ask for: a guest, a target, the lab itself."""

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
