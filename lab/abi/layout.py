# SPDX-License-Identifier: MIT
"""Struct layouts as data: packed and unpacked in a target's byte order, whatever the host is."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from lab.errors import UsageError

if TYPE_CHECKING:
    from lab.arch import Architecture

Kind = Literal["int", "uint", "pointer", "bytes", "array", "struct"]

_STEP = re.compile(r"\.?([A-Za-z_]\w*)|\[(\d+)\]")


class LayoutError(UsageError, ValueError):
    """A value does not fit the struct or the field that it is meant for."""


_LONG = 100  # characters: no word that there is has so many


def nearest(word: str, words: Iterable[str]) -> str:
    """Return ``; did you mean 'x'?`` for the nearest of the words, or nothing."""
    if len(word) > _LONG:
        return ""
    found = difflib.get_close_matches(word, list(words), 1, 0.6)
    return f"; did you mean {found[0]!r}?" if found else ""


class Whole(int):
    """A number as memory holds it: of so many `bits`, `signed` or not. In all else it is an int."""

    __slots__ = ()
    bits: ClassVar[int] = 64
    signed: ClassVar[bool] = True


@cache
def whole(bits: int, *, signed: bool) -> type[Whole]:
    """Return the type of the numbers of a width and a sign."""
    name = f"{'S' if signed else 'U'}{bits}"
    return type(name, (Whole,), {"__slots__": (), "bits": bits, "signed": signed})


class Unpacked(dict[str, Any]):
    """A struct's members as they were read, and the bytes that they were read from."""

    def __init__(self, struct: Struct, raw: bytes, members: Mapping[str, object]) -> None:
        """`raw` are the struct's own bytes, and those of its flexible array."""
        super().__init__(members)
        self.struct = struct
        self.raw = raw
        self.before: bytes | None = None  # of memory of a call: what was there before it, zeros after that


@dataclass(frozen=True, slots=True)
class Field:
    """One member: where it lies and what it holds.

    `offset` and `size` are bytes. An array has `count` elements described by `element`; a flexible array
    member has count 0 and takes as many as it is given. A bit field has `bits`: its first bit, counted from
    the start of the struct as the target counts (from the most significant bit on big endian), and its width.
    """

    name: str
    offset: int
    size: int
    kind: Kind
    count: int = 1
    type: Struct | None = None
    element: Field | None = None
    bits: tuple[int, int] | None = None

    @property
    def span(self) -> tuple[int, int]:
        """First and last+1 bit that the field occupies, counted from the start of the struct."""
        return (
            (self.bits[0], sum(self.bits)) if self.bits else (self.offset * 8, (self.offset + self.size) * 8)
        )

    @property
    def flexible(self) -> bool:
        """Whether it is a flexible array member, as long as what it is given."""
        return self.kind in ("array", "bytes") and self.count == 0


@dataclass(frozen=True, slots=True)
class Struct:
    """A struct or union. Members of anonymous members are members of the struct that holds these."""

    name: str
    size: int
    fields: tuple[Field, ...]

    def __getitem__(self, name: str) -> Field:
        """Return a member.

        Raises LayoutError naming the nearest one.
        """
        for member in self.fields:
            if member.name == name:
                return member
        names = [member.name for member in self.fields]
        raise LayoutError(
            f"struct {self.name} has no field {name!r}{nearest(name, names)}",
            hint=f"its fields: {', '.join(names) or 'none'}",
        )

    def pack(self, values: Mapping[str, object], arch: Architecture) -> bytearray:
        """Return the struct's bytes, zero where nothing is given.

        Integers and pointers take ints, char arrays bytes or str, arrays sequences, structs mappings. The
        result is longer than `size` when a flexible array member is given. Raises LayoutError for an unknown
        field, a value that does not fit, and two members of a union at once.
        """
        out = bytearray(self.size)
        given: list[Field] = []
        for name, value in values.items():
            member = self[name]
            for other in given:
                if _overlap(member, other):
                    raise LayoutError(
                        f"struct {self.name}: {other.name!r} and {name!r} are members of one union: give one"
                    )
            given.append(member)
            _store(out, member, value, f"{self.name}.{name}", arch)
        return out

    def unpack(self, data: bytes | bytearray | memoryview, arch: Architecture) -> Unpacked:
        """Return the members' values: Wholes, bytes (char arrays), lists, Unpackeds. All members of a union.

        A flexible array member takes what lies behind the struct. Raises LayoutError when data is too short.
        """
        if len(data) < self.size:
            raise LayoutError(f"struct {self.name} has {self.size} bytes, there are {len(data)}")
        raw = bytes(data)
        return Unpacked(self, raw, {member.name: _load(raw, member, arch) for member in self.fields})

    def padding(self, arch: Architecture) -> bytes:
        """Return a mask as long as the struct: the bits that belong to no member of it or of its members."""
        return bytes(0xFF ^ byte for byte in _covered(self, arch))

    def find(self, path: str) -> Field:
        """Return what a path such as ``a.b[2].c`` names, with its offset in this struct.

        Raises LayoutError naming the part that is wrong.
        """
        at = 0
        here: Field = Field("", 0, self.size, "struct", type=self)
        while at < len(path):
            step = _STEP.match(path, at)
            if step is None:
                raise LayoutError(f"struct {self.name}: cannot read {path[at:]!r} of {path!r}")
            name, index = step.groups()
            if name is not None:
                if here.kind != "struct" or here.type is None:
                    raise LayoutError(
                        f"struct {self.name}: {path[:at]!r} is no struct, so it has no {name!r}"
                    )
                member = here.type[name]
                here = replace(member, offset=here.offset + member.offset)
            else:
                here = _element(here, int(index), f"{self.name}.{path[:at]}")
            at = step.end()
        return here

    def offset_of(self, path: str) -> int:
        """Return the offset in bytes of ``a.b[2].c``; raises LayoutError naming the part that is wrong."""
        return self.find(path).offset


def _overlap(a: Field, b: Field) -> bool:
    (a0, a1), (b0, b1) = a.span, b.span
    return a0 < b1 and b0 < a1


def _element(member: Field, index: int, where: str) -> Field:
    if member.kind == "bytes":
        element = Field("", 0, 1, "uint")
    elif member.kind == "array" and member.element is not None:
        element = member.element
    else:
        raise LayoutError(f"{where} is no array, so it has no [{index}]")
    if member.count and index >= member.count:
        raise LayoutError(f"{where} has {member.count} elements, [{index}] is behind its end")
    return replace(element, offset=member.offset + index * element.size)


def _store(out: bytearray, member: Field, value: object, where: str, arch: Architecture) -> None:
    match member.kind:
        case "struct":
            assert member.type is not None
            _store_struct(out, member, value, where, arch)
        case "bytes":
            data = _as_bytes(value, where)
            _room(out, member, len(data), where)
            out[member.offset : member.offset + len(data)] = data
        case "array":
            assert member.element is not None
            _store_array(out, member, value, where, arch)
        case _:
            _store_int(out, member, value, where, arch)


def _store_struct(out: bytearray, member: Field, value: object, where: str, arch: Architecture) -> None:
    assert member.type is not None
    if isinstance(value, (bytes, bytearray)):  # a message that was packed before
        packed = bytearray(value)
    elif isinstance(value, Mapping):
        try:
            packed = member.type.pack(value, arch)
        except LayoutError as error:
            raise LayoutError(f"{where}: {error.message}", hint=error.hint) from None
    else:
        raise LayoutError(f"{where} is a struct {member.type.name}: give its fields, not {value!r}")
    if len(packed) > member.size:
        raise LayoutError(f"{where} has {member.size} bytes, {len(packed)} were given")
    out[member.offset : member.offset + len(packed)] = packed


def _store_array(out: bytearray, member: Field, value: object, where: str, arch: Architecture) -> None:
    assert member.element is not None
    if isinstance(value, (bytes, bytearray)):
        _room(out, member, len(value), where)
        out[member.offset : member.offset + len(value)] = value
        return
    if isinstance(value, (str, Mapping)) or not isinstance(value, Sequence):
        raise LayoutError(
            f"{where} is an array of {member.count or 'any number'}: give a list, not {value!r}"
        )
    if member.count and len(value) > member.count:
        raise LayoutError(f"{where} has {member.count} elements, {len(value)} were given")
    _room(out, member, len(value) * member.element.size, where)
    for index, item in enumerate(value):
        at = _element(member, index, where)
        _store(out, at, item, f"{where}[{index}]", arch)


def _room(out: bytearray, member: Field, size: int, where: str) -> None:
    if member.flexible:
        out.extend(bytes(max(0, member.offset + size - len(out))))
    elif size > member.size:
        raise LayoutError(f"{where} has {member.size} bytes, {size} were given")


def _as_bytes(value: object, where: str) -> bytes:
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, (bytes, bytearray)):
        return bytes(value)
    if isinstance(value, Sequence):
        try:
            return bytes(item % 256 if -128 <= item < 0 else item for item in value)
        except (TypeError, ValueError):
            pass
    raise LayoutError(f"{where} is a char array: give text or bytes, not {value!r}")


def _store_int(out: bytearray, member: Field, value: object, where: str, arch: Architecture) -> None:
    if not isinstance(value, int):
        raise LayoutError(f"{where} is a number, not {value!r}")
    first, width = member.bits or (member.offset * 8, member.size * 8)
    # -1 in an unsigned field is what C writes for "all bits", so both readings of the same bits are taken.
    if not -(1 << (width - 1)) <= value < 1 << width:
        raise LayoutError(f"{where} has {width} bits, {value} does not fit")
    value &= (1 << width) - 1
    if member.bits is None:
        out[member.offset : member.offset + member.size] = value.to_bytes(member.size, arch.byteorder)
        return
    start, end, shift = _window(first, width, arch)
    unit = int.from_bytes(out[start:end], arch.byteorder)
    unit = unit & ~(((1 << width) - 1) << shift) | value << shift
    out[start:end] = unit.to_bytes(end - start, arch.byteorder)


def _window(first: int, width: int, arch: Architecture) -> tuple[int, int, int]:
    """Return the bytes that hold a bit field, and how far it is shifted in them."""
    start, end = first // 8, (first + width + 7) // 8
    shift = first - start * 8 if arch.byteorder == "little" else end * 8 - first - width
    return start, end, shift


def _covered(struct: Struct, arch: Architecture) -> bytes:
    """Return the mask of the bits that members hold; of a union those that any of them holds."""
    mask = bytearray(struct.size)
    for member in struct.fields:
        if member.bits is not None:
            first, width = member.bits
            start, end, shift = _window(first, width, arch)
            piece = (((1 << width) - 1) << shift).to_bytes(end - start, arch.byteorder)
        else:
            start, piece = member.offset, _held(member, arch)
        for at, byte in enumerate(piece[: struct.size - start], start):
            mask[at] |= byte
    return bytes(mask)


def _held(member: Field, arch: Architecture) -> bytes:
    if member.kind == "struct" and member.type is not None:
        return _covered(member.type, arch)
    if member.kind == "array" and member.element is not None:
        return _held(member.element, arch) * member.count
    return b"\xff" * member.size


def _load(raw: bytes, member: Field, arch: Architecture) -> object:
    part = raw[member.offset :] if member.flexible else raw[member.offset : member.offset + member.size]
    match member.kind:
        case "struct":
            assert member.type is not None
            return member.type.unpack(part, arch)
        case "bytes":
            return part
        case "array":
            element = member.element
            assert element is not None
            count = len(part) // element.size if member.flexible and element.size else member.count
            return [_load(part, replace(element, offset=i * element.size), arch) for i in range(count)]
    signed = member.kind == "int"
    if member.bits is None:
        number = whole(member.size * 8, signed=signed)
        return number.from_bytes(part, arch.byteorder, signed=signed)
    first, width = member.bits
    start, end, shift = _window(first, width, arch)
    value = int.from_bytes(raw[start:end], arch.byteorder) >> shift & (1 << width) - 1
    return whole(width, signed=signed)(value - (1 << width) if signed and value >> (width - 1) else value)
