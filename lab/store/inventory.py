# SPDX-License-Identifier: MIT
"""What is in a directory that nobody writes to any more: sizes, times and digests, to tell damage by."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

INVENTORY = ".chanlab.files"
_GLANCED = 500  # files that a glance looks at: a millisecond
_BLOCK = 1 << 20


def write(directory: Path, apart: str) -> dict[str, Any]:
    """Write down the files of a directory but one; returns what glance() and damage() are given of it."""
    found = {}
    for name, path in _files(directory):
        if name not in (apart, INVENTORY):
            status = os.stat(path)  # noqa: PTH116 - tens of thousands
            found[name] = [status.st_size, status.st_mtime_ns, _digest(path)]
    text = json.dumps(found)
    (directory / INVENTORY).write_text(text)
    # The higher up, the more depends on it: a kernel's config, a compiler's programs.
    few = sorted(found, key=lambda name: (name.count("/"), name))[:_GLANCED]
    return {
        "files": {name: found[name][:2] for name in few},
        "inventory": hashlib.sha256(text.encode()).hexdigest(),
    }


def glance(directory: Path, known: Mapping[str, Any]) -> tuple[str, bool]:
    """Return what is wrong with the files that are worth a look each time, and whether one was written to."""
    touched = False
    for name, (size, changed) in known.get("files", {}).items():
        try:
            status = os.stat(f"{directory}/{name}")  # noqa: PTH116 - a glance
        except OSError as error:
            return f"{name}: {error.strerror}", True
        if status.st_size != size:
            return f"{name} has {status.st_size} bytes, not {size}", True
        touched = touched or status.st_mtime_ns != changed
    return "", touched


def is_known(known: Mapping[str, Any]) -> bool:
    """Whether somebody wrote down what the files of a directory are."""
    return "inventory" in known


def damage(directory: Path, known: Mapping[str, Any]) -> str:
    """Return what is wrong with any file, '' where all are as they were or nobody wrote down how that is."""
    if not is_known(known):
        return ""
    try:
        data = (directory / INVENTORY).read_bytes()
    except OSError as error:
        return f"{INVENTORY}: {error.strerror}"
    if hashlib.sha256(data).hexdigest() != known["inventory"]:
        return f"{INVENTORY} is not what it was"
    for name, (size, _, digest) in json.loads(data).items():
        path = f"{directory}/{name}"
        try:
            there = os.stat(path).st_size  # noqa: PTH116 - tens of thousands
            if there != size:
                return f"{name} has {there} bytes, not {size}"
            if _digest(path) != digest:
                return f"{name} is not what it was"
        except OSError as error:
            return f"{name}: {error.strerror}"
    return ""


def state(directory: Path, apart: str) -> str:
    """Return what changes whenever a file but one is written to, without reading any."""
    hashed = hashlib.sha256()
    for name, path in _files(directory):
        if name == apart:
            continue
        with suppress(OSError):
            status = os.stat(path)  # noqa: PTH116 - tens of thousands
            hashed.update(
                f"{name} {status.st_ino} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} ".encode()
            )
    return hashed.hexdigest()


def _files(directory: Path) -> Iterator[tuple[str, str]]:
    """Yield the names and paths of the regular files below a directory, in order."""
    left = [""]
    while left:
        below = left.pop()
        with os.scandir(f"{directory}/{below}") as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                name = f"{below}{entry.name}"
                if entry.is_dir(follow_symlinks=False):
                    left.append(f"{name}/")
                elif entry.is_file(follow_symlinks=False):
                    yield name, entry.path


def _digest(path: str) -> str:
    """Return a digest of a file, for which blocks of zeros count by their absence: memory has many."""
    hashed = hashlib.sha256()
    empty = bytes(_BLOCK)
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - tens of thousands
        while block := file.read(_BLOCK):
            if block != empty[: len(block)]:
                hashed.update(block)
            else:
                hashed.update(len(block).to_bytes(8, "little"))
    return hashed.hexdigest()
