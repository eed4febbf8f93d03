# SPDX-License-Identifier: MIT
"""Source packages: found by the version of what was built from them, verified, unpacked in their place."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tiny_archive import TinyArchive, serve, tarball

from lab.errors import FetchError, HashMismatch
from lab.kernels.debian import fetch as debian_fetch
from lab.kernels.debian.source_packages import Source, fetch_source, find_source, source_version
from lab.kernels.debian.unpack import unpack_source
from lab.progress import Progress
from lab.store.cache import Cache

if TYPE_CHECKING:
    from collections.abc import Iterator

QUIET = Progress(quiet=True)
SUITES = "suites:\n  trixie: {}\n  trixie-security: {}\n"
VERSION = "1:10.0.13+ds-0+deb13u1"
FILES: dict[str, bytes | str] = {
    "qemu-10.0.13/LICENSE": b"says\n",
    "qemu-10.0.13/lib/one.c": b"one\n",
    "qemu-10.0.13/link": "lib/one.c",
    "qemu-10.0.13/out": "../../etc/passwd",
}


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


def publish(tiny: TinyArchive, **versions: str) -> None:
    for suite in ("trixie", "trixie-security"):
        tiny.sources.setdefault(suite, [])
        version = versions.get(suite.replace("-", "_"))
        if version is not None:
            tiny.source(suite, "qemu", version, {"q.dsc": version.encode(), "q.orig.tar.xz": b"orig"})
            tiny.source(suite, "qemu-other", "9", {"other.dsc": b""})
        tiny.publish(suite)


def find(tiny: TinyArchive, cache: Cache, binary: str = VERSION) -> Source:
    suites = ("trixie-security", "trixie")
    return find_source("qemu", binary, suites, tiny.settings(cache.root), cache, QUIET)


def test_a_source_is_found_by_its_binarys_version(tiny: TinyArchive, cache: Cache) -> None:
    publish(tiny, trixie=VERSION, trixie_security="1:10.0.14-1")
    found = find(tiny, cache, f"{VERSION}+b2")
    assert (found.name, found.version, len(found.items)) == ("qemu", VERSION, 2)
    files = fetch_source(found, tiny.settings(cache.root), cache, QUIET)
    assert files["q.dsc"].read_text() == VERSION
    assert found.ending(".orig.tar.").path == "pool/trixie/qemu/q.orig.tar.xz"
    with pytest.raises(FetchError, match=r"has 0 files \*\.debian\.tar\.\*"):
        found.ending(".debian.tar.")
    assert source_version("1:2-3") == "1:2-3"


def test_the_newest_source_stands_in_for_one_that_is_gone(tiny: TinyArchive, cache: Cache) -> None:
    publish(tiny, trixie="1:10.0.9-1", trixie_security="1:10.0.14-1")
    assert find(tiny, cache).version == "1:10.0.14-1"


def test_a_suite_is_not_asked_when_the_one_before_has_it(tiny: TinyArchive, cache: Cache) -> None:
    publish(tiny, trixie="1:10.0.9-1", trixie_security=VERSION)
    assert find(tiny, cache).version == VERSION
    assert not any("dists/trixie/" in path for path, _ in tiny.asked)


def test_a_source_that_is_not_the_signed_one_is_refused(tiny: TinyArchive, cache: Cache) -> None:
    publish(tiny, trixie=VERSION)
    tiny.files["debian/pool/trixie/qemu/q.orig.tar.xz"] = b"more"
    with pytest.raises(HashMismatch, match=r"q\.orig\.tar\.xz"):
        fetch_source(find(tiny, cache), tiny.settings(cache.root), cache, QUIET)


def test_an_index_that_is_not_the_signed_one_is_refused(tiny: TinyArchive, cache: Cache) -> None:
    publish(tiny, trixie=VERSION)
    tiny.files["debian/dists/trixie/main/source/Sources.xz"] += b"more"
    with pytest.raises(HashMismatch, match=r"Sources\.xz"):
        find(tiny, cache)


@pytest.mark.parametrize("sums", [" ffff 1 q.dsc", "\n ffff 1", "\n ffff one q.dsc"])
def test_a_source_without_good_sums_is_told(tiny: TinyArchive, cache: Cache, sums: str) -> None:
    tiny.sources["trixie-security"] = [f"Package: qemu\nVersion: 1\nDirectory: d\nChecksums-Sha256:{sums}\n"]
    tiny.publish("trixie-security")
    tiny.publish("trixie")
    with pytest.raises(FetchError, match="says nothing useful of the source qemu"):
        find(tiny, cache)


def test_no_source_at_all_is_told(tiny: TinyArchive, cache: Cache) -> None:
    publish(tiny)
    with pytest.raises(FetchError, match="have no source package qemu"):
        find(tiny, cache)


def test_a_tarball_stays_in_its_place(tmp_path: Path) -> None:
    to = tmp_path / "to"
    to.mkdir()
    (tmp_path / "good.tar.xz").write_bytes(tarball(FILES))
    unpack_source(tmp_path / "good.tar.xz", to, lambda path: path != "LICENSE", strip=1)
    assert (to / "lib/one.c").read_bytes() == b"one\n"  # /usr is not merged in a source
    assert (to / "link").readlink() == Path("lib/one.c")
    assert (to / "out").resolve().is_relative_to(to.resolve())
    assert not (to / "LICENSE").exists()
    (tmp_path / "bad.tar.xz").write_bytes(tarball({"../bad": b""}))
    with pytest.raises(FetchError, match="leaves its place"):
        unpack_source(tmp_path / "bad.tar.xz", to)
    (tmp_path / "half.tar.xz").write_bytes(tarball(FILES)[:100])
    with pytest.raises(FetchError, match="no whole tarball"):
        unpack_source(tmp_path / "half.tar.xz", to)
