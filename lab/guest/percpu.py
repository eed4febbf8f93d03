# SPDX-License-Identifier: MIT
"""How much per-CPU memory a guest's kernel has given out, read from its memory from outside.

/proc/meminfo has whole pages of it, which are taken before they are wanted. The kernel itself counts, in each
chunk that it gives from, the bytes that are free: struct pcpu_chunk in mm/percpu-internal.h, where that
number stands right behind the links of the list. The list's heads are an array, since 5.9 pcpu_chunk_lists.
"""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING

from lab.guest.ram import CannotLook

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lab.arch import Architecture
    from lab.guest.ram import PrivateMemory

_SYMBOLS = ("pcpu_chunk_lists", "pcpu_nr_slots", "pcpu_unit_size")
_KINDS = 2  # up to 5.13, what is counted for a control group is in chunks of its own
_HEAD = 16  # bytes: struct list_head
_MOST = 10_000  # chunks: more are no list


def variables(kallsyms: str) -> list[int]:
    """Return where a kernel has what in_use() wants; [] where it does not tell."""
    found = {}
    for name in _SYMBOLS:
        match = re.search(rf"^([0-9a-f]+) \w {name}$", kallsyms, re.MULTILINE)
        if match:
            found[name] = int(match[1], 16)
    return [found[name] for name in _SYMBOLS] if all(found.get(name) for name in _SYMBOLS) else []


def in_use(
    where: Sequence[int],
    arch: Architecture,
    memory: PrivateMemory,
    offset: Callable[[int, int], int | None],
) -> int:
    """Return how many bytes each CPU has of what was given out, up to a constant.

    `where` is what variables() found, `offset` tells where an address is in memory. Raises CannotLook, also
    where the lists are just being changed.
    """
    order = "<" if arch.byteorder == "little" else ">"

    def read(address: int, what: str) -> tuple[int, ...]:
        size = struct.calcsize(order + what)
        place = offset(address, size)
        data = b"" if place is None else memory.read(place, size)
        if len(data) != size:
            raise CannotLook(f"{address:#x} is not in memory")
        return struct.unpack(order + what, data)

    def used(head: int, unit: int) -> int:
        """Follow one list."""
        total, before, (at, last) = 0, head, read(head, "QQ")
        for _ in range(_MOST):
            if at == head:
                if last != before:
                    break
                return total
            following, back, free = read(at, "QQi")
            if back != before or not 0 <= free <= unit:
                break
            total, before, at = total + unit - free, at, following
        raise CannotLook(f"what is at {head:#x} is no list of chunks")

    (first,), (slots,), (unit,) = read(where[0], "Q"), read(where[1], "i"), read(where[2], "i")
    total = sum(used(first + _HEAD * slot, unit) for slot in range(slots))
    for slot in range(slots, slots * _KINDS):
        try:
            total += used(first + _HEAD * slot, unit)
        except CannotLook:  # the array has ended
            break
    return total


__all__ = ["in_use", "variables"]
