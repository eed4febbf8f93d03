# SPDX-License-Identifier: MIT
"""Who is told to end ends at once: SIGTERM, or Ctrl+C a second time.

pytest and xdist know nothing of SIGTERM: the process that is told dies, its workers go on until they notice,
and so do compilers, which are process groups of their own. A second Ctrl+C would strike pytest's tidying up,
and show where.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType

_SAID = b"\nchanlab: ended at once, as asked\n"


def end_at_once(*, worker: bool) -> None:
    """Let this process obey, from now on. A process that has its own mind about these signals keeps it.

    `worker`: it is one of xdist's, whose controller hears of Ctrl+C.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _end)
    if not worker and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _first)


def _first(number: int, frame: FrameType | None) -> None:
    """Interrupt, as ever; the next time it is serious."""
    signal.signal(signal.SIGINT, _end)
    signal.default_int_handler(number, frame)


def _end(number: int, _frame: FrameType | None) -> None:
    """End what we have started, and ourselves by the signal that told us to."""
    running = sys.modules.get("lab.kernels.process")
    if running is not None:
        running.end_at_once()
    for child in _children():
        with suppress(OSError):
            os.kill(child, signal.SIGTERM)
    if number == signal.SIGINT:
        with suppress(OSError):
            os.write(2, _SAID)
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _children() -> list[int]:
    """Return our children: proc_pid_task(5). Those of QEMU's kind die with us besides."""
    found: list[int] = []
    with suppress(OSError):
        for task in Path("/proc/self/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    return found
