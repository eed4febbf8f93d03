# SPDX-License-Identifier: MIT
"""Frames: what goes over the agent's port, both ways. Pure, no input or output.

Everything is in the guest's byte order; every number is written 64 bits wide (small ones 32), whatever the
guest's word is. lab/guest/layouts.py has the structs.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, TypeVar

from lab.errors import AgentError
from lab.guest.layouts import MAGIC, MAX_FRAME, Frame, FrameType, Record

if TYPE_CHECKING:
    from lab.arch import Architecture

R = TypeVar("R", bound=Record)


class Reader:
    """Takes values off a payload, strictly: AgentError when it is too short or too long."""

    def __init__(self, payload: bytes, arch: Architecture) -> None:
        self._payload = payload
        self._order = "<" if arch.byteorder == "little" else ">"
        self._at = 0

    def take(self, layout: str) -> tuple[int, ...]:
        """Unpack `layout` (struct's letters, no padding between them)."""
        layout = self._order + layout
        return struct.unpack(layout, self.raw(struct.calcsize(layout)))

    def record(self, kind: type[R]) -> R:
        """Take a struct of rootfs/wire.h."""
        return kind.unpack(self._order, self.raw(kind.nbytes()))

    def raw(self, size: int) -> bytes:
        """Take `size` bytes."""
        if size > self.left:
            raise AgentError(f"a frame of the agent ends {size - self.left} bytes too soon")
        self._at += size
        return self._payload[self._at - size : self._at]

    def padded(self) -> bytes:
        """Take a length and that many bytes, padded to a multiple of 8."""
        (size,) = self.take("Q")
        data = self.raw(size)
        self.raw(-size % 8)
        return data

    def text(self) -> str:
        """Take a padded string."""
        return self.padded().decode(errors="surrogateescape")

    @property
    def left(self) -> int:
        """How many bytes have not been taken."""
        return len(self._payload) - self._at

    def end(self) -> None:
        """Nothing may be left."""
        if self.left:
            raise AgentError(f"a frame of the agent has {self.left} bytes too many")


class Frames:
    """Cuts a stream of bytes into frames; AgentError when the stream is none of the agent's.

    `life`: which one of the guests that this QEMU has been; what another one said is left out.
    """

    def __init__(self, arch: Architecture, life: int = 1) -> None:
        self._order = "<" if arch.byteorder == "little" else ">"
        self._header = struct.Struct(self._order + Frame.layout)
        self._pending = bytearray()
        self._life = life

    def feed(self, data: bytes) -> list[tuple[FrameType, int, bytes]]:
        """Take more bytes; return the (type, id, payload) that are complete now."""
        self._pending += data
        frames: list[tuple[FrameType, int, bytes]] = []
        at = 0
        while len(self._pending) - at >= self._header.size:
            magic, kind, length, ident, life, _ = self._header.unpack_from(self._pending, at)
            if magic != MAGIC or length > MAX_FRAME or kind not in _FRAME_TYPES:
                start = bytes(self._pending[at : at + 32])
                raise AgentError(f"what comes from the agent's port is not a frame: {start!r}")
            if len(self._pending) - at - self._header.size < length:
                break
            at += self._header.size
            # The agent is up before anybody has told it which life this is.
            if life == self._life or kind == FrameType.READY:
                frames.append((FrameType(kind), ident, bytes(self._pending[at : at + length])))
            at += length
        del self._pending[:at]
        return frames

    def encode(self, kind: FrameType, ident: int, payload: bytes) -> bytes:
        """Return a frame's bytes."""
        return Frame(MAGIC, kind, len(payload), ident, self._life).pack(self._order) + payload


_FRAME_TYPES: Final = frozenset(FrameType)


def padded(data: bytes) -> bytes:
    """Return `data` with zeros up to a multiple of 8."""
    return data + bytes(-len(data) % 8)
