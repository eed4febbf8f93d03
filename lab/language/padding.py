# SPDX-License-Identifier: MIT
"""What lies between the fields of structs that come out of the kernel: nobody's, so it has to be zero.

The lab fills it with zeros before a call: what is not zero after it was written by the kernel, and no other
content that one could fill it with would tell that for sure. What the caller put there himself is not blamed.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from lab.abi.layout import Unpacked

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab.arch import Architecture
    from lab.language.outcome import Outcome


@dataclass(frozen=True)
class Dirt:
    """Bytes between fields that are not zero: the holes that have any, by where they begin."""

    holes: tuple[tuple[int, bytes], ...]

    @property
    def data(self) -> bytes:
        """All of their bytes."""
        return b"".join(data for _, data in self.holes)

    def __str__(self) -> str:
        """Tell what it is, and where."""
        texts = (_bytes(at, data) for at, data in self.holes)
        return f"padding that is not zero went out: {', '.join(texts)}, the kernel's own stack or heap"


def _bytes(at: int, data: bytes) -> str:
    shown = data[:16].hex(" ") + (" …" if len(data) > 16 else "")
    return f"byte {at} is {shown}" if len(data) == 1 else f"bytes {at}..{at + len(data) - 1} are {shown}"


def dirt(struct: Unpacked, arch: Architecture) -> Dirt | None:
    """Return what a call left between a struct's fields; None when it is zero, or as it was before."""
    mask = struct.struct.padding(arch)
    before = (struct.before or b"").ljust(len(mask), b"\0")
    holes: list[tuple[int, bytearray, bool]] = []
    for at, (of_nobody, now, then) in enumerate(zip(mask, struct.raw, before, strict=False)):
        if not of_nobody:
            continue
        changed = bool(now & of_nobody and (now ^ then) & of_nobody)
        if holes and holes[-1][0] + len(holes[-1][1]) == at:
            start, data, dirty = holes[-1]
            data.append(now & of_nobody)
            holes[-1] = (start, data, dirty or changed)
        else:
            holes.append((at, bytearray([now & of_nobody]), changed))
    found = tuple((start, bytes(data)) for start, data, dirty in holes if dirty)
    return Dirt(found) if found else None


def came_out(outcome: Outcome) -> Iterator[tuple[str, Unpacked]]:
    """Yield the structs that a call's memory holds after it, each with its path in the outcome."""
    for each in fields(outcome):
        yield from _structs(getattr(outcome, each.name), each.name)


def _structs(value: Any, path: str) -> Iterator[tuple[str, Unpacked]]:
    if isinstance(value, Unpacked):
        if value.before is not None:  # those within another one's bytes are looked at with that one
            yield path, value
        for name, inner in value.items():
            yield from _structs(inner, f"{path}.{name}")
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _structs(inner, f"{path}[{index}]")
