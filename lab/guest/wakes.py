# SPDX-License-Identifier: MIT
"""Whether a restored guest's CPUs wake each other.

An interrupt from one CPU to another that is under way while a guest is frozen is lost where QEMU does not
write it down: on s390x (target/s390x/machine.c) and loong64. The sender's kernel keeps a bit that says it is
still to be taken (s390's `ec_mask`) and sends no further one of that kind: in each clone that CPU then wakes
by its own timers alone, after seconds or never, until an interrupt of another kind is sent.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from lab.errors import HostError
from lab.guest.layouts import OwnCall
from lab.guest.wire import Program

if TYPE_CHECKING:
    from lab.guest.agent import Agent
    from lab.guest.answers import Pending

_TURNS = 20
_PATIENCE = 20.0
# Twenty turns take 50 ms, on a busy host 250; with an interrupt lost 440 to 10,000, and most often the next
# twenty as long as anywhere, since something has sent an interrupt of another kind.
_QUICK_SECONDS = 0.4
_SLOW_SECONDS = 3.0
_RATIO = 3.0


class SlowWakes(HostError):  # noqa: N818 - what happened
    """It takes too long until a CPU has woken another one."""


def check(agent: Agent, cpus: int) -> None:
    """Let a token go round the CPUs.

    Raises SlowWakes when the first times take long and the later ones do not; what the agent raises when it
    never comes back.
    """
    if cpus < 2:
        return
    first, second = _seconds(agent, cpus, "first"), _seconds(agent, cpus, "second")
    if too_slow(first, second):
        raise SlowWakes(
            f"its CPUs do not wake each other: a token went round them {_TURNS} times in {first:.1f} s, "
            f"then in {second:.1f} s"
        )


def too_slow(first: float, second: float) -> bool:
    """Whether the CPUs are slow and not a busy host, where later turns take as long."""
    return first > _QUICK_SECONDS and (first > _SLOW_SECONDS or first > _RATIO * second)


def _seconds(agent: Agent, cpus: int, name: str) -> float:
    """Return how long a token takes, threads and all."""
    started = time.monotonic()
    actors = [f"{name}{cpu}" for cpu in range(cpus)]
    agent.spawn(actors[0], timeout=_PATIENCE)
    for actor in actors[1:]:
        agent.spawn(actor, thread_of=actors[0], timeout=_PATIENCE)
    program = Program(agent.arch)
    for _ in actors:
        program.own_call(OwnCall.EVENTFD2, 0, 0)
    fds = [call.value for call in agent.run(actors[0], program, timeout=_PATIENCE).calls]
    runs: list[Pending] = []
    for cpu, actor in enumerate(actors):
        program = Program(agent.arch)
        mask = program.buffer((1 << cpu).to_bytes(agent.arch.word, agent.arch.byteorder))
        program.own_call(OwnCall.SCHED_SETAFFINITY, 0, agent.arch.word, mask)
        token = program.buffer((1).to_bytes(8, agent.arch.byteorder))
        take, give = (OwnCall.READ, fds[cpu]), (OwnCall.WRITE, fds[(cpu + 1) % cpus])
        for _ in range(_TURNS):
            for call, fd in (take, give) if cpu else (give, take):
                program.own_call(call, fd, token, 8)
        runs.append(agent.submit(actor, program))
    for run in runs:
        reply = agent.finish(run, within=None, timeout=_PATIENCE)
        wrong = next((call for call in reply.calls if call.errno), None) if reply is not None else None
        if wrong is not None:
            raise HostError(f"a token cannot go round the CPUs: errno {wrong.errno}")
    return time.monotonic() - started
