# SPDX-License-Identifier: MIT
"""Building modules against a kernel, and the agent; cached by content.

Modules are built in a directory that is kept for each source tree and kernel, so that a changed file costs
one compilation. What is handed out is a copy, in an entry of the cache that never changes.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.arch import architecture
from lab.errors import BuildFailed, UsageError
from lab.kernels.kbuild import Kbuild
from lab.kernels.process import run
from lab.kernels.sources import patched, read_sources, synchronise
from lab.kernels.toolchain import compiler, system_includes, tool
from lab.store.cache import digest, file_digest

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    from lab.arch import Architecture
    from lab.kernels.kbuild import Built
    from lab.kernels.model import Headers
    from lab.kernels.roots import Root
    from lab.progress import Progress
    from lab.store.cache import Cache

# Go into the keys: what this file makes of the same input.
_MODULES_FORMAT = 2
_AGENT_FORMAT = 1
_AGENT_FLAGS = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-static", "-s")
_POLL_SECONDS = 0.05
_MANY = 6  # names in a line of progress


@dataclass(frozen=True)
class Modules:
    """The modules of one source tree for one kernel, by the kernel's names for them (with _)."""

    ko: Mapping[str, Path]  # without DWARF: what is sent to the guest
    debug: Mapping[str, Path]  # with DWARF
    failed: Mapping[str, str]  # the compiler's own lines, paths relative to the user's tree
    warnings: Mapping[str, str]  # what it said about modules that it did build
    digest: str  # of everything that went into them


def build_modules(
    source: Path,
    headers: Headers,
    toolchain: Root,
    cache: Cache,
    progress: Progress,
    patches: Sequence[Path] = (),
    only: Collection[str] = (),
) -> Modules:
    """Build all modules of a source tree with patches applied; never changes the tree itself.

    `only`: where these are in files of their names (lab_X in X.c), the others need not be built.

    A module that does not build is in `failed`, the others are built all the same. Raises UsageError for a
    tree without a Kbuild and for a patch that does not apply, BuildFailed when nothing can be built or make
    gives no file to blame.
    """
    files = read_sources(source)
    name = source.resolve().name
    contents = {path: hashlib.sha256(data).hexdigest() for path, data in files.items()}
    parts = (headers.digest, toolchain.digest, name, contents, [file_digest(patch) for patch in patches])
    key = digest("modules", _MODULES_FORMAT, *parts)
    few = _few(only, files)
    if few and cache.peek("modules", key) is None:
        key = digest("modules", _MODULES_FORMAT, *parts, few)
    else:
        few = []

    def make(building: Path, _final: Path) -> None:
        what = ", ".join(few) if len(few) < _MANY else f"{len(few)} modules"
        text = f"building {what if few else name} for {headers.kernel.release}"
        wanted = patched(files, patches, toolchain)
        with progress.task(text), _build_tree(source, headers, toolchain, cache) as (tree, lock):
            for modules in (few, []) if few else ([],):
                synchronise(tree, wanted)
                built = Kbuild(tree, name, headers, toolchain, lock=lock, only=modules).build()
                if not built.failed:  # of a few, for want of another one perhaps
                    break
            _collect(built, tree, building, toolchain, architecture(headers.kernel.arch))

    entry = cache.entry("modules", key, make, progress_text=f"{name} is being built")
    result = json.loads((entry / "result.json").read_bytes())
    names = result["modules"]
    return Modules(
        ko={module: entry / "ko" / f"{module}.ko" for module in names},
        debug={module: entry / "debug" / f"{module}.ko" for module in names},
        failed=result["failed"],
        warnings=result["warnings"],
        digest=key,
    )


def _few(only: Collection[str], files: Collection[str]) -> list[str]:
    """Return the modules that are to be built where they are not all of them; [] for all."""
    there = {f"lab_{path.removesuffix('.c')}" for path in files if path.endswith(".c") and "/" not in path}
    found = there.intersection(only)
    return sorted(found) if found < there else []


@contextmanager
def _build_tree(source: Path, headers: Headers, toolchain: Root, cache: Cache) -> Iterator[tuple[Path, int]]:
    """Give the one who may build now the directory kept for this source tree and kernel, and its lock.

    A directory whose last build did not come to its end is emptied: make trusts a half-written object.
    """
    key = digest("build-tree", _MODULES_FORMAT, headers.digest, toolchain.digest, str(source.resolve()))
    kept = cache.entry(
        "build-tree", key, lambda building, _: (building / "tree").mkdir(), durable=False, fixed=False
    )
    dirty = kept / "dirty"
    descriptor = os.open(kept / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        while not _locked(descriptor):
            time.sleep(_POLL_SECONDS)
        if dirty.exists():
            for name in ("tree", "out"):
                shutil.rmtree(kept / name, ignore_errors=True)
            (kept / "tree").mkdir()
        dirty.touch()
        try:
            yield kept / "tree", descriptor
        except BuildFailed:  # make came to its end
            dirty.unlink()
            raise
        dirty.unlink()
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _collect(built: Built, tree: Path, building: Path, toolchain: Root, arch: Architecture) -> None:
    """Put the modules into an entry. One that is as it was is a link to what the entry before holds."""
    outputs = tree.parent / "out"  # beside the tree: what was handed out last, and from which files
    for kind in ("ko", "debug"):
        (building / kind).mkdir()
        (outputs / kind).mkdir(parents=True, exist_ok=True)
    before = _read_stamps(outputs / "stamps.json")
    stamps = {module: _stamp(tree / path) for module, path in built.modules.items()}
    fresh = [
        module
        for module, stamp in stamps.items()
        if before.get(module) != [*stamp, *_digests(outputs, module)]  # links: entries share their damage
    ]
    (outputs / "stamps.json").unlink(missing_ok=True)
    for module in fresh:
        for kind in ("ko", "debug"):
            copy = outputs / kind / f"{module}.ko"
            copy.unlink(missing_ok=True)  # an entry that is out has it by another link: never write to it
            shutil.copyfile(tree / built.modules[module], copy)
    if fresh:
        # .BTF and the symbols stay: the kernel and its reports need them.
        copies = [str(outputs / "ko" / f"{module}.ko") for module in fresh]
        argv = [*tool(toolchain, arch, "strip"), "--strip-debug", *copies]
        status, output = run(argv, cwd=building, env=toolchain.environment())
        if status:
            raise BuildFailed("strip refuses what was built", output)
    for module in stamps:
        for kind in ("ko", "debug"):
            (building / kind / f"{module}.ko").hardlink_to(outputs / kind / f"{module}.ko")
    handed_out = {module: [*stamp, *_digests(outputs, module)] for module, stamp in stamps.items()}
    (outputs / "stamps.json").write_text(json.dumps(handed_out))
    result = {"modules": sorted(stamps), "failed": built.failed, "warnings": built.warnings}
    (building / "result.json").write_text(json.dumps(result))


def _stamp(path: Path) -> list[int]:
    """Return what tells a file that was made again: the linker makes a new one, at a new time."""
    status = path.stat()
    return [status.st_ino, status.st_mtime_ns, status.st_size]


def _digests(outputs: Path, module: str) -> list[str]:
    """Return what the files of a module that are handed out are; nothing where they are not there."""
    try:
        return [file_digest(outputs / kind / f"{module}.ko") for kind in ("ko", "debug")]
    except FileNotFoundError:
        return []


def _read_stamps(path: Path) -> dict[str, list[int | str]]:
    try:
        stamps: dict[str, list[int | str]] = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return stamps


def build_agent(source: Path, toolchain: Root, arch: Architecture, cache: Cache, progress: Progress) -> Path:
    """Compile the C files of a directory into one static program for a guest.

    Raises UsageError when there is none, BuildFailed with the compiler's lines.
    """
    files = sorted(source.glob("*.c"))
    if not files:
        raise UsageError(f"{source} has no C files", hint="the agent's sources should be there")
    inputs = {path.name: file_digest(path) for path in sorted(source.glob("*.[ch]"))}

    def make(building: Path, _final: Path) -> None:
        argv = [
            *toolchain.command(compiler(toolchain, arch)),
            *system_includes(toolchain, arch),
            *_AGENT_FLAGS,
            f"-ffile-prefix-map={source}/=",
            "-o",
            str(building / "agent"),
            *(path.name for path in files),
        ]
        with progress.task(f"building the agent for {arch.name}"):
            status, output = run(argv, cwd=source, env={**toolchain.environment(), "LC_ALL": "C"})
        if status:
            raise BuildFailed(f"the agent does not compile for {arch.name}", output)

    key = digest("agent", _AGENT_FORMAT, _AGENT_FLAGS, arch.name, toolchain.digest, inputs)
    return cache.entry("agent", key, make) / "agent"
