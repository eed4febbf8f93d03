# SPDX-License-Identifier: MIT
"""A user's source tree, as contents: what is compiled is always a copy."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from lab.errors import UsageError
from lab.kernels.process import run, scratch_directory
from lab.kernels.tree import DKMS, MAKEFILES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from lab.kernels.roots import Root

# What a build in the user's own tree leaves there, and what is no input of one.
_MADE = (".o", ".ko", ".mod", ".mod.c", ".cmd", ".a", ".symvers", ".order", ".orig", ".rej")
_PATCH = ".patch"


class File(NamedTuple):
    """One file of a tree."""

    data: bytes
    executable: bool = False  # a script that the Makefile runs


def read_sources(source: Path, *, prepared: bool = False) -> dict[str, File]:
    """Return the files of a module tree by their path in it, without what a build left and hidden ones.

    `prepared`: a command makes what is built of them. Patches are files of one whose dkms.conf, or what that
    runs, may want them. Raises UsageError when it is no tree that kbuild could build.
    """
    if not source.is_dir():
        raise UsageError(
            f"{source} is not a directory", hint="give the directory that holds the module's Kbuild"
        )
    applied = (source / DKMS).is_file()
    found = {name: path for name, path in sorted(_walk(source)) if applied or not name.endswith(_PATCH)}
    files = {name: _read(path) for name, path in found.items() if not _is_fault(name)}
    if not prepared and not any(Path(name).name in MAKEFILES or name == DKMS for name in files):
        raise UsageError(
            f"{source} has neither a Kbuild nor a Makefile, nor a {DKMS}, so nothing says what to build",
            hint="one line is enough, `obj-m := mine.o` for mine.c",
        )
    return files


def _is_fault(name: str) -> bool:
    return name.startswith("faults/") and name.endswith(_PATCH)


def _read(path: Path) -> File:
    return File(path.read_bytes(), bool(path.stat().st_mode & 0o100))


def _write(path: Path, file: File) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(file.data)
    path.chmod(0o755 if file.executable else 0o644)


def write_sources(where: Path, files: Mapping[str, File]) -> None:
    """Write a tree's files into a directory of one's own."""
    for path, file in files.items():
        _write(where / path, file)


def _walk(source: Path) -> Iterator[tuple[str, Path]]:
    seen: set[tuple[int, int]] = set()
    for directory, directories, files in os.walk(source, followlinks=True):
        status = Path(directory).stat()
        if (status.st_dev, status.st_ino) in seen:  # a link that leads back
            directories.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        directories[:] = sorted(name for name in directories if not name.startswith("."))
        for name in files:
            path = Path(directory, name)
            if not name.startswith(".") and not name.endswith(_MADE) and path.is_file():
                yield str(path.relative_to(source)), path


def patched(
    files: Mapping[str, File], patches: Sequence[Path], toolchain: Root, *, fuzz: int = 0
) -> dict[str, File]:
    """Return the files with patches (-p1) applied, in order; `fuzz`: how much of their context may differ.

    Raises UsageError with patch's own words when one does not apply.
    """
    if not patches:
        return dict(files)
    with scratch_directory("chanlab-patch-") as scratch:
        write_sources(scratch, files)
        for patch in patches:
            argv = [
                *toolchain.command("patch"),
                "-p1",
                f"--fuzz={fuzz}",
                "--forward",
                "--no-backup-if-mismatch",
            ]
            status, output = run(
                [*argv, "--reject-file=-"],
                cwd=scratch,
                env=toolchain.environment(),
                stdin=patch.read_bytes(),
            )
            if status:
                raise UsageError(
                    f"{patch} does not apply:\n{output.rstrip()}",
                    hint="the file that it changes was changed itself; make the patch anew against it",
                )
        return {path: _read(file) for path, file in sorted(_walk(scratch))}


def synchronise(tree: Path, files: Mapping[str, File]) -> None:
    """Make the sources below `tree` these, leaving alone what is right already and what a build made.

    make goes by times: a file that is written becomes newer than everything there, even when the clock was
    set back meanwhile.
    """
    newest = time.time_ns()
    stale = []
    for directory, _, names in os.walk(tree):
        for name in names:
            path = Path(directory, name)
            newest = max(newest, path.lstat().st_mtime_ns + 1)
            relative = str(path.relative_to(tree))
            if relative not in files and not name.startswith(".") and not name.endswith(_MADE):
                stale.append(path)
    for path in stale:
        path.unlink()
    for relative, file in files.items():
        path = tree / relative
        if path.is_file() and _read(path) == file:
            continue
        _write(path, file)
        os.utime(path, ns=(newest, newest))
