# SPDX-License-Identifier: MIT
"""What is said of a guest's death, its console, its CPUs and its symbols, without any guest."""

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import pytest

from lab.arch import X86_64
from lab.errors import BootFailed, GuestLost, UsageError
from lab.guest import machine
from lab.guest.console import Console, console_pipe
from lab.guest.machine import all_asleep, clone_seed, describe_death
from lab.guest.qemu import users_qemu
from lab.guest.registers import cpus, parse
from lab.guest.symbols import Module, Symbols, parse_modules

PANIC = "[    2.568345] Kernel panic - not syncing: sysrq triggered crash"


@pytest.mark.parametrize(
    ("code", "reason", "panic", "complaints", "words"),
    [
        (0, "guest-panic", PANIC, [], "Kernel panic - not syncing: sysrq triggered crash"),
        (-9, "guest-panic", PANIC, [], "Kernel panic - not syncing: sysrq triggered crash"),
        (0, "guest-reset", PANIC, [], "Kernel panic - not syncing: sysrq triggered crash"),
        (0, "guest-panic", None, [], "kernel panic, without a line"),
        (0, "guest-reset", None, ["Triple fault"], "triple fault"),
        (0, "guest-reset", None, [], "restarted itself"),
        (0, "guest-shutdown", None, [], "powered itself off"),
        (-9, "", None, [], "QEMU was killed by SIGKILL"),
        (-9, "", PANIC, [], "QEMU was killed by SIGKILL"),  # a test may print such a line itself
        (-6, "", None, ["qemu: Assertion failed"], "SIGABRT (qemu: Assertion failed)"),
        (1, "", None, ["qemu: no memory"], "QEMU ended with status 1 (qemu: no memory)"),
        (0, "", None, [], "ended by itself"),
    ],
)
def test_death_in_words(code: int, reason: str, panic: str | None, complaints: list[str], words: str) -> None:
    assert words in describe_death(code, reason, panic, complaints)


def test_who_sleeps_is_told_from_who_waits_for_a_cpu() -> None:
    with subprocess.Popen(["sleep", "60"]) as sleeper:
        deadline = time.monotonic() + 10
        while not all_asleep(sleeper.pid) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert all_asleep(sleeper.pid)
        sleeper.kill()
    with subprocess.Popen([sys.executable, "-c", "print(flush=True)\nwhile True: pass"], stdout=-1) as busy:
        assert busy.stdout is not None
        busy.stdout.readline()
        assert not any(all_asleep(busy.pid) for _ in range(20))
        busy.kill()


class Booted:
    remark = ""


@pytest.mark.parametrize("cause", [machine._StandsStill("x"), machine._QemuFailed("x"), GuestLost("x"), None])
def test_a_boot_that_qemu_spoilt_is_tried_again_and_told(
    monkeypatch: pytest.MonkeyPatch, cause: Exception | None
) -> None:
    boots: list[int] = []
    again = type(cause) in (machine._StandsStill, machine._QemuFailed)

    def boot(*_: Any, **__: Any) -> Booted:
        boots.append(1)
        if len(boots) == 1:
            error = BootFailed("x did not boot to its agent, after 12 s: it stood still; CPU 0: idle", "")
            raise error from cause
        return Booted()

    monkeypatch.setattr(machine, "_boot", boot)
    spec: Any = None
    if not again:
        with pytest.raises(BootFailed):
            machine.boot(spec)
        return
    assert machine.boot(spec).remark == (
        "x did not boot to its agent, after 12 s: it stood still; it was booted again"
    )


def test_what_sets_a_guest_apart_is_the_same_again() -> None:
    assert clone_seed(1, "a") == clone_seed(1, "a")
    assert clone_seed(1, "a")[0] != clone_seed(1, "b")[0] != clone_seed(2, "b")[0]
    assert all(0 <= clone_seed(seed, "a")[1] < 500 for seed in range(50))


def test_a_console_is_read_line_by_line(tmp_path: Path) -> None:
    reading, writing = console_pipe()
    console = Console(reading, tmp_path / "log")
    os.write(writing, b"one\r\ntwo\r\nth")
    console.drain()
    assert console.new_lines() == ["one", "two"]
    assert console.text() == "one\ntwo\nth"
    os.write(writing, b"ree \xff\xfe\r\n" + PANIC.encode() + b"\r\nlast")
    os.close(writing)
    console.drain()
    assert console.ended
    assert console.new_lines() == ["three \ufffd\ufffd", PANIC, "last"]
    assert console.new_lines() == []
    assert console.panic == PANIC
    console.close()
    assert (tmp_path / "log").read_text().splitlines() == console.lines()


def test_a_console_that_never_ends_keeps_its_first_and_last_words() -> None:
    reading, writing = console_pipe()
    console = Console(reading)
    for block in range(60):
        os.write(writing, b"".join(b"%d\r\n" % number for number in range(block * 1000, block * 1000 + 1000)))
        console.drain()
    lines = console.lines()
    assert lines[0] == "0"
    assert lines[-1] == "59999"
    assert len(lines) < 25_000
    assert any("are not kept" in line for line in lines)
    os.write(writing, b"new\r\n")
    console.drain()
    assert console.new_lines()[-1] == "new"
    os.close(writing)
    console.close()


REGISTERS = """
CPU#0
RAX=0000000000000000 RBX=0000000000000000 RSP=ffffffffbe403e88
RIP=ffffffffbd50fa3f RFL=00000216 [----AP-] CPL=0 II=0 A20=1 SMM=0 HLT=1
CPU#1
RAX=0000000000000000 RBX=0000000000000000 RSP=ffffa12700013e58
RIP=ffffffffc0161083 RFL=00000246 [---Z-P-] CPL=0 II=0 A20=1 SMM=0 HLT=0
CPU#2
RIP=0000000000422c39 RFL=00000246 [---Z-P-] CPL=3 II=0 A20=1 SMM=0 HLT=0
"""
KALLSYMS = """\
0000000000000000 A fixed_percpu_data
ffffffff81000000 T _text
ffffffff8150fa30 t idle
ffffffff8150fa50 T busy
ffffffff81600000 D data
ffffffff81700000 T _etext
ffffffffc0000000 t own\t[mod]
"""
MODULES = """\
lab_x 16384 0 - Live 0xffffffffc0161000 (OE)
lab_core 20480 1 lab_x, Live 0xffffffffc0158000 (OE)
hidden 20480 0 - Live 0x0000000000000000
"""


class Monitor:
    """Answers as QEMU's human monitor does, for a kernel that KASLR moved by 0x3c000000."""

    def human(self, command: str, *, index: int = 0, timeout: float = 10.0) -> str:
        del timeout
        if command.startswith("info registers"):
            return REGISTERS
        if command.startswith("gva2gpa"):
            mapped = int(command.split()[1], 16) >= 0xFFFFFFFFBD000000
            return "gpa: 0x1000\n" if mapped else "Unmapped\n"
        assert command.startswith("x /")
        assert index == 1
        return "ffffa12700013e58: 0xffffffffbd50fa55 0x0000000000000017\n"


def test_registers_as_qemu_prints_them() -> None:
    found = parse(REGISTERS, X86_64)
    assert [(cpu.index, cpu.user, cpu.idle) for cpu in found] == [
        (0, False, True),
        (1, False, False),
        (2, True, False),
    ]
    assert found[1].counter == 0xFFFFFFFFC0161083


def test_where_each_cpu_stands() -> None:
    names = Symbols.of(KALLSYMS).for_guest(parse_modules(MODULES), {})
    lines = cpus(Monitor(), X86_64, names)  # type: ignore[arg-type]  # only this method is used
    assert lines == [
        "CPU 0: idle+0xf (0xffffffffbd50fa3f), idle",
        "CPU 1: +0x83 [lab_x] (0xffffffffc0161083), on its stack: busy+0x5",
        "CPU 2: 0x422c39, in user space",
    ]


def test_all_clones_of_a_template_have_the_kernel_in_the_same_place() -> None:
    there = Symbols(Symbols.of(KALLSYMS).names, 0xFFFFFFFF81000000, frozen=True)
    assert there.for_guest([], {}, restored=True).name(0xFFFFFFFF8150FA3F) == "idle+0xf"
    assert there.for_guest([], {}).name(0xFFFFFFFF8150FA3F) is None
    assert replace(there, frozen=False).for_guest([], {}, restored=True).name(0xFFFFFFFF8150FA3F) is None


def test_a_kernel_that_never_moves() -> None:
    fixed = replace(X86_64, registers=replace(X86_64.registers, window=range(0)))
    names = Symbols({0xFFFFFFFFBD50FA30: "idle", 0xFFFFFFFFBD600000: "end"}, 0xFFFFFFFFBD000000)
    line = cpus(Monitor(), fixed, names)[0]  # type: ignore[arg-type]  # only this method is used
    assert line == "CPU 0: idle+0xf (0xffffffffbd50fa3f), idle"


def test_a_kernel_that_does_not_begin_with_its_text() -> None:
    # riscv: _text is 8 KiB behind the beginning, loongarch has only _stext.
    kernel = "ffffffff81002000 T _stext\nffffffff8150fa30 t idle\nffffffff81600000 T end\n"
    names = Symbols.of(kernel).for_guest([], {})
    line = cpus(Monitor(), X86_64, names)[0]  # type: ignore[arg-type]  # only this method is used
    assert line == "CPU 0: idle+0xf (0xffffffffbd50fa3f), idle"


def test_a_modules_code_is_not_always_at_its_base() -> None:
    names = Symbols({}, 0).for_guest([Module("lab_x", 0x1000, 0x1000, code=0x1100)], {})
    assert names.name(0x1180) == "+0x80 [lab_x]"


class OneImage(dict[str, bytes]):
    """The images of a kernel that has thousands: each must be asked for by its name."""

    def __iter__(self) -> NoReturn:
        raise AssertionError("all images were asked for")

    items = values = keys = __iter__


def test_only_the_image_of_the_module_in_question_is_read() -> None:
    images = OneImage(lab_x=b"no module, which has no functions", lab_y=b"")
    names = Symbols({}, 0).for_guest(
        [Module("lab_x", 0x1000, 0x1000), Module("gone", 0x2000, 0x1000)], images
    )
    assert [names.name(0x1180), names.name(0x2180)] == ["+0x180 [lab_x]", "+0x180 [gone]"]


def test_without_symbols_the_addresses_are_told() -> None:
    lines = cpus(Monitor(), X86_64, Symbols({}, 0))  # type: ignore[arg-type]  # only this method is used
    assert lines[1] == "CPU 1: 0xffffffffc0161083"


def test_symbols() -> None:
    names = Symbols.of(KALLSYMS)
    assert names.name(0xFFFFFFFF8150FA31) is None  # not known yet where this kernel lies
    assert parse_modules(MODULES) == [
        Module("lab_x", 0xFFFFFFFFC0161000, 16384),
        Module("lab_core", 0xFFFFFFFFC0158000, 20480),
    ]
    with pytest.raises(ValueError, match="_text"):
        Symbols.of("ffffffffffffffff B The real System.map is elsewhere\n")


def test_a_users_qemu_must_be_one(tmp_path: Path) -> None:
    fake = tmp_path / "qemu"
    fake.write_text("#!/bin/sh\necho QEMU emulator version 9.2.1\n")
    fake.chmod(0o755)
    found = users_qemu(fake)
    assert (found.version, found.command) == ("9.2.1", (str(fake),))
    fake.write_text("#!/bin/sh\necho hello\n")
    with pytest.raises(UsageError, match="no QEMU"):
        users_qemu(fake)
    fake.write_text("#!/bin/sh\necho missing a library >&2; exit 3\n")
    with pytest.raises(UsageError, match="does not run: `--version` ended with status 3: missing a library"):
        users_qemu(fake)
    with pytest.raises(UsageError, match="does not run"):
        users_qemu(tmp_path / "none")
