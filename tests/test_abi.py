# SPDX-License-Identifier: MIT
"""Layouts are packed as the target has them, on any host; names are the kernel's own."""

from __future__ import annotations

import struct as pystruct
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.abi import (
    Abi,
    Field,
    LayoutError,
    Struct,
    Structs,
    known_family,
    known_names,
    known_structs,
    known_syscalls,
)
from lab.arch import X86_64, Architecture
from lab.errors import UsageError

BIG = replace(X86_64, name="s390x", byteorder="big")
NARROW = replace(X86_64, name="armv7l", word=4)

INNER = Struct("inner", 8, (Field("a", 0, 4, "int"), Field("b", 4, 2, "uint")))
OUTER = Struct(
    "outer",
    40,
    (
        Field("name", 0, 8, "bytes", 8),
        Field("where", 8, 8, "pointer"),
        Field("pair", 16, 16, "array", 2, element=Field("", 0, 8, "struct", type=INNER)),
        Field("value", 32, 8, "uint"),
        Field("octets", 32, 8, "array", 8, element=Field("", 0, 1, "uint")),
    ),
)
TAIL = Struct(
    "tail", 4, (Field("n", 0, 4, "uint"), Field("v", 4, 0, "array", 0, element=Field("", 0, 2, "uint")))
)
BITS_LITTLE = Struct(
    "bits", 4, (Field("lo", 0, 4, "uint", bits=(0, 3)), Field("hi", 0, 4, "int", bits=(3, 7)))
)


def test_nested_dicts_lists_and_text() -> None:
    packed = OUTER.pack({"name": "abc", "where": 0x1122334455667788, "pair": [{"a": -2}, {"b": 3}]}, X86_64)
    wanted = pystruct.pack("<8sQiHxxiHxxQ", b"abc", 0x1122334455667788, -2, 0, 0, 3, 0)
    assert packed == wanted
    assert OUTER.pack({"value": 1}, BIG)[32:] == bytes(7) + b"\1"
    back = OUTER.unpack(packed, X86_64)
    assert back["name"] == b"abc\0\0\0\0\0"
    assert back["pair"] == [{"a": -2, "b": 0}, {"a": 0, "b": 3}]


def test_a_message_packed_before_goes_into_a_struct_field() -> None:
    holder = Struct("holder", 8, (Field("inner", 0, 8, "struct", type=INNER),))
    assert holder.pack({"inner": INNER.pack({"a": 7}, BIG)}, BIG) == holder.pack({"inner": {"a": 7}}, BIG)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"nmae": "x"}, "no field 'nmae'; did you mean 'name'?"),
        ({"name": "much too long"}, "outer.name has 8 bytes, 13 were given"),
        ({"name": 3}, "outer.name is a char array"),
        ({"value": 1 << 64}, "outer.value has 64 bits"),
        ({"value": "12"}, "outer.value is a number"),
        ({"pair": [{}, {}, {}]}, "outer.pair has 2 elements, 3 were given"),
        ({"pair": "ab"}, "outer.pair is an array"),
        ({"pair": [{"b": 70000}]}, "inner.b has 16 bits"),
        ({"pair": [3]}, "outer.pair[0] is a struct inner"),
        ({"value": 1, "octets": [1]}, "members of one union"),
    ],
)
def test_what_does_not_fit_is_named(values: dict[str, object], said: str) -> None:
    with pytest.raises(LayoutError, match=said.replace("[", r"\[").replace("?", r"\?")) as caught:
        OUTER.pack(values, X86_64)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, UsageError)


def test_minus_one_fills_an_unsigned_field() -> None:
    assert INNER.pack({"b": -1}, X86_64)[4:6] == b"\xff\xff"
    with pytest.raises(LayoutError):
        INNER.pack({"b": -32769}, X86_64)


def test_bit_fields_count_from_the_end_that_the_target_counts_from() -> None:
    values = {"lo": 5, "hi": -3}
    little = BITS_LITTLE.pack(values, X86_64)
    assert little == (5 | (-3 & 127) << 3).to_bytes(4, "little")
    big = BITS_LITTLE.pack(values, BIG)
    assert big == (5 << 29 | (-3 & 127) << 22).to_bytes(4, "big")
    assert BITS_LITTLE.unpack(little, X86_64) == BITS_LITTLE.unpack(big, BIG) == values
    with pytest.raises(LayoutError, match="lo has 3 bits"):
        BITS_LITTLE.pack({"lo": 8}, X86_64)


def test_a_flexible_array_member_makes_the_struct_longer() -> None:
    packed = TAIL.pack({"n": 3, "v": [1, 2, 3]}, X86_64)
    assert packed == pystruct.pack("<IHHH", 3, 1, 2, 3)
    assert TAIL.unpack(packed, X86_64) == {"n": 3, "v": [1, 2, 3]}
    assert TAIL.pack({"n": 0}, X86_64) == bytes(4)


def test_offsets_by_path() -> None:
    assert OUTER.offset_of("pair[1].b") == 28
    assert OUTER.offset_of("name[3]") == 3
    for path, said in {
        "pair[2].b": "behind its end",
        "pair[0].x": "no field 'x'",
        "value.x": "is no struct",
        "value[0]": "no array",
        "pair+1": "cannot read",
    }.items():
        with pytest.raises(LayoutError, match=said):
            OUTER.offset_of(path)


def test_too_little_data_is_refused() -> None:
    with pytest.raises(LayoutError, match="has 40 bytes, there are 39"):
        OUTER.unpack(bytes(39), X86_64)


@given(a=st.integers(-(1 << 31), (1 << 31) - 1), b=st.integers(0, 65535), arch=st.sampled_from([X86_64, BIG]))
def test_what_is_packed_comes_back(a: int, b: int, arch: Architecture) -> None:
    assert INNER.unpack(INNER.pack({"a": a, "b": b}, arch), arch) == {"a": a, "b": b}


@given(lo=st.integers(0, 7), hi=st.integers(-64, 63), arch=st.sampled_from([X86_64, BIG]))
def test_bit_fields_come_back(lo: int, hi: int, arch: Architecture) -> None:
    packed = BITS_LITTLE.pack({"lo": lo, "hi": hi}, arch)
    assert BITS_LITTLE.unpack(packed, arch) == {"lo": lo, "hi": hi}


def abi() -> Abi:
    return Abi(
        X86_64,
        constants={"EAGAIN": 11, "EWOULDBLOCK": 11, "ECHO": 8, "ENOEXEC": 8, "SIGTERM": 15, "SIGABRT": 6}
        | {"SIGIOT": 6, "SIGRTMIN": 32, "SIGRTMAX": 64, "SIG_IGN": 1},
        strings={"GENL_NAME": "nlctrl"},
        structs={"outer": OUTER, "tail": TAIL, "bits": BITS_LITTLE},
        syscalls={"read": 0},
    )


def test_json_keeps_everything() -> None:
    text = abi().to_json()
    back = Abi.from_json(text, X86_64)
    assert back.constants == abi().constants
    assert back.strings == abi().strings
    assert {name: back.structs[name] for name in back.structs} == dict(abi().structs)
    assert back.to_json() == text
    with pytest.raises(UsageError, match="x86_64's, not s390x's"):
        Abi.from_json(text, BIG)


def test_structs_may_have_two_names_and_use_each_other() -> None:
    structs = Structs({"a": [4, [["x", 0, 4, "int"]]], "a_t": "a", "b": [4, [["in", 0, 4, "struct", "a_t"]]]})
    assert structs["a_t"] is structs["a"]
    assert structs["b"]["in"].type is structs["a"]
    assert "c" not in structs
    with pytest.raises(KeyError):
        structs["c"]


def test_a_users_header_comes_before_the_systems() -> None:
    other = Abi(X86_64, constants={"EAGAIN": 12}, structs={"tail": INNER})
    both = abi().merged(other)
    assert both.constants["EAGAIN"] == 12
    assert both.structs["tail"] is INNER
    assert both.structs["outer"] is OUTER
    assert set(both.structs) == {"outer", "tail", "bits"}
    assert len(both.structs) == 3


def test_names_of_numbers_are_the_manual_pages() -> None:
    assert abi().errno_name(11) == "EAGAIN"
    assert abi().errno_name(8) == "ENOEXEC"  # not ECHO, a terminal flag of the same number
    assert abi().errno_name(512) == "ERESTARTSYS"
    assert abi().errno_name(4000) == "errno 4000"
    assert abi().signal_name(6) == "SIGABRT"
    assert abi().signal_name(32) == "SIGRTMIN"
    assert abi().signal_name(35) == "SIGRTMIN+3"
    assert abi().signal_name(65) == "signal 65"
    assert abi().syscall_name(0) == "read"
    assert abi().syscall_name(999) == "syscall 999"


def test_the_carried_names_cover_what_scenarios_say() -> None:
    words = "O_RDWR EAGAIN SIGRTMIN POLLIN EPOLLET PROT_READ MAP_SHARED NLM_F_ACK AF_UNIX SEEK_SET PAGE_SIZE"
    assert set(words.split()) <= known_names()
    assert {"read", "openat", "ioctl", "delete_module"} <= known_syscalls()
    assert known_structs()["pollfd"] == ("fd", "events", "revents")
    assert "SIG_IGN" not in known_family("signal")
    assert "ECHO" not in known_family("errno")
