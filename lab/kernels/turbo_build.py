# SPDX-License-Identifier: MIT
"""Building the lab's own QEMU: fetch Debian's source, patch, configure, compile; see lab.kernels.turbo.

All programs that are asked for at once are built in one directory, since nine files of ten are the same in
each. An interrupted build goes on where it was: ninja knows which files came to their end.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from lab.arch import host
from lab.errors import BuildFailed, CacheError, FetchError
from lab.kernels import roots, turbo, turbo_wheel
from lab.kernels.debian.fetch import Item
from lab.kernels.debian.source_packages import Source, fetch_source, find_source, source_version
from lab.kernels.debian.unpack import unpack_source
from lab.kernels.process import run
from lab.kernels.toolchain import tool
from lab.store.cache import digest, file_digest
from lab.store.disk import free_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from lab.arch import Architecture
    from lab.kernels.roots import Root
    from lab.progress import Progress, Task
    from lab.settings import Settings
    from lab.store.cache import Cache

_POLL_SECONDS = 0.2
# Firmware's sources, two thirds of all: the QEMU root has the firmware itself. Patches of these alone are
# left out with them.
_LEFT_OUT = "roms/"
_LICENCES = ("COPYING", "LICENSE")
_STEP = re.compile(r"\[(\d+)/(\d+)\] ")
_MOST_LINES = 60  # of what the compiler says

# Measured on QEMU 10.0.13 and rounded up; for people, and for looking whether there is room.
_FETCH_SOURCE, _FETCH_ROOT, _FETCH_QEMU = 40e6, 90e6, 30e6
_DISK_SOURCE, _DISK_ROOT, _DISK_QEMU, _DISK_ONE, _DISK_NEXT = 190e6, 220e6, 140e6, 85e6, 25e6
_KEPT_ONE = 16e6  # as it was linked, and bound
_CPU_ONE, _CPU_NEXT = 380, 120  # seconds


@dataclass(frozen=True)
class Plan:
    """What is to be done, before anything of it is."""

    todo: tuple[Architecture, ...]
    there: tuple[Architecture, ...]  # built already
    fetch: float  # bytes
    disk: float  # bytes while it builds
    kept: float  # bytes of them that stay
    seconds: float

    def lines(self, jobs: int) -> list[str]:
        """Say it."""
        said = [f"there already: {', '.join(arch.name for arch in self.there)}"] if self.there else []
        if self.todo:
            spent = max(1, round(self.seconds / 60))
            said += [
                f"to be built: {', '.join(arch.qemu for arch in self.todo)}",
                (
                    f"{self.fetch / 1e6:.0f} MB to fetch, about {spent} minutes on {jobs} idle"
                    f" CPU{'s' if jobs != 1 else ''}, {self.disk / 1e6:.0f} MB of disk meanwhile,"
                    f" {self.kept / 1e6:.0f} MB afterwards"
                ),
            ]
        return said


def plan(arches: Sequence[Architecture], settings: Settings, cache: Cache) -> Plan:
    """Say what building for architectures takes; asks no network.

    Raises CacheError where there is not enough room.
    """
    known = [(arch, roots.known("qemu", cache, target=arch)) for arch in arches]
    there = [arch for arch, root in known if root is not None and turbo.built(arch, root, cache)]
    todo = [arch for arch in arches if arch not in there]
    if not todo:
        return Plan((), tuple(there), 0, 0, 0, 0)
    fetch, kept = _FETCH_SOURCE, _KEPT_ONE * len(todo)
    if roots.known("qemu-build", cache) is None:
        fetch, kept = fetch + _FETCH_ROOT, kept + _DISK_ROOT
    missing = {arch.qemu_package for arch, root in known if root is None}
    fetch, kept = fetch + len(missing) * _FETCH_QEMU, kept + len(missing) * _DISK_QEMU + _FETCH_SOURCE
    disk = kept + _DISK_SOURCE + _DISK_ONE + _DISK_NEXT * (len(todo) - 1)
    free = free_bytes(cache.root)
    if free < disk:
        raise CacheError(
            f"building needs {disk / 1e6:.0f} MB in {cache.root}, where {free / 1e6:.0f} MB are free",
            hint="free some there (`lab clean` frees the cache) or set CHANLAB_CACHE elsewhere",
        )
    seconds = (_CPU_ONE + _CPU_NEXT * (len(todo) - 1)) / settings.jobs
    return Plan(tuple(todo), tuple(there), fetch, disk, kept, seconds)


def build(
    arches: Sequence[Architecture], settings: Settings, cache: Cache, progress: Progress
) -> list[turbo.Build]:
    """Return a build for each architecture, made where there is none.

    Raises BuildFailed with the compiler's lines, FetchError, HashMismatch, SignatureError, CacheError.
    """
    own = {arch.name: roots.root("qemu", settings, cache, progress, target=arch) for arch in arches}
    todo = [arch for arch in arches if turbo.built(arch, own[arch.name], cache) is None]
    by_version: dict[str, list[Architecture]] = {}
    for arch in todo:
        by_version.setdefault(own[arch.name].packages[arch.qemu_package], []).append(arch)
    for version, some in by_version.items():
        compiler = roots.root("qemu-build", settings, cache, progress)
        source = find_source(turbo.SOURCE, version, turbo.SUITES, settings, cache, progress)
        if source.version != source_version(version):
            progress.note(
                f"the archive has no source of QEMU {version} any more: {source.version} is built, and used"
                " with the libraries and the firmware of the other"
            )
        files = fetch_source(source, settings, cache, progress)
        _Tree(some, source, files, compiler, cache, progress, settings.jobs).build(own)
    found = [turbo.built(arch, own[arch.name], cache) for arch in arches]
    return [one for one in found if one is not None]


def wheel(
    builds: Sequence[turbo.Build], to: Path, settings: Settings, cache: Cache, progress: Progress
) -> Path:
    """Pack builds and all that they were made from as a wheel, and return its path.

    Raises UsageError for a directory that cannot be written to, FetchError where their source is not in the
    cache and cannot be had any more.
    """
    sources: dict[str, Path] = {}
    for version in {build.about.source for build in builds}:
        about = next(build.about for build in builds if build.about.source == version)
        source = Source(turbo.SOURCE, version, tuple(Item(*item) for item in about.items))
        sources |= fetch_source(source, settings, cache, progress)
    with progress.task("packing the wheel"):
        return turbo_wheel.pack(builds, sources, to)


class _Tree:
    """A source tree with its build directory."""

    def __init__(
        self,
        arches: Sequence[Architecture],
        source: Source,
        files: Mapping[str, Path],
        compiler: Root,
        cache: Cache,
        progress: Progress,
        jobs: int,
    ) -> None:
        self._arches = arches
        self._source = source
        self._files = files
        self._compiler = compiler
        self._cache = cache
        self._progress = progress
        self._jobs = jobs
        self._line = turbo.configure_line(arches, source.version)
        self._devices = {turbo.target(arch): turbo.devices(arch).read_text() for arch in arches}
        self._patches = {path.name: file_digest(path) for path in turbo.patches()}
        self._key = digest(
            turbo.MAKER, self._line, self._devices, list(self._patches.items()), compiler.digest,
            [item.sha256 for item in source.items], str(cache.root),
        )  # fmt: skip

    def build(self, own: Mapping[str, Root]) -> None:
        """Build all programs, each kept as soon as it is there; `own`: the QEMU root of each architecture."""
        kept = self._cache.entry(
            "turbo-tree",
            self._key,
            lambda building, _: self._unpack(building),
            durable=False,
            fixed=False,
        )
        with _alone(kept, self._cache) as lock:
            build = self._configured(kept, lock)
            for arch in self._arches:
                self._compile(arch, build, lock)
                self._keep(arch, kept, own[arch.name])
        self._cache.discard("turbo-tree", self._key)

    def _unpack(self, building: Path) -> None:
        """Fill a directory with the patched source."""
        source = building / "source"
        source.mkdir()

        def wanted(path: str) -> bool:
            self._cache.check_interrupt()
            return not path.startswith(_LEFT_OUT)

        with self._progress.task(f"unpacking the source of QEMU {self._source.version}"):
            for end, strip in ((".orig.tar.", 1), (".debian.tar.", 0)):
                name = PurePosixPath(self._source.ending(end).path).name
                unpack_source(self._files[name], source, wanted, strip=strip)
            theirs = source / "debian/patches"
            names = turbo.series((theirs / "series").read_text())
            for path in [*(theirs / name for name in names), *turbo.patches()]:
                self._patch(source, path)
        for name, text in self._devices.items():
            (source / "configs/devices" / name / "chanlab.mak").write_text(text)

    def _patch(self, source: Path, path: Path) -> None:
        patch = path.read_bytes()
        changed = re.findall(rb"^(?:---|\+\+\+) (?!/dev/null)[^/\s]+/(\S+)", patch, re.MULTILINE)
        if changed and all(name.startswith(_LEFT_OUT.encode()) for name in changed):
            return
        argv = [*self._compiler.command("patch"), "-p1", "--fuzz=0", "--forward", "--no-backup-if-mismatch"]
        status, output = run(
            [*argv, "--reject-file=-"], cwd=source, env=self._compiler.environment(), stdin=patch
        )
        if status:
            ours = path.is_relative_to(turbo.DATA)
            raise BuildFailed(
                f"{path.name} does not apply to QEMU {self._source.version}",
                output.rstrip(),
                hint="the lab is older than this QEMU: a later version may know it"
                if ours
                else "the source package is not what it was: report this",
            )

    def _environment(self, kept: Path) -> dict[str, str]:
        root = self._compiler.path
        libraries = roots.find_libraries(root, host())
        return {
            **self._compiler.environment(),
            "PKG_CONFIG_LIBDIR": f"{root / libraries[0] / 'pkgconfig'}:{root / 'usr/share/pkgconfig'}",
            "PKG_CONFIG_SYSROOT_DIR": str(root),
            "PYTHONNOUSERSITE": "1",
            "PYTHONPYCACHEPREFIX": str(kept / "pycache"),  # nothing is written to the root
            "NINJA_STATUS": "[%f/%t] ",
        }

    def _configured(self, kept: Path, lock: int) -> Path:
        """Return the build directory, configured."""
        build, done = kept / "build", kept / "configured"
        if done.exists():
            return build
        shutil.rmtree(build, ignore_errors=True)
        build.mkdir()
        argv = [*self._compiler.command("dash"), "../source/configure", *self._line]
        with self._progress.task(f"configuring QEMU {self._source.version}"):
            status, output = run(argv, cwd=build, env=self._environment(kept), keep=(lock,))
        if status:
            raise BuildFailed("QEMU's configure fails", _tail(output), hint=_REPORT)
        done.touch()
        return build

    def _compile(self, arch: Architecture, build: Path, lock: int) -> None:
        argv = [*self._compiler.command("ninja"), f"-j{self._jobs}", arch.qemu]
        with self._progress.task(f"compiling {arch.qemu}") as task:
            status, output = run(
                argv,
                cwd=build,
                env=self._environment(build.parent),
                keep=(lock,),
                on_line=_Steps(task, self._cache),
            )
        if status:
            raise BuildFailed(f"{arch.qemu} does not compile", compiler_lines(output), hint=_REPORT)

    def _keep(self, arch: Architecture, kept: Path, own: Root) -> None:
        """Put a linked program into an entry of its own, and remember what it is for."""
        stripped = kept / f"{arch.qemu}.stripped"
        argv = [*tool(self._compiler, host(), "strip"), "-o", str(stripped), str(kept / "build" / arch.qemu)]
        status, output = run(argv, cwd=kept, env=self._compiler.environment())
        if status:
            raise BuildFailed(f"strip refuses {arch.qemu}", output, hint=_REPORT)
        about = turbo.About(
            interface=turbo.INTERFACE,
            host=host().name,
            arch=arch.name,
            program=arch.qemu,
            source=self._source.version,
            items=tuple((item.tree, item.path, item.size, item.sha256) for item in self._source.items),
            patches=self._patches,
            devices=self._devices[turbo.target(arch)],
            configure=tuple(self._line),
            compiler=dict(self._compiler.packages),
            sha256=file_digest(stripped),
        )

        def make(building: Path, _final: Path) -> None:
            shutil.copyfile(stripped, building / arch.qemu)
            (building / arch.qemu).chmod(0o755)
            for name in _LICENCES:
                shutil.copyfile(kept / "source" / name, building / name)
            (building / turbo.ABOUT).write_text(json.dumps(asdict(about), indent=1))

        key = f"{arch.name}-{about.digest[:24]}"
        self._cache.entry("turbo", key, make, fixed=False)  # bind() looks at it, and it is not made again
        self._cache.remember(turbo.fact(arch), {"for": turbo.wanted(arch, own), "key": key})


_REPORT = "run it again with CHANLAB_JOBS=1 if memory is short; else report this"


class _Steps:
    """Shows ninja's own count of what is done."""

    def __init__(self, task: Task, cache: Cache) -> None:
        self._task = task
        self._cache = cache
        self._done = 0
        self._total = 0

    def __call__(self, line: str) -> None:
        self._cache.check_interrupt()
        match = _STEP.match(line)
        if match is None:
            return
        done, total = int(match[1]), int(match[2])
        if total != self._total:
            self._task.total(total)
            self._total = total
        self._task.advance(done - self._done)
        self._done = done


@contextmanager
def _alone(kept: Path, cache: Cache) -> Iterator[int]:
    """Be the only one who builds in a tree: another run may, or what a killed one left behind."""
    descriptor = os.open(kept / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                cache.check_interrupt()
                time.sleep(_POLL_SECONDS)
        if not (kept / "source").is_dir():
            raise FetchError(f"{kept} was removed while it was wanted", hint="start again")
        yield descriptor
    finally:
        os.close(descriptor)


def compiler_lines(output: str) -> str:
    """Return what a compiler said, out of what ninja prints: neither its steps nor the command lines."""
    said: list[str] = []
    failed = False
    for line in output.splitlines():
        if line.startswith("FAILED: "):
            failed = True
            said.append(line)
        elif _STEP.match(line):
            failed = False
        elif failed and not (said[-1].startswith("FAILED: ") and " -o " in line):
            said.append(line)
    return "\n".join(said[:_MOST_LINES]) if said else _tail(output)


def _tail(output: str) -> str:
    return "\n".join(output.rstrip().splitlines()[-_MOST_LINES // 2 :])
