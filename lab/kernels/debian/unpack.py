# SPDX-License-Identifier: MIT
"""Unpacks Debian packages: ar, then tar; no dpkg, no maintainer script, no rights, nothing elsewhere."""

from __future__ import annotations

import errno
import gzip
import io
import lzma
import os
import re
import tarfile
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, BinaryIO, cast

from lab.errors import FetchError
from lab.kernels.beneath import Beneath, LeadsOut

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_AR = b"!<arch>\n"
_BLOCK = 1 << 20
_MOST = 4 << 30  # bytes that a package may hold: the largest of those that are used holds half of one
# What says that the archive's names are the trouble, not the disk.
_NAMES = {*(errno.ENAMETOOLONG, errno.ENOENT, errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.EINVAL)}
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
    left = _MOST
    with (
        _told(package, to, "Debian package"),
        package.open("rb") as file,
        _data(file, package) as data,
        tarfile.open(fileobj=data, mode="r|", bufsize=_BLOCK) as archive,
        Beneath(to) as beneath,
    ):
        for member in archive:
            name = _inside(member.name, package)
            left -= member.size
            if left < 0:
                raise FetchError(f"{package} holds more than {_MOST >> 30} GiB", hint="report this")
            if name and not _USELESS.match(name) and (wanted is None or wanted(name)):
                _place(archive, member, name, beneath)


def unpack_source(
    tarball: Path, to: Path, wanted: Callable[[str], bool] | None = None, *, strip: int = 0
) -> None:
    """Unpack a tarball of a source package below a directory, without the first `strip` parts of each path.

    `wanted` is asked with what is left of the path. Raises FetchError for what is no tarball or would leave
    the directory.
    """
    left = _MOST
    with _told(tarball, to, "tarball"), tarfile.open(tarball) as archive, Beneath(to) as beneath:
        for member in archive:
            parts = _parts(member.name, tarball)[strip:]
            name = "/".join(parts)
            left -= member.size
            if left < 0:
                raise FetchError(f"{tarball} holds more than {_MOST >> 30} GiB", hint="report this")
            if not name or (wanted is not None and not wanted(name)):
                continue
            if member.islnk():  # its target would have to be stripped too
                raise FetchError(f"{tarball} has a hard link: {name}", hint="report this")
            _place(archive, member, name, beneath, merged=False)


def _data(file: BinaryIO, package: Path) -> IO[bytes]:
    """Return what the data member of an ar file holds, decompressed."""
    if file.read(len(_AR)) != _AR:
        raise FetchError(f"{package} is no Debian package")
    while len(head := file.read(_MEMBER)) == _MEMBER:
        name, digits = head[:16].decode("ascii", "replace").rstrip(" /"), head[48:58].rstrip()
        if not digits.isdigit():
            break
        size = int(digits)
        part = cast("IO[bytes]", io.BufferedReader(_Part(file, size), _BLOCK))
        if name == "data.tar":
            return part
        if name == "data.tar.xz":
            return lzma.open(part)
        if name == "data.tar.gz":
            return cast("IO[bytes]", gzip.open(part))
        if name == "data.tar.zst":
            return _zstd(part, package)
        if name.startswith("data.tar"):
            raise FetchError(f"{package} is compressed as {name}, which is not known", hint="report this")
        file.seek(size + size % 2, os.SEEK_CUR)
    raise FetchError(f"{package} holds no files")


def _zstd(part: IO[bytes], package: Path) -> IO[bytes]:
    try:
        import zstandard  # noqa: PLC0415 - no package of Debian's is compressed so
    except ImportError:
        raise FetchError(
            f"{package} is compressed with zstd, as Ubuntu's are",
            hint="pip install 'chanlab[zstd]'",
        ) from None
    return cast("IO[bytes]", zstandard.ZstdDecompressor().stream_reader(part))


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


def _place(
    archive: tarfile.TarFile, member: tarfile.TarInfo, name: str, to: Beneath, *, merged: bool = True
) -> None:
    if member.isdir():
        to.directory(name)
    elif member.isfile():
        source = archive.extractfile(member)
        assert source is not None
        descriptor = to.file(name)
        with open(descriptor, "wb", buffering=0) as file:  # noqa: PTH123 - it is open already
            os.fchmod(descriptor, member.mode & 0o777 | 0o600)
            while chunk := source.read(_BLOCK):
                file.write(chunk)
    elif member.issym():
        to.link(name, _link(name, member.linkname, _inside if merged else str))
    elif member.islnk():
        to.hard_link(name, _inside(member.linkname))
    # Devices and pipes belong to no root of ours.


@contextmanager
def _told(archive: Path, to: Path, what: str) -> Iterator[None]:
    """Tell what is wrong with an archive; what is wrong with the disk passes, with a path that says where."""
    try:
        yield
    except (tarfile.TarError, lzma.LZMAError, EOFError, UnicodeError, ValueError) as error:
        raise FetchError(f"{archive} is no whole {what}: {error}", hint="report this") from error
    except LeadsOut as error:
        raise FetchError(f"{archive} leads out of its place: {error}", hint="report this") from error
    except OSError as error:
        if error.errno in _NAMES:
            raise FetchError(f"{archive} cannot be unpacked: {error}", hint="report this") from error
        if isinstance(error.filename, str):
            error.filename = f"{to}/{error.filename}"
        raise


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
