# SPDX-License-Identifier: MIT
"""A running guest: the agent's channel, how it stands, and why it died."""

from __future__ import annotations

import hashlib
import random
import re
import select
import signal
import time
from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

from lab.errors import AgentError, BootFailed, GuestHung, GuestLost, HostError
from lab.guest import percpu, pointers, qemu, timers
from lab.guest.agent import Agent
from lab.guest.patience import Patience, run_delay
from lab.guest.ram import CannotLook, mappings, private_memory
from lab.guest.symbols import Module, Symbols, parse_modules

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager

    from lab.guest.answers import Hello
    from lab.guest.argv import BootSpec, Role
    from lab.guest.console import Console
    from lab.guest.names import Names
    from lab.guest.ram import PrivateMemory

# A kernel that boots under TCG on a busy host takes its time; a dead one is noticed at once all the same.
BOOT_SECONDS = 120.0
_SEND_SECONDS = 30.0  # what the agent has not taken by then, it will not take
_CHUNK = 256 * 1024
# A guest that is not up yet and whose threads sleep at nearly every look waits for what will not come; one of
# its CPUs may still tick.
_LOOK_SECONDS = 0.25
_LOOKS = 40
_ASLEEP = 34  # of the last _LOOKS
_END_SECONDS = 2.0  # between the agent's port closing, or QEMU's last event, and QEMU's end


class _StandsStill(GuestHung):
    """A guest that boots sleeps, and waits for what will not come."""


class _QemuFailed(GuestLost):
    """QEMU crashed: one of its own mistakes, whatever the guest did."""


class Guest:
    """A guest whose QEMU runs; a context manager that leaves nothing behind.

    It is the channel of its agent: send() and receive() notice a death within milliseconds.
    """

    def __init__(self, process: qemu.Process, spec: BootSpec, *, restored: bool) -> None:
        self._process = process
        self._console = process.console
        self._spec = spec
        self.restored = restored
        self.hello: Hello | None = None
        self.names: Names | None = None  # before the modules came that it was made with
        self.timers: timers.Survey | None = None  # of its template, whose memory is the file `ram`
        self.ram: Path | None = None
        self._mapped: list[tuple[int, int, int]] | None = None  # where, once that was asked
        self.sections: Sequence[pointers.Section] = ()  # of the modules that it was made with
        self.changed: Sequence[int] = ()  # pages of `ram` that were written to since the first of them came
        self.agent = Agent(self, spec.arch, process.life)
        self.remark = ""  # what the user should know of how it came about
        self._patience = Patience(self.waited)
        self._modules: list[Module] = []
        # Whether it was, at each look before its agent answered.
        self._asleep: deque[bool] = deque(maxlen=_LOOKS)
        self._closed: str | None = None  # once closed: why it died, or that it did not
        self._poll = select.poll()
        self._poll.register(process.agent, select.POLLIN)
        self._poll.register(process.console.fileno(), select.POLLIN)
        self._poll.register(process.pidfd, select.POLLIN)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """QEMU's process id."""
        return self._process.pid

    @property
    def how(self) -> str:
        """How it came about: 'booted', 'clone', or 'in place' of another one."""
        if not self.restored:
            return "booted"
        return "in place" if self._process.life > 1 else "clone"

    @property
    def console(self) -> Console:
        """The serial console."""
        return self._console

    @property
    def process(self) -> qemu.Process:
        """The QEMU behind it."""
        return self._process

    def greet(self, *, seed: bytes, jitter_us: int = 0, timeout: float) -> Hello:
        """Say hello to the agent with the present time; raises what receive() does, and AgentError."""
        self._asleep.clear()
        self.hello = self.agent.hello(
            wall_clock_ns=time.time_ns(), seed=seed, jitter_us=jitter_us, timeout=timeout
        )
        return self.hello

    def send(self, data: bytes) -> None:
        """Send bytes to the agent; raises GuestLost when the guest is dead, GuestHung when it takes none."""
        self._patience.begin()
        rest = memoryview(data)
        deadline = time.monotonic() + _SEND_SECONDS
        while rest:
            try:
                rest = rest[self._process.agent.send(rest) :]
            except BlockingIOError:
                self._wait(deadline, select.POLLIN | select.POLLOUT, "the agent took no more of a message")
            except OSError as error:
                raise self._lost() from error

    def receive(self, deadline: float) -> bytes:
        """Return some bytes from the agent.

        Raises GuestLost when the guest is dead, and GuestHung when time.monotonic() passes the deadline.
        """
        while True:
            try:
                data = self._process.agent.recv(_CHUNK)
            except BlockingIOError:
                self._wait(deadline, select.POLLIN, "no answer from the agent in time")
                continue
            except OSError as error:
                raise self._lost() from error
            if not data:
                raise self._lost()
            return data

    def waited(self) -> float:
        """Return the seconds that QEMU has waited for a CPU of the host so far."""
        return run_delay(self.pid)

    def _wait(self, deadline: float, agent: int, why: str) -> None:
        """Wait until the agent's socket is ready, taking in the console meanwhile."""
        console = self._console
        self._poll.modify(self._process.agent, agent)
        while True:
            left = self._patience.left(deadline)
            look = left if self.hello is not None else min(left, _LOOK_SECONDS)
            ready = {fd for fd, _ in self._poll.poll(max(0.0, look) * 1000)}
            if console.fileno() in ready:
                console.drain()
                if console.ended:
                    self._poll.unregister(console.fileno())
            # What it said before it died is read first: the agent's socket goes before the death.
            if self._process.agent.fileno() in ready:
                return
            if self._process.pidfd in ready:
                raise self._lost()
            if left <= 0:
                raise GuestHung(why)
            if self.hello is None:
                self._asleep.append(not ready and all_asleep(self.pid))
                if sum(self._asleep) >= _ASLEEP:
                    raise _StandsStill(f"it stood still for {_LOOKS * _LOOK_SECONDS:g} s")

    def _lost(self) -> GuestLost:
        why = self.death()
        crashed = self._process.popen.returncode in (-signal.SIGABRT, -signal.SIGSEGV)
        return _QemuFailed(why) if crashed else GuestLost(why)

    def console_text(self) -> str:
        """Return all that the guest printed."""
        self._console.drain()
        return self._console.text()

    def new_console_lines(self) -> list[str]:
        """Return the console's lines that came since this was last asked."""
        self._console.drain()
        return self._console.new_lines()

    def alive(self) -> bool:
        """Return whether QEMU still runs."""
        return self._closed is None and self._process.popen.poll() is None

    def death(self) -> str:
        """Return why the guest died, in words; that it lives, if it does."""
        if self._closed is not None:
            return self._closed
        process = self._process
        if not process.wait(_END_SECONDS):
            return "the guest's port was closed, but QEMU still runs"
        process.console.drain()
        return describe_death(
            process.popen.returncode, self._last_event(), process.console.panic, process.complaints()
        )

    def _last_event(self) -> str:
        """Return 'guest-panic', or the reason of QEMU's SHUTDOWN event."""
        for _ in range(50):  # the background thread may be a moment behind
            events = {event["event"]: event.get("data", {}) for event in self._process.qmp.events}
            if "GUEST_PANICKED" in events:
                return "guest-panic"
            if "SHUTDOWN" in events:
                return str(events["SHUTDOWN"].get("reason", ""))
            if self._process.popen.returncode != 0:
                return ""  # who is killed says nothing
            time.sleep(0.002)
        return ""

    def learn_modules(self, timeout: float = 5.0) -> None:
        """Ask the guest where its modules are: one that hangs later cannot tell. Raises what run() does."""
        text = self.agent.read_file("/proc/modules", timeout).decode(errors="replace")
        self._modules = [self._with_code(module, timeout) for module in parse_modules(text)]

    def _with_code(self, module: Module, timeout: float) -> Module:
        try:
            text = self.agent.read_file(f"/sys/module/{module.name}/sections/.text", timeout)
            return replace(module, code=int(text, 16))
        except (OSError, ValueError):
            return module

    def _memory(self, ram: Path) -> AbstractContextManager[PrivateMemory]:
        """Give a view of its memory, which stays where it is mapped; raises CannotLook."""
        if self._mapped is None:
            try:
                self._mapped = mappings(self.pid, ram)
            except OSError as error:
                raise CannotLook(f"QEMU's memory cannot be looked at: {error}") from error
        return private_memory(self.pid, ram, self._mapped)

    def armed(self) -> dict[int, timers.Armed] | None:
        """Return the timers that are armed, by address; None where nobody can tell."""
        if self.timers is None or self.ram is None:
            return None
        try:
            with self._memory(self.ram) as memory:
                return timers.armed(self.timers, self._spec.arch, memory)
        except CannotLook:
            return None

    def per_cpu_bytes(self) -> int | None:
        """Return how much per-CPU memory is given out, up to a constant; None where nobody can tell."""
        found = self.timers
        if found is None or self.ram is None or not found.per_cpu:
            return None
        try:
            with self._memory(self.ram) as memory:
                return percpu.in_use(found.per_cpu, self._spec.arch, memory, found.offset)
        except CannotLook:
            return None

    def where(
        self, modules: Sequence[str], images: Mapping[str, bytes], timeout: float
    ) -> list[pointers.Section]:
        """Ask where modules are that are loaded; raises what run() does."""
        if self.timers is None:  # nobody would look for what points there
            return []
        return pointers.sections(self.agent, self._spec.arch, images, modules, timeout)

    def pointing(
        self, sections: Sequence[pointers.Section], *, all_pages: bool = False
    ) -> list[pointers.Pointer]:
        """Return the words of the kernel's own data that point into modules; [] where nobody can tell.

        `all_pages`: those too that have not been written to since modules came.
        """
        found = self.timers
        if found is None or self.ram is None or not sections:
            return []
        data, changed = (found.static, found.stale), None if all_pages else self.changed
        try:
            with self._memory(self.ram) as memory:
                return pointers.find(memory, self._spec.arch, data, found.offset, changed, sections)
        except CannotLook:
            return []

    def name(self, address: int, images: Mapping[str, bytes]) -> str:
        """Return what a function of a module is called, as learn_modules() saw them, or its address."""
        known = Symbols({}, 0).for_guest(self._modules, images)
        return known.name(address) or f"{address:#x}"

    def cpus(self, symbols: Symbols | None = None, images: Mapping[str, bytes] | None = None) -> list[str]:
        """Return a line a CPU: where it stands now; [] when QEMU cannot say.

        `symbols` are the kernel's, see lab.guest.symbols; where modules are is known by learn_modules(), and
        their `images` name the functions.
        """
        from lab.guest.registers import cpus  # noqa: PLC0415 - only wanted for guests that hang

        names = symbols if symbols is not None else Symbols({}, 0)
        try:
            known = names.for_guest(self._modules, images or {}, restored=self.restored)
            return cpus(self._process.qmp, self._spec.arch, known)
        except (GuestLost, GuestHung, HostError):
            return []

    def private_kib(self) -> int:
        """Return how much memory exists only for this guest; 0 when it is dead.

        Clean pages do not count: they are the template's file and QEMU's program in the page cache, which
        every clone has in common; the kernel calls them private as long as only one has looked at them.
        """
        try:
            lines = Path(f"/proc/{self.pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            return 0
        return sum(int(line.split()[1]) for line in lines if line.startswith("Private_Dirty"))

    def hand_over(self) -> qemu.Process:
        """End as a guest and return the QEMU, which lives on for another one.

        What this one printed can still be asked.
        """
        self._closed = "it was alive until its QEMU became another guest"
        return self._process

    def close(self) -> None:
        """Kill the guest and wait for its end; what it printed and why it died can still be asked."""
        if self._closed is not None:
            return
        alive = self._process.popen.poll() is None
        self._closed = "it was alive until the lab ended it" if alive else self.death()
        self._process.close()


def all_asleep(pid: int) -> bool:
    """Tell whether no thread of a process runs or wants to: on a busy host, that is R. proc_pid_stat(5)."""
    try:
        stats = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/stat")]
    except OSError:
        return False
    return bool(stats) and all(stat.rpartition(")")[2].split()[0] == "S" for stat in stats)


def describe_death(code: int, reason: str, panic: str | None, complaints: list[str]) -> str:
    """Return in words why a guest died.

    `code` is QEMU's exit status as subprocess has it, `reason` that of its SHUTDOWN event, `panic` the
    console's line, `complaints` are the lines of its stderr.
    """
    triple = any(line.startswith("Triple fault") for line in complaints)
    rest = [line for line in complaints if not line.startswith("Triple fault")]
    said = f" ({'; '.join(rest[-3:])})" if rest else ""
    if code != 0 and reason != "guest-panic":
        return qemu.how_it_ended(code) + said
    if triple:
        return "triple fault: a CPU could not even report a fault, and reset the machine" + said
    # A line on the console can be a test's own; the event and the exit tell that there was a panic at all.
    if panic is not None:
        return re.sub(r"^\[[^]]*\]\s*(\[[^]]*\]\s*)?", "", panic) + said
    words = {
        "guest-panic": "kernel panic, without a line about it on the console",
        "guest-reset": "the guest restarted itself, without a panic on its console",
        "guest-shutdown": "the guest powered itself off",
        "host-signal": "QEMU was told to end by a signal",
    }
    return words.get(reason, f"QEMU ended by itself{f' ({reason})' if reason else ''}") + said


def clone_seed(seed: int, what: str) -> tuple[bytes, int]:
    """Return what sets a guest apart: bytes for its entropy, and how many µs it waits before it begins.

    The same run's seed and the same use give the same again.
    """
    material = hashlib.sha256(f"chanlab guest {seed} {what}".encode()).digest()
    jitter = random.Random(material).randrange(500)  # noqa: S311 - a starting point, not a secret
    return material, jitter


def boot(
    spec: BootSpec,
    role: Role = "cold",
    *,
    ram: Path | None = None,
    log: Path | None = None,
    seed: int = 0,
    what: str = "",
    timeout: float = BOOT_SECONDS,
    turns: bool = False,
) -> Guest:
    """Boot a guest until its agent answers; `timeout` in seconds, `turns`: its CPUs may take turns.

    Where that is QEMU's fault it is booted once more, and says so: of some hundred boots of two emulated CPUs
    that run at once, in one a CPU misses its first timer (the guest stands still) or QEMU crashes. Raises
    BootFailed when no agent comes up, HostError when QEMU cannot be started.
    """
    try:
        return _boot(spec, role, ram, log, seed, what, timeout, turns=turns)
    except BootFailed as error:
        if not isinstance(error.__cause__, (_StandsStill, _QemuFailed)):
            raise
        guest = _boot(spec, role, ram, log, seed, what, timeout, turns=turns)
        guest.remark = f"{error.message.partition(';')[0]}; it was booted again"
        return guest


def _boot(
    spec: BootSpec,
    role: Role,
    ram: Path | None,
    log: Path | None,
    seed: int,
    what: str,
    timeout: float,
    *,
    turns: bool,
) -> Guest:
    material, jitter = clone_seed(seed, what)
    started = time.monotonic()
    process = qemu.start(spec, role, ram=ram, log=log, turns=turns)
    guest = Guest(process, spec, restored=False)
    try:
        guest.greet(seed=material, jitter_us=jitter, timeout=timeout)
    except (GuestLost, GuestHung, AgentError) as error:
        after = time.monotonic() - started
        raise _boot_failed(guest, error, after) from error
    except BaseException:
        guest.close()
        raise
    return guest


def _boot_failed(guest: Guest, error: Exception, after: float) -> BootFailed:
    """Return the error for a guest without an agent, and end the guest."""
    notes = [f"after {after:.1f} s: {error}"]
    if isinstance(error, GuestHung):
        notes += [f"{line}" for line in guest.cpus()]
        if guest.console.panic is not None:
            notes.append(guest.console.panic)
    console = guest.console_text()
    guest.close()
    spec = guest._spec  # noqa: SLF001 - a guest's spec is nobody else's matter
    tail = "\n".join(console.splitlines()[-40:]) or "(nothing: the kernel did not come as far as its console)"
    return BootFailed(
        f"{spec.name or spec.kernel.kernel.release} ({spec.accel}) did not boot to its agent, "
        + "; ".join(notes),
        tail,
        hint="`lab doctor` checks QEMU and the kernel; a new one of either may help",
    )
