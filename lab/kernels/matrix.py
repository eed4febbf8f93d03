# SPDX-License-Identifier: MIT
"""The compile matrix: which modules build against which kernels, and what the compiler says where not."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.errors import LabError, ModuleFailed
from lab.kernels.build import build_trees

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lab.kernels.model import Headers, Target
    from lab.kernels.roots import Root
    from lab.kernels.source import Source
    from lab.kernels.tree import Trees
    from lab.progress import Progress
    from lab.store.cache import Cache


@dataclass(frozen=True)
class Cell:
    """One module and one target."""

    module: str  # '' where none could be told from another
    target: str
    failed: str = ""  # the compiler's lines
    warnings: str = ""
    excluded: str = ""  # why it is not for this kernel

    @property
    def word(self) -> str:
        """What a table has of it."""
        if self.excluded:
            return "not for it"
        return "FAILED" if self.failed else "warnings" if self.warnings else "built"


def matrix(
    trees: Trees, targets: Sequence[Target], source: Source, cache: Cache, progress: Progress
) -> Iterator[Cell]:
    """Build all modules for each target, and yield what became of each.

    Raises UsageError where the trees cannot be built together, and what the source of kernels does.
    """

    def needed(target: Target) -> tuple[Headers, Root]:
        return source.headers(target.kernel), source.toolchain(target.kernel)

    # What the next target needs is fetched while this one's modules are compiled.
    with ThreadPoolExecutor(1, "fetch") as ahead:
        coming = [ahead.submit(needed, target) for target in targets]
        try:
            for target, future in zip(targets, coming, strict=True):
                headers, toolchain = future.result()
                tools = source.tools(target.kernel, trees.tools) if trees.tools else None
                try:
                    built = build_trees(trees, headers, toolchain, cache, progress, tools=tools)
                except ModuleFailed as error:  # make itself: no module is to blame, or all are
                    names = sorted(trees.modules) or [""]
                    yield from (Cell(name, str(target), error.whole) for name in names)
                    continue
                for name in built.names:
                    said = (each.get(name, "") for each in (built.failed, built.warnings, built.excluded))
                    yield Cell(name, str(target), *said)
        except LabError:
            ahead.shutdown(wait=False, cancel_futures=True)
            raise


__all__ = ["Cell", "matrix"]
