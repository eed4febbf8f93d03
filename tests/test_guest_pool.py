# SPDX-License-Identifier: MIT
"""Templates and pools with everything that would start a QEMU replaced."""

import json
import os
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from test_guest_argv import spec

from lab.errors import BootFailed, GuestLost, HostError
from lab.guest import accel, pool, template
from lab.guest.argv import BootSpec
from lab.guest.ram import ram_digest
from lab.progress import Progress
from lab.settings import load
from lab.store.cache import Cache, file_digest


@dataclass
class FakePopen:
    ended: int | None = None

    def poll(self) -> int | None:
        return self.ended


@dataclass(eq=False)
class FakeProcess:
    popen: FakePopen = field(default_factory=FakePopen)
    closed: bool = False

    def close(self) -> None:
        self.closed = True
        self.popen.ended = -9


@dataclass
class FakeGuest:
    process: Any
    seed: bytes
    restored: bool = True
    closed: bool = False
    remark: str = ""

    def alive(self) -> bool:
        return not self.closed

    def close(self) -> None:
        self.closed = True


class House:
    """Counts what a pool starts; `broken`: how many of the next restores fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.processes: list[FakeProcess] = []
        self.boots = 0
        self.broken = 0
        self.unprepared = 0
        self.turns = False
        monkeypatch.setattr(pool, "prepare_async", self.prepare)
        monkeypatch.setattr(pool, "restore", self.restore)
        monkeypatch.setattr(pool, "boot", self.boot)
        monkeypatch.setattr(pool, "available_mib", lambda: 8192)

    async def prepare(self, *_: Any, turns: bool) -> FakeProcess:
        self.turns = turns
        if self.unprepared:
            self.unprepared -= 1
            raise HostError("no QEMU")
        self.processes.append(FakeProcess())
        return self.processes[-1]

    def restore(self, process: FakeProcess, *_: Any, seed: bytes, jitter_us: int) -> FakeGuest:
        assert jitter_us >= 0
        if self.broken:
            self.broken -= 1
            process.close()
            raise GuestLost("died on the way")
        return FakeGuest(process, seed)

    def boot(self, _spec: BootSpec, **_: Any) -> FakeGuest:
        self.boots += 1
        return FakeGuest(None, b"", restored=False)


@pytest.fixture
def house(monkeypatch: pytest.MonkeyPatch) -> House:
    return House(monkeypatch)


def facts(**changes: Any) -> template.Facts:
    known = template.Facts("00", 2.0, 0.01, time.time(), 4096, "", "", "6.12", ["qemu"], kernel_stub=False)
    return replace(known, **changes)


TEMPLATE = template.Template(Path("/t"), facts())


def test_clones_are_made_ahead_and_nothing_stays(house: House) -> None:
    with pool.Pool(TEMPLATE, spec(), waiting=2, seed=1) as guests:
        taken = [guests.take() for _ in range(3)]
        assert all(guest.restored for guest in taken)
    assert len(house.processes) == 5  # three taken, two waiting
    assert sum(process.closed for process in house.processes) == 2
    assert all(guest.closed for guest in taken)  # type: ignore[attr-defined]  # FakeGuest
    assert guests.notes == []


def test_the_seed_and_the_use_decide_the_entropy(house: House) -> None:
    del house
    seeds = []
    for run_seed, uses in ((1, "ab"), (1, "b"), (2, "b")):
        with pool.Pool(TEMPLATE, spec(), seed=run_seed) as guests:
            seeds.append([guests.take(use).seed for use in uses][-1])  # type: ignore[attr-defined]  # FakeGuest
    assert seeds[0] == seeds[1] != seeds[2]


def test_one_clone_that_dies_says_nothing(house: House) -> None:
    with pool.Pool(TEMPLATE, spec()) as guests:
        house.broken = 1
        assert guests.take().restored
        assert not guests.notes
    assert house.boots == 0


def test_two_in_a_row_turn_to_cold_boots_said_once(house: House) -> None:
    with pool.Pool(TEMPLATE, spec()) as guests:
        house.broken = 2
        assert not guests.take().restored
        assert not guests.take().restored
        assert guests.cold
        assert len(guests.notes) == 1
        assert "died on the way" in guests.notes[0]
    assert house.boots == 2
    assert all(process.closed for process in house.processes)


def test_a_qemu_that_cannot_be_started_ahead(house: House) -> None:
    house.unprepared = 1
    with pool.Pool(TEMPLATE, spec()) as guests:
        assert guests.take().restored


def test_a_waiting_qemu_that_somebody_killed(house: House) -> None:
    with pool.Pool(TEMPLATE, spec()) as guests:
        while not house.processes:
            time.sleep(0.001)
        house.processes[0].popen.ended = -9
        guest: Any = guests.take()
        assert guest.restored
        assert guest.process is house.processes[1]
        assert len(house.processes) >= 2
        assert not guests.notes


def test_cold_on_request_boots_without_a_word(house: House) -> None:
    with pool.Pool(TEMPLATE, spec(), cold=True) as guests:
        assert not guests.take().restored
    assert (house.boots, house.processes, guests.notes) == (1, [], [])


def test_a_template_that_failed_its_self_check_is_not_used(house: House) -> None:
    refused = replace(TEMPLATE, facts=facts(refused="another nonce"))
    with pool.Pool(refused, spec()) as guests:
        assert not guests.take().restored
    assert "another nonce" in guests.notes[0]
    assert not house.processes


def test_memory_decides_how_many_wait(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "available_mib", lambda: 250)
    with pool.Pool(TEMPLATE, spec(), waiting=2) as guests:
        assert guests.take().restored
        assert "250 MiB" in guests.notes[0]
    assert len(house.processes) == 1


def test_available_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 8388608 kB\nMemAvailable: 4194304 kB\n")
    values = {"memory.max": ["max"], "memory.current": ["1"]}
    monkeypatch.setattr(pool, "cgroup_values", lambda name: values[name])
    assert pool.available_mib(meminfo) == 4096
    values.update({"memory.max": [str(1 << 30)], "memory.current": [str(600 << 20)]})
    assert pool.available_mib(meminfo) == 424
    assert pool.available_mib(tmp_path / "none") == 424


# Templates


def test_a_template_is_renewed_by_age_and_not_all_at_once() -> None:
    age, now = 1000.0, 1_000_000.0
    keys = {template.key_of(spec(), now + step, age=age) for step in range(0, 2000, 10)}
    assert len(keys) == 3 or len(keys) == 2
    assert template.key_of(spec(cpus=1), now) != template.key_of(spec(), now)


def fake_template(path: Path) -> None:
    path.mkdir(exist_ok=True)
    ram = path / "ram"
    ram.write_bytes(bytes(1 << 20) + b"x" + bytes((1 << 20) - 1))
    (path / "state").write_bytes(b"state")
    known = facts(
        ram_bytes=2 << 20,
        ram_digest=ram_digest(ram, thin=False),
        state_digest=file_digest(path / "state"),
    )
    (path / "template.json").write_text(json.dumps(asdict(known)))


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def making(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    made: list[Path] = []

    def make(_spec: BootSpec, building: Path, *_: Any) -> None:
        fake_template(building)
        made.append(building)

    monkeypatch.setattr(template, "_make", make)
    return made


def test_a_template_is_made_once(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    made = making(monkeypatch)
    first = template.template(spec(), cache, Progress(quiet=True))
    assert template.template(spec(), cache, Progress(quiet=True)) == first
    assert first.nonce == b"\0"
    assert len(made) == 1


@pytest.mark.parametrize("harm", ["short ram", "other state", "no manifest", "foreign manifest", "other ram"])
def test_a_damaged_template_is_made_again(harm: str, cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    made = making(monkeypatch)
    found = template.template(spec(), cache, Progress(quiet=True))
    match harm:
        case "short ram":
            os.truncate(found.ram, 4096)
        case "other state":
            found.state.write_bytes(b"stale")
        case "no manifest":
            (found.path / "template.json").unlink()
        case "foreign manifest":
            (found.path / "template.json").write_text('{"version": 7}')
        case _:
            found.ram.write_bytes(bytes(2 << 20))
            key = template.key_of(spec(), time.time())
            cache.forget(f"template-verified-{key}")
    again = template.template(spec(), cache, Progress(quiet=True))
    assert len(made) == 2
    assert template.load(again.path) is not None


def test_a_failed_boot_is_remembered_for_a_while(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    boots = []

    def boot(*_: Any, **__: Any) -> None:
        boots.append(1)
        raise BootFailed("no agent", "VFS: Unable to mount root fs")

    monkeypatch.setattr(template, "boot", boot)
    for _ in range(3):
        with pytest.raises(BootFailed, match="no agent") as error:
            template.template(spec(), cache, Progress(quiet=True))
        assert "Unable to mount" in error.value.console
    assert len(boots) == 1
    assert "seen" in str(error.value)
    name = f"boot-failed-{spec().key()}"
    known = cache.recall(name)
    assert known is not None
    cache.remember(name, known | {"time": time.time() - template.FAILED_SECONDS - 1})
    with pytest.raises(BootFailed):
        template.template(spec(), cache, Progress(quiet=True))
    assert len(boots) == 2
    with pytest.raises(BootFailed):  # another kernel is another matter
        template.template(spec(initrd_digest="other"), cache, Progress(quiet=True))
    assert len(boots) == 3


# Accelerators


def test_tcg_on_request_is_not_tried(cache: Cache) -> None:
    settings = load({}, {"CHANLAB_ACCEL": "tcg"}, apt=Path("/none"))
    answer = accel.accelerator(settings, spec(), cache, Progress(quiet=True))
    assert answer.name == "tcg"


@pytest.mark.parametrize(
    ("device", "machine", "words"),
    [
        ("/none/kvm", "x86_64", "no /none/kvm"),
        ("/proc/1", "x86_64", "cannot be opened"),
        ("/dev/null", "aarch64", "arm64 guests"),
        ("/dev/null", "x86_64", ""),
    ],
)
def test_where_kvm_is_out_of_the_question(device: str, machine: str, words: str) -> None:
    why = accel.unusable(spec(), device, machine)
    assert words in why
    assert bool(why) == bool(words)


@pytest.mark.parametrize("works", [True, False])
def test_kvm_is_tried_once(works: bool, cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def boot(kvm: BootSpec, **_: Any) -> FakeGuest:
        tried.append(kvm.accel)
        if not works:
            raise BootFailed("it hung", "")
        return FakeGuest(None, b"")

    monkeypatch.setattr(accel, "boot", boot)
    monkeypatch.setattr(accel, "unusable", lambda _spec: "")
    settings = load({}, {}, apt=Path("/none"))
    answers = {accel.accelerator(settings, spec(), cache, Progress(quiet=True)) for _ in range(3)}
    assert tried == ["kvm"]
    (answer,) = answers
    assert answer.name == ("kvm" if works else "tcg")
    assert works or "it hung" in answer.why
    forced = load({}, {"CHANLAB_ACCEL": "kvm"}, apt=Path("/none"))
    if works:
        assert accel.accelerator(forced, spec(), cache, Progress(quiet=True)) == answer
    else:
        with pytest.raises(HostError, match="it hung"):
            accel.accelerator(forced, spec(), cache, Progress(quiet=True))


@pytest.mark.parametrize("turns", [False, True])
def test_a_pool_says_whether_cpus_may_take_turns(house: House, *, turns: bool) -> None:
    with pool.Pool(TEMPLATE, spec(), turns=turns) as guests:
        guests.take()
    assert house.turns is turns
