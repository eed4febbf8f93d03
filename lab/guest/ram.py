# SPDX-License-Identifier: MIT
"""The file that holds a template's memory: its space is promised first, and what is empty given back.

A template made from another one keeps on disk in what pages it differs, a tenth of it. It is put together in
memory that has no file, for as long as its clones are wanted.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import mmap
import os
import sys
from array import array
from pathlib import Path
from typing import TYPE_CHECKING

from lab.errors import HostError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

_BLOCK = 64 * 1024  # what is compared or digested at a time
_PAGE = 4096  # what a difference is counted in, and pages of QEMU's own
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


def differing(differences: Path) -> list[int]:
    """Return the offsets of the pages that differ, in ascending order; raises OSError."""
    with differences.open("rb") as file:
        count = int.from_bytes(file.read(_COUNT), "little")
        return [number * _PAGE for number in _little(array("Q", file.read(8 * count)))]


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


class CannotLook(HostError):  # noqa: N818 - what happened
    """This host does not let a process look into its child's memory: ptrace(2), yama."""


class PrivateMemory:
    """A QEMU's own view of a RAM file that it maps."""

    def __init__(self, memory: BinaryIO, pages: BinaryIO, mapped: list[tuple[int, int, int]]) -> None:
        """Take /proc/PID/mem and pagemap, and what is mapped: from, to, at which offset of the file."""
        self._memory = memory
        self._pages = pages
        self._mapped = mapped

    def read(self, offset: int, size: int) -> bytes:
        """Return bytes of the guest's memory; fewer where it ends. Raises CannotLook."""
        for start, end, first in self._mapped:
            if first <= offset < first + end - start:
                try:
                    self._memory.seek(start + offset - first)
                    return self._memory.read(min(size, first + end - start - offset))
                except OSError as error:
                    raise CannotLook(f"QEMU's memory cannot be looked at: {error}") from error
        return b""

    def own(self, start: int, end: int) -> list[int]:
        """Return the offsets of pages in a part of the file that QEMU has for itself. Raises CannotLook."""
        found: list[int] = []
        for at, to, first in self._mapped:
            low, high = max(start, first), min(end, first + to - at)
            if low >= high:
                continue
            low -= low % _HOST_PAGE
            high += -high % _HOST_PAGE
            try:
                own = [low + each for each in _private(self._pages, at + low - first, at + high - first)]
            except OSError as error:
                raise CannotLook(f"QEMU's memory cannot be looked at: {error}") from error
            found += [each + more for each in own for more in range(0, _HOST_PAGE, _PAGE)]
        return found


@contextlib.contextmanager
def private_memory(
    pid: int, path: Path, mapped: list[tuple[int, int, int]] | None = None
) -> Iterator[PrivateMemory]:
    """Give a QEMU's own view of a RAM file that it maps; raises CannotLook.

    `mapped` is what mappings() said of it before, for who looks often.
    """
    try:
        with (
            Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory,
            Path(f"/proc/{pid}/pagemap").open("rb", buffering=0) as pages,
        ):
            yield PrivateMemory(memory, pages, mappings(pid, path) if mapped is None else mapped)
    except OSError as error:
        raise CannotLook(f"QEMU's memory cannot be looked at: {error}") from error


def mappings(pid: int, path: Path) -> list[tuple[int, int, int]]:
    """Return where a process maps a file: from, to, at which offset of the file; raises OSError."""
    name = os.fsencode(os.path.realpath(path))
    with Path(f"/proc/{pid}/maps").open("rb") as maps:
        parts = [line.split(maxsplit=5) for line in maps]
    found = []
    for part in parts:
        if len(part) == 6 and part[5].rstrip(b"\n") == name:
            start, end = (int(address, 16) for address in part[0].split(b"-"))
            found.append((start, end, int(part[2], 16)))
    return found


def overwritten(pid: int, path: Path, ours: range) -> list[int]:
    """Return the offsets of pages that differ from a RAM file in a QEMU's private mapping of it, but `ours`.

    Asked of a guest that has not run yet, this is what QEMU itself put there as it started, or left there
    from another guest. A page that the kernel does not call private to QEMU is the file's own. Raises
    CannotLook.
    """
    found: list[int] = []
    seen = 0
    try:
        with (
            Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory,
            Path(f"/proc/{pid}/pagemap").open("rb", buffering=0) as pages,
            path.open("rb", buffering=0) as file,
        ):
            for start, end, first in mappings(pid, path):
                for at in _private(pages, start, end):
                    memory.seek(start + at)
                    file.seek(first + at)
                    if memory.read(_HOST_PAGE) != file.read(_HOST_PAGE):
                        found.append(first + at)
                seen += end - start
    except OSError as error:
        raise CannotLook(f"QEMU's memory cannot be looked at: {error}") from error
    if seen < path.stat().st_size:
        raise CannotLook(f"QEMU has {seen} bytes of {path}, which has more")
    return [offset for offset in found if offset not in ours]


def _private(pages: BinaryIO, start: int, end: int) -> Iterator[int]:
    """Yield the offsets from `start` of pages that a process has for itself.

    Documentation/admin-guide/mm/pagemap.rst: of a page's 64 bits, 63: it is there, 62: it is swapped out,
    61: it is a file's or shared. Raises OSError when the kernel tells of fewer pages.
    """
    count = (end - start) // _HOST_PAGE
    pages.seek(start // _HOST_PAGE * 8)
    entries = pages.read(count * 8)
    if len(entries) != count * 8:
        raise OSError(errno.EIO, "ended too early", "pagemap")
    tops = entries[7 if sys.byteorder == "little" else 0 :: 8].translate(_PRIVATE)
    at = tops.find(1)
    while at >= 0:
        yield at * _HOST_PAGE
        at = tops.find(1, at + 1)


_HOST_PAGE = os.sysconf("SC_PAGE_SIZE")
_PRIVATE = bytes(bool(top & 0x40 or top & 0xA0 == 0x80) for top in range(256))


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
