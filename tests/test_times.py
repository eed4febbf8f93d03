# SPDX-License-Identifier: MIT
"""Clocks and the times of files: what is asked for, how it is read, written and shown."""

import struct
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lab.abi import Abi
from lab.abi.layout import Field, Struct
from lab.arch import ARMHF, S390X, X86_64, Architecture
from lab.guest import wire
from lab.language.context import Context
from lab.language.kinds import TimeKind
from lab.language.nodes import Mistakes
from lab.language.outcome import Bound
from lab.language.plan import Call
from lab.language.reading import Words
from lab.language.scope import Known, Scope
from lab.language.show import show
from lab.language.wish_reader import matcher
from lab.verbs import table
from lab.verbs.times import Clock

ARCHES = [X86_64, ARMHF, S390X]
STAMP = Struct("statx_timestamp", 16, (Field("tv_sec", 0, 8, "int"), Field("tv_nsec", 8, 4, "uint")))
PLAIN = ("mode", "size", "uid", "gid", "ino", "nlink", "blksize", "blocks", "rdev_major", "rdev_minor")
TIMES = ("atime", "mtime", "ctime", "btime")
STATX = Struct(
    "statx",
    8 + 8 * len(PLAIN) + 64,
    (
        Field("stx_mask", 0, 8, "uint"),
        *(Field(f"stx_{name}", 8 + 8 * at, 8, "uint") for at, name in enumerate(PLAIN)),
        *(Field(f"stx_{name}", 88 + 16 * at, 16, "struct", type=STAMP) for at, name in enumerate(TIMES)),
    ),
)
CONSTANTS = {"AT_FDCWD": -100, "STATX_BASIC_STATS": 0x7FF, "STATX_BTIME": 0x800}


def call(arch: Architecture) -> Call:
    syscalls = {"clock_gettime": 1, "utimensat": 2, "statx": 3}
    if arch.word == 4:
        syscalls |= {"clock_gettime64": 11, "utimensat_time64": 12}
    return Call(
        Context(Abi(arch, CONSTANTS, {}, {"statx": STATX}, syscalls)), wire.Program(arch), actor="main"
    )


def plan(made: Call, verb: str, *args: Any, **more: Any) -> Any:
    return table()[verb].signature.function(made, *args, **more)


def order(arch: Architecture) -> str:
    return "<" if arch.byteorder == "little" else ">"


def reply(value: int, *data: bytes) -> wire.Reply:
    return wire.Reply(calls=(wire.CallResult(value, 1),), data=data)


@pytest.mark.parametrize("arch", ARCHES, ids=lambda arch: arch.name)
def test_a_clock_is_read(arch: Architecture) -> None:
    made = call(arch)
    asked = plan(made, "clock", 5)
    ((_, operation), _) = made.program.operations
    assert operation.nr == (11 if arch.word == 4 else 1)  # type: ignore[union-attr]
    assert asked.decode(reply(0, struct.pack(order(arch) + "qq", 7, 8))).time == 7_000_000_008
    assert asked.decode(reply(-22, bytes(16))).time is None


@pytest.mark.parametrize("arch", ARCHES, ids=lambda arch: arch.name)
def test_times_are_set_and_what_is_not_given_stays(arch: Architecture) -> None:
    made = call(arch)
    plan(made, "utimensat", "/x", mtime=-1)
    data = [content for _, content in made.program.buffers]
    omit = (1 << 30) - 2
    assert struct.pack(order(arch) + "qqqq", 0, omit, -1, 999_999_999) in data
    made = call(arch)
    plan(made, "utimensat", "/x")
    assert len(made.program.buffers) == 1  # the path: NULL is that both are now


@pytest.mark.parametrize("arch", ARCHES, ids=lambda arch: arch.name)
@pytest.mark.parametrize("born", [0, 0x800])
def test_a_files_times_are_read(arch: Architecture, born: int) -> None:
    asked = plan(call(arch), "stat", "/x")
    mark = order(arch)
    data = struct.pack(f"{mark}11Q", 0x7FF | born, *range(10))
    data += b"".join(struct.pack(f"{mark}qI4x", second, 5) for second in (1, 2, -3, 4))
    got = asked.decode(reply(0, data))
    assert (got.atime, got.mtime, got.ctime) == (1_000_000_005, 2_000_000_005, -2_999_999_995)
    assert got.btime == (4_000_000_005 if born else None)


def composed(text: str) -> Any:
    return yaml.compose(text)


def scope() -> Scope:
    return Scope(Mistakes(Path("x.yaml")), Words(frozenset(), {}), verbs=table())


@given(st.integers(0, 1 << 33), st.sampled_from([("ns", 1), ("us", 10**3), ("ms", 10**6), ("s", 10**9)]))
def test_a_time_with_a_unit_is_exact(number: int, unit: tuple[str, int]) -> None:
    value = TimeKind().parse(composed(f"{number}{unit[0]}"), scope())
    assert value.resolve(Context(Abi(X86_64))) == number * unit[1]


@given(st.integers(0, 1 << 62), st.integers(-2, 2))
def test_a_time_is_compared_with_a_clocks(now: int, later: int) -> None:
    where = scope()
    where.bound["before"] = Known(verb="clock", line=1, outcome=Clock, owners={"main"})
    bound = Bound({"before": Clock(returns=0, time=now)})
    context = Context(Abi(X86_64), bindings=bound)
    for text, inside in (
        ("$before", later == 0),
        ("{min: $before}", later >= 0),
        ("{max: $before}", later <= 0),
        ("{min: $before+1}", later >= 1),
    ):
        wish = matcher(TimeKind(), composed(text), where)
        where.mistakes.raise_any()
        assert (not wish.check(now + later, "mtime", context)) == inside


def test_a_time_is_shown_as_a_date() -> None:
    context = Context(Abi(X86_64))
    assert show(1_700_000_000_000_000_005, TimeKind(), context) == (
        "1700000000000000005 (2023-11-14 22:13:20.000000005)"
    )
    assert show(1 << 80, TimeKind(), context) == str(1 << 80)
