# SPDX-License-Identifier: MIT
"""What is wanted against what was got: no wrong value passes, whatever its kind, width and sign."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import assume, example, given
from hypothesis import strategies as st

from lab.abi import Abi
from lab.abi.layout import Field, Struct, Unpacked, whole
from lab.arch import S390X, X86_64, Architecture
from lab.errors import ScenarioError, UsageError
from lab.language.composites import TreeKind
from lab.language.context import Context
from lab.language.expect import Expectations, read_expectations
from lab.language.kinds import AddressKind, IntKind, Kind
from lab.language.memory_kinds import DataKind
from lab.language.nodes import Mistakes
from lab.language.outcome import Bound
from lab.language.padding import dirt
from lab.language.plan import Fetched
from lab.language.reading import Words
from lab.language.scope import Known, Scope
from lab.language.wish_reader import matcher
from lab.packets.nlwishes import attrs_wish
from lab.verbs import table
from lab.verbs.files import Answered, Got

if TYPE_CHECKING:
    from lab.language.outcome import Outcome
    from lab.language.wishes import Mismatch

ARCHES = st.sampled_from([X86_64, S390X, replace(X86_64, word=4)])
WIDTHS = st.sampled_from([8, 16, 32, 64])
INNER = Struct("inner", 4, (Field("x", 0, 1, "uint"), Field("y", 2, 2, "uint")))
# A byte, a hole of three, four bytes, two bits of four, a byte at the end: 13 bytes.
HOLED = Struct(
    "holed",
    13,
    (
        Field("a", 0, 1, "uint"),
        Field("b", 4, 4, "int"),
        Field("inner", 8, 4, "struct", type=INNER),
        Field("c", 12, 1, "uint", bits=(96, 3)),
    ),
)  # fmt: skip
HOLES = (1, 2, 3, 9)
RANGE = Struct("range", 12, tuple(Field(n, 4 * i, 4, "uint") for i, n in enumerate(("min", "max", "step"))))
OUTER = Struct("outer", 12, (Field("range", 0, 12, "struct", type=RANGE),))
STRUCTS = {each.name: each for each in (HOLED, RANGE, OUTER)}


def context(arch: Architecture = X86_64) -> Context:
    return Context(Abi(arch, {"UINT_MAX": 0xFFFFFFFF}, {}, STRUCTS, {}))


def scope() -> Scope:
    table()
    fields = {name: [field.name for field in struct.fields] for name, struct in STRUCTS.items()}
    return Scope(Mistakes(Path("x.yaml")), Words(frozenset({"UINT_MAX"}), fields), verbs=table())


def node(text: str) -> Any:
    return yaml.compose(text, Loader=yaml.CSafeLoader)


def differs(
    text: str, got: Any, kind: Kind | None = None, arch: Architecture = X86_64, **more: Any
) -> list[Mismatch]:
    where = scope()
    wish = matcher(kind or TreeKind(), node(text), where, **more)
    where.mistakes.raise_any()
    return wish.check(got, "x", context(arch))


def passes(text: str, got: Any, kind: Kind | None = None, arch: Architecture = X86_64) -> bool:
    """Tell whether a value is as wanted; a wish that can never come true is a mistake, and does not pass."""
    try:
        return not differs(text, got, kind, arch)
    except UsageError:
        return False


# --- numbers ---------------------------------------------------------------------------------------------


def is_it(wanted: int, raw: int, bits: int, *, signed: bool) -> bool:
    """Say by C's rules whether a field of so many bits with these bits holds a number."""
    if signed:
        return wanted == raw - (1 << bits if raw >> (bits - 1) else 0)
    return wanted == raw or (-(1 << (bits - 1)) <= wanted < 0 and wanted + (1 << bits) == raw)


@st.composite
def numbers(draw: st.DrawFn, most: int = 64) -> tuple[int, int, bool, int]:
    """A width, the bits in it, whether it has a sign, and what somebody wants: mostly something near."""
    bits = draw(st.integers(1, most) if most < 64 else WIDTHS)
    signed = draw(st.booleans())
    raw = draw(st.integers(0, (1 << bits) - 1))
    # The same number, the same bits, and what other widths or signs would make of it.
    near = [raw, raw - (1 << bits)] * 4 + [raw + (1 << bits), -raw, ~raw, raw ^ 1]
    near += [raw + sign * (1 << width) for width in (8, 16, 32, 64) for sign in (1, -1)]
    return bits, raw, signed, draw(st.sampled_from(near) | st.integers(-(1 << 65), 1 << 65))


@given(numbers(), ARCHES)
@example((8, 0, False, -256), X86_64)
@example((32, 255, False, -1), X86_64)
@example((32, 0xFFFFFFFF, False, -1), X86_64)
@example((32, 0xFFFFFFFF, True, 0xFFFFFFFF), X86_64)
def test_a_field_is_what_its_width_and_sign_say(case: tuple[int, int, bool, int], arch: Architecture) -> None:
    bits, raw, signed, wanted = case
    one = Struct("one", bits // 8, (Field("n", 0, bits // 8, "int" if signed else "uint"),))
    got = one.unpack(raw.to_bytes(bits // 8, arch.byteorder), arch)
    assert passes(f"{{n: {wanted}}}", got, arch=arch) == is_it(wanted, raw, bits, signed=signed)


@given(numbers(most=31), st.integers(0, 32), ARCHES)
def test_so_is_a_bit_field(case: tuple[int, int, bool, int], at: int, arch: Architecture) -> None:
    bits, raw, signed, wanted = case
    assume(at + bits <= 32)
    member = Field("n", 0, 4, "int" if signed else "uint", bits=(at, bits))
    one = Struct("one", 4, (member,))
    got = one.unpack(bytes(one.pack({"n": raw}, arch)), arch)
    assert passes(f"{{n: {wanted}}}", got, arch=arch) == is_it(wanted, raw, bits, signed=signed)


@given(numbers(), ARCHES)
@example((32, 0xFFFFFFFF, False, -1), X86_64)
@example((8, 255, True, 255), X86_64)
def test_so_is_memory_that_a_form_describes(case: tuple[int, int, bool, int], arch: Architecture) -> None:
    bits, raw, signed, wanted = case
    value = DataKind().parse(node(f"{{{'s' if signed else 'u'}{bits}: 0}}"), scope())
    got = value.decoder(context(arch))(raw.to_bytes(bits // 8, arch.byteorder))  # type: ignore[attr-defined]
    assert passes(str(wanted), got, arch=arch) == is_it(wanted, raw, bits, signed=signed)


@given(numbers(), ARCHES)
@example((32, 0xFFFFFFFF, False, -1), X86_64)
@example((8, 255, True, 255), X86_64)
def test_so_is_an_attribute_of_a_message(case: tuple[int, int, bool, int], arch: Architecture) -> None:
    bits, raw, signed, wanted = case
    where = scope()
    form = f"{'s' if signed else 'u'}{bits}"
    wish = attrs_wish(node(f"{{1: {{{form}: {wanted}}}}}"), where)
    where.mistakes.raise_any()

    class Attribute:
        type, payload = 1, raw.to_bytes(bits // 8, arch.byteorder)

    try:
        same = not wish.check([Attribute()], "x", context(arch))
    except UsageError:
        same = False
    assert same == is_it(wanted, raw, bits, signed=signed)


@given(numbers(), st.integers(-(1 << 65), 1 << 65))
def test_a_range_holds_what_is_between(case: tuple[int, int, bool, int], other: int) -> None:
    bits, raw, signed, wanted = case
    value = raw - (1 << bits) if signed and raw >> (bits - 1) else raw
    low, high = min(wanted, other), max(wanted, other)
    got = whole(bits, signed=signed)(value)
    inside = low <= value <= high and (signed or low >= 0)
    for kind in (IntKind(), TreeKind()):
        assert passes(f"{{min: {low}, max: {high}}}", got, kind) == inside
        assert passes(f"{{min: {low}}}", got, kind) == (low <= value and (signed or low >= 0))


@given(st.integers(-(1 << 65), 1 << 65), st.integers(-(1 << 63), (1 << 63) - 1))
def test_a_result_without_a_width_is_the_same_or_not(wanted: int, got: int) -> None:
    assert passes(str(wanted), got, IntKind()) == (wanted == got)
    assert passes(str(got), got, IntKind())


@given(ARCHES, st.integers(0, (1 << 64) - 1), st.integers(-(1 << 65), 1 << 65) | st.none())
def test_an_address_is_the_same_bits(arch: Architecture, got: int, wanted: int | None) -> None:
    bits = 8 * arch.word
    got %= 1 << bits
    wanted = got - (1 << bits) if wanted is None else wanted
    there = wanted == got or (-(1 << (bits - 1)) <= wanted < 0 and wanted + (1 << bits) == got)
    assert passes(str(wanted), got, AddressKind(), arch) == there


def test_what_a_field_can_never_be_is_a_mistake() -> None:
    for wanted, field in (
        (-256, "8 bits without"),
        (256, "8 bits without"),
        (-129, "8 bits with"),
        (128, "8 bits with"),
    ):
        got = whole(8, signed=field.endswith("with"))(0)
        with pytest.raises(UsageError, match=f"x.n is a number of {field} a sign: it is never {wanted}"):
            differs(f"{{n: {wanted}}}", {"n": got})
    with pytest.raises(UsageError, match="no bound of it is -1"):
        differs("{min: -1}", whole(8, signed=False)(0))


def test_what_an_earlier_step_gave_is_no_mistake() -> None:
    where = scope()
    where.bound["r"] = Known(verb="read", line=1, outcome=Got, owners={"main"})
    bound = Context(Abi(X86_64), bindings=Bound({"r": Got(returns=300)}))
    byte = whole(8, signed=False)
    for text, got, same in (
        ("$r.returns", 44, False),
        ("$r.returns-256", 44, True),
        ("$r.returns-301", 255, True),
        ("$r.returns-600", 212, False),
        ("{min: $r.returns-301}", 0, True),
        ("{max: $r.returns-301}", 0, False),
    ):
        for kind in (IntKind(), TreeKind()):
            wish = matcher(kind, node(text), where)
            where.mistakes.raise_any()
            assert (not wish.check(byte(got), "x", bound)) == same, text


# --- words that are a range, or fields -------------------------------------------------------------------


def unpacked(struct: Struct, raw: bytes) -> Unpacked:
    return struct.unpack(raw, X86_64)


def test_a_struct_may_have_fields_min_and_max() -> None:
    raw = b"".join(number.to_bytes(4, "little") for number in (1, 9, 2))
    got = unpacked(RANGE, raw)
    for text in ("{min: 1}", "{max: 9}", "{min: 1, max: 9}", "{min: {max: 1}, max: {min: 9}, step: 2}"):
        assert differs(text, got) == []
        assert differs(text, got, fields={"min": None, "max": None, "step": None}) == []
        assert differs(f"{{range: {text}}}", unpacked(OUTER, raw)) == []
    for text in ("{min: 0}", "{max: 10}", "{min: 0, max: 10}"):
        assert {each.path for each in differs(text, got)} <= {"x.min", "x.max"}
        assert differs(text, got)
        assert differs(f"{{range: {text}}}", unpacked(OUTER, raw))
    assert differs("{struct: range, min: 1, max: 9}", raw, DataKind()) == []
    assert differs("{struct: range, min: 2}", raw, DataKind())
    assert differs("{min: 12, max: 12}", raw, DataKind()) == []


def test_what_is_no_number_is_in_no_range() -> None:
    for got in (None, {"a": 1}):
        assert differs("{min: 0}", got, IntKind())
        assert differs("{min: 0}", got)
    assert differs("{matches: '1'}", {"a": 1})
    with pytest.raises(ScenarioError, match="nothing is in"):
        differs("{min: 5, max: 4}", 4, IntKind())


# --- structs, and parts one after the other --------------------------------------------------------------

HOLED_BYTES = bytes(HOLED.pack({"a": 1, "b": -2, "inner": {"x": 3, "y": 4}, "c": 5}, X86_64))
ALL_FIELDS = "struct: holed, a: 1, b: -2, inner: {x: 3, y: 4}, c: 5"


@given(st.integers(0, 8 * 13 - 1))
def test_no_bit_of_a_struct_is_overlooked(bit: int) -> None:
    raw = bytearray(HOLED_BYTES)
    raw[bit // 8] ^= 1 << bit % 8
    for text in (f"{{{ALL_FIELDS}}}", f"{{join: [{{{ALL_FIELDS}}}]}}", f"{{exactly: {{{ALL_FIELDS}}}}}"):
        assert differs(text, bytes(HOLED_BYTES), DataKind()) == []
        assert differs(text, bytes(raw), DataKind())
    assert differs(f"{{exactly: {{{ALL_FIELDS}}}}}", unpacked(HOLED, bytes(raw)))


def test_a_struct_wants_the_same_in_a_join_as_alone() -> None:
    for text in (
        "{struct: holed, a: 1}",
        "{join: [{struct: holed, a: 1}]}",
        "{join: [{join: [{struct: holed, a: 1}]}]}",
    ):
        assert differs(text, HOLED_BYTES, DataKind()) == []
        assert differs(text.replace("a: 1", "a: 2"), HOLED_BYTES, DataKind())
        assert differs(text, HOLED_BYTES[:-1], DataKind())
        assert differs(text, HOLED_BYTES + b"\0", DataKind())
    assert differs("{exactly: {struct: holed, a: 1}}", HOLED_BYTES, DataKind())
    assert differs("{exactly: {struct: holed, a: 1}}", b"\1" + bytes(12), DataKind()) == []


def test_the_parts_of_a_join_lie_one_after_the_other() -> None:
    text = "{join: [{u16: 7}, {struct: holed, b: -2}, end]}"
    got = b"\7\0" + HOLED_BYTES + b"end"
    assert differs(text, got, DataKind()) == []
    for at in (0, 1, *(2 + 4 + i for i in range(4)), 15, 16, 17):
        bad = bytearray(got)
        bad[at] ^= 0x40
        assert differs(text, bytes(bad), DataKind()), at
    (only,) = differs(text, got[:-1] + b"x", DataKind())
    assert only.path == "x[2]"
    (only,) = differs(text, got + b"x", DataKind())
    assert only.wanted.startswith("18 bytes")


# --- what lies between fields ----------------------------------------------------------------------------


def answered(text: str, out: Any, arch: Architecture = X86_64, key: str = "out") -> list[Mismatch]:
    where = scope()
    verb = table()["ioctl" if key == "out" else "read"]
    expect: Expectations = read_expectations(node(text), verb, {}, where)
    where.mistakes.raise_any()
    outcome: Outcome = Answered(returns=0, out=out) if key == "out" else Got(returns=0, data=out)
    return expect.check(outcome, context(arch))


def came(raw: bytes, before: bytes = b"") -> Unpacked:
    found = unpacked(HOLED, raw)
    found.before = before
    return found


@pytest.mark.parametrize("at", HOLES)
@pytest.mark.parametrize("text", ["{}", "{returns: 0}", "{out: {a: 1}}"])
def test_what_the_kernel_left_in_a_hole_is_told(at: int, text: str) -> None:
    raw = bytearray(HOLED_BYTES)
    assert answered(text, came(bytes(raw))) == []
    raw[at] = 0xA5
    (only,) = answered(text, came(bytes(raw)))
    hole = "byte 9 is a5" if at == 9 else f"bytes 1..3 are {raw[1:4].hex(' ')}"
    assert only.got == f"padding that is not zero went out: {hole}, the kernel's own stack or heap"
    assert only.dirt is not None


@pytest.mark.parametrize("arch", [X86_64, S390X], ids=["little", "big"])
def test_bits_that_belong_to_no_bit_field_are_a_hole(arch: Architecture) -> None:
    raw = bytearray(HOLED.pack({"c": 7}, arch))
    assert dirt(HOLED.unpack(bytes(raw), arch), arch) is None
    raw[12] |= 0x10 if arch is not S390X else 0x01
    found = dirt(HOLED.unpack(bytes(raw), arch), arch)
    assert found is not None
    assert found.holes[0][0] == 12


def test_what_the_caller_put_there_is_not_the_kernels() -> None:
    mine = bytes([1, *b"abc", *HOLED_BYTES[4:]])
    assert answered("{}", came(mine, mine)) == []
    assert answered("{out: {struct: holed, a: 1}}", Fetched(mine, mine)) == []
    assert answered("{out: {struct: holed, a: 1}}", Fetched(mine, b""))
    assert answered("{}", came(bytes([1, *b"abd", *HOLED_BYTES[4:]]), mine))


def test_a_struct_in_data_is_looked_at_too() -> None:
    bad = bytes([*HOLED_BYTES[:9], 7, *HOLED_BYTES[10:]])
    for text in ("{struct: holed, a: 1}", "{join: [{struct: holed, a: 1}]}"):
        assert answered(f"{{data: {text}}}", HOLED_BYTES, key="data") == []
        (only,) = answered(f"{{data: {text}}}", bad, key="data")
        assert "byte 9 is 07" in only.got


def test_padding_can_be_wanted() -> None:
    bad = came(bytes([1, *b"abc", *HOLED_BYTES[4:]]))
    assert answered("{padding: any}", bad) == []
    assert answered("{padding: {exactly: abc}}", bad) == []
    assert answered("{padding: {min: 1}}", bad) == []
    assert answered("{padding: {exactly: abd}}", bad)
    assert answered("{padding: {min: 1}}", came(HOLED_BYTES))
    assert answered("{padding: any, out: {a: 2}}", bad)
    with pytest.raises(ScenarioError, match="is `any` or a data form"):
        answered("{padding: some}", bad)


def test_a_union_has_the_holes_that_no_member_covers() -> None:
    short, long = Field("s", 0, 1, "uint"), Field("l", 0, 2, "uint")
    union = Struct("u", 4, (short, long))
    assert union.padding(X86_64) == b"\0\0\xff\xff"
    array = Struct("a", 8, (Field("v", 0, 8, "array", 2, element=Field("", 0, 4, "struct", type=union)),))
    assert array.padding(X86_64) == b"\0\0\xff\xff" * 2
