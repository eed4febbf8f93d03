# SPDX-License-Identifier: MIT
"""Unpacks Debian packages: ar, then tar; no dpkg, no maintainer script, no rights, nothing elsewhere."""

from __future__ import annotations

import io
import lzma
import os
import re
import tarfile
from typing import IO, TYPE_CHECKING, BinaryIO, TypeVar

from lab.errors import FetchError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

T = TypeVar("T")

_AR = b"!<arch>\n"
_BLOCK = 1 << 20
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
    root = os.path.realpath(to)
    safe = {root}
    try:
        with (
            package.open("rb") as file,
            _data(file, package) as data,
            tarfile.open(fileobj=data, mode="r|", bufsize=_BLOCK) as archive,
        ):
            for member in archive:
                name = _inside(member.name, package)
                if name and not _USELESS.match(name) and (wanted is None or wanted(name)):
                    _place(archive, member, name, root, safe)
    except (tarfile.TarError, lzma.LZMAError, EOFError) as error:
        raise FetchError(f"{package} is no whole Debian package: {error}", hint="report this") from error


def unpack_source(
    tarball: Path, to: Path, wanted: Callable[[str], bool] | None = None, *, strip: int = 0
) -> None:
    """Unpack a tarball of a source package below a directory, without the first `strip` parts of each path.

    `wanted` is asked with what is left of the path. Raises FetchError for what is no tarball or would leave
    the directory.
    """
    root = os.path.realpath(to)
    safe = {root}
    try:
        with tarfile.open(tarball) as archive:
            for member in archive:
                parts = _parts(member.name, tarball)[strip:]
                name = "/".join(parts)
                if not name or (wanted is not None and not wanted(name)):
                    continue
                if member.islnk():  # its target would have to be stripped too
                    raise FetchError(f"{tarball} has a hard link: {name}", hint="report this")
                _place(archive, member, name, root, safe, merged=False)
    except (tarfile.TarError, lzma.LZMAError, EOFError) as error:
        raise FetchError(f"{tarball} is no whole tarball: {error}", hint="report this") from error


def _data(file: BinaryIO, package: Path) -> IO[bytes]:
    """Return what the data member of an ar file holds, decompressed."""
    if file.read(len(_AR)) != _AR:
        raise FetchError(f"{package} is no Debian package")
    while len(head := file.read(_MEMBER)) == _MEMBER:
        name, size = head[:16].decode("ascii", "replace").rstrip(" /"), int(head[48:58])
        if name == "data.tar.xz":
            return lzma.open(io.BufferedReader(_Part(file, size), _BLOCK))
        if name.startswith("data.tar"):
            raise FetchError(f"{package} is compressed as {name}, which is not known", hint="report this")
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
    path = "/".join(_parts(name, package))
    return f"usr/{path}" if _MERGED.match(path) else path


def _parts(name: str, package: Path | None = None) -> list[str]:
    parts = [part for part in name.split("/") if part not in {"", "."}]
    if ".." in parts:
        raise FetchError(f"{package} has a file that leaves its place: {name}")
    return parts


# Strings and os.* from here to the end: a kernel's headers are ten thousand files.


def _place(
    archive: tarfile.TarFile,
    member: tarfile.TarInfo,
    name: str,
    root: str,
    safe: set[str],
    *,
    merged: bool = True,
) -> None:
    path = f"{root}/{name}"
    if member.isdir():
        _check_directory(path, root, safe)
        return
    _check_directory(path.rpartition("/")[0], root, safe)
    if member.isfile():
        source = archive.extractfile(member)
        assert source is not None
        descriptor = _make_anew(
            path, lambda: os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC)
        )
        with open(descriptor, "wb", buffering=0) as file:  # noqa: PTH123 - it is open already
            os.fchmod(descriptor, member.mode & 0o777 | 0o600)
            while chunk := source.read(_BLOCK):
                file.write(chunk)
    elif member.issym():
        target = _link(name, member.linkname, _inside if merged else str)
        _make_anew(path, lambda: os.symlink(target, path))  # noqa: PTH211 - see above
    elif member.islnk():
        linked = f"{root}/{_inside(member.linkname)}"
        _check_directory(linked.rpartition("/")[0], root, safe)
        _make_anew(path, lambda: os.link(linked, path, follow_symlinks=False))
    # Devices and pipes belong to no root of ours.


def _make_anew(path: str, make: Callable[[], T]) -> T:
    try:
        return make()
    except FileExistsError:
        os.unlink(path)  # noqa: PTH108 - see above
        return make()


def _check_directory(path: str, root: str, safe: set[str]) -> None:
    """Make a directory, and make sure that no link leads it out of the root."""
    if path in safe:
        return
    os.makedirs(path, 0o755, exist_ok=True)  # noqa: PTH103 - see above
    if not f"{os.path.realpath(path)}/".startswith(f"{root}/"):
        raise FetchError(f"a package leads out of its place: {path}")
    safe.add(path)


def _link(name: str, target: str, inside: Callable[[str], str]) -> str:
    """Return a link's target relative to the link, however it was written; never above the root."""
    directory = os.path.dirname(name)  # noqa: PTH120 - paths inside an archive, not of this host
    whole = target if target.startswith("/") else f"{directory}/{target}"
    parts: list[str] = []
    for part in whole.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return os.path.relpath(inside("/".join(parts)) or ".", directory or ".")
