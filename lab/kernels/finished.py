# SPDX-License-Identifier: MIT
"""Kernels that somebody else has built: an image with its build directory, or packages."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from lab.arch import ARCHITECTURES, architecture, host
from lab.errors import UsageError
from lab.kernels.catalogue import Catalogue
from lab.kernels.model import Headers, Kernel, KernelFiles
from lab.kernels.modules_dep import write_modules_dep
from lab.kernels.roots import bind_programs, find_libraries, root, tools
from lab.kernels.upstream import pack
from lab.store.cache import digest, file_digest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lab.arch import Architecture
    from lab.kernels.roots import Root
    from lab.kernels.upstream.pack import Packed
    from lab.progress import Progress
    from lab.settings import Settings
    from lab.store.cache import Cache

FORMAT = 1  # to be raised when kernels are to be put together anew
_COMPILERS = (10, 12, 14, 16)  # kernels/roots.yaml
_GCC = re.compile(r"^CONFIG_GCC_VERSION=(\d+)\d{4}$", re.MULTILINE)
_CLANG = re.compile(r"^CONFIG_CC_IS_CLANG=y$", re.MULTILINE)
# By which of its options a configuration is an architecture's.
_OPTIONS = {
    "x86_64": ("CONFIG_X86_64",),
    "i386": ("CONFIG_X86_32",),
    "arm64": ("CONFIG_ARM64",),
    "armhf": ("CONFIG_ARM",),
    "ppc64el": ("CONFIG_PPC64", "CONFIG_CPU_LITTLE_ENDIAN"),
    "riscv64": ("CONFIG_RISCV", "CONFIG_64BIT"),
    "s390x": ("CONFIG_S390",),
    "loong64": ("CONFIG_LOONGARCH", "CONFIG_64BIT"),
}
_RELEASE = re.compile(r"(\d+)\.(\d+)(?:\.(\d+))?")
_NEEDED = (".config", "Module.symvers", "modules.order", "include/config/kernel.release", "System.map")
_IMAGES = ("vmlinuz-", "vmlinux-")
_PACKAGES = ("linux-image", "linux-modules", "linux-headers", "linux-binary", "linux-base-")


class _Finished(ABC):
    """One kernel, which is of one architecture."""

    name: str

    def __init__(self, settings: Settings, cache: Cache, progress: Progress) -> None:
        self._have = settings, cache, progress

    @property
    @abstractmethod
    def _origin(self) -> str:
        """Where it is, for people."""

    @property
    @abstractmethod
    def _ask(self) -> tuple[str, ...]:
        """By which options it was named."""

    @cached_property
    @abstractmethod
    def _content(self) -> str:
        """What tells it from others."""

    @cached_property
    @abstractmethod
    def _config(self) -> str:
        """Its configuration."""

    @cached_property
    @abstractmethod
    def _release(self) -> str:
        """What uname -r prints on it."""

    @abstractmethod
    def _put(self, to: Path) -> None:
        """Put it together in a directory, as lab.kernels.upstream.pack does."""

    def offers(self, arches: Sequence[str]) -> Catalogue:
        """Return the kernel; raises UsageError where it is of another architecture."""
        arch = _arch(self._config, self._origin)
        if arch not in arches:
            raise UsageError(f"{self._origin} is a kernel for {arch}", hint=f"say so: --arch {arch}")
        match = _RELEASE.match(self._release)
        if match is None:
            raise UsageError(f"{self._origin}: {self._release!r} is no kernel's release")
        kernel = Kernel(
            line=f"{match[1]}.{match[2]}",
            version=f"{match[1]}.{match[2]}.{match[3] or 0}",
            package_version=self._content[:12],
            release=self._release,
            arch=arch,
            flavour="stock",
            origin=self._origin,
            compiler=_compiler(self._config, self._origin),
            buildable=True,
            ask=self._ask,
        )
        return Catalogue((kernel,), 1.0)

    def is_cached(self, _kernel: Kernel) -> bool:
        """Tell whether it was put together."""
        return self._have[1].peek("finished", self._key) is not None

    def download_bytes(self, _kernel: Kernel) -> int:
        """Return 0: it is all here."""
        return 0

    def kernel(self, kernel: Kernel) -> KernelFiles:
        """Return what a guest boots."""
        packed = self._packed
        return KernelFiles(
            kernel, packed.image, packed.modules, packed.config, packed.system_map, packed.path.name
        )

    def all_modules(self, _kernel: Kernel) -> Path:
        """Return lib/modules/V: nothing was left out of it."""
        return self._packed.modules

    def headers(self, kernel: Kernel) -> Headers:
        """Return what modules are built against."""
        return Headers(kernel, self._packed.kdir, self._packed.path, self._packed.path.name)

    def tools(self, kernel: Kernel, packages: Sequence[str]) -> Root:
        """Return a root with packages of the release that the compiler is of."""
        return tools(kernel.compiler, packages, *self._have)

    def toolchain(self, kernel: Kernel, arch: Architecture | None = None) -> Root:
        """Return a root with the compiler that comes next to the one that made it."""
        return root(kernel.compiler, *self._have, target=architecture(kernel.arch) if arch is None else arch)

    @property
    def _key(self) -> str:
        return digest(FORMAT, self._content, str(self._have[1].root))[:24]

    @cached_property
    def _packed(self) -> Packed:
        _, cache, _ = self._have
        path = cache.entry(
            "finished", self._key, lambda building, _: self._put(building), progress_text=self._origin
        )
        return pack.load(path)

    @cached_property
    def _tools(self) -> Root:
        arch = architecture(_arch(self._config, self._origin))
        return root(_compiler(self._config, self._origin), *self._have, target=arch)


class Build(_Finished):
    """`--kernel-image FILE --kernel-build DIR`: DIR is where `make` put what it made, FILE is the image."""

    def __init__(
        self, image: Path, build: Path, settings: Settings, cache: Cache, progress: Progress
    ) -> None:
        """Take it; raises UsageError for what was not built."""
        super().__init__(settings, cache, progress)
        self._image, self._build = image.resolve(), build.resolve()
        self.name = re.sub(r"[^\w.+-]+", "_", self._build.name)
        if not self._image.is_file():
            raise UsageError(f"--kernel-image {image}: there is no such file")
        for needed in _NEEDED:
            if not (self._build / needed).is_file():
                raise UsageError(
                    f"--kernel-build {build}: it has no {needed}",
                    hint="give the directory in which the kernel was built, after `make` and `make modules`",
                )

    @property
    def _origin(self) -> str:
        return f"build {self._build}"

    @property
    def _ask(self) -> tuple[str, ...]:
        return ("--kernel-image", str(self._image), "--kernel-build", str(self._build))

    @cached_property
    def _content(self) -> str:
        names = (".config", "Module.symvers", "System.map")
        modules = [self._build / Path(line).with_suffix(".ko") for line in self._order]
        times = [(path.stat().st_size, path.stat().st_mtime_ns) for path in modules if path.exists()]
        return digest(file_digest(self._image), [file_digest(self._build / name) for name in names], times)

    @cached_property
    def _order(self) -> list[str]:
        return (self._build / "modules.order").read_text().split()

    @cached_property
    def _config(self) -> str:
        return (self._build / ".config").read_text()

    @cached_property
    def _release(self) -> str:
        return (self._build / "include/config/kernel.release").read_text().strip()

    def _put(self, to: Path) -> None:
        link = self._build / "source"  # of a build in a directory of its own
        source = link.resolve() if link.is_symlink() else self._build
        arch = architecture(_arch(self._config, self._origin))
        pack.pack(source, self._build, self._image, arch, self._tools, to)


class Packages(_Finished):
    """`--kernel-packages DIR`: .deb files that hold one kernel, its modules and its headers."""

    def __init__(self, directory: Path, settings: Settings, cache: Cache, progress: Progress) -> None:
        """Take it; raises UsageError for one without such packages."""
        super().__init__(settings, cache, progress)
        self._directory = directory.resolve()
        self.name = re.sub(r"[^\w.+-]+", "_", self._directory.name)
        every = sorted(self._directory.glob("*.deb"))
        self._files = [path for path in every if path.name.startswith(_PACKAGES) and "-dbg" not in path.name]
        for kind in ("linux-image", "linux-headers"):
            if not any(path.name.startswith(kind) for path in self._files):
                raise UsageError(
                    f"--kernel-packages {directory}: there is no {kind}-*.deb",
                    hint="`make bindeb-pkg` puts linux-image-*.deb and linux-headers-*.deb beside the tree",
                )

    @property
    def _origin(self) -> str:
        return f"packages {self._directory}"

    @property
    def _ask(self) -> tuple[str, ...]:
        return ("--kernel-packages", str(self._directory))

    @cached_property
    def _content(self) -> str:
        return digest([file_digest(path) for path in self._files])

    @cached_property
    def _unpacked(self) -> Path:
        from lab.kernels.debian.unpack import unpack  # noqa: PLC0415 - only who names packages pays for it

        _, cache, progress = self._have

        def make(building: Path, _: Path) -> None:
            with progress.task(f"unpacking the packages of {self._directory}"):
                for path in self._files:
                    unpack(path, building)

        return cache.entry("unpacked", digest(FORMAT, self._content)[:24], make, progress_text=self._origin)

    @cached_property
    def _release(self) -> str:
        found = sorted((self._unpacked / "boot").glob("config-*"))
        if len(found) != 1:
            there = ", ".join(path.name for path in found) or "none"
            raise UsageError(
                f"{self._origin}: there shall be one kernel, and there is {there}",
                hint="give a directory that has the packages of one kernel alone",
            )
        return found[0].name.removeprefix("config-")

    @cached_property
    def _config(self) -> str:
        return (self._unpacked / f"boot/config-{self._release}").read_text()

    def _put(self, to: Path) -> None:
        boot, release = self._unpacked / "boot", self._release
        images = (boot / f"{name}{release}" for name in _IMAGES)
        image = next((path for path in images if path.exists()), None)
        headers = self._unpacked / "usr/src" / f"linux-headers-{release}"
        modules = self._unpacked / "usr/lib/modules" / release
        for path, what in ((image, "image"), (headers, "headers"), (modules, "modules")):
            if path is None or not path.exists():
                raise UsageError(f"{self._origin}: there is no {what} of {release} in them")
        assert image is not None
        pack.copy(image, self._config, boot / f"System.map-{release}", modules, headers, to, release)
        own = self._tools.path
        # They were made on another host, for what that one had.
        bind_programs(to / "src", own, own, find_libraries(own, host()))
        write_modules_dep(to / "lib/modules" / release)


def _arch(config: str, origin: str) -> str:
    """Return the architecture that a configuration is of."""
    set_ = set(re.findall(r"^(CONFIG_\w+)=y$", config, re.MULTILINE))
    for name, options in _OPTIONS.items():
        if set_.issuperset(options):
            return name
    raise UsageError(
        f"{origin}: its configuration is of no architecture that the lab knows",
        hint=f"known: {', '.join(ARCHITECTURES)}",
    )


def _compiler(config: str, origin: str) -> str:
    """Return the root whose compiler is nearest to the one that a kernel was built with."""
    if _CLANG.search(config):
        raise UsageError(
            f"{origin} was built with clang, and modules are built with gcc here",
            hint="build the kernel with gcc, or let the lab do it: --kernel-tree DIR",
        )
    match = _GCC.search(config)
    version = int(match[1]) if match else _COMPILERS[-2]
    return f"gcc-{next((each for each in _COMPILERS if each >= version), _COMPILERS[-1])}"


__all__ = ["Build", "Packages"]
