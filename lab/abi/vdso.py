# SPDX-License-Identifier: MIT
"""The vDSO of a process: the ELF image that the kernel maps into it, and the functions there. vdso(7)."""

from __future__ import annotations

import io
import re
from typing import Final

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from lab.errors import AgentError

# What some kernel's has, without what an architecture writes before it.
FUNCTIONS: Final = frozenset(
    {
        "clock_getres",
        "clock_getres_time64",
        "clock_gettime",
        "clock_gettime64",
        "flush_icache",
        "get_syscall_map",
        "get_tbfreq",
        "getcpu",
        "getrandom",
        "gettimeofday",
        "riscv_hwprobe",
        "rt_sigreturn",
        "sgx_enter_enclave",
        "sigreturn",
        "sigtramp_rt64",
        "sync_dicache",
        "time",
        "vsyscall",
    }
)
_PREFIXES: Final = ("__vdso_", "__kernel_")  # the others, on powerpc, have none
_MAPPING: Final = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) .*\[vdso\]$", re.MULTILINE)


def where(maps: str) -> tuple[int, int] | None:
    """Return where a vDSO begins and how many bytes it has, by /proc/PID/maps; None where there is none."""
    found = _MAPPING.search(maps)
    if found is None:
        return None
    begin, end = (int(part, 16) for part in found.groups())
    return begin, end - begin


def functions(image: bytes) -> dict[str, tuple[str, int]]:
    """Return the functions of an image by their short names: the whole name, and where they begin in it.

    Raises AgentError when it is none.
    """
    try:
        elf = ELFFile(io.BytesIO(image))
        begin = min(each["p_vaddr"] for each in elf.iter_segments("PT_LOAD"))
        symbols = elf.get_section_by_name(".dynsym")
        found = {
            each.name: each["st_value"] - begin
            for each in (symbols.iter_symbols() if isinstance(symbols, SymbolTableSection) else ())
            if each["st_shndx"] != "SHN_UNDEF" and each["st_info"]["type"] in ("STT_FUNC", "STT_NOTYPE")
        }
    except (ELFError, ValueError) as error:
        raise AgentError(f"what the kernel maps as vDSO cannot be read: {error}") from error
    return {_short(name): (name, offset) for name, offset in found.items() if name}


def _short(name: str) -> str:
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    return name
