# SPDX-License-Identifier: MIT
"""Words of the kernel's data that point into a module: found, told, and where there are none."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any

import pytest

from lab.arch import ARCHITECTURES
from lab.guest import pointers
from lab.guest.pointers import Pointer, Section, Static, Variables

DATA = 0xFFFF_FFFF_8200_0000
MODULE = 0xFFFF_FFFF_C0A0_0000
OWN = 0xFFFF_8880_0010_0000  # what the first CPU's variables are moved by
PAGE = 4096
KALLSYMS = f"""\
0000000000000000 A __per_cpu_start
0000000000000000 A irq_stack_backing_store
0000000000001000 A timer_bases
0000000000001800 A rcu_data
0000000000002000 A __per_cpu_end
{DATA:016x} D _sdata
{DATA + 0x100:016x} D reboot_notifier_list
{DATA + 0x140:016x} d fw_shutdown_nb
{DATA + 0x200:016x} d mod_tree
{DATA + 0x280:016x} D behind
{DATA + 0x4000:016x} D _edata
{DATA + 0x5000:016x} B __bss_start
{DATA + 0x6000:016x} B __bss_stop
{MODULE:016x} t lab_x_fn\t[lab_x]
"""
TEXT = Section("lab_x", ".text", MODULE, 0x200)
BLOCK = Section("lab_x", ".data", MODULE + 0x4000, 0x40)


def test_where_a_kernel_has_its_data() -> None:
    there, stale = pointers.static_data(KALLSYMS, [OWN])
    assert there == [
        Static(DATA, 0x4000),
        Static(DATA + 0x5000, 0x1000),
        Static(OWN, 0x2000, OWN),
    ]
    # Of the CPUs' own, each has one.
    assert set(stale) == {
        Static(DATA + 0x200, 0x80),
        Static(OWN + 0x1000, 0x800, OWN),
        Static(OWN, 0x1000, OWN),  # a stack: what is on it is nobody's any more
    }


def test_a_kernel_that_does_not_tell_has_none() -> None:
    assert pointers.static_data("ffffffff81000000 T _text\n", [OWN]) == ([], [])


@dataclass
class Memory:
    """A file of memory, of which QEMU has some pages for itself."""

    order: str
    words: dict[int, int]
    owned: list[int] = field(default_factory=list)
    read_bytes: int = 0

    def own(self, start: int, end: int) -> list[int]:
        return [page for page in self.owned if start - start % PAGE <= page < end]

    def read(self, offset: int, size: int) -> bytes:
        self.read_bytes += size
        data = bytearray(0x8000)
        for at, word in self.words.items():
            struct.pack_into(f"{self.order}Q", data, at, word)
        return bytes(data[offset : offset + size])


@pytest.fixture(params=["x86_64", "s390x"])
def arch(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def find(
    arch: str, words: dict[int, int], owned: list[int], changed: list[int] | None, wanted: list[Section]
) -> tuple[list[Pointer], Memory]:
    order = "<" if ARCHITECTURES[arch].byteorder == "little" else ">"
    memory: Any = Memory(order, words, owned)
    data = ([Static(DATA, 0x4000)], [Static(DATA + 0x200, 0x80)])
    found = pointers.find(
        memory, ARCHITECTURES[arch], data, lambda address, _size: address - DATA, changed, wanted
    )
    return found, memory


def test_words_that_point_into_a_module(arch: str) -> None:
    words = {
        0x108: BLOCK.address + 8,
        0x1000: TEXT.address,  # the first of its bytes
        0x1008: TEXT.address + TEXT.size - 1,
        0x1010: TEXT.address + TEXT.size,  # behind it
        0x1018: TEXT.address - 1,
        0x200: BLOCK.address,  # in what is not to be looked at
        0x1FF8: BLOCK.address + 0x3F,  # the last word of a page
    }
    found, _ = find(arch, words, [0, PAGE], [], [BLOCK, TEXT])
    assert sorted((each.at - DATA, each.to, each.section.name) for each in found) == [
        (0x108, BLOCK.address + 8, ".data"),
        (0x1000, TEXT.address, ".text"),
        (0x1008, TEXT.address + 0x1FF, ".text"),
        (0x1FF8, BLOCK.address + 0x3F, ".data"),
    ]


def test_only_what_was_written_to_is_looked_at(arch: str) -> None:
    words = {0x108: BLOCK.address, 0x1108: BLOCK.address, 0x3108: BLOCK.address}
    found, memory = find(arch, words, [0], [PAGE, 0x10000], [BLOCK])
    assert [each.at - DATA for each in found] == [0x108, 0x1108]  # by this guest, by its template
    assert memory.read_bytes == 2 * PAGE
    found, _ = find(arch, words, [], None, [BLOCK])
    assert [each.at - DATA for each in found] == [0x108, 0x1108, 0x3108]


def test_bytes_that_only_look_like_a_pointer(arch: str) -> None:
    found, _ = find(arch, {0x104: BLOCK.address}, [0], [], [BLOCK])
    assert found == []  # no word begins there
    assert find(arch, {0x108: BLOCK.address}, [0], [], [])[0] == []


def test_a_section_may_be_in_two_of_the_pieces_that_are_searched_for(arch: str) -> None:
    wide = Section("lab_x", ".bss", 0xFFFF_FFFF_C0FF_F000, 0x2000)
    words = {0x108: wide.address, 0x110: wide.address + 0x1FFF}
    assert len(find(arch, words, [0], [], [wide])[0]) == 2


@pytest.mark.parametrize("start", [0xFFFF_FFFF_00A0_0000, 0xFFFF_FFFF_FFA0_0000, 0x3FF_FFA0_0000])
def test_a_module_may_be_where_its_addresses_have_bytes_that_are_common(arch: str, start: int) -> None:
    there = Section("lab_x", ".data", start, 0x100)
    words = {0: start, 0x108: start + 8, 0x110: start + 0x100, 0x118: start ^ (1 << 40), 0x1FF8: start + 0x10}
    found, _ = find(arch, words | {0x200: start}, [0, PAGE], [], [there])
    assert [each.at - DATA for each in found] == [0, 0x108, 0x1FF8]


@pytest.mark.parametrize(
    ("at", "shift", "told"),
    [
        (DATA + 0x108, 0, "reboot_notifier_list+0x8"),
        (DATA + 0x100, 0, "reboot_notifier_list"),
        (OWN + 0x1810, OWN, "rcu_data+0x10"),
    ],
)
def test_a_variable_has_its_name(at: int, shift: int, told: str) -> None:
    found = Variables(KALLSYMS).holding(Pointer(at, 0, TEXT, shift))
    assert found is not None
    assert pointers.plus(found.name, at - found.address) == told


def test_nobody_tells_what_a_variable_is_called() -> None:
    assert Variables("").holding(Pointer(DATA, 0, TEXT)) is None


def test_what_is_no_module_has_no_sections() -> None:
    agent: Any = None  # nobody is asked
    assert (
        pointers.sections(agent, ARCHITECTURES["x86_64"], {"lab_x": b"no ELF"}, ["lab_x", "lab_y"], 1.0) == []
    )
    assert pointers.target(Pointer(DATA, TEXT.address + 4, TEXT), {}) == ".text+0x4"
