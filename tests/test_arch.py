# SPDX-License-Identifier: MIT
"""The records of architectures hold together, and with what else must know of one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from lab.arch import ARCHITECTURES, Architecture, architecture, host
from lab.errors import HostError, UsageError
from lab.kernels.catalogue import ALL, arch_names

HOUSE = Path(__file__).resolve().parent.parent
EVERY = pytest.mark.parametrize("arch", ARCHITECTURES.values(), ids=lambda arch: arch.name)
# What gcc calls itself on each, as rootfs/arch.h asks.
MACROS = {
    "x86_64": "__x86_64__",
    "i386": "__i386__",
    "arm64": "__aarch64__",
    "armhf": "__arm__",
    "ppc64el": "__powerpc64__",
    "riscv64": "__riscv",
    "s390x": "__s390x__",
    "loong64": "__loongarch64",
}


@EVERY
def test_any_name_of_it_leads_to_it(arch: Architecture) -> None:
    for name in (arch.name, arch.debian, *arch.uname):
        assert architecture(name) is arch
    assert "stock" in arch.flavours


def test_no_name_is_of_two() -> None:
    names = [name for arch in ARCHITECTURES.values() for name in {arch.name, arch.debian, *arch.uname}]
    assert len(names) == len(set(names))
    with pytest.raises(UsageError, match="unknown architecture 'vax'"):
        architecture("vax")


@EVERY
def test_the_agent_knows_its_system_calls(arch: Architecture) -> None:
    header = (HOUSE / "rootfs/arch.h").read_text()
    assert f"defined({MACROS[arch.name]})" in header


@EVERY
def test_what_qemu_overwrites_is_out_of_the_kernels_reach(arch: Architecture) -> None:
    if not arch.overwritten:
        return
    limits = [int(match[1]) for word in arch.cmdline if (match := re.fullmatch(r"mem=(\d+)M", word))]
    assert limits
    assert limits[0] << 20 <= arch.overwritten.start < arch.overwritten.stop <= arch.memory_mib << 20


@EVERY
def test_the_registers_can_be_read(arch: Architecture) -> None:
    for pattern in (arch.registers.counter, arch.registers.stack):
        assert re.compile(pattern).groups == 1


def test_lines_to_expect_name_known_architectures() -> None:
    rows = yaml.safe_load((HOUSE / "kernels/debian.yaml").read_text())["nominal"]
    assert {name for row in rows for name in row[3]} == set(ARCHITECTURES)


def test_all_means_each() -> None:
    assert arch_names([ALL]) == list(ARCHITECTURES)
    assert arch_names(["aarch64", "arm64", "x86_64"]) == ["arm64", "x86_64"]


def test_a_host_that_no_root_can_be_made_for_is_told() -> None:
    assert host("aarch64").debian == "arm64"
    with pytest.raises(HostError, match="does not run on s390x hosts"):
        host("s390x")


RETURNS = {  # the last instruction of a function: two bytes of nothing may follow it
    "x86": "c3",
    "arm64": "c0035fd6",
    "arm": "1eff2fe1|b080bde8",
    "powerpc": "2000804e",
    "riscv": "67800000",
    "s390": "07fe(0707)?",
    "loongarch": "2000004c",
}
WIDTH = {"x86": 1, "s390": 2}  # bytes of which an instruction has a multiple; elsewhere 4


@EVERY
def test_each_instruction_is_a_function_that_comes_back(arch: Architecture) -> None:
    assert len(arch.instructions) >= 3
    assert len(set(arch.instructions.values())) == len(arch.instructions)
    for name, code in arch.instructions.items():
        assert re.search(f"({RETURNS[arch.kernel]})$", code), name
        assert len(bytes.fromhex(code)) % WIDTH.get(arch.kernel, 4) == 0
