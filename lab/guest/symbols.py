# SPDX-License-Identifier: MIT
"""From addresses in the guest's kernel to names: its kallsyms, and what modules were loaded where."""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from lab.cache import digest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lab.cache import Cache
    from lab.guest.argv import BootSpec
    from lab.guest.machine import Guest
    from lab.progress import Progress

_TEXT = "_text"
_CODE = frozenset("tTwW")
_KALLSYMS_SECONDS = 60.0  # ten megabytes, made by an emulated CPU


@dataclass(frozen=True)
class Module:
    """Where a module's code is in a guest."""

    name: str
    base: int
    size: int


def parse_modules(text: str) -> list[Module]:
    """Read the text of a guest's /proc/modules, as root saw it."""
    found = []
    for line in text.splitlines():
        match = re.match(r"(\w+) (\d+) .* 0x([0-9a-f]+)(?: |$)", line)
        if match and int(match[3], 16):
            found.append(Module(match[1], int(match[3], 16), int(match[2])))
    return found


@dataclass(frozen=True)
class Symbols:
    """Names of code addresses. `shift`: how far KASLR moved the kernel in question; None: not known yet."""

    names: dict[int, str]
    text: int  # of _text, as it was in the guest that these come from
    shift: int | None = None
    modules: tuple[Module, ...] = ()

    @classmethod
    def of(cls, kallsyms: str) -> Symbols:
        """Read the text of a guest's /proc/kallsyms; raises ValueError for what is none.

        Debian's System.map is a stub, so the names come from a kernel that runs.
        """
        names: dict[int, str] = {}
        text = 0
        for line in kallsyms.splitlines():
            address, kind, name, *module = line.split()
            if kind in _CODE and not module:
                names.setdefault(int(address, 16), name)
            if name == _TEXT:
                text = int(address, 16)
        if not text:
            raise ValueError(f"no {_TEXT} among {len(names)} kernel symbols")
        return cls(names, text)

    def for_guest(self, modules: list[Module]) -> Symbols:
        """Return these for another guest with the same kernel and these modules."""
        return replace(self, shift=None, modules=tuple(modules))

    @cached_property
    def _sorted(self) -> list[int]:
        return sorted(self.names)

    def name(self, address: int) -> str | None:
        """Return 'function+0x1c' or 'module+0x30 [module]'; None for what is no code of the kernel's."""
        for module in self.modules:
            if module.base <= address < module.base + module.size:
                return f"{module.name}+{address - module.base:#x} [{module.name}]"
        if self.shift is None or not self.names:
            return None
        linked = address - self.shift
        index = bisect_right(self._sorted, linked) - 1
        if index < 0 or index + 1 == len(self._sorted):  # before the first, or behind the last: no code
            return None
        start = self._sorted[index]
        return f"{self.names[start]}+{linked - start:#x}"


def kernel_symbols(spec: BootSpec, take: Callable[[], Guest], cache: Cache, progress: Progress) -> Symbols:
    """Return the symbols of a spec's kernel: read once, from a guest that `take` gives, and kept.

    Raises GuestError, BootFailed or HostError when that guest cannot be had, OSError when it refuses.
    """

    def make(building: Path, _final: Path) -> None:
        with progress.task(f"reading the symbols of {spec.kernel.kernel.release}"), take() as guest:
            text = guest.agent.read_file("/proc/kallsyms", _KALLSYMS_SECONDS).decode(errors="replace")
        lines = [line for line in text.splitlines() if " " in line and line.split()[1] in _CODE]
        (building / "kallsyms").write_text("\n".join(lines))

    path = cache.entry("symbols", digest(spec.kernel.digest, 1), make, durable=False)
    return Symbols.of((path / "kallsyms").read_text(encoding="utf-8"))
