# SPDX-License-Identifier: MIT
"""Nothing of a guest is in the next one, be that a clone or the same QEMU restored in place."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lab import scenario
from lab.verdict import Verdict

if TYPE_CHECKING:
    from pathlib import Path

    from lab.kernels.model import Target
    from lab.prepare import Lab
    from lab.verdict import Result

FILE = """
channel: lives
modules: [lab_core, lab_chardev]
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
TIMES = 4
IN_PLACE = "turbo-bound"  # where QEMUs that `lab turbo` built run


@pytest.fixture
def pair(tmp_path: Path) -> tuple[scenario.Scenario, ...]:
    """Return one that leaves traces and one that looks for them."""
    path = tmp_path / "lives.yaml"
    path.write_text(FILE)
    return scenario.load(path, root=tmp_path).scenarios


def test_nothing_of_a_guest_is_in_the_next_one(
    pair: tuple[scenario.Scenario, ...], target: Target, lab: Lab
) -> None:
    leaves, looks = pair
    lives: list[int] = []

    def run(which: scenario.Scenario) -> Result:
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
    # With a QEMU that can, this was about guests in place.
    command = " ".join(lab.target(target).spec(leaves.boot).qemu.command)
    if IN_PLACE in command and lab.target(target).arch.in_place and not lab.wishes.cold:
        assert lives == list(range(1, 2 * TIMES + 2))
