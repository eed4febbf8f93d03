# SPDX-License-Identifier: MIT
"""From addresses in the guest's kernel to names: its kallsyms, and what modules were loaded where."""

from __future__ import annotations

import io
import re
from bisect import bisect_right
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

from lab.errors import HostError
from lab.store.cache import digest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from lab.guest.argv import BootSpec
    from lab.progress import Progress
    from lab.store.cache import Cache

_CODE = frozenset("tTwW")
_CODE_FLAGS = 0x2 | 0x4  # SHF_ALLOC | SHF_EXECINSTR
KALLSYMS_SECONDS = 60.0  # ten megabytes, made by an emulated CPU


@dataclass(frozen=True)
class Module:
    """Where a module's code is in a guest."""

    name: str
    base: int
    size: int
    code: int | None = None  # where its .text is, if not at the base: s390 puts tables before it


def parse_modules(text: str) -> list[Module]:
    """Read the text of a guest's /proc/modules, as root saw it."""
    found = []
    for line in text.splitlines():
        match = re.match(r"(\w+) (\d+) .* 0x([0-9a-f]+)(?: |$)", line)
        if match and int(match[3], 16):
            found.append(Module(match[1], int(match[3], 16), int(match[2])))
    return found


def functions(image: bytes) -> dict[int, str]:
    """Return the functions of a module's image by their place behind its .text; {} for what is no module.

    The loader puts the sections that are code one behind the other, in the image's order, those for
    initialisation elsewhere (layout_sections() in kernel/module/main.c).
    """
    from elftools.common.exceptions import ELFError  # noqa: PLC0415 - only wanted for guests that hang
    from elftools.elf.elffile import ELFFile  # noqa: PLC0415 - as above
    from elftools.elf.sections import SymbolTableSection  # noqa: PLC0415 - as above

    found: dict[int, str] = {}
    try:
        elf = ELFFile(io.BytesIO(image))
        places: dict[int, int] = {}
        end = text = 0
        for index, section in enumerate(elf.iter_sections()):
            code = section["sh_flags"] & _CODE_FLAGS == _CODE_FLAGS
            if code and not section.name.startswith(".init"):
                end += -end % max(section["sh_addralign"], 1)
                places[index] = end
                text = end if section.name == ".text" else text
                end += section["sh_size"]
        table = elf.get_section_by_name(".symtab")
        for symbol in table.iter_symbols() if isinstance(table, SymbolTableSection) else ():
            if symbol["st_shndx"] in places and symbol["st_info"]["type"] == "STT_FUNC":
                # On arm64 two small sections stand before it, which the loader makes larger.
                found.setdefault(places[symbol["st_shndx"]] + symbol["st_value"] - text, symbol.name)
    except ELFError:
        return {}
    return found


@dataclass(frozen=True)
class Symbols:
    """Names of code addresses. `shift`: how far KASLR moved the kernel in question; None: not known yet."""

    names: dict[int, str]
    text: int  # where the kernel begins, as it was in the guest that these come from
    shift: int | None = None
    frozen: bool = False  # from a clone: all clones of its template have the kernel in the same place
    modules: tuple[Module, ...] = ()
    images: Mapping[str, bytes] = field(default_factory=dict)  # of modules, by name: the kernel's own as well
    _functions: dict[str, dict[int, str]] = field(default_factory=dict, init=False, compare=False, repr=False)

    @classmethod
    def of(cls, kallsyms: str) -> Symbols:
        """Read the text of a guest's /proc/kallsyms; raises ValueError for what is none.

        Debian's System.map is a stub, so the names come from a kernel that runs.
        """
        names: dict[int, str] = {}
        found = {"_text": 0, "_stext": 0}  # where the image begins; loongarch has only the second
        for line in kallsyms.splitlines():
            address, kind, name, *module = line.split()
            if kind in _CODE and not module:
                names.setdefault(int(address, 16), name)
            if name in found:
                found[name] = int(address, 16)
        text = found["_text"] or found["_stext"]
        if not text:
            raise ValueError(f"no {' or '.join(found)} among {len(names)} kernel symbols")
        return cls(names, text)

    def for_guest(
        self, modules: Sequence[Module], images: Mapping[str, bytes], *, restored: bool = False
    ) -> Symbols:
        """Return these for another guest with the same kernel, these modules, and images of some of them.

        `restored`: from the template that they come from, if they come from one.
        """
        shift = 0 if restored and self.frozen else None
        return replace(self, shift=shift, modules=tuple(modules), images=images)

    @cached_property
    def _sorted(self) -> list[int]:
        return sorted(self.names)

    def _functions_of(self, module: str) -> dict[int, str]:
        """Return a module's functions: of the images, thousands, each costs time."""
        if module not in self._functions:
            self._functions[module] = functions(self.images[module]) if module in self.images else {}
        return self._functions[module]

    def _in_module(self, module: Module, address: int) -> str:
        offset = address - (module.base if module.code is None else module.code)
        own = self._functions_of(module.name)
        start = max((start for start in own if start <= offset), default=None)
        name = f"+{offset:#x}" if start is None else f"{own[start]}+{offset - start:#x}"
        return f"{name} [{module.name}]"

    def name(self, address: int) -> str | None:
        """Return 'function+0x1c', 'function+0x1c [module]' or '+0x30 [module]'; None for what is no code."""
        for module in self.modules:
            if module.base <= address < module.base + module.size:
                return self._in_module(module, address)
        if self.shift is None or not self.names:
            return None
        linked = address - self.shift
        index = bisect_right(self._sorted, linked) - 1
        if index < 0 or index + 1 == len(self._sorted):  # before the first, or behind the last: no code
            return None
        start = self._sorted[index]
        return f"{self.names[start]}+{linked - start:#x}"


def kernel_symbols(
    spec: BootSpec, kallsyms: Callable[[], bytes], origin: str, cache: Cache, progress: Progress
) -> Symbols:
    """Return the symbols of a spec's kernel: read once, and kept.

    `kallsyms` gives a guest's /proc/kallsyms, which takes up to KALLSYMS_SECONDS. `origin` says of which
    template that guest is a clone; '': it was booted. Raises GuestError and BootFailed as `kallsyms` does,
    HostError when it tells nothing.
    """

    def make(building: Path, _final: Path) -> None:
        with progress.task(f"reading the symbols of {spec.kernel.kernel.release}"):
            text = kallsyms().decode(errors="replace")
        lines = [line for line in text.splitlines() if " " in line and line.split()[1] in _CODE]
        (building / "kallsyms").write_text("\n".join(lines))

    try:
        path = cache.entry("symbols", digest(spec.kernel.digest, origin, 2), make, durable=False)
        found = Symbols.of((path / "kallsyms").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise HostError(f"the symbols of {spec.kernel.kernel.release} are not to be had: {error}") from error
    return replace(found, frozen=bool(origin))
