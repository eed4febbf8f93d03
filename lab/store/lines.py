# SPDX-License-Identifier: MIT
"""Files of JSON lines that several processes append to at once, and that lose nothing when one is killed."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping


def append(path: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    """Append lines, all or none as readers see it; raises OSError."""
    text = b"".join(json.dumps(line, separators=(",", ":")).encode() + b"\n" for line in lines)
    with _alone(path) as descriptor:
        end = os.lseek(descriptor, 0, os.SEEK_END)
        if end and os.pread(descriptor, 1, end - 1) != b"\n":
            text = b"\n" + text  # somebody was killed, or the disk full, in the middle of a line
        written = 0
        try:
            written = os.write(descriptor, text)
        finally:
            if written < len(text):
                os.ftruncate(descriptor, end)
    if written < len(text):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def read(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of a file, none where there is no file; what is no JSON object is left out."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        for line in file:
            try:
                found = json.loads(line)
            except ValueError:
                continue
            if isinstance(found, dict):
                yield found


def rewrite(path: Path, change: Callable[[Iterable[dict[str, Any]]], Iterable[Mapping[str, Any]]]) -> None:
    """Put in place of a file's lines what `change` makes of them, in one step; raises OSError."""
    with _alone(path), _replacement(path) as file:
        for line in change(read(path)):
            file.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")


@contextmanager
def _replacement(path: Path) -> Iterator[IO[bytes]]:
    """Give a file that comes in place of another one at the end of the block, unless that raises."""
    with tempfile.NamedTemporaryFile("wb", dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        try:
            yield file
            file.flush()
            os.fchmod(file.fileno(), 0o644)  # a cache may serve several users
            Path(file.name).replace(path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise


@contextmanager
def _alone(path: Path) -> Iterator[int]:
    """Give the file, made if need be, to one process at a time."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            try:
                same = os.path.samestat(os.fstat(descriptor), path.stat())
            except FileNotFoundError:
                same = False
            if same:  # else rewrite() has put another file in its place meanwhile
                yield descriptor
                return
        finally:
            os.close(descriptor)
