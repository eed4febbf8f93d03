# SPDX-License-Identifier: MIT
"""What goes over the agent's port is described twice, in C and in Python: both say the same, in all of it."""

from __future__ import annotations

import ctypes
import re
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

from lab.guest import layouts
from lab.guest.agent import _SETUP_STEPS
from lab.guest.layouts import Record, c_name
from lab.guest.wire import _TROUBLE

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOTFS = Path(__file__).parent.parent / "rootfs"
HEADER = (ROOTFS / "wire.h").read_text(encoding="utf-8")
OPERATIONS = (ROOTFS / "operations.c").read_text(encoding="utf-8")

# The enums, and what their names begin with in C. A frame is one of two: some never leave the guest.
ENUMS = {
    "frame_type": ("FRAME_", "FrameType", "InnerFrame"),
    "buffer_kind": ("BUFFER_", "BufferKind"),
    "op_code": ("OP_", "OpCode"),
    "argument_kind": ("ARGUMENT_", "ArgumentKind"),
    "trouble": ("TROUBLE_", "Trouble"),
    "own_call": ("OWN_", "OwnCall"),
    "signal_how": ("HOW_", "SignalHow"),
    "setup_step": ("STEP_", "SetupStep"),
    "wait_outcome": ("WAIT_", "WaitOutcome"),
}
SIZES = {"uint8_t": 1, "char": 1, "uint32_t": 4, "int32_t": 4, "uint64_t": 8, "int64_t": 8}
FIELD = re.compile(r"\t(struct \w+|u?int\d+_t|char) (\w+)(\[\d*\])?;")


@dataclass
class Described:
    """All that one side says."""

    numbers: dict[str, int] = field(default_factory=dict)
    enums: dict[str, dict[str, int]] = field(default_factory=dict)
    structs: dict[str, list[tuple[str, str]]] = field(default_factory=dict)  # name and type of each field


def in_c(header: str) -> Described:
    """Read a header; ValueError for a line that is not understood: nothing is passed over."""
    found = Described()
    code = re.sub(r"/\*.*?\*/", "", header, flags=re.DOTALL)
    lines = (line.rstrip() for line in code.splitlines())
    for line in lines:
        if not line or line in ("#ifndef LAB_WIRE_H", "#define LAB_WIRE_H", "#endif", "#include <stdint.h>"):
            continue
        if number := re.fullmatch(r"#define (\w+)\s+(\S.*)", line):
            found.numbers[number[1]] = value(number[2])
        elif opened := re.fullmatch(r"enum (\w+) \{", line):
            found.enums[opened[1]] = dict(enumerators(lines))
        elif opened := re.fullmatch(r"struct (\w+) \{", line):
            found.structs[opened[1]] = list(fields(lines))
        else:
            raise ValueError(f"what is this: {line!r}")
    return found


def value(text: str) -> int:
    """Return what a constant expression is."""
    plain = re.sub(r"\b(0x[0-9a-f]+|\d+)u?l*\b", r"\1", text)
    if not re.fullmatch(r"\(?-?(0x[0-9a-f]+|\d+)( << \d+)?\)?", plain):
        raise ValueError(f"what is this: {text!r}")
    left, _, right = plain.strip("()").partition(" << ")
    return int(left, 0) << int(right or 0)


def enumerators(lines: Iterator[str]) -> Iterator[tuple[str, int]]:
    following = 0
    for line in lines:
        if line == "};":
            return
        if not line.strip():
            continue  # of a comment
        entry = re.fullmatch(r"\t(\w+)(?: = (\d+))?,", line)
        if entry is None:
            raise ValueError(f"what is this: {line!r}")
        number = int(entry[2]) if entry[2] else following
        yield entry[1], number
        following = number + 1


def fields(lines: Iterator[str]) -> Iterator[tuple[str, str]]:
    for line in lines:
        if line == "};":
            return
        entry = FIELD.fullmatch(line)
        if entry is None:
            raise ValueError(f"what is this: {line!r}")
        yield entry[2], f"{entry[1]}{entry[3] or ''}"


def records(module: ModuleType = layouts) -> list[type[Record]]:
    classes = [each for each in vars(module).values() if isinstance(each, type)]
    return [each for each in classes if issubclass(each, module.Record) and each is not module.Record]


def in_python(module: ModuleType = layouts) -> Described:
    names = {name: each for name, each in vars(module).items() if name.isupper() and isinstance(each, int)}
    return Described(
        numbers={name: int(each) for name, each in names.items()},
        enums={
            name: {f"{prefix}{each.name}": int(each) for kind in kinds for each in getattr(module, kind)}
            for name, (prefix, *kinds) in ENUMS.items()
        },
        structs={c_name(each): [*each.types.items()] for each in records(module)},
    )


def differences(header: str = HEADER, module: ModuleType = layouts) -> list[str]:
    """Return in what a header says something else than the lab, or lies otherwise than it is packed."""
    c, python = in_c(header), in_python(module)
    found = []
    for what in ("numbers", "enums", "structs"):
        theirs, ours = getattr(c, what), getattr(python, what)
        found += [f"{name}: only on one side" for name in theirs.keys() ^ ours.keys()]
        found += [
            f"{name}: {theirs[name]} and {ours[name]}"
            for name in theirs.keys() & ours.keys()
            if theirs[name] != ours[name]
        ]
    for name, members in c.structs.items():
        found += [f"{name}: {why}" for why in holes(members, c.structs)]
    return found


def holes(members: list[tuple[str, str]], structs: dict[str, list[tuple[str, str]]]) -> list[str]:
    """Return where a compiler would leave room between fields: of 32 bits it would leave less."""
    found, at = [], 0
    for name, kind in members:
        size, align = size_of(kind, structs)
        if at % align:
            found.append(f"{name} is at {at}, which is no multiple of {align}")
        at += size
    return found + ([f"{at} bytes are no multiple of 8"] if at % 8 else [])


def size_of(kind: str, structs: dict[str, list[tuple[str, str]]]) -> tuple[int, int]:
    name, _, count = kind.rstrip("]").partition("[")
    if name.startswith("struct "):
        size, align = sum(size_of(each, structs)[0] for _, each in structs[name.removeprefix("struct ")]), 8
    else:
        size = align = SIZES[name]
    return size * (int(count or 0) if "[" in kind else 1), align


def test_both_sides_say_the_same() -> None:
    described = in_c(HEADER)
    assert len(described.numbers) > 8
    assert len(described.structs) > 20
    assert differences() == []


def test_every_enum_and_struct_of_ours_is_compared() -> None:
    kinds = {each for each in vars(layouts).values() if isinstance(each, type) and issubclass(each, IntEnum)}
    assert {each.__name__ for each in kinds - {IntEnum}} == {
        name for _, *names in ENUMS.values() for name in names
    }


@pytest.mark.parametrize("record", records(), ids=c_name)
def test_a_record_is_as_long_as_the_struct(record: type[Record]) -> None:
    structs = in_c(HEADER).structs
    assert record.nbytes() == size_of(f"struct {c_name(record)}", structs)[0]
    assert len(record.layout) >= len(record.types) - record.tailed


def other_number(line: str) -> str:
    """Return a line with its first number another."""
    return re.sub(r"\b(0x[0-9a-fA-F]+|\d+)", lambda found: hex(int(found[0], 0) + 1), line, count=1)


def instead(line: str) -> dict[str, str]:
    """Return what a line of the header could be too, by what is changed; nothing of one that says nothing."""
    entry = re.match(r"\t([A-Z]\w*)(?: = \d+)?,", line)
    number = re.match(r"#define (\w+)\s+\S", line)
    member = FIELD.match(line)
    found = entry or number or member
    if found is None:
        return {}
    name = found[2] if member else found[1]
    texts = {"another name": re.sub(rf"\b{name}\b", f"{name}_", line, count=1), "not there": ""}
    if number:
        texts["another value"] = other_number(line)
    if entry:
        texts["another value"] = re.sub(r"( = \d+)?,", " = 77,", line, count=1)
    if member:
        texts |= {kind: line.replace(member[1], kind, 1) for kind in SIZES if kind != member[1]}
    if member and member[3]:
        texts["another length"] = line.replace(member[3], "[7]", 1)
    return texts


def changed() -> Iterator[tuple[str, str]]:
    """Yield the header with one thing changed, in every way that one thing can be: what, and the header."""
    lines = HEADER.splitlines(keepends=True)
    for at, line in enumerate(lines):
        texts = instead(line)
        for what, text in texts.items():
            yield f"{at + 1}: {line.strip()}: {what}", "".join([*lines[:at], text, *lines[at + 1 :]])
        inside = line.startswith("\t") and "=" not in line
        if texts and inside and instead(lines[at + 1]):
            swapped = [*lines[:at], lines[at + 1], line, *lines[at + 2 :]]
            yield f"{at + 1}: {line.strip()}: after the next", "".join(swapped)


MEMBER = re.compile(r"    (\w+): ([UI]\d\d|Tail|Arguments?|Annotated\[bytes, .*?\])( = .*)?\n")
NUMBER = re.compile(r"[A-Z_]+: Final = -?\w.*\n|    [A-Z_0-9]+ = \d.*\n")


def instead_of_ours(line: str) -> dict[str, str]:
    """Return what a line of layouts.py could be too, by what is changed."""
    if NUMBER.fullmatch(line):
        name = re.sub(r"\w+", r"\g<0>X", line, count=1)
        return {"another value": other_number(line), "another name": name, "not there": ""}
    found = MEMBER.fullmatch(line)
    if found is None:
        return {}
    kinds = {kind: line.replace(found[2], kind, 1) for kind in ("U32", "U64", "I32", "I64", "Argument")}
    return {"another name": re.sub(r"\w+", r"\g<0>_", line, count=1), "not there": "", **kinds}


def changed_of_ours() -> Iterator[tuple[str, str]]:
    """Yield layouts.py with one thing changed: what, and its text."""
    text = Path(layouts.__file__).read_text(encoding="utf-8")
    # What a record is stands in its annotations; what dataclass makes of it takes most of the time.
    lines = [*text.replace("@dataclass(frozen=True)\n", "").splitlines(keepends=True), "\n"]
    for at, line in enumerate(lines[:-1]):
        for what, text in instead_of_ours(line).items():
            if text != line:
                yield f"{at + 1}: {line.strip()}: {what}", "".join([*lines[:at], text, *lines[at + 1 :]])
        if MEMBER.fullmatch(line) and MEMBER.fullmatch(lines[at + 1]):
            swapped = [*lines[:at], lines[at + 1], line, *lines[at + 2 :]]
            yield f"{at + 1}: {line.strip()}: after the next", "".join(swapped)


def test_whatever_is_changed_on_our_side_is_found() -> None:
    every = dict(changed_of_ours())
    assert len(every) > 500
    unnoticed = []
    for what, text in every.items():
        module = ModuleType("changed")
        try:
            exec(compile(text, layouts.__file__, "exec"), module.__dict__)  # noqa: S102 - our own
            found = differences(module=module)
        except (TypeError, ValueError, NameError, IndexError):
            continue  # no module any more
        if not found:
            unnoticed.append(what)
    assert unnoticed == []


def test_whatever_is_changed_in_the_header_is_found() -> None:
    every = dict(changed())
    assert len(every) > 700
    assert {what.rpartition(": ")[2] for what in every} >= {"another value", "after the next", "uint64_t"}
    unnoticed = []
    for what, header in every.items():
        assert header != HEADER, what
        try:
            found = differences(header)
        except (ValueError, KeyError):
            continue  # not understood any more
        if not found:
            unnoticed.append(what)
    assert unnoticed == []


@pytest.mark.parametrize(
    "line", ["int x;", "#define X (1 + 1)", "enum x { A };", "struct x {\n\tlong a;\n};", "typedef int x;"]
)
def test_what_is_not_understood_is_not_passed_over(line: str) -> None:
    with pytest.raises(ValueError, match="what is this"):
        in_c(f"{HEADER}\n{line}\n")


def test_the_numbers_of_own_calls_are_those_of_their_names() -> None:
    table = re.search(r"own_calls\[\] = \{\n(.*?)\};", OPERATIONS, re.DOTALL)
    assert table
    entries = re.findall(r"^\t\[OWN_(\w+)\] = __NR_(\w+),$", table[1], re.MULTILINE)
    assert len(entries) == len(table[1].splitlines())
    assert dict(entries) == {each.name: each.name.lower() for each in layouts.OwnCall}


def test_everything_that_can_go_wrong_has_words() -> None:
    assert set(_TROUBLE) == set(layouts.Trouble)
    assert set(_SETUP_STEPS) == set(layouts.SetupStep)


def test_a_record_is_packed_as_c_would_have_it() -> None:
    """With ctypes, which lays structs out as the compiler of this host does."""
    ours = {"uint32_t": ctypes.c_uint32, "uint64_t": ctypes.c_uint64}
    ours |= {"int32_t": ctypes.c_int32, "int64_t": ctypes.c_int64}
    plain = [each for each in records() if set(each.types.values()) <= ours.keys()]
    assert len(plain) > 12
    for record in plain:
        members = [(name, ours[kind]) for name, kind in record.types.items()]
        struct = type(c_name(record), (ctypes.Structure,), {"_fields_": members})
        made = record(*range(1, len(members) + 1))
        assert made.pack("=") == bytes(struct(*range(1, len(members) + 1)))
        assert record.unpack("=", made.pack("=")) == made
