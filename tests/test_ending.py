# SPDX-License-Identifier: MIT
"""Who is told to end ends at once, with all that was started, and without a traceback."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import textwrap
from contextlib import suppress
from pathlib import Path

import pytest

HOUSE = Path(__file__).resolve().parent.parent
LONG = 60  # seconds: nothing here waits for them
PROGRAM = f"""
    import os, signal, subprocess, threading, time
    from pathlib import Path
    from lab.kernels import process
    from lab.plugin.ending import end_at_once

    signal.signal(signal.SIGINT, signal.default_int_handler)  # who tests may have been started deaf to it
    end_at_once(worker=WORKER)
    one = subprocess.Popen(["sleep", "{LONG}"])
    here = dict(cwd=Path("/"), env=dict(os.environ))
    threading.Thread(target=process.run, args=(["sleep", "{LONG}"],), kwargs=here, daemon=True).start()
    while not process._running:
        time.sleep(0.01)
    try:
        print(one.pid, next(iter(process._running)).pid, flush=True)
        time.sleep({LONG})
    except KeyboardInterrupt:
        print("tidying up", flush=True)
        time.sleep({LONG})
"""


OWN_MIND = """
    import signal
    from lab.plugin.ending import end_at_once

    mine = lambda *_: None
    signal.signal(signal.SIGTERM, mine)
    signal.signal(signal.SIGINT, mine)
    end_at_once(worker=False)
    print(signal.getsignal(signal.SIGTERM) is mine, signal.getsignal(signal.SIGINT) is mine)
"""


class Told:
    """A program that has started two others and sleeps."""

    def __init__(self, *, worker: bool) -> None:
        self.popen = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(PROGRAM).replace("WORKER", str(worker))],
            cwd=HOUSE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started = [os.pidfd_open(int(pid)) for pid in self.line().split()]

    def line(self) -> str:
        assert self.popen.stdout is not None
        return self.popen.stdout.readline()

    def wait(self) -> tuple[int, str]:
        """Wait for its end; return its status and what it said as an error."""
        _, said = self.popen.communicate(timeout=LONG / 2)
        return self.popen.returncode, said

    def all_gone(self) -> bool:
        return all(select.select([fd], [], [], LONG / 2)[0] for fd in self.started)

    def close(self) -> None:
        for fd in self.started:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(fd, signal.SIGKILL)
            os.close(fd)
        self.popen.kill()
        self.popen.communicate()


@pytest.mark.parametrize("worker", [False, True])
def test_told_to_end(worker: bool) -> None:
    told = Told(worker=worker)
    try:
        told.popen.send_signal(signal.SIGTERM)
        assert told.wait() == (-signal.SIGTERM, "")
        assert told.all_gone()
    finally:
        told.close()


def test_interrupted_twice() -> None:
    told = Told(worker=False)
    try:
        told.popen.send_signal(signal.SIGINT)
        assert told.line() == "tidying up\n"
        told.popen.send_signal(signal.SIGINT)
        assert told.wait() == (-signal.SIGINT, "\nchanlab: ended at once, as asked\n")
        assert told.all_gone()
    finally:
        told.close()


def test_who_has_a_mind_of_its_own_keeps_it() -> None:
    told = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(OWN_MIND)],
        cwd=HOUSE,
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout == "True True\n"
