# SPDX-License-Identifier: MIT
"""The kernel's own make, for a tree of sources that is only read and a directory that takes what it makes.

All of it is of a private root: the compilers, and what the programs that make builds for itself (fixdep,
modpost, objtool) are started by. So these run on any host, and go on doing so where they are copied to.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.arch import host
from lab.errors import BuildFailed
from lab.kernels.process import run
from lab.kernels.roots import find_libraries, loader
from lab.kernels.toolchain import compiler

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from lab.arch import Architecture
    from lab.kernels.roots import Root

LOCALVERSION = "-chanlab"
_EPOCH = "Thu Jan  1 00:00:00 UTC 1970"  # the same sources make the same kernel
_FIRST_LINES = 12
_CONTEXT = 2
_ERROR = re.compile(r"error:|\*\*\*|Error \d+|undefined reference|No such file")
# Our architecture -> what ARCH is for make, and the configuration to begin with.
_NAMES = {
    "x86_64": ("x86_64", "defconfig"),
    "i386": ("i386", "defconfig"),
    "arm64": ("arm64", "defconfig"),
    "armhf": ("arm", "multi_v7_defconfig"),
    "ppc64el": ("powerpc", "ppc64le_defconfig"),
    "riscv64": ("riscv", "defconfig"),
    "s390x": ("s390", "defconfig"),
    "loong64": ("loongarch", "loongson3_defconfig"),
}


@dataclass(frozen=True)
class KernelMake:
    """Make of one tree for one architecture."""

    source: Path
    build: Path
    arch: Architecture
    root: Root
    jobs: int

    @property
    def defconfig(self) -> str:
        """The target that makes the architecture's own configuration."""
        return _NAMES[self.arch.name][1]

    def argv(self, targets: Sequence[str]) -> list[str]:
        """Return the command."""
        return [
            *self.root.command("make"),
            "-C",
            str(self.source),
            f"O={self.build}",
            f"ARCH={_NAMES[self.arch.name][0]}",
            f"CROSS_COMPILE={self.arch.gnu}-",
            f"CC={compiler(self.root, self.arch)}",
            f"HOSTCC={compiler(self.root, host())}",
            f"HOSTLDFLAGS={self._host_flags()}",
            f"LOCALVERSION={LOCALVERSION}",
            f"KBUILD_BUILD_TIMESTAMP={_EPOCH}",
            "KBUILD_BUILD_USER=chanlab",
            "KBUILD_BUILD_HOST=chanlab",
            f"-j{self.jobs}",
            *targets,
        ]

    def _host_flags(self) -> str:
        """Return what binds a program to the root: its loader, and where its libraries are."""
        places = [str(self.root.path / place) for place in find_libraries(self.root.path, host())]
        own = loader(self.root.path, host())
        return f"-Wl,--dynamic-linker={own} -Wl,--disable-new-dtags,-rpath,{':'.join(places)}"

    def run(self, *targets: str, on_line: Callable[[str], None] | None = None) -> str:
        """Make, and return what was said; raises BuildFailed with the first lines that tell why."""
        status, text = run(self.argv(targets), cwd=self.source, env=self.root.environment(), on_line=on_line)
        if status:
            raise BuildFailed(
                f"make {' '.join(targets)} of {self.source} for {self.arch.name} failed", errors(text)
            )
        return text


def errors(text: str) -> str:
    """Return the first lines of make's output that tell what went wrong, or the last ones."""
    lines = text.splitlines()
    first = next((at for at, line in enumerate(lines) if _ERROR.search(line)), None)
    if first is None:
        return "\n".join(lines[-_FIRST_LINES:])
    begin = max(0, first - _CONTEXT)
    return "\n".join(lines[begin : begin + _FIRST_LINES])


def known(arch: str) -> bool:
    """Tell whether kernels of an architecture can be built."""
    return arch in _NAMES


__all__ = ["LOCALVERSION", "KernelMake", "errors", "known"]
