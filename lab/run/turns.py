# SPDX-License-Identifier: MIT
"""Steps of one actor in turn, again and again, in the guest: the host has no part in what is between them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lab.errors import UsageError
from lab.guest.joint import Joint
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
    """Make the steps `times` times, and judge each by its last round; bind what they gave there.

    The first that does not come out as it expects fails, with its round. Raises as session.step() does.
    """
    outer = session.current
    by = steps[0].by
    session.cast.need_free(by)
    arch = session.cast.abi(by).arch
    planned: list[tuple[Step, Call, Plan[Any]]] = []
    programs: list[Program] = []
    for step in steps:
        session.current = step
        program = Program(arch)
        call, plan = session.plan(step, program, each=True)
        if plan.loads is not None or plan.unloads is not None:
            raise UsageError("a module cannot be loaded or unloaded in turn: the lab has to know of it")
        if call.wanted is not None and not call.compared and times > 1:
            raise UsageError(f"data of {step.verb} cannot be looked at each time, only that of the last")
        planned.append((step, call, plan))
        programs.append(program)
    session.current = outer
    joint = Joint(arch, programs, times)
    reply = _run(session, joint, by)
    if reply.exited is not None:
        session.cast.died(by, reply.exited, outer)
        return Outcome(**exit_fields(reply.exited))
    stopped, completed = joint.stopped(reply), joint.completed(reply)
    for index, ((step, call, plan), own) in enumerate(zip(planned, joint.replies(reply), strict=True)):
        if stopped is not None and index > stopped:
            break
        session.current = step
        outcome = plan.decode(own)
        try:
            session.judge(step, outcome, context=call)
            if index == stopped:
                session.fail("what it expects, each time", "something else, and nothing of it is left to see")
        except StepFailed as error:
            error.notes.append(f"in round {completed + (stopped is not None)} of {times}")
            raise
        session.bind(step, outcome)
    session.current = outer
    return Outcome(completed=completed)


def _run(session: Session, joint: Joint, by: str) -> Reply:
    within = session.within(session.current)
    pending = session.agent.submit(by, joint)
    reply = session.agent.finish(pending, within=within, timeout=session.patience + (within or 0.0))
    if reply is None:
        session.fail(
            f"an end of all rounds within {within:g}s",
            "it is still at it",
            *session.cast.asleep(by),
            title="in_turn did not end in time",
        )
    return reply
