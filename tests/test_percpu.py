# SPDX-License-Identifier: MIT
"""Per-CPU memory is counted by the chunks that a kernel gives it from."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from lab.arch import ARCHITECTURES
from lab.guest import percpu
from lab.guest.ram import CannotLook

LISTS, SLOTS, UNIT = 0x1000, 0x1008, 0x100C
ARRAY = 0x2000
KALLSYMS = "".join(
    f"{address:016x} d {name}\n"
    for name, address in [
        ("pcpu_nr_slots", SLOTS),
        ("pcpu_unit_size", UNIT),
        ("pcpu_chunk_lists_of_another", 0x9999),
        ("pcpu_chunk_lists", LISTS),
    ]
)


class Memory:
    """Lists of chunks, by what is free in each; physical addresses are the kernel's."""

    def __init__(self, arch: str, lists: list[list[int]], *, slots: int) -> None:
        self.order = "<" if ARCHITECTURES[arch].byteorder == "little" else ">"
        self.bytes = bytearray(0x4000)
        self.put(LISTS, "Qii", ARRAY, slots, 0x800)
        chunk = 0x3000
        for number, frees in enumerate(lists):
            head = ARRAY + 16 * number
            ring = [head, *(chunk + 0x40 * each for each in range(len(frees)))]
            chunk += 0x40 * len(frees)
            for index, at in enumerate(ring):
                self.put(at, "QQ", ring[(index + 1) % len(ring)], ring[index - 1])
                if index:
                    self.put(at + 16, "i", frees[index - 1])

    def put(self, at: int, what: str, *values: int) -> None:
        struct.pack_into(self.order + what, self.bytes, at, *values)

    def read(self, offset: int, size: int) -> bytes:
        return bytes(self.bytes[offset : offset + size])


def in_use(memory: Memory, arch: str) -> int:
    there: Any = memory
    return percpu.in_use(
        percpu.variables(KALLSYMS), ARCHITECTURES[arch], there, lambda at, size: at if at < 0x4000 else None
    )


@pytest.mark.parametrize("arch", ["x86_64", "s390x"])
def test_what_is_not_free_is_in_use(arch: str) -> None:
    assert in_use(Memory(arch, [[], [0, 0x10], [0x7F0]], slots=3), arch) == 0x800 + 0x7F0 + 0x10


def test_control_groups_have_lists_of_their_own() -> None:
    assert in_use(Memory("x86_64", [[0x700], [], [0x7F8], []], slots=2), "x86_64") == 0x108


@pytest.mark.parametrize("number", [-1, 0x801])
def test_what_is_no_chunk_is_not_counted(number: int) -> None:
    memory = Memory("x86_64", [[0x700], [number]], slots=2)
    with pytest.raises(CannotLook, match=r"0x2010 is no list"):
        in_use(memory, "x86_64")
    memory = Memory("x86_64", [[0x700], [number]], slots=1)
    assert in_use(memory, "x86_64") == 0x100


def test_a_list_that_is_being_changed_is_not_believed() -> None:
    memory = Memory("x86_64", [[0x700, 0x600]], slots=1)
    memory.put(0x3048, "Q", ARRAY)  # the second says that it is the first
    with pytest.raises(CannotLook):
        in_use(memory, "x86_64")
    memory = Memory("x86_64", [[0x700, 0x600]], slots=1)
    memory.put(ARRAY + 8, "Q", 0x3000)  # the head says that there is no second
    with pytest.raises(CannotLook):
        in_use(memory, "x86_64")


def test_a_list_without_an_end() -> None:
    memory = Memory("x86_64", [[0x700]], slots=1)
    memory.put(0x3000, "QQ", 0x3000, 0x3000)
    with pytest.raises(CannotLook):
        in_use(memory, "x86_64")


def test_what_is_out_of_reach() -> None:
    memory = Memory("x86_64", [[0x700]], slots=1)
    memory.put(ARRAY, "Q", 0x10000)
    with pytest.raises(CannotLook, match="0x10000 is not in memory"):
        in_use(memory, "x86_64")


@pytest.mark.parametrize("missing", ["pcpu_nr_slots", "pcpu_unit_size", "d pcpu_chunk_lists\n"])
def test_a_kernel_that_does_not_tell(missing: str) -> None:
    assert percpu.variables(KALLSYMS) == [LISTS, SLOTS, UNIT]
    assert percpu.variables(KALLSYMS.replace(missing, "d another\n")) == []
    assert percpu.variables(KALLSYMS.replace(f"{LISTS:016x}", f"{0:016x}")) == []
