# SPDX-License-Identifier: MIT
"""What a guest costs, as QEMU's monitor tells it."""

import os
import time
from types import SimpleNamespace
from typing import Any

import pytest

from lab.errors import HostError
from lab.guest import cost as cost_
from lab.guest.cost import Cost, Meter, blocks
from lab.guest.template import cpu_seconds

_JIT = """Translation buffer state:
gen code size       3180307/1073736704
TB count            {count}
TB avg target size  17 max=1203 bytes
TB flush count      0
"""


@pytest.mark.parametrize("count", [0, 28, 14922])
def test_the_blocks_that_were_translated(count: int) -> None:
    assert blocks(_JIT.format(count=count)) == count


def test_kvm_translates_nothing() -> None:
    assert blocks("Error: JIT information is only available with accel=tcg\n") == 0


def test_a_monitor_that_does_not_know() -> None:
    with pytest.raises(HostError, match="unknown command: 'jit'"):
        blocks("unknown command: 'jit'")


class Process:
    """A QEMU whose monitor tells of so many blocks; it is this process."""

    def __init__(self) -> None:
        self.life = 1
        self.qmp = self
        self.blocks = 0

    def human(self, command: str) -> str:
        assert command == "info jit"
        return _JIT.format(count=self.blocks)


def guest(process: Process) -> Any:
    return SimpleNamespace(pid=os.getpid(), process=process)


def test_a_guest_in_place_costs_what_came_after_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    # Each guest is asked for its time before its monitor is, and after.
    times = iter([0.40, 0.41, 0.45, 0.46, 0.52, 0.53])
    monkeypatch.setattr(cost_, "cpu_seconds", lambda pid: next(times))
    meter, process = Meter(), Process()
    process.blocks = 15000
    assert meter.read(guest(process)) == Cost(15000, 0.40)
    process.life, process.blocks = 2, 15100
    second = meter.read(guest(process))
    assert second.blocks == 100
    assert second.cpu_seconds == pytest.approx(0.04)
    process.life, process.blocks = 3, 90  # QEMU began anew
    assert meter.read(guest(process)).blocks == 90


def test_a_new_qemu_owes_nothing_to_one_of_the_same_pid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost_, "cpu_seconds", lambda pid: 0.3)
    meter, process = Meter(), Process()
    process.blocks = 9000
    meter.read(guest(process))
    process.blocks = 9500
    assert meter.read(guest(process)) == Cost(9500, 0.3)


def test_the_time_of_a_process_is_finer_than_a_hundredth() -> None:
    spent = [cpu_seconds(os.getpid()) for _ in range(1000)]
    assert spent == sorted(spent)
    assert len(set(spent)) > 100
    assert spent[-1] == pytest.approx(time.process_time(), abs=0.2)
    with pytest.raises(OSError, match="Invalid argument"):
        cpu_seconds(2**22 + 1)
