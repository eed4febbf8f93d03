# SPDX-License-Identifier: MIT
"""The mutants that nobody has to notice, as a page for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.house import DOCS
from lab.mutate import exclusions

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from lab.mutate.exclusions import Exclusion

_HEAD = """\
# What no scenario has to notice

Made from docs/mutants.yaml by `python -m lab.pages.reference`; do not edit.

`lab mutate kmod/X.c` makes one small mistake after the other in a module, drops a statement, turns a
comparison round, gives another errno, and runs the channel's scenarios against each until one fails. A
mistake that none of them notices is a hole in the scenarios, unless a stock kernel cannot show it. Those
are here, each with its argument; the score is told with and without them. `--patch` prints a mutant as it
would stand in kmod/faults/.
"""
_NONE = "\nNothing is excluded.\n"


def page() -> str:
    """Return docs/mutants.md; raises UsageError for a list that cannot be read."""
    found = exclusions.read(DOCS / "mutants.yaml")
    return _HEAD + ("".join(_sections(found)) or _NONE)


def _sections(found: Mapping[str, Sequence[Exclusion]]) -> Iterator[str]:
    for module, excluded in sorted(found.items()):
        yield f"\n## {module}\n"
        for exclusion in excluded:
            yield f"\n{exclusion.why}\n\n"
            yield from (f"- `{mutant}`\n" for mutant in exclusion.mutants)
