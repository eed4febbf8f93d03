# SPDX-License-Identifier: MIT
"""Debian's archive as a source of kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from lab.arch import Architecture
    from lab.kernels.model import Headers, Kernel, KernelFiles, Target
    from lab.kernels.roots import Root
    from lab.progress import Progress
    from lab.settings import Settings
    from lab.store.cache import Cache


class Debian:
    """See lab.kernels.source.Source. What is imported where it is used, a warm run does not pay for."""

    def __init__(self, settings: Settings, cache: Cache, progress: Progress) -> None:
        self._have = settings, cache, progress

    def select(
        self, kernels: Sequence[str], arches: Sequence[str], flavours: Sequence[str], *, fetch: bool
    ) -> tuple[Target, ...]:
        """Return the targets that a user's words mean."""
        from lab.kernels.catalogue import arch_names  # noqa: PLC0415 - see above
        from lab.kernels.debian import offers  # noqa: PLC0415 - see above

        names = arch_names(arches)
        found = offers.load(*self._have, fetch=fetch, arches=names)
        return tuple(found.select(kernels, arches, flavours))

    def is_cached(self, kernel: Kernel) -> bool:
        """Tell whether a kernel and its headers are at hand."""
        from lab.kernels.debian import offers  # noqa: PLC0415 - see above

        return offers.is_cached(kernel, self._have[1])

    def download_bytes(self, kernel: Kernel) -> int:
        """Return how much has to be fetched, by the archive's own index."""
        from lab.kernels.debian import packages  # noqa: PLC0415 - see above

        settings, cache, _ = self._have
        return packages.download_size(kernel, settings, cache)

    def kernel(self, kernel: Kernel) -> KernelFiles:
        """Return what a guest boots, fetched if need be."""
        from lab.kernels.debian import packages  # noqa: PLC0415 - see above

        return packages.fetch_kernel(kernel, *self._have)

    def all_modules(self, kernel: Kernel) -> Path:
        """Return lib/modules/V with what kernel() leaves out too, fetched if need be."""
        from lab.kernels.debian import packages  # noqa: PLC0415 - see above

        return packages.fetch_all_modules(kernel, *self._have)

    def headers(self, kernel: Kernel) -> Headers:
        """Return what modules are built against, fetched if need be."""
        from lab.kernels.debian import packages  # noqa: PLC0415 - see above

        return packages.fetch_headers(kernel, *self._have)

    def tools(self, kernel: Kernel, packages: Sequence[str]) -> Root:
        """Return a root with packages of the release that the kernel's compiler is of."""
        from lab.kernels import roots  # noqa: PLC0415 - see above

        return roots.tools(kernel.compiler, packages, *self._have)

    def toolchain(self, kernel: Kernel, arch: Architecture | None = None) -> Root:
        """Return the root with the compiler that the kernel was built with."""
        from lab.kernels import toolchain  # noqa: PLC0415 - see above

        return toolchain.toolchain(kernel, *self._have, arch=arch)
