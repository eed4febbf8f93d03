# SPDX-License-Identifier: MIT
"""Programs that the kernel starts in user space."""

from dataclasses import dataclass

from lab.run.session import Session
from lab.verbs import Int, NewActor, Outcome, Text, verb


@dataclass(frozen=True, kw_only=True)
class Started(Outcome):
    """A program as the kernel started it."""

    argv: list[Text] | None = None
    env: dict[str, Text] | None = None  # all of it
    pid: Int | None = None
    ppid: Int | None = None  # a kernel thread: nobody else is its parent
    uid: Int | None = None
    gid: Int | None = None
    cwd: Text | None = None
    fds: list[Int] | None = None  # the file descriptors that it was given


@verb
def upcall(session: Session, name: NewActor) -> Started:
    """Wait until the kernel has started /lab/helper in user space, and make an actor of it.

    The actor is `name` from then on; it ends when a step makes it `exit`, when it is killed, or with the
    scenario. Programs are met in the order in which they came. `within` says how long to wait (default: as
    long as for any step).
    """
    within = session.within(session.current)
    found = session.agent.upcall(
        name=name,
        within=session.patience if within is None else within,
        timeout=session.patience + (within or session.patience),
    )
    if found is None:
        limit = "" if within is None else f" within {within:g}s"
        session.fail(
            f"a program that the kernel starts as /lab/helper{limit}",
            "it started none",
            title="no upcall came",
        )
    session.cast.born(name, found.pid)
    return Started(
        argv=list(found.argv),
        env=found.env,
        pid=found.pid,
        ppid=found.ppid,
        uid=found.uid,
        gid=found.gid,
        cwd=found.cwd,
        fds=sorted(found.fds),
    )
