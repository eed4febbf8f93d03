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
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from lab.arch import architecture
from lab.errors import BuildFailed, ModuleFailed, UsageError
from lab.kernels.kbuild import Built, Kbuild
from lab.kernels.prepare import before_make, conf_of, in_order, made_ready, sources_of
from lab.kernels.process import run
from lab.kernels.sources import File, patched, synchronise
from lab.kernels.surroundings import Surroundings
from lab.kernels.toolchain import compiler, system_includes, tool
from lab.store.cache import digest, file_digest

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    from lab.arch import Architecture
    from lab.kernels.dkms import Conf
    from lab.kernels.model import Headers
    from lab.kernels.roots import Root
    from lab.kernels.tree import Tree, Trees
    from lab.progress import Progress
    from lab.store.cache import Cache

# Go into the keys: what this file makes of the same input.
_MODULES_FORMAT = 4
_AGENT_FORMAT = 1
_AGENT_FLAGS = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-static", "-s")
_POLL_SECONDS = 0.05
_MANY = 6  # names in a line of progress
_SYMVERS = "Module.symvers"


@dataclass(frozen=True)
class Modules:
    """The modules of source trees for one kernel, by the kernel's names for them (with _)."""

    ko: Mapping[str, Path]  # without DWARF: what is sent to the guest
    debug: Mapping[str, Path]  # with DWARF
    failed: Mapping[str, str]  # the compiler's own lines, paths relative to the user's tree
    warnings: Mapping[str, str]  # what it said about modules that it did build
    digest: str  # of everything that went into them
    exports: tuple[Path, ...] = ()  # Module.symvers of each tree: what others may use
    excluded: Mapping[str, str] = field(default_factory=dict)  # not for this kernel, and why: a dkms.conf's
    homes: Mapping[str, Path] = field(default_factory=dict)  # the tree of each module

    @property
    def names(self) -> list[str]:
        """All modules that are made, or would be."""
        return sorted({*self.ko, *self.failed, *self.excluded})


def build_trees(
    trees: Trees,
    headers: Headers,
    toolchain: Root,
    cache: Cache,
    progress: Progress,
    patches: Sequence[Path] = (),
    only: Collection[str] = (),
    *,
    tools: Root | None = None,
) -> Modules:
    """Build all modules of all trees; each may use what those before it export.

    One whose dkms.conf has BUILD_DEPENDS comes behind those that it names. A patch is for the tree that it
    lies in, or else for the first. `tools` has more programs for what trees run. Raises what build_modules()
    does, and UsageError where two trees have a module of the same name.
    """
    all_of_them = Modules({}, {}, {}, {}, digest("no modules"))
    packages: list[str] = []
    for tree, package in in_order(trees, headers, toolchain, tools):
        own = [patch for patch in patches if _home(patch, trees) is tree]
        try:
            built = build_modules(
                tree,
                headers,
                toolchain,
                cache,
                progress,
                own,
                only,
                exports=all_of_them.exports,
                packages=packages,
                tools=tools,
            )
        except ModuleFailed as error:
            if len(trees.all) == 1 or not tree.modules:
                raise
            failed = dict.fromkeys(tree.modules, error.whole)  # the others' are none the worse for it
            built = Modules({}, {}, failed, {}, digest(error.whole))
        twice = sorted({*built.names} & {*all_of_them.names})
        if twice:
            raise UsageError(
                f"{tree.path} has a module {twice[0]} as a tree before it has",
                hint="a kernel takes one module of a name: leave out one of the trees",
            )
        built = replace(built, homes=dict.fromkeys(built.names, tree.path))
        all_of_them = built if len(trees.all) == 1 else _joined(all_of_them, built)
        packages.append(package)
    return all_of_them


def _home(patch: Path, trees: Trees) -> Tree:
    """Return which tree a patch is for."""
    return next((tree for tree in trees.all if patch.is_relative_to(tree.path)), trees.all[0])


def _joined(one: Modules, other: Modules) -> Modules:
    return Modules(
        {**one.ko, **other.ko},
        {**one.debug, **other.debug},
        {**one.failed, **other.failed},
        {**one.warnings, **other.warnings},
        digest(one.digest, other.digest),
        (*one.exports, *other.exports),
        {**one.excluded, **other.excluded},
        {**one.homes, **other.homes},
    )


def build_modules(
    tree: Tree,
    headers: Headers,
    toolchain: Root,
    cache: Cache,
    progress: Progress,
    patches: Sequence[Path] = (),
    only: Collection[str] = (),
    *,
    exports: tuple[Path, ...] = (),
    packages: Collection[str] = (),
    tools: Root | None = None,
) -> Modules:
    """Build all modules of a source tree with patches applied; never changes the tree itself.

    `only`: where its Kbuild can leave out the others, these will do. `exports` are Module.symvers of trees
    whose symbols it may use, `packages` what these are called in a dkms.conf.

    A module that does not build is in `failed`, the others are built all the same. Raises UsageError for a
    tree without a Kbuild and for a patch that does not apply, BuildFailed when nothing can be built or make
    gives no file to blame.
    """
    files = sources_of(tree)
    below = tree.below()
    if below and tree.dkms is None:
        files["Kbuild"] = File("".join(f"obj-m += {path}/\n" for path in below).encode())
    name = tree.path.resolve().name
    contents = {
        path: [hashlib.sha256(file.data).hexdigest(), file.executable] for path, file in files.items()
    }
    parts = (
        headers.digest,
        toolchain.digest,
        name,
        contents,
        [file_digest(patch) for patch in patches],
        [file_digest(each) for each in exports],
        tree.make,
        sorted(packages) if tree.dkms else [],
        tree.prepare,
        tools.digest if tools is not None else "",
    )
    key = digest("modules", _MODULES_FORMAT, *parts)
    few = _few(only, tree)
    if few and cache.peek("modules", key) is None:
        key = digest("modules", _MODULES_FORMAT, *parts, few)
    else:
        few = []

    def make(building: Path, _final: Path) -> None:
        what = ", ".join(few) if len(few) < _MANY else f"{len(few)} modules"
        text = f"building {what if few else name} for {headers.kernel.release}"
        wanted = patched(files, patches, toolchain)
        conf = conf_of(tree, wanted, headers, toolchain, tools)
        if conf is not None and conf.modules and not conf.made:
            _write_result(building, Built({}, {}, {}), conf)
            return
        try:
            wanted = made_ready(wanted, tree, conf, toolchain, tools, packages)
            with progress.task(text), _build_tree(tree.path, headers, toolchain, cache) as (copy, lock):
                around = Surroundings(copy.resolve(), name, headers, toolchain, lock, tools)
                for modules in (few, []) if few else ([],):
                    synchronise(copy, wanted)
                    before_make(tree, conf, around, progress)
                    kbuild = Kbuild(around, only=modules, exports=exports, make=tree.make, conf=conf)
                    built = kbuild.build()
                    if not built.failed:  # of a few, for want of another one perhaps
                        break
                _collect(built, copy, building, toolchain, architecture(headers.kernel.arch))
        except ModuleFailed as error:
            if conf is None or not conf.made:
                raise
            # It is all of them, and what they are called is known.
            built = Built({}, {each.kernel_name: error.whole for each in conf.made}, {})
        _write_result(building, built, conf)

    entry = cache.entry("modules", key, make, progress_text=f"{name} is being built")
    result = json.loads((entry / "result.json").read_bytes())
    names = result["modules"]
    return Modules(
        ko={module: entry / "ko" / f"{module}.ko" for module in names},
        debug={module: entry / "debug" / f"{module}.ko" for module in names},
        failed=result["failed"],
        warnings=result["warnings"],
        digest=key,
        exports=(entry / _SYMVERS,),
        excluded=result["excluded"],
    )


def _few(only: Collection[str], tree: Tree) -> list[str]:
    """Return the modules that are to be built where they are not all of them; [] for all."""
    found = tree.modules.keys() & only
    return sorted(found) if tree.picks and found < tree.modules.keys() else []


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


def _write_result(building: Path, built: Built, conf: Conf | None) -> None:
    (building / _SYMVERS).write_text(built.symvers)
    result = {
        "modules": sorted(built.modules),
        "failed": built.failed,
        "warnings": built.warnings,
        "excluded": conf.excluded if conf is not None else {},
    }
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
