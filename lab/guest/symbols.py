# SPDX-License-Identifier: MIT
"""From addresses in the guest's kernel to names: System.map, and what modules were loaded where."""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_TEXT = "_text"
_CODE = frozenset("tTwW")


@dataclass
class Symbols:
    """Names of code addresses. `shift` is how far KASLR moved the kernel; None: not known."""

    names: dict[int, str]
    text: int  # of _text, as linked
    shift: int | None = None
    modules: list[tuple[int, int, str]] = field(default_factory=list)  # base, size, name
    _sorted: list[int] = field(default_factory=list, repr=False)

    @classmethod
    def of(cls, system_map: Path) -> Symbols:
        """Read a System.map, which takes a tenth of a second; raises OSError, ValueError for what is none."""
        names: dict[int, str] = {}
        text: int | None = None
        for line in system_map.read_text(encoding="utf-8", errors="replace").splitlines():
            address, kind, name = line.split()[:3]
            if kind in _CODE:
                names.setdefault(int(address, 16), name)
            if name == _TEXT:
                text = int(address, 16)
        if text is None:
            raise ValueError(f"{system_map} names no {_TEXT}")
        return cls(names, text)

    def load_modules(self, proc_modules: str) -> None:
        """Learn where modules are from the text of the guest's /proc/modules, read as root."""
        for line in proc_modules.splitlines():
            match = re.match(r"(\w+) (\d+) .* 0x([0-9a-f]+)(?: |$)", line)
            if match and int(match[3], 16):
                entry = (int(match[3], 16), int(match[2]), match[1])
                if entry not in self.modules:
                    self.modules.append(entry)

    def name(self, address: int) -> str | None:
        """Return 'function+0x1c' or '0x30 [module]'; None for what is no code of the kernel's."""
        for base, size, module in self.modules:
            if base <= address < base + size:
                return f"{module}+{address - base:#x} [{module}]"
        if self.shift is None or not self.names:
            return None
        if not self._sorted:
            self._sorted = sorted(self.names)
        linked = address - self.shift
        index = bisect_right(self._sorted, linked) - 1
        if index < 0 or index + 1 == len(self._sorted):  # before the first, or behind the last: no code
            return None
        start = self._sorted[index]
        return f"{self.names[start]}+{linked - start:#x}"
