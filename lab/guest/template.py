# SPDX-License-Identifier: MIT
"""Templates: a guest frozen right after its agent came up, kept in the cache, restored any number of times.

::

    ram         the guest's memory; clones map it copy-on-write
    differences     instead of it, where the template was made from another one
    state       the state of its devices and CPUs
    kernel      as much of the kernel's image as a clone's QEMU must be given, where it must
    template.json   what is known of it
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.errors import BootFailed, GuestError, GuestLost, HostError
from lab.guest import pci, qemu, qmp, timers, wakes
from lab.guest.argv import DEVICES, kernel_stub
from lab.guest.machine import Guest, boot, clone_seed
from lab.guest.names import unpacked
from lab.guest.pointers import Section
from lab.guest.ram import CannotLook, difference, differing, overwritten, ram_digest, reserve
from lab.store.cache import digest, file_digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from lab.guest.argv import BootSpec, Role
    from lab.guest.names import Names
    from lab.guest.qemu import Process
    from lab.progress import Progress
    from lab.store.cache import Cache

KIND = "template"
LOADED = "loaded"  # made from another one, see lab.guest.loaded
KINDS = (KIND, LOADED)
RENEW_SECONDS = 7 * 86400.0  # all clones share a boot's random choices: no template is used for longer
FAILED_SECONDS = 300.0  # how long a boot that failed is not tried again
VERIFY_SECONDS = 86400.0  # between two looks at the whole RAM file
_QUIESCE_SECONDS = 60.0
# Until no CPU has an interrupt under way to another: see lab.guest.wakes for what is left of those that have.
_SETTLE_SECONDS = 0.1
_FREEZE_SECONDS = 60.0
TRIES = 2  # one clone may be killed by chance; two in a row have a reason
_MAKINGS = 2  # what a template lacks may be chance too: the moment in which its guest was frozen
RESTORE_SECONDS = 30.0  # it takes a tenth of one; a host that swaps may need more
_MANIFEST = "template.json"


@dataclass(frozen=True)
class Facts:
    """What is known of a template, as its manifest has it."""

    nonce: str  # hex; in the guest's memory since before it was frozen
    boot_seconds: float  # from starting QEMU to the agent's first answer, on a host with nothing else to do
    freeze_seconds: float
    made: float  # seconds since the epoch
    ram_bytes: int
    ram_digest: str  # '' where there is no file `ram`
    state_digest: str
    release: str  # `uname -r` of the guest
    command: list[str]  # QEMU's argv, for people
    kernel_stub: bool  # whether there is a file `kernel`
    pci: dict[str, str] = field(default_factory=dict)  # what each clone must be given back, see lab.guest.pci
    differences: str = ""  # digest of the file `differences`; '': there is a file `ram`
    # What has a name in its kernel, without the modules that are tested: see lab.guest.names.
    names: dict[str, str] = field(default_factory=dict)
    timers: dict[str, Any] = field(default_factory=dict)  # where its kernel has them: see lab.guest.timers
    # Where the modules are that it was made with: see lab.guest.pointers.
    sections: list[list[Any]] = field(default_factory=list)
    refused: str = ""  # why it must not be restored; '': it was restored once, and all was well


@dataclass(frozen=True)
class Template:
    """A frozen guest in the cache."""

    path: Path
    facts: Facts
    composed: int = -1  # a descriptor of its memory, where that is no file: see lab.guest.ram

    @property
    def ram(self) -> Path:
        """The file that holds the guest's memory; nobody writes to it any more."""
        return self.path / "ram" if self.composed < 0 else Path(f"/proc/{os.getpid()}/fd/{self.composed}")

    @property
    def differences(self) -> Path:
        """What is kept of its memory where the rest is another template's."""
        return self.path / "differences"

    def close(self) -> None:
        """Let go of memory that was put together; no clone can be made afterwards. Not to be called twice."""
        if self.composed >= 0:
            os.close(self.composed)

    @property
    def state(self) -> Path:
        """The file that holds the state of devices and CPUs."""
        return self.path / "state"

    @property
    def stub(self) -> Path | None:
        """What a clone's QEMU is given for a kernel; None: nothing."""
        return self.path / "kernel" if self.facts.kernel_stub else None

    @property
    def nonce(self) -> bytes:
        """What a restored guest must answer with."""
        return bytes.fromhex(self.facts.nonce)

    @cached_property
    def names(self) -> Names:
        """What has a name in its kernel, the modules that are tested left out."""
        return unpacked(self.facts.names)

    @cached_property
    def timers(self) -> timers.Survey | None:
        """Where its kernel has its timers, if it tells."""
        return timers.unpacked(self.facts.timers)

    @cached_property
    def sections(self) -> list[Section]:
        """Where the modules are that it was made with."""
        return [Section(*each) for each in self.facts.sections]

    @cached_property
    def changed(self) -> list[int]:
        """The pages in which its memory differs from that of the template it was made from."""
        return differing(self.differences) if self.facts.differences else []

    @property
    def boot_seconds(self) -> float:
        """How long the boot took: what tells how slow the target is."""
        return self.facts.boot_seconds

    @property
    def refused(self) -> str:
        """Why it must not be restored; '' when it can be."""
        return self.facts.refused


def key_of(spec: BootSpec, now: float, *, age: float = RENEW_SECONDS) -> str:
    """Return the key of the template to use now: the spec's, and which period of `age` seconds it is.

    Periods do not change for all specs at once.
    """
    key = spec.key()
    offset = int(key[:8], 16) / 2**32 * age
    return digest(key, int((now + offset) // age))


def template(spec: BootSpec, cache: Cache, progress: Progress) -> Template:
    """Return the template of a spec, made if it is not there.

    One that does not survive its self-check is returned too, with the reason in `refused`. Raises BootFailed
    when no agent comes up, at once when that happened to anybody in the last minutes; HostError when QEMU
    cannot be started or its memory not be kept; CacheError.
    """
    now = time.time()
    key = key_of(spec, now)
    name = spec.name or spec.kernel.kernel.release
    for _ in range(2):
        path = cache.entry(
            KIND,
            key,
            lambda building, _final: _make(spec, building, cache, progress),
            progress_text=f"booting {name}",
        )
        found = load(path)
        if found is not None and _verified(found, key, cache):
            cache.discard(KIND, key_of(spec, now - RENEW_SECONDS))
            return found
        progress.note(f"the template of {name} was damaged, it is made again")
        cache.discard(KIND, key)
    raise HostError(
        f"the template of {name} in {path} is damaged as soon as it is made",
        hint="check that disk; CHANLAB_CACHE puts the cache elsewhere",
    )


def load(path: Path) -> Template | None:
    """Return what is in a directory, None when it is not whole."""
    try:
        found = Template(path, Facts(**json.loads((path / _MANIFEST).read_text())))
        if found.refused:
            return found
        if found.facts.differences:
            whole = file_digest(found.differences) == found.facts.differences
        else:
            whole = found.ram.stat().st_size == found.facts.ram_bytes
        return found if whole and file_digest(found.state) == found.facts.state_digest else None
    except (OSError, ValueError, TypeError):
        return None


def _verified(found: Template, key: str, cache: Cache) -> bool:
    """Return whether the RAM file is what it was; looked at once a day, it takes a fraction of a second."""
    name = f"template-verified-{key}"
    last = cache.recall(name)
    if found.refused or (isinstance(last, int | float) and 0 <= time.time() - last < VERIFY_SECONDS):
        return True
    if ram_digest(found.ram, thin=False) != found.facts.ram_digest:
        return False
    cache.remember(name, time.time())
    return True


def _make(spec: BootSpec, building: Path, cache: Cache, progress: Progress) -> None:
    failed = f"boot-failed-{spec.key()}"
    _raise_remembered(cache, failed)
    name = spec.name or spec.kernel.kernel.release
    with progress.task(f"booting {name} once, to be cloned"):
        for why in makings(lambda last: _make_once(spec, building, failed, cache, progress, last=last)):
            progress.note(f"booting {name} once more: {why}")
    # What nobody has used for as long as a template lives, nobody will use again.
    cache.clean(kinds=KINDS, unused_seconds=RENEW_SECONDS, facts=False)


def _make_once(
    spec: BootSpec, building: Path, failed: str, cache: Cache, progress: Progress, *, last: bool
) -> str:
    """Boot and seal; returns why the template is refused."""
    ram = building / "ram"
    reserve(ram, spec.memory_mib << 20)
    started = time.monotonic()
    try:
        # Taking turns, QEMU is at its most reliable; the template serves guests of both kinds.
        guest = boot(spec, "template", ram=ram, turns=True)
    except BootFailed as error:
        cache.check_interrupt()  # it was ended with the run: that says nothing about the next one
        cache.remember(failed, {"time": time.time(), "message": error.message, "console": error.console})
        raise
    if guest.remark:
        progress.note(guest.remark)
    # A busy host makes a boot longer, but not the target slower: QEMU's own CPU time bounds it.
    booted = min(time.monotonic() - started, cpu_seconds(guest.pid))
    return seal(guest, spec, building, booted, last=last)


def makings(once: Callable[[bool], str]) -> Iterator[str]:
    """Make a template, and once more if it is refused; yields why before it does.

    `once` makes it, is told whether it is the last time, and returns why it is refused, '' when it is not.
    """
    for left in reversed(range(_MAKINGS)):
        why = once(not left)
        if not (why and left):
            return
        yield why


def seal(
    guest: Guest,
    spec: BootSpec,
    building: Path,
    booted: float,
    *,
    last: bool,
    base: Template | None = None,
    names: Names | None = None,
    sections: Sequence[Section] = (),
) -> str:
    """Make a template of a guest whose memory is the file `ram` in `building`; the guest ends with it.

    `base`: what the guest was cloned from; only in what its memory differs is kept then.
    `names`: what had one before modules were loaded into it, `sections`: where they are.
    Returns why it must not be restored, '' when all is well: the `last` that is tried is not refused for
    being slow, which may be the host's doing. Raises BootFailed when the guest dies meanwhile, HostError
    when QEMU does not freeze it.
    """
    with guest:
        facts = _freeze(guest, spec, building, booted, names, whole=base is None)
    made = Template(building, Facts(**facts))
    for file in (made.ram, made.state):
        file.chmod(0o444)
    why = ""
    for _ in range(TRIES):
        try:
            _check(made, spec, whole=base is None, quick=not last)
            why = ""
            break
        except wakes.SlowWakes as error:  # another clone may be lucky, and all the others not
            why = error.message
            break
        except (GuestError, HostError) as error:
            why = error.message
    if why:
        made = Template(building, Facts(**facts | {"refused": why}))
        made.ram.unlink()  # 256 MiB of no use
        made.state.unlink()
    elif base is not None:
        difference(base.ram, made.ram, made.differences)
        digest_of = file_digest(made.differences)
        where = [list(each) for each in sections]
        made = Template(
            building, replace(made.facts, differences=digest_of, timers=base.facts.timers, sections=where)
        )
        made.ram.unlink()
    (building / _MANIFEST).write_text(json.dumps(asdict(made.facts), indent=1))
    return made.refused


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process has taken so far, in user and kernel mode, all of its threads.

    Raises OSError when it is gone. /proc/PID/stat counts in hundredths of a second: a guest takes a few.
    """
    return time.clock_gettime(~pid << 3 | 2)  # what clock_getcpuclockid(3) makes of a process id


def _raise_remembered(cache: Cache, name: str) -> None:
    """Raise what the boot failed with a short while ago, if it did."""
    known = cache.recall(name)
    if not isinstance(known, dict):
        return
    with suppress(KeyError, TypeError):
        ago = time.time() - known["time"]
        if 0 <= ago < FAILED_SECONDS:
            raise BootFailed(
                f"{known['message']} (seen {ago:.0f} s ago)",
                known["console"],
                hint=f"it is tried again {FAILED_SECONDS:.0f} s after it failed",
            )


def _freeze(
    guest: Guest, spec: BootSpec, building: Path, booted: float, names: Names | None, *, whole: bool
) -> dict[str, Any]:
    """Stop a guest for good and write down what it is.

    `names`: what had one before its modules came, None: none came. `whole`: its memory is kept as it is, so
    that it is worth clearing, and digesting, first.
    """
    nonce = os.urandom(16)
    forgotten = [DEVICES[name].forgotten for name in spec.devices if DEVICES[name].forgotten]
    try:
        spaces = pci.read(guest.agent, forgotten) if forgotten else {}
        if names is None:
            # Before all rests: looking leaves something in the kernel's caches.
            names = guest.agent.names(_QUIESCE_SECONDS, wide=True)
        survey = None
        if whole:
            survey = timers.survey(guest.agent, spec.arch, spec.cpus)
            guest.agent.settle(timeout=_QUIESCE_SECONDS)
        guest.agent.quiesce(nonce, timeout=_QUIESCE_SECONDS)
        time.sleep(_SETTLE_SECONDS)
        if survey is not None:
            survey = timers.calibrated(survey, spec.arch, guest.pid, building / "ram")
        started = time.monotonic()
        qmp.run(_freeze_async(guest.process, building / "state"), _FREEZE_SECONDS)
    except TimeoutError:
        raise HostError(f"QEMU did not freeze {spec.name} within {_FREEZE_SECONDS:g} s") from None
    except GuestError as error:
        raise BootFailed(f"{spec.name} died before it was frozen: {error}", guest.console_text()) from error
    frozen = time.monotonic() - started
    stub = kernel_stub(spec.kernel.image.read_bytes(), spec.arch)
    if stub is not None:
        (building / "kernel").write_bytes(stub)
    command = list(guest.process.command)
    release = guest.hello.release if guest.hello is not None else ""
    guest.close()
    return {
        "nonce": nonce.hex(),
        "boot_seconds": booted,
        "freeze_seconds": frozen,
        "made": time.time(),
        "ram_bytes": spec.memory_mib << 20,
        "ram_digest": ram_digest(building / "ram", thin=True) if whole else "",
        "state_digest": file_digest(building / "state"),
        "release": release,
        "command": command,
        "kernel_stub": stub is not None,
        "pci": spaces,
        "names": names.packed(),
        "timers": survey.packed() if survey is not None else {},
    }


_CAPABILITIES = {
    "capabilities": [
        # The memory is in a file already: only devices go into the state, 0.3 MB.
        {"capability": "x-ignore-shared", "state": True},
        # MIGRATION events, so that nobody has to poll.
        {"capability": "events", "state": True},
    ]
}


async def _freeze_async(process: Process, state: Path) -> None:
    await process.qmp.execute_async("stop")
    await process.qmp.execute_async("migrate-set-capabilities", _CAPABILITIES)
    await _migrate(process, "migrate", state, "freezing")


async def _migrate(process: Process, command: str, state: Path, doing: str) -> None:
    """Migrate to or from a file, to the end; raises HostError when that fails, GuestLost when QEMU died."""
    # A guest that is restored to become another template has one migration behind it.
    before = len(process.qmp.events)
    await process.qmp.execute_async(command, {"uri": f"file:{state}"})
    event = await process.qmp.wait_async(
        lambda event: event["event"] == "MIGRATION" and event["data"]["status"] in ("completed", "failed"),
        since=before,
    )
    if event["data"]["status"] == "failed":
        why = await process.qmp.execute_async("query-migrate")
        raise HostError(f"{doing} a guest failed: {why.get('error-desc', 'QEMU does not say why')}")


async def prepare_async(
    spec: BootSpec,
    made: Template,
    log: Path | None = None,
    *,
    ram: Path | None = None,
    turns: bool = False,
) -> Process:
    """Start a QEMU that has taken in a template's state and waits to go on.

    `ram`: a copy of the template's memory that it may write to, to become another template; `turns`: its
    CPUs may take turns, see lab.run.beside. Raises what
    qemu.start() does, HostError when the state does not fit, GuestLost when QEMU died of it.
    """
    role: Role = "clone" if ram is None else "loading"
    process = await qemu.start_async(spec, role, ram=ram or made.ram, log=log, stub=made.stub, turns=turns)
    try:
        await process.qmp.execute_async("migrate-set-capabilities", _CAPABILITIES)
        await _migrate(process, "migrate-incoming", made.state, "restoring")
    except (GuestLost, HostError) as error:
        said = await process.last_words_async()
        raise type(error)(f"{error.message}{f': {said}' if said else ''}", hint=error.hint) from error
    except BaseException:
        await process.close_async()
        raise
    return process


def restore(process: Process, made: Template, spec: BootSpec, *, seed: bytes, jitter_us: int) -> Guest:
    """Turn a waiting QEMU into a guest whose agent has answered with the template's nonce.

    Raises GuestError or HostError when that does not come about; the QEMU is gone then.
    """
    guest = Guest(process, spec, restored=True)
    try:
        process.qmp.execute("cont")
        hello = guest.greet(seed=seed, jitter_us=jitter_us, timeout=RESTORE_SECONDS)
        _compare(hello.nonce, made.nonce)
        guest.names, guest.timers, guest.ram = made.names, made.timers, made.ram
        guest.sections, guest.changed = made.sections, made.changed
        pci.write(guest.agent, made.facts.pci)
    except BaseException:
        guest.close()
        raise
    return guest


def _compare(got: bytes, wanted: bytes) -> None:
    if got != wanted:
        raise HostError(
            f"a restored guest is not the one that was frozen: its nonce is {got.hex() or 'empty'}, "
            f"the template's is {wanted.hex()}"
        )


def _check(made: Template, spec: BootSpec, *, whole: bool, quick: bool) -> None:
    """Restore a clone as every user of the template will; raises GuestError or HostError.

    `whole`: it was not made from another one, which showed already that QEMU leaves a clone's memory alone.
    `quick`: its CPUs must wake each other quickly.
    """
    material, jitter = clone_seed(0, "self-check")
    process = qmp.run(prepare_async(spec, made), RESTORE_SECONDS)
    changed: list[int] = []
    if whole:
        with suppress(CannotLook):  # clones are as their QEMU makes them: nobody has seen one change memory
            changed = overwritten(process.pid, made.ram, spec.arch.overwritten)
    if changed:
        process.close()
        raise HostError(f"QEMU itself changed a restored guest's memory, from {changed[0]:#x} on")
    with restore(process, made, spec, seed=material, jitter_us=jitter) as guest:
        if quick:
            wakes.check(guest.agent, spec.cpus)
