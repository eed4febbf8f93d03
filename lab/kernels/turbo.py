# SPDX-License-Identifier: MIT
"""The lab's own build of QEMU: Debian's source, the patches of kernels/qemu/, and only what the lab starts.

::

    turbo-tree/KEY/      source and build directory of a build that has not come to its end; gone after it
    turbo/KEY/           one program as it was linked and stripped, with what says how it was made
    turbo-bound/KEY/     the same, bound to the libraries of a QEMU root, see lab.kernels.inplace

A build is found without the network: what it has to be made for is remembered beside its key. It may also
come out of an installed wheel, see lab.kernels.turbo_wheel.
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path  # noqa: TC003 - a record's field
from typing import TYPE_CHECKING, Any

from lab.arch import ARCHITECTURES, host
from lab.errors import LabError
from lab.kernels.roots import bind_programs, find_libraries
from lab.parts import part
from lab.store.cache import digest, file_digest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lab.arch import Architecture
    from lab.kernels.roots import Root
    from lab.store.cache import Cache

DATA = part("kernels") / "qemu"
MAKER = 1  # to be raised when builds are to be made anew, since these files make them otherwise
# Of what the patches give to the lab. Raised when a build with older patches must not be used any more; one
# that merely lacks something is found out by asking it.
INTERFACE = 2
ABOUT = "about.json"
SUITES = ("trixie-security", "trixie")  # where the lab's QEMU root is from: the likelier one first
SOURCE = "qemu"  # the source package's name


@dataclass(frozen=True)
class About:
    """How a program was made: what is handed on with it, and what it is told by."""

    interface: int
    host: str  # the architecture that it runs on
    arch: str  # the architecture of its guests
    program: str  # qemu-system-*
    source: str  # Debian's version of the source package
    items: tuple[tuple[str, str, int, str], ...]  # its files: tree, path, bytes, sha256
    patches: dict[str, str]  # of kernels/qemu/: name -> sha256, in the order of the series
    devices: str  # the .mak file
    configure: tuple[str, ...]
    compiler: dict[str, str]  # packages of the root that it was built in: name -> version
    sha256: str  # of the program as it was linked

    @property
    def digest(self) -> str:
        """What tells this build from every other."""
        return digest("turbo", asdict(self))


@dataclass(frozen=True)
class Build:
    """A program that is there, not yet bound to a root."""

    program: Path
    about: About
    wheel: bool  # out of an installed wheel rather than the cache


def load_about(text: bytes | str) -> About:
    """Read what says how a program was made; raises LabError for what another version of the lab wrote."""
    try:
        fields: dict[str, Any] = json.loads(text)
        fields["items"] = tuple((str(a), str(b), int(c), str(d)) for a, b, c, d in fields["items"])
        fields["configure"] = tuple(fields["configure"])
        return About(**fields)
    except (ValueError, KeyError, TypeError) as error:
        raise LabError(
            f"nothing says how this QEMU was built: {error}", hint="`lab turbo` builds one"
        ) from error


def upstream(version: str) -> str:
    """Return the upstream part of a Debian version: '1:10.0.13+ds-0+deb13u1' -> '10.0.13'."""
    match = re.match(r"(?:\d+:)?(\d+(?:\.\d+)*)", version)
    return match[1] if match else version


def patches() -> list[Path]:
    """Return the lab's own patches, in the order of kernels/qemu/series; none without one."""
    try:
        text = (DATA / "series").read_text()
    except FileNotFoundError:
        return []
    return [DATA / name for name in series(text)]


def series(text: str) -> list[str]:
    """Return the names in a quilt series."""
    lines = (line.partition("#")[0].split() for line in text.splitlines())
    return [words[0] for words in lines if words]


def target(arch: Architecture) -> str:
    """Return QEMU's own name of what is built for guests of an architecture: x86_64-softmmu."""
    return f"{arch.qemu.removeprefix('qemu-system-')}-softmmu"


def devices(arch: Architecture) -> Path:
    """Return the file that says which machines and devices are built."""
    return DATA / f"{target(arch)}.mak"


def configure_line(arches: Sequence[Architecture], version: str) -> list[str]:
    """Return what QEMU's configure is told."""
    short = [target(arch).removesuffix("-softmmu") for arch in arches]
    return [
        f"--target-list={','.join(map(target, arches))}",
        "--without-default-devices",
        *(f"--with-devices-{name}=chanlab" for name in short),
        "--without-default-features",
        "--enable-system",
        "--enable-tcg",
        "--enable-kvm",  # has a meaning only for guests of the host's own architecture
        "--enable-seccomp",
        "--enable-trace-backends=nop",
        "--disable-qom-cast-debug",
        "--disable-debug-info",
        "--disable-docs",
        "--disable-tools",
        "--disable-install-blobs",
        "--disable-containers",
        "--disable-download",
        "--prefix=/usr",
        f"--with-pkgversion=chanlab, Debian {version}",
    ]


@lru_cache
def _ours(data: Path) -> tuple[str, ...]:
    """Return the digests of all in kernels/qemu/ that goes into a build."""
    files = sorted(path for path in data.iterdir() if path.is_file())
    return tuple(f"{path.name} {file_digest(path)}" for path in files)


def wanted(arch: Architecture, qemu_root: Root) -> str:
    """Return what a build has to be made for, to be used with a QEMU root: known without the network."""
    names = {devices(arch).name, "series", *(path.name for path in patches())}
    ours = [line for line in _ours(DATA) if line.split()[0] in names]
    version = qemu_root.packages[arch.qemu_package]
    return digest(
        "turbo", MAKER, INTERFACE, host().name, arch.name, version, ours, configure_line([arch], version)
    )


def fact(arch: Architecture) -> str:
    """Return the name under which the cache remembers the last build for an architecture."""
    return f"turbo-{host().name}-{arch.name}"


def built(arch: Architecture, qemu_root: Root, cache: Cache) -> Build | None:
    """Return the build in the cache that belongs to a QEMU root, if there is one."""
    known = cache.recall(fact(arch))
    if not isinstance(known, dict) or known.get("for") != wanted(arch, qemu_root):
        return None
    entry = cache.peek("turbo", known["key"])
    if entry is None:
        return None
    try:
        about = load_about((entry / ABOUT).read_bytes())
    except (OSError, LabError):
        return None
    return Build(entry / about.program, about, wheel=False)


def bind(build: Build, qemu_root: Root, cache: Cache, *, check: Callable[[Path], object]) -> Path:
    """Return a build's program, bound to the libraries of a QEMU root.

    `check` is given it once, before it is kept. Raises what that raises, LabError where the root lacks a
    library, CacheError.
    """

    def make(building: Path, _final: Path) -> None:
        shutil.copyfile(build.program, building / build.about.program)
        (building / build.about.program).chmod(0o755)
        if file_digest(building / build.about.program) != build.about.sha256:
            raise LabError(
                f"{build.program} is not what was built", hint="build it anew: `lab clean`, then `lab turbo`"
            )
        bind_programs(building, qemu_root.path, qemu_root.path, find_libraries(qemu_root.path, host()))
        check(building / build.about.program)

    key = f"{build.about.arch}-{digest(build.about.digest, qemu_root.digest, str(qemu_root.path))[:24]}"
    return cache.entry("turbo-bound", key, make) / build.about.program


def refused(build: Build, arch: Architecture) -> str:
    """Return why a build cannot be used here, '' where nothing is known against it."""
    about = build.about
    if about.host != host().name:
        return f"it runs on {about.host} hosts"
    if about.arch != arch.name or about.program != arch.qemu:
        return f"it is for {about.arch} guests"
    if about.interface != INTERFACE:
        return f"it was built by another version of the lab (its patches are of kind {about.interface})"
    return ""


def architectures() -> tuple[Architecture, ...]:
    """Return the architectures for whose guests a QEMU can be built."""
    return tuple(arch for arch in ARCHITECTURES.values() if devices(arch).is_file())
