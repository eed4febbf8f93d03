# SPDX-License-Identifier: MIT
"""What kernels that the lab builds have in common, whatever tree they are of; see lab.kernels.source."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.arch import architecture
from lab.kernels.model import Headers, Kernel, KernelFiles
from lab.kernels.upstream import builder
from lab.kernels.upstream.kmake import LOCALVERSION

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from lab.arch import Architecture
    from lab.kernels.roots import Root
    from lab.kernels.upstream.builder import Order
    from lab.kernels.upstream.pack import Packed
    from lab.kernels.upstream.trees import Sources, Version
    from lab.progress import Progress
    from lab.settings import Settings
    from lab.store.cache import Cache

FLAVOUR = "stock"


@dataclass(frozen=True)
class Wanted:
    """A tree that may be built, for one architecture."""

    order: Order
    content: str
    sources: Callable[[], Sources]


class Built(ABC):
    """Kernels that are built when they are wanted."""

    def __init__(self, settings: Settings, cache: Cache, progress: Progress) -> None:
        self._have = settings, cache, progress

    @abstractmethod
    def _wanted(self, kernel: Kernel) -> Wanted:
        """Return what a kernel is built of."""

    def is_cached(self, kernel: Kernel) -> bool:
        """Tell whether it was built."""
        from lab.kernels import roots  # noqa: PLC0415 - a run with Debian's kernels alone has no need of it

        arch = architecture(kernel.arch)
        tools = roots.known(builder.ROOT, self._have[1], target=arch)
        wanted = self._wanted(kernel)
        return tools is not None and builder.is_built(wanted.order, wanted.content, tools, self._have[1])

    def kernel(self, kernel: Kernel) -> KernelFiles:
        """Return what a guest boots, built if need be."""
        packed = self._packed(kernel)
        return KernelFiles(
            kernel, packed.image, packed.modules, packed.config, packed.system_map, packed.path.name
        )

    def all_modules(self, kernel: Kernel) -> Path:
        """Return lib/modules/V: nothing was left out of it."""
        return self._packed(kernel).modules

    def headers(self, kernel: Kernel) -> Headers:
        """Return what modules are built against."""
        packed = self._packed(kernel)
        return Headers(kernel, packed.kdir, packed.path, packed.path.name)

    def tools(self, kernel: Kernel, packages: Sequence[str]) -> Root:
        """Return a root with packages of the release that the compiler is of."""
        from lab.kernels import roots  # noqa: PLC0415 - as above

        return roots.tools(kernel.compiler, packages, *self._have)

    def toolchain(self, kernel: Kernel, arch: Architecture | None = None) -> Root:
        """Return the root that the kernel was compiled in; what compiles for others is smaller."""
        from lab.kernels import roots  # noqa: PLC0415 - as above

        own = architecture(kernel.arch)
        if arch is None or arch == own:
            return builder.compiler_root(own, *self._have)
        return roots.root(builder.COMPILER, *self._have, target=arch)

    def _packed(self, kernel: Kernel) -> Packed:
        wanted = self._wanted(kernel)
        return builder.build(wanted.order, wanted.content, wanted.sources, *self._have)


def named(version: Version, arch: str, origin: str, content: str, ask: tuple[str, ...]) -> Kernel:
    """Return the record of a kernel that can be built."""
    return Kernel(
        line=version.line,
        version=version.number,
        package_version=content[:12],
        release=f"{version.number}{version.extra}{LOCALVERSION}",
        arch=arch,
        flavour=FLAVOUR,
        origin=origin,
        compiler=builder.ROOT,
        buildable=True,
        ask=ask,
    )


__all__ = ["Built", "Wanted", "named"]
