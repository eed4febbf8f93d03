# SPDX-License-Identifier: MIT
"""Archives that somebody made up: nothing of them lands outside of the directory they are unpacked into."""

from __future__ import annotations

import contextlib
import io
import os
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lab.errors import FetchError
from lab.kernels.beneath import Beneath, LeadsOut
from lab.kernels.debian import unpack as debian_unpack
from lab.kernels.debian.unpack import unpack, unpack_source

Made = tuple[str, str, bytes | str]  # what it is, its name, its content or target

DIRECTORY, FILE, LINK, HARD = tarfile.DIRTYPE, tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE


def member(kind: bytes, name: str, what: bytes | str = b"") -> tuple[tarfile.TarInfo, bytes]:
    made = tarfile.TarInfo(name)
    made.type, made.mode = kind, 0o6777
    if isinstance(what, str):
        made.linkname = what
        return made, b""
    made.size = len(what)
    return made, what


def package(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    body = io.BytesIO()
    with tarfile.open(fileobj=body, mode="w:xz", preset=0, format=tarfile.PAX_FORMAT) as archive:
        for made, data in members:
            archive.addfile(made, io.BytesIO(data) if made.isfile() else None)
    data = body.getvalue()
    head = f"{'data.tar.xz':<16}{0:<12}{0:<6}{0:<6}{0o100644:<8o}{len(data):<10}`\n".encode()
    path.write_bytes(b"!<arch>\n" + head + data)
    return path


@pytest.fixture
def room(tmp_path: Path) -> Path:
    """A directory with something outside of where things are unpacked."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_text("as it was")
    (tmp_path / "to").mkdir()
    return tmp_path


def outside(room: Path) -> dict[str, str]:
    """Return what is not below `to`."""
    found = {}
    for directory, names, files in os.walk(room):
        if Path(directory) == room:
            names.remove("to")
        for name in files:
            path = Path(directory, name)
            found[str(path.relative_to(room))] = path.read_text() if path.suffix != ".deb" else ""
        found.update({str(Path(directory, name).relative_to(room)): "directory" for name in names})
    return found


WAS = {"outside": "directory", "outside/file": "as it was", "x.deb": ""}


def unpacked(room: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    unpack(package(room / "x.deb", *members), room / "to")
    assert outside(room) == WAS
    return room / "to"


def refused(room: Path, match: str, *members: tuple[tarfile.TarInfo, bytes]) -> None:
    with pytest.raises(FetchError, match=match):
        unpack(package(room / "x.deb", *members), room / "to")
    assert outside(room) == WAS


def test_a_link_that_looks_inside_and_is_not(room: Path) -> None:
    """By its words d/e/l leads to x; but d/e is a link, and from where it leads `..` is the root's parent."""
    (room / "to" / "a").mkdir()
    (room / "to" / "d").mkdir()
    (room / "to" / "d" / "e").symlink_to("../a")
    refused(
        room,
        "leads out",
        member(LINK, "d/e/l", "../../outside"),  # is written as it is, in a/
        member(FILE, "a/l/file", b"evil"),
    )


def test_a_directory_that_was_good_and_is_replaced_by_a_link(room: Path) -> None:
    (room / "to" / "b").mkdir()
    (room / "to" / "b" / "up").symlink_to("../../outside")
    refused(
        room,
        "leads out",
        member(LINK, "a", "b"),
        member(FILE, "a/first", b"x"),
        member(LINK, "a", "b/up"),
        member(FILE, "a/file", b"evil"),
    )


def test_a_link_is_replaced_by_what_has_its_name(room: Path) -> None:
    (room / "to" / "l").symlink_to(room / "outside" / "file")
    to = unpacked(room, member(FILE, "l", b"new"))
    assert not (to / "l").is_symlink()
    assert (to / "l").read_text() == "new"


def test_a_hard_link_to_a_file_outside(room: Path) -> None:
    (room / "to" / "up").symlink_to("../outside")
    refused(room, "leads out", member(HARD, "mine", "up/file"))
    refused(room, "leaves", member(HARD, "mine", "../outside/file"))
    refused(room, "cannot be unpacked", member(HARD, "mine", "/outside/file"))


def test_a_hard_link_to_a_link_is_no_way_to_write_behind_it(room: Path) -> None:
    (room / "to" / "l").symlink_to("../outside/file")
    to = unpacked(room, member(HARD, "again", "l"), member(FILE, "again", b"new"))
    assert (to / "again").read_text() == "new"


@pytest.mark.parametrize("written", ["/outside", "../../../outside", "a/../../../outside", "."])
def test_links_are_made_to_stay(room: Path, written: str) -> None:
    to = unpacked(room, member(LINK, "d/l", written), member(DIRECTORY, "d/l/x"), member(DIRECTORY, "d/l/y"))
    assert (to / "d/l").resolve().is_relative_to(to)


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_devices_and_pipes_are_left_out(room: Path, kind: bytes) -> None:
    to = unpacked(room, member(kind, "dev/x"), member(FILE, "y", b"y"))
    assert not (to / "dev/x").exists()
    assert (to / "y").stat().st_mode & 0o7777 == 0o777


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("x" * 300, "cannot be unpacked"),
        ("a/../../x", "leaves"),
        ("a\0b", "no whole|cannot"),
        ("y/z", "leads out"),
    ],
)
def test_names_that_cannot_be(room: Path, name: str, match: str) -> None:
    (room / "to" / "y").write_text("a file")
    made = member(FILE, name, b"x")
    made[0].pax_headers = {"path": name}
    refused(room, match, made)


def test_a_file_in_the_place_of_a_directory(room: Path) -> None:
    refused(room, "cannot be unpacked", member(DIRECTORY, "a"), member(FILE, "a", b"x"))


def test_links_in_a_circle(room: Path) -> None:
    refused(room, "leads out", member(LINK, "a", "b"), member(LINK, "b", "a"), member(FILE, "a/x", b"x"))


def test_a_member_that_is_too_big_is_refused_before_it_is_written(
    room: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(debian_unpack, "_MOST", 1000)
    refused(room, "more than", member(FILE, "small", bytes(900)), member(FILE, "big", bytes(200)))
    assert not (room / "to" / "big").exists()


def test_a_disk_that_is_full_says_where(room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", "d")

    monkeypatch.setattr(os, "mkdir", full)
    with pytest.raises(OSError, match="No space left") as told:
        unpack(package(room / "x.deb", member(DIRECTORY, "d")), room / "to")
    assert told.value.filename == f"{room / 'to'}/d"


def test_no_descriptor_is_left(room: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    many = [member(FILE, f"d{number}/e/f", b"x") for number in range(100)]
    unpacked(room, *many, member(LINK, "d1/e/l", "../../d2"), member(HARD, "d3/h", "d4/e/f"))
    (room / "to" / "up").symlink_to("../outside")
    refused(room, "leads out", member(FILE, "up/a/b/c", b"x"))
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_source_stays_too(room: Path) -> None:
    (room / "to" / "up").symlink_to("../outside")
    body = room / "x.deb"
    with tarfile.open(body, "w:xz") as archive:
        archive.addfile(member(FILE, "top/up/file", b"evil")[0], io.BytesIO(b"evil"))
    with pytest.raises(FetchError, match="leads out"):
        unpack_source(body, room / "to", strip=1)
    assert outside(room) == WAS


PARTS = st.sampled_from(["a", "b", "c", "..", "."])
PATHS = st.lists(PARTS, min_size=1, max_size=4).map("/".join)
MEMBERS = st.tuples(st.sampled_from([DIRECTORY, FILE, LINK, LINK, HARD]), PATHS, st.booleans(), PATHS)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    members=st.lists(MEMBERS, max_size=8),
    there=st.lists(st.tuples(st.sampled_from("abc"), PATHS), max_size=3),
)
def test_nothing_of_any_package_lands_outside(
    tmp_path_factory: pytest.TempPathFactory,
    members: list[tuple[bytes, str, bool, str]],
    there: list[tuple[str, str]],
) -> None:
    room = tmp_path_factory.mktemp("any")
    (room / "to").mkdir()
    for name, target in there:  # of an earlier package, or of nobody knows whom
        if not (room / "to" / name).is_symlink():
            (room / "to" / name).symlink_to(target)
    made = []
    for kind, name, top, target in members:
        link = f"/{target}" if top else target
        made.append(member(kind, name, b"evil" if kind == FILE else link if kind in (LINK, HARD) else b""))
    with contextlib.suppress(FetchError):
        unpack(package(room / "x.deb", *made), room / "to")
    assert sorted(path.name for path in room.iterdir()) == ["to", "x.deb"]


def test_a_hard_link_to_the_directory_that_it_is_put_into(tmp_path: Path) -> None:
    (tmp_path / "to").mkdir()
    made = package(tmp_path / "x.deb", member(LINK, "a", ".."), member(HARD, "a/a", "a"))
    with pytest.raises(FetchError, match="cannot be unpacked"):
        unpack(made, tmp_path / "to")


def test_going_up_is_by_where_we_are(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "c").mkdir()
    (tmp_path / "c/l").symlink_to("../a/b")
    (tmp_path / "c/up").symlink_to("l/../../a")
    with Beneath(tmp_path) as beneath:
        os.close(beneath.file("c/up/file"))
        (tmp_path / "c/out").symlink_to("l/../../..")
        with pytest.raises(LeadsOut):
            beneath.directory("c/out/x")
    assert (tmp_path / "a/file").exists()
