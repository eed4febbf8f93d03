# SPDX-License-Identifier: MIT
"""What long work tells the user: bars on a terminal, one plain line elsewhere, nothing when quiet."""

from __future__ import annotations

import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterator

Unit = Literal["", "bytes"]


class Task:
    """One piece of work under way; safe to call from several threads."""

    def __init__(self, bars: Any | None = None, ident: Any | None = None) -> None:
        self._bars = bars
        self._ident = ident

    def advance(self, amount: float) -> None:
        """Say that `amount` more of the total is done; negative when work has to be done again."""
        if self._bars is not None:
            self._bars.advance(self._ident, amount)

    def total(self, amount: float) -> None:
        """Say how much there is to do, once it is known."""
        if self._bars is not None:
            self._bars.update(self._ident, total=amount)


class Progress:
    """Where work is announced; safe to use from several threads.

    `stream` is where it goes (sys.stderr when None); bars are drawn when that is a terminal.
    """

    def __init__(self, stream: TextIO | None = None, *, quiet: bool = False) -> None:
        self._stream = stream
        self._quiet = quiet
        self._lock = threading.Lock()
        self._bars: Any | None = None  # rich.progress.Progress while work is under way
        self._tasks = 0

    @contextmanager
    def task(self, text: str, total: float | None = None, *, unit: Unit = "") -> Iterator[Task]:
        """Announce a piece of work for as long as the block lasts; `total` in `unit`, None when unknown."""
        if self._quiet:
            yield Task()
        elif not self._out().isatty():
            self._line(f"{text} ...")
            yield Task()
        else:
            bars = self._start()
            ident = bars.add_task(text, total=total, unit=unit)
            try:
                yield Task(bars, ident)
            finally:
                bars.remove_task(ident)
                self._stop()

    def note(self, text: str) -> None:
        """Tell the user something once, above the bars."""
        if self._quiet:
            return
        with self._lock:
            bars = self._bars
        if bars is not None:
            bars.console.print(text, markup=False, highlight=False)
        else:
            self._line(text)

    def _out(self) -> TextIO:
        return self._stream if self._stream is not None else sys.stderr

    def _line(self, text: str) -> None:
        with self._lock:
            self._out().write(f"{text}\n")
            self._out().flush()

    def _start(self) -> Any:
        with self._lock:
            self._tasks += 1
            if self._bars is None:
                self._bars = _new_bars(self._out())
                self._bars.start()
            return self._bars

    def _stop(self) -> None:
        with self._lock:
            self._tasks -= 1
            if self._tasks == 0 and self._bars is not None:
                self._bars.stop()
                self._bars = None


def _new_bars(stream: TextIO) -> Any:
    # Importing rich costs more than a warm run has to do, and a warm run has nothing to announce.
    from rich.console import Console  # noqa: PLC0415 - see above
    from rich.filesize import decimal  # noqa: PLC0415 - see above
    from rich.progress import BarColumn, ProgressColumn, TextColumn, TimeElapsedColumn  # noqa: PLC0415 - see above
    from rich.progress import Progress as Bars  # noqa: PLC0415 - see above
    from rich.progress import Task as Bar  # noqa: PLC0415 - see above
    from rich.text import Text  # noqa: PLC0415 - see above

    class Amount(ProgressColumn):
        def render(self, task: Bar) -> Text:
            if task.total is None:
                return Text("")
            show = decimal if task.fields["unit"] == "bytes" else lambda number: f"{number:g}"
            return Text(f"{show(int(task.completed))}/{show(int(task.total))}")

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), Amount(), TimeElapsedColumn())
    return Bars(*columns, console=Console(file=stream), transient=True)
