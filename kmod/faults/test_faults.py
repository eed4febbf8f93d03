# SPDX-License-Identifier: GPL-2.0-only
"""The scenarios catch what they must: each mistake beside this file fails the scenario that it names."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lab.house import TREE
from lab.language import reader
from lab.verbs import table

if TYPE_CHECKING:
    from lab.kernels.model import Target
    from lab.run.lab import Lab

HOUSE = Path(__file__).resolve().parents[2]
FAULTS = sorted(Path(__file__).parent.glob("*.patch"))


def head(patch: Path) -> dict[str, str]:
    """Return what stands before a patch's diff."""
    text = patch.read_text(encoding="utf-8").split("\n--- ")[0]
    return dict(re.findall(r"^(\w+): (.+)$", text, re.MULTILINE))


@pytest.mark.parametrize("patch", FAULTS, ids=lambda patch: patch.stem)
def test_a_fault_is_caught(patch: Path, target: Target, lab: Lab) -> None:
    says = head(patch)
    file, _, name = says["Scenario"].partition("::")
    loaded = reader.load(HOUSE / file, root=HOUSE, verbs=table(), tree=TREE).scenarios
    named = [each for each in loaded if name in (each.id, each.name)]
    assert named, f"{file} has no scenario {name!r}"
    # What comes of memory that is used after it was freed differs from run to run: such a fault names two.
    wanted = says["Verdict"].split(", ")
    verdicts = []
    for each in named:
        lab.ready(target, each)
        result = lab.run(target, each, patches=[patch])
        verdicts.append(result.verdict.value)
        if result.verdict.value in wanted:
            return
    pytest.fail(
        f"{patch.stem} survives: wanted {' or '.join(wanted)}, got {', '.join(verdicts)}", pytrace=False
    )
