# SPDX-License-Identifier: MIT
"""The agent in a guest, as the host sees it: actors that make system calls, and what the kernel said.

All times are seconds. `timeout` is the host's patience: GuestHung when it is over. `within` and `duration`
are measured in the guest; what the guest lost of `within`, because its host was busy, it is given again.
Every method may raise, besides what it says: GuestLost when the guest is dead, GuestHung, AgentError when
the agent answers what the protocol does not allow or could not do its own part.
"""

from __future__ import annotations

import os
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from lab.errors import AgentError
from lab.guest import layouts, names
from lab.guest.answers import (
    LAB,
    Actor,
    ActorState,
    Asleep,
    Exit,
    Hello,
    Leftover,
    Pending,
    Upcall,
    actor_state,
    strings,
)
from lab.guest.frames import Reader, padded
from lab.guest.layouts import ACTORS, FrameType, OwnCall, SetupStep, WaitOutcome
from lab.guest.patience import MOST, deadline
from lab.guest.port import Channel, Port, Refused, check_protocol
from lab.guest.wire import CallResult, Program, Reply, Result, decode_reply

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from lab.arch import Architecture
    from lab.guest.kmsg import KernelMessage
    from lab.guest.names import Names

STANDBY: Final = "main"  # the name of the one that it has ready
_FOREVER: Final = (1 << 64) - 1
_WRONLY: Final = 1  # O_WRONLY and SEEK_SET, everywhere
_FROM_START: Final = 0
_WORTH_WAITING: Final = 0.01  # seconds
_OUTCOMES: Final = frozenset(int(each) for each in WaitOutcome)
_USUAL: Final = (0, 0, None, 0, None)  # uid, gid, caps, sigmask, thread_of
_SETUP_STEPS: Final[dict[int, str]] = {
    SetupStep.START: "start",
    SetupStep.BOUNDS: "prctl(PR_CAPBSET_DROP)",
    SetupStep.GROUPS: "setgroups",
    SetupStep.GID: "setresgid",
    SetupStep.UID: "setresuid",
    SetupStep.CAPS: "capset",
    SetupStep.SIGMASK: "rt_sigprocmask",
    SetupStep.STACK: "mmap of the thread's stack",
    SetupStep.CLONE: "clone",
}


class Died(AgentError):  # noqa: N818 - what happened
    """The agent's own root actor died in a call: an oops, with this wait status."""

    def __init__(self, status: int) -> None:
        super().__init__(f"the lab's own actor died in the call (wait status {status})")
        self.status = status


class Agent:
    """Makes actors and lets them run programs."""

    def __init__(self, channel: Channel, arch: Architecture, life: int = 1) -> None:
        self.arch = arch
        self.exits: list[Exit] = []
        self._port = Port(channel, arch, self._exited, life)
        self._actors = {LAB: Actor(LAB, 0, 0, 0)}  # alive, as far as we know
        self._busy: dict[int, Pending] = {}  # by number
        self._used: set[int] = set()  # numbers whose channels have been somebody's
        self._standby: Actor | None = None  # as SPAWN would make it, and not taken yet

    # The guest as a whole

    def hello(self, *, wall_clock_ns: int, seed: bytes, jitter_us: int = 0, timeout: float) -> Hello:
        """Set the clock, stir `seed` (at most 512 bytes) into the kernel's pool, wait `jitter_us`.

        `wall_clock_ns` of 0 leaves the clock alone.
        """
        words = layouts.Hello(wall_clock_ns, jitter_us, len(seed), padded(seed))
        reader = self._port.ask(FrameType.HELLO, self._port.pack(words), timeout)
        head = reader.record(layouts.HelloAnswer)
        check_protocol(head.protocol)
        for what, errno in (("set its clock", head.clock_errno), ("take the seed", head.seed_errno)):
            if errno:
                raise AgentError(f"the guest could not {what}: {os.strerror(errno)} ({errno})")
        nonce = reader.padded()
        release, version, machine, clocksource = (reader.text() for _ in range(4))
        reader.end()
        pid = head.standby_pid
        there = head.standby != layouts.NONE
        self._standby = Actor(STANDBY, head.standby, pid, pid, head.boot_ns) if there else None
        return Hello(
            nonce=nonce,
            release=release,
            version=version,
            machine=machine,
            cpus=head.cpus,
            page_size=head.page_size,
            clocksource=clocksource,
            tainted=head.tainted,
            protocol=head.protocol,
            boot_ns=head.boot_ns,
            free_kib=head.free_kib,
        )

    def settle(self, timeout: float) -> None:
        """Let a guest that has booted rest: randomness there, nothing to write back, no caches."""
        program = Program(self.arch)
        program.settle()
        result = self.run(LAB, program, timeout=timeout).calls[0]
        if result.errno:
            raise AgentError(f"the guest has no randomness yet: {os.strerror(result.errno)}")

    def quiesce(self, nonce: bytes, timeout: float) -> None:
        """Make ready to be frozen: keep `nonce`, and say nothing unasked until the next request."""
        self._port.ask(FrameType.QUIESCE, nonce, timeout).end()

    def deadline(self, seconds: float) -> Callable[[], float]:
        """Return what tells how many of the seconds are left: those that a busy host took do not count."""
        return deadline(seconds, self._port.waited)

    def messages(self) -> list[KernelMessage]:
        """Take what the kernel printed since last asked, up to the last answer that came."""
        return self._port.messages()

    @property
    def lost(self) -> int:
        """How many messages of the kernel's were overwritten before they were read: so many, or more."""
        return self._port.lost

    def sync(self, timeout: float) -> None:
        """Make one round trip that no actor takes part in: messages() has all that was printed before it."""
        self._wait_answer(FrameType.FINISH, self._wait_request(0, 0.0), timeout)

    def reap(self, timeout: float) -> list[Leftover]:
        """Kill all actors and helpers and wait for their end; those that do not die in `timeout` are named.

        Without leftovers, their names may be used again.
        """
        within = max(timeout * 0.8, timeout - 1.0)  # the rest is for the answer
        reader = self._port.ask(FrameType.REAP, self._wait_request(0, within), timeout)
        (count,) = reader.take("Q")
        left: list[Leftover] = []
        by_number = {actor.number: actor.name for actor in self._actors.values()}
        while reader.left:
            who = Reader(reader.padded(), self.arch).record(layouts.Leftover)
            left.append(Leftover(by_number.get(who.number), who.pid, actor_state(reader)))
        if len(left) != count:
            raise AgentError(f"the agent counts {count} leftovers and names {len(left)}")
        if not left:
            self._actors = {LAB: self._actors[LAB]}
            self._busy.clear()
            self._used.clear()
        return left

    def tainted(self, timeout: float) -> int:
        """Return the bits of the kernel's taint: Documentation/admin-guide/tainted-kernels.rst."""
        reader = self._port.ask(FrameType.TAINTED, b"", timeout)
        (bits,) = reader.take("Q")
        reader.end()
        return bits

    def names(self, timeout: float, *, wide: bool) -> Names:
        """Return what has a name in the kernel: in the places where most modules have theirs, or in all.

        Raises Died when who looks dies of it: something that is listed is gone.
        """
        program = Program(self.arch)
        program.names(wide=wide)
        return names.parse(self.by_lab(program, timeout=timeout).data[0])

    def read_file(self, path: str, timeout: float) -> bytes:
        """Return a file of the guest, at most 28 MiB. Raises OSError as the guest's kernel answered."""
        program = Program(self.arch)
        program.read_file(path)
        reply = self.run(LAB, program, timeout=timeout)
        if reply.exited is not None or reply.calls[0].errno:
            errno = reply.calls[0].errno if reply.calls else None
            raise OSError(errno or 0, os.strerror(errno) if errno else "the lab's own actor died", path)
        return reply.data[0]

    def write_file(self, path: str, pieces: Sequence[tuple[int, bytes]], timeout: float) -> None:
        """Write pieces, each at its offset, to a file that is there. Raises OSError as read_file() does."""
        program = Program(self.arch)
        fd = Result(program.own_call(OwnCall.OPENAT, 0, program.string(path), _WRONLY, 0))
        for offset, data in pieces:
            program.own_call(OwnCall.LSEEK, fd, offset, _FROM_START)
            program.own_call(OwnCall.WRITE, fd, program.buffer(data), len(data))
        program.own_call(OwnCall.CLOSE, fd)
        reply = self.run(LAB, program, timeout=timeout)
        if reply.exited is not None:
            raise OSError(0, "the lab's own actor died", path)
        for call in reply.calls:
            if call.errno:
                raise OSError(call.errno, os.strerror(call.errno), path)

    def load_module(self, image: bytes, params: str, timeout: float) -> CallResult:
        """init_module, by the agent's own root actor.

        Raises Died when that actor dies in it (an oops).
        """
        program = Program(self.arch)
        module, options = program.buffer(image), program.string(params)
        program.own_call(OwnCall.INIT_MODULE, module, len(image), options)
        return self._own_call(program, timeout)

    def unload_module(self, name: str, flags: int, timeout: float) -> CallResult:
        """delete_module, by the agent's own root actor.

        Raises Died when that actor dies in it (an oops).
        """
        program = Program(self.arch)
        program.own_call(OwnCall.DELETE_MODULE, program.string(name), flags)
        return self._own_call(program, timeout)

    def _own_call(self, program: Program, timeout: float) -> CallResult:
        return self.by_lab(program, timeout=timeout).calls[0]

    def by_lab(self, program: Program, *, timeout: float) -> Reply:
        """Let the agent's own root actor run a program; raises Died when it dies in it."""
        reply = self.run(LAB, program, timeout=timeout)
        if reply.exited is not None:
            raise Died(reply.exited)
        return reply

    # Actors

    def spawn(
        self,
        name: str,
        *,
        uid: int = 0,
        gid: int = 0,
        caps: int | None = None,
        sigmask: int = 0,
        thread_of: str | None = None,
        timeout: float,
    ) -> Actor:
        """Make an actor: a process in a session of its own, or a thread of another, idle actor.

        `caps`: exactly these (bit n is capability n); None: what the uid gives. `sigmask`: bit n-1 is
        signal n.
        """
        self._must_be_new(name)
        if name == STANDBY and self._standby is not None and (uid, gid, caps, sigmask, thread_of) == _USUAL:
            taken, self._standby = self._standby, None
            return self._add(taken)
        setup = layouts.Setup(
            flags=layouts.SETUP_CAPS if caps is not None else 0,
            uid=uid,
            gid=gid,
            thread_of=layouts.NONE if thread_of is None else self.actor(thread_of).number,
            caps=caps or 0,
            sigmask=sigmask,
            name=name.encode()[:15],
        )
        reader = self._port.ask(FrameType.SPAWN, self._port.pack(setup), timeout)
        made = reader.record(layouts.SetupAnswer)
        reader.end()
        if made.status:
            what = _SETUP_STEPS.get(made.step, f"step {made.step}")
            raise AgentError(
                f"actor {name!r} cannot be: {what}: {os.strerror(-made.status)} ({-made.status})"
            )
        return self._add(Actor(name, made.number, made.pid, made.tid, made.start_ns, thread_of))

    def reserve(self, name: str) -> int:
        """Return the number for the child of Program.fork(); the child is actor `name` from then on."""
        self._must_be_new(name)
        taken = {actor.number for actor in self._actors.values()} | self._used
        # From the top, because the agent numbers what it makes itself from the bottom.
        number = next((n for n in range(ACTORS - 1, 0, -1) if n not in taken), None)
        if number is None:
            raise AgentError(f"all {ACTORS} actor numbers are taken")
        return self._add(Actor(name, number, 0, 0)).number

    def actor(self, name: str) -> Actor:
        """Return an actor by its name. Raises AgentError when it was never there or is dead."""
        try:
            return self._actors[name]
        except KeyError:
            died = [each for each in self.exits if each.actor == name]
            how = f"died (wait status {died[-1].status})" if died else "does not exist"
            raise AgentError(f"actor {name!r} {how}") from None

    def busy(self, actor: str) -> bool:
        """Tell whether an actor is in the middle of a program."""
        return actor in self._actors and self._actors[actor].number in self._busy

    def state(self, actor: str, timeout: float = 5.0) -> ActorState:
        """Return what /proc says of an actor, for hang reports."""
        reader = self._port.ask(FrameType.STATE, self._port.pack(self.actor(actor).number), timeout)
        state = actor_state(reader)
        reader.end()
        return state

    # Programs

    def submit(self, actor: str, program: Program) -> Pending:
        """Let an actor run a program; returns at once. Raises AgentError when the actor is still busy."""
        who = self.actor(actor)
        if who.number in self._busy:
            raise AgentError(f"actor {actor!r} is still busy")
        payload = self._port.pack(layouts.Submit(who.number)) + program.encode()
        pending = Pending(self._port.request(FrameType.SUBMIT, payload), actor, who.number, program)
        self._busy[who.number] = pending
        return pending

    def finish(self, pending: Pending, *, within: float | None, timeout: float) -> Reply | None:
        """Return the program's reply, once it has ended. None: it still runs after `within` seconds."""
        if pending.reply is not None:
            return pending.reply
        if within is not None and not self._port.arrived(pending.ident):
            outcome, _ = self._wait_long(FrameType.FINISH, pending.ident, within, timeout)
            if outcome == WaitOutcome.NO:
                return None
            if not self._port.arrived(pending.ident):
                raise AgentError(f"the agent says that a program of {pending.actor!r} ended, but not how")
        kind, payload = self._port.wait(pending.ident, time.monotonic() + timeout)
        self._busy.pop(pending.number, None)
        if kind is FrameType.ERROR:
            why = Reader(payload, self.arch).text()
            raise Refused(f"the agent refuses a program of {pending.actor!r}: {why}")
        if kind is not FrameType.DONE:
            raise AgentError(f"the agent answers a program with {kind.name}")
        pending.reply = self._take_reply(pending, decode_reply(payload, self.arch))
        return pending.reply

    def run(self, actor: str, program: Program, *, timeout: float) -> Reply:
        """Submit and finish."""
        reply = self.finish(self.submit(actor, program), within=None, timeout=timeout)
        assert reply is not None  # it is only for `within`
        return reply

    def blocked(self, pending: Pending, *, within: float, timeout: float) -> Asleep | None:
        """Wait until the actor sleeps in its program's very call, seen twice.

        None: the program ended, or does not sleep `within` seconds.
        """
        if self._ended(pending):
            return None
        outcome, asleep = self._wait_long(FrameType.BLOCKED, pending.ident, within, timeout)
        return asleep if outcome == WaitOutcome.YES else None

    def stays_blocked(self, pending: Pending, duration: float, timeout: float) -> bool:
        """Whether the actor sleeps in one and the same call for all of `duration`; told at once when not.

        The time begins when it is first seen asleep, for which it has two seconds.
        """
        if self._ended(pending):
            return False
        request = self._wait_request(pending.ident, duration)
        return self._wait_answer(FrameType.STAYS, request, timeout)[0] == WaitOutcome.YES

    def upcall(self, *, within: float, timeout: float, name: str) -> Upcall | None:
        """Return the next program that the kernel started as /lab/helper; it is actor `name` from then on."""
        self._must_be_new(name)
        for span in self._spans(within):
            request = self._wait_request(0, span)
            reader = self._port.ask(FrameType.UPCALL, request, timeout - within + span)
            head = reader.record(layouts.UpcallAnswer)
            if head.outcome == WaitOutcome.YES:
                break
            reader.end()
        else:
            return None
        argv, environment = (strings(reader.padded()) for _ in range(2))
        cwd, fds = reader.text(), reader.text()
        reader.end()
        self._add(Actor(name, head.number, head.pid, head.pid))
        return Upcall(
            name=name,
            number=head.number,
            argv=tuple(argv),
            env={key: value for key, _, value in (each.partition("=") for each in environment)},
            pid=head.pid,
            ppid=head.ppid,
            uid=head.uid,
            gid=head.gid,
            cwd=cwd,
            fds={int(fd): what for fd, _, what in (line.partition(" ") for line in fds.splitlines())},
        )

    # Within

    def _add(self, actor: Actor) -> Actor:
        self._actors[actor.name] = actor
        self._used.add(actor.number)
        return actor

    def _must_be_new(self, name: str) -> None:
        if name in self._actors:
            raise AgentError(f"there is an actor {name!r} already")

    def _exited(self, number: int, status: int, pid: int) -> None:
        names = [actor.name for actor in self._actors.values() if actor.number == number]
        name = names[0] if names else f"number {number}"
        if self._standby is not None and self._standby.number == number:
            self._standby = None
        self.exits.append(Exit(name, number, pid, status))
        self._actors.pop(name, None)

    def _ended(self, pending: Pending) -> bool:
        return pending.reply is not None or self._port.arrived(pending.ident)

    def _take_reply(self, pending: Pending, reply: Reply) -> Reply:
        """Check a reply against its program and learn the pids of forked actors."""
        if reply.exited is not None:
            return reply
        wanted = (pending.program.calls, pending.program.data)
        if (len(reply.calls), len(reply.data)) != wanted:
            raise AgentError(
                f"the agent gives {len(reply.calls)} results and {len(reply.data)} pieces of data "
                f"for a program of {wanted[0]} and {wanted[1]}"
            )
        for call, child in pending.program.forks:
            pid = reply.calls[call].value
            names = [actor.name for actor in self._actors.values() if actor.number == child]
            for name in names:
                if pid > 0:
                    self._actors[name] = replace(self._actors[name], pid=pid, tid=pid)
                else:
                    del self._actors[name]
        return reply

    def _spans(self, within: float) -> Iterator[float]:
        """Yield how long to wait in the guest: `within`, and then what a busy host has cost it of that."""
        left = MOST * within
        while True:
            before = self._port.waited()
            yield within
            within = min(self._port.waited() - before, left)
            left -= within
            if within < _WORTH_WAITING:
                return

    def _wait_long(self, kind: FrameType, program: int, within: float, timeout: float) -> tuple[int, Asleep]:
        for span in self._spans(within):
            request = self._wait_request(program, span)
            answer = self._wait_answer(kind, request, timeout - within + span)
            if answer[0] != WaitOutcome.NO:
                break
        return answer

    def _wait_request(self, program: int, seconds: float) -> bytes:
        patience = min(max(int(seconds * 1e9), 0), _FOREVER)
        return self._port.pack(layouts.WaitRequest(program, 0, patience))

    def _wait_answer(self, kind: FrameType, request: bytes, timeout: float) -> tuple[int, Asleep]:
        reader = self._port.ask(kind, request, timeout)
        head = reader.record(layouts.WaitAnswer)
        wchan = reader.text()
        reader.end()
        if head.outcome not in _OUTCOMES:
            raise AgentError(f"the agent answers a {kind.name} request with outcome {head.outcome}")
        return head.outcome, Asleep(chr(head.state), head.nr, wchan)
