# SPDX-License-Identifier: MIT
"""How many processes run scenarios where the command line does not say."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

_WORTH = 48  # scenarios; fewer are through before a second process has started and read the files
_EACH = 16  # scenarios that a worker should have at least
_WORKER_MIB = 400  # what a worker takes: itself, a guest and one that waits
_SCENARIO = re.compile(rb"^\s*- *\{? *name:", re.MULTILINE)  # one that stands for several counts as one


def roughly(places: Iterable[Path], targets: int) -> int:
    """Return about how many scenarios the files in some places hold for so many targets.

    Files are searched, not read: that takes milliseconds where reading them takes a second.
    """
    files = (file for place in places for file in ([place] if place.is_file() else place.rglob("*.y*ml")))
    return targets * sum(len(_SCENARIO.findall(file.read_bytes())) for file in files)


def targets(kernels: Sequence[str], arches: Sequence[str], flavours: Sequence[str]) -> int:
    """Return how many targets these words are about, without asking what there is."""

    def several(words: Sequence[str]) -> int:
        return sum(4 if word == "all" or word.startswith(">") else 1 for word in words) or 1

    return several(kernels) * several(arches) * several(flavours)


def number(scenarios: int) -> int:
    """Return how many workers are worth their start for so many scenarios; 1: none besides this process.

    As many as there are CPUs for this process, as far as memory allows.
    """
    if scenarios < _WORTH:
        return 1
    from lab.guest.pool import available_mib  # noqa: PLC0415 - a single scenario must not pay for it
    from lab.settings import cpus  # noqa: PLC0415 - as above

    available = available_mib()
    fits = available // _WORKER_MIB if available is not None else scenarios
    return max(1, min(cpus(), scenarios // _EACH, fits))


def crowd() -> int:
    """Return how many workers make the host busy, for --stress: twice as many as there are CPUs."""
    from lab.settings import cpus  # noqa: PLC0415 - as above

    return 2 * cpus()
