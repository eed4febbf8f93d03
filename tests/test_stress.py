# SPDX-License-Identifier: MIT
"""That CPUs of guests are made to lag, by what is allowed, and that none does for good."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from lab.errors import HostError
from lab.guest import stress
from lab.guest.stress import IDLE, NICE, PINNED, WAITED, Allowed, Stress

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROOT = Allowed(nice=0, back=True, cpus=frozenset({0, 1}))
USER = Allowed(nice=0, back=False, cpus=frozenset({0, 1}))
CPUS = {10: [11, 12], 20: [21, 22, 23]}


class Host:
    """What the kernel knows of threads, and how low each has been."""

    SCHED_OTHER, SCHED_IDLE, PRIO_PROCESS = os.SCHED_OTHER, os.SCHED_IDLE, os.PRIO_PROCESS

    def __init__(self) -> None:
        threads = [thread for threads in CPUS.values() for thread in threads]
        self.nice = dict.fromkeys(threads, 0)
        self.policy = dict.fromkeys(threads, os.SCHED_OTHER)
        self.cpus: dict[int, frozenset[int]] = dict.fromkeys(threads, frozenset({0, 1}))
        self.seen: Counter[str] = Counter()
        self.fail = False

    def sched_param(self, value: int) -> int:
        return value

    def setpriority(self, _which: int, thread: int, nice: int) -> None:
        if self.fail:
            raise ProcessLookupError
        self.nice[thread] = nice
        self.seen[f"nice {nice}"] += 1

    def sched_setscheduler(self, thread: int, policy: int, _param: int) -> None:
        self.policy[thread] = policy
        self.seen[f"policy {policy}"] += 1

    def sched_setaffinity(self, thread: int, cpus: frozenset[int]) -> None:
        self.cpus[thread] = frozenset(cpus)
        self.seen[f"{len(cpus)} CPUs"] += 1

    def disturbed(self) -> dict[int, set[int]]:
        """Return the threads of each guest that do not run as they did."""
        return {
            pid: {t for t in threads if self.nice[t] or self.policy[t] or len(self.cpus[t]) < 2}
            for pid, threads in CPUS.items()
        }


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    host = Host()
    monkeypatch.setattr(stress, "os", host)
    return host


def looks(made: Stress, host: Host, seconds: float = 60.0) -> Iterator[float]:
    now = 0.0
    while now < seconds:
        made.look(CPUS, now)
        yield now
        now += 0.005


def test_root_lets_cpus_lag_in_all_ways_and_none_for_long(host: Host) -> None:
    counts: Counter[str] = Counter()
    made = Stress("7", counts, ROOT)
    since: dict[int, float] = {}
    alone = 0
    for now in looks(made, host):
        for pid, threads in host.disturbed().items():
            if not threads:
                since.pop(pid, None)
            assert now - since.setdefault(pid, now) < 0.45 if threads else True
            alone += len(threads) == 1  # one CPU lags behind the others
    made.close()
    assert not any(host.disturbed().values())
    assert min(counts[how] for how in (NICE, IDLE, PINNED)) > 50
    assert counts[NICE] == sum(host.seen[f"nice {nice}"] for nice in range(1, 20))
    assert counts[IDLE] == host.seen[f"policy {os.SCHED_IDLE}"]
    assert alone > 1000


def test_a_user_makes_one_cpu_a_little_nicer_for_good_and_never_idle(host: Host) -> None:
    counts: Counter[str] = Counter()
    made = Stress("7", counts, USER)
    for _ in looks(made, host):
        assert all(sum(host.nice[thread] > 0 for thread in threads) <= 1 for threads in CPUS.values())
    made.close()
    assert counts[NICE] == len(CPUS)
    assert counts[PINNED] > 100
    assert max(host.nice.values()) in range(1, 6)
    assert not any(host.policy.values())
    assert all(len(cpus) == 2 for cpus in host.cpus.values())


def test_the_seed_decides(host: Host) -> None:
    def story(seed: str) -> list[dict[int, set[int]]]:
        made = Stress(seed, Counter(), ROOT)
        told = [host.disturbed() for _ in looks(made, host, 2.0)]
        made.close()
        return told

    assert story("7") == story("7") != story("8")


def test_a_guest_that_ends_is_forgotten(host: Host) -> None:
    host.fail = True
    counts: Counter[str] = Counter()
    made = Stress("7", counts, ROOT)
    for _ in looks(made, host):
        pass
    made.look({}, 61.0)
    made.close()
    assert counts[NICE] == 0


def test_where_nothing_is_allowed_that_is_an_error() -> None:
    with pytest.raises(HostError, match="nice value is 7"):
        Stress("", Counter(), Allowed(nice=7, back=False, cpus=frozenset({3})))


def test_only_threads_of_cpus_are_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stress, "running", {10, 20, 30})
    names = {
        10: {10: "qemu-system-x86", 12: "CPU 1/TCG", 11: "CPU 0/TCG", 13: "call_rcu"},
        20: {20: "qemu-system-x86", 21: "ALL CPUs/TCG"},
        30: {30: "qemu-system-x86"},  # not that far yet
        40: {41: "CPU 0/TCG"},  # somebody else's
    }
    for pid, threads in names.items():
        for thread, name in threads.items():
            task = tmp_path / str(pid) / "task" / str(thread)
            task.mkdir(parents=True)
            (task / "comm").write_text(f"{name}\n")
    assert stress.guests(tmp_path) == {10: [11, 12], 20: [21]}


def test_what_is_allowed_is_found_out_without_a_trace() -> None:
    before = (os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, 0), os.sched_getaffinity(0))
    found = stress.allowed()
    assert (os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, 0), os.sched_getaffinity(0)) == before
    assert found.nice == before[1]
    assert found.cpus == before[2]
    assert (IDLE in found.means) == found.back


def test_a_real_process_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """As an ordinary user: it works without any right, and at the end all of its CPUs are free again."""
    program = (
        "import ctypes, threading\n"
        "def spin(n):\n"
        "    ctypes.CDLL(None).prctl(15, f'CPU {n}/TCG'.encode(), 0, 0, 0)\n"
        "    started.wait()\n"
        "    while True: sum(range(1000))\n"
        "started = threading.Barrier(3)\n"
        "for n in range(2): threading.Thread(target=spin, args=(n,), daemon=True).start()\n"
        "started.wait(); print(flush=True); input()\n"
    )
    own = frozenset(os.sched_getaffinity(0))
    user = Allowed(os.getpriority(os.PRIO_PROCESS, 0), back=False, cpus=own | {min(own)})
    if not user.means:
        pytest.skip("one CPU, and nice already")
    counts: Counter[str] = Counter()
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        monkeypatch.setattr(stress, "running", {process.pid})
        (threads,) = stress.guests().values()
        assert len(threads) == 2
        lagged = threading.Event()
        monkeypatch.setattr(stress, "_LAG_SECONDS", (0.01, 0.02))
        with Stress("7", counts, user):
            for _ in range(500):
                if sum(counts[how] for how in (NICE, PINNED)) >= 1 and counts[WAITED]:
                    lagged.set()
                    break
                threading.Event().wait(0.02)
        nices = [os.getpriority(os.PRIO_PROCESS, thread) - user.nice for thread in threads]
        cpus = [frozenset(os.sched_getaffinity(thread)) for thread in threads]
        process.kill()
    assert lagged.is_set()
    assert all(0 <= nice <= 5 for nice in nices)
    assert cpus == [own, own]


def test_what_was_done_is_told() -> None:
    assert stress.told({NICE: 3, PINNED: 4, WAITED: 1250}) == (
        "--stress: CPUs of guests lagged 7 times: 3 by nice, 4 by one CPU for all; "
        "they waited 1.2 s for a CPU then"
    )
    assert "no guest" in stress.told({})
