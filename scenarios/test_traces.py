# SPDX-License-Identifier: MIT
"""Nothing of a guest is in the next one, be that a clone or the same QEMU restored in place."""

from __future__ import annotations

from itertools import takewhile
from typing import TYPE_CHECKING

import pytest

from lab.house import TREES
from lab.language import reader
from lab.run.record import Verdict
from lab.scenario import BootOptions
from lab.verbs import table

if TYPE_CHECKING:
    from pathlib import Path

    from lab.guest.machine import Guest
    from lab.kernels.model import Target
    from lab.run.lab import Lab
    from lab.run.record import Record
    from lab.scenario import Scenario

FILE = """
channel: lives
modules: [lab_core, lab_chardev]
leaves: [memory]
scenarios:
  - name: leaves traces
    steps:
      - {open: /proc/sys/kernel/hostname, flags: O_WRONLY, as: host}
      - {write: $host, data: somebody-was-here}
      - {open: /tmp/trace, flags: O_RDWR|O_CREAT, mode: 0600, as: file}
      - {write: $file, data: {repeat: trace, size: 8MiB}}
      - {open: /proc/sys/vm/swappiness, flags: O_WRONLY, as: sysctl}
      - {write: $sysctl, data: "7"}
      - {open: /dev/kmsg, flags: O_WRONLY, as: log}
      - {write: $log, data: somebody was here}
      - {open: /dev/lab_chardev, flags: O_RDWR|O_NONBLOCK, as: dev}
      - {write: $dev, data: left in the store}
      - mmap:
        length: 32MiB
        prot: PROT_READ|PROT_WRITE
        flags: MAP_PRIVATE|MAP_ANONYMOUS|MAP_POPULATE

  - name: looks around
    steps:
      - {open: /proc/sys/kernel/hostname, flags: O_RDONLY, as: host}
      - {read: $host, size: 64}
      - {open: /tmp/trace, flags: O_RDONLY, expect: {errno: ENOENT}}
      - {open: /proc/sys/vm/swappiness, flags: O_RDONLY, as: sysctl}
      - {read: $sysctl, size: 16}
      - {open: /dev/lab_chardev, flags: O_RDWR|O_NONBLOCK, as: dev}
      - {read: $dev, size: 64, expect: {errno: EAGAIN}}
"""
# Long enough for what ticks to tick; nothing else happens in it.
QUIET = """
channel: lives
modules: []
scenarios:
  - name: sleeps
    steps:
      - {poll: [{fd: -1}], timeout: 400 ms, expect: {returns: 0}}
"""
TIMES = 4
FEW = 300  # interrupts that a guest may have more than another one: hosts are not equally busy at all times
IN_PLACE = "turbo-bound"  # where QEMUs that `lab turbo` built run


def load(text: str, to: Path) -> tuple[Scenario, ...]:
    """Return the scenarios of a file of that text."""
    path = to / "lives.yaml"
    path.write_text(text)
    return reader.load(path, root=to, verbs=table(), trees=TREES).scenarios


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Scenario, ...]:
    """Return one that leaves traces and one that looks for them."""
    return load(FILE, tmp_path)


def test_nothing_of_a_guest_is_in_the_next_one(pair: tuple[Scenario, ...], target: Target, lab: Lab) -> None:
    leaves, looks = pair
    lives: list[int] = []

    def run(which: Scenario) -> Record:
        lab.ready(target, which)
        result = lab.run(target, which, afterwards=lambda guest: lives.append(guest.process.life))
        assert result.verdict is Verdict.PASSED, result.report()
        assert result.well
        return result

    first = run(looks)
    for _ in range(TIMES):
        run(leaves)
        again = run(looks)
        assert again.outcomes == first.outcomes
        assert not any("somebody was here" in line for line in again.said)
    assert_in_place(lives, lab, target)


def test_the_devices_of_a_guest_go_on_as_the_first_ones_did(tmp_path: Path, target: Target, lab: Lab) -> None:
    """What the memory does not show: a timer or an interrupt of another guest, a clock that is off."""
    (sleeps,) = load(QUIET, tmp_path)
    ticks: list[int] = []
    lives: list[int] = []
    uptimes: list[float] = []

    def look(guest: Guest) -> None:
        patience = lab.target(target).patience
        lives.append(guest.process.life)
        uptimes.append(float(guest.agent.read_file("/proc/uptime", patience).split()[0]))
        ticks.append(interrupts(guest.agent.read_file("/proc/interrupts", patience).decode()))

    for _ in range(TIMES + 1):
        lab.ready(target, sleeps)
        result = lab.run(target, sleeps, afterwards=look)
        assert result.verdict is Verdict.PASSED, result.report()
    # A clock that begins anew is off by all that the template's guest had run; a busy host by less than that.
    assert uptimes == pytest.approx([uptimes[0]] * len(uptimes), abs=0.6 * uptimes[0])
    assert max(ticks) < 2 * min(ticks) + FEW
    assert_in_place(lives, lab, target)


def assert_in_place(lives: list[int], lab: Lab, target: Target) -> None:
    """Fail where a QEMU could have been one guest after the other, and was not."""
    command = " ".join(lab.target(target).spec(BootOptions()).qemu.command)
    if IN_PLACE in command and lab.target(target).arch.in_place and not lab.wishes.cold:
        assert lives == list(range(lives[0], lives[0] + len(lives)))


def interrupts(text: str) -> int:
    """Return how many of all kinds there were, on all CPUs. proc_interrupts(5)."""
    words = (line.partition(":")[2].split() for line in text.splitlines()[1:])
    return sum(int(word) for line in words for word in takewhile(str.isdecimal, line))
