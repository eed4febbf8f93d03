# SPDX-License-Identifier: MIT
"""What the disk is asked: how much is there, how much is left, is it written."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path


def disk_usage(path: Path) -> int:
    """Return the bytes on disk of a file or a tree."""
    total = path.lstat().st_blocks * 512
    if path.is_dir() and not path.is_symlink():
        with os.scandir(path) as entries:
            total += sum(disk_usage(Path(entry.path)) for entry in entries)
    return total


def remove_tree(path: Path) -> None:
    """Remove a tree even where directories of it are read-only."""
    try:
        shutil.rmtree(path)
    except PermissionError:
        for directory, _, _ in os.walk(path):
            Path(directory).chmod(0o700)
        shutil.rmtree(path)


def free_bytes(path: Path) -> int:
    """Return how much room there is where a path is, or will be; 0 when nobody knows."""
    for place in (path, *path.parents):
        with suppress(OSError):
            return shutil.disk_usage(place).free
    return 0


def sync(path: Path, *, whole: bool = True) -> None:
    """Bring a directory to disk; `whole`: its file system, which is quicker than file by file."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if whole:
            import ctypes  # noqa: PLC0415 - nothing that a hit needs

            libc = ctypes.CDLL(None, use_errno=True)
            if libc.syncfs(descriptor) != 0:
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number), str(path))
        else:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
