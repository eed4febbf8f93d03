# SPDX-License-Identifier: MIT
"""The lab's own QEMU: its source, building it with tools that cost nothing, choosing it, and its wheel."""

from __future__ import annotations

import email
import json
import re
import sys
import time
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner
from tiny_archive import TinyArchive, serve, tarball

from lab import cli, doctor
from lab.arch import ARM64, ARMHF, X86_64, Architecture, host
from lab.errors import BuildFailed, CacheError, LabError, UsageError
from lab.guest import qemu as guest_qemu
from lab.kernels import process, roots, turbo, turbo_build, turbo_wheel
from lab.kernels.debian import fetch as debian_fetch
from lab.kernels.roots import Root
from lab.progress import Progress
from lab.store.cache import Cache, file_digest
from lab.store.disk import free_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab.guest.argv import Qemu
    from lab.settings import Settings

QUIET = Progress(quiet=True)
SUITES = "suites:\n  trixie: {}\n  trixie-security: {}\n"
VERSION = "1:10.0.13+ds-0+deb13u1"
UPSTREAM: dict[str, bytes | str] = {
    "qemu-10.0.13/configure": b"#!/bin/sh\n",
    "qemu-10.0.13/COPYING": b"GPL\n",
    "qemu-10.0.13/LICENSE": b"says\n",
    "qemu-10.0.13/lib/one.c": b"one\n",
    "qemu-10.0.13/link": "lib/one.c",
    "qemu-10.0.13/configs/devices/x86_64-softmmu/default.mak": b"",
    "qemu-10.0.13/configs/devices/aarch64-softmmu/default.mak": b"",
    "qemu-10.0.13/roms/big.c": b"firmware\n",
}
DEBIAN: dict[str, bytes | str] = {
    "debian/patches/series": b"# first\none.patch -p1\nroms.patch\n",
    "debian/patches/one.patch": b"--- a/lib/one.c\n+++ b/lib/one.c\n",
    "debian/patches/roms.patch": b"--- /dev/null\n+++ b/roms/new.c\n",
}
# What the real ones do, as far as it matters here.
PATCH = """
import pathlib, sys
said = sys.stdin.read()
if 'refuse' in said: print('1 out of 1 hunk FAILED'); sys.exit(1)
with pathlib.Path('patched').open('a') as file: file.write(said)
"""
DASH = """
import os, pathlib, sys
with pathlib.Path('line').open('w') as file: print(*sys.argv[1:], file=file)
assert os.environ['PKG_CONFIG_LIBDIR'].startswith(str(pathlib.Path(sys.argv[0]).parents[2]))
if pathlib.Path('../../../../bad-configure').exists(): print('ERROR: no glib'); sys.exit(1)
"""
NINJA = """
import pathlib, sys, time
mood = (pathlib.Path(sys.argv[0]).parent / 'mood').read_text()
with pathlib.Path('runs').open('a') as file: print(sys.argv[-1], file=file)
print('[1/2] Compiling C object one.c.o', flush=True)
if mood == 'broken':
    print('FAILED: [code=1] one.c.o ')
    print('cc -m64 -c ../source/one.c -o one.c.o')
    print('../source/one.c:1:2: error: #error one')
    print('ninja: build stopped: subcommand failed.')
    sys.exit(1)
if mood == 'slow': time.sleep(60)
pathlib.Path(sys.argv[-1]).write_text('#!/bin/sh\\necho "QEMU emulator version 10.0.13"\\n# ' + 'symbols')
print(f'[2/2] Linking target {sys.argv[-1]}')
"""
STRIP = """
import pathlib, sys
_, _, out, name = sys.argv
pathlib.Path(out).write_text(pathlib.Path(name).read_text().replace('symbols', ''))
"""


class House:
    """An archive with a source, a root of tools, and roots of QEMU."""

    def __init__(self, base: Path, tiny: TinyArchive) -> None:
        self.base = base
        self.tiny = tiny
        self.cache = Cache(base / "cache")
        self.settings: Settings = replace(tiny.settings(base / "cache"), jobs=2)
        programs = base / "tools/usr/bin"
        programs.mkdir(parents=True)
        (base / "tools/usr/lib" / host().gnu).mkdir(parents=True)
        named = {"patch": PATCH, "dash": DASH, "ninja": NINJA, f"{host().gnu}-strip": STRIP}
        for name, text in named.items():
            (programs / name).write_text(f"#!{sys.executable} -IS{text}")
            (programs / name).chmod(0o755)
        self.tools = Root(base / "tools", "tools", {"gcc-14": "14.2.0"})
        self.mood("")
        self.versions = {"x86_64": VERSION, "arm64": VERSION}
        self.data = base / "kernels/qemu"
        self.data.mkdir(parents=True)
        (self.data / "series").write_text("# ours\nours.patch\n")
        (self.data / "ours.patch").write_text("--- a/x\n+++ b/x\nours\n")
        for arch in (X86_64, ARM64):
            turbo_name = f"{arch.qemu.removeprefix('qemu-system-')}-softmmu.mak"
            (self.data / turbo_name).write_text(f"CONFIG_{arch.name}=y\n")

    def mood(self, what: str) -> None:
        (self.base / "tools/usr/bin/mood").write_text(what)

    def root(self, name: str, *_: object, target: Architecture | None = None) -> Root:
        if name == "qemu-build":
            return self.tools
        assert target is not None
        packages = {target.qemu_package: self.versions[target.name]}
        return Root(self.base / target.qemu_package, f"{target.name} {packages}", packages)

    def known(self, name: str, _cache: Cache, *, target: Architecture | None = None) -> Root:
        return self.root(name, target=target)

    def publish(self, version: str = VERSION, suite: str = "trixie") -> None:
        files = {
            "qemu_1.dsc": version.encode(),
            "qemu_1.orig.tar.xz": tarball(UPSTREAM),
            "qemu_1.debian.tar.xz": tarball(DEBIAN),
        }
        self.tiny.source(suite, "qemu", version, files)
        self.tiny.source(suite, "qemu-other", "9", {"other.dsc": b""})
        for name in ("trixie", "trixie-security"):
            self.tiny.sources.setdefault(name, [])
            self.tiny.publish(name)

    def build(self, *arches: Architecture, progress: Progress = QUIET) -> list[turbo.Build]:
        return turbo_build.build(arches or (X86_64,), self.settings, self.cache, progress)

    def trees(self) -> list[Path]:
        return sorted(self.cache.root.glob("v1/turbo-tree/*"))


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    tiny = TinyArchive("")
    server = serve(tiny)
    tiny.install(tmp_path / "data", monkeypatch, SUITES)
    made = House(tmp_path, tiny)
    monkeypatch.setattr(debian_fetch, "_BACKOFF_SECONDS", 0.0)
    monkeypatch.setattr(roots, "root", made.root)
    monkeypatch.setattr(roots, "known", made.known)
    monkeypatch.setattr(turbo, "DATA", made.data)
    monkeypatch.setattr(turbo, "bind_programs", lambda *_: None)  # tests/test_inplace.py has that
    monkeypatch.setattr(turbo, "find_libraries", lambda *_: [])
    turbo._ours.cache_clear()
    yield made
    made.cache.close()
    server.shutdown()
    server.server_close()
    turbo._ours.cache_clear()


def test_a_build_is_made_once_and_leaves_no_tree(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.publish()
    seen: dict[str, str] = {}
    keep = turbo_build._Tree._keep

    def look(self: turbo_build._Tree, arch: Architecture, kept: Path, own: Root) -> None:
        seen["patched"] = (kept / "source/patched").read_text()
        seen["line"] = (kept / "build/line").read_text()
        seen["mak"] = (kept / "source/configs/devices/aarch64-softmmu/chanlab.mak").read_text()
        seen["roms"] = str((kept / "source/roms").exists())
        keep(self, arch, kept, own)

    monkeypatch.setattr(turbo_build._Tree, "_keep", look)
    one, two = house.build(X86_64, ARM64)
    assert one.program.name == "qemu-system-x86_64"
    assert one.program.read_text().endswith("# ")
    assert (one.program.parent / "COPYING").read_text() == "GPL\n"
    assert one.about.sha256 == file_digest(one.program)
    assert [Path(path).name for _, path, _, _ in one.about.items] == [
        "qemu_1.dsc", "qemu_1.orig.tar.xz", "qemu_1.debian.tar.xz",
    ]  # fmt: skip
    assert one.about.patches == {"ours.patch": file_digest(house.data / "ours.patch")}
    assert (two.about.arch, two.about.compiler) == ("arm64", {"gcc-14": "14.2.0"})
    assert re.search(r"one\.c\n.*ours", seen["patched"], re.DOTALL)
    assert "roms" not in seen["patched"]
    assert "--target-list=x86_64-softmmu,aarch64-softmmu" in seen["line"]
    assert seen["mak"] == "CONFIG_arm64=y\n"
    assert seen["roms"] == "False"
    assert house.trees() == []

    asked = len(house.tiny.asked)
    assert house.build(ARM64, X86_64) == [two, one]
    assert len(house.tiny.asked) == asked


@pytest.mark.parametrize("change", ["ours.patch", "series", "x86_64-softmmu.mak"])
def test_what_goes_into_a_build_decides_whether_it_is_the_one(house: House, change: str) -> None:
    house.publish()
    house.build(X86_64, ARM64)
    (house.data / change).write_text((house.data / change).read_text() + "# more\n")
    turbo._ours.cache_clear()
    arm = turbo.built(ARM64, house.root("qemu", target=ARM64), house.cache)
    assert turbo.built(X86_64, house.root("qemu", target=X86_64), house.cache) is None
    assert (arm is not None) == (change == "x86_64-softmmu.mak")


def test_another_version_of_the_root_wants_another_build(house: House) -> None:
    house.publish()
    house.build()
    house.versions["x86_64"] = "1:10.0.14-1"
    assert turbo.built(X86_64, house.root("qemu", target=X86_64), house.cache) is None


def test_a_source_of_another_version_is_told(house: House, capsys: pytest.CaptureFixture[str]) -> None:
    house.publish()
    house.versions["x86_64"] = "1:10.0.9-1"
    (made,) = house.build(progress=Progress())
    assert made.about.source == VERSION
    assert f"no source of QEMU 1:10.0.9-1 any more: {VERSION} is built" in capsys.readouterr().err


def test_the_compilers_lines_are_told_and_the_build_goes_on(house: House) -> None:
    house.publish()
    house.mood("broken")
    with pytest.raises(BuildFailed, match="qemu-system-x86_64 does not compile") as error:
        house.build()
    assert "../source/one.c:1:2: error: #error one" in error.value.output
    assert "cc -m64" not in error.value.output
    (tree,) = house.trees()
    line = (tree / "build/line").stat().st_mtime_ns
    house.mood("slow")

    class Impatient(Progress):
        def note(self, text: str) -> None:
            raise AssertionError(text)

    def interrupt(_: turbo_build._Steps, _line: str) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(turbo_build._Steps, "__call__", interrupt)
        started = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            house.build(progress=Impatient(quiet=True))
    assert time.monotonic() - started < 30
    assert not process._running
    house.mood("")
    assert (tree / "build/line").stat().st_mtime_ns == line  # configured once
    assert len(house.build()) == 1
    assert house.trees() == []


def test_a_patch_that_does_not_apply_is_named(house: House) -> None:
    house.publish()
    (house.data / "ours.patch").write_text("--- a/x\n+++ b/x\nrefuse\n")
    turbo._ours.cache_clear()
    with pytest.raises(BuildFailed, match=r"ours\.patch does not apply to QEMU 1:10") as error:
        house.build()
    assert "hunk FAILED" in error.value.output
    assert house.trees() == []


def test_configure_that_fails_is_told_and_done_again(house: House) -> None:
    house.publish()
    (house.cache.root / "bad-configure").touch()
    (house.cache.root / "v1/bad-configure").touch()
    with pytest.raises(BuildFailed, match="configure fails") as error:
        house.build()
    assert error.value.output == "ERROR: no glib"
    for path in house.cache.root.rglob("bad-configure"):
        path.unlink()
    assert len(house.build()) == 1


def test_what_is_to_be_done_is_said_first(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.publish()
    one = turbo_build.plan([X86_64], house.settings, house.cache)
    both = turbo_build.plan([X86_64, ARM64], house.settings, house.cache)
    assert [arch.name for arch in both.todo] == ["x86_64", "arm64"]
    assert 0 < one.seconds < both.seconds < 2 * one.seconds
    assert one.kept < one.disk < both.disk
    assert re.search(r"to be built: qemu-system-x86_64\n\d+ MB to fetch, about \d minutes on 2 idle CPUs",
                     "\n".join(one.lines(2)))  # fmt: skip
    house.build()
    assert turbo_build.plan([X86_64], house.settings, house.cache).lines(2) == ["there already: x86_64"]
    assert [arch.name for arch in turbo_build.plan([X86_64, ARM64], house.settings, house.cache).todo] == [
        "arm64"
    ]
    assert free_bytes(house.cache.root) > 0
    monkeypatch.setattr(turbo_build, "free_bytes", lambda _: 1 << 20)
    with pytest.raises(CacheError, match="building needs"):
        turbo_build.plan([ARM64], house.settings, house.cache)


def test_ninjas_count_is_shown(house: House) -> None:
    class Seen:
        amounts: tuple[float, ...] = ()
        totals: tuple[float, ...] = ()

        def advance(self, amount: float) -> None:
            self.amounts += (amount,)

        def total(self, amount: float) -> None:
            self.totals += (amount,)

    task = Seen()
    steps = turbo_build._Steps(task, house.cache)  # type: ignore[arg-type]  # as much of it as is used
    for line in ("[1/30] Compiling", "warning: [9/10]", "[4/30] Compiling", "[30/30] Linking"):
        steps(line)
    assert (sum(task.amounts), task.totals) == (30, (30,))
    house.cache.interrupt()
    with pytest.raises(LabError, match="interrupted"):
        steps("[30/30] Linking")


def test_the_compilers_lines_are_found_in_what_ninja_prints() -> None:
    text = "[1/9] cc\na.c: warning: no\n[2/9] cc\nFAILED: [code=1] b.o \ncc -c b.c -o b.o\nb.c:1: error: b\n"
    assert turbo_build.compiler_lines(text + "[3/9] cc\nc.c: warning: no\n") == (
        "FAILED: [code=1] b.o \nb.c:1: error: b"
    )
    assert turbo_build.compiler_lines("ninja: error: no space left") == "ninja: error: no space left"


def choose(house: House, arch: Architecture = X86_64, progress: Progress = QUIET, **more: object) -> Qemu:
    settings = replace(house.settings, **more)  # type: ignore[arg-type]  # fields of Settings
    return guest_qemu.qemu(settings, arch, house.cache, progress)


def test_it_is_used_where_it_is_there(house: House) -> None:
    house.publish()
    stock = choose(house)
    (made,) = house.build()
    ours, never = choose(house), choose(house, turbo=False)
    assert never == stock
    assert stock.command == (str(house.base / "qemu-system-x86/usr/bin/qemu-system-x86_64"),)
    assert ours == replace(stock, command=ours.command, digest=ours.digest, patched=True)
    assert ours.digest != stock.digest
    assert "/turbo-bound/" in ours.command[0]
    assert Path(ours.command[0]).read_bytes() == made.program.read_bytes()
    assert choose(house, ARM64).command[0].endswith("/qemu-system-arm/usr/bin/qemu-system-aarch64")
    fake = house.base / "theirs"
    fake.write_text('#!/bin/sh\necho "QEMU emulator version 9.1"\n')
    fake.chmod(0o755)
    assert choose(house, qemu=fake).version == "9.1"


def test_one_that_does_not_run_is_told_of_and_not_used(
    house: House, capsys: pytest.CaptureFixture[str]
) -> None:
    house.publish()
    (made,) = house.build()
    made.program.write_text("#!/bin/sh\necho 'GLIBC_2.99 not found' >&2; exit 1\n")
    assert choose(house, progress=Progress()) == choose(house, turbo=False)
    assert "is not what was built" in capsys.readouterr().err
    about = json.loads((made.program.parent / turbo.ABOUT).read_text())
    about["sha256"] = file_digest(made.program)
    (made.program.parent / turbo.ABOUT).write_text(json.dumps(about))
    assert choose(house, progress=Progress()) == choose(house, turbo=False)
    said = capsys.readouterr().err
    assert "x86_64: guests run under Debian's QEMU" in said
    assert "GLIBC_2.99 not found" in said
    (made.program.parent / turbo.ABOUT).write_text("{}")
    assert choose(house) == choose(house, turbo=False)


def pack(house: House) -> Path:
    builds = house.build(X86_64, ARM64)
    return turbo_build.wheel(builds, house.base / "out", house.settings, house.cache, QUIET)


def install(house: House, wheel: Path, patch: pytest.MonkeyPatch) -> Path:
    place = house.base / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(place)
    patch.syspath_prepend(str(place))
    return place / turbo_wheel.PACKAGE


def test_a_wheel_brings_the_programs_and_their_source(house: House) -> None:
    house.publish()
    wheel = pack(house)
    name, version, *tag = wheel.stem.split("-")
    assert (name, tag) == ("chanlab_turbo", ["py3", "none", f"linux_{host().uname[0]}"])
    assert re.fullmatch(rf"10\.0\.13\+{turbo.INTERFACE}\.\d+", version)
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        info = f"{name}-{version}.dist-info"
        metadata = email.message_from_bytes(archive.read(f"{info}/METADATA"))
        record = archive.read(f"{info}/RECORD").decode().splitlines()
        source = {Path(one).name: archive.read(one) for one in names if one.startswith(f"{name}/source/")}
        mode = archive.getinfo(f"{name}/bin/qemu-system-x86_64").external_attr >> 16
    assert (metadata["Name"], metadata["Version"]) == ("chanlab-turbo", version)
    assert sorted(line.partition(",")[0] for line in record) == sorted(names)
    assert mode & 0o777 == 0o755
    assert source["qemu_1.orig.tar.xz"] == house.tiny.files["debian/pool/trixie/qemu/qemu_1.orig.tar.xz"]
    assert source["ours.patch"] == (house.data / "ours.patch").read_bytes()
    assert {"series", "qemu_1.dsc", "qemu_1.debian.tar.xz", "README.md", "x86_64.json", "arm64.json"} <= set(
        source
    )
    assert {f"{name}/COPYING", f"{info}/licenses/COPYING"} <= set(names)
    assert [path.name for path in (house.base / "out").iterdir()] == [wheel.name]


def test_the_same_builds_give_the_same_wheel(house: House) -> None:
    house.publish()
    before = pack(house).read_bytes()
    assert pack(house).read_bytes() == before


def test_an_installed_wheel_is_used(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.publish()
    stock = choose(house, turbo=False)
    place = install(house, pack(house), monkeypatch)
    house.cache.close()
    house.cache.clean()
    ours = choose(house)
    assert ours.digest != stock.digest
    assert Path(ours.command[0]).read_bytes() == (place / "bin/qemu-system-x86_64").read_bytes()
    assert turbo_wheel.installed(ARMHF) is None
    finding = doctor._turbo(house.settings, house.cache)
    assert finding.mark == "good"
    assert f"QEMU 10.0.13, of {place}, for x86_64, arm64" in finding.text


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [("host", "riscv64", "runs on riscv64 hosts"), ("interface", 0, "another version of the lab")],
)
def test_a_wheel_that_does_not_fit_is_told_of(
    house: House,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    field: str,
    value: object,
    said: str,
) -> None:
    house.publish()
    place = install(house, pack(house), monkeypatch)
    house.cache.close()
    house.cache.clean()
    path = place / "source/about/x86_64.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), field: value}))
    assert choose(house, progress=Progress()) == choose(house, turbo=False)
    assert said in capsys.readouterr().err
    finding = doctor._turbo(house.settings, house.cache)
    assert finding.mark == "note"
    assert said in finding.text
    assert "for arm64" in finding.text


def test_a_wheel_needs_what_its_programs_were_made_from(house: House) -> None:
    house.publish()
    builds = house.build()
    (house.data / "ours.patch").write_text("changed")
    with pytest.raises(LabError, match="not what the programs were made from"):
        turbo_build.wheel(builds, house.base / "out", house.settings, house.cache, QUIET)
    assert list((house.base / "out").iterdir()) == []
    (house.base / "file").touch()
    with pytest.raises(UsageError, match="cannot write"):
        turbo_build.wheel(builds, house.base / "file", house.settings, house.cache, QUIET)


def test_the_doctor_tells_what_there_is(house: House) -> None:
    house.publish()
    nothing = doctor._turbo(house.settings, house.cache)
    assert (nothing.mark, "lab turbo" in nothing.hint) == ("note", True)
    house.build()
    good = doctor._turbo(house.settings, house.cache)
    assert (good.mark, good.text, good.hint) == ("good", "QEMU 10.0.13, built here, for x86_64", "")
    off = doctor._turbo(replace(house.settings, turbo=False), house.cache)
    assert "CHANLAB_TURBO is 0" in off.text
    house.versions["x86_64"] = "1:10.0.14-1"
    stale = doctor._turbo(house.settings, house.cache)
    assert stale.mark == "note"
    assert "built for x86_64 belongs to another QEMU" in stale.text


def test_the_command_says_what_it_does(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.publish()
    monkeypatch.setattr(cli, "opened", lambda: (house.settings, house.cache, QUIET))
    done = CliRunner().invoke(cli.main, ["turbo", "--arch", "arm64", "--wheel", str(house.base / "out")])
    assert done.exit_code == 0, done.output
    assert "to be built: qemu-system-aarch64" in done.output
    assert f"arm64: QEMU {VERSION} in " in done.output
    (wheel,) = (house.base / "out").iterdir()
    assert wheel.name in done.output
    monkeypatch.chdir(house.base)
    done = CliRunner().invoke(cli.main, ["turbo", "--wheel", "--arch", "arm64"])
    assert "there already: arm64" in done.output
    assert (house.base / wheel.name).read_bytes() == wheel.read_bytes()
    house.mood("broken")
    failed = CliRunner().invoke(cli.main, ["turbo"])
    assert failed.exit_code == 1
    assert "error: #error one" in failed.output


def test_each_architecture_has_its_devices() -> None:
    from lab.arch import ARCHITECTURES

    assert {arch.name for arch in turbo.architectures()} == set(ARCHITECTURES)
    for arch in ARCHITECTURES.values():
        lines = turbo.devices(arch).read_text().splitlines()
        assert all(re.fullmatch(r"#.*|CONFIG_\w+=y|", line) for line in lines)
        assert f"CONFIG_VIRTIO_{arch.bus.upper()}=y" in lines
