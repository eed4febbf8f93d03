# SPDX-License-Identifier: MIT
"""Unpacks Debian packages: ar, then tar; no dpkg, no maintainer script, no rights, nothing elsewhere."""

from __future__ import annotations

import io
import os
import re
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from lab.errors import FetchError

if TYPE_CHECKING:
    from collections.abc import Callable

_AR = b"!<arch>\n"
_MEMBER = 60  # bytes of an ar member's head
# What Debian's merged /usr makes one: a package that still says bin/ means usr/bin/.
_MERGED = re.compile(r"(bin|sbin|lib|lib32|lib64|libx32)(?=/|$)")
_USELESS = re.compile(
    r"usr/share/(doc|man|locale|info|lintian|bug|doc-base|menu|applications|icons|pixmaps|bash-completion)(/|$)"
)


def unpack(package: Path, to: Path, wanted: Callable[[str], bool] | None = None) -> None:
    """Unpack a .deb's files below a directory, without documentation.

    `wanted` says of a path inside the package, usr/bin/make say, whether it is taken. Links are made to
    point inside `to`. Raises FetchError for what is no package or would leave the directory.
    """
    root = Path(os.path.realpath(to))
    safe: set[Path] = {root}
    with package.open("rb") as file, tarfile.open(fileobj=_data(file, package), mode="r|*") as archive:
        for member in archive:
            name = _inside(member.name, package)
            if not name or _USELESS.match(name) or (wanted is not None and not wanted(name)):
                continue
            _place(archive, member, name, root, safe)


def _data(file: BinaryIO, package: Path) -> BinaryIO:
    """Return the data member of an ar file, positioned at its start."""
    if file.read(len(_AR)) != _AR:
        raise FetchError(f"{package} is no Debian package")
    while len(head := file.read(_MEMBER)) == _MEMBER:
        name, size = head[:16].decode("ascii").rstrip(" /"), int(head[48:58])
        if name.startswith("data.tar"):
            return io.BufferedReader(_Part(file, size), 1 << 18)
        file.seek(size + size % 2, os.SEEK_CUR)
    raise FetchError(f"{package} holds no files")


class _Part(io.RawIOBase):
    """The next so many bytes of a file."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._left = size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # what it is called with
        data = self._file.read(min(len(buffer), self._left))
        buffer[: len(data)] = data
        self._left -= len(data)
        return len(data)


def _inside(name: str, package: Path | None = None) -> str:
    """Return a path of a package relative to its root, with merged /usr; empty for the root itself."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise FetchError(f"{package} has a file that leaves its place: {name}")
    path = "/".join(parts)
    return f"usr/{path}" if _MERGED.match(path) else path


def _place(archive: tarfile.TarFile, member: tarfile.TarInfo, name: str, root: Path, safe: set[Path]) -> None:
    path = root / name
    _check_parent(path.parent, root, safe)
    mode = member.mode & 0o777 | 0o600
    if member.isdir():
        path.mkdir(mode=0o755, exist_ok=True)
        return
    if member.isfile():
        path.unlink(missing_ok=True)
        source = archive.extractfile(member)
        assert source is not None
        with path.open("xb") as file:
            while chunk := source.read(1 << 20):
                file.write(chunk)
            os.fchmod(file.fileno(), mode)
    elif member.issym():
        path.unlink(missing_ok=True)
        path.symlink_to(_link(name, member.linkname))
    elif member.islnk():
        path.unlink(missing_ok=True)
        target = root / _inside(member.linkname)
        _check_parent(target.parent, root, safe)
        path.hardlink_to(target)
    # Devices and pipes belong to no root of ours.


def _check_parent(parent: Path, root: Path, safe: set[Path]) -> None:
    """Make a directory, and make sure that no link leads it out of the root."""
    if parent in safe:
        return
    parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    if not Path(os.path.realpath(parent)).is_relative_to(root):
        raise FetchError(f"a package leads out of its place: {parent}")
    safe.add(parent)


def _link(name: str, target: str) -> str:
    """Return a link's target relative to the link, however it was written; never above the root."""
    directory = os.path.dirname(name)  # noqa: PTH120 - paths inside an archive, not of this host
    whole = target if target.startswith("/") else f"{directory}/{target}"
    parts: list[str] = []
    for part in whole.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return os.path.relpath(_inside("/".join(parts)) or ".", directory or ".")
