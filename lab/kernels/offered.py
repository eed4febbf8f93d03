# SPDX-License-Identifier: MIT
"""Which sources of kernels a command line names: what makes them, in each process of a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.errors import UsageError
from lab.kernels.debian.source import Debian
from lab.kernels.several import Several
from lab.kernels.upstream.release_source import Release

if TYPE_CHECKING:
    from pathlib import Path

    from lab.kernels.source import Own
    from lab.progress import Progress
    from lab.settings import Settings
    from lab.store.cache import Cache


@dataclass(frozen=True)
class Offered:
    """A maker of sources: lab.kernels.source.SourceMaker."""

    trees: tuple[str, ...] = ()  # DIR[@REF]
    builds: tuple[tuple[Path, Path], ...] = ()  # an image and the directory that it was built in
    packages: tuple[Path, ...] = ()  # directories of .deb files
    fragments: tuple[Path, ...] = ()  # of the configuration of what is built

    @property
    def own(self) -> bool:
        """Whether kernels are named without their version."""
        return bool(self.trees or self.builds or self.packages)

    def __call__(self, settings: Settings, cache: Cache, progress: Progress) -> Several:
        """Make them; raises UsageError for what is not there."""
        from lab.kernels import finished  # noqa: PLC0415 - only who names one pays for it
        from lab.kernels.upstream.tree_source import Tree  # noqa: PLC0415 - only who names one pays for it

        for path in self.fragments:
            if not path.is_file():
                raise UsageError(
                    f"--kernel-config {path}: there is no such file",
                    hint="its lines are CONFIG_X=y, or =m, =n",
                )
        have = settings, cache, progress
        own: list[Own] = [Tree(spec, self.fragments, *have) for spec in self.trees]
        own += [finished.Build(image, build, *have) for image, build in self.builds]
        own += [finished.Packages(path, *have) for path in self.packages]
        return Several(own, Debian(*have), Release(self.fragments, *have))


__all__ = ["Offered"]
