# SPDX-License-Identifier: MIT
"""Locks on files that others may remove: flock(2), which the kernel gives up when a process dies."""

from __future__ import annotations

import fcntl
import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

POLL_SECONDS = 0.05  # between two looks at a lock: a blocking flock() in a thread would not see Ctrl+C


def flock(descriptor: int, how: int) -> bool:
    """Take a lock on an open file, or not; returns whether it was free."""
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def lock_shared(path: Path, *, patient: bool = False) -> int | None:
    """Return a descriptor with a shared lock on a file that is still there under its name.

    `patient`: wait for whoever has it alone, instead of returning None.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    while not (locked := flock(descriptor, fcntl.LOCK_SH)) and patient:
        time.sleep(POLL_SECONDS)
    if locked and _is_named(descriptor, path):
        return descriptor
    os.close(descriptor)
    return None


def lock_alone(path: Path) -> int | None:
    """Return a descriptor with the exclusive lock on a file, made if need be; None when somebody has it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    if flock(descriptor, fcntl.LOCK_EX) and _is_named(descriptor, path):
        return descriptor
    os.close(descriptor)
    return None


def _is_named(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False


def is_free(path: Path) -> bool:
    """Tell whether nobody has a lock on a file."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return flock(descriptor, fcntl.LOCK_EX)
    finally:
        os.close(descriptor)
