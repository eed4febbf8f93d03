# SPDX-License-Identifier: MIT
"""This project's own modules, agent, scenarios and pages: what a command line means that names no others.

For those who read command lines, and for measurements and pages that are about just these.
"""

from __future__ import annotations

from pathlib import Path

from lab.kernels.offered import Offered
from lab.kernels.tree import Tree, Trees
from lab.parts import part
from lab.run.ready import Wishes

HOUSE = Path(__file__).resolve().parents[1]
TREE = Tree(HOUSE / "kmod")
TREES = Trees((TREE,))
AGENT = part("rootfs")  # the sources of the program that is every guest's init
SCENARIOS = HOUSE / "scenarios"
COMPLAINTS = part("kernels") / "complaints.yaml"  # what kernels say that is one, or is none
DOCS = HOUSE / "docs"
# Those that nobody else has; a command line says the rest.
WISHES = Wishes(seed=0, trees=TREES, agent=AGENT, source=Offered(), complaints=COMPLAINTS)
