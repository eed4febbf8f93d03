# SPDX-License-Identifier: MIT
"""One round trip of a channel in a guest whose clock counts instructions: made many times, and looked at.

Its steps are first made one by one, as those of a scenario are. Then one program makes them again and again
and looks at the clock between the rounds, so that neither the host nor the agent's port is in the figure.
What came back is looked at in each round: a call that fails is not a cheap one.
"""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any, Final

from lab.errors import GuestError, UsageError
from lab.guest.rounds import Rounds
from lab.guest.splat import splats
from lab.guest.wire import Program
from lab.run.session import LeakedReference, StepFailed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lab.guest.wire import Reply
    from lab.language.plan import Call, Plan
    from lab.language.steps import Step
    from lab.run.session import Session
    from lab.scenario import Trip

PROGRAMS: Final = 5  # one after the other: a timer's interrupt is in some of them
WINDOW: Final = 32  # rounds whose mean is one figure: what happens in every fifth is in it
_FIFO: Final = 1  # SCHED_FIFO


class TripFailed(GuestError):  # noqa: N818 - what happened
    """A round trip did not do what it says, or left something behind."""


def instructions(session: Session, trip: Trip) -> int:
    """Return how many instructions a round takes, the median over all.

    Raises TripFailed, Unsupported, and what else a session does.
    """
    try:
        session.start(trip.scenario)
        for step in trip.scenario.steps:
            session.step(step)
        _go_first(session, trip.steps[0].by)
        for step in (*trip.steps, *trip.steps):
            session.step(step)
        looks: list[float] = []
        rounds: list[float] = []
        for _ in range(PROGRAMS):
            empty, full = _program(session, trip)
            looks.append(sum(empty) / len(empty))
            rounds += _means(full)
        for step in trip.after:
            session.step(step)
        session.finish()
    except (StepFailed, LeakedReference) as error:
        raise TripFailed(f"the trip of {trip.scenario.channel}: {error}") from error
    found = splats(session.messages)
    if found:
        raise TripFailed(f"the trip of {trip.scenario.channel}: {found[0].title}")
    return round(statistics.median(rounds) - statistics.median(looks))


def _values(reply: Reply) -> list[int]:
    """Return what the calls gave."""
    return [call.value for call in reply.calls]


def _means(spans: Sequence[int]) -> list[float]:
    """Return the means of each so many in a row, of all where there are fewer."""
    size = min(WINDOW, len(spans))
    return [sum(spans[at : at + size]) / size for at in range(len(spans) - size + 1)]


def _go_first(session: Session, actor: str) -> None:
    """Let an actor run whenever it can, so that others run when it waits for them, and only then.

    Whether the scheduler would let a thread that was woken run at once depends on all that was before.
    """
    program = Program(session.cast.abi(actor).arch)
    lowest = program.buffer((1).to_bytes(4, session.arch.byteorder))
    program.call(session.cast.abi(actor).syscalls["sched_setscheduler"], 0, _FIFO, lowest)
    if session.run(program, actor).calls[0].errno:
        session.fail("a real-time policy for the actor", "the kernel refuses SCHED_FIFO")


def _program(session: Session, trip: Trip) -> tuple[list[int], list[int]]:
    """Run one program of rounds; return the nanoseconds of each look at the clock and of each round."""
    by = trip.steps[0].by
    arch = session.cast.abi(by).arch
    planned: list[tuple[Step, Call, Plan[Any]]] = []
    programs = []
    for step in trip.steps:
        session.current = step
        program = Program(arch)
        call, plan = session.plan(step, program)
        if plan.loads is not None or plan.unloads is not None:
            raise UsageError(f"step {step.where} cannot be part of a trip: the lab has to know of it")
        planned.append((step, call, plan))
        programs.append(program)
    calls = session.cast.abi(by).syscalls
    rounds = Rounds(arch, programs, calls.get("clock_gettime64", calls["clock_gettime"]))
    reply = session.run(rounds, by)
    _look(session, planned, rounds.replies(reply))
    return rounds.times(reply)


def _look(
    session: Session, planned: Sequence[tuple[Step, Call, Plan[Any]]], rounds: list[list[Reply]]
) -> None:
    """Judge each round's answers; what a step binds must be what it was when the round was planned."""
    last = rounds[-1]
    for number, replies in enumerate(rounds, start=1):
        for (step, call, plan), reply, other in zip(planned, replies, last, strict=True):
            session.current = step
            outcome = plan.decode(reply)
            try:
                session.judge(step, outcome, context=call)
                # The data is the last round's: so is how much of it came, unless the step says what may.
                if "returns" not in step.expect.on(session.machine).fields and _values(reply) != _values(
                    other
                ):
                    session.fail(f"{_values(other)} in each round", f"{_values(reply)}")
                bound = session.bound.get(step.bind) if step.bind is not None else None
                if bound is not None and bound.returns != outcome.returns:
                    session.fail(f"${step.bind} is {bound.returns} as it was", f"it is {outcome.returns}")
            except StepFailed as error:
                error.notes.append(f"in round {number} of {len(rounds)}")
                raise


__all__ = ["TripFailed", "instructions"]
