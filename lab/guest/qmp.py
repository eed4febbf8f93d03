# SPDX-License-Identifier: MIT
"""QMP for callers without an event loop: one background thread serves the connections of all guests."""

from __future__ import annotations

import asyncio
import atexit
import logging
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from qemu.qmp import ConnectError, EventListener, ExecuteError, QMPClient, QMPError, Runstate

from lab.errors import GuestHung, GuestLost, HostError

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Coroutine, Mapping
    from concurrent.futures import Future

T = TypeVar("T")
Event = dict[str, Any]

# A guest that is killed ends its connection in the middle; that is no news for anybody's log.
logging.getLogger("qemu.qmp").setLevel(logging.CRITICAL)


class _Background:
    """The thread with the event loop, started at first use; it lives as long as the process."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def loop(self) -> asyncio.AbstractEventLoop:
        with self._mutex:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                thread = threading.Thread(target=self._loop.run_forever, name="chanlab-qmp", daemon=True)
                thread.start()
                atexit.register(_end, self._loop, thread)
            return self._loop


def _end(loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> None:
    """End the background thread in order: connections that nobody closed would complain otherwise."""

    async def cancel() -> None:
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.wait_for(asyncio.gather(*rest, return_exceptions=True), 1.0)

    with suppress(TimeoutError):
        asyncio.run_coroutine_threadsafe(cancel(), loop).result(2.0)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(2.0)


_background = _Background()


def run(work: Coroutine[Any, Any, T], timeout: float | None = None) -> T:
    """Run a coroutine in the background thread and return its result; TimeoutError after `timeout` s."""
    future = begin(work)
    try:
        return future.result(timeout)
    except BaseException:
        future.cancel()
        raise


def begin(work: Coroutine[Any, Any, T]) -> Future[T]:
    """Start a coroutine in the background thread, for a result later."""
    return asyncio.run_coroutine_threadsafe(work, _background.loop())


class Qmp:
    """One guest's monitor. The methods named *_async belong to the background thread, others to callers."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._client = QMPClient()
        self._changed: asyncio.Event | None = None
        self._listening: asyncio.Task[None] | None = None
        self._listener: EventListener | None = None
        self.events: list[Event] = []  # what happened so far, the oldest first
        self.on_event: Callable[[Event], None] | None = None  # called in the background thread
        self.connected = False

    async def connect_async(self) -> None:
        """Greet QEMU; raises GuestLost when it is gone."""
        self._changed = asyncio.Event()
        try:
            await self._client.connect(self._sock)
        except (ConnectError, OSError, EOFError) as error:
            raise GuestLost(f"QEMU ended before it answered on its monitor: {error}") from error
        self.connected = True
        self._listener = self._client.events
        self._listening = asyncio.create_task(self._listen(self._listener))

    async def _listen(self, listener: EventListener) -> None:
        assert self._changed is not None
        async for event in listener:
            self.events.append(dict(event))
            self._changed.set()
            if self.on_event is not None:
                self.on_event(dict(event))

    async def take_events_async(self) -> list[Event]:
        """Return all events that came before the last answer, and forget them: another guest begins."""
        # The listener may not have come to them; each goes into the list either there or here.
        waiting = self._listener.clear() if self._listener is not None else []
        taken, self.events[:] = [*self.events, *map(dict, waiting)], []
        return taken

    async def execute_async(self, command: str, arguments: Mapping[str, object] | None = None) -> Any:
        """Make QEMU do something; raises HostError when it refuses, GuestLost when it is gone."""
        try:
            return await self._client.execute(command, arguments)
        except ExecuteError as error:
            raise HostError(f"QEMU refuses {command}: {error}") from error
        except (QMPError, OSError, EOFError) as error:
            raise GuestLost(f"QEMU ended during {command}") from error

    async def wait_async(self, wanted: Callable[[Event], bool], *, since: int = 0) -> Event:
        """Return the first event that is wanted; raises GuestLost when QEMU is gone.

        `since`: how many of the past events are of no interest, for what may happen more than once.
        """
        assert self._changed is not None
        seen = since
        while True:
            for event in self.events[seen:]:
                seen += 1
                if wanted(event):
                    return event
            if self._client.runstate is not Runstate.RUNNING:
                raise GuestLost("QEMU ended")
            self._changed.clear()
            both = [asyncio.ensure_future(self._changed.wait()), asyncio.ensure_future(self._ended())]
            try:
                await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for each in both:
                    each.cancel()

    async def _ended(self) -> None:
        await self._client.runstate_changed()

    async def close_async(self) -> None:
        """Let go of the connection, which may be dead already."""
        if self.connected:
            self.connected = False
            with suppress(Exception):  # how a killed QEMU's connection ended is of no interest
                await self._client.disconnect()
        if self._listening is not None:
            self._listening.cancel()
        self._sock.close()

    def execute(
        self, command: str, arguments: Mapping[str, object] | None = None, *, timeout: float = 10.0
    ) -> Any:
        """Make QEMU do something; as execute_async(), and GuestHung when it does not answer in time."""
        try:
            return run(self.execute_async(command, arguments), timeout)
        except TimeoutError:
            raise GuestHung(f"QEMU did not answer {command} within {timeout:g} s") from None

    def human(self, command: str, *, index: int = 0, timeout: float = 10.0) -> str:
        """Return what the human monitor prints for a command, seen from CPU number `index`."""
        arguments = {"command-line": command, "cpu-index": index}
        text = self.execute("human-monitor-command", arguments, timeout=timeout)
        return str(text).replace("\r\n", "\n")
