# SPDX-License-Identifier: MIT
"""What `lab doctor` finds, and what long work tells the user."""

from __future__ import annotations

import io
import shutil
from typing import TYPE_CHECKING

import pytest

from lab import doctor
from lab.doctor import Diagnosis, examine, file_system, worst
from lab.errors import CacheError
from lab.progress import Progress
from lab.settings import SETTINGS, load
from lab.store.cache import Cache

if TYPE_CHECKING:
    from pathlib import Path


def found(cache: Path) -> dict[str, Diagnosis]:
    settings = load({}, {"CHANLAB_CACHE": str(cache)}, apt=cache / "none")
    examined = examine(settings, Cache(cache), Progress(quiet=True), network=False)
    return {finding.subject: finding for finding in examined}


def test_all_is_looked_at(tmp_path: Path) -> None:
    topics = found(tmp_path)
    assert {"python", "host", "kvm", "cache", "disk", "file system", "cpus", "memory"} <= set(topics)
    assert {setting.name for setting in SETTINGS} <= set(topics)
    assert "(environment)" in topics["CHANLAB_CACHE"].text


def test_a_full_disk_is_bad(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1 << 20))
    assert found(tmp_path)["disk"].mark == "bad"
    assert "CHANLAB_CACHE" in found(tmp_path)["disk"].hint


def test_an_unusable_cache_is_bad(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise CacheError("full", hint="free some")

    monkeypatch.setattr(Cache, "remember", refuse)
    subjects = found(tmp_path)
    assert (subjects["cache"].mark, subjects["cache"].hint) == ("bad", "free some")
    assert subjects["cache"].bad
    assert "disk" not in subjects


def test_kvm_is_what_trying_gave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_KVM", str(tmp_path / "none"))
    assert "this host has no" in found(tmp_path)["kvm"].text
    monkeypatch.setattr(doctor, "_KVM", "/dev/null")
    assert "found by the first run" in found(tmp_path)["kvm"].text

    def answer(place: Path, _final: Path) -> None:
        (place / "accel.json").write_text('{"name": "tcg", "why": "it opens, but no guest boots with it"}')

    Cache(tmp_path).entry("accel", "a", answer)
    assert found(tmp_path)["kvm"].text == "it opens, but no guest boots with it"


@pytest.mark.parametrize(("kind", "grade"), [("nfs4", "note"), ("tmpfs", "note"), ("ext4", "good")])
def test_the_file_system_is_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, grade: str
) -> None:
    monkeypatch.setattr(doctor, "file_system", lambda _: kind)
    assert found(tmp_path)["file system"].mark == grade


def test_the_innermost_mount_counts(tmp_path: Path) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "1 0 8:1 / / rw - ext4 /dev/a rw\n2 1 0:1 / /home rw shared:1 - tmpfs t rw\n"
        "3 1 0:2 / /home rw shared:2 - nfs4 s:/ rw\n4 3 0:3 / /home/my\\040own rw - btrfs b rw\n"
    )
    from pathlib import Path

    assert file_system(Path("/srv/x"), mounts) == "ext4"
    assert file_system(Path("/home/x"), mounts) == "nfs4"
    assert file_system(Path("/home/my own/x"), mounts) == "btrfs"
    assert file_system(Path("/x"), tmp_path / "none") == "unknown"


def test_memory_obeys_the_limit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(doctor, "cgroup_values", lambda _: ["max", "500000000"])
    assert doctor.memory_bytes() == 500000000
    assert found(tmp_path)["memory"].mark == "bad"


def test_the_worst_grade() -> None:
    assert worst([]) == "good"
    assert worst([Diagnosis("a", "note", ""), Diagnosis("b", "good", "")]) == "note"
    assert worst([Diagnosis("a", "note", ""), Diagnosis("b", "bad", "")]) == "bad"


def test_plain_progress_is_one_line_a_piece() -> None:
    stream = io.StringIO()
    progress = Progress(stream)
    with progress.task("fetching", 10, unit="bytes") as task:
        task.advance(5)
        task.total(20)
        progress.note("by the way")
    assert stream.getvalue() == "fetching ...\nby the way\n"


def test_quiet_progress_says_nothing() -> None:
    stream = io.StringIO()
    progress = Progress(stream, quiet=True)
    with progress.task("fetching"):
        progress.note("by the way")
    assert stream.getvalue() == ""


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_one_line_on_a_terminal() -> None:
    stream, fresh = Terminal(), list[str]()
    progress = Progress(stream, fresh=lambda: fresh.append(stream.getvalue()))
    with progress.task("outer"), progress.task("fetching [x]", 2000, unit="bytes") as task:
        task.advance(1000)
        assert progress.line().endswith(" s  outer; fetching [x] 50%")
        task.advance(1000)
        task.advance(2)  # more than was said
        progress.note("by [the] way")
        with progress.task("outer"):
            assert progress.line().endswith(" s  outer; fetching [x]")
    assert fresh == [""]  # before anything was written
    text = stream.getvalue()
    assert "by [the] way\n" in text
    assert "  0 s  outer" in text
    assert text.endswith("\x1b[2K")  # nothing is left of it


def test_a_line_is_begun_anew_elsewhere_too() -> None:
    stream = io.StringIO()
    progress = Progress(stream, fresh=lambda: stream.write("<new>"))
    with progress.task("booting"):
        pass
    assert stream.getvalue() == "<new>booting ...\n"
