# SPDX-License-Identifier: MIT
"""What long work tells: a line that changes on a terminal, plain lines elsewhere, nothing when quiet."""

from __future__ import annotations

import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Unit = Literal["", "bytes"]


class Task:
    """One piece of work under way; safe to call from several threads."""

    def __init__(
        self, text: str = "", total: float | None = None, changed: Callable[[Task], None] | None = None
    ) -> None:
        self.text = text
        self.done = 0.0
        self.whole = total
        self._changed = changed

    def advance(self, amount: float) -> None:
        """Say that `amount` more of the total is done; negative when work has to be done again."""
        self.done += amount
        if self._changed is not None:
            self._changed(self)

    def total(self, amount: float) -> None:
        """Say how much there is to do, once it is known."""
        self.whole = amount

    def line(self) -> str:
        """Return what it is and how far it has come."""
        if not self.whole or not 0 < self.done <= self.whole:
            return self.text
        return f"{self.text} {self.done / self.whole:.0%}"


class Progress:
    """Where work is announced; safe to use from several threads.

    `stream` is where it goes (sys.stderr when None); `fresh` is called before anything is written there, to
    end a line that somebody else has begun.
    """

    def __init__(
        self,
        stream: TextIO | None = None,
        *,
        quiet: bool = False,
        fresh: Callable[[], object] = lambda: None,
    ) -> None:
        self._stream = stream
        self._quiet = quiet
        self._fresh = fresh
        self._lock = threading.Lock()
        self._live: Any | None = None  # rich's, while work is under way
        self._tasks: list[Task] = []
        self._since = 0.0

    @contextmanager
    def task(self, text: str, total: float | None = None, *, unit: Unit = "") -> Iterator[Task]:  # noqa: ARG002 - what total is in, for those who show it
        """Announce a piece of work for as long as the block lasts; `total` in `unit`, None when unknown."""
        if self._quiet:
            yield Task()
        elif not self._out().isatty():
            self._line(f"{text} ...")
            yield Task()
        else:
            task = Task(text, total)
            self._show(task)
            try:
                yield task
            finally:
                self._hide(task)

    def note(self, text: str) -> None:
        """Tell the user something once, above the line."""
        if self._quiet:
            return
        with self._lock:
            live = self._live
        if live is not None:
            live.console.print(text, markup=False, highlight=False)
        else:
            self._line(text)

    def close(self) -> None:
        """Let go of what it holds, which is nothing here."""

    def _out(self) -> TextIO:
        return self._stream if self._stream is not None else sys.stderr

    def _line(self, text: str) -> None:
        with self._lock:
            self._fresh()
            self._out().write(f"{text}\n")
            self._out().flush()

    def _show(self, task: Task) -> None:
        with self._lock:
            self._tasks.append(task)
            if self._live is None:
                self._fresh()
                self._since = time.monotonic()
                self._live = _new_live(self._out(), self.line)
                self._live.start()

    def _hide(self, task: Task) -> None:
        with self._lock:
            self._tasks.remove(task)
            if not self._tasks and self._live is not None:
                self._live.stop()
                self._live = None

    def line(self) -> str:
        """Return what is under way, the oldest first."""
        tasks = list(dict.fromkeys(task.line() for task in list(self._tasks)))
        return f"{time.monotonic() - self._since:3.0f} s  {'; '.join(tasks)}"


def _new_live(stream: TextIO, line: Callable[[], str]) -> Any:
    # Importing rich costs more than a warm run has to do, and a warm run has nothing to announce.
    from rich.console import Console  # noqa: PLC0415 - see above
    from rich.live import Live  # noqa: PLC0415 - see above
    from rich.text import Text  # noqa: PLC0415 - see above

    return Live(
        get_renderable=lambda: Text(line(), no_wrap=True, overflow="ellipsis"),
        console=Console(file=stream),
        transient=True,
        refresh_per_second=5,
        redirect_stdout=False,
        redirect_stderr=False,
    )
