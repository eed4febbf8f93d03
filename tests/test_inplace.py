# SPDX-License-Identifier: MIT
"""Programs that run where they were unpacked: tried with a program of the host's, put into a package."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from test_debian import SUITES
from tiny_archive import TinyArchive, serve

from lab.errors import LabError
from lab.kernels import inplace
from lab.kernels.debian import fetch as debian_fetch
from lab.kernels.debian import offers
from lab.kernels.debian.packages import fetch_headers
from lab.kernels.roots import root
from lab.progress import Progress
from lab.store.cache import Cache

if TYPE_CHECKING:
    from collections.abc import Iterator

QUIET = Progress(quiet=True)
LIBRARIES = Path("/usr/lib/x86_64-linux-gnu")
LOADER = "ld-linux-x86-64.so.2"
X86_64 = 62  # EM_X86_64
PROGRAM = shutil.which("sort") or ""

pytestmark = pytest.mark.skipif(
    platform.machine() != "x86_64"
    or not (LIBRARIES / LOADER).exists()
    or not PROGRAM
    or not inplace.needed(Path(PROGRAM)),
    reason="the host has no dynamic x86_64 program of Debian's to try it with",
)

ROOTS = """
roots:
  gcc-14:
    suites: [trixie]
    packages: [tools]
    without: [never]
    links: {usr/bin/order: sort}
"""


def with_libraries() -> dict[str, bytes | str | tuple[str, str]]:
    """Return a program, its libraries and its loader, as a package has them."""
    files: dict[str, bytes | str | tuple[str, str]] = {"bin/sort": Path(PROGRAM).read_bytes()}
    todo = list(inplace.needed(Path(PROGRAM)) or ())
    while todo:
        path = LIBRARIES / todo.pop()
        name = f"lib/x86_64-linux-gnu/{path.name}"
        if name not in files:
            files[name] = path.read_bytes()
            todo += inplace.needed(path) or ()
    return {**files, f"lib/x86_64-linux-gnu/{LOADER}": (LIBRARIES / LOADER).read_bytes()}


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TinyArchive]:
    made = TinyArchive("")
    server = serve(made)
    made.install(tmp_path / "data", monkeypatch, SUITES, ROOTS)
    monkeypatch.setattr(debian_fetch, "_BACKOFF_SECONDS", 0.0)
    made.kernel("trixie", "6.12.5")
    made.publish("bullseye")
    made.publish("sid")
    yield made
    server.shutdown()
    server.server_close()


def run(path: Path, **environ: str) -> str:
    done = subprocess.run([path], input="b\na\n", text=True, stdout=-1, env=environ, check=True)
    return done.stdout


def test_a_root_runs_in_place(tiny: TinyArchive, tmp_path: Path) -> None:
    files = with_libraries()
    files["usr/bin/script"] = b"#!/usr/bin/env sort\nb\na\n"
    tiny.add("trixie", "tools", "1", files, Depends="never")
    tiny.publish("trixie")
    cache = Cache(tmp_path / "cache")
    settings = tiny.settings(cache.root)
    made = root("gcc-14", settings, cache, QUIET)
    assert made.packages == {"tools": "1"}
    (program,) = made.command("sort")
    assert run(Path(program)) == "a\nb\n"
    assert run(made.path / "usr/bin/order", LD_LIBRARY_PATH="/nowhere") == "a\nb\n"
    assert (made.path / "usr/bin/script").read_text().startswith(f"#!{made.path}/usr/bin/sort\n")
    assert run(made.path / "usr/bin/script").endswith("a\nb\n")
    assert all(place.startswith(str(made.path)) for place in made.environment()["PATH"].split(":"))
    # A compiler's linker takes no library that was bound, and libc.so.6 can be run.
    for libc in made.path.glob("usr/lib/*/libc.so.6"):
        assert libc.read_bytes() == (LIBRARIES / "libc.so.6").read_bytes()
    maps = subprocess.run(
        ["/bin/sh", "-c", f"ulimit -c 0; LD_TRACE_LOADED_OBJECTS=1 {program}"], stdout=-1, check=True
    )
    used = [line.split(" => ")[1] for line in maps.stdout.decode().splitlines() if " => " in line]
    assert used
    assert all(line.startswith(str(made.path)) for line in used)

    asked = len(tiny.asked)
    assert root("gcc-14", settings, Cache(tmp_path / "cache"), QUIET) == made
    assert len(tiny.asked) == asked

    kernel = offers.load(settings, cache, QUIET).select(["6.12"], ["x86_64"], ["stock"])[0].kernel
    headers = fetch_headers(kernel, settings, cache, QUIET)
    assert (headers.kdir / "Makefile").read_text() == (
        f"include {headers.root}/usr/src/linux-headers-6.12.5+deb13-common/Makefile\n"
    )
    cache.close()


def test_a_library_that_is_missing_is_named(tiny: TinyArchive, tmp_path: Path) -> None:
    files = {name: what for name, what in with_libraries().items() if "libcrypto" not in name}
    if len(files) == len(with_libraries()):
        files = {name: what for name, what in files.items() if "libc.so" not in name}
    tiny.add("trixie", "tools", "1", files)
    tiny.publish("trixie")
    cache = Cache(tmp_path / "cache")
    with pytest.raises(LabError, match=r"libraries are missing in gcc-14-\w+: lib"):
        root("gcc-14", tiny.settings(cache.root), cache, QUIET)
    assert not list((cache.root / "v1/tmp").iterdir())
    cache.close()


def test_only_dynamic_executables_are_bound(tmp_path: Path) -> None:
    loader = inplace.Loader(LIBRARIES / LOADER, (LIBRARIES,), X86_64)
    for name, data in (("text", b"#!/bin/sh\n"), ("empty", b""), ("short", b"\x7fELF\x02\x01")):
        (tmp_path / name).write_bytes(data)
        assert not inplace.bind(tmp_path / name, loader)
        assert (tmp_path / name).read_bytes() == data
    shutil.copy(LIBRARIES / "libc.so.6", tmp_path / "libc.so.6")
    if inplace.needed(tmp_path / "libc.so.6") is not None:
        before = (tmp_path / "libc.so.6").read_bytes()
        inplace.unbind_library(tmp_path / "libc.so.6")
        assert (tmp_path / "libc.so.6").read_bytes() == before


def test_a_loader_of_another_distribution_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ld.so").write_bytes(b"\x7fELF")
    with pytest.raises(LabError, match="does not look like a loader"):
        inplace.seal_loader(tmp_path / "ld.so", "x86_64-linux-gnu")


def test_binding_twice_is_no_harm(tmp_path: Path) -> None:
    shutil.copy(PROGRAM, tmp_path / "sort")
    loader = inplace.Loader(Path(os.path.realpath(LIBRARIES / LOADER)), (LIBRARIES,), X86_64)
    assert inplace.bind(tmp_path / "sort", loader)
    assert run(tmp_path / "sort") == "a\nb\n"
