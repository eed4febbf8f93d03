# SPDX-License-Identifier: MIT
"""Kernels and headers out of Debian's packages, unpacked in the cache."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from lab.arch import architecture, host
from lab.errors import FetchError, LabError
from lab.kernels import tables
from lab.kernels.debian.kernels import Piece
from lab.kernels.debian.offers import DATA, entry_name, offer
from lab.kernels.model import Headers, KernelFiles
from lab.kernels.modules_dep import write_modules_dep
from lab.kernels.roots import bind_programs, fetch_packages, find_libraries
from lab.kernels.toolchain import toolchain
from lab.store.cache import digest, file_digest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from lab.kernels.debian.fetch import Item
    from lab.kernels.model import Kernel
    from lab.kernels.roots import Root
    from lab.progress import Progress
    from lab.settings import Settings
    from lab.store.cache import Cache

MAKER = 2  # to be raised when entries are to be made anew, since this file makes them otherwise


def fetch_kernel(kernel: Kernel, settings: Settings, cache: Cache, progress: Progress) -> KernelFiles:
    """Return a kernel's image, modules and config from the cache, fetched if need be.

    Modules for hardware that no guest has are left out, and lib/modules gets a modules.dep: depmod runs in a
    maintainer script otherwise. Raises FetchError, HashMismatch or CacheError.
    """
    pieces = offer(kernel, settings, cache)["image"]
    what = digest(MAKER, file_digest(DATA), [[piece[0], piece[-1]] for piece in pieces])

    def make(building: Path, _: Path) -> None:
        wanted = re.compile(
            rf"boot/(vmlinu[xz]|config|System\.map)-|usr/lib/modules/{re.escape(kernel.release)}/"
        )
        unwanted = re.compile(_modules_skipped())
        fetch_packages(
            _items(pieces),
            building,
            settings,
            cache,
            progress,
            text=f"kernel {kernel.release}",
            wanted=lambda path: (
                wanted.match(path) is not None
                and unwanted.match(path.partition(f"/{kernel.release}/kernel/")[2]) is None
            ),
        )
        _finish_kernel(building, kernel)

    path = cache.entry("kernel", _key(kernel, what), make, progress_text=f"kernel {kernel.release}")
    modules = path / "usr/lib/modules" / kernel.release
    split = (modules / "config").exists()  # since 6.19 all of it is there

    def part(name: str) -> Path:
        return modules / name if split else path / f"boot/{name}-{kernel.release}"

    image = part("vmlinuz")
    return KernelFiles(
        kernel=kernel,
        image=image if image.exists() else part("vmlinux"),  # where it is not compressed: powerpc, riscv
        modules=modules,
        config=part("config"),
        system_map=part("System.map"),
        digest=what,
    )


def fetch_all_modules(kernel: Kernel, settings: Settings, cache: Cache, progress: Progress) -> Path:
    """Return lib/modules/V with all modules of a kernel's packages; raises what fetch_kernel() does."""
    pieces = offer(kernel, settings, cache)["image"]
    what = digest(MAKER, "all", [[piece[0], piece[-1]] for piece in pieces])
    below = f"usr/lib/modules/{kernel.release}"

    def make(building: Path, _: Path) -> None:
        fetch_packages(
            _items(pieces),
            building,
            settings,
            cache,
            progress,
            text=f"all modules of kernel {kernel.release}",
            wanted=lambda path: path.startswith(f"{below}/"),
        )
        write_modules_dep(building / below)

    text = f"all modules of kernel {kernel.release}"
    return cache.entry("all-modules", _key(kernel, what), make, progress_text=text) / below


def fetch_headers(kernel: Kernel, settings: Settings, cache: Cache, progress: Progress) -> Headers:
    """Return what modules are built against, with host tools bound to the root of the kernel's compiler.

    Raises LabError for a kernel without headers, FetchError, HashMismatch or CacheError.
    """
    pieces = offer(kernel, settings, cache)["headers"]
    if not pieces:
        raise LabError(
            f"no headers of kernel {kernel.release} are on offer: no module can be built for it",
            hint="`lab kernels` lists kernels that modules can be built for",
        )
    compiler = toolchain(kernel, settings, cache, progress)
    what = digest(MAKER, compiler.digest, [[piece[0], piece[-1]] for piece in pieces])

    # A third of the files is for other architectures.
    other = re.compile(rf"usr/src/[^/]+/arch/(?!{architecture(kernel.arch).kernel}/)[^/]+/")

    def make(building: Path, final: Path) -> None:
        fetch_packages(
            _items(pieces),
            building,
            settings,
            cache,
            progress,
            text=f"headers {kernel.release}",
            wanted=lambda path: (
                path.startswith(("usr/src/", "usr/lib/linux-kbuild-")) and other.match(path) is None
            ),
        )
        _finish_headers(building, final, compiler)

    # The tools are bound to the compiler's root, wherever that is.
    key = _key(kernel, digest(what, str(cache.root)))
    path = cache.entry("headers", key, make, progress_text=f"headers {kernel.release}")
    return Headers(kernel, path / "usr/src" / f"linux-headers-{kernel.release}", path, what)


def download_size(kernel: Kernel, settings: Settings, cache: Cache) -> int:
    """Return how many bytes a kernel's and its headers' packages are; raises what offer() does."""
    found = offer(kernel, settings, cache)
    return sum(item.size for item in _items([*found["image"], *found["headers"]]))


def _key(kernel: Kernel, what: str) -> str:
    return f"{entry_name(kernel)}{what[:16]}"


def _modules_skipped() -> str:
    return re.sub(r"\s", "", tables.read(DATA)["modules_skipped"])


def _items(pieces: Sequence[Sequence[Any]]) -> list[Item]:
    return [Piece.from_json(piece).item for piece in pieces]


def _finish_kernel(building: Path, kernel: Kernel) -> None:
    modules = building / "usr/lib/modules" / kernel.release
    boot = building / "boot"
    if not modules.is_dir() or not (list(modules.glob("vmlinuz")) or list(boot.glob("vmlinu*"))):
        raise FetchError(f"the packages of kernel {kernel.release} do not hold it", hint="report this")
    (building / "lib").symlink_to("usr/lib")
    write_modules_dep(modules)


def _finish_headers(building: Path, final: Path, compiler: Root) -> None:
    """Let the headers find each other where they are, and their programs the compiler's root."""
    headers = sorted((building / "usr/src").glob("linux-headers-*"))
    for directory in headers:
        makefile = directory / "Makefile"
        # The flavour's own: an include of the common one by its absolute path, and KBUILD_OUTPUT from 7.2 on.
        if makefile.stat().st_size < 1000:
            text = makefile.read_text()
            makefile.write_text(re.sub(r"(?<![\w.-])/usr/(src|lib)/", rf"{final}/usr/\1/", text))
    bind_programs(building, compiler.path, compiler.path, find_libraries(compiler.path, host()))
