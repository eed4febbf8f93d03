# SPDX-License-Identifier: MIT
"""Writes below a directory and nowhere else, whatever names and links an archive has.

Every directory is opened by the descriptor of the one that it is in, without following links; a link is read
and followed step by step, and never above the root. So nothing depends on what a path meant a moment ago.
openat2(2) would do the same with RESOLVE_BENEATH, but containers refuse it, and it makes no directories.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

T = TypeVar("T")

_LINKS = 40  # as many as the kernel follows for one path
_OPEN = 16  # directories that are kept open: an archive's files come directory by directory
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class LeadsOut(Exception):  # noqa: N818 - what a path does
    """A path leads out of the root, or through what is no directory."""


class Beneath:
    """A directory to write below, by paths relative to it without `..`; a context manager, for one thread.

    Methods raise LeadsOut, and OSError as the host says.
    """

    def __init__(self, root: Path) -> None:
        self._root = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._open: dict[str, int] = {}  # path -> descriptor, the one used last at the end

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._forget()
        os.close(self._root)

    def directory(self, path: str) -> None:
        """Make a directory, unless it is there."""
        self._directory(path)

    def file(self, path: str) -> int:
        """Return a descriptor of a new file, in the place of what was there."""
        return self._anew(path, lambda name, at: os.open(name, _NEW, 0o600, dir_fd=at))

    def link(self, path: str, target: str) -> None:
        """Make a symbolic link."""
        self._anew(path, lambda name, at: os.symlink(target, name, dir_fd=at))

    def hard_link(self, path: str, to: str) -> None:
        """Give a file that is there another name; a symbolic link is not followed."""
        parent, _, old = to.rpartition("/")
        source = os.dup(self._directory(parent, make=False))

        def link(name: str, at: int) -> None:
            # Each time: where the new name's place was made anew, the old one may be that place.
            if stat.S_ISDIR(os.stat(old, dir_fd=source, follow_symlinks=False).st_mode):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), to)
            os.link(old, name, src_dir_fd=source, dst_dir_fd=at, follow_symlinks=False)

        try:
            self._anew(path, link)
        finally:
            os.close(source)

    def _anew(self, path: str, make: Callable[[str, int], T]) -> T:
        parent, _, name = path.rpartition("/")
        at = self._directory(parent)
        try:
            return make(name, at)
        except FileExistsError:
            os.unlink(name, dir_fd=at)
            self._forget()  # it may have been a link that led to what is open
            return make(name, self._directory(parent))

    def _forget(self) -> None:
        for descriptor in self._open.values():
            os.close(descriptor)
        self._open.clear()

    def _directory(self, path: str, *, make: bool = True) -> int:
        """Return the descriptor of a directory, which stays this object's."""
        if not path:
            return self._root
        found = self._open.pop(path, None)
        if found is None:
            found = self._walk(path, make=make)
            if len(self._open) == _OPEN:
                os.close(self._open.pop(next(iter(self._open))))
        self._open[path] = found
        return found

    def _walk(self, path: str, *, make: bool) -> int:
        """Open a directory step by step from the root."""
        left = path.split("/")[::-1]
        way = [self._root]  # those that lead to where we are: what `..` goes back on
        links = 0
        try:
            while left:
                name = left.pop()
                if name in ("", "."):
                    continue
                if name == "..":
                    if len(way) == 1:
                        raise LeadsOut(path)
                    os.close(way.pop())
                    continue
                try:
                    way.append(_step(name, way[-1], make=make))
                except OSError as error:
                    if error.errno not in (errno.ELOOP, errno.ENOTDIR):
                        raise
                    target, links = _target(name, way[-1], path), links + 1
                    if target.startswith("/") or links > _LINKS:
                        raise LeadsOut(path) from None
                    left += target.split("/")[::-1]
            return os.dup(way[0]) if len(way) == 1 else way.pop()
        finally:
            for descriptor in way[1:]:
                os.close(descriptor)


def _step(name: str, at: int, *, make: bool) -> int:
    try:
        return os.open(name, _DIRECTORY, dir_fd=at)
    except FileNotFoundError:
        if not make:
            raise
    with suppress(FileExistsError):  # another package's thread was quicker
        os.mkdir(name, 0o755, dir_fd=at)
    return os.open(name, _DIRECTORY, dir_fd=at)


def _target(name: str, at: int, path: str) -> str:
    try:
        return os.readlink(name, dir_fd=at)
    except OSError:  # no link: a file where a directory belongs
        raise LeadsOut(path) from None
