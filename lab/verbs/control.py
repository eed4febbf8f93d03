# SPDX-License-Identifier: MIT
"""Steps about other steps: in the background, at once, descriptors handed over, kernel messages."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, cast

from lab.abi import known_syscalls
from lab.abi.layout import nearest
from lab.language.composites import StepsKind
from lab.language.expect import Expectations, read_dmesg
from lab.language.kinds import Kind, TextKind
from lab.language.nodes import Node
from lab.language.outcome import OfPending
from lab.language.reading import Reading
from lab.language.values import Fixed, Value
from lab.run import turns
from lab.run.cast import Running
from lab.run.session import Session
from lab.verbs import (
    ActorName,
    Call,
    Duration,
    Fd,
    Memory,
    Outcome,
    Pending,
    Plan,
    Steps,
    Text,
    Tree,
    verb,
)


@dataclass(frozen=True, kw_only=True)
class Sleeping(Outcome):
    """How an actor sleeps: `state` is S or D, `wchan` the kernel's function, `call` the system call."""

    state: Text | None = None
    wchan: Text | None = None
    call: Text | None = None


@dataclass(frozen=True, kw_only=True)
class Handed(Outcome):
    """A file descriptor of the actor that it was handed to."""

    bare: ClassVar[Mapping[str, str]] = {"fd": "returns", "int": "returns"}


@dataclass(frozen=True, kw_only=True)
class Printed(Outcome):
    """Kernel messages."""

    messages: list[Text] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Called(Outcome):
    """A raw result, and what the arguments' memory holds after the call, one entry for each argument."""

    bare: ClassVar[Mapping[str, str]] = {"int": "returns", "fd": "returns", "address": "returns"}

    out: list[Tree] = field(default_factory=list)


@dataclass(frozen=True)
class MessageKind(Kind):
    """What a kernel message must be."""

    title: ClassVar[str] = "a kernel message: its text, {matches: regex}, or a list of them in order"
    forms: ClassVar[tuple[str, ...]] = ('{matches: "lab: .*"}',)

    def parse(self, node: Node, scope: Reading) -> Value:
        """Read the wish."""
        return Fixed(read_dmesg(node, scope))


@dataclass(frozen=True)
class SyscallKind(TextKind):
    """The name of a system call."""

    title: ClassVar[str] = "the name of a system call"
    forms: ClassVar[tuple[str, ...]] = ("getrandom",)

    def read(self, node: Node, scope: Reading) -> Value:
        """Read a name that some architecture has."""
        text = self.text(node, scope)
        if text is not None and text not in known_syscalls():
            hint = nearest(text, known_syscalls())
            scope.mistakes.add(node, f"unknown system call {text!r} in {scope.place}{hint}")
        return Fixed(text)


@verb
def finish(session: Session, pending: Pending) -> OfPending:
    """Take the result of a call in the background.

    `expect` is about that call's result. `within` is the longest it may take from now on, measured in the
    guest (default: as long as any step, by how slow the target is): say it where the time is what is tested.
    A call that goes on sleeping fails the step, which then tells where it sleeps; a scenario that expects the
    verdict hung, which does not say a time, hangs.
    """
    running, within = _running(pending), session.within(session.current)
    if within is None and not session.hangs:
        within = session.patience
    # Of whichever verb it was: OfPending only stands for it.
    return cast("OfPending", session.take(running, within))


def _running(pending: object) -> Running:
    assert isinstance(pending, Running)
    return pending


@verb
def blocked(session: Session, pending: Pending) -> Sleeping:
    """See that a call in the background sleeps in the kernel, in that very call.

    It waits for that, `within` or the step's usual time: no other step makes sure that the actor got there.
    """
    running = _running(pending)
    within = session.within(session.current) or session.patience
    asleep = session.agent.blocked(running.pending, within=within, timeout=within + session.patience)
    if asleep is None:
        session.fail_awake(running, f"asleep in {running.step.verb}")
    return Sleeping(
        state=asleep.state, wchan=asleep.wchan, call=session.cast.abi(running.actor).syscall_name(asleep.nr)
    )


@verb
def stays_blocked(session: Session, pending: Pending, *, for_: Duration) -> Outcome:
    """See that a call in the background goes on sleeping for a time, measured in the guest.

    For what must *not* wake it. It fails at once when the call ends.
    """
    running = _running(pending)
    if not session.agent.stays_blocked(running.pending, for_, timeout=for_ + session.patience):
        session.fail_awake(running, f"asleep in {running.step.verb} for {for_:g}s more")
    return Outcome()


@verb
def together(session: Session, steps: Steps) -> Outcome:
    """Make steps at once, each by another actor: they start when all have come to a barrier.

    Each has its own `expect` and `as`.
    """
    session.together(steps)
    return Outcome()


@verb
def in_turn(session: Session, steps: Annotated[tuple[Any, ...], StepsKind(in_turn=True)]) -> Outcome:
    """Make steps of one actor one after the other, in the guest: nothing comes between them.

    `times` makes all of them again and again, until one does not come out as it expects, which is looked at
    each time. None uses what another one binds.
    """
    times = session.current.times
    return turns.in_turn(session, steps, 1 if times is None else int(times.resolve(session.context())))


@verb(alias="pass", gives_to="to")
def send_fd(session: Session, fd: Fd, *, to: ActorName) -> Handed:
    """Hand a file descriptor to another actor; `as` binds that actor's descriptor.

    With SCM_RIGHTS over a socket of the lab's own. Both actors must be free.
    """
    giver, ident = session.current.by, session.meeting()
    program = session.program()
    sent = program.send_fd(fd, ident)
    result = session.run(program, by=giver).calls[sent]
    if result.errno is not None:
        return Handed(errno=result.errno)
    program = session.program()
    received = program.receive_fd(ident)
    result = session.run(program, by=to).calls[received]
    if result.errno is not None:
        return Handed(errno=result.errno)
    return Handed(returns=result.value)


@verb
def dmesg(session: Session, wanted: Annotated[Any, MessageKind()]) -> Printed:
    """See that the kernel printed something since the step before the last one.

    It waits for it, `within` or half the step's usual time. `expect: {dmesg: …}` of a step does the same for
    that step's own messages.
    """
    within = session.within(session.current)
    texts = session.await_messages(Expectations(dmesg=wanted), session.earlier, within)
    if texts is not None:
        got = "\n".join(texts[-12:]) or "it printed nothing"
        session.fail(getattr(wanted, "written", "a message"), got, title="dmesg: the message did not come")
    return Printed(messages=[message.text for message in session.messages[session.earlier :]])


@verb
def syscall(
    call: Call, name: Annotated[str, SyscallKind()], *, args: list[Memory] | None = None
) -> Plan[Called]:
    """Make any system call: the escape hatch.

    `args` are numbers, descriptors, addresses or memory as for `ioctl`; `out` has what each one's memory
    holds after the call (nothing where it is a number).
    """
    given = args or []
    index = call.syscall(name, *given)
    takes = [each.fetch(call) for each in given]
    return call.plan(Called, index, out=lambda reply: [take(reply) for take in takes])
