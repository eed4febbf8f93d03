# SPDX-License-Identifier: MIT
"""QEMU's command line and what a template is kept under, without any QEMU."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lab.arch import ARM64, S390X, X86_64
from lab.errors import UsageError
from lab.guest.argv import BootSpec, Qemu, Wiring, argv, command_line, kernel_stub
from lab.kernels.model import Kernel, KernelFiles

KERNEL = Kernel("6.12", "6.12.1", "6.12.1-1", "6.12.1-amd64", "x86_64", "stock", "debian", "gcc-14", True)


def files(**changes: Any) -> KernelFiles:
    base = Path("/k")
    plain = KernelFiles(
        KERNEL, base / "vmlinuz", base / "modules", base / "config", base / "System.map", "kernel-1"
    )
    return replace(plain, **changes)


def spec(**changes: Any) -> BootSpec:
    qemu = Qemu(("/q/qemu-system-x86_64",), ("/q/setpriv", "--"), "10.0.1", "qemu-1", (Path("/q/share"),))
    return replace(BootSpec(X86_64, qemu, files(), Path("/i/initramfs"), "initrd-1", name="6.12"), **changes)


WIRING = Wiring(agent=10, qmp=11, console=12)


def option(words: list[str], name: str) -> list[str]:
    """Return all values of an option."""
    return [words[index + 1] for index, word in enumerate(words) if word == name]


def test_a_guest_has_only_what_it_was_given() -> None:
    words = argv(spec(), "cold", WIRING)
    assert words[:3] == ["/q/setpriv", "--", "/q/qemu-system-x86_64"]
    assert {"-nodefaults", "-no-user-config", "-no-reboot"} <= set(words)
    assert not any(word in words for word in ("-netdev", "-nic", "-drive", "-virtfs", "-fsdev", "-incoming"))
    assert option(words, "-display") == ["none"]
    assert option(words, "-sandbox")[0].startswith("on,")
    assert option(words, "-smp")[0].startswith("cpus=2,")
    assert option(words, "-machine") == ["pc-q35-10.0,memory-backend=ram"]


def test_a_guest_may_count_its_instructions() -> None:
    plain, counted = (
        argv(spec(counted=each), "clone", replace(WIRING, ram=Path("/r"))) for each in (False, True)
    )
    assert option(counted, "-icount") == ["shift=0"]
    assert option(counted, "-cpu") == ["max,-erms,-fsrm,-fsrs"]
    assert (option(plain, "-icount"), option(plain, "-cpu")) == ([], ["max"])
    assert spec(counted=True).key() != spec().key()


def test_descriptors_reach_the_ports() -> None:
    words = argv(spec(), "cold", WIRING)
    assert option(words, "-chardev") == [
        "file,id=console,path=/dev/fdset/1,append=on",
        "socket,id=agent,fd=10",
        "socket,id=qmp,fd=11",
    ]
    assert option(words, "-add-fd") == ["fd=12,set=1"]
    assert any("name=chanlab.agent" in word for word in option(words, "-device"))


def test_memory_by_role() -> None:
    ram = Path("/c/a,b/ram")
    cold, template, clone = (
        option(argv(spec(), role, replace(WIRING, ram=ram)), "-object")[-1]
        for role in ("cold", "template", "clone")
    )
    assert cold == "memory-backend-ram,id=ram,size=256M"
    assert template == "memory-backend-file,id=ram,mem-path=/c/a,,b/ram,size=256M,share=on"
    assert clone.endswith("mem-path=/c/a,,b/ram,size=256M,share=off,readonly=on,rom=off")


def test_only_a_clone_waits_for_a_state() -> None:
    ram = replace(WIRING, ram=Path("/ram"))
    assert option(argv(spec(), "clone", ram), "-incoming") == ["defer"]
    assert "-incoming" not in argv(spec(), "template", ram)


@pytest.mark.parametrize("role", ["template", "clone"])
def test_a_template_needs_its_ram_file(role: Any) -> None:
    with pytest.raises(ValueError, match="RAM file"):
        argv(spec(), role, WIRING)


def test_the_kernels_command_line() -> None:
    words = command_line(spec(cmdline=("lab.x=1", "quietly"))).split()
    assert words[0] == "console=ttyS0"
    assert "panic=-1" in words
    assert "tsc=reliable" in words
    assert words[-2:] == ["lab.x=1", "quietly"]


def test_what_is_quicker_to_emulate_is_not_what_instructions_are_counted_of() -> None:
    assert "kpti=off" in command_line(spec(arch=ARM64)).split()
    assert "kpti=off" not in command_line(spec(arch=ARM64, counted=True)).split()
    assert "kpti=off" not in command_line(spec(arch=ARM64, accel="kvm")).split()


def test_devices_by_name() -> None:
    assert "edu,dma_mask=0xffffffffff" in option(argv(spec(devices=("edu",)), "cold", WIRING), "-device")
    assert "edu" not in option(argv(spec(), "cold", WIRING), "-device")
    with pytest.raises(UsageError, match="edo") as error:
        argv(spec(devices=("edo",)), "cold", WIRING)
    assert "edu" in str(error.value)


def test_a_name_with_a_comma_ends_no_value() -> None:
    assert option(argv(spec(name="a,process=b"), "cold", WIRING), "-name") == [
        "chanlab cold a process=b,debug-threads=on"
    ]


def test_the_accelerator_decides_the_cpu() -> None:
    assert option(argv(spec(accel="kvm"), "cold", WIRING), "-cpu") == ["host"]
    assert option(argv(spec(), "cold", WIRING), "-cpu") == ["max"]


def test_a_clone_needs_no_more_than_the_head_of_a_kernel() -> None:
    image = bytearray(1 << 20)
    image[0x1F1] = 39
    image[0x202:0x206] = b"HdrS"
    stub = kernel_stub(bytes(image), X86_64)
    assert stub is not None
    assert len(stub) == 40 * 512 + 4096
    assert kernel_stub(bytes(image), ARM64) is None
    ram = replace(WIRING, ram=Path("/ram"))
    stubbed = replace(ram, stub=Path("/t/kernel"))
    assert option(argv(spec(), "clone", stubbed), "-kernel") == ["/t/kernel"]
    assert option(argv(spec(), "template", stubbed), "-kernel") == ["/k/vmlinuz"]
    assert not {"-kernel", "-initrd", "-append"} & set(argv(spec(), "clone", ram))


CHANGES: dict[str, dict[str, Any]] = {
    "qemu": {"qemu": Qemu(("/q/qemu-system-x86_64",), (), "10.0.2", "qemu-2")},
    "machine": {"arch": replace(X86_64, machine="pc-q35-10.1")},
    "cpu": {"arch": replace(X86_64, cpu="qemu64")},
    "accelerator": {"accel": "kvm"},
    "kernel": {"kernel": files(digest="kernel-2")},
    "initramfs or agent": {"initrd_digest": "initrd-2"},
    "command line": {"cmdline": ("nosmp",)},
    "devices": {"devices": ("edu",)},
    "cpus": {"cpus": 1},
    "memory": {"memory_mib": 512},
}


@pytest.mark.parametrize("what", CHANGES)
def test_everything_is_part_of_the_key(what: str) -> None:
    assert spec(**CHANGES[what]).key() != spec().key()


def test_no_path_and_no_name_is_part_of_the_key() -> None:
    elsewhere = replace(spec().qemu, command=("/elsewhere/qemu",), pdeathsig=(), firmware=(Path("/e"),))
    moved = spec(qemu=elsewhere, initrd=Path("/e/i"), kernel=files(image=Path("/e/k")), name="other")
    assert moved.key() == spec().key()


def test_cpus_may_take_turns_in_a_clone_of_any_template() -> None:
    wiring = replace(WIRING, ram=Path("/c/ram"))
    assert option(argv(spec(), "clone", wiring, turns=True), "-accel") == ["tcg,thread=single"]
    assert option(argv(spec(), "clone", wiring), "-accel") == ["tcg"]
    assert option(argv(spec(accel="kvm"), "clone", wiring, turns=True), "-accel") == ["kvm"]


def test_cpus_of_s390x_take_turns_only_where_no_interrupt_is_lost_by_it() -> None:
    wiring = replace(WIRING, ram=Path("/c/ram"))
    debians, ours = spec(arch=S390X), spec(arch=S390X, qemu=replace(spec().qemu, patched=True))
    assert option(argv(debians, "clone", wiring, turns=True), "-accel") == ["tcg"]
    assert option(argv(ours, "clone", wiring, turns=True), "-accel") == ["tcg,thread=single"]
