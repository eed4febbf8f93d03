# SPDX-License-Identifier: MIT
"""Makes unpacked programs run where they are: no chroot, no namespaces, no wrapper processes.

A dynamic executable names its loader (PT_INTERP) and is bound to the host's libraries by it. Both are
changed in the file: a segment is added at its end that holds the path of the root's own loader and a copy of
the string table with the root's library directories, which become its DT_RPATH. The segment takes the place
of a note, as patchelf does. DT_RPATH comes before LD_LIBRARY_PATH and holds for the libraries' own libraries
too, so that nothing of the host's is looked at. A root cannot be moved after that.
"""

from __future__ import annotations

import os
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from lab.errors import LabError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_EHDR = struct.Struct("<16sHHIQQQIHHHHHH")
_PHDR = struct.Struct("<IIQQQQQQ")
_DYN = struct.Struct("<qQ")
_PT_LOAD, _PT_DYNAMIC, _PT_INTERP, _PT_NOTE, _PT_GNU_PROPERTY = 1, 2, 3, 4, 0x6474E553
_DT_NULL, _DT_NEEDED, _DT_STRTAB, _DT_STRSZ, _DT_RPATH, _DT_RUNPATH = 0, 1, 5, 10, 15, 29
_PAGE = 0x10000  # the largest that a host may have
_SHEBANG = re.compile(rb"#!\s*(/(?:usr/)?bin/(?:env\s+)?(\w[\w.+-]*))")


@dataclass(frozen=True)
class Loader:
    """The loader of a root and where its libraries are, under the root's last path."""

    path: Path
    libraries: tuple[Path, ...]
    machine: int  # e_machine: a root may hold another architecture's libraries, which nothing here runs


@dataclass
class _Segment:
    kind: int
    flags: int
    offset: int
    vaddr: int
    paddr: int
    filesz: int
    memsz: int
    align: int

    def pack(self) -> bytes:
        return _PHDR.pack(
            self.kind, self.flags, self.offset, self.vaddr, self.paddr, self.filesz, self.memsz, self.align
        )


class _Elf:
    """The few things of a 64-bit little-endian ELF file that matter here.

    pyelftools does not write, and takes 2.5 ms to read what is read here in a sixteenth of that: a root has
    five hundred such files, and each is read three times.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        head = file.read(_EHDR.size)
        self.good = len(head) == _EHDR.size and head[:6] == b"\x7fELF\x02\x01"
        self.segments: list[_Segment] = []
        if self.good:
            fields = _EHDR.unpack(head)
            self.machine, self.phoff, self.phentsize, count = fields[2], fields[5], fields[9], fields[10]
            self.good = self.phentsize == _PHDR.size
            table = self.at(self.phoff, count * _PHDR.size)
            self.segments = [_Segment(*fields) for fields in _PHDR.iter_unpack(table)]

    def at(self, offset: int, size: int) -> bytes:
        self.file.seek(offset)
        return self.file.read(size)

    def first(self, kind: int) -> _Segment | None:
        return next((segment for segment in self.segments if segment.kind == kind), None)

    def dynamic(self) -> list[tuple[int, int]]:
        segment = self.first(_PT_DYNAMIC)
        return list(_DYN.iter_unpack(self.at(segment.offset, segment.filesz))) if segment else []

    def offset_of(self, vaddr: int) -> int:
        for segment in self.segments:
            if segment.kind == _PT_LOAD and segment.vaddr <= vaddr < segment.vaddr + segment.filesz:
                return vaddr - segment.vaddr + segment.offset
        raise ValueError(f"address {vaddr:#x} is in no segment")

    def strings(self, dynamic: Sequence[tuple[int, int]]) -> bytes:
        table = dict(dynamic)
        return self.at(self.offset_of(table[_DT_STRTAB]), table[_DT_STRSZ])


def machine(path: Path) -> int:
    """Return the e_machine of a 64-bit little-endian ELF file; raises LabError for any other file."""
    with path.open("rb") as file:
        elf = _Elf(file)
        if not elf.good:
            raise LabError(
                f"{path} is no 64-bit little-endian program", hint="the lab runs on no other host yet"
            )
        return int(elf.machine)


def needed(path: Path) -> tuple[str, ...] | None:
    """Return the libraries that an ELF file asks for by name, None for any other file."""
    with path.open("rb") as file:
        elf = _Elf(file)
        if not elf.good:
            return None
        dynamic = elf.dynamic()
        if not dynamic:
            return ()
        strings = elf.strings(dynamic)
        names = [value for tag, value in dynamic if tag == _DT_NEEDED]
        return tuple(strings[at : strings.index(b"\0", at)].decode() for at in names)


def bind(path: Path, loader: Loader) -> bool:
    """Bind a dynamic executable to a root's loader and libraries; False for any other file.

    Raises LabError for an executable that has no room for that.
    """
    with path.open("r+b") as file:
        elf = _Elf(file)
        interp, dynamic = elf.first(_PT_INTERP), elf.dynamic()
        if not elf.good or elf.machine != loader.machine or interp is None or not dynamic:
            return False
        end = max(segment.vaddr + segment.memsz for segment in elf.segments if segment.kind == _PT_LOAD)
        offset, vaddr = _round(file.seek(0, os.SEEK_END)), _round(end)
        strings = elf.strings(dynamic)
        rpath = b":".join(os.fsencode(directory) for directory in loader.libraries)
        name = os.fsencode(loader.path)
        body = strings + rpath + b"\0" + name + b"\0"
        entries = _with_rpath(dynamic, vaddr, len(strings), len(strings) + len(rpath) + 1)
        if entries is None or not _trade_note(
            elf, _Segment(_PT_LOAD, 4, offset, vaddr, vaddr, len(body), len(body), _PAGE)
        ):
            raise LabError(
                f"{path} has no room for a library path", hint="report this: a package has changed"
            )
        # The kernel reads the name at the offset; the loader takes the old one, at the address, as an alias.
        interp.offset, interp.filesz = offset + len(body) - len(name) - 1, len(name) + 1
        segment = elf.first(_PT_DYNAMIC)
        assert segment is not None
        file.truncate(offset)
        for where, what in (
            (offset, body),
            (segment.offset, b"".join(_DYN.pack(*entry) for entry in entries)),
            (elf.phoff, b"".join(segment.pack() for segment in elf.segments)),
        ):
            file.seek(where)
            file.write(what)
    return True


def _round(number: int) -> int:
    return -(-number // _PAGE) * _PAGE


def _with_rpath(
    dynamic: Sequence[tuple[int, int]], strtab: int, rpath: int, size: int
) -> list[tuple[int, int]] | None:
    """Return the dynamic section with a new string table and DT_RPATH in a spare place; None without one."""
    entries, placed = [], False
    for index, (tag, value) in enumerate(dynamic):
        if tag in (_DT_RPATH, _DT_RUNPATH) or (tag == _DT_NULL and not placed and index + 1 < len(dynamic)):
            entries.append((_DT_RPATH, rpath))
            placed = True
        else:
            entries.append((tag, {_DT_STRTAB: strtab, _DT_STRSZ: size}.get(tag, value)))
    return entries if placed else None


def _trade_note(elf: _Elf, new: _Segment) -> bool:
    """Put a segment where a note was, behind all others that are loaded; they have to ascend."""
    for kind in (_PT_NOTE, _PT_GNU_PROPERTY):
        for note in reversed(elf.segments):
            if note.kind == kind:
                elf.segments.remove(note)
                last = max(i for i, segment in enumerate(elf.segments) if segment.kind == _PT_LOAD)
                elf.segments.insert(last + 1, new)
                return True
    return False


def unbind_library(path: Path) -> bool:
    """Make a library's own search path one that leaves the program's in force; False for any other file.

    A library with DT_RUNPATH ignores the program's DT_RPATH, and would find the host's libraries.
    """
    with path.open("r+b") as file:
        elf = _Elf(file)
        if not elf.good or elf.first(_PT_INTERP) is not None:
            return False
        dynamic, segment = elf.dynamic(), elf.first(_PT_DYNAMIC)
        if segment is None or not any(tag == _DT_RUNPATH for tag, _ in dynamic):
            return False
        changed = [(_DT_RPATH if tag == _DT_RUNPATH else tag, value) for tag, value in dynamic]
        file.seek(segment.offset)
        file.write(b"".join(_DYN.pack(*entry) for entry in changed))
    return True


def seal_loader(path: Path, gnu: str) -> None:
    """Take the host's places out of a loader: it would still look there for what a root does not have.

    A library that is loaded only if there is one (libdw does that) would come from another distribution, and
    /etc/ld.so.preload is none of ours. Raises LabError for a loader that does not look as expected.
    """
    data = path.read_bytes()
    directories = f"/lib/{gnu}/\0/usr/lib/{gnu}/\0/lib/\0/usr/lib/\0".encode()
    for there, nowhere in (
        (b"/etc/ld.so.cache\0", b"/etc/ld.no.cache\0"),
        (b"/etc/ld.so.preload\0", b"/etc/ld.no.preload\0"),
        (directories, directories.replace(b"/lib/", b"/nil/")),
    ):
        if there not in data:
            raise LabError(
                f"{path} does not look like a loader of Debian's", hint="report this: libc6 has changed"
            )
        data = data.replace(there, nowhere)
    path.write_bytes(data)


def rewrite_shebang(path: Path, programs: Path, last: Path) -> None:
    """Let a script be started by the root's interpreter, which is in `programs` now and in `last` in the end.

    /bin/sh stays: every host has it, and make starts it anyway.
    """
    data = path.read_bytes()
    match = _SHEBANG.match(data)
    if match is None or match[1] == b"/bin/sh":
        return
    name = match[2].decode()
    if os.path.lexists(programs / name):
        path.write_bytes(b"#!" + os.fsencode(last / name) + data[match.end() :])


def files(*directories: Path) -> Iterator[Path]:
    """Yield the plain files below directories, links left out."""
    for top in directories:
        for directory, _, names in os.walk(top):
            for name in names:
                path = Path(directory) / name
                if path.is_file() and not path.is_symlink():
                    yield path


def missing_libraries(programs: Iterable[Path], libraries: Sequence[Path]) -> dict[str, str]:
    """Return what programs and their libraries ask for that no directory has: library -> who asks."""
    missing: dict[str, str] = {}
    todo, seen = list(programs), set[str]()
    while todo:
        file = todo.pop()
        for name in needed(file) or ():
            if name not in seen:
                seen.add(name)
                found = next((place / name for place in libraries if (place / name).exists()), None)
                if found is None:
                    missing[name] = file.name
                else:
                    todo.append(found)
    return missing
