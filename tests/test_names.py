# SPDX-License-Identifier: MIT
"""The names that scenario files are checked against before any fetch: of all architectures, as made now."""

from __future__ import annotations

import pytest

from lab.abi import Abi, Field, Struct, known_family, known_structs, known_syscalls
from lab.arch import ARCHITECTURES, ARM64, X86_64
from lab.pages.names import FILE, Words, compilers

MACROS = {
    "linux/errno.h": ["EIO", "E_NONE", "_LINUX_ERRNO_H"],
    "linux/signal.h": ["SIGHUP", "SIG_IGN", "SIGSTKSZ"],
}


def test_the_file_is_as_it_is_made_now() -> None:
    """Sorted, each name once and in one family, and made of the headers of every compiler."""
    words = Words()
    words.families = {family: set(known_family(family)) for family in words.families}
    words.structs = {name: dict.fromkeys(fields) for name, fields in known_structs().items()}
    assert all(words.families.values())
    there = FILE.read_text(encoding="ascii")
    assert there == words.text(compilers()), "lab/abi/names.txt is old: python -m lab.pages.names"


# What one architecture alone has.
OWN = {
    "x86_64": "arch_prctl",
    "i386": "vm86old",
    "arm64": "user_sve_header",
    "armhf": "arm_fadvise64_64",
    "ppc64el": "spu_run",
    "riscv64": "riscv_hwprobe",
    "s390x": "s390_pci_mmio_write",
    "loong64": "user_lasx_state",
}


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_every_architecture_brought_its_words(arch: str) -> None:
    assert OWN[arch] in known_syscalls() | set(known_structs())


def test_every_architecture_is_asked() -> None:
    assert list(compilers()) == list(ARCHITECTURES)
    assert all(compilers().values())


def struct(*fields: str) -> Struct:
    return Struct("pair", 8, tuple(Field(name, 0, 4, "uint") for name in fields))


def test_names_of_several_targets_are_put_together() -> None:
    words = Words()
    one = {"EIO": 5, "SIGHUP": 1, "O_SYNC": 1, "SIGSTKSZ": 8192}
    words.take(Abi(X86_64, one, {"TEXT": "x"}, {"pair": struct("a", "b")}, {"read": 0}), MACROS)
    words.take(Abi(ARM64, {"O_ASYNC": 2}, {}, {"pair": struct("b", "c")}, {"write": 1}), MACROS)
    assert words.text({"x86_64": ["gcc-1", "gcc-2"]}).splitlines()[2:] == [
        "# x86_64: gcc-1 gcc-2",
        *("[errno]", "EIO"),
        *("[signal]", "SIGHUP"),
        *("[constant]", "O_ASYNC O_SYNC SIGSTKSZ"),
        *("[string]", "TEXT"),
        *("[syscall]", "read write"),
        *("[struct]", "pair: a b c"),
    ]
