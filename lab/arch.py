# SPDX-License-Identifier: MIT
"""One record for each architecture: data, no behaviour. Adding one touches this file and the docs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lab.errors import UsageError


@dataclass(frozen=True)
class Architecture:
    """What the lab must know of an architecture that no header and no package tells it."""

    name: str  # what `uname -m` prints: x86_64
    debian: str  # Debian's name: amd64
    gnu: str  # the GNU triplet, as Debian's multiarch directories and cross compilers have it
    kernel: str  # the kernel's ARCH=
    byteorder: Literal["little", "big"]
    word: int  # bytes in a long and a pointer
    qemu: str  # qemu-system-*
    qemu_package: str  # Debian's package of it
    firmware: tuple[str, ...]  # directories in the QEMU root for -L
    machine: str  # versioned, so that a template means the same to every QEMU that reads it
    cpu: str  # the CPU model under TCG
    console: str  # the kernel's name of the first serial port
    cmdline: tuple[str, ...]  # what only this architecture wants on the command line
    flavours: dict[str, str]  # our flavour -> the tail of Debian's package names


X86_64 = Architecture(
    name="x86_64",
    debian="amd64",
    gnu="x86_64-linux-gnu",
    kernel="x86",
    byteorder="little",
    word=8,
    qemu="qemu-system-x86_64",
    qemu_package="qemu-system-x86",
    firmware=("usr/share/qemu", "usr/share/seabios"),
    machine="pc-q35-10.0",
    cpu="max",
    console="ttyS0",
    # Under TCG with two CPUs x86 drops the TSC after a restore, and the vDSO falls back to system calls.
    cmdline=("tsc=reliable",),
    flavours={"stock": "amd64", "cloud": "cloud-amd64", "rt": "rt-amd64"},
)

ARCHITECTURES: dict[str, Architecture] = {arch.name: arch for arch in (X86_64,)}


def architecture(name: str) -> Architecture:
    """Return the record of an architecture.

    Raises UsageError naming the known ones.
    """
    try:
        return ARCHITECTURES[name]
    except KeyError:
        raise UsageError(
            f"unknown architecture {name!r}", hint=f"known: {', '.join(sorted(ARCHITECTURES))}"
        ) from None
