# SPDX-License-Identifier: MIT
"""A cache that was damaged: nobody is blamed for it, and what is damaged is made again."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lab.arch import X86_64
from lab.errors import BuildFailed, LabError, Unsupported
from lab.house import WISHES
from lab.kernels import build
from lab.kernels.kbuild import Built
from lab.progress import Progress
from lab.run.lab import Lab
from lab.settings import load
from lab.store import inventory
from lab.store.cache import MANIFEST, Cache
from lab.store.inventory import INVENTORY

QUIET = Progress(io.StringIO(), quiet=True)


def fill(building: Path, _final: Path) -> None:
    (building / "result.json").write_text('{"modules": []}')
    (building / "ko").mkdir()
    (building / "ko" / "lab_x.ko").write_bytes(b"\x7fELF" + bytes(5000))
    (building / "link").symlink_to("ko")


def fill_many(building: Path, _final: Path) -> None:
    fill(building, _final)
    for number in range(600):
        (building / "ko" / f"{number}.ko").write_text(str(number))


def refuse(_building: Path, _final: Path) -> None:
    raise AssertionError("must not be made again")


def truncate(path: Path) -> None:
    os.truncate(path, 3)


def flip(path: Path) -> None:
    """Change a byte as a program would: the file's time tells."""
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))


def rot(path: Path) -> None:
    """Change a byte as a disk would: nothing tells."""
    times = path.stat()
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


@pytest.mark.parametrize("file", ["result.json", "ko/lab_x.ko"])
@pytest.mark.parametrize("harm", [truncate, flip, Path.unlink])
def test_what_a_glance_shows_is_made_again_and_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], file: str, harm: Any
) -> None:
    made = Cache(tmp_path).entry("modules", "a", fill)
    whole = (made / file).read_bytes()
    harm(made / file)
    again = Cache(tmp_path, Progress()).entry("modules", "a", fill)
    assert again == made
    assert (made / file).read_bytes() == whole
    said = capsys.readouterr().err
    assert "was damaged, it is made again" in said
    assert file in said
    assert Cache(tmp_path).entry("modules", "a", refuse) == made


def test_one_that_somebody_uses_is_made_again_too(tmp_path: Path) -> None:
    user = Cache(tmp_path)
    made = user.entry("modules", "a", fill)
    truncate(made / "result.json")
    Cache(tmp_path).entry("modules", "a", fill)
    assert json.loads((made / "result.json").read_text()) == {"modules": []}
    assert user.verify() == ["modules a: another run threw it away"]
    assert user.entry("modules", "a", refuse) == made
    assert user.verify() == []


def test_a_file_that_was_only_touched_is_as_good(tmp_path: Path) -> None:
    made = Cache(tmp_path).entry("modules", "a", fill)
    (made / "result.json").touch()
    assert Cache(tmp_path).entry("modules", "a", refuse) == made


@pytest.mark.parametrize("make", [fill, fill_many])
def test_what_no_glance_shows_is_found_when_something_goes_wrong(tmp_path: Path, make: Any) -> None:
    cache = Cache(tmp_path)
    made = cache.entry("modules", "a", make)
    rot(made / "ko" / "lab_x.ko")
    assert cache.entry("modules", "a", refuse) == made
    assert cache.verify() == ["modules a: ko/lab_x.ko is not what it was"]
    assert not made.exists()
    assert cache.entry("modules", "a", make) == made
    assert cache.verify() == []


def test_what_was_sound_a_moment_ago_is_read_again_when_it_was_written_to(tmp_path: Path) -> None:
    first = Cache(tmp_path)
    made = first.entry("modules", "a", fill)
    assert first.verify() == []
    rot(made / "ko" / "lab_x.ko")
    second = Cache(tmp_path)
    second.entry("modules", "a", refuse)
    assert second.verify() == ["modules a: ko/lab_x.ko is not what it was"]


def test_the_inventory_may_be_what_is_damaged(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    made = cache.entry("modules", "a", fill)
    flip(made / INVENTORY)
    assert cache.verify() == [f"modules a: {INVENTORY} is not what it was"]


def test_a_damaged_manifest_is_found_by_who_uses_it(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    made = cache.entry("modules", "a", fill)
    (made / MANIFEST).write_text("")
    assert cache.verify() == ["modules a: its manifest cannot be read"]
    assert cache.entry("modules", "a", fill) == made


def test_what_is_sound_is_read_once_a_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []

    def look(directory: Path, _: Any) -> str:
        read.append(directory)
        return ""

    monkeypatch.setattr(inventory, "damage", look)
    made = Cache(tmp_path).entry("modules", "a", fill)
    for _ in range(3):
        cache = Cache(tmp_path)
        cache.entry("modules", "a", refuse)
        assert cache.verify() == []
    assert read == [made]
    (made / "result.json").touch()
    assert Cache(tmp_path).entry("modules", "a", refuse)
    assert read == [made, made]


def test_what_changes_by_itself_has_no_inventory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache(tmp_path)
    made = cache.entry("build-tree", "a", fill, fixed=False)
    truncate(made / "result.json")
    # Not even what files there are can be told: a compiler makes and removes them.
    monkeypatch.setattr(inventory, "state", refuse)
    assert cache.verify() == []
    assert Cache(tmp_path).entry("build-tree", "a", refuse, fixed=False) == made


def test_an_entry_of_before_there_were_inventories_is_kept(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    made = cache.entry("modules", "a", fill)
    manifest = json.loads((made / MANIFEST).read_text())
    (made / MANIFEST).write_text(
        json.dumps({key: manifest[key] for key in ("format", "kind", "key", "bytes")})
    )
    (made / INVENTORY).unlink()
    assert cache.verify() == []
    assert Cache(tmp_path).entry("modules", "a", refuse) == made


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "7", '{"name": "a"}', '{"name": "a", "value": {"key": 8}, "digest": "0"}', "[" * 5000],
)
def test_a_damaged_fact_is_none(tmp_path: Path, text: str) -> None:
    cache = Cache(tmp_path)
    cache.remember("a", {"key": 7, "of": [1.5, None]})
    assert cache.recall("a") == {"key": 7, "of": [1.5, None]}
    (tmp_path / "v1/facts/a.json").write_text(text)
    assert cache.recall("a") is None


def test_a_flipped_bit_of_a_fact_is_found(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.remember("a", {"key": 7})
    path = tmp_path / "v1/facts/a.json"
    path.write_text(path.read_text().replace("7", "6", 1))
    assert cache.recall("a") is None


@pytest.mark.parametrize("size", [1, 1 << 20, (1 << 20) + 1])
def test_blocks_of_zeros_count(tmp_path: Path, size: int) -> None:
    (tmp_path / "a").write_bytes(bytes(size))
    found = inventory.write(tmp_path, MANIFEST)
    assert inventory.damage(tmp_path, found) == ""
    (tmp_path / "a").write_bytes(bytes(size // 2) + b"x" + bytes(size - size // 2 - 1))
    assert inventory.damage(tmp_path, found) != ""


def test_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "up").symlink_to("..")
    (tmp_path / "a" / "nowhere").symlink_to("/nowhere")
    assert inventory.write(tmp_path / "a", MANIFEST)["files"] == {}


# --- the lab ------------------------------------------------------------------------------------------------


class Trouble:
    """A lab whose preparations or scenario fail once, with or without a damaged cache."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception | None) -> None:
        self.lab = Lab(load({"CHANLAB_CACHE": str(tmp_path)}), WISHES, QUIET)
        self.made = self.lab.cache.entry("modules", "a", fill)
        self.times = 0
        self._error = error
        monkeypatch.setattr(self.lab, "_make_ready", self._once)

    def _once(self, *_: Any) -> None:
        self.times += 1
        if self._error is not None and self.times == 1:
            raise self._error


ERRORS = [json.JSONDecodeError("x", "", 0), KeyError("modules"), BuildFailed("x", "y"), LabError("x")]


@pytest.mark.parametrize("error", ERRORS)
def test_preparations_are_made_again_when_the_cache_was_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    trouble = Trouble(tmp_path, monkeypatch, error)
    rot(trouble.made / "ko" / "lab_x.ko")
    trouble.lab.ready(None, None)  # type: ignore[arg-type]  # nobody looks at them
    assert trouble.times == 2
    (note,) = trouble.lab.notes()
    assert "the cache was damaged" in note
    assert "ko/lab_x.ko" in note


@pytest.mark.parametrize("error", [*ERRORS, Unsupported("x")])
def test_what_fails_with_a_sound_cache_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    trouble = Trouble(tmp_path, monkeypatch, error)
    with pytest.raises(type(error)):
        trouble.lab.ready(None, None)  # type: ignore[arg-type]  # nobody looks at them
    assert trouble.times == 1
    assert trouble.lab.notes() == []


@pytest.mark.parametrize("damaged", [True, False])
def test_a_scenario_is_run_again_before_it_is_blamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damaged: bool
) -> None:
    trouble = Trouble(tmp_path, monkeypatch, None)
    if damaged:
        rot(trouble.made / "ko" / "lab_x.ko")
    runs: list[bool] = []

    def take(_: str) -> Any:
        runs.append(damaged)
        raise LabError("the guest is lost")

    monkeypatch.setattr(trouble.lab, "target", lambda _: SimpleNamespace(images={}))
    monkeypatch.setattr(trouble.lab, "_ahead", lambda *_: ((), False))
    monkeypatch.setattr("lab.run.beside.alone", lambda *_: True)
    monkeypatch.setattr(trouble.lab, "pool", lambda *_, **__: SimpleNamespace(take=take))
    monkeypatch.setattr(trouble.lab, "refused", lambda *_: "a record")
    scenario = SimpleNamespace(boot=None, id="x")
    assert trouble.lab.run(None, scenario) == "a record"  # type: ignore[arg-type, comparison-overlap]
    assert len(runs) == 1 + damaged


def test_modules_are_not_handed_out_again_when_they_were_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "run", lambda *_, **__: (0, ""))
    monkeypatch.setattr(build, "tool", lambda *_: ["strip"])
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "x.ko").write_bytes(b"\x7fELF whole")
    (tree / "Module.symvers").touch()
    built = Built({"lab_x": "x.ko"}, {}, {}, "")

    def collect(name: str) -> Path:
        (tmp_path / name).mkdir()
        root: Any = SimpleNamespace(environment=dict)
        build._collect(built, tree, tmp_path / name, root, X86_64)
        return tmp_path / name / "ko" / "lab_x.ko"

    first, second = collect("first"), collect("second")
    assert first.samefile(second)
    os.truncate(second, 3)
    assert collect("third").read_bytes() == b"\x7fELF whole"


def test_of_many_files_those_high_up_are_looked_at(tmp_path: Path) -> None:
    made = Cache(tmp_path).entry("kernel", "a", fill_many)
    truncate(made / "result.json")
    assert Cache(tmp_path).peek("kernel", "a") is None
    Cache(tmp_path).entry("kernel", "a", fill_many)
    assert (made / "result.json").stat().st_size > 3
