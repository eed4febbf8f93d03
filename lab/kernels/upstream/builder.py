# SPDX-License-Identifier: MIT
"""Kernels built from source, in the cache: by what their sources, their configuration and their compiler are.

What make made stays in a directory of its own for each tree and architecture, so that a changed file costs
its own compilation, and one that was interrupted goes on. What is handed out is put together anew.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lab.kernels.roots import root
from lab.kernels.upstream import pack
from lab.kernels.upstream.configure import configure, fragments, fragments_digest
from lab.kernels.upstream.kmake import KernelMake
from lab.kernels.upstream.trees import check_space
from lab.store.cache import digest
from lab.store.disk import free_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lab.arch import Architecture
    from lab.kernels.roots import Root
    from lab.kernels.upstream.pack import Packed
    from lab.kernels.upstream.trees import Sources
    from lab.progress import Progress
    from lab.settings import Settings
    from lab.store.cache import Cache

FORMAT = 1  # to be raised when kernels are to be put together anew
ROOT = "kernel-build"
COMPILER = "gcc-14"  # that it has
BUILD_MB = 3000  # of disk while a kernel is built, its sources apart
_KIND, _OBJECTS = "built-kernel", "kernel-objects"
_STEPS = 3500  # files and links of a first build, until it is known


@dataclass(frozen=True)
class Order:
    """What is to be built."""

    name: str  # of the tree, for people: 'linux-6.6.17'
    place: str  # what is the same for a tree that was changed
    arch: Architecture
    own: tuple[Path, ...] = ()  # the user's fragments of a configuration
    changes: bool = True  # whether the tree may change: what make made of one that does not is given back


def compiler_root(arch: Architecture, settings: Settings, cache: Cache, progress: Progress) -> Root:
    """Return the root that compiles kernels for an architecture, and modules for these."""
    return root(ROOT, settings, cache, progress, target=arch)


def build(
    order: Order,
    content: str,
    sources: Callable[[], Sources],
    settings: Settings,
    cache: Cache,
    progress: Progress,
) -> Packed:
    """Return a kernel, built if it is not in the cache; `sources` gives the tree that has this `content`.

    Raises BuildFailed, HostError where the disk is too small, CacheError.
    """
    tools = compiler_root(order.arch, settings, cache, progress)
    paths = fragments(order.arch, order.own)
    made_by = (FORMAT, order.arch.name, fragments_digest(paths), tools.digest, str(cache.root))
    key = _key(order, content, made_by)

    def make(building: Path, _: Path) -> None:
        at = _objects(order, tools, cache)
        with cache.alone(str(at), f"the build of {order.name}"):
            _make(order, sources(), at, building, paths, tools, settings, cache, progress)

    path = cache.entry(_KIND, key, make, progress_text=f"kernel {order.name}")
    if not order.changes:
        cache.discard(_OBJECTS, _objects_key(order, tools))
    return pack.load(path)


def is_built(order: Order, content: str, tools: Root, cache: Cache) -> bool:
    """Tell whether build() has nothing to do."""
    paths = fragments(order.arch, order.own)
    made_by = (FORMAT, order.arch.name, fragments_digest(paths), tools.digest, str(cache.root))
    return cache.peek(_KIND, _key(order, content, made_by)) is not None


def _key(order: Order, content: str, made_by: Sequence[object]) -> str:
    return f"{order.arch.name}-{digest(content, *made_by)[:24]}"


def _objects(order: Order, tools: Root, cache: Cache) -> Path:
    """Return the directory that keeps what make made of a tree, for each configuration of a user's."""
    key = _objects_key(order, tools)
    return cache.entry(_OBJECTS, key, lambda _building, _final: None, durable=False, fixed=False)


def _objects_key(order: Order, tools: Root) -> str:
    return f"{order.arch.name}-{digest(order.place, fragments_digest(order.own), tools.digest)[:24]}"


def _make(
    order: Order,
    tree: Sources,
    at: Path,
    to: Path,
    paths: Sequence[Path],
    tools: Root,
    settings: Settings,
    cache: Cache,
    progress: Progress,
) -> None:
    title = order.name if "linux" in order.name else f"linux {order.name}"
    what = f"{title} for {order.arch.name}"
    if not (at / "vmlinux").exists():
        check_space(cache.root, BUILD_MB, free_bytes(cache.root) / 1e6, what)
    make = KernelMake(tree.path, at, order.arch, tools, settings.jobs)
    with progress.task(f"configuring {what}"):
        for line in configure(make, paths):
            progress.note(f"{what}: {line}")
    started = time.monotonic()
    steps = f"kernel-steps-{order.arch.name}"
    usual = cache.recall(steps) or _STEPS
    with progress.task(f"compiling {what}: {_said(settings.jobs)}", usual) as task:

        def count(line: str) -> None:
            cache.check_interrupt()
            if line.startswith("  "):  # what kbuild says of each file: '  CC      init/main.o'
                task.advance(1)

        image = make.run("-s", "image_name").split()[-1]
        make.run(Path(image).name, "modules", on_line=count)
        if task.done > usual / 2:  # otherwise most of it was there already
            cache.remember(steps, int(task.done))
    progress.note(f"{what} was built in {_minutes(time.monotonic() - started)}")
    with progress.task(f"putting {what} together"):
        pack.pack(tree.path, at, at / image, order.arch, tools, to)


def _said(jobs: int) -> str:
    """Return what to expect, before anybody waits for it."""
    minutes = 10 / jobs  # of a core of today's, for what kernels/config asks for
    return f"some {max(minutes, 1):.0f} to {max(3 * minutes, 2):.0f} minutes with {jobs} jobs"


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} minutes"


__all__ = ["Order", "build", "compiler_root", "is_built"]
