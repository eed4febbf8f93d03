# SPDX-License-Identifier: GPL-2.0-only
"""The scenarios catch what they must: each mistake beside this file fails the scenario that it names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lab.house import HOUSE, TREES
from lab.language import reader
from lab.run import fault
from lab.verbs import table

if TYPE_CHECKING:
    from lab.kernels.model import Target
    from lab.run.lab import Lab

FAULTS = sorted(Path(__file__).parent.glob("*.patch"))


@pytest.mark.parametrize("patch", FAULTS, ids=lambda patch: patch.stem)
def test_a_fault_is_caught(patch: Path, target: Target, lab: Lab) -> None:
    says = fault.read(patch)
    loaded = reader.load(HOUSE / says.file, root=HOUSE, verbs=table(), trees=TREES).scenarios
    named = [each for each in loaded if says.scenario in (each.id, each.name)]
    assert named, f"{says.file} has no scenario {says.scenario!r}"
    missed: dict[str, None] = {}
    for each in named:
        lab.ready(target, each)
        why = says.missed(lab.run(target, each, patches=[patch], leaks=says.leaks))
        if why is None:
            assert target.kernel.arch not in says.unseen, f"{patch.stem} is seen, against what its head says"
            return
        missed[why] = None
    if target.kernel.arch in says.unseen:
        pytest.skip(f"{target.kernel.arch} does not show it: {says.unseen[target.kernel.arch]}")
    pytest.fail("\n".join([f"{patch.stem} survives: {says.breaks}", *missed]), pytrace=False)
