# SPDX-License-Identifier: GPL-2.0-only
"""The scenarios catch what they must: each mistake beside this file fails the scenario that it names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lab.errors import ScenarioError
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
    try:
        loaded = reader.load(HOUSE / says.file, root=HOUSE, verbs=table(), trees=TREES).scenarios
    except ScenarioError as error:
        pytest.fail(str(error), pytrace=False)
    named = [each for each in loaded if says.scenario in (each.id, each.name)]
    assert named, f"{says.file} has no scenario {says.scenario!r}"
    unseen = says.why_unseen(lab.target(target).machine)
    missed: dict[str, None] = {}
    for each in named:
        lab.ready(target, each)
        why = says.missed(lab.run(target, each, patches=[patch], leaks=says.leaks))
        if why is None:
            assert unseen is None, f"{patch.stem} is seen on {target}, against what its head says: {unseen}"
            return
        missed[why] = None
    if unseen is not None:
        pytest.skip(f"{target} does not show it: {unseen}")
    pytest.fail("\n".join([f"{patch.stem} survives: {says.breaks}", *missed]), pytrace=False)
