# SPDX-License-Identifier: MIT
"""A wheel of the QEMUs that `lab turbo` built: packed here, installed by pip on another host, found there.

The wheel is a package without code. Beside the programs it has all that they were made from (QEMU is under
the GPL): Debian's source package, the lab's patches, the devices, the configure line and the compiler.
"""

from __future__ import annotations

import base64
import hashlib
import json
import platform
import zipfile
from contextlib import suppress
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from lab.arch import host
from lab.errors import LabError, UsageError
from lab.kernels import turbo
from lab.store.cache import digest, file_digest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from lab.arch import Architecture
    from lab.kernels.turbo import Build

PACKAGE = "chanlab_turbo"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the same wheel of the same builds
_XZ = (".xz", ".gz", ".bz2")  # packed already

_INIT = '''\
# SPDX-License-Identifier: MIT
"""QEMU as `lab turbo` of chanlab builds it: programs, and all that they were made from."""
'''

_METADATA = """\
Metadata-Version: 2.1
Name: chanlab-turbo
Version: {version}
Summary: QEMU {qemu} with chanlab's patches, for guests of {arches}
License: GPL-2.0-only
License-File: COPYING
Classifier: License :: OSI Approved :: GNU General Public License v2 (GPLv2)
Requires-Python: >=3.11
Description-Content-Type: text/markdown

{readme}"""

_README = """\
# chanlab-turbo

QEMU {qemu} for guests of {arches}, to be used by chanlab on {host} hosts: `pip install` is all, `lab doctor`
says whether it is found. The programs are not for use by themselves: chanlab binds a copy to libraries of
its own.

QEMU is free software under the GPL, version 2 as a whole (`COPYING`, `LICENSE`). This package brings its
source, in `{package}/source/`: Debian's source package as the archive has it, chanlab's patches
(`patches/series` says in which order they are applied, after Debian's own) and, for each program, in
`about/`, the machines and devices (`devices`, to be put into `configs/devices/TARGET/chanlab.mak`), the line
that `configure` was given and the versions of the compiler and the libraries. `lab turbo` of chanlab does all
of this.
"""

_WHEEL = """\
Wheel-Version: 1.0
Generator: chanlab
Root-Is-Purelib: false
Tag: {tag}
"""


def pack(builds: Sequence[Build], sources: Mapping[str, Path], to: Path) -> Path:
    """Write a wheel of builds of this host into a directory and return its path.

    `sources` are the files of the source packages, by name. Raises UsageError for a directory that cannot be
    written to, LabError where what a program was made from is not what it was.
    """
    versions = sorted({build.about.source for build in builds})
    qemu = turbo.upstream(versions[-1])
    arches = ", ".join(build.about.arch for build in builds)
    made = digest([build.about.digest for build in builds])[:8]
    version = f"{qemu}+{turbo.INTERFACE}.{int(made, 16)}"
    tag = f"py3-none-linux_{platform.machine()}"
    readme = _README.format(qemu=qemu, arches=arches, host=host().name, package=PACKAGE)
    info = f"{PACKAGE}-{version}.dist-info"
    texts = {
        f"{PACKAGE}/__init__.py": _INIT,
        f"{info}/METADATA": _METADATA.format(version=version, qemu=qemu, arches=arches, readme=readme),
        f"{info}/WHEEL": _WHEEL.format(tag=tag),
        f"{PACKAGE}/source/README.md": readme,
    }
    path = to / f"{PACKAGE}-{version}-{tag}.whl"
    part = path.with_suffix(".part")
    try:
        to.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as wheel:
            record = [_add(wheel, name, text.encode()) for name, text in texts.items()]
            record += [_add(wheel, name, file.read_bytes()) for name, file in _files(builds, sources, info)]
            record += [_add(wheel, name, text.encode()) for name, text in _abouts(builds)]
            lines = "\n".join([*record, f"{info}/RECORD,,", ""])
            _add(wheel, f"{info}/RECORD", lines.encode())
        part.replace(path)
    except OSError as error:
        raise UsageError(
            f"cannot write {path}: {error.strerror or error}", hint="give --wheel another directory"
        ) from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)
    return path


def _files(builds: Sequence[Build], sources: Mapping[str, Path], info: str) -> Iterator[tuple[str, Path]]:
    entry = builds[0].program.parent
    yield f"{info}/licenses/COPYING", entry / "COPYING"
    yield f"{PACKAGE}/COPYING", entry / "COPYING"
    yield f"{PACKAGE}/LICENSE", entry / "LICENSE"
    for build in builds:
        yield f"{PACKAGE}/bin/{build.about.program}", build.program
    wanted = {
        PurePosixPath(path).name: sha256 for build in builds for _, path, _, sha256 in build.about.items
    }
    for name, sha256 in sorted(wanted.items()):
        yield f"{PACKAGE}/source/{name}", _same(sources[name], sha256)
    yield f"{PACKAGE}/source/patches/series", turbo.DATA / "series"
    patches = {name: sha256 for build in builds for name, sha256 in build.about.patches.items()}
    for name, sha256 in patches.items():
        yield f"{PACKAGE}/source/patches/{name}", _same(turbo.DATA / name, sha256)


def _same(path: Path, sha256: str) -> Path:
    if file_digest(path) != sha256:
        raise LabError(f"{path} is not what the programs were made from", hint="`lab turbo` again, then pack")
    return path


def _abouts(builds: Sequence[Build]) -> Iterator[tuple[str, str]]:
    for build in builds:
        yield f"{PACKAGE}/source/about/{build.about.arch}.json", json.dumps(asdict(build.about), indent=1)


def _add(wheel: zipfile.ZipFile, name: str, data: bytes) -> str:
    """Add a file and return its line of RECORD."""
    member = zipfile.ZipInfo(name, _EPOCH)
    member.external_attr = (0o100755 if "/bin/" in name else 0o100644) << 16
    member.compress_type = zipfile.ZIP_STORED if name.endswith(_XZ) else zipfile.ZIP_DEFLATED
    wheel.writestr(member, data)
    hashed = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
    return f"{name},sha256={hashed},{len(data)}"


def installed(arch: Architecture) -> Build | None:
    """Return the build for an architecture that an installed wheel has, without looking whether it fits."""
    place = _place()
    if place is None:
        return None
    try:
        about = turbo.load_about((place / "source" / "about" / f"{arch.name}.json").read_bytes())
    except (OSError, LabError):
        return None
    program = place / "bin" / about.program
    return turbo.Build(program, about, wheel=True) if program.is_file() else None


def _place() -> Path | None:
    """Return where the package is; it is not imported."""
    try:
        spec = find_spec(PACKAGE)
    except (ImportError, ValueError):
        return None
    return Path(spec.origin).parent if spec is not None and spec.origin is not None else None
