# SPDX-License-Identifier: MIT
"""What the lab does where modules cannot be loaded ahead, and with a guest that was begun early."""

from __future__ import annotations

import io
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from test_guest_argv import spec
from test_guest_pool import TEMPLATE

from lab.errors import CacheError, GuestHung, LabError, Unsupported, UsageError
from lab.guest import loaded
from lab.house import WISHES
from lab.progress import Progress
from lab.run.lab import Lab
from lab.run.ready import Ready
from lab.scenario import BootOptions, ModuleLoad, Scenario
from lab.settings import load
from lab.store.cache import Cache

QUIET = Progress(io.StringIO(), quiet=True)
MODULES = (ModuleLoad("lab_core"),)


@pytest.fixture
def ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return what tries to load ahead and meets an error (None: loading is refused), and gives the notes."""
    house = Lab(load({"CHANLAB_CACHE": str(tmp_path)}), WISHES, QUIET)
    base, kind = SimpleNamespace(refused=""), SimpleNamespace(name="6.12-x86_64")
    parts = SimpleNamespace(images={"lab_core": b"image"})

    def meet(error: LabError | None) -> list[str]:
        def fail(*_: Any) -> None:
            if error is not None:
                raise error

        monkeypatch.setattr(loaded, "loaded", fail)
        assert house._loaded(base, kind, parts, MODULES) is None  # type: ignore[arg-type]  # all that is used
        return list(house._notes)

    return meet


def test_modules_that_are_refused_are_left_to_the_scenarios_without_a_word(ahead: Any) -> None:
    assert ahead(None) == []


def test_that_each_scenario_loads_for_want_of_a_template_is_told_with_the_reason(ahead: Any) -> None:
    assert ahead(GuestHung("the agent did not answer")) == [
        "6.12-x86_64: each scenario loads its modules itself: the agent did not answer"
    ]


def test_a_full_disk_is_an_error(ahead: Any) -> None:
    with pytest.raises(CacheError, match="no space"):
        ahead(CacheError("no space left"))


def test_a_module_that_there_is_not_is_one_scenarios_mistake(tmp_path: Path) -> None:
    house: Any = Lab(load({"CHANLAB_CACHE": str(tmp_path)}), WISHES, QUIET)
    made: list[Any] = []

    def loads(modules: Any) -> Any:
        if "nosuch" in {module.name for module in modules}:
            raise UsageError("no module 'nosuch'")
        return modules

    parts = SimpleNamespace(
        loads=loads,
        cover=lambda *_: None,
        check=lambda _: None,
        modules=SimpleNamespace(failed={}, excluded={}),
        images={},
    )
    house.target = lambda _: parts
    house.pool = lambda *_, **__: made.append("pool")
    good = Scenario("a", "a", Path("a.yaml"), 1, "a", modules=MODULES)
    bad = replace(good, modules=(ModuleLoad("nosuch"),))
    for _ in range(2):
        with pytest.raises(UsageError, match="nosuch"):
            house.ready("6.12", bad)
        house.ready("6.12", good)
    assert made == ["pool", "pool"]


def test_a_module_that_is_not_for_a_kernel_is_unsupported_there(tmp_path: Path) -> None:
    house: Any = Lab(load({"CHANLAB_CACHE": str(tmp_path)}), WISHES, QUIET)
    built = SimpleNamespace(failed={}, excluded={"old": "its dkms.conf has so"}, names=["old", "mine"])
    parts = SimpleNamespace(
        loads=lambda modules: modules,
        cover=lambda *_: None,
        check=lambda _: None,
        modules=built,
        shipped={"dummy"},
        images={},
    )
    house.target = lambda _: parts
    house.pool = lambda *_, **__: None
    house.elsewhere = dict.fromkeys(("new", "mine", "dummy"), "its dkms.conf has it for 6.1")

    def ready(name: str) -> None:
        house.ready("6.12", Scenario("a", "a", Path("a.yaml"), 1, "a", modules=(ModuleLoad(name),)))

    with pytest.raises(Unsupported, match="old is not for this kernel: its dkms"):
        ready("old")
    with pytest.raises(Unsupported, match=r"its dkms\.conf has it for 6\.1"):
        ready("new")
    ready("mine")
    ready("dummy")


class Begun:
    """Stands in for a pool."""

    closed = False

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def foreseeing(tmp_path: Path) -> tuple[Any, Any, Future[Any]]:
    """Return a lab that began a pool, its kind, and the pool to come."""
    house: Any = Lab(load({"CHANLAB_CACHE": str(tmp_path)}), WISHES, QUIET)
    kind, future = ("6.12", BootOptions(), (), False, True), Future[Any]()
    house._early = (kind, future)
    house._new_pool = lambda *_: "made when asked for"
    return house, kind, future


def test_a_guest_that_was_begun_is_the_first_that_is_asked_for(foreseeing: Any) -> None:
    house, kind, future = foreseeing
    future.set_result(pool := Begun())
    assert house.pool(*kind[:3], turns=True) is pool


def test_a_guest_of_another_kind_is_ended_as_soon_as_it_is_there(foreseeing: Any) -> None:
    house, kind, future = foreseeing
    assert house.pool(*kind[:3], turns=False) == "made when asked for"
    future.set_result(pool := Begun())
    assert pool.closed


def test_a_guest_that_could_not_be_begun_is_made_when_it_is_asked_for(foreseeing: Any) -> None:
    house, kind, future = foreseeing
    future.set_exception(GuestHung("it did not answer"))
    assert house.pool(*kind[:3], turns=True) == "made when asked for"


def test_a_guest_that_nobody_asked_for_ends_with_the_lab(foreseeing: Any) -> None:
    house, _, future = foreseeing
    house.close()
    future.set_result(pool := Begun())
    assert pool.closed


class Jobs:
    """Runs nothing; says what it was asked to."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def submit(self, job: Any, *_: Any) -> Any:
        self.asked.append(job.__name__)
        return job.__name__


def test_a_module_that_was_not_expected_has_all_built() -> None:
    parts = Ready.__new__(Ready)
    parts._only, parts._jobs, parts._modules = frozenset({"lab_core", "lab_ioctl"}), Jobs(), Future()  # type: ignore[assignment]
    parts.__dict__["images"] = {}
    parts.cover(["lab_core"])
    parts.cover([])
    assert parts._jobs.asked == []  # type: ignore[attr-defined]
    assert "images" in parts.__dict__
    parts.cover(["lab_core", "lab_poll"])
    parts.cover(["lab_mmap"])
    assert parts._jobs.asked == ["_build_modules"]  # type: ignore[attr-defined]
    assert "images" not in parts.__dict__


def test_two_qemus_used_in_turn_do_not_take_each_others_templates_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    def make(base: Any, spec: Any, modules: Any, programs: Any, building: Path, progress: Any) -> None:
        made.append(f"{spec.qemu.digest} {modules[0][1].decode()}")
        (building / "template.json").write_text("{}")

    monkeypatch.setattr(loaded, "_make", make)
    monkeypatch.setattr(loaded, "load", lambda path: TEMPLATE)
    monkeypatch.setattr(loaded, "compose", lambda *_: -1)
    cache = Cache(tmp_path, QUIET)

    def use(qemu: str, image: bytes) -> None:
        base = replace(TEMPLATE, facts=replace(TEMPLATE.facts, nonce=qemu.encode().hex()))
        of = replace(spec(), qemu=replace(spec().qemu, digest=qemu))
        loaded.loaded(base, of, [("lab_core", image, "", False)], cache, QUIET)

    for qemu in ("stock", "own", "stock", "own"):
        use(qemu, b"1")
    assert made == ["stock 1", "own 1"]
    use("stock", b"2")  # the module was changed: what was made of the old one goes
    use("own", b"1")
    use("stock", b"1")
    assert made == ["stock 1", "own 1", "stock 2", "stock 1"]
    cache.close()


def test_a_template_with_another_program_is_another_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[list[bytes]] = []

    def make(base: Any, spec: Any, modules: Any, programs: Any, building: Path, progress: Any) -> None:
        made.append([each.image for each in programs])
        (building / "template.json").write_text("{}")

    monkeypatch.setattr(loaded, "_make", make)
    monkeypatch.setattr(loaded, "load", lambda path: TEMPLATE)
    monkeypatch.setattr(loaded, "compose", lambda *_: -1)
    cache = Cache(tmp_path, QUIET)
    for image in (b"", b"1", b"1", b"2", b""):
        programs = [loaded.Program("agent32", image, lambda _: None)] if image else []
        loaded.loaded(TEMPLATE, spec(), [("lab_core", b"image", "", False)], cache, QUIET, programs)
    assert made == [[], [b"1"], [b"2"]]
    cache.close()


@pytest.mark.parametrize(("times", "ahead"), [(5, ((), False)), (6, (MODULES, True))])
def test_the_program_of_32_bit_actors_is_brought_ahead_where_enough_scenarios_want_it(
    tmp_path: Path, times: int, ahead: tuple[Any, bool]
) -> None:
    house: Any = Lab(load({"CHANLAB_CACHE": str(tmp_path)}), WISHES, QUIET)
    house.target = lambda _: SimpleNamespace(loads=lambda modules: modules)
    narrow = SimpleNamespace(boot=BootOptions(), modules=MODULES, narrow=True, loads=("lab_core",))
    wide = SimpleNamespace(boot=BootOptions(), modules=MODULES, narrow=False, loads=("lab_core",))
    house.expect("6.12", narrow, times)
    house.expect("6.12", wide, 6)
    assert house._ahead("6.12", narrow) == ahead
    assert house._ahead("6.12", wide) == (MODULES, False)


def test_a_target_that_was_begun_early_builds_what_is_expected_while_a_guest_boots() -> None:
    parts = Ready.__new__(Ready)
    parts._only, parts._jobs, parts._modules = frozenset(), Jobs(), None  # type: ignore[assignment]
    parts._wishes, parts._first, parts._ahead = WISHES, None, None
    parts.cover(["lab_core"], ["lab_core", "lab_poll"], BootOptions())
    assert parts._only == {"lab_core", "lab_poll"}
    assert parts._jobs.asked == ["_build_modules", "_boot_ahead"]  # type: ignore[attr-defined]
    parts.cover(["lab_poll"], ["lab_core", "lab_poll"], BootOptions())
    assert parts._jobs.asked == ["_build_modules", "_boot_ahead"]  # type: ignore[attr-defined]
