# SPDX-License-Identifier: MIT
"""What this host can do for the lab, and what to do about what it cannot: the findings of `lab doctor`."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lab.arch import host
from lab.errors import LabError
from lab.settings import SETTINGS, cgroup_values, cpu_quota

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lab.progress import Progress
    from lab.settings import Settings
    from lab.store.cache import Cache

Grade = Literal["good", "note", "bad"]
# Two kernels with all that building for them takes, and their templates.
_WANTED_BYTES = 3 << 30
# Two clones at once, their host's Python and a compiler.
_WANTED_MEMORY = 1 << 30
_SLOW = {"nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "afs"}
_KVM = "/dev/kvm"
_IN_MEMORY = {"tmpfs", "ramfs", "devtmpfs"}


@dataclass(frozen=True)
class Diagnosis:
    """One thing that was looked at."""

    subject: str
    mark: Grade
    text: str  # what was found
    hint: str = ""  # what the user can do about it

    @property
    def bad(self) -> bool:
        """Whether the lab cannot work like that."""
        return self.mark == "bad"


def examine(
    settings: Settings,
    cache: Cache,
    progress: Progress,
    *,
    kvm: Diagnosis | None = None,
    network: bool = True,
) -> list[Diagnosis]:
    """Return what was found; raises nothing.

    `kvm` is what trying the accelerator gave, which needs a guest; None: what an earlier run found.
    """
    with progress.task("looking at this host"):
        return list(_diagnoses(settings, cache, kvm, network=network))


def _diagnoses(
    settings: Settings, cache: Cache, kvm: Diagnosis | None, *, network: bool
) -> Iterator[Diagnosis]:
    yield _python()
    yield _host()
    yield kvm if kvm is not None else _kvm(cache)
    yield _turbo(settings, cache)
    yield from _cache_place(settings, cache)
    yield from _limits()
    yield from _setting_values(settings)
    if network and not settings.offline:
        yield from _suites(settings, cache)


def worst(found: Sequence[Diagnosis]) -> Grade:
    """Return the worst grade among findings; `good` for none."""
    grades: tuple[Grade, ...] = ("good", "note", "bad")
    return max((finding.mark for finding in found), key=grades.index, default="good")


def _python() -> Diagnosis:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < (3, 11):  # noqa: UP036 - told rather than failing with a syntax error
        return Diagnosis("python", "bad", version, "the lab needs Python 3.11 or newer")
    return Diagnosis("python", "good", version)


def _host() -> Diagnosis:
    machine = os.uname().machine
    try:
        host()
    except LabError as error:
        return Diagnosis("host", "bad", error.message, error.hint)
    return Diagnosis("host", "good", f"{machine}, Linux {os.uname().release}")


def _kvm(cache: Cache) -> Diagnosis:
    """Say what the last try found: a device that opens may still run no guest."""
    tried = [cache.peek("accel", key) for key in cache.keys("accel")]
    for path in sorted(filter(None, tried), key=lambda path: path.stat().st_mtime, reverse=True):
        with suppress(OSError, ValueError, KeyError):
            answer = json.loads((path / "accel.json").read_text())
            return Diagnosis(
                "kvm", "good" if answer["name"] == "kvm" else "note", answer["why"], _slower(answer["name"])
            )
    try:
        os.close(os.open(_KVM, os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        return Diagnosis("kvm", "note", f"this host has no {_KVM}", _slower("tcg"))
    except OSError as error:
        hint = f"be in the group that may open it: {_KVM}"
        return Diagnosis(
            "kvm", "note", f"{_KVM} cannot be opened: {error.strerror}; guests are emulated", hint
        )
    return Diagnosis("kvm", "note", f"{_KVM} opens; whether a guest boots with it is found by the first run")


def _slower(name: str) -> str:
    return "" if name == "kvm" else "nothing to do: guests are emulated, which is slower and as good"


def _turbo(settings: Settings, cache: Cache) -> Diagnosis:
    """Say for which architectures there is a QEMU of `lab turbo`, and where from."""
    from lab.kernels import roots, turbo, turbo_wheel  # noqa: PLC0415 - only where it is asked

    found: dict[str, list[str]] = {}
    troubles, stale = [], []
    try:
        host()
    except LabError as error:
        return Diagnosis("turbo", "note", error.message, error.hint)
    for arch in turbo.architectures():
        own = roots.known("qemu", cache, target=arch)
        build = turbo.built(arch, own, cache) if own is not None else None
        if build is None and cache.recall(turbo.fact(arch)) and own is not None:
            stale.append(arch.name)
        build = build or turbo_wheel.installed(arch)
        if build is None:
            continue
        where = f"of {build.program.parent.parent}" if build.wheel else "built here"
        why = turbo.refused(build, arch)
        if why:
            troubles.append(f"the one {where} for {arch.name} cannot be used: {why}")
        else:
            version = turbo.upstream(build.about.source)
            found.setdefault(f"QEMU {version}, {where}", []).append(arch.name)
    said = [f"{how}, for {', '.join(names)}" for how, names in found.items()]
    if stale:
        troubles.append(f"what was built for {', '.join(stale)} belongs to another QEMU or other patches")
    if not settings.turbo and said:
        return Diagnosis("turbo", "note", f"{'; '.join(said)}; CHANLAB_TURBO is 0", "unset it to use that")
    text = "; ".join([*said, *troubles]) or "there is none: each scenario has its guest in a QEMU of its own"
    hint = "" if said and not troubles else _FASTER
    return Diagnosis("turbo", "good" if said and not troubles else "note", text, hint)


_FASTER = (
    "`lab turbo --arch NAME` builds a QEMU in which emulated guests are put back in place rather than cloned,"
    " some times as fast, with the same results; `lab turbo --wheel` packs it for other hosts"
)


def _cache_place(settings: Settings, cache: Cache) -> Iterator[Diagnosis]:
    place = settings.cache
    try:
        usage = cache.usage()
        cache.remember("doctor", os.getpid())
        cache.forget("doctor")
    except LabError as error:
        yield Diagnosis("cache", "bad", error.message, error.hint)
        return
    size, held = sum(one.bytes for one in usage), sum(one.held for one in usage)
    limit = f" of at most {settings.cache_gb:g} GB" if settings.cache_gb else ""
    yield Diagnosis(
        "cache", "good", f"{place}: {len(usage)} entries, {size / 1e9:.1f} GB{limit}, {held} in use"
    )
    kinds = Counter[str]()
    for each in usage:
        kinds[each.kind] += each.bytes
    most = ", ".join(f"{kind} {amount / 1e9:.1f}" for kind, amount in kinds.most_common() if amount >= 5e7)
    hint = "" if settings.cache_gb else "CHANLAB_CACHE_GB limits it: what was not used for longest goes first"
    yield Diagnosis("cache", "note" if hint else "good", f"GB by kind: {most or 'nothing yet'}", hint)
    free = shutil.disk_usage(place).free
    if free + size < _WANTED_BYTES:
        yield Diagnosis(
            "disk",
            "bad" if free < _WANTED_BYTES // 6 else "note",
            f"{free / 1e9:.1f} GB free; two kernels with all that building takes need about"
            f" {_WANTED_BYTES / 1e9:.0f} GB",
            "free some, or set CHANLAB_CACHE to another disk",
        )
    else:
        yield Diagnosis("disk", "good", f"{free / 1e9:.1f} GB free")
    kind = file_system(place)
    if kind in _SLOW:
        yield Diagnosis(
            "file system",
            "note",
            f"the cache is on {kind}: templates are mapped from it, and locks over a network may not hold",
            "set CHANLAB_CACHE to a local disk",
        )
    elif kind in _IN_MEMORY:
        yield Diagnosis(
            "file system",
            "note",
            f"the cache is on {kind}: it takes memory away from guests and is gone after a restart",
            "set CHANLAB_CACHE to a disk",
        )
    else:
        yield Diagnosis("file system", "good", kind)


def file_system(place: Path, mounts: Path = Path("/proc/self/mountinfo")) -> str:
    """Return the kind of file system that a directory is on; `unknown` where that cannot be told."""
    best, kind = Path(), "unknown"
    real = Path(os.path.realpath(place))
    with suppress(OSError):
        for line in mounts.read_text().splitlines():
            fields, _, tail = line.partition(" - ")
            point = Path(fields.split()[4].encode().decode("unicode_escape"))
            # Later lines lie over earlier ones at the same place.
            if real.is_relative_to(point) and len(point.parts) >= len(best.parts):
                best, kind = point, tail.split()[0]
    return kind


def _limits() -> Iterator[Diagnosis]:
    count, quota = len(os.sched_getaffinity(0)), cpu_quota()
    said = f"{count} CPUs" + (f", of which cpu.max leaves {quota:.1f}" if quota is not None else "")
    few = min(count, quota if quota is not None else count) < 2
    remedy = "a guest has two CPUs: races that need both at once will be rarer" if few else ""
    yield Diagnosis("cpus", "note" if few else "good", said, remedy)
    memory = memory_bytes()
    if memory < _WANTED_MEMORY:
        yield Diagnosis(
            "memory",
            "bad",
            f"{memory / 1e9:.1f} GB: too little for a compiler and two guests",
            "raise the limit (memory.max of the cgroup), or use -n 1 and expect swapping",
        )
    else:
        yield Diagnosis("memory", "good", f"{memory / 1e9:.1f} GB")


def memory_bytes() -> int:
    """Return the memory this process may use: the host's, less what memory.max of its cgroups allows."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = [int(text) for text in cgroup_values("memory.max") if text.isdigit()]
    return min([total, *limits])


def _setting_values(settings: Settings) -> Iterator[Diagnosis]:
    sources = dict(settings.sources)
    for setting in SETTINGS:
        source = sources.get(setting.name, "default")
        yield Diagnosis(setting.name, "good", f"{settings.value(setting.name)} ({source}): {setting.meaning}")


def _suites(settings: Settings, cache: Cache) -> Iterator[Diagnosis]:
    """Ask each suite's signed list."""
    from lab.kernels.debian import archive  # noqa: PLC0415 - only where the network is asked
    from lab.kernels.debian.fetch import Fetcher  # noqa: PLC0415 - the same

    certificates = archive.keys()
    with Fetcher(settings, cache) as fetcher:
        for suite in archive.suites():
            topic = f"suite {suite.name}"
            try:
                release = archive.release(suite, fetcher, certificates)
            except archive.Expired as error:
                yield Diagnosis(topic, "note", error.message, f"nothing is taken from it; {error.hint}")
            except LabError as error:
                yield Diagnosis(topic, "bad", error.message, error.hint)
            else:
                said = f"reachable, signed by Debian, of {release.date}"
                yield Diagnosis(topic, "good", f"{said}; {release.note}" if release.note else said)
