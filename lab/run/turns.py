# SPDX-License-Identifier: MIT
"""Steps of one actor in turn, again and again, in the guest: the host has no part in what is between them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lab.errors import UsageError
from lab.guest.joint import Joint
from lab.guest.unrolled import Unrolled
from lab.guest.wire import Program
from lab.language.outcome import Outcome
from lab.language.plan import exit_fields
from lab.run.session import StepFailed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lab.guest.wire import Reply
    from lab.language.plan import Call, Plan
    from lab.language.steps import Step
    from lab.run.session import Session


def in_turn(session: Session, steps: Sequence[Step], times: int) -> Outcome:
    """Make the steps `times` times, and judge each; bind what they gave in the last round.

    The first that does not come out as it expects fails, with its round. Raises as session.step() does.
    """
    outer = session.current
    by = steps[0].by
    session.cast.need_free(by)
    arch = session.cast.abi(by).arch
    parts = _plan(session, steps, once=False)
    repeated: Joint | Unrolled
    if times > 1 and any(_seen_by_host(session, part) for part in parts):
        parts = _plan(session, steps, once=True)
        repeated = Unrolled(arch, [part.program for part in parts], times)
    else:
        repeated = Joint(arch, [part.program for part in parts], times)
    session.current = outer
    reply = _run(session, repeated, by)
    if reply.exited is not None:
        session.cast.died(by, reply.exited, outer)
        return Outcome(**exit_fields(reply.exited))
    if isinstance(repeated, Unrolled):
        *before, last = repeated.rounds(reply)
        for number, replies in enumerate(before, 1):
            _judge(session, parts, replies, f"in round {number} of {times}")
        stopped = (repeated.stopped(reply) or (0, None))[1]
    else:
        last, stopped = repeated.replies(reply), repeated.stopped(reply)
    completed = repeated.completed(reply)
    note = f"in round {completed + (stopped is not None)} of {times}"
    _judge(session, parts, last, note, stopped=stopped, bind=True)
    session.current = outer
    return Outcome(completed=completed)


@dataclass(frozen=True)
class _Part:
    """A step, planned."""

    step: Step
    call: Call
    plan: Plan[Any]
    program: Program


def _plan(session: Session, steps: Sequence[Step], *, once: bool) -> list[_Part]:
    """Plan the steps, each in a program of its own; `once`: one round of several, looked at by the host."""
    found = []
    for step in steps:
        session.current = step
        program = Program(session.cast.abi(step.by).arch)
        call, plan = session.plan(step, program, each=True, once=once)
        if plan.loads is not None or plan.unloads is not None:
            raise UsageError("a module cannot be loaded or unloaded in turn: the lab has to know of it")
        found.append(_Part(step, call, plan, program))
    return found


def _seen_by_host(session: Session, part: _Part) -> list[str]:
    return part.step.expect.on(session.machine).seen_by_host(compared=part.call.compared)


def _judge(
    session: Session,
    parts: Sequence[_Part],
    replies: Sequence[Reply],
    note: str,
    *,
    stopped: int | None = None,
    bind: bool = False,
) -> None:
    """Judge one round, up to the step that it stopped at; `bind` what the steps gave there."""
    for index, (part, reply) in enumerate(zip(parts, replies, strict=True)):
        if stopped is not None and index > stopped:
            break
        session.current = part.step
        outcome = part.plan.decode(reply)
        try:
            session.judge(part.step, outcome, context=part.call)
            if index == stopped:
                session.fail("what it expects, each time", "something else, and nothing of it is left to see")
        except StepFailed as error:
            error.notes.append(note)
            raise
        if bind:
            session.bind(part.step, outcome)


def _run(session: Session, repeated: Joint | Unrolled, by: str) -> Reply:
    within = session.within(session.current)
    pending = session.agent.submit(by, repeated)
    reply = session.agent.finish(pending, within=within, timeout=session.patience + (within or 0.0))
    if reply is None:
        session.fail(
            f"an end of all rounds within {within:g}s",
            "it is still at it",
            *session.cast.asleep(by),
            title="in_turn did not end in time",
        )
    return reply
