# SPDX-License-Identifier: MIT
"""What a scenario mounted and made goes, and nothing else."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from lab.arch import ARCHITECTURES
from lab.guest.layouts import OwnCall
from lab.guest.outside import Outside
from lab.guest.wire import CallResult, Program, Reply

_DIRECTORY, _FILE = 4, 8


def entry(order: str, name: bytes, kind: int) -> bytes:
    size = 19 + len(name) + 1
    size += -size % 8
    return (struct.pack(f"{order}QqHB", 7, 0, size, kind) + name).ljust(size, b"\0")


class Agent:
    """A guest with files and mounts."""

    def __init__(self, arch: str) -> None:
        self.arch = ARCHITECTURES[arch]
        self.order = "<" if self.arch.byteorder == "little" else ">"
        self.mounts = ["/", "/proc", "/dev"]
        self.tree: dict[str, dict[bytes, int]] = {
            "/": {b"proc": _DIRECTORY, b"dev": _DIRECTORY, b"mnt": _DIRECTORY, b"init": _FILE},
            "/mnt": {},
            "/proc": {b"1": _DIRECTORY},
        }
        self.did: list[tuple[str, str]] = []

    def read_file(self, path: str, _timeout: float) -> bytes:
        assert path == "/proc/self/mounts"
        return "".join(f"none {each} x rw 0 0\n" for each in self.mounts).encode()

    def by_lab(self, program: Program, *, timeout: float) -> Reply:
        assert timeout == 3.0
        calls: list[CallResult] = []
        data: list[bytes] = []
        strings = [text.rstrip(b"\0").decode(errors="surrogateescape") for _, text in program.buffers if text]
        for _, what in program.operations:
            call = getattr(what, "nr", -1) & 0xFF if hasattr(what, "nr") else -1
            if call == OwnCall.OPENAT:
                entries = self.tree.get(strings.pop(0), {})
                dots = {b".": _DIRECTORY, b"..": _DIRECTORY}
                listed = b"".join(entry(self.order, *each) for each in (dots | entries).items())
            elif call in (OwnCall.UMOUNT2, OwnCall.UNLINKAT):
                self.did.append((OwnCall(call).name, strings.pop(0)))
            elif call == -1:
                data.append(listed)
                continue
            calls.append(CallResult(0, 1))
        return Reply(tuple(calls), tuple(data))


@pytest.mark.parametrize("arch", ["x86_64", "s390x"])
def test_what_is_new_goes_the_innermost_first(arch: str) -> None:
    agent: Any = Agent(arch)
    outside = Outside(agent, 3.0)
    outside.restore()
    assert agent.did == []
    agent.mounts += ["/mnt/a\\040b", "/proc"]
    agent.tree["/mnt"] |= {b"a b": _DIRECTORY, b"n\xff": _FILE}
    agent.tree["/mnt/a b"] = {b"deep": _FILE}
    agent.tree["/proc"] |= {b"2": _DIRECTORY}  # another file system: not ours
    outside.restore()
    assert agent.did == [
        ("UMOUNT2", "/mnt/a b"),
        ("UMOUNT2", "/proc"),
        ("UNLINKAT", "/mnt/n\udcff"),
        ("UNLINKAT", "/mnt/a b/deep"),
        ("UNLINKAT", "/mnt/a b"),
    ]
