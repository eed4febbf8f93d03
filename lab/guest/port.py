# SPDX-License-Identifier: MIT
"""The host's end of the agent's port: requests out, answers in, in whatever order they come."""

from __future__ import annotations

import struct
import time
from typing import TYPE_CHECKING, Protocol

from lab.errors import AgentError
from lab.guest.frames import Frames, Reader
from lab.guest.kmsg import KernelMessage, parse_record
from lab.guest.layouts import PROTOCOL, ExitNotice, FrameType, Ready, Record

if TYPE_CHECKING:
    from collections.abc import Callable

    from lab.arch import Architecture


class Channel(Protocol):
    """Bytes to and from the guest."""

    def send(self, data: bytes) -> None:
        """Send all of it. Raises GuestLost when the guest is dead, GuestHung when it takes no more."""

    def receive(self, deadline: float) -> bytes:
        """Return some bytes, at least one.

        Raises GuestLost at the guest's death, GuestHung when time.monotonic() passes `deadline`.
        """

    def waited(self) -> float:
        """Return the seconds that the guest has been ready to run so far, and its host busy."""


class Refused(AgentError):  # noqa: N818 - what the agent did
    """The agent understood a request and says why it cannot do it."""


Answer = tuple[FrameType, bytes]


class Port:
    """Sends requests and sorts what comes; AgentError for what nobody asked for."""

    def __init__(
        self, channel: Channel, arch: Architecture, exited: Callable[[int, int, int], None], life: int = 1
    ) -> None:
        self._channel = channel
        self.arch = arch
        self._frames = Frames(arch, life)
        self._order = "<" if arch.byteorder == "little" else ">"
        self._exited = exited
        self._last = 0
        self._open: set[int] = set()  # requests whose answers are still to come
        self._given_up: set[int] = set()  # the same, but nobody waits for them any more
        self._answers: dict[int, Answer] = {}
        self._messages: list[KernelMessage] = []
        self._heard: int | None = None  # the number of the last one
        self._missing = False  # whether some before the next one are known to be
        self.lost = 0  # messages that nobody will ever see: so many, or more
        self.ready = False

    def pack(self, what: Record | int) -> bytes:
        """Pack a struct of rootfs/wire.h, or a number that stands alone, in the guest's byte order."""
        return what.pack(self._order) if isinstance(what, Record) else struct.pack(f"{self._order}Q", what)

    def request(self, kind: FrameType, payload: bytes = b"") -> int:
        """Send a request; return its id. Raises what the channel's send does."""
        self._last += 1
        self._open.add(self._last)
        self._channel.send(self._frames.encode(kind, self._last, payload))
        return self._last

    def arrived(self, ident: int) -> bool:
        """Whether the answer is there already."""
        return ident in self._answers

    def wait(self, ident: int, deadline: float) -> Answer:
        """Wait for the answer to a request and take it.

        Raises AgentError for nonsense, and what the channel's receive does.
        """
        while ident not in self._answers:
            for frame in self._frames.feed(self._channel.receive(deadline)):
                self._dispatch(*frame)
        return self._answers.pop(ident)

    def ask(self, kind: FrameType, payload: bytes, timeout: float) -> Reader:
        """Send a request, return its ANSWER. Raises Refused when the agent says no; else like wait()."""
        ident = self.request(kind, payload)
        try:
            answer, body = self.wait(ident, time.monotonic() + timeout)
        except BaseException:
            self.give_up(ident)
            raise
        if answer is FrameType.ERROR:
            raise Refused(f"the agent refuses a {kind.name} request: {Reader(body, self.arch).text()}")
        if answer is not FrameType.ANSWER:
            raise AgentError(f"the agent answers a {kind.name} request with {answer.name}")
        return Reader(body, self.arch)

    def give_up(self, ident: int) -> None:
        """Let an answer that may still come be ignored."""
        if self._answers.pop(ident, None) is None and ident in self._open:
            self._open.discard(ident)
            self._given_up.add(ident)

    def waited(self) -> float:
        """Return the seconds that a busy host has kept the guest waiting so far."""
        return self._channel.waited()

    def messages(self) -> list[KernelMessage]:
        """Take what the kernel printed before the last frame that was received."""
        taken, self._messages = self._messages, []
        return taken

    def _dispatch(self, kind: FrameType, ident: int, payload: bytes) -> None:
        match kind:
            case FrameType.READY:
                self._greet(Reader(payload, self.arch))
            case FrameType.MESSAGES:
                reader = Reader(payload, self.arch)
                while reader.left:
                    self._hear(reader.padded())
            case FrameType.EXIT:
                reader = Reader(payload, self.arch)
                notice = reader.record(ExitNotice)
                reader.end()
                self._exited(notice.number, notice.status, notice.pid)
            case FrameType.ANSWER | FrameType.DONE | FrameType.ERROR:
                self._keep(kind, ident, payload)
            case _:
                raise AgentError(f"the agent sends a {kind.name} frame, which only the host may")

    def _hear(self, record: bytes) -> None:
        """Take a record of the kernel's log; an empty one says that some are missing here."""
        if not record:
            self._missing = True
            return
        message = parse_record(record)
        gap = 0 if self._heard is None else message.sequence - self._heard - 1
        self.lost += max(gap, int(self._missing))
        self._heard, self._missing = message.sequence, False
        self._messages.append(message)

    def _greet(self, reader: Reader) -> None:
        ready = reader.record(Ready)
        reader.end()
        check_protocol(ready.protocol)
        self.ready = True

    def _keep(self, kind: FrameType, ident: int, payload: bytes) -> None:
        if ident in self._given_up:
            self._given_up.discard(ident)
        elif ident in self._open:
            self._open.discard(ident)
            self._answers[ident] = (kind, payload)
        elif kind is FrameType.ERROR:
            raise AgentError(f"the agent complains: {Reader(payload, self.arch).text()}")
        else:
            raise AgentError(f"the agent answers request {ident}, which nobody made or which was answered")


def check_protocol(protocol: int) -> None:
    """Raise AgentError when the agent speaks another version than we do."""
    if protocol != PROTOCOL:
        raise AgentError(
            f"the agent speaks protocol {protocol}, this lab {PROTOCOL}",
            hint="the template is of another version of the lab: `lab clean` removes it",
        )
