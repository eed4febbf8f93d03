# SPDX-License-Identifier: MIT
"""What to start: QEMU's command line for a guest, made by pure functions."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lab.errors import UsageError
from lab.store.cache import digest

if TYPE_CHECKING:
    from lab.arch import Architecture
    from lab.kernels.model import KernelFiles

# `loading`: a clone that writes to a RAM file of its own, to become another template.
Role = Literal["cold", "template", "loading", "clone"]

# Raised when what a template holds, or how it is restored, changes without any of its parts changing.
TEMPLATE_FORMAT = 15
AGENT_PORT = "chanlab.agent"  # the agent finds its port by this name in /sys/class/virtio-ports


@dataclass(frozen=True)
class Device:
    """A device that a scenario may ask for in `boot: {devices: […]}`."""

    argv: tuple[str, ...]
    buses: tuple[str, ...] = ("pci", "ccw")  # of the architectures that can have it
    without: tuple[str, ...] = ()  # architectures whose QEMU was built without it
    forgotten: str = ""  # vendor and device of one on PCI that QEMU does not keep, see lab.guest.pci


DEVICES: dict[str, Device] = {
    # docs/specs/edu.rst of QEMU. By itself its DMA reaches 28 bits of addresses: only x86 has memory there.
    "edu": Device(
        ("-device", "edu,dma_mask=0xffffffffff"), buses=("pci",), without=("loong64",), forgotten="123411e8"
    ),
    # Tells a restored guest that it is a copy. Only when asked for: the agent stirs fresh entropy into the
    # pool of every kernel, and a clone's first milliseconds would go into this ACPI event (10 ms of 45).
    "vmgenid": Device(("-device", "vmgenid,guid=auto"), buses=("pci",)),
}


@dataclass(frozen=True)
class Qemu:
    """A QEMU that can be started: see lab.guest.qemu."""

    command: tuple[str, ...]  # argv that starts it, without options
    pdeathsig: tuple[str, ...]  # argv put before it: SIGKILL for QEMU when the thread that started it is gone
    version: str  # as people say it: 10.0.13
    digest: str  # of the packages it came from: part of every template's key
    firmware: tuple[Path, ...] = ()  # for -L; none: where that QEMU looks by itself
    patched: bool = False  # `lab turbo` built it: what kernels/qemu/ mends is mended


@dataclass(frozen=True)
class BootSpec:
    """Everything that decides what a guest is when its agent comes up."""

    arch: Architecture
    qemu: Qemu
    kernel: KernelFiles
    initrd: Path
    initrd_digest: str  # of its contents
    accel: Literal["tcg", "kvm"] = "tcg"
    cmdline: tuple[str, ...] = ()  # what a scenario adds to the kernel's command line
    devices: tuple[str, ...] = ()  # names out of DEVICES
    cpus: int = 2  # two by default, so that races can happen at all
    memory_mib: int = 256
    name: str = ""  # of the target, for people
    counted: bool = False  # its clock counts instructions, see lab.measure.price

    def key(self) -> str:
        """Return what a template of this is kept under: a digest of contents, never of paths."""
        host = (host_cpu(), platform.release()) if self.accel == "kvm" else None
        return digest(
            TEMPLATE_FORMAT,
            self.qemu.digest,
            self.kernel.digest,
            self.kernel.kernel.release,
            self.initrd_digest,
            machine(self),
            command_line(self),
            host,
        )


@dataclass(frozen=True)
class Wiring:
    """What one QEMU is connected to: descriptors that it inherits, and its memory's file."""

    agent: int  # a connected socket
    qmp: int  # a connected socket
    console: int  # the writing end of a pipe
    ram: Path | None = None  # template: made into this file; clone: taken from it
    stub: Path | None = None  # clone: what QEMU is given for a kernel, if anything; see kernel_stub()


def argv(spec: BootSpec, role: Role, wiring: Wiring, *, turns: bool = False) -> list[str]:
    """Return the whole command line; `turns`: the CPUs may share one thread of the host, where they can.

    Raises UsageError for a device that the lab does not know.
    """
    program = [*spec.qemu.pdeathsig, *spec.qemu.command]
    for directory in spec.qemu.firmware:
        program += ["-L", str(directory)]
    # No comma can be in a name: it would end the value. Threads have names for top(1) and lab.guest.stress.
    name = f"chanlab {role} {spec.name}".replace(",", " ").rstrip()
    program += ["-name", f"{name},debug-threads=on"]
    return [
        *program,
        *machine(spec, turns=turns),
        *_memory(spec, role, wiring.ram),
        *_ports(wiring),
        *(_stub(wiring) if role in _RESTORED else _kernel(spec)),
        *(("-incoming", "defer") if role in _RESTORED else ()),
    ]


def described(spec: BootSpec, *, turns: bool = False) -> tuple[str, ...]:
    """Return the command line of a guest that is booted, without what each process has its own of."""
    return (*spec.qemu.command, *machine(spec, turns=turns), *_memory(spec, "cold", None), *_kernel(spec))


_RESTORED = ("loading", "clone")


def takes_turns(spec: BootSpec) -> bool:
    """Tell whether CPUs that take turns are as good as those that run at once."""
    return spec.accel == "tcg" and (spec.arch.turns or (spec.arch.turns_patched and spec.qemu.patched))


def machine(spec: BootSpec, *, turns: bool = False) -> list[str]:
    """Return the part of the command line that makes the machine: no path and no descriptor in it.

    Nothing of the machine depends on `turns`: a template serves guests of both kinds.
    """
    return [
        # A versioned machine: what it is does not change when QEMU is renewed.
        "-machine", f"{spec.arch.machine},memory-backend=ram",
        "-accel", "tcg,thread=single" if turns and takes_turns(spec) else spec.accel,
        "-cpu", "host" if spec.accel == "kvm" else spec.arch.counted_cpu if spec.counted else spec.arch.cpu,
        # Each instruction is a nanosecond of the guest's time, whatever the host does meanwhile.
        *(("-icount", "shift=0") if spec.counted else ()),
        "-smp", f"cpus={spec.cpus},sockets=1,cores={spec.cpus},threads=1",
        "-m", f"{spec.memory_mib}M",
        # Nothing that is not asked for here: no network card, no disk, no display, nothing out of /etc or ~.
        "-nodefaults", "-no-user-config", "-display", "none", "-monitor", "none",
        # A guest that restarts itself (panic=-1, a triple fault) ends instead: death is an event.
        "-no-reboot",
        # News of a panic is an event, not the end at once: the kernel still writes out its console.
        "-action", "panic=none",
        # spawn, elevateprivileges and obsolete system calls are never needed. resourcecontrol would forbid
        # setting affinities and priorities, which nobody asks QEMU for here.
        "-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
        "-device", _virtio(spec.arch, "serial", "id=ports,max_ports=2"),
        # No descriptor of the host's: what a guest draws at boot is frozen with it anyway.
        "-object", "rng-builtin,id=rng",
        "-device", _virtio(spec.arch, "rng", "rng=rng"),
        # GUEST_PANICKED, and an end at once even where restarting would hang.
        *(word for device in spec.arch.panic for word in ("-device", device)),
        *spec.arch.options,
        *_devices(spec),
    ]  # fmt: skip


def _virtio(arch: Architecture, device: str, properties: str) -> str:
    # virtio 1 only: kernels up to 6.1 would bring the legacy driver along otherwise.
    modern = ",disable-legacy=on,disable-modern=off" if arch.bus == "pci" else ""
    return f"virtio-{device}-{arch.bus},{properties}{modern}"


def command_line(spec: BootSpec) -> str:
    """Return the kernel's command line."""
    return " ".join(
        [
            f"console={spec.arch.console}",
            "quiet",  # a third of the boot would be spent on printing; the agent turns it up again
            "panic=-1",  # restart at once, and -no-reboot makes an end of that
            # Unloading a module waits for RCU: 40 ms each time when idle CPUs wait for ticks, a few when
            # they are asked. Grace periods stay what they are, only shorter.
            "rcupdate.rcu_expedited=1",
            *spec.arch.cmdline,
            *(spec.arch.quick if spec.accel == "tcg" and not spec.counted else ()),
            *spec.cmdline,
        ]
    )


def _devices(spec: BootSpec) -> list[str]:
    words: list[str] = []
    for name in spec.devices:
        if name not in DEVICES:
            raise UsageError(f"unknown device {name!r}", hint=f"known: {', '.join(sorted(DEVICES))}")
        words += DEVICES[name].argv
    return words


def _memory(spec: BootSpec, role: Role, ram: Path | None) -> list[str]:
    size = f"size={spec.memory_mib}M"
    if role == "cold":
        return ["-object", f"memory-backend-ram,id=ram,{size}"]
    if ram is None:
        raise ValueError(f"a {role} needs a RAM file")
    path = str(ram).replace(",", ",,")  # QEMU's way to have a comma in a value
    # share=on: x-ignore-shared leaves such memory out of the state, it already is where it shall be.
    # readonly=on opens the file for reading, rom=off still lets the guest write to its private pages of it.
    how = "share=on" if role in ("template", "loading") else "share=off,readonly=on,rom=off"
    return ["-object", f"memory-backend-file,id=ram,mem-path={path},{size},{how}"]


def _ports(wiring: Wiring) -> list[str]:
    return [
        # QEMU writes to a pipe as if it were a file: small writes share its pages, whereas on a socket each
        # would take a buffer of its own, and a few hundred characters would stop the guest's serial port.
        "-add-fd", f"fd={wiring.console},set=1",
        "-chardev", "file,id=console,path=/dev/fdset/1,append=on",
        "-serial", "chardev:console",
        "-chardev", f"socket,id=agent,fd={wiring.agent}",
        "-device", f"virtserialport,bus=ports.0,nr=1,chardev=agent,name={AGENT_PORT}",
        "-chardev", f"socket,id=qmp,fd={wiring.qmp}",
        "-mon", "chardev=qmp,mode=control",
    ]  # fmt: skip


def _kernel(spec: BootSpec) -> list[str]:
    return [
        "-kernel", str(spec.kernel.image),
        "-initrd", str(spec.initrd),
        "-append", command_line(spec),
    ]  # fmt: skip


def _stub(wiring: Wiring) -> list[str]:
    return ["-kernel", str(wiring.stub)] if wiring.stub is not None else []


def kernel_stub(image: bytes, arch: Architecture) -> bytes | None:
    """Return as much of a kernel as a clone's QEMU has to be given; None: nothing.

    A clone's kernel is in its memory already; QEMU would read and keep the image and the initramfs, up to
    50 MiB for each clone. On x86 -kernel also brings an option ROM that is part of the machine, so there it
    is the boot sector, as many sectors of setup code as that says at 0x1f1 (Documentation/arch/x86/boot.rst),
    and a page.
    """
    if arch.kernel != "x86":
        return None
    return image[: ((image[0x1F1] or 4) + 1) * 512 + 4096]


def host_cpu() -> str:
    """Return the model of this host's CPU, as its kernel calls it; '' where it does not say."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
