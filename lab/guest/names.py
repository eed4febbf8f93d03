# SPDX-License-Identifier: MIT
"""What has a name in a guest's kernel: nodes, entries of proc and sysfs, whatever is registered by a name.

The agent lists it (rootfs/names.c). Compared with what there was before a module came, it tells what stayed
when the module had gone. So do the kernel's threads, which are told apart by their numbers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_MEMORY = "memory"
_THREADS = "kernel threads"
# The beginning of /proc/PID/stat, proc_pid_stat(5), of a child of kthreadd's: a thread of the kernel, or a
# program that it has started.
_THREAD = re.compile(r"(?P<pid>\d+) \((?P<name>.*)\) (?P<state>\w) 2 (?:-?\d+ ){4}(?P<flags>\d+)", re.DOTALL)
_EXITING = 0x4  # PF_EXITING of include/linux/sched.h
_KERNEL_THREAD = 0x0020_0000  # PF_KTHREAD
# The kernel's own, which come and go: workers of all queues (a queue's rescuer is its owner's: kworker/R-x
# since 6.9), and one that has just been made and has no name yet.
_BARE = re.compile(r"^\[<0>\] 0x|\[\w+\]$", re.MULTILINE)  # or a function of a module that is there
_FOR_A_MODULE = re.compile(r"\b(rescuer_thread|irq_thread|kthread_worker_fn)\+")
_COME_AND_GO = re.compile(r"kworker/(?!R)|kthreadd$")
_MOST_SHOWN = 40  # characters of a line


def _first(line: str) -> str:
    return line.split(maxsplit=1)[0]


def _last(line: str) -> str:
    return line.rsplit(maxsplit=1)[-1]


def _interrupt(line: str) -> str:
    """'24:  5  0  PCI-MSI 1-edge  lab_x' without the counts of the CPUs."""
    number, colon, rest = line.partition(":")
    if not colon or not number.strip().isdigit():
        return ""  # the head; counters of the architecture's own
    return f"{number.strip()}: {re.sub(r'^(?: *[0-9]+)+', '', rest).strip()}"


def _kernel_socket(line: str) -> str:
    """Return the family of a netlink socket that is the kernel's own: its port is 0."""
    words = line.split()
    return f"family {words[1]}" if len(words) > 2 and words[2] == "0" else ""


# How a line of a file is made a name; '' is none. What is not here stands as it is.
_NAMES: Mapping[str, Callable[[str], str]] = {
    "/proc/filesystems": _last,
    "/proc/interrupts": _interrupt,
    "/proc/net/netlink": _kernel_socket,
    "/proc/net/protocols": _first,
    "/proc/tty/drivers": _first,
    "/proc/tty/ldiscs": _first,
}
_FILES = frozenset(
    {*_NAMES, "/proc/devices", "/proc/iomem", "/proc/ioports", "/proc/misc", "/proc/net/ptype"}
)


class Thread(NamedTuple):
    """A thread of the kernel, or a process that it started."""

    pid: int
    name: str
    program: bool

    def of_the_kernel(self, stack: str) -> bool:
        """Tell by its /proc/PID/stack whether it is the kernel's own, which makes some when they are wanted.

        All that such a thread comes back to, down to where all threads begin, is the kernel's, that is, has a
        name: where code has gone, a stack ends or has a bare address. Threads that the kernel runs for a
        module are the module's.
        """
        begins = re.search(r"^\[<0>\] kthread\+", stack, re.MULTILINE)
        return not (self.program or begins is None or _BARE.search(stack) or _FOR_A_MODULE.search(stack))


@dataclass(frozen=True)
class Names:
    """What there is, by the place that lists it, and how much memory is free."""

    places: Mapping[str, bytes]
    free_kib: int

    def since(self, before: Names) -> tuple[list[str], list[str]]:
        """Return what came and what went since `before`, as a person reads it: '/proc/x', '/proc/misc: 60 x'.

        A place that one of them does not have is left out: its directory is told by the one above.
        """
        came, went = [], []
        for place, listed in self.places.items():
            if place == _THREADS or before.places.get(place, listed) == listed:
                continue
            there, earlier = _names(place, listed), _names(place, before.places[place])
            came += [_shown(place, name) for name in sorted(there - earlier)]
            went += [_shown(place, name) for name in sorted(earlier - there)]
        return came, went

    def threads_since(self, before: Names) -> list[Thread]:
        """Return the kernel's threads, and programs that it started, that came since `before` and stay."""
        if not {_THREADS} <= self.places.keys() & before.places.keys():
            return []
        earlier = {match["pid"] for match in _threads(before.places[_THREADS])}
        found = []
        for match in _threads(self.places[_THREADS]):
            name, flags = match["name"], int(match["flags"])
            ends = flags & _EXITING or match["state"] in ("X", "Z")
            if match["pid"] not in earlier and not ends and not _COME_AND_GO.match(name):
                found.append(Thread(int(match["pid"]), name, not flags & _KERNEL_THREAD))
        return found

    def packed(self) -> dict[str, str]:
        """Return the places as a file of JSON holds them."""
        return {place: listed.decode("latin-1") for place, listed in self.places.items()}


def unpacked(places: Mapping[str, str]) -> Names:
    """Return what packed() made; how much memory is free is not kept."""
    return Names({place: listed.encode("latin-1") for place, listed in places.items()}, 0)


def _threads(listed: bytes) -> Iterator[re.Match[str]]:
    for entry in listed.decode(errors="replace").split("\0"):
        match = _THREAD.match(entry)
        if match is not None:
            yield match


def _names(place: str, listed: bytes) -> frozenset[str]:
    entries = listed.decode(errors="surrogateescape").split("\0")
    name = _NAMES.get(place)
    return frozenset(filter(None, (name(entry) if name and entry else entry for entry in entries)))


def _shown(place: str, name: str) -> str:
    if place.startswith("/") and place not in _FILES:
        return f"{place}/{name}"
    return f"{place}: {' '.join(name.split())[:_MOST_SHOWN]}"


def parse(data: bytes) -> Names:
    """Return what Agent.names() gets."""
    places: dict[str, bytes] = {}
    for block in data.split(b"\0\0"):
        place, _, listed = block.partition(b"\0")
        places[place.decode()] = listed
    places.pop("", None)
    return Names(places, int(places.pop(_MEMORY, b"0") or 0))
