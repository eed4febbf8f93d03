# SPDX-License-Identifier: MIT
"""The progress of several processes as one: workers tell the process that has the terminal what they do."""

from __future__ import annotations

import itertools
import json
import shutil
import socket
import tempfile
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.progress import Progress, Task

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab.progress import Unit

SOON, LATE = 0.3, 3.0  # seconds after which work is worth a word: before the first verdict, and after it
_WAITING = "waiting for another run"  # which may be the process that has the terminal
_WAITS_SECONDS = 10.0  # until that is worth a word
_TELL_SECONDS = 0.2
_LONGEST = 4096  # bytes of a message


class Remote(Progress):
    """A worker's: what it says goes to a Hub."""

    def __init__(self, address: str, worker: str) -> None:
        """Speak as `worker` to the hub at an address; raises OSError when nobody is there."""
        super().__init__(quiet=True)
        self._worker = worker
        self._numbers = itertools.count()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(1.0)
        try:
            self._socket.connect(address)
        except OSError:
            self._socket.close()
            raise

    @contextmanager
    def task(self, text: str, total: float | None = None, *, unit: Unit = "") -> Iterator[Task]:  # noqa: ARG002 - as in Progress
        """Announce a piece of work for as long as the block lasts."""
        number = next(self._numbers)
        told = 0.0

        def changed(task: Task) -> None:
            nonlocal told
            if time.monotonic() - told > _TELL_SECONDS:
                told = time.monotonic()
                self._tell(number=number, done=task.done, total=task.whole)

        self._tell(number=number, text=text, total=total)
        try:
            yield Task(text, total, changed)
        finally:
            self._tell(number=number, end=True)

    def note(self, text: str) -> None:
        """Tell the user something once, whoever else says it."""
        self._tell(note=text)

    def close(self) -> None:
        """Say no more."""
        self._socket.close()

    def _tell(self, **words: Any) -> None:
        with suppress(OSError):  # the other process has ended; this one will soon
            self._socket.send(json.dumps({"worker": self._worker, **words}).encode()[:_LONGEST])


@dataclass
class _Work:
    """What a worker is doing."""

    text: str
    since: float  # time.monotonic()
    total: float | None = None
    done: float = 0.0
    shown: ExitStack = field(default_factory=ExitStack)
    task: Task | None = None  # once it is shown


class Hub:
    """Shows what workers say by a Progress; close it."""

    def __init__(self, progress: Progress) -> None:
        """Begin to listen at `address`."""
        self._progress = progress
        self._place = Path(tempfile.mkdtemp(prefix="chanlab-"))  # nobody else may speak
        self.address = str(self._place / "progress")
        self.patience = SOON
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address)
        self._socket.settimeout(SOON / 2)
        self._works: dict[tuple[str, int], _Work] = {}
        self._notes: set[str] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="chanlab-progress", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Show no more."""
        self._stop.set()
        self._thread.join()
        self._socket.close()
        shutil.rmtree(self._place, ignore_errors=True)

    def _run(self) -> None:
        while not self._stop.is_set():
            with suppress(TimeoutError, ValueError):
                self.take(json.loads(self._socket.recv(_LONGEST)), time.monotonic())
            self.show(time.monotonic())
        for work in self._works.values():
            work.shown.close()

    def forget(self, worker: str) -> None:
        """Take a worker's end for the end of all that it did."""
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as own:
            own.sendto(json.dumps({"worker": worker, "gone": True}).encode(), self.address)

    def take(self, said: dict[str, Any], now: float) -> None:
        """Take in one message."""
        worker = said["worker"]
        if "note" in said:
            if said["note"] not in self._notes:
                self._notes.add(said["note"])
                self._progress.note(said["note"])
        elif "gone" in said:
            for key in [key for key in self._works if key[0] == worker]:
                self._works.pop(key).shown.close()
        elif "text" in said:
            self._works[worker, said["number"]] = _Work(said["text"], now, said["total"])
        elif (work := self._works.get((worker, said["number"]))) is None:
            return
        elif "end" in said:
            self._works.pop((worker, said["number"])).shown.close()
        else:
            if work.task is not None:
                work.task.advance(said["done"] - work.done)
            work.done, work.total = said["done"], said["total"]

    def show(self, now: float) -> None:
        """Show what has lasted long enough; a worker that waits for another one says nothing new."""
        busy = any(not work.text.startswith(_WAITING) for work in self._works.values())
        for work in self._works.values():
            waits = work.text.startswith(_WAITING)
            patience = max(self.patience, _WAITS_SECONDS) if waits else self.patience
            if work.task is None and now - work.since >= patience and not (waits and busy):
                work.task = work.shown.enter_context(self._progress.task(work.text, work.total))
                work.task.advance(work.done)


__all__ = ["LATE", "SOON", "Hub", "Remote"]
