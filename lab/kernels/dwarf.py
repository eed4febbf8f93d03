# SPDX-License-Identifier: MIT
"""What a compiler wrote into an object file: layouts and enumerators (DWARF), and arrays of constants."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO

from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from lab.errors import LabError

if TYPE_CHECKING:
    from elftools.dwarf.die import DIE

_TRANSPARENT = {"DW_TAG_typedef", "DW_TAG_const_type", "DW_TAG_volatile_type", "DW_TAG_atomic_type"}
_AGGREGATE = {"DW_TAG_structure_type", "DW_TAG_union_type"}
_ATE_FLOAT = {0x03, 0x04, 0x0F}  # complex_float, float, decimal_float
_ATE_SIGNED = {0x05, 0x06}  # signed, signed_char


@dataclass
class Types:
    """Structs as lab.abi.structs.Structs takes them, and enumerators."""

    structs: dict[str, Any] = field(default_factory=dict)
    enumerators: dict[str, int] = field(default_factory=dict)


def read_array(file: BinaryIO, symbol: str, size: int, *, signed: bool) -> list[int]:
    """Return the elements, `size` bytes each, of a constant array of an object file.

    Raises LabError when it has no such array.
    """
    elf = ELFFile(file)
    for table in elf.iter_sections():
        if not isinstance(table, SymbolTableSection):
            continue
        for found in table.get_symbol_by_name(symbol) or ():
            section = elf.get_section(found["st_shndx"])
            start = found["st_value"] - section["sh_addr"]  # 0 until it is linked
            data = section.data()[start : start + found["st_size"]]
            order: Any = "little" if elf.little_endian else "big"
            return [
                int.from_bytes(data[i : i + size], order, signed=signed) for i in range(0, len(data), size)
            ]
    raise LabError(f"the probe has no {symbol}", hint="report this: it is the lab's own mistake")


def read_types(file: BinaryIO) -> Types:
    """Return all structs, unions and enumerators of an object file; the first of one name counts.

    A typedef of a struct is another name of it. Arrays of single bytes are `bytes`, whether C calls these
    char or __u8. Raises LabError when there is no DWARF.
    """
    elf = ELFFile(file)
    if not elf.has_dwarf_info():
        raise LabError("the probe was compiled without debug information", hint="report this")
    reader = _Reader()
    for unit in elf.get_dwarf_info().iter_CUs():
        for die in unit.iter_DIEs():
            reader.take(die)
    return reader.types


class _Reader:
    def __init__(self) -> None:
        self.types = Types()

    def take(self, die: DIE) -> None:
        if die.tag == "DW_TAG_enumerator":
            self.types.enumerators.setdefault(_name(die), die.attributes["DW_AT_const_value"].value)
        elif die.tag in _AGGREGATE:
            name = _name(die)
            if name and "DW_AT_byte_size" in die.attributes:
                self._put(name, die)
        elif die.tag == "DW_TAG_typedef":
            target = _stripped(die)
            if target is not None and target.tag in _AGGREGATE and "DW_AT_byte_size" in target.attributes:
                tag, name = _name(target), _name(die)
                if not tag:
                    self._put(name, target)
                elif tag != name:
                    self.types.structs.setdefault(name, tag)

    def _put(self, name: str, die: DIE) -> None:
        if name not in self.types.structs:
            self.types.structs[name] = self._struct(die)

    def _struct(self, die: DIE) -> list[Any]:
        return [_size(die), list(self._members(die, 0))]

    def _members(self, die: DIE, base: int) -> list[Any]:
        found: list[Any] = []
        for child in die.iter_children():
            if child.tag != "DW_TAG_member":
                continue
            offset = base + _offset(child)
            name = _name(child)
            target = _type(child)
            if not name and target is not None and target.tag in _AGGREGATE:
                found += self._members(target, offset)  # an anonymous member's are the struct's own
            elif name:
                found.append([name, offset, *self._rest(child, target, base)])
        return found

    def _rest(self, member: DIE, target: DIE | None, base: int) -> list[Any]:
        """Return a field from its size on."""
        width = member.attributes.get("DW_AT_bit_size")
        described = self._describe(target)
        if width is not None:
            return [*described[:2], _first_bit(member, base, described[0]), width.value]
        return described

    def _describe(self, die: DIE | None) -> list[Any]:
        """Return size, kind and what else a field of this type has."""
        if die is None:
            return [0, "bytes", 0]
        named = _typedef_name(die)
        die = _stripped(die)
        if die is None:
            return [0, "bytes", 0]
        size = _size(die)
        if die.tag in ("DW_TAG_pointer_type", "DW_TAG_reference_type"):
            return [size or die.cu["address_size"], "pointer"]
        if die.tag in _AGGREGATE:
            return [size, "struct", _name(die) or named or self._struct(die)]
        if die.tag == "DW_TAG_array_type":
            return self._array(die)
        if die.tag == "DW_TAG_enumeration_type":
            base = _type(die)
            return [size, self._describe(base)[1] if base is not None else "uint"]
        encoding = die.attributes["DW_AT_encoding"].value if "DW_AT_encoding" in die.attributes else 0
        if encoding in _ATE_FLOAT:
            return [size, "bytes", size]
        return [size, "int" if encoding in _ATE_SIGNED else "uint"]

    def _array(self, die: DIE) -> list[Any]:
        counts = [_count(child) for child in die.iter_children() if child.tag == "DW_TAG_subrange_type"]
        element = self._describe(_type(die))
        for count in reversed(counts or [0]):
            if element[0] == 1 and element[1] in ("int", "uint"):
                element = [count, "bytes", count]
            else:
                element = [count * element[0], "array", count, ["", 0, *element]]
        return element


def _name(die: DIE) -> str:
    found = die.attributes.get("DW_AT_name")
    return found.value.decode() if found is not None else ""


def _type(die: DIE) -> DIE | None:
    return die.get_DIE_from_attribute("DW_AT_type") if "DW_AT_type" in die.attributes else None


def _stripped(die: DIE) -> DIE | None:
    """Return a type without its typedefs and qualifiers; None for void."""
    here: DIE | None = die
    while here is not None and here.tag in _TRANSPARENT:
        here = _type(here)
    return here


def _typedef_name(die: DIE) -> str:
    """Return the last typedef's name on the way to a type: what an untagged struct is known by."""
    name = ""
    here: DIE | None = die
    while here is not None and here.tag in _TRANSPARENT:
        if here.tag == "DW_TAG_typedef":
            name = _name(here)
        here = _type(here)
    return name


def _size(die: DIE) -> int:
    found = die.attributes.get("DW_AT_byte_size")
    return int(found.value) if found is not None else 0


def _offset(member: DIE) -> int:
    found = member.attributes.get("DW_AT_data_member_location")
    return int(found.value) if found is not None else 0


def _count(subrange: DIE) -> int:
    if "DW_AT_count" in subrange.attributes:
        return int(subrange.attributes["DW_AT_count"].value)
    found = subrange.attributes.get("DW_AT_upper_bound")
    # A flexible array has no bound; [0] has one of -1 with some compilers, as a number without a sign.
    return 0 if found is None or not isinstance(found.value, int) or found.value >> 31 else found.value + 1


def _first_bit(member: DIE, base: int, size: int) -> int:
    """Return where a bit field starts, in bits from the struct's start, as the target counts."""
    attributes = member.attributes
    if "DW_AT_data_bit_offset" in attributes:
        return base * 8 + int(attributes["DW_AT_data_bit_offset"].value)
    # DWARF 4 as gcc 10 writes it: from the most significant bit of a unit of `size` bytes at an offset.
    unit = (base + _offset(member)) * 8
    from_top = int(attributes["DW_AT_bit_offset"].value)
    if not member.dwarfinfo.config.little_endian:
        return unit + from_top
    return unit + size * 8 - from_top - int(attributes["DW_AT_bit_size"].value)
