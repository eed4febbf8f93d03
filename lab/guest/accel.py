# SPDX-License-Identifier: MIT
"""Which accelerator guests run under, found by trying: a /dev/kvm that opens may still run no guest."""

from __future__ import annotations

import json
import os
import platform
import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Literal

from lab.arch import host
from lab.errors import BootFailed, HostError
from lab.guest.argv import host_cpu
from lab.guest.machine import boot
from lab.store.cache import digest

if TYPE_CHECKING:
    from pathlib import Path

    from lab.guest.argv import BootSpec
    from lab.progress import Progress
    from lab.settings import Settings
    from lab.store.cache import Cache

_DEVICE = "/dev/kvm"
# A guest boots under KVM in one to two seconds and under emulation in three to six: one that has not come up
# by then is no gain, and one that hangs burns a CPU meanwhile.
KVM_SECONDS = 10.0
_AGE_SECONDS = (
    30 * 86400.0
)  # a host changes in ways that no key tells: nested virtualisation switched on, say
_FORMAT = 1


@dataclass(frozen=True)
class Accel:
    """The answer, and how it was found, for people."""

    name: Literal["tcg", "kvm"]
    why: str


def accelerator(settings: Settings, spec: BootSpec, cache: Cache, progress: Progress) -> Accel:
    """Return the accelerator for guests like this one; tried once for a host and a QEMU, then remembered.

    Raises HostError when CHANLAB_ACCEL asks for kvm and that does not work, CacheError.
    """
    if settings.accel == "tcg":
        return Accel("tcg", "CHANLAB_ACCEL asks for it")
    why_not = unusable(spec)
    answer = Accel("tcg", why_not) if why_not else _remembered(spec, cache, progress)
    if settings.accel == "kvm" and answer.name != "kvm":
        raise HostError(
            f"CHANLAB_ACCEL asks for kvm: {answer.why}", hint="CHANLAB_ACCEL=auto emulates instead"
        )
    return answer


def unusable(spec: BootSpec, device: str = _DEVICE, machine: str = "") -> str:
    """Return why KVM is out of the question, '' if it has to be tried."""
    ours = host(machine).name
    if ours not in (spec.arch.name, *spec.arch.runs_on):
        return f"KVM runs {ours} guests here, not {spec.arch.name}"
    try:
        os.close(os.open(device, os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        return f"this host has no {device}"
    except OSError as error:
        return f"{device} cannot be opened: {error.strerror}"
    return ""


def _remembered(spec: BootSpec, cache: Cache, progress: Progress) -> Accel:
    period = int(time.time() // _AGE_SECONDS)
    key = digest(_FORMAT, platform.release(), host_cpu(), spec.qemu.digest, spec.arch.name, period)

    def make(building: Path, _final: Path) -> None:
        with progress.task("trying whether KVM really works here"):
            answer = try_kvm(spec)
        progress.note(f"guests run under {answer.name}: {answer.why}")
        (building / "accel.json").write_text(json.dumps(asdict(answer)))

    path = cache.entry("accel", key, make, progress_text="trying KVM", durable=False)
    try:
        return Accel(**json.loads((path / "accel.json").read_text()))
    except (OSError, ValueError, TypeError):
        cache.discard("accel", key)
        return try_kvm(spec)


def try_kvm(spec: BootSpec, timeout: float = KVM_SECONDS) -> Accel:
    """Boot the guest under KVM to its agent; `timeout` in seconds."""
    started = time.monotonic()
    try:
        boot(replace(spec, accel="kvm"), timeout=timeout).close()
    except (BootFailed, HostError) as error:
        return Accel("tcg", f"{_DEVICE} opens, but no guest boots with it: {error.message}")
    return Accel("kvm", f"a guest booted with it in {time.monotonic() - started:.1f} s")
