# SPDX-License-Identifier: MIT
"""From addresses in the guest's kernel to names: its kallsyms, and what modules were loaded where."""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass, field

_TEXT = "_text"
_CODE = frozenset("tTwW")


@dataclass
class Symbols:
    """Names of code addresses. `shift`: how far KASLR moved the kernel in question; None: not known yet."""

    names: dict[int, str]
    text: int  # of _text, as it was in the guest that these come from
    shift: int | None = None
    modules: list[tuple[int, int, str]] = field(default_factory=list)  # base, size, name
    _sorted: list[int] = field(default_factory=list, repr=False)

    @classmethod
    def of(cls, kallsyms: str) -> Symbols:
        """Read the text of a guest's /proc/kallsyms; raises ValueError for what is none.

        Debian's System.map is a stub, so the names come from a kernel that runs.
        """
        names: dict[int, str] = {}
        text: int | None = None
        for line in kallsyms.splitlines():
            address, kind, name, *module = line.split()
            if module:
                continue
            if kind in _CODE:
                names.setdefault(int(address, 16), name)
            if name == _TEXT:
                text = int(address, 16)
        if text is None or not text:
            raise ValueError(f"no {_TEXT} among {len(names)} kernel symbols")
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
