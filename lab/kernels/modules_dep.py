# SPDX-License-Identifier: MIT
"""Writes lib/modules/V/modules.dep, as depmod would in a package's maintainer script.

Not by depmod itself: it also lists modules that need one which is left out here, and so could not be loaded,
and a kernel would have to wait for a root. What both list they list alike. Nor by pyelftools: to find a
module's .modinfo takes it 2 ms, longer than xz takes to unpack it.
"""

from __future__ import annotations

import lzma
import re
import struct
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_SUFFIX = re.compile(r"\.ko(\.xz)?$")


def write_modules_dep(modules: Path) -> None:
    """Write modules.dep of a lib/modules/V directory: for each module what it needs, the first to load last.

    A module that needs one which is not there is left out: it could not be loaded.
    """
    found = [path for path in modules.rglob("*.ko*") if _SUFFIX.search(path.name)]
    paths = {module_name(path): path.relative_to(modules) for path in found}
    with ThreadPoolExecutor(2, "depmod") as pool:  # decompressing lets go of the interpreter
        needs = dict(zip(map(module_name, found), pool.map(_depends, found), strict=True))
    lines = []
    for name, path in sorted(paths.items(), key=lambda item: item[1]):
        order = load_order(name, needs)
        if order is not None:
            lines.append(" ".join([f"{path}:", *(str(paths[one]) for one in reversed(order))]))
    (modules / "modules.dep").write_text("".join(f"{line}\n" for line in lines))


def load_order(name: str, needs: Mapping[str, Sequence[str]]) -> list[str] | None:
    """Return what has to be loaded before a module, in that order; None when something of it is gone."""
    order: list[str] = []

    def visit(one: str) -> bool:
        if one not in needs:
            return False
        good = all(two in order or visit(two) for two in needs[one])
        order.append(one)
        return good

    return order[:-1] if visit(name) else None


def module_name(path: Path) -> str:
    """Return the name that the kernel knows a module by."""
    return _SUFFIX.sub("", path.name).replace("-", "_")


def _depends(path: Path) -> list[str]:
    data = path.read_bytes()
    elf = lzma.decompress(data) if path.suffix == ".xz" else data
    for field in _modinfo(elf).split(b"\0"):
        if field.startswith(b"depends="):
            return [name.replace("-", "_") for name in field[8:].decode().split(",") if name]
    return []


def _modinfo(elf: bytes) -> bytes:
    """Return a module's .modinfo section; empty when there is none."""
    wide, order = elf[4] == 2, "<" if elf[5] == 1 else ">"
    start = struct.unpack_from(order + ("Q" if wide else "I"), elf, 40 if wide else 32)[0]
    size, count, names = struct.unpack_from(order + "HHH", elf, 58 if wide else 46)
    head = struct.Struct(order + ("IIQQQQ" if wide else "IIIIII"))  # name, type, flags, address, offset, size
    sections = [head.unpack_from(elf, start + index * size) for index in range(count)]
    table = sections[names][4]
    for section in sections:
        if elf.startswith(b".modinfo\0", table + section[0]):
            return elf[section[4] : section[4] + section[5]]
    return b""
