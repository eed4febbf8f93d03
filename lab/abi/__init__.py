# SPDX-License-Identifier: MIT
"""The binary interface of a target as data: constants, struct layouts, system call numbers.

Nothing here knows a compiler; `lab.kernels.uapi` fills these records with what the target's own compiler
says. Values are packed and unpacked in the target's byte order and word size, whatever the host is.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from lab.abi.header_words import HeaderWords, header_words
from lab.abi.layout import Field, LayoutError, Struct, nearest
from lab.abi.structs import Joined, Structs, raw_structs
from lab.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lab.arch import Architecture

__all__ = [
    "Abi",
    "Field",
    "HeaderWords",
    "LayoutError",
    "Struct",
    "Structs",
    "header_words",
    "known_family",
    "known_names",
    "known_structs",
    "known_syscalls",
    "nearest",
]

_NAMES = Path(__file__).with_name("names.txt")
# Aliases that no report should use. Realtime signals are named by their distance from the first.
_ERRNO_ALIASES = frozenset({"EWOULDBLOCK", "EDEADLOCK", "ENOTSUP", "EFSBADCRC", "EFSCORRUPTED"})
_SIGNAL_ALIASES = frozenset(
    {"SIGIOT", "SIGCLD", "SIGPOLL", "SIGUNUSED", "SIGLOST", "SIGRTMAX", "SIGSTKSZ", "SIGSWI"}
)
# Numbers of include/linux/errno.h that user space must never see: a module that leaks one is told by name.
_INTERNAL_ERRNOS = {
    512: "ERESTARTSYS",
    513: "ERESTARTNOINTR",
    514: "ERESTARTNOHAND",
    515: "ENOIOCTLCMD",
    516: "ERESTART_RESTARTBLOCK",
    517: "EPROBE_DEFER",
    518: "EOPENSTALE",
    519: "ENOPARAM",
    521: "EBADHANDLE",
    522: "ENOTSYNC",
    523: "EBADCOOKIE",
    524: "ENOTSUPP",
    525: "ETOOSMALL",
    526: "ESERVERFAULT",
    527: "EBADTYPE",
    528: "EJUKEBOX",
    529: "EIOCBQUEUED",
}


# --- names that are known before anything is fetched -----------------------------------------------------


@cache
def _known() -> dict[str, dict[str, tuple[str, ...]]]:
    """Read names.txt: ``[family]`` heads, then names; a struct's line also has its fields."""
    families: dict[str, dict[str, tuple[str, ...]]] = {}
    family: dict[str, tuple[str, ...]] = {}
    for line in _NAMES.read_text(encoding="ascii").splitlines():
        if line.startswith("["):
            family = families.setdefault(line.strip("[]"), {})
        elif line and not line.startswith("#"):
            name, colon, fields = line.partition(":")
            if colon:
                family[name] = tuple(fields.split())
            else:
                family.update(dict.fromkeys(line.split(), ()))
    return families


def known_family(family: str) -> frozenset[str]:
    """Return the names of one family of names.txt: errno, signal, constant, string, struct, syscall."""
    return frozenset(_known().get(family, ()))


@cache
def known_names() -> frozenset[str]:
    """Return the names of all constants that some target's system headers have, without any fetch."""
    return frozenset({"PAGE_SIZE"}).union(
        *(known_family(f) for f in ("errno", "signal", "constant", "string"))
    )


@cache
def known_syscalls() -> frozenset[str]:
    """Return the names of all system calls that some architecture has, without `__NR_`."""
    return known_family("syscall")


def known_structs() -> Mapping[str, tuple[str, ...]]:
    """Return the system headers' structs with the names of their fields."""
    return _known().get("struct", {})


@dataclass(frozen=True)
class Abi:
    """All that a target's headers say."""

    arch: Architecture
    constants: Mapping[str, int] = field(default_factory=dict)
    strings: Mapping[str, str] = field(default_factory=dict)
    structs: Mapping[str, Struct] = field(default_factory=dict)
    syscalls: Mapping[str, int] = field(default_factory=dict)
    page_size: int = 4096  # until a guest says otherwise

    def merged(self, other: Abi) -> Abi:
        """Return both; what both have is the other's. The page size stays this one's."""
        return Abi(
            self.arch,
            {**self.constants, **other.constants},
            {**self.strings, **other.strings},
            Joined(other.structs, self.structs) if other.structs else self.structs,
            {**self.syscalls, **other.syscalls},
            self.page_size,
        )

    def errno_name(self, number: int) -> str:
        """Return EAGAIN for 11: the name that the manual pages use; '`errno 4000`' when there is none."""
        found = self._errnos.get(number) or _INTERNAL_ERRNOS.get(number)
        return found or f"errno {number}"

    def signal_name(self, number: int) -> str:
        """Return SIGTERM for 15, SIGRTMIN+2 for 34 (the kernel's SIGRTMIN is 32); 'signal 99' beyond."""
        found = self._signals.get(number)
        if found is not None:
            return found
        first, last = self.constants.get("SIGRTMIN", 32), self.constants.get("SIGRTMAX", 64)
        return f"SIGRTMIN+{number - first}" if first < number <= last else f"signal {number}"

    def syscall_name(self, number: int) -> str:
        """Return the name of a system call, or 'syscall 999'."""
        return self._syscalls.get(number, f"syscall {number}")

    # Tables that reports ask again and again.
    @cached_property
    def _errnos(self) -> dict[int, str]:
        return self._names(known_family("errno") - _ERRNO_ALIASES)

    @cached_property
    def _signals(self) -> dict[int, str]:
        return self._names(known_family("signal") - _SIGNAL_ALIASES)

    @cached_property
    def _syscalls(self) -> dict[int, str]:
        return {number: name for name, number in self.syscalls.items()}

    def _names(self, wanted: frozenset[str]) -> dict[int, str]:
        return {self.constants[name]: name for name in wanted if name in self.constants}

    def to_json(self) -> str:
        """Return a compact text that from_json() reads in milliseconds: one line of names, one of structs."""
        names = {
            "arch": self.arch.name,
            "page_size": self.page_size,
            "constants": dict(self.constants),
            "strings": dict(self.strings),
            "syscalls": dict(self.syscalls),
        }
        lines = (names, raw_structs(self.structs))
        return "\n".join(json.dumps(line, separators=(",", ":")) for line in lines)

    @classmethod
    def from_json(cls, text: str, arch: Architecture) -> Abi:
        """Return what to_json() wrote.

        Raises UsageError when it was written for another architecture.
        """
        names, _, structs = text.partition("\n")
        raw = json.loads(names)
        if raw["arch"] != arch.name:
            raise UsageError(f"these constants are {raw['arch']}'s, not {arch.name}'s")
        return cls(
            arch, raw["constants"], raw["strings"], Structs(structs), raw["syscalls"], raw["page_size"]
        )
