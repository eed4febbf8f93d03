# SPDX-License-Identifier: MIT
"""How long a guest is waited for on a host that is busy."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from lab.guest import patience


class Host:
    """A clock, and how long a process has waited for a CPU."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        self.delay = 7.0
        monkeypatch.setattr(patience, "time", SimpleNamespace(monotonic=lambda: self.now))

    def waited(self) -> float:
        return self.delay

    def passes(self, seconds: float, *, waiting: float) -> None:
        self.now += seconds
        self.delay += waiting


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(monkeypatch)


def test_a_guest_that_sleeps_gets_what_is_given(host: Host) -> None:
    watch = patience.Patience(host.waited)
    watch.begin()
    deadline = host.now + 5.0
    host.passes(2.0, waiting=0.0)
    assert watch.left(deadline) == pytest.approx(3.0)
    host.passes(3.0, waiting=0.0)
    assert watch.left(deadline) <= 0


def test_what_the_host_took_is_given_back(host: Host) -> None:
    watch = patience.Patience(host.waited)
    watch.begin()
    deadline = host.now + 5.0
    host.passes(6.0, waiting=3.5)
    assert watch.left(deadline) == pytest.approx(2.5)
    host.passes(2.5, waiting=0.5)
    assert watch.left(deadline) == pytest.approx(0.5)
    host.passes(0.5, waiting=0.0)
    assert watch.left(deadline) <= 0


def test_a_deadline_is_the_same(host: Host) -> None:
    left = patience.deadline(5.0, host.waited)
    assert left() == pytest.approx(5.0)
    host.passes(6.0, waiting=3.5)
    assert left() == pytest.approx(2.5)
    host.passes(3.0, waiting=0.0)
    assert left() <= 0


def test_it_comes_to_an_end(host: Host) -> None:
    watch = patience.Patience(host.waited)
    watch.begin()
    deadline = host.now + 5.0
    host.passes(29.0, waiting=58.0)
    assert watch.left(deadline) > 0
    host.passes(1.0, waiting=2.0)
    assert watch.left(deadline) <= 0


def test_what_was_lost_long_ago_does_not_count(host: Host) -> None:
    watch = patience.Patience(host.waited)
    watch.begin()
    host.passes(10.0, waiting=9.0)
    watch.begin()
    deadline = host.now + 5.0
    host.passes(5.0, waiting=0.0)
    assert watch.left(deadline) <= 0


def test_the_host_says_how_long_a_process_waited() -> None:
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
    try:
        for loop in loops:
            os.sched_setaffinity(loop.pid, {min(os.sched_getaffinity(0))})  # one CPU for both
        before = [patience.run_delay(loop.pid) for loop in loops]
        for _ in range(200):
            time.sleep(0.05)
            waited = [patience.run_delay(loop.pid) for loop in loops]
            if all(now > then + 0.05 for now, then in zip(waited, before, strict=True)):
                break
        else:
            pytest.fail("two loops on one CPU never waited for each other")
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()
    assert patience.run_delay(loops[0].pid) == 0  # gone
