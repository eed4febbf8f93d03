# SPDX-License-Identifier: MIT
"""Where a vDSO lies, and what is in it: this host's own, which is the one at hand."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest

from lab.abi import vdso
from lab.errors import AgentError

MAPS = """\
7f3c5d9f6000-7f3c5d9fa000 r--p 00000000 00:00 0                          [vvar]
7f3c5d9fa000-7f3c5d9fc000 r-xp 00000000 00:00 0                          [vdso]
7ffd1c2e0000-7ffd1c301000 rw-p 00000000 00:00 0                          [stack]
"""


def test_where_it_lies() -> None:
    assert vdso.where(MAPS) == (0x7F3C5D9FA000, 0x2000)
    assert vdso.where(MAPS.replace("[vdso]", "/lib/libvdso.so")) is None
    assert vdso.where("") is None


def test_the_functions_of_this_hosts_own() -> None:
    there = vdso.where(Path("/proc/self/maps").read_text())
    if there is None:
        pytest.skip("this host's kernel maps no vDSO")
    begin, size = there
    found = vdso.functions(ctypes.string_at(begin, size))
    symbol, offset = found["clock_gettime"]
    assert symbol in ("__vdso_clock_gettime", "__kernel_clock_gettime")
    assert found.keys() <= vdso.FUNCTIONS
    room = (ctypes.c_int64 * 2)()
    function = ctypes.CFUNCTYPE(ctypes.c_long, ctypes.c_long, ctypes.c_void_p)(begin + offset)
    assert function(1, ctypes.byref(room)) == 0  # CLOCK_MONOTONIC
    assert room[0] or room[1]


@pytest.mark.parametrize("image", [b"", b"\x7fELF", bytes(4096)])
def test_what_is_none(image: bytes) -> None:
    with pytest.raises(AgentError, match="cannot be read"):
        vdso.functions(image)
