# SPDX-License-Identifier: MIT
"""Templates in which modules are loaded already, for the many scenarios of a file that load the same ones.

Loading is most of a scenario's time under emulation: each clone has to translate the kernel's loader anew.
The same goes for a program that many scenarios would bring along, all of whose code is new in each guest.
A template of this kind is made from the ordinary one, so it costs no boot; one that is out of date is dropped
as soon as the next is made, so that there is one for each target and list of modules.
"""

from __future__ import annotations

import errno
import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lab.errors import GuestError, HostError
from lab.guest import pointers, qmp
from lab.guest.machine import clone_seed
from lab.guest.ram import compose, copy
from lab.guest.splat import splats
from lab.guest.template import (
    LOADED,
    RESTORE_SECONDS,
    Template,
    load,
    makings,
    prepare_async,
    restore,
    seal,
)
from lab.store.cache import digest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from lab.guest.agent import Agent
    from lab.guest.argv import BootSpec
    from lab.guest.machine import Guest
    from lab.guest.names import Names
    from lab.progress import Progress
    from lab.store.cache import Cache

_FORMAT = 4
_LOAD_SECONDS = 60.0

Load = tuple[str, bytes, str, bool]  # a module's name, its image, its parameters, whether it is the kernel's


@dataclass(frozen=True)
class Program:
    """A program that guests have from the start."""

    name: str
    image: bytes
    send: Callable[[Agent], None]  # raises AgentError


class CannotLoad(GuestError):  # noqa: N818 - what happened
    """The modules cannot be loaded ahead; a scenario that loads them itself tells more."""


def loaded(
    base: Template,
    spec: BootSpec,
    modules: Sequence[Load],
    cache: Cache,
    progress: Progress,
    programs: Sequence[Program] = (),
) -> Template | None:
    """Return a template in which modules are loaded, in order, and programs are; it is the caller's to close.

    None where loading fails or makes the kernel complain: the scenario's own report shall say so. Raises
    GuestError, BootFailed, HostError and CacheError when there is no such template for another reason.
    """
    names = "-".join([*(name for name, *_ in modules), *(each.name for each in programs)])
    content: list[tuple[str, ...]] = [
        (name, hashlib.sha256(image).hexdigest(), params) for name, image, params, _ in modules
    ]
    content += [(each.name, hashlib.sha256(each.image).hexdigest()) for each in programs]
    key = digest(_FORMAT, base.facts.nonce, content)
    wanted = [*((name, params) for name, _, params, _ in modules), *(each.name for each in programs)]
    # Two QEMUs used in turn (with and without CHANLAB_QEMU, say) have one each.
    fact = f"loaded-{digest(spec.qemu.digest, spec.name, spec.accel, spec.cmdline, spec.devices, wanted)}"
    try:
        path = cache.entry(
            LOADED,
            key,
            lambda building, _final: _make(base, spec, modules, programs, building, progress),
            progress_text=f"loading {names}",
            durable=False,
        )
    except CannotLoad:
        return None
    last = cache.recall(fact)
    if last != key:
        cache.remember(fact, key)
        if isinstance(last, str):
            cache.discard(LOADED, last)
    found = load(path)
    if found is None or found.refused:
        cache.discard(LOADED, key)  # the next run tries again: only each scenario's loading depends on it
        why = "it was damaged" if found is None else found.refused
        raise HostError(f"the template with {names} cannot be restored: {why}")
    try:
        return replace(found, composed=compose(base.ram, found.differences))
    except OSError as error:
        raise HostError(f"the memory of the template with {names} cannot be put together: {error}") from error


def _make(
    base: Template,
    spec: BootSpec,
    modules: Sequence[Load],
    programs: Sequence[Program],
    building: Path,
    progress: Progress,
) -> None:
    names = ", ".join([*(name for name, *_ in modules), *(each.name for each in programs)])
    with progress.task(f"loading {names} once, to be cloned"):
        for why in makings(lambda last: _make_once(base, spec, modules, programs, building, last=last)):
            progress.note(f"loading {names} once more: {why}")


def _make_once(
    base: Template,
    spec: BootSpec,
    modules: Sequence[Load],
    programs: Sequence[Program],
    building: Path,
    *,
    last: bool,
) -> str:
    """Load and seal; returns why the template is refused."""
    copy(base.ram, building / "ram")
    process = qmp.run(prepare_async(spec, base, ram=building / "ram"), RESTORE_SECONDS)
    material, jitter = clone_seed(0, "loading again" if last else "loading")
    guest = restore(process, base, spec, seed=material, jitter_us=jitter)
    try:
        for program in programs:
            program.send(guest.agent)
        names = _load_all(guest, modules)
        own = {name: image for name, image, _, shipped in modules if not shipped}
        where = pointers.sections(guest.agent, spec.arch, own, own, _LOAD_SECONDS)
    except BaseException:
        guest.close()
        raise
    return seal(guest, spec, building, base.boot_seconds, last=last, base=base, names=names, sections=where)


def _load_all(guest: Guest, modules: Sequence[Load]) -> Names:
    """Load modules; return what had a name before the first that is not the kernel's own."""
    names = None
    for name, image, params, own in modules:
        if not own and names is None:
            names = guest.agent.names(_LOAD_SECONDS, wide=True)
        result = guest.agent.load_module(image, params, timeout=_LOAD_SECONDS)
        if result.errno is not None and not (own and result.errno == errno.EEXIST):
            raise CannotLoad(f"{name} does not load")
    guest.agent.sync(timeout=_LOAD_SECONDS)
    if splats(guest.agent.messages()):
        raise CannotLoad("the kernel complains of the modules")
    return names or guest.agent.names(_LOAD_SECONDS, wide=True)


__all__ = ["CannotLoad", "Load", "Program", "loaded"]
