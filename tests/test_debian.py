# SPDX-License-Identifier: MIT
"""Debian's archive: signatures, hashes, broken downloads, unpacking, kernels and roots."""

from __future__ import annotations

import gzip
import lzma
import re
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
import zstandard
from pysequoia import Tsk
from tiny_archive import TinyArchive, deb, serve

from lab.errors import FetchError, HashMismatch, HostError, LabError, SignatureError, UsageError
from lab.kernels import roots
from lab.kernels.debian import archive, offers
from lab.kernels.debian import fetch as debian_fetch
from lab.kernels.debian.fetch import Fetcher, Item
from lab.kernels.debian.packages import fetch_headers, fetch_kernel
from lab.kernels.debian.resolve import Resolver
from lab.kernels.debian.unpack import unpack
from lab.kernels.roots import root
from lab.progress import Progress
from lab.settings import load
from lab.store.cache import Cache

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lab.kernels.catalogue import Catalogue

SUITES = """
suites:
  trixie: {lines: ["6.12"]}
  bullseye: {lines: ["5.10"], expired: true}
  sid: {lines: all}
modules_skipped: drivers/media/
nominal: [["6.12", trixie, gcc-14]]
"""
QUIET = Progress(quiet=True)


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TinyArchive]:
    made = TinyArchive("")
    server = serve(made)
    made.install(tmp_path / "data", monkeypatch, SUITES)
    monkeypatch.setattr(debian_fetch, "_BACKOFF_SECONDS", 0.0)
    yield made
    server.shutdown()
    server.server_close()


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Cache]:
    made = Cache(tmp_path / "cache")
    yield made
    made.close()


def released(tiny: TinyArchive, cache: Cache, name: str) -> archive.Release:
    suite = next(suite for suite in archive.suites() if suite.name == name)
    with Fetcher(tiny.settings(cache.root), cache) as fetcher:
        return archive.release(suite, fetcher, archive.keys())


def test_a_signed_list_is_read(tiny: TinyArchive, cache: Cache) -> None:
    tiny.publish("trixie", until=datetime.now(UTC) + timedelta(days=1))
    found = released(tiny, cache, "trixie")
    assert list(found.files) == ["main/binary-amd64/Packages.xz"]
    assert found.note == ""


def test_a_changed_list_is_refused(tiny: TinyArchive, cache: Cache) -> None:
    tiny.publish("trixie")
    path = "debian/dists/trixie/InRelease"
    tiny.files[path] = tiny.files[path].replace(b"Date: Sat", b"Date: Sun")
    with pytest.raises(SignatureError, match="not signed by a key of Debian's") as error:
        released(tiny, cache, "trixie")
    assert "Stack backtrace" not in str(error.value)


@pytest.mark.parametrize("text", [b"", b"Origin: Debian\nCodename: trixie\n", b"\xff\x00binary"])
def test_an_unsigned_list_is_refused(tiny: TinyArchive, cache: Cache, text: bytes) -> None:
    tiny.files["debian/dists/trixie/InRelease"] = text
    with pytest.raises(SignatureError):
        released(tiny, cache, "trixie")


def test_words_before_the_signed_ones_do_not_count(tiny: TinyArchive, cache: Cache) -> None:
    tiny.publish("trixie")
    path = "debian/dists/trixie/InRelease"
    tiny.files[path] = b"Codename: trixie\nSHA256:\n " + b"0" * 64 + b" 1 evil\n\n" + tiny.files[path]
    assert "evil" not in released(tiny, cache, "trixie").files


def test_another_key_is_refused(tiny: TinyArchive, cache: Cache) -> None:
    tiny.publish("trixie", key=Tsk.generate(user_id="somebody else"))
    with pytest.raises(SignatureError):
        released(tiny, cache, "trixie")


def test_the_list_of_another_suite_is_refused(tiny: TinyArchive, cache: Cache) -> None:
    tiny.publish("trixie", codename="bookworm")
    with pytest.raises(SignatureError, match="bookworm"):
        released(tiny, cache, "trixie")


def test_an_expired_list_is_refused_where_the_suite_is_alive(tiny: TinyArchive, cache: Cache) -> None:
    past = datetime.now(UTC) - timedelta(days=1)
    tiny.publish("trixie", until=past)
    tiny.publish("bullseye", until=past)
    with pytest.raises(archive.Expired, match="valid until"):
        released(tiny, cache, "trixie")
    assert "past its support" in released(tiny, cache, "bullseye").note


@pytest.mark.parametrize("kind", ["", ".gz", ".zst", ".xz"])
def test_a_package_may_be_compressed_as_its_maker_likes(tmp_path: Path, kind: str) -> None:
    """dpkg-deb's default differs by distribution, and what somebody builds is compressed by his own."""
    whole = deb({"usr/x": b"x" * 100_000})
    mark = whole.index(b"data.tar.xz")
    size = int(whole[mark + 48 : mark + 58])
    plain = lzma.decompress(whole[mark + 60 : mark + 60 + size])
    packed = {
        "": lambda data: data,
        ".gz": gzip.compress,
        ".zst": zstandard.ZstdCompressor().compress,
        ".xz": lzma.compress,
    }[kind](plain)
    head = f"{'data.tar' + kind:<16}{0:<12}{0:<6}{0:<6}{0o100644:<8o}{len(packed):<10}`\n".encode()
    (tmp_path / "x.deb").write_bytes(whole[:mark] + head + packed)
    (tmp_path / "to").mkdir()
    unpack(tmp_path / "x.deb", tmp_path / "to")
    assert (tmp_path / "to/usr/x").read_bytes() == b"x" * 100_000


def test_the_shipped_keys_are_good() -> None:
    paths = sorted(archive.KEYS.glob("*.asc"))
    assert {re.sub(r"debian-archive-(\w+)-.*", r"\1", path.name) for path in paths} == {
        "bullseye",
        "bookworm",
        "trixie",
    }
    found = archive.keys()
    assert len(found) >= len(paths)
    assert not any(key.is_revoked for key in found[: len(paths)])


def test_an_index_that_is_not_the_signed_one_is_refused(tiny: TinyArchive, cache: Cache) -> None:
    tiny.kernel("trixie", "6.12.5")
    tiny.publish("trixie")
    tiny.files["debian/dists/trixie/main/binary-amd64/Packages.xz"] += b" "
    with pytest.raises(HashMismatch, match=r"Packages\.xz"):
        offers.load(tiny.settings(cache.root), cache, QUIET)


def fetch(tiny: TinyArchive, cache: Cache, path: str, data: bytes) -> Path:
    import hashlib

    tiny.files.setdefault(f"debian/{path}", data)
    with Fetcher(tiny.settings(cache.root), cache) as fetcher:
        found = fetcher.file(Item("debian", path, len(data), hashlib.sha256(data).hexdigest()))
        assert found.read_bytes() == data
    return found


DATA = bytes(range(256)) * 4000


@pytest.mark.parametrize("trouble", ["corrupt", "short"])
def test_a_wrong_download_is_fetched_once_more(tiny: TinyArchive, cache: Cache, trouble: str) -> None:
    tiny.trouble["debian/pool/x"] = [trouble]
    fetch(tiny, cache, "pool/x", DATA)
    assert [path for path, _ in tiny.asked] == ["debian/pool/x"] * 2


@pytest.mark.parametrize("trouble", ["corrupt", "short"])
def test_a_download_that_stays_wrong_names_the_hash(tiny: TinyArchive, cache: Cache, trouble: str) -> None:
    tiny.trouble["debian/pool/x"] = [trouble] * 9
    with pytest.raises(
        HashMismatch, match=r"fetched twice: sha256 is [0-9a-f]{64} .* index says [0-9a-f]{64}"
    ):
        fetch(tiny, cache, "pool/x", DATA)
    assert len(tiny.asked) == 2
    assert not list((cache.root / "v1/download").glob("*"))
    assert not list((cache.root / "v1/tmp").glob("*"))


@pytest.mark.parametrize("second", ["", "no ranges"])
def test_a_broken_connection_is_resumed(tiny: TinyArchive, cache: Cache, second: str) -> None:
    tiny.trouble["debian/pool/x"] = ["break", second]
    fetch(tiny, cache, "pool/x", DATA)
    assert tiny.asked[0] == ("debian/pool/x", "")
    assert re.fullmatch(r"bytes=\d+-", tiny.asked[1][1])
    assert len(tiny.asked) == 2


def test_a_server_in_trouble_is_asked_again(tiny: TinyArchive, cache: Cache) -> None:
    tiny.trouble["debian/pool/x"] = ["500", "500"]
    fetch(tiny, cache, "pool/x", DATA)
    assert len(tiny.asked) == 3


def test_a_server_that_stays_in_trouble_ends_it(tiny: TinyArchive, cache: Cache) -> None:
    tiny.trouble["debian/pool/x"] = ["500"] * 99
    with pytest.raises(FetchError, match="HTTP 500") as error:
        fetch(tiny, cache, "pool/x", DATA)
    assert "CHANLAB_DEBIAN_MIRROR" in error.value.hint


def test_a_file_that_is_gone_says_so_at_once(tiny: TinyArchive, cache: Cache) -> None:
    tiny.trouble["debian/pool/x"] = ["404"]
    with pytest.raises(debian_fetch.NotThere):
        fetch(tiny, cache, "pool/x", DATA)
    assert len(tiny.asked) == 1


def test_a_kept_download_is_checked_again(tiny: TinyArchive, cache: Cache) -> None:
    fetch(tiny, cache, "pool/x", DATA).write_bytes(b"rotten")
    assert fetch(tiny, cache, "pool/x", DATA).read_bytes() == DATA


def test_nobody_there_is_explained(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debian_fetch, "_BACKOFF_SECONDS", 0.0)
    settings = load(
        {}, {"CHANLAB_CACHE": str(cache.root), "CHANLAB_DEBIAN_MIRROR": "http://127.0.0.1:9/debian"}
    )
    with Fetcher(settings, cache) as fetcher, pytest.raises(FetchError, match="cannot fetch"):
        fetcher.read("debian", "dists/trixie/InRelease")


def test_no_mirror_names_the_setting(cache: Cache, tmp_path: Path) -> None:
    settings = load({}, {"CHANLAB_CACHE": str(cache.root)}, apt=tmp_path)
    with Fetcher(settings, cache) as fetcher, pytest.raises(HostError, match="no Debian mirror") as error:
        fetcher.read("security", "dists/trixie-security/InRelease")
    assert "CHANLAB_DEBIAN_SECURITY_MIRROR" in error.value.hint


def test_an_interrupt_ends_downloads(tiny: TinyArchive, cache: Cache) -> None:
    cache.interrupt()
    with pytest.raises(LabError, match="interrupted"):
        fetch(tiny, cache, "pool/x", DATA)
    assert not list((cache.root / "v1/tmp").glob("*"))


def test_offline_asks_nobody(tiny: TinyArchive, cache: Cache) -> None:
    settings = tiny.settings(cache.root, CHANLAB_OFFLINE="1")
    with Fetcher(settings, cache) as fetcher, pytest.raises(FetchError, match="not in the cache"):
        fetcher.read("debian", "dists/trixie/InRelease")
    assert tiny.asked == []


def unpacked(tmp_path: Path, files: dict[str, bytes | str | tuple[str, str]]) -> Path:
    (tmp_path / "x.deb").write_bytes(deb(files))
    to = tmp_path / "to"
    to.mkdir(exist_ok=True)
    unpack(tmp_path / "x.deb", to)
    return to


def test_links_stay_inside_and_usr_is_merged(tmp_path: Path) -> None:
    to = unpacked(
        tmp_path,
        {
            "bin/tool": b"#!",
            "lib64/ld.so": "/lib/x86_64-linux-gnu/ld.so",
            "usr/bin/up": "../../../../../../etc/passwd",
            "usr/bin/same": ("hard", "bin/tool"),
            "usr/share/doc/tool/README": b"long",
        },
    )
    assert (to / "usr/bin/tool").stat().st_mode & 0o7777 == 0o755
    assert str((to / "usr/lib64/ld.so").readlink()) == "../lib/x86_64-linux-gnu/ld.so"
    assert str((to / "usr/bin/up").readlink()) == "../../etc/passwd"
    assert (to / "usr/bin/same").samefile(to / "usr/bin/tool")
    assert not (to / "usr/share/doc").exists()


@pytest.mark.parametrize("name", ["../evil", "usr/../../evil", "usr/bin/../../../evil"])
def test_a_path_that_leaves_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(FetchError, match="leaves"):
        unpacked(tmp_path, {name: b"x"})
    assert not (tmp_path / "evil").exists()


def test_an_absolute_path_stays_inside(tmp_path: Path) -> None:
    to = unpacked(tmp_path, {"/etc/motd": b"x"})
    assert (to / "etc/motd").read_bytes() == b"x"


def test_a_link_that_was_there_does_not_lead_out(tmp_path: Path) -> None:
    (tmp_path / "to").mkdir()
    (tmp_path / "to/etc").symlink_to(tmp_path)
    with pytest.raises(FetchError, match="leads out"):
        unpacked(tmp_path, {"etc/motd": b"x"})
    assert not (tmp_path / "motd").exists()


@pytest.mark.parametrize("data", [b"", b"!<arch>\n", b"!<arch>\nshort", b"PK"])
def test_what_is_no_package_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.deb").write_bytes(data)
    with pytest.raises(FetchError):
        unpack(tmp_path / "x.deb", tmp_path)


def stanza(name: str, version: str, **fields: str) -> str:
    more = "".join(f"{key.replace('_', '-')}: {value}\n" for key, value in fields.items())
    return (
        f"Package: {name}\nArchitecture: amd64\nVersion: {version}\n{more}Filename: f\nSize: 1\nSHA256: 0\n"
    )


def resolver(*stanzas: str, without: tuple[str, ...] = ()) -> Resolver:
    suite = archive.Suite("trixie", "debian", ())
    return Resolver([archive.Index(suite, "\n".join(stanzas).encode())], without)


def test_the_newest_version_wins() -> None:
    found = resolver(stanza("a", "1.9"), stanza("a", "1.10"), stanza("a", "1.10~rc1")).closure(["a"])
    assert [package.version for package in found] == ["1.10"]


def test_needs_alternatives_and_virtual_packages_are_followed() -> None:
    found = resolver(
        stanza("a", "1", Depends="b (>= 2) | c, awk, never", Pre_Depends="libc6 (>= 2.1)"),
        stanza("b", "1"),
        stanza("c", "1", Depends="a"),
        stanza("mawk", "1", Provides="awk (= 1), x"),
        stanza("libc6", "2.41"),
        without=("never",),
    ).closure(["a"])
    assert [package.name for package in found] == ["a", "c", "libc6", "mawk"]


def test_a_need_that_nothing_fills_is_named() -> None:
    with pytest.raises(FetchError, match=r"a needs the package b \(>= 2\), which trixie does not have"):
        resolver(stanza("a", "1", Depends="b (>= 2)"), stanza("b", "1")).closure(["a"])


@pytest.fixture
def stocked(tiny: TinyArchive) -> TinyArchive:
    tiny.kernel("trixie", "6.12.5")
    tiny.kernel("trixie", "6.12.40")
    tiny.kernel("trixie", "6.12.100", headers=False)
    tiny.kernel("trixie", "6.1.9")  # not a line of this suite
    tiny.publish("trixie")
    tiny.publish("bullseye")
    tiny.kernel("sid", "7.2.1")
    tiny.publish("sid")
    return tiny


def test_kernels_are_found_and_kept(stocked: TinyArchive, cache: Cache) -> None:
    settings = stocked.settings(cache.root)
    found = offers.load(settings, cache, QUIET)
    assert [(kernel.version, kernel.buildable) for kernel in found.kernels] == [
        ("7.2.1", True),
        ("6.12.100", False),
        ("6.12.40", True),
        ("6.12.5", True),
    ]
    assert found.kernels[2].compiler == "gcc-14"
    assert found.kernels[2].origin == "debian trixie"
    asked = len(stocked.asked)
    assert offers.load(settings, cache, QUIET) == found
    assert len(stocked.asked) == asked
    offers.load(settings, cache, QUIET, refresh=True)
    assert not any("Packages" in path for path, _ in stocked.asked[asked:])  # nothing in it had changed


@pytest.mark.parametrize("offline", ["0", "1"])
def test_a_mirror_that_is_gone_is_not_needed_where_all_is_there(
    stocked: TinyArchive, cache: Cache, offline: str
) -> None:
    found = offers.load(stocked.settings(cache.root), cache, QUIET)
    gone = {"CHANLAB_DEBIAN_MIRROR": "http://127.0.0.1:9/debian", "CHANLAB_OFFLINE": offline}
    assert offers.load(stocked.settings(cache.root, **gone), cache, QUIET).kernels == found.kernels


def test_another_mirror_is_asked_at_once(stocked: TinyArchive, cache: Cache) -> None:
    settings = stocked.settings(cache.root)
    offers.load(settings, cache, QUIET)
    asked = len(stocked.asked)
    changed = replace(settings, debian_mirror=f"{settings.debian_mirror}/")
    offers.load(changed, cache, QUIET)
    assert len(stocked.asked) > asked


def test_runs_that_begin_at_once_ask_once(stocked: TinyArchive, cache: Cache) -> None:
    settings, together = stocked.settings(cache.root), threading.Barrier(3)

    def load() -> Catalogue:
        own = cache.another()  # as another process has it
        together.wait()
        return offers.load(settings, own, QUIET)

    with ThreadPoolExecutor(3) as pool:
        found = [future.result() for future in [pool.submit(load) for _ in range(3)]]
    assert found[0] == found[1] == found[2]
    lists = Counter(path for path, _ in stocked.asked if path.endswith("InRelease"))
    assert set(lists.values()) == {1}


def test_a_stale_suite_is_left_out_and_said(stocked: TinyArchive, cache: Cache) -> None:
    stocked.publish("sid", until=datetime.now(UTC) - timedelta(days=3))
    found = offers.load(stocked.settings(cache.root), cache, QUIET)
    assert found.lines() == ["6.12"]
    assert "nothing is taken from sid" in found.notes[0]


def test_an_old_list_is_used_when_there_is_no_network(
    stocked: TinyArchive, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = stocked.settings(cache.root, CHANLAB_INDEX_HOURS="0")
    found = offers.load(settings, cache, QUIET)
    stocked.trouble = {
        f"debian/dists/{suite}/InRelease": ["500"] * 99 for suite in ("trixie", "bullseye", "sid")
    }
    said: list[str] = []
    progress = Progress(quiet=True)
    monkeypatch.setattr(progress, "note", said.append)
    assert offers.load(settings, cache, progress) == found
    assert "could not be renewed" in said[0]


def test_a_forged_list_is_never_replaced_by_an_old_one(stocked: TinyArchive, cache: Cache) -> None:
    settings = stocked.settings(cache.root, CHANLAB_INDEX_HOURS="0")
    offers.load(settings, cache, QUIET)
    stocked.publish("trixie", key=Tsk.generate(user_id="somebody else"))
    with pytest.raises(SignatureError):
        offers.load(settings, cache, QUIET)


def test_collecting_fetches_nothing(stocked: TinyArchive, cache: Cache) -> None:
    found = offers.load(stocked.settings(cache.root), cache, QUIET, fetch=False)
    assert stocked.asked == []
    assert str(found.select(["6.12"], ["x86_64"], ["stock"])[0]) == "6.12-x86_64"
    assert str(found.select(["6.12.7"], ["x86_64"], ["stock"])[0]) == "6.12.7-x86_64"


def test_a_kernel_is_unpacked(stocked: TinyArchive, cache: Cache) -> None:
    settings = stocked.settings(cache.root)
    kernel = offers.load(settings, cache, QUIET).select(["6.12"], ["x86_64"], ["stock"])[0].kernel
    files = fetch_kernel(kernel, settings, cache, QUIET)
    assert files.image.read_bytes() == b"image"
    assert files.config.read_text() == "CONFIG_SMP=y\n"
    assert files.modules.name == "6.12.40+deb13-amd64"
    assert (files.modules / "modules.dep").read_text() == (
        "kernel/drivers/virtio/virtio-pci.ko: kernel/drivers/virtio/virtio.ko\n"
        "kernel/drivers/virtio/virtio.ko:\n"
    )
    assert not (files.modules / "kernel/drivers/media").exists()
    assert not list((cache.root / "v1/download").glob("*/linux-image*"))
    asked = len(stocked.asked)
    assert fetch_kernel(kernel, settings, cache, QUIET) == files
    assert len(stocked.asked) == asked


def test_a_kernel_without_headers_says_so(stocked: TinyArchive, cache: Cache) -> None:
    settings = stocked.settings(cache.root)
    kernel = offers.load(settings, cache, QUIET).select(["6.12.100"], ["x86_64"], ["stock"])[0].kernel
    with pytest.raises(LabError, match=r"no headers of kernel 6\.12\.100"):
        fetch_headers(kernel, settings, cache, QUIET)


def test_a_package_that_left_the_mirror_tells_the_remedy(stocked: TinyArchive, cache: Cache) -> None:
    settings = stocked.settings(cache.root)
    kernel = offers.load(settings, cache, QUIET).select(["6.12"], ["x86_64"], ["stock"])[0].kernel
    del stocked.files["debian/pool/linux-image-6.12.40+deb13-amd64_6.12.40-1.deb"]
    with pytest.raises(debian_fetch.NotThere, match="does not have it") as error:
        fetch_kernel(kernel, settings, cache, QUIET)
    assert "--refresh" in error.value.hint
    assert not list((cache.root / "v1/tmp").glob("*"))


def test_what_the_mirror_lists_and_does_not_have_is_passed_over(stocked: TinyArchive, cache: Cache) -> None:
    settings = stocked.settings(cache.root)
    del stocked.files["debian/pool/linux-image-6.12.40+deb13-amd64_6.12.40-1.deb"]
    found = offers.load(settings, cache, QUIET)
    assert any(re.match("passed over for x86_64, .*: 6.12.40-1$", note) for note in found.notes)
    assert all(kernel.version != "6.12.40" for kernel in found.kernels)
    assert found.select(["6.12.100"], ["x86_64"], ["stock"])


def test_an_unknown_root_is_named(tiny: TinyArchive, cache: Cache) -> None:
    with pytest.raises(UsageError, match="'gcc-1'"):
        root("gcc-1", tiny.settings(cache.root), cache, QUIET)


def test_a_package_that_is_named_and_is_not_there(
    tiny: TinyArchive, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "roots:\n  gcc-1: {suites: [trixie], packages: [gcc-1], without: [gawk, tzdata], skip: x}\n"
    roots.DATA.write_text(text)
    for name in ("libc6", "gawk"):
        tiny.add("trixie", name, "1", {})
    tiny.publish("trixie")
    settings = tiny.settings(cache.root)
    with pytest.raises(UsageError, match="chanlab_tools names nosuch, which trixie does not have"):
        roots.tools("gcc-1", ["gawk", "nosuch"], settings, cache, QUIET)
    made = []
    monkeypatch.setattr(roots, "_make", lambda called, spec, *_, **__: made.append((called, spec)))
    roots.tools("gcc-1", ["git", "gawk"], settings, cache, QUIET)
    roots.tools("gcc-1", ["gawk", "git", "git"], settings, cache, QUIET)
    assert made[0] == made[1]
    called, spec = made[0]
    assert called.startswith("tools-gcc-1-")
    assert spec["suites"] == ["trixie"]
    assert spec["packages"] == ["libc6", "gawk", "git"]
    assert spec["without"] == ["tzdata"]
