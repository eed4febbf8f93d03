# SPDX-License-Identifier: MIT
"""The QEMU that `lab turbo` builds, in the place of Debian's own where it is there and runs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from lab.errors import CacheError, LabError
from lab.kernels import turbo
from lab.store.cache import digest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lab.arch import Architecture
    from lab.guest.argv import Qemu
    from lab.kernels.roots import Root
    from lab.progress import Progress
    from lab.store.cache import Cache


def instead(
    stock: Qemu,
    arch: Architecture,
    own: Root,
    cache: Cache,
    progress: Progress,
    *,
    check: Callable[[Path], object],
) -> Qemu:
    """Return a QEMU that is started in the place of a stock one out of a root; the stock one without any.

    One that `check` raises for, or that does not fit otherwise, is told of and not used. Raises CacheError.
    """
    found = turbo.built(arch, own, cache)
    if found is None:
        from lab.kernels import turbo_wheel  # noqa: PLC0415 - not where it was built here

        found = turbo_wheel.installed(arch)
    if found is None:
        return stock
    try:
        program = fitting(found, arch, own, cache, check=check)
    except CacheError:
        raise
    except LabError as error:
        progress.note(f"{arch.name}: guests run under Debian's QEMU: {error.message}")
        return stock
    return replace(
        stock,
        command=(str(program),),
        version=turbo.upstream(found.about.source),
        patched=True,
        digest=digest("turbo", own.digest, found.about.digest),
    )


def fitting(
    found: turbo.Build, arch: Architecture, own: Root, cache: Cache, *, check: Callable[[Path], object]
) -> Path:
    """Return a build's program, bound to a root's libraries and seen to run with them.

    Raises LabError, saying why, for one that does not fit, CacheError.
    """
    where = f"the one in {found.program.parent}"
    why = turbo.refused(found, arch)
    if why:
        raise LabError(f"{where} is not for this lab: {why}", hint=_ANEW)
    try:
        # All symbols are bound when it starts (-z now): what a library lacks shows at once.
        return turbo.bind(found, own, cache, check=check)
    except CacheError:
        raise
    except LabError as error:
        raise LabError(f"{where} does not fit the lab's libraries: {error.message}", hint=_ANEW) from error


_ANEW = "`lab turbo` builds one that does; CHANLAB_TURBO=0 does without"
