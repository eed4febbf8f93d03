# SPDX-License-Identifier: MIT
"""Trees of kernel sources, which are read and never written to: a directory, a commit of a repository."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lab.errors import HostError, UsageError
from lab.kernels.process import run
from lab.store.cache import digest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lab.kernels.roots import Root

_VERSION = re.compile(r"^(VERSION|PATCHLEVEL|SUBLEVEL|EXTRAVERSION)\s*=[ \t]*(.*)$", re.MULTILINE)
# What the kernel's own Makefile calls a tree that is not clean (outputmakefile).
_BUILT = (".config", "include/config", "include/generated")
_NOT_READ = {".git", "Documentation"}


@dataclass(frozen=True)
class Version:
    """What a tree's Makefile says."""

    number: str  # '6.6.17'
    extra: str  # '-rc3'

    @property
    def line(self) -> str:
        """'6.6'."""
        return ".".join(self.number.split(".")[:2])


def version(makefile: str, what: str) -> Version:
    """Return the version that a kernel's Makefile has; raises UsageError where it is none."""
    found = dict(_VERSION.findall(makefile))
    if not {"VERSION", "PATCHLEVEL"} <= found.keys():
        raise UsageError(
            f"{what} is no tree of kernel sources: its Makefile has no VERSION and PATCHLEVEL",
            hint="give the directory of an unpacked kernel, or of a git repository with @REF behind it",
        )
    parts = (found["VERSION"], found["PATCHLEVEL"], found.get("SUBLEVEL") or "0")
    return Version(".".join(part.strip() for part in parts), found.get("EXTRAVERSION", "").strip())


@dataclass(frozen=True)
class Sources:
    """A tree that make can read, and what tells its contents from all others."""

    path: Path
    content: str


def directory(path: Path) -> Sources:
    """Return a directory's tree as it is now; raises UsageError for what make would refuse."""
    makefile = path / "Makefile"
    if not makefile.is_file():
        raise UsageError(
            f"{path} is no tree of kernel sources: it has no Makefile",
            hint="a bare repository wants @REF behind it" if (path / "HEAD").exists() else "",
        )
    built = [name for name in _BUILT if (path / name).exists()]
    if built:
        raise UsageError(
            f"{path} was built in: it has {built[0]}, and the kernel's make wants a tree without it",
            hint=f"`make -C {path} mrproper`, or take what is committed: --kernel-tree {path}@HEAD; its own "
            f"build is --kernel-image FILE --kernel-build {path}",
        )
    return Sources(path, digest(sorted(_stats(path))))


def _stats(path: Path) -> Iterator[list[object]]:
    """Yield each file's name, size and time: reading 80,000 of them would take longer than compiling one."""
    todo = [str(path)]
    skip = len(str(path)) + 1
    while todo:
        with os.scandir(todo.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    if entry.name not in _NOT_READ or len(entry.path) != skip + len(entry.name):
                        todo.append(entry.path)
                else:
                    state = entry.stat(follow_symlinks=False)
                    yield [os.fsencode(entry.path[skip:]).hex(), state.st_size, state.st_mtime_ns]


class Repository:
    """A git repository, which only its objects are read of."""

    def __init__(self, path: Path, root: Root) -> None:
        """Find it; raises UsageError for what is none."""
        self._root = root
        self.path = path
        self._where: list[str] = []
        found = self._git(
            ["-C", str(path), "rev-parse", "--absolute-git-dir"], f"{path} is no git repository"
        )
        self._where = [f"--git-dir={found.strip()}"]

    def commit(self, ref: str) -> str:
        """Return the commit that a name means; raises UsageError for one that means none."""
        words = ["rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}"]
        return self._git(words, f"{self.path} has no commit {ref!r}").strip()

    def read(self, commit: str, name: str) -> str:
        """Return a file of a commit; raises UsageError where it has none of that name."""
        return self._git(["show", f"{commit}:{name}"], f"{commit[:12]} of {self.path} has no {name}")

    def check_out(self, commit: str, to: Path, index: Path) -> None:
        """Make a directory what a commit has; what it has already of that is not touched.

        So a build in which little changed is short. `index` is git's own file about the directory. Raises
        UsageError.
        """
        to.mkdir(exist_ok=True)
        words = [f"--work-tree={to}", "read-tree", "--reset", "-u", commit]
        self._git(
            words, f"{commit[:12]} of {self.path} cannot be checked out", {"GIT_INDEX_FILE": str(index)}
        )

    def _git(self, words: Sequence[str], problem: str, more: dict[str, str] | None = None) -> str:
        # Whoever names a repository trusts it, whoever owns it; and nothing of the user's settings is wanted.
        argv = [*self._root.command("git"), "-c", "safe.directory=*", *self._where, *words]
        own = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_OPTIONAL_LOCKS": "0"}
        environment = {**self._root.environment(), **own, **(more or {})}
        status, text = run(argv, cwd=Path("/"), env=environment)
        if status:
            raise UsageError(problem, hint=text.strip().splitlines()[-1] if text.strip() else "")
        return text


def split_ref(spec: str) -> tuple[Path, str]:
    """Return the directory and the ref of DIR[@REF]; a directory may have an @ in its name."""
    path = Path(spec).expanduser()
    if path.is_dir() or "@" not in spec:
        return path, ""
    place, _, ref = spec.rpartition("@")
    return Path(place).expanduser(), ref


def check_space(place: Path, needed_mb: int, free_mb: float, what: str) -> None:
    """Raise HostError where a disk has not enough room for a build."""
    if free_mb < needed_mb:
        raise HostError(
            f"{what} takes {needed_mb} MB of disk while it is built, and {place} has {free_mb:.0f} MB free",
            hint="free some, or set CHANLAB_CACHE to a directory on another disk",
        )


__all__ = ["Repository", "Sources", "Version", "check_space", "directory", "split_ref", "version"]
