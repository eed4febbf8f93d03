# SPDX-License-Identifier: MIT
"""What a kernel has in use is counted out of its own files."""

from __future__ import annotations

from typing import Any

import pytest

from lab.arch import ARCHITECTURES
from lab.guest import counts
from lab.guest.layouts import OwnCall
from lab.guest.wire import CallResult, Op, Program, Reply

SLABINFO = """\
slabinfo - version: 2.1
# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> : tunables <limit>
filp                 {filp}    126    256   16    1 : tunables    0    0    0 : slabdata      9      9      0
vmap_area             88    126     72   16    1 : tunables    0    0    0 : slabdata      9      9      0
"""
VMALLOC = """\
0xffffb8c1c0000000-0xffffb8c1c0005000   20480 hpet_enable+0x36/0x4b phys=0x00000000fed00000 ioremap
0xffffb8c1c0005000-0xffffb8c1c0009000   16384 unpurged vm_area
"""
ZONES = """\
Node 0, zone      DMA
  per-node stats
      nr_free_foo 12
  pages free     1000
        boost    0
        managed  3000
  pagesets
    cpu: 0
              count: 40
              high:  300
Node 0, zone    DMA32
  pages free     500
        managed  600
    cpu: 1
              count: 5
"""
MEMORY = """\
MemTotal:         245124 kB
Slab:                {slab} kB
SReclaimable:        100 kB
Percpu:              80 kB
Cached:               20 kB
"""


class Agent:
    """Answers for the files; the number of open files goes down from look to look, and up again."""

    def __init__(self, *, caches: bool = True, wrong: bool = False) -> None:
        self.arch = ARCHITECTURES["x86_64"]
        self.filp = [33, 35, 31, 34]
        self.slab = [400, 160, 404]  # kB: what CPUs count apart may be missing
        self.written: list[int] = []
        self.caches = caches
        self.wrong = wrong

    def read_file(self, path: str, _timeout: float) -> bytes:
        if path == "/proc/slabinfo":
            return SLABINFO.format(filp=99).encode()  # after the first, only its pages are wanted
        if path == "/proc/meminfo":
            return MEMORY.format(slab=self.slab.pop(0)).encode()
        return {"/proc/vmallocinfo": VMALLOC, "/proc/zoneinfo": ZONES}[path].encode()

    def by_lab(self, program: Program, *, timeout: float) -> Reply:
        assert timeout == 9.0
        calls, data = [], []
        for op, what in program.operations:
            if op is Op.READ_FILE:
                calls.append(CallResult(-13 if self.wrong else 0, 1))
                data.append(SLABINFO.format(filp=self.filp.pop(0)).encode())
            elif what is not None and getattr(what, "nr", 0) & 0xFF == OwnCall.OPENAT:
                slab = len(calls) >= 2
                calls.append(
                    CallResult(-2, 2) if slab and not self.caches else CallResult(10 + len(calls), 0)
                )
            else:
                calls.append(CallResult(0, 0))
        return Reply(tuple(calls), tuple(data))


def test_the_least_of_several_looks() -> None:
    agent: Any = Agent()
    counter = counts.Counter(agent, 4096, iter([70, None, 64]).__next__, 9.0)
    assert counter.sizes == {"filp": 256, "vmap_area": 72}
    # 3600 pages are there, 1545 of them are not in use; of 500 kB it is known what they are for. Two caches
    # have 18 of the 100 pages for objects.
    assert counter.look() == {
        "filp": 31,
        counts.AREAS: 1,
        counts.PAGES: 3600 - 1545 - 125,
        counts.LARGE: 100 - 18,
        counts.PER_CPU: 64,
    }


def test_where_caches_do_not_tell() -> None:
    agent: Any = Agent(caches=False)
    with pytest.raises(OSError, match="CPUs have at hand"):
        counts.Counter(agent, 4096, lambda: None, 9.0)


def test_where_the_file_cannot_be_read() -> None:
    agent: Any = Agent(wrong=True)
    with pytest.raises(PermissionError, match="slabinfo"):
        counts.Counter(agent, 4096, lambda: None, 9.0).look()
