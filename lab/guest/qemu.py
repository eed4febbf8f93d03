# SPDX-License-Identifier: MIT
"""A QEMU: which one to start, and one that runs, with the descriptors that lead to it."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lab.errors import GuestLost, HostError, UsageError
from lab.guest import argv, qmp
from lab.guest.argv import Qemu
from lab.guest.console import Console, console_pipe
from lab.store.cache import digest, file_digest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from lab.arch import Architecture
    from lab.progress import Progress
    from lab.settings import Settings
    from lab.store.cache import Cache

PANIC_SECONDS = 2.0
_CHUNK = 256 * 1024
_TROUBLE = frozenset({"GUEST_PANICKED", "GUEST_CRASHLOADED", "SHUTDOWN", "RESET", "WATCHDOG"})
running: set[int] = set()  # the process ids of this process' QEMUs
_LAST_LOOKS, _LAST_PAUSE = 20, 0.005  # for a QEMU that is just ending
_PDEATHSIG = ("--pdeathsig", "KILL", "--")
# Where no setpriv is at hand: PR_SET_PDEATHSIG is 1.
_PDEATHSIG_PYTHON = (
    "import ctypes, os, signal, sys; ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0); "
    "os.execv(sys.argv[1], sys.argv[1:])"
)


def qemu(settings: Settings, arch: Architecture, cache: Cache, progress: Progress) -> Qemu:
    """Return the lab's own QEMU for an architecture, or the one that the user wants instead.

    The lab's own is what `lab turbo` built where that is there, else Debian's.

    Raises UsageError when the user's cannot be started, FetchError or HostError when there is no own one.
    """
    if settings.qemu is not None:
        return users_qemu(settings.qemu)
    from lab.guest import turbo  # noqa: PLC0415 - not needed, and not paid for, with a user's QEMU
    from lab.kernels.roots import root  # noqa: PLC0415 - the same
    from lab.kernels.turbo import upstream  # noqa: PLC0415 - the same

    own = root("qemu", settings, cache, progress, target=arch)
    stock = Qemu(
        command=tuple(own.command(arch.qemu)),
        pdeathsig=(*own.command("setpriv"), *_PDEATHSIG),
        version=upstream(own.packages[arch.qemu_package]),
        digest=own.digest,
        firmware=tuple(own.path / directory for directory in arch.firmware),
    )
    if not settings.turbo:
        return stock
    return turbo.instead(stock, arch, own, cache, progress, check=users_qemu)


def users_qemu(path: Path) -> Qemu:
    """Return the QEMU at a path; raises UsageError when it does not say its version."""
    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        why = str(error)
        if isinstance(error, subprocess.CalledProcessError):
            said = error.stderr.strip().splitlines()
            why = f"`--version` ended with status {error.returncode}{f': {said[-1]}' if said else ''}"
        elif isinstance(error, subprocess.TimeoutExpired):
            why = f"`--version` did not end within {error.timeout:g} s"
        raise UsageError(
            f"{path} does not run: {why}", hint="give --qemu or CHANLAB_QEMU a qemu-system-* program"
        ) from error
    match = re.search(r"version (\d+(?:\.\d+)+)", done.stdout)
    if match is None:
        raise UsageError(f"{path} is no QEMU: `--version` prints {done.stdout[:80]!r}")
    setpriv = shutil.which("setpriv")
    pdeathsig = (setpriv, *_PDEATHSIG) if setpriv else (sys.executable, "-ISc", _PDEATHSIG_PYTHON)
    return Qemu((str(path),), pdeathsig, match[1], digest(done.stdout, file_digest(path)))


@dataclass
class Process:
    """A running QEMU; close() ends it and leaves nothing."""

    popen: subprocess.Popen[bytes]
    pidfd: int  # readable when QEMU has ended
    agent: socket.socket  # not blocking
    console: Console
    qmp: qmp.Qmp
    stderr: int  # a file without a name: what QEMU says is there even when nobody was reading
    command: Sequence[str]
    life: int = 1  # which one of its guests it is now

    @property
    def pid(self) -> int:
        """QEMU's process id."""
        return self.popen.pid

    def complaints(self) -> list[str]:
        """Return what QEMU wrote to its stderr, without the registers that `-d cpu_reset` shows."""
        text = os.pread(self.stderr, 1 << 20, 0).decode(errors="replace")
        return [line for line in text.splitlines() if line.strip() and not _REGISTERS.match(line)]

    def wait(self, timeout: float) -> bool:
        """Wait for QEMU's end; returns whether it has ended."""
        try:
            self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            return False
        return True

    def close(self) -> None:
        """Kill QEMU if it still runs, wait for it, and close what led to it."""
        self._end()
        with suppress(TimeoutError):
            qmp.run(self.qmp.close_async(), 5.0)

    async def close_async(self) -> None:
        """Do the work of close() in the background thread."""
        self._end()
        await self.qmp.close_async()

    async def rewind_async(self, state: Path) -> None:
        """Make of the guest what it was when `state` was written, in place; it stands still afterwards.

        What was under way to or from the guest is dropped. Raises HostError where this QEMU cannot do that
        or something happened to the guest after it was said to be well, GuestLost when QEMU is gone.
        """
        # Read once and kept by QEMU.
        await self.qmp.execute_async("x-rewind", {"filename": str(state)} if self.life == 1 else {})
        events = {event["event"] for event in await self.qmp.take_events_async()}
        self.life += 1
        while self._drop_some():
            pass
        self.console = self.console.handed_on()
        # A death is told by what was said since: `-d cpu_reset` adds 5 KB for each life, complaints() reads
        # 1 MiB. QEMU's descriptor is the same open file, with the same position.
        os.ftruncate(self.stderr, 0)
        os.lseek(self.stderr, 0, os.SEEK_SET)
        if events & _TROUBLE:
            raise HostError(f"after its end, a guest still had {', '.join(sorted(events & _TROUBLE))}")

    def _drop_some(self) -> bool:
        """Take bytes away that the last guest sent; False when there are no more."""
        try:
            if not self.agent.recv(_CHUNK):
                raise GuestLost("the agent's port is closed")
        except BlockingIOError:
            return False
        except OSError as error:
            raise GuestLost("the agent's port is broken") from error
        return True

    async def last_words_async(self) -> str:
        """Return what it complained of or how it ended; '' when it ran on and said nothing. Closes it."""
        for _ in range(_LAST_LOOKS):
            if self.popen.poll() is not None:
                break
            await asyncio.sleep(_LAST_PAUSE)
        ended = self.popen.poll()
        said = self.complaints() or ([how_it_ended(ended)] if ended is not None else [])
        await self.close_async()
        return "; ".join(said[-3:])

    def after_panic(self, event: dict[str, Any]) -> None:
        """Give a guest that panicked a moment to write out its console and restart; then it is ended."""
        if event["event"] == "GUEST_PANICKED":
            asyncio.get_running_loop().call_later(PANIC_SECONDS, self._kill)

    def _kill(self) -> None:
        if self.pidfd >= 0:  # still the same process: nobody has waited for it
            self.popen.kill()

    def _end(self) -> None:
        running.discard(self.pid)
        if self.popen.poll() is None:
            self.popen.kill()
            self.popen.wait()
        if self.pidfd >= 0:
            os.close(self.pidfd)
            os.close(self.stderr)
            self.pidfd = self.stderr = -1
            self.agent.close()
            self.console.drain()
            self.console.close()


# The dump of a CPU's registers: 'RAX=…', 'CS =0010 …', 'GDT=     …', 'CPU Reset (CPU 0)', 'XMM00=…'.
_REGISTERS = re.compile(r"(CPU Reset \(CPU|[A-Z0-9]{2,6} ?=|CCS=|Opmask|[YZ]MM)")


def start(
    spec: argv.BootSpec,
    role: argv.Role,
    *,
    ram: Path | None = None,
    log: Path | None = None,
    turns: bool = False,
) -> Process:
    """Start QEMU; raises HostError when that is impossible, GuestLost when it ends at once.

    The thread that starts it must live on: QEMU is killed when that thread is gone.
    """
    return qmp.run(start_async(spec, role, ram=ram, log=log, turns=turns), 60.0)


async def start_async(
    spec: argv.BootSpec,
    role: argv.Role,
    *,
    ram: Path | None = None,
    log: Path | None = None,
    stub: Path | None = None,
    turns: bool = False,
) -> Process:
    """Do the work of start() in the background thread, which lives as long as the process."""
    process = _spawn(spec, role, ram, log, stub, turns=turns)
    process.qmp.on_event = process.after_panic
    try:
        await process.qmp.connect_async()
    except BaseException as error:
        process.popen.kill()
        process.popen.wait()
        complaints = " / ".join(process.complaints())
        await process.close_async()
        if complaints and isinstance(error, Exception):
            raise HostError(
                f"QEMU {spec.qemu.version} does not start: {complaints}",
                hint="`lab doctor` tells more; --qemu chooses another one",
            ) from error
        raise
    return process


def _spawn(
    spec: argv.BootSpec,
    role: argv.Role,
    ram: Path | None,
    log: Path | None,
    stub: Path | None,
    *,
    turns: bool,
) -> Process:
    with ExitStack() as undo, ExitStack() as theirs:
        agent, agent_theirs = _pair(undo, theirs)
        monitor, monitor_theirs = _pair(undo, theirs)
        reading, writing = console_pipe()
        theirs.callback(os.close, writing)
        console = Console(reading, log)
        undo.callback(console.close)
        stderr = os.memfd_create("chanlab-qemu-stderr")
        undo.callback(os.close, stderr)
        wiring = argv.Wiring(agent_theirs.fileno(), monitor_theirs.fileno(), writing, ram, stub)
        command = argv.argv(spec, role, wiring, turns=turns)
        try:
            popen = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=stderr,
                stderr=stderr,
                pass_fds=(wiring.agent, wiring.qmp, wiring.console),
                # Ctrl+C in the terminal is the lab's to handle: it kills its QEMUs in order.
                process_group=0,
                # SIGINT and friends as they were born: a caller that ignores them must not hand that on.
                restore_signals=True,
            )
        except OSError as error:
            raise HostError(f"cannot start {command[0]}: {error.strerror or error}") from error
        undo.callback(popen.wait)
        undo.callback(popen.kill)
        pidfd = os.pidfd_open(popen.pid)
        agent.setblocking(False)
        process = Process(popen, pidfd, agent, console, qmp.Qmp(monitor), stderr, command)
        running.add(popen.pid)
        undo.pop_all()
    return process


def _pair(undo: ExitStack, theirs: ExitStack) -> tuple[socket.socket, socket.socket]:
    ours, other = socket.socketpair()
    undo.callback(ours.close)
    theirs.callback(other.close)
    return ours, other


def kill_all() -> None:
    """End all QEMUs of this process that run; whoever waits for one learns that it is lost."""
    for pid in tuple(running):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def how_it_ended(code: int) -> str:
    """Say in words what an exit status of QEMU's means."""
    if code >= 0:
        return f"QEMU ended with status {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"QEMU was killed by {name}"
