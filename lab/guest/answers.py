# SPDX-License-Identifier: MIT
"""What the agent in a guest tells the host: who it is, its actors, and how they fare."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

LAB: Final = "lab"  # the agent's own root actor

if TYPE_CHECKING:
    from lab.guest.frames import Reader
    from lab.guest.wire import Program, Reply


@dataclass(frozen=True)
class Hello:
    """Who answered, and how its kernel stands."""

    nonce: bytes  # as written before freezing; empty in a guest that was not frozen
    release: str  # uname -r
    version: str  # uname -v
    machine: str  # uname -m
    cpus: int
    page_size: int
    clocksource: str
    tainted: int
    protocol: int
    boot_ns: int  # CLOCK_BOOTTIME
    free_kib: int = 0  # of memory


@dataclass(frozen=True)
class Actor:
    """A process or thread in the guest; pid and tid of a fork's child are 0 until its result is seen."""

    name: str
    number: int
    pid: int
    tid: int
    start_ns: int = 0  # CLOCK_BOOTTIME
    thread_of: str | None = None


@dataclass(frozen=True)
class Exit:
    """An actor that died. `status` is wait4's; -1 where nobody can know it (a helper, a thread oopsed)."""

    actor: str
    number: int
    pid: int
    status: int


@dataclass
class Pending:
    """A program that an actor is running; `reply` when it has been finished."""

    ident: int
    actor: str
    number: int
    program: Program = field(repr=False)
    reply: Reply | None = None


@dataclass(frozen=True)
class Asleep:
    """How an actor sleeps in its call."""

    state: str  # S or D
    nr: int  # the system call's number
    wchan: str


@dataclass(frozen=True)
class Upcall:
    """A program that the kernel started, now actor `name`."""

    name: str
    number: int
    argv: tuple[str, ...]
    env: dict[str, str]
    pid: int
    ppid: int
    uid: int
    gid: int
    cwd: str
    fds: dict[int, str]  # what they are, as /proc/self/fd says


@dataclass(frozen=True)
class ActorState:
    """What /proc says of a task; empty strings where it says nothing."""

    comm: str
    stat: str
    wchan: str
    syscall: str
    stack: str

    @property
    def state(self) -> str:
        """The letter: R, S, D, Z …; empty when there is no such task any more."""
        return self.stat.rpartition(")")[2].strip()[:1]


@dataclass(frozen=True)
class Leftover:
    """A process that does not die, or the lab's own actor that does not come back."""

    actor: str | None
    pid: int
    state: ActorState


def actor_state(reader: Reader) -> ActorState:
    """Read what /proc says of a task."""
    comm, stat, wchan, syscall, stack = (reader.text() for _ in range(5))
    return ActorState(comm.strip(), stat.strip(), wchan.strip(), syscall.strip(), stack.rstrip())


def strings(block: bytes) -> list[str]:
    """Split strings that each end with a NUL."""
    return [each.decode(errors="surrogateescape") for each in block.split(b"\0")[:-1]]
