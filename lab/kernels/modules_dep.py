# SPDX-License-Identifier: MIT
"""Writes lib/modules/V/modules.dep and modules.softdep, as depmod would in a package's maintainer script.

Not by depmod itself: it also lists modules that need one which is left out here, and so could not be loaded,
and a kernel would have to wait for a root. What both list they list alike. Nor by pyelftools: to find a
module's .modinfo takes it 2 ms, longer than xz takes to unpack it.
"""

from __future__ import annotations

import lzma
import re
import struct
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

_PATTERN = re.compile(r"[*?\[]")
_SUFFIX = re.compile(r"\.ko(\.xz)?$")


class _Info(NamedTuple):
    """What a module says of others."""

    depends: list[str]  # whose symbols it uses
    before: list[str]  # what it asks for when it begins: modules, or what they are called by others
    aliases: list[str]  # what it is called by others, without patterns


def write_modules_dep(modules: Path) -> None:
    """Write modules.dep of a lib/modules/V directory: for each module what it needs, the first to load last.

    A module that needs one which is not there is left out: it could not be loaded. modules.softdep has, as
    modules, what a module asks the kernel for when it begins ("softdep=pre:", see modprobe.d(5)).
    """
    found = [path for path in modules.rglob("*.ko*") if _SUFFIX.search(path.name)]
    paths = {module_name(path): path.relative_to(modules) for path in found}
    with ThreadPoolExecutor(2, "depmod") as pool:  # decompressing lets go of the interpreter
        infos = dict(zip(map(module_name, found), pool.map(_info, found), strict=True))
    (modules / "modules.softdep").write_text("".join(_soft(infos)))
    needs = {name: info.depends for name, info in infos.items()}
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


def _soft(infos: Mapping[str, _Info]) -> Iterator[str]:
    known: dict[str, list[str]] = {}
    for name, info in infos.items():
        for alias in info.aliases:
            known.setdefault(alias, []).append(name)
    for name, info in sorted(infos.items()):
        wanted = []
        for each in info.before:
            # Several may do it, some for CPUs that a guest does not have: the one in plain C does everywhere.
            there = (
                [each] if each in infos else sorted(known.get(each, ()), key=lambda one: "generic" not in one)
            )
            wanted += there[:1]
        if wanted:
            yield f"{name}: {' '.join(wanted)}\n"


def _info(path: Path) -> _Info:
    data = path.read_bytes()
    elf = lzma.decompress(data) if path.suffix == ".xz" else data
    found = _Info([], [], [])
    for field in _modinfo(elf).split(b"\0"):
        key, _, value = field.decode(errors="replace").partition("=")
        if key == "depends":
            found.depends.extend(name.replace("-", "_") for name in value.split(",") if name)
        elif key == "softdep" and value.startswith("pre:"):
            words = value.removeprefix("pre:").partition("post:")[0].split()
            found.before.extend(word.replace("-", "_") for word in words)
        elif key == "alias" and not _PATTERN.search(value):
            found.aliases.append(value.replace("-", "_"))
    return found


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
