# SPDX-License-Identifier: MIT
"""The compiler of a kernel: the one that its distribution built it with, in a root of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.arch import architecture
from lab.errors import LabError
from lab.kernels.roots import Root, root

if TYPE_CHECKING:
    from lab.arch import Architecture
    from lab.kernels.model import Kernel
    from lab.progress import Progress
    from lab.settings import Settings
    from lab.store.cache import Cache


def toolchain(
    kernel: Kernel,
    settings: Settings,
    cache: Cache,
    progress: Progress,
    *,
    arch: Architecture | None = None,
) -> Root:
    """Return the root with the kernel's compiler, fetched if need be; raises what roots.root() does.

    `arch` is what it compiles for, where that is not the kernel's own architecture.
    """
    target = architecture(kernel.arch) if arch is None else arch
    return root(kernel.compiler, settings, cache, progress, target=target)


def compiler(toolchain: Root, arch: Architecture) -> str:
    """Return the name of the program in a root that compiles for an architecture.

    Raises LabError when the root has none.
    """
    # The unversioned names are links that another package brings; the versioned one is always there.
    names = sorted(path.name for path in (toolchain.path / "usr/bin").glob(f"{arch.gnu}-gcc-*"))
    for name in names:
        if name.rpartition("-")[2].isdecimal():
            return name
    raise LabError(f"{toolchain.path} has no compiler for {arch.name}", hint="`lab clean`, then try again")


def tool(toolchain: Root, arch: Architecture, name: str) -> list[str]:
    """Return the start of an argv that runs one of the binutils (nm, strip) for an architecture."""
    return toolchain.command(f"{arch.gnu}-{name}")


def system_includes(toolchain: Root, arch: Architecture) -> list[str]:
    """Return the options by which a compiler of a root finds that root's headers and libraries only."""
    cross = toolchain.path / "usr" / arch.gnu
    return [f"--sysroot={cross if (cross / 'include').is_dir() else toolchain.path}"]
