# SPDX-License-Identifier: MIT
"""What a round trip costs: rounds on a machine of our own, prices kept, compared and shown."""

from __future__ import annotations

import json
import struct
import textwrap
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from lab.abi import Abi
from lab.arch import RISCV64, S390X, X86_64, Architecture
from lab.cli import main
from lab.errors import UsageError
from lab.guest.answers import Actor
from lab.guest.layouts import NONE, Argument, ArgumentKind, OpAccess, OpCall, OpFetch
from lab.guest.rounds import LEAST, Rounds
from lab.guest.wire import CallResult, Fault, Op, Program, Reply, Result
from lab.house import HOUSE, TREES
from lab.kernels.tree import Trees
from lab.language import reader
from lab.measure import price_list
from lab.measure.price import _CODE, Disagree, agreed
from lab.measure.price_list import Prices
from lab.measure.trip import TripFailed, instructions
from lab.pages import channels
from lab.run.session import Session
from lab.verbs import table

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lab.scenario import ScenarioFile, Trip

TARGETS = ("5.10-x86_64", "6.12-x86_64", "7.3-x86_64", "6.12-arm64", "6.12-s390x")
CLOCK, READ, WRITE, OPEN, SCHEDULER, LSEEK = 228, 0, 1, 257, 144, 8
CONSTANTS = {"AT_FDCWD": -100, "O_RDWR": 2, "EIO": 5, "SEEK_SET": 0}
SYSCALLS = {
    "clock_gettime": CLOCK,
    "read": READ,
    "write": WRITE,
    "openat": OPEN,
    "sched_setscheduler": SCHEDULER,
    "lseek": LSEEK,
}
COSTS = {READ: 700, WRITE: 300, OPEN: 5000, SCHEDULER: 900, CLOCK: 250, LSEEK: 40}
TRIP = """\
about: write and read
bytes: [2, 5]
ready: [{open: /dev/x, flags: O_RDWR, as: dev}]
steps:
  - {write: $dev, data: {random: $bytes, id: a}, expect: {returns: $bytes}}
  - {read: $dev, size: $bytes, expect: {data: {random: $bytes, id: a}}}
"""


def read(tmp_path: Path, trip: str) -> ScenarioFile:
    """Return a scenario file whose trip this is."""
    path = tmp_path / "x.yaml"
    text = textwrap.indent(textwrap.dedent(trip), "  ")
    path.write_text(f"channel: x\ntrip:\n{text}\nscenarios: [{{name: n, steps: [open: /x]}}]\n")
    return reader.load(path, root=tmp_path, verbs=table(), trees=Trees.of(tmp_path / "kmod"))


# --- rounds -------------------------------------------------------------------------------------------


class Machine:
    """An agent that does programs, on a clock of its own: what each call costs is known."""

    def __init__(self, arch: Architecture = X86_64, tick: int = 1) -> None:
        self.arch = arch
        self.tick = tick  # nanoseconds between two values of the clock
        self.now = 1_999_999_000
        self.done: list[int] = []  # the numbers of the calls made
        self.stored = b""
        self.interrupts: set[int] = set()  # which of them take 5000 more
        self.wrong: Callable[[int, int], int | None] = lambda _count, _nr: None
        self.exits: list[Any] = []
        self._order = "<" if arch.byteorder == "little" else ">"
        self._memory: list[bytearray] = []

    def spawn(self, name: str, **_: Any) -> Actor:
        return Actor(name, 1, 101, 101)

    def messages(self) -> list[Any]:
        return []

    def reap(self, timeout: float) -> list[Any]:
        return []

    def deadline(self, seconds: float) -> Callable[[], float]:
        return lambda: seconds

    def submit(self, actor: str, program: Program) -> Reply:
        return self.run(actor, program, timeout=1)

    def finish(self, pending: Reply, *, within: float | None, timeout: float) -> Reply:
        return pending

    def run(self, actor: str, program: Program, *, timeout: float) -> Reply:
        program.encode()
        self._memory = [bytearray(data.ljust(buffer.size, b"\0")) for buffer, data in program.buffers]
        calls: list[CallResult] = []
        data: list[bytes] = []
        for op, what in program.operations:
            if isinstance(what, OpCall):
                arguments = [self._value(each, calls) for each in what.args]
                calls.append(CallResult(self._call(what.nr, arguments), 1))
            elif isinstance(what, OpFetch):
                size = what.size if what.clip == NONE else min(what.size, max(calls[what.clip].value, 0))
                data.append(bytes(self._memory[what.buffer][what.offset : what.offset + size]))
            elif isinstance(what, OpAccess):
                self.now += 2000 + 3 * what.size
                if op is Op.LOAD:
                    data.append(self.stored[: what.size].ljust(what.size, b"\0"))
                elif what.size > 1:
                    self.stored = what.data[: what.size]
        return Reply(calls=tuple(calls), data=tuple(data))

    def _value(self, given: Argument, calls: list[CallResult]) -> tuple[int, int]:
        """Return an argument: a buffer and an offset there, or -1 and a number."""
        if given.kind == ArgumentKind.BUFFER:
            return given.index, given.value
        return -1, calls[
            given.index
        ].value + given.value if given.kind == ArgumentKind.RESULT else given.value

    def _call(self, nr: int, arguments: list[tuple[int, int]]) -> int:
        self.done.append(nr)
        self.now += COSTS[nr] + (5000 if len(self.done) in self.interrupts else 0)
        wrong = self.wrong(len(self.done), nr)
        if wrong is not None:
            return wrong
        if nr == CLOCK:
            (buffer, at), shown = arguments[1], self.now // self.tick * self.tick
            stamp = struct.pack(f"{self._order}qq", *divmod(shown, 1_000_000_000))
            self._memory[buffer][at : at + 16] = stamp
        elif nr == WRITE:
            size = arguments[2][1]
            self.stored = bytes(self._memory[arguments[1][0]][:size])
            return size
        elif nr == READ:
            memory, size = self._memory[arguments[1][0]], min(arguments[2][1], len(self.stored))
            memory[:size] = self.stored[:size]
            return size
        return {OPEN: 3, LSEEK: arguments[0][1]}.get(nr, 0)


def price(machine: Machine, trip: Trip) -> int:
    abi = Abi(machine.arch, CONSTANTS, {}, {}, SYSCALLS)
    session = Session(machine, abi, arch=machine.arch, modules={}, verbs=table())  # type: ignore[arg-type]
    return instructions(session, trip)


@pytest.mark.parametrize("arch", [X86_64, S390X], ids=lambda arch: arch.byteorder)
def test_a_round_costs_what_its_calls_cost(tmp_path: Path, arch: Architecture) -> None:
    machine = Machine(arch)
    assert price(machine, read(tmp_path, TRIP).trips[0]) == COSTS[WRITE] + COSTS[READ]
    assert machine.done[:2] == [OPEN, SCHEDULER]


def test_an_interrupt_is_not_in_the_price(tmp_path: Path) -> None:
    machine = Machine()
    machine.interrupts = set(range(40, 2000, 300))
    assert price(machine, read(tmp_path, TRIP).trips[0]) == COSTS[WRITE] + COSTS[READ]


def test_a_coarse_clock_is_good_to_a_hundredth(tmp_path: Path) -> None:
    machine = Machine(RISCV64, tick=100)
    assert price(machine, read(tmp_path, TRIP).trips[0]) == pytest.approx(1000, rel=0.01)


def test_what_comes_in_every_fifth_round_is_in_the_price(tmp_path: Path) -> None:
    machine = Machine()
    machine.interrupts = set(range(0, 5000, 15))  # a round is three calls, one of them a look
    assert price(machine, read(tmp_path, TRIP).trips[0]) == pytest.approx(2000, rel=0.04)


def test_surviving_a_fault_is_not_in_the_price(tmp_path: Path) -> None:
    text = """\
    about: store and load
    bytes: 64
    steps:
      - {store: 4096, data: {random: 64, id: a}}
      - {load: 4096, size: 64, expect: {data: {random: 64, id: a}}}
    """
    assert price(Machine(), read(tmp_path, text).trips[0]) == 2 * 63 * 3


@pytest.mark.parametrize(
    ("nr", "value", "told"),
    [
        (READ, -5, "read failed: EIO"),
        (WRITE, 1, "write: returns not as wanted"),
        (READ, 1, "[2] in each round"),
    ],
)
def test_a_round_that_fails_is_no_price(tmp_path: Path, nr: int, value: int, told: str) -> None:
    machine = Machine()
    # Once, in the middle of a program's rounds.
    machine.wrong = lambda count, made: value if 100 <= count < 103 and made == nr else None
    with pytest.raises(TripFailed, match="in round") as caught:
        price(machine, read(tmp_path, TRIP).trips[0])
    assert told in str(caught.value)
    assert "x.yaml:" in str(caught.value)


def test_rounds_keep_each_step_to_its_own(tmp_path: Path) -> None:
    first, second = Program(X86_64), Program(X86_64)
    text = first.buffer(b"abc")
    size = first.call(WRITE, 3, text, 3)
    first.fetch(text)
    room = second.buffer(b"", 8)
    asked = second.call(LSEEK, 2)
    second.fetch(room, up_to_call=second.call(READ, 3, room, Result(asked)))
    made = Rounds(X86_64, [first, second], CLOCK)
    machine = Machine()
    rounds = made.replies(machine.run("main", made, timeout=1))
    assert len(rounds) >= LEAST
    for one, two in rounds:
        assert ([call.value for call in one.calls], one.data, size) == ([3], (b"abc",), 0)
        assert ([call.value for call in two.calls], two.data) == ([2, 2], (b"ab",))
    looks, spans = made.times(machine.run("main", made, timeout=1))
    assert set(looks) == {250}
    assert set(spans) == {300 + 40 + 700 + 250}


def test_what_cannot_be_repeated_is_refused() -> None:
    program = Program(X86_64)
    program.exit(0)
    with pytest.raises(UsageError, match="exit cannot be done in rounds"):
        Rounds(X86_64, [program], CLOCK)
    program = Program(X86_64)
    program.load(0, 100_000)
    with pytest.raises(UsageError, match="than an actor has room for"):
        Rounds(X86_64, [program], CLOCK)


def test_a_fault_of_one_round_is_everybodys() -> None:
    program = Program(X86_64)
    program.call(LSEEK, 2)
    made = Rounds(X86_64, [program], CLOCK)
    reply = Machine().run("main", made, timeout=1)
    broken = Reply(reply.calls, reply.data, Fault(11, 1, 0, "load"))
    assert all(each.fault is not None for one in made.replies(broken) for each in one)


def counted(*prices: int) -> Callable[[int], int]:
    return lambda number: prices[number]


def test_guests_have_to_agree() -> None:
    assert agreed(counted(1000, 1010)) == 1005
    assert agreed(counted(1000, 1011, 1500, 1002, 1004)) == 1006  # without the least and the most of five
    with pytest.raises(Disagree, match=r"do not agree: 1,000, 1,011, 1,022, 1,033, 1,044"):
        agreed(counted(1000, 1022, 1011, 1044, 1033))


# --- kept and compared --------------------------------------------------------------------------------


def prices(**trips: dict[int, int]) -> dict[str, Prices]:
    return {"6.12-x86_64": Prices("6.12.1-amd64", "10.0.1", trips)}


@pytest.mark.parametrize(("now", "told"), [(10_199, False), (10_200, True), (9_800, True), (9_801, False)])
def test_a_change_of_two_in_a_hundred_is_told(now: int, told: bool) -> None:
    found = list(price_list.changes(prices(x={64: 10_000}), prices(x={64: now}, new={1: 5})))
    assert bool(found) is told
    if now == 10_200:
        assert str(found[0]) == ("6.12-x86_64: x, 64 bytes: 10,000 instructions before, 10,200 now (+2.0 %)")


def test_prices_are_kept_beside_older_ones(tmp_path: Path) -> None:
    path = tmp_path / "price.json"
    price_list.write(path, prices(x={64: 1, 4096: 2}))
    price_list.write(path, {"6.12-arm64": Prices("6.12.1-arm64", "10.0.1", {"x": {64: 3}}, {"y": "no"})})
    price_list.write(path, {"5.10-x86_64": Prices("5.10", "10.0.1"), **prices(y={8: 4})})
    found = price_list.read(path)
    assert list(found) == ["5.10-x86_64", "6.12-x86_64", "6.12-arm64"]
    assert found["6.12-x86_64"].trips == {"x": {64: 1, 4096: 2}, "y": {8: 4}}
    assert found["6.12-arm64"].unsupported == {"y": "no"}
    # Prices of two kernels are not mixed.
    price_list.write(path, {"6.12-x86_64": Prices("6.12.2-amd64", "10.0.1", {"x": {64: 9}})})
    assert price_list.read(path)["6.12-x86_64"].trips == {"x": {64: 9}}


def test_a_file_that_holds_no_prices_is_told(tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_text(json.dumps({"targets": {"6.12-x86_64": {"trips": 5}}}))
    with pytest.raises(UsageError, match="holds no prices"):
        price_list.read(path)
    assert price_list.read(tmp_path / "none.json") == {}


def test_the_cheapest_come_first_and_the_larger_say_how_much_a_byte_is(tmp_path: Path) -> None:
    file = read(tmp_path, TRIP)
    page = channels.channels_page([file], prices(x={2: 1_000, 5: 1_010}))
    assert "| [x](#x) | write and read | 2 | 1,000 |\n|  |  | 5 | 1,010 (202 a byte) |\n" in page
    assert "Counted by QEMU 10.0.1: 6.12-x86_64 is 6.12.1-amd64.\n" in page
    assert "What a round trip costs" not in channels.channels_page([file])


@cache
def files() -> list[ScenarioFile]:
    house = HOUSE
    return [
        reader.load(path, root=house, verbs=table(), trees=TREES)
        for path in sorted((house / "scenarios").glob("*.yaml"))
    ]


def test_every_trip_has_a_price_or_says_why_not() -> None:
    known = price_list.read(channels.PRICES)
    assert set(known) >= set(TARGETS)
    wanted = {(file.channel, trip.bytes) for file in files() for trip in file.trips}
    for target in TARGETS:
        each = known[target]
        there = {(channel, amount) for channel, trips in each.trips.items() for amount in trips}
        assert {pair for pair in wanted ^ there if pair[0] not in each.unsupported} == set(), target
        assert all(price > 0 for trips in each.trips.values() for price in trips.values())


@pytest.mark.parametrize("name", TARGETS)
def test_the_prices_bear_out_what_the_page_says(name: str) -> None:
    trips = price_list.read(channels.PRICES)[name].trips
    files_ = [trips[each][4096] for each in ("chardev", "debugfs", "procfs", "ioctl")]
    assert trips["mmap"][4096] < min(files_) / 4
    assert max(files_) < 1.1 * min(files_)
    assert trips["ioctl"][16] < min(trips["sysfs"][2], trips["sysctl"][2], trips["configfs"][31])
    assert min(trips["netlink"][64], trips["genetlink"][64]) > 2 * trips["chardev"][64]
    assert min(trips["tty"][1], trips["signal_to_kthread"][4]) > 2 * trips["chardev"][64]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--channel", "chardef"], "no channel is called 'chardef'"),
        (["--channel", "upcall"], "upcall has no round trip: it takes a second program"),
        (["--write", "--against", "pyproject.toml"], "--write keeps"),
        (["--against", "pyproject.toml"], "holds no prices"),
    ],
)
def test_a_mistake_on_the_command_line_is_told(words: list[str], told: str) -> None:
    done = CliRunner().invoke(main, ["price", *words])
    assert done.exit_code != 0
    assert told in done.output


def test_what_decides_a_price_is_there() -> None:
    assert [one for one in _CODE if not list((HOUSE / "lab").glob(one))] == []
