# SPDX-License-Identifier: MIT
"""Where kernels come from: what the rest of the lab asks of a source, whoever it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from typing import TypeAlias

    from lab.arch import Architecture
    from lab.kernels.catalogue import Catalogue
    from lab.kernels.model import Headers, Kernel, KernelFiles, Target
    from lab.kernels.roots import Root
    from lab.progress import Progress
    from lab.settings import Settings
    from lab.store.cache import Cache

    # What makes one: the command line says which, each process makes its own.
    SourceMaker: TypeAlias = Callable[[Settings, Cache, Progress], "Source"]


class Kernels(Protocol):
    """What there is of kernels: what guests boot, what modules are built against, the compiler for that.

    All of these raise LabErrors that say what to do.
    """

    def is_cached(self, kernel: Kernel) -> bool:
        """Tell whether a kernel and its headers are at hand."""

    def download_bytes(self, kernel: Kernel) -> int:
        """Return how much has to be fetched for a kernel and its headers, as far as is known."""

    def kernel(self, kernel: Kernel) -> KernelFiles:
        """Return what a guest boots, made if need be."""

    def all_modules(self, kernel: Kernel) -> Path:
        """Return lib/modules/V with every module of a kernel's, those that kernel() leaves out among them."""

    def headers(self, kernel: Kernel) -> Headers:
        """Return what modules are built against, made if need be."""

    def tools(self, kernel: Kernel, packages: Sequence[str]) -> Root:
        """Return a root with packages of the release that a kernel's compiler is of."""

    def toolchain(self, kernel: Kernel, arch: Architecture | None = None) -> Root:
        """Return the root with a kernel's compiler; `arch`: what for, if not the kernel's own."""


class Source(Kernels, Protocol):
    """A source of kernels that are known by their names."""

    def select(
        self, kernels: Sequence[str], arches: Sequence[str], flavours: Sequence[str], *, fetch: bool
    ) -> tuple[Target, ...]:
        """Return the targets that a user's words mean; `fetch`: what is on offer may be asked for now.

        Raises UsageError, KernelNotOffered among them.
        """


class Own(Kernels, Protocol):
    """A source of kernels that are wanted as soon as it is named."""

    name: str  # of its targets

    def offers(self, arches: Sequence[str]) -> Catalogue:
        """Return its kernels for some architectures."""
