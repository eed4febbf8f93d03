# SPDX-License-Identifier: MIT
"""What was mounted and made in a guest's file tree, to be taken away: it stays when who did it has gone.

Only what is new goes, in the guest's own root file system; what was there and was changed stays changed.
"""

from __future__ import annotations

import re
import struct
from collections import Counter
from typing import TYPE_CHECKING

from lab.guest.frames import padded
from lab.guest.layouts import OwnCall
from lab.guest.wire import Program, Result

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from lab.guest.agent import Agent
    from lab.guest.wire import Buffer

_MNT_DETACH, _AT_REMOVEDIR, _AT_FDCWD, _DT_DIR = 2, 0x200, -100, 4  # everywhere
_ESCAPED = re.compile(r"\\([0-7]{3})")
_ROOM = 16384  # of the names in a directory
_SOME = 32  # directories of one program


class Outside:
    """A guest's mounts and files as they were."""

    def __init__(self, agent: Agent, timeout: float) -> None:
        """`timeout` is the patience with one request. Raises OSError, and what Agent.run() does."""
        self._agent = agent
        self._timeout = timeout
        self._mounts = self._mounted()
        self._files = self._listed(self._mounts)

    def restore(self) -> None:
        """Take away what is new; raises what __init__() does."""
        program = Program(self._agent.arch)
        there = Counter(self._mounts)
        for path in self._mounted():
            there[path] -= 1
            if there[path] < 0:
                program.own_call(OwnCall.UMOUNT2, _path(program, path), _MNT_DETACH)
        if program.calls:
            self._agent.by_lab(program, timeout=self._timeout)
        now = self._listed(self._mounts)
        new = sorted(now.keys() - self._files.keys(), reverse=True)  # what is in a directory comes before it
        for first in range(0, len(new), _SOME):
            program = Program(self._agent.arch)
            for path in new[first : first + _SOME]:
                flags = _AT_REMOVEDIR if now[path] else 0
                program.own_call(OwnCall.UNLINKAT, _AT_FDCWD, _path(program, path), flags)
            self._agent.by_lab(program, timeout=self._timeout)

    def _mounted(self) -> list[str]:
        """Return where something is mounted, in order."""
        mounts = self._agent.read_file("/proc/self/mounts", self._timeout).decode(errors="surrogateescape")
        paths = (line.split(" ")[1] for line in mounts.splitlines())
        return [_ESCAPED.sub(lambda match: chr(int(match[1], 8)), path) for path in paths]

    def _listed(self, mounts: Sequence[str]) -> Mapping[str, bool]:
        """Return all paths of the root file system, and whether each is a directory."""
        found: dict[str, bool] = {}
        todo = [""]
        while todo:
            some, todo = todo[:_SOME], todo[_SOME:]
            program = Program(self._agent.arch)
            for path in some:
                fd = Result(program.own_call(OwnCall.OPENAT, _AT_FDCWD, _path(program, path or "/"), 0, 0))
                room = program.buffer(b"", _ROOM)
                got = program.own_call(OwnCall.GETDENTS64, fd, room, _ROOM)
                program.fetch(room, 0, _ROOM, got)
                program.own_call(OwnCall.CLOSE, fd)
            reply = self._agent.by_lab(program, timeout=self._timeout)
            for path, entries in zip(some, reply.data, strict=True):
                for name, directory in self._entries(entries):
                    found[f"{path}/{name}"] = directory
                    if directory and f"{path}/{name}" not in mounts:
                        todo.append(f"{path}/{name}")
        return found

    def _entries(self, data: bytes) -> Iterator[tuple[str, bool]]:
        """Yield the names of a directory; see getdents64(2)."""
        order = "<" if self._agent.arch.byteorder == "little" else ">"
        at = 0
        while at < len(data):
            size, kind = struct.unpack_from(f"{order}16xHB", data, at)
            name = data[at + 19 : at + size].split(b"\0")[0].decode(errors="surrogateescape")
            if name not in (".", ".."):
                yield name, kind == _DT_DIR
            at += size


def _path(program: Program, path: str) -> Buffer:
    """Return memory that holds a path, whatever bytes it is of."""
    return program.buffer(padded(path.encode(errors="surrogateescape") + b"\0"))


__all__ = ["Outside"]
