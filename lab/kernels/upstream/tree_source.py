# SPDX-License-Identifier: MIT
"""A tree of the user's as a source of kernels: `--kernel-tree DIR[@REF]`."""

from __future__ import annotations

import re
from functools import cached_property
from typing import TYPE_CHECKING

from lab.arch import architecture
from lab.errors import UsageError
from lab.kernels.catalogue import Catalogue
from lab.kernels.roots import root
from lab.kernels.upstream import trees
from lab.kernels.upstream.builder import Order
from lab.kernels.upstream.kmake import known
from lab.kernels.upstream.source import Built, Wanted, named
from lab.store.cache import digest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from lab.kernels.model import Kernel
    from lab.kernels.upstream.trees import Repository, Sources, Version
    from lab.progress import Progress
    from lab.settings import Settings
    from lab.store.cache import Cache

_NO_NAME = re.compile(r"[^\w.@+-]+")


class Tree(Built):
    """See lab.kernels.source.Source: one kernel for each architecture."""

    def __init__(
        self, spec: str, own: tuple[Path, ...], settings: Settings, cache: Cache, progress: Progress
    ) -> None:
        """Take a directory, with @ and a ref behind it or not; `own` are fragments of a configuration."""
        super().__init__(settings, cache, progress)
        self._spec = spec
        self._own = own
        path, self._ref = trees.split_ref(spec)
        self._path = path.resolve()
        if not self._path.is_dir():
            raise UsageError(f"--kernel-tree {spec}: there is no directory {path}")
        self.name = _NO_NAME.sub("_", self._path.name + (f"@{self._ref}" if self._ref else ""))

    def offers(self, arches: Sequence[str]) -> Catalogue:
        """Return its kernel for each architecture that can be built.

        Raises UsageError for what is no tree of kernel sources.
        """
        content = self._found[0]
        ask = ("--kernel-tree", self._spec)
        kernels = (
            named(self._version, arch, f"tree {self._spec}", content, ask) for arch in arches if known(arch)
        )
        return Catalogue(tuple(kernels), 1.0)

    def download_bytes(self, _kernel: Kernel) -> int:
        """Return 0: it is all here."""
        return 0

    def _wanted(self, kernel: Kernel) -> Wanted:
        content, _ = self._found
        order = Order(self.name, str(self._path), architecture(kernel.arch), self._own)
        return Wanted(order, content, self._sources)

    @cached_property
    def _repository(self) -> Repository:
        return trees.Repository(self._path, root("git", *self._have))

    @cached_property
    def _found(self) -> tuple[str, str]:
        """What tells its contents from others, and its commit."""
        if not self._ref:
            return trees.directory(self._path).content, ""
        commit = self._repository.commit(self._ref)
        return commit, commit

    @cached_property
    def _version(self) -> Version:
        commit = self._found[1]
        text = self._repository.read(commit, "Makefile") if commit else (self._path / "Makefile").read_text()
        return trees.version(text, self._spec)

    def _sources(self) -> Sources:
        content, commit = self._found
        if not commit:
            return trees.directory(self._path)
        _, cache, progress = self._have
        key = f"{_NO_NAME.sub('_', self._path.name)}-{digest(str(self._path))[:16]}"
        place = cache.entry(
            "kernel-checkout", key, lambda _building, _final: None, durable=False, fixed=False
        )
        with progress.task(f"checking out {self._ref} of {self._path}"):
            self._repository.check_out(commit, place / "tree", place / "index")
        return trees.Sources(place / "tree", content)


__all__ = ["Tree"]
