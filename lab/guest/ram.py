# SPDX-License-Identifier: MIT
"""The file that holds a template's memory: its space is promised first, and what is empty given back."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import mmap
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import BinaryIO

_BLOCK = 64 * 1024


def reserve(path: Path, size: int) -> None:
    """Make a file whose blocks are the disk's promise: a full disk is an error here, not a SIGBUS later.

    Raises OSError, which the cache explains.
    """
    with path.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, size)


def copy(source: Path, to: Path) -> None:
    """Make a reserved file with what another one holds; raises OSError, which the cache explains."""
    reserve(to, source.stat().st_size)
    with source.open("rb") as old, to.open("r+b") as new:
        for start, end in _data(old.fileno(), source.stat().st_size):
            position = start
            while position < end:
                done = os.copy_file_range(old.fileno(), new.fileno(), end - position, position, position)
                if not done:
                    raise OSError(errno.EIO, "ended too early", str(source))
                position += done


_PUNCH_HOLE_KEEP_SIZE = 0x03  # FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE


def ram_digest(path: Path, *, thin: bool) -> str:
    """Return a digest of a RAM file; empty blocks count by their absence.

    `thin`: give the disk back what is empty. Nobody writes to the file again, so nothing needs a promise of
    space any more. A file system that cannot do that keeps the space, and no harm is done.
    """
    punch = getattr(ctypes.CDLL(None, use_errno=True), "fallocate", None) if thin else None
    hashed = hashlib.sha256()
    empty = bytes(_BLOCK)
    flags = os.O_RDWR if thin else os.O_RDONLY
    descriptor = os.open(path, flags)
    try:
        size = os.fstat(descriptor).st_size
        with mmap.mmap(descriptor, size, prot=mmap.PROT_READ) as memory:
            for start, end in _data(descriptor, size):
                for offset in range(start, end, _BLOCK):
                    block = memory[offset : offset + _BLOCK]
                    if block != empty[: len(block)]:
                        hashed.update(offset.to_bytes(8, "little") + block)
                    elif punch is not None:
                        at, length = ctypes.c_int64(offset), ctypes.c_int64(len(block))
                        punch(descriptor, _PUNCH_HOLE_KEEP_SIZE, at, length)
    finally:
        os.close(descriptor)
    return hashed.hexdigest()


def overwritten(pid: int, path: Path, ours: range) -> list[int]:
    """Return the offsets of blocks that a QEMU changed in its private pages of a RAM file, apart from `ours`.

    Asked of a clone that has not run yet, this is what QEMU itself put there as it started. Nothing is known,
    and nothing found, where this host does not let a process look into its child (ptrace(2), yama).
    """
    found: list[int] = []
    name = os.fsencode(os.path.realpath(path))
    try:
        with Path(f"/proc/{pid}/maps").open("rb") as maps:
            parts = [line.split(maxsplit=5) for line in maps]
        with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory, path.open("rb") as file:
            for part in parts:
                if len(part) == 6 and part[5].rstrip(b"\n") == name:
                    start, _, end = part[0].partition(b"-")
                    found += _differing(memory, file, int(start, 16), int(end, 16), int(part[2], 16))
    except OSError:
        return []
    return [offset for offset in found if offset not in ours]


def _differing(memory: BinaryIO, file: BinaryIO, start: int, end: int, offset: int) -> list[int]:
    memory.seek(start)
    file.seek(offset)
    blocks = range(offset, offset + end - start, _BLOCK)
    return [at for at in blocks if memory.read(_BLOCK) != file.read(_BLOCK)]


def _data(descriptor: int, size: int) -> list[tuple[int, int]]:
    """Return the parts of a file that are not holes, in whole blocks."""
    found: list[tuple[int, int]] = []
    position = 0
    while position < size:
        try:
            start = os.lseek(descriptor, position, os.SEEK_DATA)
        except OSError:  # no data behind this point
            break
        end = os.lseek(descriptor, start, os.SEEK_HOLE)
        start -= start % _BLOCK
        end = min(size, end + -end % _BLOCK)
        start = max(start, position)
        found.append((start, end))
        position = end
    return found
