# SPDX-License-Identifier: MIT
"""The file that holds a template's memory: its space is promised first, and what is empty given back.

A template made from another one keeps on disk in what pages it differs, a tenth of it. It is put together in
memory that has no file, for as long as its clones are wanted.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import mmap
import os
import sys
from array import array
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import BinaryIO

_BLOCK = 64 * 1024  # what is compared or digested at a time
_PAGE = 4096  # what a difference is counted in
_COUNT = 8  # bytes of how many there are
_PUNCH_HOLE_KEEP_SIZE = 0x03  # FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE


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


def difference(base: Path, ram: Path, to: Path) -> None:
    """Write down in what a RAM file differs from another of the same size.

    How many pages, their numbers, the pages. Raises OSError, which the cache explains.
    """
    numbers = array("Q")
    size = ram.stat().st_size
    with base.open("rb") as old, ram.open("rb") as new:
        parts = sorted({*_data(old.fileno(), size), *_data(new.fileno(), size)})
        with _mapped(old.fileno(), size) as before, _mapped(new.fileno(), size) as after:
            done = 0
            for start, end in parts:
                for block in range(max(start, done), end, _BLOCK):
                    if before[block : block + _BLOCK] != after[block : block + _BLOCK]:
                        numbers.extend(
                            at // _PAGE
                            for at in range(block, min(block + _BLOCK, size), _PAGE)
                            if before[at : at + _PAGE] != after[at : at + _PAGE]
                        )
                done = max(done, end)
            with to.open("wb") as file:
                file.write(len(numbers).to_bytes(_COUNT, "little") + _little(numbers).tobytes())
                file.writelines(after[number * _PAGE : (number + 1) * _PAGE] for number in numbers)


def compose(base: Path, differences: Path) -> int:
    """Return a descriptor of memory that holds a RAM file again: the other one, and what differs.

    Raises OSError when there is no memory for it, ValueError when these are no differences.
    """
    size = base.stat().st_size
    content = differences.read_bytes()
    count = int.from_bytes(content[:_COUNT], "little")
    pages = _COUNT + 8 * count
    if len(content) != pages + count * _PAGE:
        raise ValueError(f"{differences} has {len(content)} bytes")
    numbers = array("Q", content[_COUNT:pages])
    descriptor = os.memfd_create("chanlab-ram", os.MFD_CLOEXEC)
    try:
        os.ftruncate(descriptor, size)
        with base.open("rb") as file, _mapped(file.fileno(), size) as before:
            for start, end in _data(file.fileno(), size):
                _write(descriptor, before[start:end], start)
        for index, number in enumerate(_little(numbers)):
            start = pages + index * _PAGE
            _write(descriptor, content[start : start + _PAGE], number * _PAGE)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _little(numbers: array[int]) -> array[int]:
    """Turn numbers of this host into such as a cache holds, and back."""
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def _mapped(descriptor: int, size: int) -> mmap.mmap:
    return mmap.mmap(descriptor, size, prot=mmap.PROT_READ)


def _write(descriptor: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        done = os.pwrite(descriptor, view, offset)
        view, offset = view[done:], offset + done


def ram_digest(path: Path, *, thin: bool) -> str:
    """Return a digest of a RAM file; empty blocks count by their absence.

    `thin`: give the disk back what is empty. Nobody writes to the file again, so nothing needs a promise of
    space any more. A file system that cannot do that keeps the space, and no harm is done.
    """
    hashed = hashlib.sha256()
    empty = bytes(_BLOCK)
    descriptor = os.open(path, os.O_RDWR if thin else os.O_RDONLY)
    try:
        size = os.fstat(descriptor).st_size
        holes: list[tuple[int, int]] = []
        done = 0
        with _mapped(descriptor, size) as memory:
            for start, end in _data(descriptor, size):
                holes.append((done, start))  # never written, but the space is still promised
                done = end
                for offset in range(start, end, _BLOCK):
                    block = memory[offset : offset + _BLOCK]
                    if block != empty[: len(block)]:
                        hashed.update(offset.to_bytes(8, "little") + block)
                    else:
                        holes.append((offset, offset + len(block)))
        if thin:
            _give_back(descriptor, [*holes, (done, size)])
    finally:
        os.close(descriptor)
    return hashed.hexdigest()


def _give_back(descriptor: int, parts: list[tuple[int, int]]) -> None:
    punch = getattr(ctypes.CDLL(None, use_errno=True), "fallocate", None)
    if punch is None:
        return
    for start, end in parts:
        if start < end:
            at, length = ctypes.c_int64(start), ctypes.c_int64(end - start)
            punch(descriptor, _PUNCH_HOLE_KEEP_SIZE, at, length)


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
