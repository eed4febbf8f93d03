# SPDX-License-Identifier: MIT
"""What grows each time a scenario is made is told, and what comes and goes is not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from lab.errors import GuestHung
from lab.language.meant import Meant
from lab.run import growth
from lab.run.record import Finding, Identity, Record, Verdict
from lab.scenario import Scenario, SplatWanted

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Identity("x", "a", "scenarios/x.yaml", 1, "here")
PASSED = Record(HERE)
SCENARIO = Scenario("a", "a", Path("scenarios/x.yaml"), 1, "x")


class Kernel:
    """What is in use after a scenario was made so many times."""

    def __init__(self, in_use: Callable[[int], dict[str, int]], *, late: float = 0.0) -> None:
        self.made = 0
        self.slept = 0.0
        self.looked = 0
        self.restored = 0
        self.sizes = {"kmalloc-64": 64, "filp": 256}
        self._in_use = in_use
        self._late = late

    def again(self) -> Record:
        self.made += 1
        return PASSED

    def look(self) -> dict[str, int]:
        self.looked += 1
        return self._in_use(0 if self._late and self.slept >= self._late else self.made)

    def restore(self) -> None:
        self.restored += 1

    def sleep(self, seconds: float) -> None:
        self.slept += seconds


class Blanks:
    """An agent that has forked some processes in advance."""

    def __init__(self) -> None:
        self.exits = [1]
        self.spawned: list[str] = []

    def spawn(self, name: str, *, timeout: float) -> None:
        assert timeout == 1.0
        self.spawned.append(name)

    def reap(self, _timeout: float) -> None:
        assert len(set(self.spawned)) == 5


def watched(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> growth.Growth:
    guest: Any = SimpleNamespace(
        agent=Blanks(), hello=SimpleNamespace(page_size=4096), names=1, per_cpu_bytes=None
    )
    monkeypatch.setattr(growth, "Outside", lambda *_: kernel)
    monkeypatch.setattr(growth, "Counter", lambda *_: kernel)
    monkeypatch.setattr("time.sleep", kernel.sleep)
    return growth.Growth(guest, 1.0)


def look(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> list[Finding]:
    return watched(kernel, monkeypatch).look(kernel.again)


def test_nothing_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(lambda made: {"kmalloc-64": 100 + (made > 1), "filp": 30 - made, "pages": made % 3})
    assert look(kernel, monkeypatch) == []
    assert (kernel.made, kernel.looked, kernel.slept) == (8, 3, 0)  # no longer than it takes
    assert kernel.restored == 9  # after each, the one before among them


def test_one_object_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(
        lambda made: {"kmalloc-64": 100 + made, "filp": 30 + 2 * made, "dentry": 7, "pages": -made}
    )
    (found,) = look(kernel, monkeypatch)
    assert (found.verdict, found.title) == (
        Verdict.UNCLEAN,
        "filp and 1 more grows each time the scenario is made",
    )
    assert found.got.splitlines() == [
        "2 objects of filp (256 bytes) more each time",
        "1 object of kmalloc-64 (64 bytes) more each time",
    ]


def test_pages_have_no_size(monkeypatch: pytest.MonkeyPatch) -> None:
    assert look(Kernel(lambda made: {"pages": 7 * made}), monkeypatch) == []
    (found,) = look(Kernel(lambda made: {"pages": 25 * made // 2}), monkeypatch)
    assert found.title == "pages grows each time the scenario is made"
    assert found.got == "12.5 pages more each time"


def test_what_grows_for_a_while_is_no_leak(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(lambda made: {"kmalloc-64": min(made, 14)})
    assert look(kernel, monkeypatch) == []
    assert kernel.made == 1 + 1 + 6 + 6 + 8


def test_what_is_freed_late_hides_no_leak(monkeypatch: pytest.MonkeyPatch) -> None:
    late = {8: 5, 14: 1, 22: 3}  # that much is under way after so many times, and gone some seconds later
    kernel = Kernel(lambda made: {"kmalloc-64": made + (0 if kernel.slept else late.get(made, 0))})
    (found,) = look(kernel, monkeypatch)
    assert found.got == "1 object of kmalloc-64 (64 bytes) more each time"
    assert kernel.made == 1 + 1 + 6 + 6 + 8 + 8


def test_what_is_freed_late_is_no_leak_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    late = {8: 9, 14: 10, 22: 15, 30: 14}
    kernel = Kernel(lambda made: {"kmalloc-64": 0 if kernel.slept else late.get(made, 0)})
    assert look(kernel, monkeypatch) == []
    assert kernel.made == 30


def test_less_than_one_each_time_is_no_leak(monkeypatch: pytest.MonkeyPatch) -> None:
    assert look(Kernel(lambda made: {"kmalloc-64": made // 2}), monkeypatch) == []


def test_what_is_given_back_late_is_no_leak(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(lambda made: {"kmalloc-64": made}, late=2.0)
    assert look(kernel, monkeypatch) == []
    assert kernel.slept >= 2.0


def test_what_goes_wrong_only_later_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(lambda _: {})
    failed = replace(
        PASSED, findings=(Finding(Verdict.SPLAT, "BUG", hint="h"), Finding(Verdict.HUNG, "then"))
    )
    records = [PASSED, PASSED, failed]
    found = watched(kernel, monkeypatch).look(lambda: records.pop(0))
    assert [each.title for each in found] == ["BUG, when it is made again in the same guest", "then"]
    assert found[0].verdict is Verdict.SPLAT
    assert found[0].hint == "h"


def test_a_guest_that_hangs_meanwhile_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def hangs() -> Record:
        raise GuestHung("no answer")

    (found,) = watched(Kernel(lambda _: {}), monkeypatch).look(hangs)
    assert (found.verdict, found.title) == (Verdict.HUNG, "no answer")


@pytest.mark.parametrize(
    "changes",
    [
        {"expect_splat": SplatWanted("WARNING", "x")},
        {"expect_verdict": "hung"},
        {"meant": Meant(leaves=("/proc/x",))},
        {"meant": Meant(loses_messages=True)},
        {"meant": Meant(once="the log stays")},
    ],
)
def test_what_means_to_leave_something_is_made_once(changes: dict[str, Any]) -> None:
    assert growth.repeatable(SCENARIO)
    assert not growth.repeatable(replace(SCENARIO, **changes))
