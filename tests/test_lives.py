# SPDX-License-Identifier: MIT
"""Guests in place: when a QEMU lives again, when it does not, and what is left is found."""

from __future__ import annotations

import mmap
import os
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from test_guest_argv import spec
from test_guest_pool import TEMPLATE, FakeGuest, FakePopen, House

from lab.errors import GuestLost, HostError
from lab.guest import lives, pool, qemu
from lab.guest.console import Console
from lab.guest.qmp import Qmp
from lab.guest.ram import CannotLook, overwritten

PAGE = mmap.PAGESIZE
MANY = 50


@dataclass(eq=False)
class Again:
    """A QEMU of several lives; `trouble` is raised by its next rewind."""

    popen: FakePopen = field(default_factory=FakePopen)
    closed: bool = False
    life: int = 1
    trouble: Exception | None = None
    pid: int = 0

    async def rewind_async(self, _state: Path) -> None:
        if self.trouble is not None:
            raise self.trouble
        self.life += 1

    def close(self) -> None:
        self.closed = True
        self.popen.ended = -9


class Places(House):
    """A house whose QEMUs can be rewound; `left`: what is found of a guest at the next looks."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(monkeypatch)
        self.left: list[int] = []
        self.looks = 0
        monkeypatch.setattr(pool, "_REWINDS", {})
        monkeypatch.setattr(lives, "overwritten", self.look)

    async def prepare(self, *_: Any, turns: bool) -> Any:
        del turns
        self.processes.append(Again())  # type: ignore[arg-type]  # it stands for a FakeProcess
        return self.processes[-1]

    def restore(self, process: Any, *_: Any, seed: bytes, jitter_us: int) -> FakeGuest:
        guest = super().restore(process, seed=seed, jitter_us=jitter_us)
        guest.hand_over = lambda: process  # type: ignore[attr-defined]
        return guest

    def look(self, *_: Any) -> list[int]:
        self.looks += 1
        return self.left


@pytest.fixture
def places(monkeypatch: pytest.MonkeyPatch) -> Places:
    return Places(monkeypatch)


def live(guests: pool.Pool, what: str) -> Any:
    guest = guests.take(what)
    guests.give_back(guest)
    return guest


def test_a_guest_that_was_well_is_followed_by_another_in_its_qemu(places: Places) -> None:
    with pool.Pool(TEMPLATE, spec()) as guests:
        seen = [live(guests, str(number)) for number in range(MANY)]
        assert len({id(guest.process) for guest in seen}) == 1
        assert seen[0].process.life >= MANY  # the last rewind is under way
        assert len({guest.seed for guest in seen}) == MANY
    assert len(places.processes) == 2  # the other one was ordered before it was known that none is needed
    assert all(process.closed for process in places.processes)
    assert 3 <= places.looks < MANY  # the first two, the last, and by chance
    assert not guests.notes
    assert not guests.doubted


def test_a_guest_that_was_not_given_back_has_no_follower(places: Places) -> None:
    with pool.Pool(TEMPLATE, spec()) as guests:
        first = guests.take("first")
        first.close()
        assert live(guests, "second").process is not first.process
    assert not places.looks


def test_a_guest_gets_the_same_seed_in_place_as_in_a_clone(places: Places) -> None:
    with pool.Pool(TEMPLATE, spec(), in_place=False) as guests:
        clones = [guests.take(name).seed for name in "abc"]  # type: ignore[attr-defined]  # FakeGuest
    assert not places.looks
    with pool.Pool(TEMPLATE, spec()) as guests:
        assert [live(guests, name).seed for name in "abc"] == clones


def test_a_qemu_that_does_not_know_how_is_asked_once(places: Places) -> None:
    del places
    unknown = HostError("QEMU refuses x-rewind: The command x-rewind has not been found")
    for _ in range(2):
        with pool.Pool(TEMPLATE, spec()) as guests:
            first = guests.take("a")
            first.process.trouble = unknown  # type: ignore[attr-defined]  # Again
            guests.give_back(first)
            assert guests.take("b").process is not first.process
        assert not guests.notes
    assert not pool._REWINDS[spec().qemu.digest]


def test_a_machine_that_cannot_says_why(places: Places) -> None:
    del places
    with pool.Pool(TEMPLATE, spec()) as guests:
        first = guests.take("a")
        first.process.trouble = HostError("QEMU refuses x-rewind: memory 'x' is shared")  # type: ignore[attr-defined]
        guests.give_back(first)
        guests.take("b")
        assert "each guest is a clone: QEMU refuses x-rewind: memory 'x' is shared" in guests.notes[0]


def test_a_qemu_that_dies_is_followed_by_a_clone(places: Places) -> None:
    with pool.Pool(TEMPLATE, spec()) as guests:
        first = live(guests, "a")
        again = guests.take("b")
        again.process.trouble = GuestLost("QEMU ended")  # type: ignore[attr-defined]  # Again
        guests.give_back(again)
        third = live(guests, "c")
        assert third.process is not first.process
        assert "could not be restored in place: QEMU ended" in guests.notes[0]
        assert live(guests, "d").process is third.process  # it goes on in place
    assert not guests.doubted
    assert all(process.closed for process in places.processes)


def test_what_is_left_of_a_guest_ends_it_and_casts_doubt_on_those_since_the_last_look(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lives, "_LOOK_EACH", 1 << 62)  # not by chance
    with pool.Pool(TEMPLATE, spec()) as guests:
        for name in "abcde":
            live(guests, name)
        places.left = [0x5000]
    # After the first guest and the second all was well; 'c' to 'e' began in what nobody looked at later.
    assert guests.doubted == ["c", "d", "e"]
    assert "differs from its template in 1 places, from 0x5000 on" in guests.notes[0]


def test_what_ran_in_a_qemu_that_ended_before_anybody_looked_is_doubted_too(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lives, "_LOOK_EACH", 1 << 62)
    with pool.Pool(TEMPLATE, spec()) as guests:
        for name in "abcde":
            live(guests, name)
        guests.take("f").close()  # it was not well
        live(guests, "g")
        monkeypatch.setattr(lives, "_LOOK_EACH", 1)  # well, but of another QEMU than c to f had
        live(guests, "h")
        places.left = [0x5000]
    assert guests.doubted == ["c", "d", "e", "f", "h"]


def test_a_qemu_is_looked_at_before_it_is_renewed(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lives, "_LOOK_EACH", 1 << 62)
    monkeypatch.setattr(lives, "MOST_LIVES", 6)
    with pool.Pool(TEMPLATE, spec()) as guests:
        for name in "abcdef":
            live(guests, name)
        places.left = [0x5000]
        guests.take("g")
    assert guests.doubted == ["c", "d", "e", "f"]


def test_what_is_left_is_found_at_once_at_first(places: Places) -> None:
    places.left = [0]
    with pool.Pool(TEMPLATE, spec()) as guests:
        first = live(guests, "a")
        assert live(guests, "b").process is not first.process
        assert live(guests, "c").process is not first.process
    assert places.looks == 1
    assert len(guests.notes) == 1


def test_a_qemu_is_renewed(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lives, "MOST_LIVES", 3)
    with pool.Pool(TEMPLATE, spec()) as guests:
        used = [live(guests, str(number)).process for number in range(7)]
    assert [used.count(process) for process in dict.fromkeys(used)] == [3, 3, 1]
    assert not guests.notes
    assert all(process.closed for process in places.processes)


def test_memory_of_its_own_is_known() -> None:
    before = lives.own_mib(os.getpid())
    block = bytearray(os.urandom(1)) * (64 << 20)
    assert 40 <= lives.own_mib(os.getpid()) - before <= 90
    assert len(block) == 64 << 20
    assert lives.own_mib(2**22 + 1) == 0


# --- looking at another process' memory


@pytest.fixture
def ram(tmp_path: Path) -> Path:
    path = tmp_path / "ram"
    path.write_bytes(os.urandom(64 * PAGE))
    return path


_CHILD = """
import mmap, sys
with open(sys.argv[1], "rb") as file:
    memory = mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
for word in sys.argv[2:]:
    at = int(word)
    memory[at] = memory[at] ^ 255
memory[60 * mmap.PAGESIZE] = memory[60 * mmap.PAGESIZE]  # a page of its own that is the same
print(memory[5] and "ready", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("pages", [[], [0], [63], [3, 4, 40]])
def test_pages_that_differ_are_found(ram: Path, pages: list[int]) -> None:
    words = [str(page * PAGE + 7) for page in pages]
    with subprocess.Popen(
        [sys.executable, "-c", _CHILD, ram, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert overwritten(child.pid, ram, range(0)) == [page * PAGE for page in pages]
        assert overwritten(child.pid, ram, range(3 * PAGE, 64 * PAGE)) == [
            page * PAGE for page in pages if page < 3
        ]
        child.kill()


def test_a_process_that_does_not_map_the_file_was_not_looked_at(ram: Path) -> None:
    with pytest.raises(CannotLook, match="has 0 bytes of"):
        overwritten(os.getpid(), ram, range(0))


# --- what a QEMU that lives again drops


class Monitor(Qmp):
    """Answers for QEMU."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Any]] = []
        self.events = []
        self._listener = None

    async def execute_async(self, command: str, arguments: Any = None) -> Any:
        self.asked.append((command, arguments))


@pytest.fixture
def process() -> Any:
    reading, writing = os.pipe()
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    stderr = os.memfd_create("stderr")
    made = qemu.Process(None, -1, ours, Console(reading), Monitor(), stderr, [])  # type: ignore[arg-type]
    made.writing, made.theirs = writing, theirs  # type: ignore[attr-defined]
    yield made
    os.close(writing)
    theirs.close()
    ours.close()
    os.close(stderr)
    made.console.close()


async def again(process: Any) -> None:
    await process.rewind_async(Path("/state"))


def test_what_was_under_way_is_dropped(process: Any) -> None:
    import asyncio

    os.write(process.writing, b"a line\nhalf a li")
    process.theirs.send(b"half a frame")
    process.qmp.events.append({"event": "STOP"})
    before = process.console
    asyncio.run(again(process))
    assert process.qmp.asked == [("x-rewind", {"filename": "/state"})]
    assert before.text().splitlines() == ["a line", "half a li"]  # can still be asked
    assert process.qmp.events == []
    with pytest.raises(BlockingIOError):
        process.agent.recv(1)
    os.write(process.writing, b"ne of another\n")
    process.console.drain()
    assert process.console.text() == "ne of another"
    asyncio.run(again(process))
    assert process.qmp.asked[1] == ("x-rewind", {})  # QEMU keeps the state
    assert process.life == 3


@pytest.mark.parametrize("event", ["GUEST_PANICKED", "SHUTDOWN"])
def test_trouble_after_a_guest_was_well_is_no_new_life(process: Any, event: str) -> None:
    import asyncio

    process.qmp.events.append({"event": event})
    with pytest.raises(HostError, match=f"after its end, a guest still had {event}"):
        asyncio.run(again(process))
