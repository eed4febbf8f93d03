# SPDX-License-Identifier: MIT
"""All sources of a run's kernels as one: what the user has, Debian's archive, and releases to be built.

A name means Debian's kernel where Debian has it, since that is there in seconds; a release that is built from
source otherwise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.arch import ARCHITECTURES
from lab.errors import KernelNotOffered, UsageError
from lab.kernels.catalogue import arch_names
from lab.kernels.model import Target

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from lab.arch import Architecture
    from lab.kernels.model import Headers, Kernel, KernelFiles
    from lab.kernels.roots import Root
    from lab.kernels.source import Kernels, Own, Source


class Several:
    """See lab.kernels.source.Source."""

    def __init__(self, own: Iterable[Own], first: Source, then: Source) -> None:
        """Take the user's own, whose kernels a name means, and whose where that has none."""
        self._own = tuple(own)
        self._first = first
        self._then = then
        self._of: dict[Kernel, Kernels] = {}

    def select(
        self, kernels: Sequence[str], arches: Sequence[str], flavours: Sequence[str], *, fetch: bool
    ) -> tuple[Target, ...]:
        """Return the targets that a user's words mean, and those of the user's own."""
        chosen: dict[Kernel, Target] = {}
        names = arch_names(arches)
        for own in self._own:
            found = own.offers(names).kernels
            if not found:
                raise UsageError(
                    f"{own.name} has no kernel for {' or '.join(names)}",
                    hint=f"--arch names another one of {', '.join(ARCHITECTURES)}",
                )
            for kernel in found:
                self._of[kernel] = own
                chosen[kernel] = Target(own.name, kernel)
        for spec in kernels:
            source = self._first
            try:
                targets = source.select([spec], arches, flavours, fetch=fetch)
            except KernelNotOffered as error:
                source = self._then
                targets = self._otherwise(error, spec, arches, flavours, fetch=fetch)
            for target in targets:
                self._of.setdefault(target.kernel, source)
                chosen.setdefault(target.kernel, target)
        return tuple(chosen.values())

    def _otherwise(
        self,
        error: KernelNotOffered,
        spec: str,
        arches: Sequence[str],
        flavours: Sequence[str],
        *,
        fetch: bool,
    ) -> tuple[Target, ...]:
        try:
            return self._then.select([spec], arches, flavours, fetch=fetch)
        except KernelNotOffered as other:
            hint = "\n  ".join(filter(None, (error.hint, other.message, other.hint)))
            raise KernelNotOffered(error.message, hint=hint) from None

    def is_cached(self, kernel: Kernel) -> bool:
        """Tell whether a kernel and its headers are at hand."""
        return self._source(kernel).is_cached(kernel)

    def download_bytes(self, kernel: Kernel) -> int:
        """Return how much has to be fetched."""
        return self._source(kernel).download_bytes(kernel)

    def kernel(self, kernel: Kernel) -> KernelFiles:
        """Return what a guest boots, made if need be."""
        return self._source(kernel).kernel(kernel)

    def all_modules(self, kernel: Kernel) -> Path:
        """Return lib/modules/V with every module of a kernel's."""
        return self._source(kernel).all_modules(kernel)

    def headers(self, kernel: Kernel) -> Headers:
        """Return what modules are built against, made if need be."""
        return self._source(kernel).headers(kernel)

    def tools(self, kernel: Kernel, packages: Sequence[str]) -> Root:
        """Return a root with packages of the release that a kernel's compiler is of."""
        return self._source(kernel).tools(kernel, packages)

    def toolchain(self, kernel: Kernel, arch: Architecture | None = None) -> Root:
        """Return the root with a kernel's compiler."""
        return self._source(kernel).toolchain(kernel, arch)

    def _source(self, kernel: Kernel) -> Kernels:
        return self._of.get(kernel, self._first)


__all__ = ["Several"]
