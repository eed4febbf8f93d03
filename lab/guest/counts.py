# SPDX-License-Identifier: MIT
"""How much a guest's kernel has in use, to the object: what grows is found by counting again and again.

/proc/slabinfo counts what a CPU has at hand of a cache as in use, used or not: some dozens of objects more
or less. Asked to shrink a cache (/sys/kernel/slab/NAME/shrink), it gives these back first, and what it
says then is exact but for what counting itself takes, which differs from look to look; so several are made.
See slabinfo(5), Documentation/ABI/testing/sysfs-kernel-slab.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from lab.guest.layouts import OwnCall
from lab.guest.wire import Program

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from lab.guest.agent import Agent

AREAS = "areas of vmalloc"
PAGES = "pages"
LARGE = "pages of large objects"
PER_CPU = "bytes of per-CPU memory"
_LOOKS = 3
_WRONLY = 1  # O_WRONLY, everywhere
_GLOBAL = 1  # MEMBARRIER_CMD_GLOBAL
_SLABINFO = "/proc/slabinfo"
_OTHERS = (_SLABINFO, "/proc/meminfo", "/proc/zoneinfo", "/proc/vmallocinfo")
# What is known of memory that is in use, in kB: of what is none of these, nobody says what it is for.
_KNOWN = ("Slab", "PageTables", "SecPageTables", "KernelStack", "AnonPages", "Cached", "Buffers", "Percpu")
_SHRINK = "/sys/kernel/slab/{}/shrink"
_LATE = ("vmap_area",)  # an area that was given back has one until many have been
_DROPS = 2  # of what is cached: what was used since is spared the first time
_STRINGS = 64  # of one program
_MEMORY = re.compile(r"^(\w+): +(\d+) kB", re.MULTILINE)
_ZONES = re.compile(r"^ +(?:pages )?(free|managed|count:) +(\d+)", re.MULTILINE)
# As large as it may be: the kernel copies it into an object of a cache that few others use.
_ONE = b"1".ljust(4096, b"\n")


class Counter:
    """Counts in one guest. What it opens there stays open: it ends with the guest."""

    def __init__(
        self, agent: Agent, page_size: int, per_cpu_bytes: Callable[[], int | None], timeout: float
    ) -> None:
        """`timeout` is the patience with one look. Raises OSError where the kernel does not tell.

        `per_cpu_bytes` looks from outside; None: nobody can tell.
        """
        self._agent = agent
        self._page_kib = page_size >> 10
        self._per_cpu_bytes = per_cpu_bytes
        self._timeout = timeout
        caches = list(_caches(agent.read_file(_SLABINFO, timeout).decode()))
        self.sizes = {name: size for name, _, size, _ in caches}  # of an object, in bytes
        self._drop, self._refresh, *shrink = self._open(
            ["/proc/sys/vm/drop_caches", "/proc/sys/vm/stat_refresh", *map(_SHRINK.format, self.sizes)]
        )
        self._shrink = [fd for fd in shrink if fd >= 0]
        if not self._shrink:
            raise OSError(0, "the kernel does not give back what CPUs have at hand", _SHRINK.format("*"))

    def _open(self, paths: Sequence[str]) -> list[int]:
        """Open files for writing; -1 stands for those that cannot be."""
        found = []
        for first in range(0, len(paths), _STRINGS):
            program = Program(self._agent.arch)
            for path in paths[first : first + _STRINGS]:
                program.own_call(OwnCall.OPENAT, 0, program.string(path), _WRONLY, 0)
            found += [
                -1 if call.errno else call.value
                for call in self._agent.by_lab(program, timeout=self._timeout).calls
            ]
        return found

    def look(self) -> dict[str, int]:
        """Return how many objects of each cache, areas of vmalloc, pages of unknown use and so on there are.

        Raises OSError where the kernel does not tell, and what Agent.run() does.
        """
        found: dict[str, list[int]] = {}
        for number in range(_LOOKS):
            program = Program(self._agent.arch)
            three, one = program.buffer(b"3\n"), program.buffer(_ONE)
            for _ in range(0 if number else _DROPS):
                program.own_call(OwnCall.WRITE, self._drop, three, three.size)
            for fd in self._shrink:
                program.own_call(OwnCall.WRITE, fd, one, one.size)
            # Pages of some caches go back only after a grace period: it waits for one, see membarrier(2).
            program.own_call(OwnCall.MEMBARRIER, _GLOBAL, 0)
            program.read_file(_SLABINFO)
            reply = self._agent.by_lab(program, timeout=self._timeout)
            errno = reply.calls[-1].errno
            if errno:
                raise OSError(errno, os.strerror(errno), _SLABINFO)
            self._put_together()
            others = [self._agent.read_file(path, self._timeout).decode() for path in _OTHERS]
            counted = dict(self._counted(reply.data[0].decode(), *others))
            per_cpu = self._per_cpu_bytes()
            if per_cpu is not None:
                counted[PER_CPU] = per_cpu
            for name, count in counted.items():
                found.setdefault(name, []).append(count)
        return {name: _settled(name, counts) for name, counts in found.items()}

    def _put_together(self) -> None:
        """Put together what CPUs count apart of pages; where that cannot be asked for: EBADF.

        Not before caches were shrunk, which changes it, nor before what goes on then has filled them again.
        """
        program = Program(self._agent.arch)
        three = program.buffer(b"3\n")
        program.own_call(OwnCall.WRITE, self._refresh, three, three.size)
        self._agent.by_lab(program, timeout=self._timeout)

    def _counted(
        self, exact: str, slabinfo: str, meminfo: str, zoneinfo: str, vmallocinfo: str
    ) -> Iterator[tuple[str, int]]:
        for name, count, *_ in _caches(exact):
            if name not in _LATE:
                yield name, count
        # An area that was given back stands there until many have been.
        yield AREAS, sum("unpurged" not in line for line in vmallocinfo.splitlines())
        slab = sum(pages for *_, pages in _caches(slabinfo))
        memory = {name: int(kib) for name, kib in _MEMORY.findall(meminfo) if name in _KNOWN}
        zones = [(what, int(pages)) for what, pages in _ZONES.findall(zoneinfo)]
        there = sum(pages for what, pages in zones if what == "managed")
        unused = sum(pages for what, pages in zones if what != "managed")  # free, or at a CPU's hand
        yield PAGES, there - unused - sum(memory.values()) // self._page_kib
        # What is too large for a cache is counted among them, and has pages of its own.
        yield LARGE, memory["Slab"] // self._page_kib - slab


def _settled(name: str, counts: Sequence[int]) -> int:
    """Return what several looks agree on: the least of objects; pages are counted too low, too, at times."""
    return sorted(counts)[len(counts) // 2] if name in (PAGES, LARGE) else min(counts)


def _caches(slabinfo: str) -> Iterator[tuple[str, int, int, int]]:
    """Yield each cache: its name, objects in use, the bytes of one, and how many pages it has."""
    for line in slabinfo.splitlines()[2:]:
        name, active, _, size, _, pages, *_, slabs, _ = line.split()
        yield name, int(active), int(size), int(pages) * int(slabs)
