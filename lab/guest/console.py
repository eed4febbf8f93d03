# SPDX-License-Identifier: MIT
"""The guest's serial console: kept for people and for splats, never used to control anything."""

from __future__ import annotations

import fcntl
import os
import re
from contextlib import suppress
from typing import TYPE_CHECKING

import pexpect
from pexpect.fdpexpect import fdspawn

if TYPE_CHECKING:
    from pathlib import Path

_LINE = re.compile(r"[^\n]*\n")
_PANIC = re.compile(r"(?:\[ *\d+\.\d+\] ?(?:\[ *[TC]\d+\] ?)?)?Kernel panic - not syncing")
# Room for what a guest prints while nobody looks; when it is full, the guest's serial port waits.
_PIPE_BYTES = 256 * 1024
_MOST_LINES = 20_000  # a guest may print without end; its first and last words matter most


def console_pipe() -> tuple[int, int]:
    """Return the (reading, writing) ends of a pipe with room enough for a console."""
    reading, writing = os.pipe()
    # Refused above the user's share of pipe memory: the usual 64 KiB do too, then.
    with suppress(OSError):
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    return reading, writing


class Console:
    """Reads one end of a pipe, whenever it is told to, and keeps every line; optionally in a file too."""

    def __init__(self, descriptor: int, log: Path | None = None) -> None:
        self._descriptor = descriptor
        # Whatever a guest prints is shown somehow: no byte of it may raise.
        self._child = fdspawn(
            descriptor, encoding="utf-8", codec_errors="replace", timeout=0, maxread=4096, use_poll=True
        )
        self._log = log.open("w", encoding="utf-8", errors="replace") if log is not None else None
        self._lines: list[str] = []
        self._dropped = 0  # lines cut out of the middle of _lines
        self._new = 0  # how many lines, dropped ones included, new_lines() has handed out
        # The last line that says so. A test may print one itself: it names a death, it does not prove one.
        self.panic: str | None = None
        self.ended = False  # QEMU has closed its end: all is there

    def fileno(self) -> int:
        """Return the descriptor, for poll()."""
        return self._descriptor

    def drain(self) -> None:
        """Take in what has been printed; does not wait."""
        while not self.ended:
            found = self._child.expect([_LINE, pexpect.EOF, pexpect.TIMEOUT], timeout=0)
            if found == 0:
                self._line(str(self._child.after))
            elif found == 1:
                self._line(str(self._child.before or ""))
                self.ended = True
            else:
                return

    def _line(self, raw: str) -> None:
        if not raw:
            return
        line = raw.strip("\r\n")
        if self._log is not None:
            self._log.write(line + "\n")
            self._log.flush()
        if _PANIC.match(line):
            self.panic = line
        self._lines.append(line)
        if len(self._lines) > _MOST_LINES:
            middle = _MOST_LINES // 4
            cut = _MOST_LINES // 2
            del self._lines[middle : middle + cut]
            self._dropped += cut

    def lines(self) -> list[str]:
        """Return all lines so far; where there were too many, one says how many are missing in the middle."""
        if not self._dropped:
            return list(self._lines)
        middle = _MOST_LINES // 4
        note = f"[{self._dropped} lines are not kept]"
        return [*self._lines[:middle], note, *self._lines[middle:]]

    def new_lines(self) -> list[str]:
        """Return the lines that came since this was last asked."""
        count = self._dropped + len(self._lines) - self._new
        self._new += count
        return self._lines[-count:] if count else []

    def text(self) -> str:
        """Return all lines as one text, with an unfinished last one."""
        rest = "" if self.ended else str(self._child.buffer or "").strip("\r\n")
        return "\n".join([*self.lines(), *([rest] if rest else [])])

    def tail(self, count: int = 40) -> str:
        """Return the last lines as one text."""
        return "\n".join(self.text().splitlines()[-count:])

    def handed_on(self) -> Console:
        """Return a console for the next guest of the same QEMU; this one keeps its lines and reads no more.

        Only while the guest is stopped: what it printed is all taken in before.
        """
        self.drain()
        self._line(str(self._child.buffer or ""))
        following = Console(self._descriptor)
        following.ended = self.ended
        self._descriptor = -1
        self.close()
        return following

    def close(self) -> None:
        """Close the pipe and the file."""
        if self._log is not None:
            self._log.close()
            self._log = None
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        self.ended = True
