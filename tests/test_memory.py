# SPDX-License-Identifier: MIT
"""Data, structs and memory: what YAML makes of them, in the byte order of the target."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.abi import Abi
from lab.abi.layout import Field, Struct
from lab.arch import X86_64, Architecture
from lab.errors import ScenarioError, UsageError
from lab.guest import wire
from lab.language.composing import compose
from lab.language.context import Context
from lab.language.memory_kinds import DataKind, MemoryKind
from lab.language.nodes import Mistakes
from lab.language.outcome import Bound
from lab.language.plan import Call
from lab.language.reading import Words
from lab.language.scope import Scope
from lab.language.show import compare_data, dump, first_difference
from lab.verbs import table

if TYPE_CHECKING:
    from lab.language.plan import Placed

BIG = replace(X86_64, name="big", byteorder="big", word=4)
INNER = Struct("inner", 4, (Field("a", 0, 2, "uint"), Field("b", 2, 2, "int")))
OUTER = Struct(
    "outer",
    48,
    (
        Field("name", 0, 8, "bytes", 8),
        Field("in", 8, 4, "struct", type=INNER),
        Field("list", 12, 8, "array", 2, element=Field("", 0, 4, "uint")),
        Field("pointer", 24, 8, "pointer"),
        Field("address", 32, 8, "uint"),
        Field("size", 40, 4, "uint"),
    ),
)
STRUCTS = {"inner": INNER, "outer": OUTER}


def context(arch: Architecture = X86_64, **bound: Any) -> Context:
    return Context(Abi(arch, {"EAGAIN": 11}, {}, STRUCTS, {"ioctl": 16}), seed=1, bindings=Bound(bound))


def scope() -> Scope:
    fields = {name: [field.name for field in struct.fields] for name, struct in STRUCTS.items()}
    return Scope(Mistakes(Path("x.yaml")), Words({"EAGAIN"}, fields))


def read(kind: DataKind | MemoryKind, text: str) -> Any:
    table()
    where = scope()
    node = compose(text, where.mistakes)
    assert node is not None
    value = kind.parse(node, where)
    where.mistakes.raise_any()
    return value


def data(text: str, arch: Architecture = X86_64) -> bytes:
    made = read(DataKind(), text).resolve(context(arch))
    assert isinstance(made, bytes)
    return made


def place(text: str) -> tuple[Placed, Call]:
    call = Call(context(), wire.Program(X86_64), actor="main")
    return read(MemoryKind(), text).resolve(call), call


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("hello", b"hello"),
        ("0102", b"0102"),
        ('""', b""),
        ('"$x"', b"$x"),
        ('"a\\n"', b"a\n"),
        ("é", b"\xc3\xa9"),
        ('{hex: "01 02ff"}', b"\1\2\xff"),
        ("{repeat: ab, size: 5}", b"ababa"),
        ("{repeat: {hex: 00}, size: 4}", bytes(4)),
        ("{counting: 255, size: 16}", bytes([255, *bytes(7), 0, 1, *bytes(6)])),
        ("{counting: 0xffffffffffffffff, size: 8}", bytes([255] * 8)),
        ("{cstring: a}", b"a\0"),
        ("{join: [a, {hex: 00}, b]}", b"a\0b"),
        ("{u16: 258}", b"\2\1"),
        ("{be16: 258}", b"\1\2"),
        ("{u32: [1, EAGAIN]}", b"\1\0\0\0\x0b\0\0\0"),
        ("{s8: -1}", b"\xff"),
        ("{u32: -1}", b"\xff\xff\xff\xff"),
        ("{struct: inner, a: 1, b: -2}", b"\1\0\xfe\xff"),
    ],
)
def test_data(text: str, wanted: bytes) -> None:
    assert data(text) == wanted


def test_numbers_are_in_the_target_s_order() -> None:
    assert data("{u32: 1}", BIG) == b"\0\0\0\1"
    assert data("{be32: 1}", BIG) == data("{be32: 1}")
    assert data("{counting: 1, size: 16}", BIG) == data("{be64: [1, 2]}")
    assert data("{struct: inner, a: 1}", BIG) == b"\0\1\0\0"


def test_random_data_depends_on_seed_and_id() -> None:
    one = data("{random: 64, id: a}")
    assert len(one) == 64
    assert one == data("{random: 64, id: a}")
    assert one != data("{random: 64, id: b}")
    other = read(DataKind(), "{random: 64, id: a}").resolve(Context(context().abi, seed=2))
    assert one != other


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{hex: 0g}", "pairs of hexadecimal digits"),
        ("{repeat: '', size: 3}", "something to repeat"),
        ("{counting: 0, size: 12}", "no whole numbers"),
        ("{counting: 0xffffffffffffffff, size: 16}", "leaves the 64 bits"),
        ("{u8: 256}", "does not fit"),
        ("{struct: inner, a: 70000}", "does not fit"),
        ("{struct: outer, pointer: {buffer: x}}", "points to memory"),
        ("{struct: outer, in: 5}", "outer.in is a struct"),
        ("{struct: outer, list: [1, 2, 3]}", "2 elements"),
    ],
)
def test_data_that_cannot_be(text: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        data(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{hx: 00}", "did you mean 'hex'"),
        ("{repeat: a}", "{repeat: …} wants 'size'"),
        ("{struct: iner}", "unknown struct 'iner' in the value; did you mean 'inner'"),
        ("{struct: inner, c: 1}", "struct inner has no field 'c'"),
        ("{struct: inner, a: EAGIAN_X}", "unknown constant 'EAGIAN_X' in field 'a' of struct inner"),
    ],
)
def test_mistakes_before_any_target(text: str, why: str) -> None:
    with pytest.raises(ScenarioError, match=why):
        read(DataKind(), text)


def test_a_struct_with_everything() -> None:
    made = data("{struct: outer, name: ab, in: {a: 1}, list: [EAGAIN, 2], size: 7}")
    fields = OUTER.unpack(made, X86_64)
    assert fields["name"] == b"ab" + bytes(6)
    assert (fields["in"], fields["list"], fields["size"]) == ({"a": 1, "b": 0}, [11, 2], 7)


def test_pointers_of_a_struct_and_what_they_give_back() -> None:
    text = "{struct: outer, pointer: {buffer: hello, size: 8}, address: {struct: inner, a: 5}, size: 3}"
    placed, call = place(text)
    assert isinstance(placed.argument, wire.Buffer)
    assert [path for path, _ in placed.inner] == [("pointer",), ("address",)]
    index = call.syscall("ioctl", 3, 1, placed)
    take = placed.fetch(call)
    after = bytes(OUTER.pack({"size": 4}, X86_64))
    reply = wire.Reply(
        calls=(wire.CallResult(0, 1),), data=(after, b"changed\0", bytes(INNER.pack({"a": 6}, X86_64)))
    )
    out = take(reply)
    assert index == 0
    assert (out["size"], out["pointer"], out["address"]) == (4, b"changed\0", {"a": 6, "b": 0})
    call.program.encode()


@pytest.mark.parametrize(
    ("text", "kind", "size"),
    [
        ("{buffer: hello}", wire.Kind.PLAIN, 5),
        ("{buffer: hello, size: 64}", wire.Kind.PLAIN, 64),
        ("{buffer: , size: 16}", wire.Kind.PLAIN, 16),
        ("{bad: unmapped}", wire.Kind.UNMAPPED, 8192),
        ("{bad: readonly, data: hello}", wire.Kind.READONLY, 5),
        ("{bad: partial, size: 10}", wire.Kind.PARTIAL, 10),
        ("{bad: partial, data: {struct: inner}}", wire.Kind.PARTIAL, 4),
        ("{u64: 1}", wire.Kind.PLAIN, 8),
        ("[{struct: inner, a: 1}, {u8: 1}]", wire.Kind.PLAIN, 5),
    ],
)
def test_memory(text: str, kind: wire.Kind, size: int) -> None:
    placed, _ = place(text)
    assert isinstance(placed.argument, wire.Buffer)
    assert (placed.argument.kind, placed.size) == (kind, size)


def test_addresses_as_they_are() -> None:
    for text, wanted in (("NULL", 0), ("0x1000", 0x1000), ("-1", -1)):
        placed, call = place(text)
        assert placed.argument == wanted
        assert placed.fetch(call)(wire.Reply()) is None


def test_numbers_come_back_as_numbers() -> None:
    for text, raw, wanted in (("{u32: 0}", b"\5\0\0\0", 5), ("{s16: [0, 0]}", b"\xff\xff\1\0", [-1, 1])):
        placed, call = place(text)
        assert placed.fetch(call)(wire.Reply(data=(raw,))) == wanted


def test_a_buffer_smaller_than_its_data_is_refused() -> None:
    with pytest.raises(UsageError, match="cannot hold"):
        place("{buffer: hello, size: 3}")


def test_an_actor_that_died_gives_no_data() -> None:
    placed, call = place("{buffer: hello}")
    assert placed.fetch(call)(wire.Reply(exited=9)) is None


@settings(max_examples=60)
@given(st.binary(max_size=300), st.binary(max_size=300))
def test_the_first_difference(one: bytes, other: bytes) -> None:
    at = first_difference(one, other)
    assert one[:at] == other[:at]
    assert at == min(len(one), len(other)) or one[at] != other[at]
    if one != other:
        wanted, got = compare_data(one, other)
        assert wanted != got or len(one) > 48
    assert dump(one, at)
