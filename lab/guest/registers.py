# SPDX-License-Identifier: MIT
"""Where the CPUs of a running guest stand, asked from QEMU: the guest need not be able to answer."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lab.arch import Architecture
    from lab.guest.qmp import Qmp
    from lab.guest.symbols import Symbols

_MOST_STACK = 6  # return addresses a CPU


@dataclass(frozen=True)
class Cpu:
    """One CPU, as QEMU shows it."""

    index: int
    counter: int
    stack: int | None
    user: bool
    idle: bool


def parse(text: str, arch: Architecture) -> list[Cpu]:
    """Read the output of `info registers -a`."""
    layout = arch.registers
    found = []
    for index, part in re.findall(r"^CPU#(\d+)\n(.*?)(?=^CPU#|\Z)", text, re.MULTILINE | re.DOTALL):
        counter = re.search(layout.counter, part)
        if counter is None:
            continue
        stack = re.search(layout.stack, part)
        found.append(
            Cpu(
                int(index),
                int(counter[1], 16),
                int(stack[1], 16) if stack else None,
                bool(layout.user and re.search(layout.user, part)),
                bool(layout.idle and re.search(layout.idle, part)),
            )
        )
    return found


def cpus(qmp: Qmp, arch: Architecture, symbols: Symbols) -> list[str]:
    """Return a line a CPU; raises GuestLost, GuestHung or HostError when QEMU cannot say."""
    found = parse(qmp.human("info registers -a"), arch)
    if symbols.names and symbols.shift is None:
        symbols = replace(symbols, shift=_shift(qmp, arch, found, symbols))
    return [_line(qmp, cpu, symbols) for cpu in found]


def _line(qmp: Qmp, cpu: Cpu, symbols: Symbols) -> str:
    name = symbols.name(cpu.counter) if not cpu.user else None
    where = f"{name} ({cpu.counter:#x})" if name else f"{cpu.counter:#x}"
    if cpu.user:
        where += ", in user space"
    elif cpu.idle:
        where += ", idle"
    elif cpu.stack is not None:
        callers = _callers(qmp, cpu, symbols)
        if callers:
            where += f", on its stack: {' '.join(callers)}"
    return f"CPU {cpu.index}: {where}"


def _callers(qmp: Qmp, cpu: Cpu, symbols: Symbols) -> list[str]:
    """Return what looks like return addresses on the stack: a hint at who called, not an unwinding."""
    assert cpu.stack is not None
    words = re.findall(r"0x([0-9a-f]{16})", qmp.human(f"x /96gx {cpu.stack:#x}", index=cpu.index))
    names: list[str] = []
    for word in words:
        name = symbols.name(int(word, 16))
        if name and not name.endswith("+0x0") and name not in names:
            names.append(name)
    return names[:_MOST_STACK]


def _shift(qmp: Qmp, arch: Architecture, found: list[Cpu], symbols: Symbols) -> int | None:
    """Return how far KASLR moved the kernel: its first mapped page in the window is where _text is."""
    window = arch.registers.window
    kernel = [cpu for cpu in found if not cpu.user]  # in user mode the kernel may not be mapped
    if window is None or not kernel:
        return None
    if not window:
        return 0
    for address in window:
        if "Unmapped" not in qmp.human(f"gva2gpa {address:#x}", index=kernel[0].index):
            return (
                address - symbols.text // window.step * window.step
            )  # riscv's _text is not at the beginning
    return None
