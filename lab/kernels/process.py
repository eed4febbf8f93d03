# SPDX-License-Identifier: MIT
"""Running the programs of a root: everything they say, and nothing of them left behind."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import tempfile
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from lab.errors import HostError, LabError
from lab.store.disk import free_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

_GRACE_SECONDS = 3.0
_FULL = os.strerror(errno.ENOSPC)  # as compilers and patch say it, with LC_ALL=C
_lock = threading.Lock()
_running: set[subprocess.Popen[bytes]] = set()
_ended: set[subprocess.Popen[bytes]] = set()


def run(
    argv: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    stdin: bytes | None = None,
    keep: tuple[int, ...] = (),
    on_line: Callable[[str], None] | None = None,
    seconds: float | None = None,
) -> tuple[int, str]:
    """Run a program and return its status with all that it and its children said, in order.

    The program and all that it starts are a process group of their own, which is ended when anything is
    raised meanwhile (Ctrl+C in particular): make removes half-made files when it is told to end. Descriptors
    in `keep` stay open in it, so that a lock outlives this process as long as the work does. `on_line` is
    called with each line as it is said, by a program that is given no stdin. One that takes more than
    `seconds`, which are not for `on_line`, is ended. Raises OSError when it cannot be started,
    subprocess.TimeoutExpired when it took too long, LabError when end_all() ended it, HostError when it
    failed for a full disk.
    """
    with _lock:
        process = subprocess.Popen(
            argv,
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=keep,
        )
        _running.add(process)
    try:
        output = process.communicate(stdin, seconds)[0] if on_line is None else _listen(process, on_line)
    except BaseException:
        _end(process)
        raise
    finally:
        with _lock:
            _running.discard(process)
            ended = process in _ended
            _ended.discard(process)
    if ended:
        raise LabError("interrupted", hint="start again: what was complete is kept")
    text = output.decode("utf-8", "replace")
    if process.returncode and _FULL in text:
        raise no_space(next(line for line in text.splitlines() if _FULL in line).strip())
    return process.returncode, text


def no_space(said: str) -> HostError:
    """Return the error of a disk that is full, in the words of whoever met it."""
    place = Path(os.environ.get("TMPDIR") or tempfile.gettempdir())  # the latter passes over a full one
    return HostError(
        f"no space is left: {said}",
        hint=f"temporary files are in {place} ({free_bytes(place) / 1e6:.0f} MB free): free some there, "
        "or set TMPDIR to another directory",
    )


@contextmanager
def scratch_directory(prefix: str) -> Iterator[Path]:
    """Give a directory for temporary files; raises HostError where there is no space for them."""
    try:
        with tempfile.TemporaryDirectory(prefix=prefix) as name:
            yield Path(name)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise no_space(str(error.strerror)) from error


def _listen(process: subprocess.Popen[bytes], on_line: Callable[[str], None]) -> bytes:
    assert process.stdout is not None
    said = []
    with process.stdout as lines:
        for line in lines:
            said.append(line)
            on_line(line.decode("utf-8", "replace").rstrip("\n"))
    process.wait()
    return b"".join(said)


def end_all() -> None:
    """End all programs that threads wait for, which get a LabError: Ctrl+C reaches the main thread only."""
    with _lock:
        for process in _running:
            _ended.add(process)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)


def end_at_once() -> None:
    """End all programs without a word to who waits for them: this process ends next. For signal handlers."""
    for process in tuple(_running):  # no lock: who holds it may be who was interrupted
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)


def _end(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(_GRACE_SECONDS)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


def usable_cpus() -> int:
    """Return how many CPUs this process may use."""
    return len(os.sched_getaffinity(0))
