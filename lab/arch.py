# SPDX-License-Identifier: MIT
"""One record for each architecture: data, no behaviour. Adding one touches this file and the docs."""

from __future__ import annotations

import platform
from dataclasses import dataclass, field
from typing import Literal

from lab.errors import HostError, UsageError


@dataclass(frozen=True)
class Registers:
    """How QEMU prints an architecture's registers, and where its kernel may lie."""

    counter: str  # regular expression of the program counter
    stack: str
    user: str | None = None  # what tells that the CPU is in user mode
    idle: str | None = None
    # Where a boot may put _text, in KASLR's steps: none where it does not move; None: they are too many
    window: range | None = None


@dataclass(frozen=True)
class Compat:
    """The 32-bit programs that a kernel of an architecture of 64 bits may run beside its own."""

    config: str = "CONFIG_COMPAT"  # by which it does
    arch: str = ""  # the architecture that they are of, where that is one of ours
    off: str = ""  # a further option, by which it does not unless its command line says so


@dataclass(frozen=True)
class Architecture:
    """What the lab must know of an architecture that no header and no package tells it."""

    name: str  # Debian's, but x86_64: what people call it
    uname: tuple[str, ...]  # what `uname -m` prints on it
    debian: str  # Debian's name: amd64
    gnu: str  # the GNU triplet, as Debian's cross compilers have it
    kernel: str  # the directory in the kernel's arch/
    byteorder: Literal["little", "big"]
    word: int  # bytes in a long and a pointer
    qemu: str  # qemu-system-*
    qemu_package: str  # Debian's package of it
    machine: str  # versioned where QEMU has versions of it, so that a template means the same to all
    cpu: str  # the CPU model under TCG
    console: str  # the kernel's name of the first serial port
    flavours: dict[str, str]  # our flavour -> the tail of Debian's package names
    registers: Registers
    firmware: tuple[str, ...] = ("usr/share/qemu",)  # directories in the QEMU root for -L
    firmware_package: str = ""  # where it is not part of that package
    bus: Literal["pci", "ccw"] = "pci"  # what virtio devices are plugged into
    panic: tuple[str, ...] = ()  # devices that tell QEMU of a panic, where the machine does not by itself
    options: tuple[str, ...] = ()  # what else QEMU is told
    cmdline: tuple[str, ...] = ()  # what only this architecture wants on the command line
    quick: tuple[str, ...] = ()  # and under TCG, unless instructions are counted
    memory_mib: int = 256
    # Whether CPUs that take turns are as good as those that run at once: where one that waits for another
    # says so (pause, yield). Otherwise it spins for QEMU's whole 100 ms, each time: arm never ended a boot.
    turns: bool = False
    turns_patched: bool = False  # or are so in the QEMU of `lab turbo` alone
    # Guests may follow one another in one QEMU: its machine's timers and interrupts were looked at, which the
    # memory does not show (scenarios/test_traces.py).
    in_place: bool = True
    cpus: int = 2  # so that races can happen at all
    overwritten: range = range(0)  # memory that QEMU writes to as it starts, and the kernel does not use
    aligned_pairs: bool = False  # a 64-bit argument of a system call begins in a register of an even number
    mmap_struct: bool = False  # mmap() takes the address of its six arguments
    counting: str = ""  # what the CPU model has besides where instructions are counted, see lab.measure.price
    compat: Compat = field(default_factory=Compat)
    # Machine code in hex, by the instruction that it is about: each is a function by the rules of C that
    # makes it and returns what it gave, as far as a long has room for that, or 0. One that enters the kernel
    # has a call's number and five arguments, cpuid the leaf, the subleaf and where its four registers go.
    # `objdump -D -b binary` shows it.
    instructions: dict[str, str] = field(default_factory=dict)
    runs_on: tuple[str, ...] = ()  # other hosts whose KVM can run it
    host: bool = False  # whether the lab itself runs on it: binding a root's programs is written for some

    @property
    def counted_cpu(self) -> str:
        """The CPU model under TCG of guests whose instructions are counted."""
        return f"{self.cpu}{self.counting}"


X86_64 = Architecture(
    name="x86_64",
    uname=("x86_64",),
    debian="amd64",
    gnu="x86_64-linux-gnu",
    kernel="x86",
    byteorder="little",
    word=8,
    qemu="qemu-system-x86_64",
    qemu_package="qemu-system-x86",
    firmware=("usr/share/qemu", "usr/share/seabios"),
    machine="pc-q35-10.0",
    cpu="max",
    console="ttyS0",
    # The PCI device has a driver from 5.13 on; 5.10 knows only the ISA one, which only PC boards have.
    panic=("pvpanic-pci", "pvpanic"),
    # "Triple fault" and where the CPU stood go to stderr; nothing else tells that it was one.
    options=("-d", "cpu_reset"),
    # Under TCG with two CPUs x86 drops the TSC after a restore, and the vDSO falls back to system calls.
    cmdline=("tsc=reliable",),
    turns=True,
    flavours={"stock": "amd64", "cloud": "cloud-amd64", "rt": "rt-amd64"},
    compat=Compat("CONFIG_IA32_EMULATION", "i386", off="CONFIG_IA32_EMULATION_DEFAULT_DISABLED"),
    host=True,
    # QEMU counts each step of a string instruction: without these, the kernel copies word by word.
    counting=",-erms,-fsrm,-fsrs",
    registers=Registers(
        counter=r"\bRIP=([0-9a-f]+)",
        stack=r"\bRSP=([0-9a-f]+)",
        user=r"\bCPL=3\b",
        idle=r"\bHLT=1\b",
        window=range(0xFFFFFFFF80000000, 0xFFFFFFFFC0000000, 0x200000),
    ),
    instructions={
        "rdtsc": "0f3148c1e2204809d0c3",
        "cpuid": "534989d089f889f10fa241890041895804418948084189500c31c05bc3",
        "syscall": "4889f84889f74889d64889ca4d89c24d89c84531c90f05c3",
        "int 0x80": "535589f889f389ce89d189f24489c64489cf31edcd8048985d5bc3",
        "int3": "cc31c0c3",
        "ud2": "0f0b31c0c3",
        "hlt": "f431c0c3",
    },
)

I386 = Architecture(
    name="i386",
    uname=("i686", "i586"),
    debian="i386",
    gnu="i686-linux-gnu",
    kernel="x86",
    byteorder="little",
    word=4,
    qemu="qemu-system-i386",
    qemu_package="qemu-system-x86",
    firmware=X86_64.firmware,
    machine=X86_64.machine,
    cpu="core2duo",  # `max` is an AMD that no 32-bit kernel takes for fit for two CPUs: it is tainted at boot
    console="ttyS0",
    panic=X86_64.panic,
    options=X86_64.options,
    cmdline=X86_64.cmdline,
    turns=True,
    flavours={"stock": "686-pae", "nopae": "686", "rt": "rt-686-pae"},
    registers=Registers(
        counter=r"\bEIP=([0-9a-f]+)",
        stack=r"\bESP=([0-9a-f]+)",
        user=r"\bCPL=3\b",
        idle=r"\bHLT=1\b",
        window=range(0xC0000000, 0xF0000000, 0x200000),
    ),
    runs_on=("x86_64",),
    instructions={
        "rdtsc": "0f31c3",
        "cpuid": "53568b44240c8b4c24108b7424140fa28906895e04894e0889560c31c05e5bc3",
        "int 0x80": "535657558b4424148b5c24188b4c241c8b5424208b7424248b7c242831edcd805d5f5e5bc3",
        "int3": "cc31c0c3",
        "ud2": "0f0b31c0c3",
        "hlt": "f431c0c3",
    },
)

ARM64 = Architecture(
    name="arm64",
    uname=("aarch64",),
    debian="arm64",
    gnu="aarch64-linux-gnu",
    kernel="arm64",
    byteorder="little",
    word=8,
    qemu="qemu-system-aarch64",
    qemu_package="qemu-system-arm",
    machine="virt-10.0",
    # Large atomics and 16 KiB pages, and none of what `max` has that costs translated code most: pointer
    # authentication, tags.
    cpu="neoverse-n1",
    console="ttyAMA0",
    panic=("pvpanic-pci",),
    # With KASLR this CPU gets page tables of user space's own. They change 250 times a scenario, and QEMU
    # forgets its whole TLB each time: a quarter of the scenario's CPU time.
    quick=("kpti=off",),
    turns=True,
    flavours={"stock": "arm64", "cloud": "cloud-arm64", "rt": "rt-arm64", "16k": "arm64-16k"},
    compat=Compat(arch="armhf"),
    host=True,
    counting=",cntfrq=1000000000",  # otherwise its clock ticks once in 16 ns
    registers=Registers(
        counter=r"\bPC=([0-9a-f]+)",
        stack=r"\bSP=([0-9a-f]+)",
        user=r"\bEL0t\b",
    ),
    instructions={
        "mrs cntvct_el0": "df3f03d540e03bd5c0035fd6",
        "svc 0": "e80300aae00301aae10302aae20303aae30304aae40305aae5031faa010000d4c0035fd6",
        "brk 0": "000020d4e0031faac0035fd6",
        "udf 0": "00000000e0031faac0035fd6",
    },
)

ARMHF = Architecture(
    name="armhf",
    uname=("armv7l",),
    debian="armhf",
    gnu="arm-linux-gnueabihf",
    kernel="arm",
    byteorder="little",
    word=4,
    qemu="qemu-system-arm",
    qemu_package="qemu-system-arm",
    # A kernel without LPAE sees nothing above 4 GiB, where PCI's configuration space would be.
    machine="virt-10.0,highmem=off",
    cpu="cortex-a15",
    console="ttyAMA0",
    panic=("pvpanic-pci",),
    counting=",cntfrq=1000000000",
    aligned_pairs=True,
    flavours={"stock": "armmp", "lpae": "armmp-lpae", "rt": "rt-armmp"},
    registers=Registers(
        counter=r"\bR15=([0-9a-f]+)", stack=r"\bR13=([0-9a-f]+)", user=r"\busr32\b", window=range(0)
    ),
    instructions={
        "mrrc cntvct": "6ff07ff51e0f51ec1eff2fe1",
        "svc 0": "b0402de90070a0e10100a0e10210a0e10320a0e110309de514409de50050a0e3000000efb080bde8",
        "bkpt 0": "700020e10000a0e31eff2fe1",
        "udf 0": "f000f0e70000a0e31eff2fe1",
    },
)

PPC64EL = Architecture(
    name="ppc64el",
    uname=("ppc64le",),
    debian="ppc64el",
    gnu="powerpc64le-linux-gnu",
    kernel="powerpc",
    byteorder="little",
    word=8,
    qemu="qemu-system-ppc64",
    qemu_package="qemu-system-ppc",
    # TCG cannot do what the default mitigations ask for.
    machine="pseries-10.0,cap-cfpc=broken,cap-sbbc=broken,cap-ibs=broken,cap-ccf-assist=off",
    cpu="power9",
    console="hvc0",
    flavours={"stock": "powerpc64le", "64k": "powerpc64le-64k"},
    registers=Registers(counter=r"\bNIP ([0-9a-f]+)", stack=r"\bGPR00 \S+ ([0-9a-f]+)", window=range(0)),
    memory_mib=512,
    # At each start, a clone's too, QEMU writes the device tree 2 MiB below the end of memory, over whatever a
    # restored guest has there (spapr_machine_reset() in hw/ppc/spapr.c): the kernel must not use that.
    cmdline=("mem=496M",),  # in steps of 16 MiB
    overwritten=range(510 << 20, 512 << 20),
    # QEMU 10.0 leaves out of the state that a second CPU was started (env->quiesced, it seems): restored, it
    # runs until it sleeps for the first time, and never wakes up.
    cpus=1,
    instructions={
        "mftb": "a6426c7c2000804e",
        "sc": "781b607c7823837c782ba47c7833c57c783be67c7843077d00000039020000442000834cd000637c2000804e",
        "trap": "0800e07f000060382000804e",
        ".long 0": "00000000000060382000804e",
    },
)

RISCV64 = Architecture(
    name="riscv64",
    uname=("riscv64",),
    debian="riscv64",
    gnu="riscv64-linux-gnu",
    kernel="riscv",
    byteorder="little",
    word=8,
    qemu="qemu-system-riscv64",
    qemu_package="qemu-system-riscv",
    machine="virt",
    cpu="rv64",
    console="ttyS0",
    flavours={"stock": "riscv64", "cloud": "cloud-riscv64", "rt": "rt-riscv64"},
    host=True,
    registers=Registers(
        counter=r"\bpc +([0-9a-f]+)",
        stack=r"\bx2/sp +([0-9a-f]+)",
        window=range(0xFFFFFFFF80000000, 0xFFFFFFFFC0000000, 0x200000),
    ),
    instructions={
        "rdtime": "732510c067800000",
        "ecall": "930805001385050093050600138606009306070013870700930700007300000067800000",
        "ebreak": "730010001305000067800000",
        "unimp": "731000c01305000067800000",
    },
)

S390X = Architecture(
    name="s390x",
    uname=("s390x",),
    debian="s390x",
    gnu="s390x-linux-gnu",
    kernel="s390",
    byteorder="big",
    word=8,
    qemu="qemu-system-s390x",
    qemu_package="qemu-system-s390x",
    machine="s390-ccw-virtio-10.0",
    cpu="max",
    # Nothing tells that a CPU spins, and with Debian's QEMU an interrupt can be lost: the guest takes one
    # indicator out of a word while a device, in another thread, puts one in (kernels/qemu/0009 and 0010).
    turns_patched=True,
    console="ttysclp0",
    bus="ccw",
    mmap_struct=True,
    flavours={"stock": "s390x"},
    registers=Registers(counter=r"\baddr ([0-9a-f]+)", stack=r"\bR15=([0-9a-f]+)"),
    instructions={
        "stckf": "b27cf010e320f010000407fe",
        "svc 0": "eb67f0300024b9040012b9040023b9040034b9040045b9040056e360f0a00004a7790000"
        "0a00eb67f030000407fe0707",
        ".long 0": "00000000a729000007fe0707",
    },
)

LOONG64 = Architecture(
    name="loong64",
    uname=("loongarch64",),
    debian="loong64",
    gnu="loongarch64-linux-gnu",
    kernel="loongarch",
    byteorder="little",
    word=8,
    qemu="qemu-system-loongarch64",
    qemu_package="qemu-system-misc",
    machine="virt",
    cpu="la464",
    # Debian's kernel finds PCI by ACPI alone, which only firmware brings.
    firmware=("usr/share/qemu", "usr/share/qemu-efi-loongarch64"),
    firmware_package="qemu-efi-loongarch64",
    options=("-bios", "QEMU_EFI.fd"),
    in_place=False,  # nobody has looked yet
    console="ttyS0",
    flavours={"stock": "loong64"},
    registers=Registers(counter=r"\bPC=([0-9a-f]+)", stack=r"\bGPR03/sp ([0-9a-f]+)", window=range(0)),
    instructions={
        "rdtime.d": "046800002000004c",
        "syscall 0": "8b001500a4001500c5001500e600150007011500280115000900150000002b002000004c",
        "break 0": "00002a00040015002000004c",
        ".long 0": "00000000040015002000004c",
    },
)

ARCHITECTURES: dict[str, Architecture] = {
    arch.name: arch for arch in (X86_64, I386, ARM64, ARMHF, PPC64EL, RISCV64, S390X, LOONG64)
}
DEFAULT = X86_64.name  # what is meant where nobody says: a command means the same on every host


def architecture(name: str) -> Architecture:
    """Return the record of an architecture, by its name, Debian's or what `uname -m` prints.

    Raises UsageError naming the known ones.
    """
    for arch in ARCHITECTURES.values():
        if name in (arch.name, arch.debian, *arch.uname):
            return arch
    raise UsageError(f"unknown architecture {name!r}", hint=f"known: {', '.join(sorted(ARCHITECTURES))}")


def host(machine: str = "") -> Architecture:
    """Return this host's architecture, whose packages it runs; `machine` is what `uname -m` says.

    Raises HostError for one that no root can be made for.
    """
    machine = machine or platform.machine()
    hosts = [arch for arch in ARCHITECTURES.values() if arch.host]
    for arch in hosts:
        if machine in arch.uname:
            return arch
    raise HostError(
        f"the lab does not run on {machine} hosts",
        hint=f"it does on {', '.join(arch.name for arch in hosts)}",
    )
