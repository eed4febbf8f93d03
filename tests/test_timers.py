# SPDX-License-Identifier: MIT
"""Timers in a guest's memory: lists that are followed, words that are none, what is read where."""

from __future__ import annotations

import json
import struct
import textwrap
from dataclasses import replace
from typing import Any, ClassVar

import pytest

from lab.arch import ARCHITECTURES
from lab.guest import timers
from lab.guest.timers import Armed, Base, Part, Survey

LINEAR = 0xFFFF_8880_0000_0000
WHEEL, HIGH = LINEAR + 0x1000, LINEAR + 0x2000
TEXT = 0xFFFF_FFFF_8100_0000
MODULE = 0xFFFF_FFFF_C000_0000
TICK, WORK = TEXT + 0x100, TEXT + 0x200
SURVEY = Survey(
    bases=[Base(WHEEL, 0x800, high=False), Base(HIGH, 0x100, high=True)],
    parts=[Part(LINEAR, 0, 0x10000)],
    mapped=[(MODULE, 1 << 20)],
    text=(TEXT, TEXT + 0x10000),
    work=WORK,
    memory=0,
    high=5,
)


class Memory:
    """The guest's physical memory: words at addresses of the linear part."""

    def __init__(self, arch: str, words: dict[int, int]) -> None:
        self._order = "<" if ARCHITECTURES[arch].byteorder == "little" else ">"
        self._bytes = bytearray(0x10000)
        for address, word in words.items():
            struct.pack_into(f"{self._order}Q", self._bytes, address - LINEAR, word)

    def read(self, offset: int, size: int) -> bytes:
        return bytes(self._bytes[offset : offset + size])


def timer(at: int, slot: int, function: int, following: int = 0) -> dict[int, int]:
    return {slot: at, at: following, at + 8: slot, at + 16: 5000, at + 24: function}


def high(at: int, function: int, parent: int = 0, right: int = 0, left: int = 0) -> dict[int, int]:
    return {at: parent | 1, at + 8: right, at + 16: left, at + 40: function}


@pytest.fixture(params=["x86_64", "s390x"])
def arch(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def look(arch: str) -> Any:
    def look(words: dict[int, int], survey: Survey = SURVEY) -> dict[int, Armed]:
        memory: Any = Memory(arch, words)
        return timers.armed(survey, ARCHITECTURES[arch], memory)

    return look


def test_chains_and_trees_are_followed(look: Any) -> None:
    a, b, root, child = LINEAR + 0x4000, LINEAR + 0x4100, LINEAR + 0x5000, LINEAR + 0x5100
    words = timer(a, WHEEL + 0x70, TICK, following=b) | timer(b, a, TICK + 8)
    words |= {WHEEL + 0x70: a, HIGH + 0x20: root}
    words |= high(root, TICK, right=child) | high(child, TICK + 16, parent=root)
    found = look(words)
    assert {each.address: each.function for each in found.values()} == {
        a: TICK,
        b: TICK + 8,
        root: TICK,
        child: TICK + 16,
    }
    assert [each.what for each in found.values()] == ["timer", "timer", "hrtimer", "hrtimer"]


def test_a_delayed_work_is_known_by_what_it_does(look: Any) -> None:
    at = LINEAR + 0x4000
    found = look(timer(at, WHEEL + 8, WORK) | {at - 8: MODULE + 0x40})
    assert found == {at: Armed(at, MODULE + 0x40, "delayed work")}


def test_words_that_are_no_lists(look: Any) -> None:
    a = LINEAR + 0x4000
    words = {
        WHEEL: WHEEL + 0x10,  # into itself: a list that is empty
        WHEEL + 8: 1 << 41,  # bits, of which some are set
        WHEEL + 16: a,  # points to something that does not point back
        WHEEL + 24: a + 3,
        a + 8: WHEEL + 0x100,
        a + 24: TICK,
        HIGH: LINEAR + 0x6000,  # no root: it has a parent
        LINEAR + 0x6000: LINEAR + 0x6100,
    }
    assert look(words) == {}


def test_what_is_mapped_page_by_page_is_told_without_its_function(look: Any) -> None:
    armed = Armed(MODULE + 0x80, None, "timer", link=WHEEL + 8)
    assert look({WHEEL + 8: MODULE + 0x80}) == {MODULE + 0x80: armed}


class Guest:
    """Answers for /proc/kcore: memory by address, its header gives the address itself as the offset."""

    def __init__(self, there: dict[int, bytes]) -> None:
        self.there = there
        self.asked = 0


@pytest.fixture
def kcore(monkeypatch: pytest.MonkeyPatch) -> Any:
    def kcore(there: dict[int, bytes]) -> Guest:
        guest = Guest(there)

        def read(agent: Guest, _arch: object, pieces: list[tuple[int, int]]) -> list[bytes]:
            agent.asked += 1
            found, last = [], b""
            for at, size in pieces:
                data = next(
                    (d[at - a : at - a + size] for a, d in agent.there.items() if a <= at < a + len(d)), None
                )
                last = last if data is None else data  # a hole reads as what was read before, as on 5.10
                found.append(last)
            return found

        parts = {each: (each, 1 << 20, -1, each) for each in (MODULE, TEXT)}
        monkeypatch.setattr(timers, "_kcore", read)
        monkeypatch.setattr(timers, "_parts", lambda _header: parts)
        return guest

    return kcore


CODE = b"\xf3\x0f\x1e\xfa" * 8


def gone(guest: Any, armed: list[Armed], again: list[Armed] | None = None) -> list[Armed]:
    looks = [armed, armed if again is None else again]

    def look() -> dict[int, Armed]:
        return {each.address: each for each in (looks.pop(0) if len(looks) > 1 else looks[0])}

    return timers.dangling(look, SURVEY, ARCHITECTURES["x86_64"], guest, set())


def test_a_timer_of_the_kernels_is_well_and_nobody_is_asked(kcore: Any) -> None:
    guest = kcore({TEXT: CODE * 64})
    assert gone(guest, [Armed(LINEAR, TICK, "timer")]) == []
    assert guest.asked == 0


def test_a_timer_whose_code_is_there_is_well(kcore: Any) -> None:
    guest = kcore({TEXT: b"text" * 64, MODULE: CODE})
    assert gone(guest, [Armed(LINEAR, MODULE, "timer")]) == []


@pytest.mark.parametrize("left", [None, bytes(32), b"\xcc" * 32])
def test_a_timer_whose_code_has_gone_is_found(kcore: Any, left: bytes | None) -> None:
    guest = kcore({TEXT: b"text" * 64} | ({} if left is None else {MODULE: left}))
    armed = Armed(LINEAR, MODULE, "delayed work")
    assert gone(guest, [armed]) == [armed]


@pytest.mark.parametrize("left", [{}, {MODULE: bytes(256)}])
def test_a_timer_that_has_gone_itself_is_found(kcore: Any, left: dict[int, bytes]) -> None:
    guest = kcore({TEXT: b"text" * 64} | left)
    armed = Armed(MODULE + 64, None, "timer", link=WHEEL + 8)
    assert gone(guest, [armed]) == [armed]
    assert gone(guest, [armed], again=[]) == []  # it was on a stack, whose thread has woken meanwhile


@pytest.mark.parametrize(("what", "place"), [("timer", 2), ("hrtimer", 1)])
def test_a_timer_that_is_not_armed_any_more_is_well(kcore: Any, what: str, place: int) -> None:
    """A thread sleeps again and again: its timer is there when somebody looks, and not when it is read."""
    words = [0, 0, 0, 0, MODULE + 0x900, *[0] * 10]
    armed = Armed(MODULE + 64, None, what, link=WHEEL + 8)
    survey = replace(SURVEY, high=3)
    dangles = armed._replace(function=MODULE + 0x900)
    for link, found in ((0, []), (WHEEL + 8, [dangles])):
        words[place] = link
        stack = struct.pack("<15Q", *words)
        guest = kcore({TEXT: b"text" * 64, MODULE + 56: stack, MODULE + 0x900: bytes(32)})
        assert (
            timers.dangling(lambda: {armed.address: armed}, survey, ARCHITECTURES["x86_64"], guest, set())
            == found
        )


def test_a_timer_that_was_there_before_is_well(kcore: Any) -> None:
    guest = kcore({TEXT: b"text" * 64})
    known = replace(SURVEY, unreachable=[MODULE + 64])
    armed = {MODULE + 64: Armed(MODULE + 64, None, "timer")}
    assert timers.dangling(lambda: armed, known, ARCHITECTURES["x86_64"], guest, set()) == []


@pytest.mark.parametrize(("stacks", "once"), [([(MODULE, MODULE + 0x4000)], True), ([], False)])
def test_a_threads_timer_is_read_once(kcore: Any, stacks: list[tuple[int, int]], once: bool) -> None:
    """Only on a stack that all guests of a template have is it the same thread's in the next one."""
    armed = Armed(MODULE + 64, None, "timer", link=WHEEL + 8)
    stack = struct.pack("<15Q", 0, 0, WHEEL + 8, 0, TICK, *[0] * 10)
    survey, known = replace(SURVEY, stacks=stacks), set[int]()

    def look() -> tuple[list[Armed], int]:
        guest = kcore({TEXT: b"text" * 64, MODULE + 56: stack})
        arch = ARCHITECTURES["x86_64"]
        return timers.dangling(lambda: {armed.address: armed}, survey, arch, guest, known), guest.asked

    assert look()[1] > 0
    found, asked = look()
    assert not found
    assert (asked == 0) is once


@pytest.mark.parametrize("caller", ["kernel_clone+0x9e/0x3e0", "dup_task_struct+0x5b/0x1a0"])
def test_stacks_are_found(caller: str) -> None:
    class Guest:
        written: ClassVar[list[bytes]] = []

        def read_file(self, path: str, _timeout: float) -> bytes:
            if path.endswith("kptr_restrict"):
                return b"0\n"
            return (
                f"0x00000000a0000000-0x00000000a0005000   20480 {caller} pages=4 vmalloc N0=4\n"
                "0x00000000b0000000-0x00000000b0005000   20480 load_module+0x1/0x2 pages=4 vmalloc\n"
            ).encode()

        def write_file(self, _path: str, pieces: list[tuple[int, bytes]], _timeout: float) -> None:
            self.written.append(pieces[0][1])

    guest: Any = Guest()
    assert timers._stacks(guest) == [(0xA0000000, 0xA0005000)]
    assert guest.written == [b"1\n", b"0\n"]  # as it was


def test_where_a_kernel_has_them_is_kept() -> None:
    assert timers.unpacked(json.loads(json.dumps(SURVEY.packed()))) == SURVEY
    assert timers.unpacked({}) is None


KALLSYMS = """\
    0000000000022000 A timer_bases
    0000000000025000 A hrtimer_bases
    0000000000025280 A tick_cpu_device
    ffffffff81000000 T _stext
    ffffffff81800000 T _etext
    ffffffff81100000 T delayed_work_timer_fn
    ffffffff82000000 D __per_cpu_offset
"""


def test_symbols_and_their_sizes() -> None:
    text = textwrap.dedent(KALLSYMS)
    found = timers._symbols(text)
    assert found is not None
    assert found[1] == {"timer_bases": 0x3000, "hrtimer_bases": 0x280}
    assert timers._symbols(text.replace("timer_bases", "other_bases")) is None
