# SPDX-License-Identifier: MIT
"""Words of the kernel's own static data that point into a module, read from a guest's memory from outside.

What a module registers, a notifier or a hook, hangs off a variable of the kernel's: one that still points
into the module's memory when it has gone is used sooner or later. Nothing of what the variables are need be
known: what is static lives, so a word in it that looks like such a pointer is one, but for the few that the
kernel leaves as they were (`_STALE`). Only pages that were written to since the module came are looked at.

Up to 6.3 a module is one piece of memory, since then several, of sections of a kind: of each, one section
tells where it is while the module is loaded, and the others follow it as they do in the image.
"""

from __future__ import annotations

import io
import re
from bisect import bisect_left, bisect_right
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from lab.guest.answers import LAB
from lab.guest.layouts import OwnCall
from lab.guest.wire import Program, Result

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from lab.arch import Architecture
    from lab.guest.agent import Agent
    from lab.guest.ram import PrivateMemory

_BOUNDS = (("_sdata", "_edata"), ("__bss_start", "__bss_stop"))
_PER_CPU = ("__per_cpu_start", "__per_cpu_end")
_WORD = 8
_PAGE = 4096
_LOW = 3  # bytes of an address that are not searched for: all modules are in a few pieces of 16 MiB
_COMMON = frozenset((0, 0xFF))  # bytes that every second word has
# Variables that keep a pointer which nobody follows any more, or that are looked at elsewhere.
_STALE: Mapping[str, str] = {
    "__start_bss_decrypted_unused": "x86: no data, memory that was given to whoever wants some",
    "hrtimer_bases": "lab.guest.timers looks there",
    "timer_bases": "and there",
    "cur_orc_ip_table": "x86: which tables for unwinding were sorted last",
    "cur_orc_table": "the same",
    "mod_tree": "the lowest and the highest address that any module ever had",
    "init_stack": "a thread's stack: the idle one's of the first CPU",
    "init_thread_union": "the same, up to 6.x",
    "irq_stack_backing_store": "x86: where a CPU's interrupts have their stack",
    "irq_stack": "the same, arm64 and riscv64",
    "exception_stacks": "x86: where its exceptions have theirs",
    "kfence_metadata": "who had an object and who gave it back, as stack traces; since 6.6 memory of its own",
    "stack_slabs": "the same, in parts, of all who keep stack traces",
    "overflow_stack": "arm64 and riscv64: the one for when a stack is full",
}
_WRITE, _ALLOC, _EXECUTE = 1, 2, 4  # SHF_*
_ADDRESS_BYTES = 32  # of a file of sysfs that has an address in it
# Sections that the loader does not keep, and one that it copies for each CPU.
_NOT_KEPT = re.compile(r"\.init|__versions|__version_ext|\.modinfo|\.data\.\.percpu")
_LATER = ".data..ro_after_init"
_RO_AFTER_INIT = (_LATER, "__jump_table")
# Among what can be written to up to 6.12, elsewhere since: nothing behind it is where the image has it.
_SOMEWHERE = ".static_call_sites"


class Static(NamedTuple):
    """A part of the kernel's static data."""

    address: int
    size: int
    shift: int = 0  # how far it is from where the symbols have it: a CPU's own is somewhere else for each


class Section(NamedTuple):
    """A part of a module, where it was loaded."""

    module: str
    name: str
    address: int
    size: int


class Pointer(NamedTuple):
    """A word that points into a module."""

    at: int
    to: int
    section: Section
    shift: int = 0  # of the part that it is in


# --- once, when a template is made --------------------------------------------------------------------


def static_data(kallsyms: str, offsets: Sequence[int]) -> tuple[list[Static], list[Static]]:
    """Return where a kernel has its static data, and what of it is not to be looked at.

    `offsets` are those of the CPUs' own variables.
    """
    wanted = {*(name for bound in (*_BOUNDS, _PER_CPU) for name in bound), *_STALE}
    found: dict[str, int] = {}
    for match in re.finditer(r"^([0-9a-f]+) \w (\w+)$", kallsyms, re.MULTILINE):
        if match[2] in wanted:
            found.setdefault(match[2], int(match[1], 16))
    there = [
        Static(found[start], found[end] - found[start])
        for start, end in _BOUNDS
        if found.get(start, 0) < found.get(end, 0)
    ]
    own = []
    if {*_PER_CPU} <= found.keys():
        own = [Static(found[_PER_CPU[0]], found[_PER_CPU[1]] - found[_PER_CPU[0]])]
    all_of_it = [*there, *(_shifted(part, offset) for part in own for offset in offsets)]
    addresses = sorted({int(line[: line.index(" ")], 16) for line in kallsyms.splitlines()})
    stale = []
    for name in _STALE.keys() & found.keys():
        after = bisect_right(addresses, found[name])
        if after < len(addresses):
            part = Static(found[name], addresses[after] - found[name])
            of_a_cpu = any(inside(each, part.address) for each in own)
            stale += [_shifted(part, offset) for offset in offsets] if of_a_cpu else [part]
    return all_of_it, stale


def _shifted(part: Static, offset: int) -> Static:
    return Static((part.address + offset) % (1 << 64), part.size, offset)


def inside(part: Static | Section, address: int) -> bool:
    """Tell whether an address is in a part of the kernel's memory, or of a module's."""
    return part.address <= address < part.address + part.size


# --- of a module ---------------------------------------------------------------------------------------


class _Part(NamedTuple):
    """A section of a module's image: how far behind the one that tells where they are."""

    name: str
    offset: int
    size: int
    number: int


@lru_cache(maxsize=64)
def _parts(image: bytes) -> dict[str, list[_Part]]:
    """Return the sections that a module keeps, by the name of the one that tells where they are.

    The loader puts those of a kind one behind the other (layout_sections() in kernel/module/main.c).
    """
    from elftools.common.exceptions import ELFError  # noqa: PLC0415 - runs without modules do without
    from elftools.elf.elffile import ELFFile  # noqa: PLC0415 - as above

    kinds: dict[str, list[_Part]] = {}
    data = "data"
    try:
        for number, section in enumerate(ELFFile(io.BytesIO(image)).iter_sections()):
            if not section["sh_flags"] & _ALLOC or not section["sh_size"] or _NOT_KEPT.match(section.name):
                continue
            if section.name == _SOMEWHERE:
                data = "data behind it"
                continue
            name = _kind(section.name, section["sh_flags"])
            kind = kinds.setdefault(data if name == "data" else name, [])
            end = kind[-1].offset + kind[-1].size if kind else 0
            start = end + -end % max(section["sh_addralign"], 1)
            kind.append(_Part(section.name, start, section["sh_size"], number))
    except ELFError:
        return {}
    found = {}
    for kind in kinds.values():
        # The loader makes some sections before .text larger, with stubs.
        first = next((part for part in kind if part.name in (".text", _LATER)), kind[0])
        if first.name in _RO_AFTER_INIT and first.name != _LATER:
            continue  # a table alone, which nobody points into
        found[first.name] = [
            part._replace(offset=part.offset - first.offset) for part in kind[kind.index(first) :]
        ]
    return found


def _kind(name: str, flags: int) -> str:
    if flags & _EXECUTE:
        return "text"
    if name in _RO_AFTER_INIT:
        return "read-only later"
    return "data" if flags & _WRITE else "read-only"


def sections(
    agent: Agent, arch: Architecture, images: Mapping[str, bytes], names: Iterable[str], timeout: float
) -> list[Section]:
    """Ask a guest where the sections of modules are that it has loaded; those that it tells.

    Raises what Agent.run() does.
    """
    program = Program(arch)
    asked = []
    for module in names:
        for first, parts in _parts(images.get(module, b"")).items():
            path = program.string(f"/sys/module/{module}/sections/{first}")
            fd = Result(program.own_call(OwnCall.OPENAT, 0, path, 0, 0))
            room = program.buffer(b"", _ADDRESS_BYTES)
            index = program.own_call(OwnCall.READ, fd, room, _ADDRESS_BYTES)
            program.fetch(room, 0, _ADDRESS_BYTES, index)
            program.own_call(OwnCall.CLOSE, fd)
            asked.append((module, parts))
    if not asked:
        return []
    reply = agent.run(LAB, program, timeout=timeout)
    if reply.exited is not None:
        return []
    found = []
    for (module, parts), data in zip(asked, reply.data, strict=True):
        match = re.match(rb"0x([0-9a-f]+)", data)
        start = int(match[1], 16) if match else 0
        if start:
            found += [Section(module, part.name, start + part.offset, part.size) for part in parts]
    return found


# --- afterwards ----------------------------------------------------------------------------------------


def find(
    memory: PrivateMemory,
    arch: Architecture,
    data: tuple[Sequence[Static], Sequence[Static]],
    offset: Callable[[int, int], int | None],
    changed: Sequence[int] | None,
    wanted: Sequence[Section],
) -> list[Pointer]:
    """Return the words of a kernel's static `data` that point into some sections.

    `data` is what static_data() found, `offset` tells where it is in memory; `changed` are pages, by their
    offsets, that were written to after the first of the modules came and before this guest's life began;
    None: all pages are looked at. Raises CannotLook.
    """
    there, stale = data
    search = _Search(arch, wanted, stale)
    found = []
    for part in there:
        start = offset(part.address, part.size)
        if start is None:
            continue
        end = start + part.size
        begin = start - start % _PAGE
        if changed is None:
            pages = list(range(begin, end, _PAGE))
        else:
            before = changed[bisect_left(changed, begin) : bisect_left(changed, end)]
            pages = sorted({*memory.own(start, end), *before})
        for first, last in _runs(pages):
            at = max(first, start + -start % _WORD)
            piece = memory.read(at, min(last, end) - at)
            found += search.pointers(part.address + at - start, piece, part.shift)
    return found


def _runs(pages: Sequence[int]) -> list[tuple[int, int]]:
    """Put pages that follow one another together: from, to."""
    runs: list[tuple[int, int]] = []
    for page in pages:
        if runs and runs[-1][1] == page:
            runs[-1] = (runs[-1][0], page + _PAGE)
        else:
            runs.append((page, page + _PAGE))
    return runs


class _Search:
    """What is searched for in pieces of memory: words that point into some sections."""

    def __init__(self, arch: Architecture, wanted: Sequence[Section], stale: Sequence[Static]) -> None:
        self._order = arch.byteorder
        self._wanted = sorted(wanted, key=lambda each: each.address)
        self._starts = [each.address for each in self._wanted]
        self._stale = stale
        chunks = {
            chunk
            for each in wanted
            for chunk in range(each.address >> 8 * _LOW, ((each.address + each.size - 1) >> 8 * _LOW) + 1)
        }
        # Ten times as quick as looking for all bytes of a chunk's number is to look for its lowest one.
        self._bytes = sorted({chunk & 0xFF for chunk in chunks} - _COMMON)
        common = sorted(chunk for chunk in chunks if chunk & 0xFF in _COMMON)
        self._needles = [chunk.to_bytes(_WORD - _LOW, self._order) for chunk in common]
        # Where in a word the lowest byte of a chunk's number is, and the first that belongs to it.
        self._byte, self._before = (_LOW, _LOW) if self._order == "little" else (_WORD - _LOW - 1, 0)

    def pointers(self, address: int, data: bytes, shift: int) -> list[Pointer]:
        """Return those in a piece of memory at an address, which is that of a word."""
        found = []
        for place in self._places(data):
            to = int.from_bytes(data[place : place + _WORD], self._order)
            section = self._section(to)
            if section is not None and not any(inside(each, address + place) for each in self._stale):
                found.append(Pointer(address + place, to, section, shift))
        return found

    def _places(self, data: bytes) -> Iterator[int]:
        """Yield where words are that may point to where the modules are."""
        plane = data[self._byte :: _WORD]
        for byte in self._bytes:
            at = plane.find(byte)
            while at >= 0:
                yield at * _WORD
                at = plane.find(byte, at + 1)
        for needle in self._needles:
            at = data.find(needle)
            while at >= 0:
                if (at - self._before) % _WORD == 0 and at >= self._before:
                    yield at - self._before
                at = data.find(needle, at + 1)

    def _section(self, address: int) -> Section | None:
        index = bisect_right(self._starts, address) - 1
        return self._wanted[index] if index >= 0 and inside(self._wanted[index], address) else None


def target(pointer: Pointer, images: Mapping[str, bytes]) -> str:
    """Return what of a module a word points to: 'lab_x_notifier', 'lab_x_state+0x10' or '.data+0x40'."""
    from elftools.elf.elffile import ELFFile  # noqa: PLC0415 - only for what went wrong
    from elftools.elf.sections import SymbolTableSection  # noqa: PLC0415 - as above

    section, image = pointer.section, images.get(pointer.section.module, b"")
    offset = pointer.to - section.address
    parts = (part for kind in _parts(image).values() for part in kind)
    number = next((part.number for part in parts if part.name == section.name), None)
    if number is None:
        return f"{section.name}+{offset:#x}"
    table = ELFFile(io.BytesIO(image)).get_section_by_name(".symtab")
    symbols = table.iter_symbols() if isinstance(table, SymbolTableSection) else ()
    names = {
        each["st_value"]: each.name
        for each in symbols
        if each["st_shndx"] == number and each["st_info"]["type"] in ("STT_FUNC", "STT_OBJECT")
    }
    start = max((value for value in names if value <= offset), default=None)
    return f"{section.name}+{offset:#x}" if start is None else plus(names[start], offset - start)


class Variables:
    """A kernel's variables, by their addresses."""

    def __init__(self, kallsyms: str) -> None:
        """Take the text of its /proc/kallsyms."""
        self._names: dict[int, str] = {}
        for match in re.finditer(r"^([0-9a-f]+) \w (\S+)$", kallsyms, re.MULTILINE):
            self._names.setdefault(int(match[1], 16), match[2])
        self._starts = sorted(self._names)

    def holding(self, pointer: Pointer) -> Section | None:
        """Return the variable in which a pointer is; None where nobody tells."""
        linked = (pointer.at - pointer.shift) % (1 << 64)
        index = bisect_right(self._starts, linked) - 1
        if index < 0 or index + 1 == len(self._starts):
            return None
        start = self._starts[index]
        address = (start + pointer.shift) % (1 << 64)
        return Section("", self._names[start], address, self._starts[index + 1] - start)


def plus(name: str, offset: int) -> str:
    """Return how an address is told: 'name', 'name+0x8'."""
    return f"{name}+{offset:#x}" if offset else name


__all__ = [
    "Pointer",
    "Section",
    "Static",
    "Variables",
    "find",
    "inside",
    "plus",
    "sections",
    "static_data",
    "target",
]
