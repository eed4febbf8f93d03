# SPDX-License-Identifier: MIT
"""The words kernel and target, as records."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path  # noqa: TC003 - a record's field


@dataclass(frozen=True)
class Kernel:
    """One bootable build that somebody offers."""

    line: str  # '6.12'
    version: str  # upstream's: '6.12.117'
    package_version: str  # the source package's: '6.12.117-1'
    release: str  # `uname -r`: '6.12.117+deb13-amd64'
    arch: str  # 'x86_64'
    flavour: str  # 'stock', 'cloud', 'rt'
    origin: str  # where it comes from, for people: 'debian trixie-security'
    compiler: str  # the package its distribution built it with: 'gcc-14'
    buildable: bool  # whether headers of exactly this build are on offer
    ask: tuple[str, ...] = ()  # the options that ask for it, where --kernel with its name does not


@dataclass(frozen=True)
class Target:
    """A kernel on an architecture; `name` is what the user asked for: a line or an exact version."""

    name: str
    kernel: Kernel

    def __str__(self) -> str:
        tail = "" if self.kernel.flavour == "stock" else f"-{self.kernel.flavour}"
        return f"{self.name}-{self.kernel.arch}{tail}"


@dataclass(frozen=True)
class KernelFiles:
    """What of a kernel a guest and a report need, unpacked in the cache."""

    kernel: Kernel
    image: Path  # vmlinuz
    modules: Path  # lib/modules/RELEASE
    config: Path
    system_map: Path
    digest: str  # of the packages it came from: part of every key


@dataclass(frozen=True)
class Headers:
    """What modules are built against, unpacked and rewritten to run in place."""

    kernel: Kernel
    kdir: Path  # for make -C
    root: Path  # the private root that holds it
    digest: str
