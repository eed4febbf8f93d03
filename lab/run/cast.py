# SPDX-License-Identifier: MIT
"""Who acts in a scenario: its actors, what each of them is in the middle of, which of them are dead."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from lab.errors import GuestError, Unsupported
from lab.guest.answers import LAB
from lab.language.outcome import ActorFacts, Outcome
from lab.language.plan import Call, Plan, exit_fields
from lab.run import narrow as narrow_
from lab.scenario import ActorSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lab.abi import Abi
    from lab.guest.agent import Agent
    from lab.guest.answers import ActorState, Pending
    from lab.guest.unrolled import Unrolled
    from lab.language.context import Context
    from lab.language.steps import Step
    from lab.language.verb import Verb


@dataclass
class Running:
    """A call under way: what `background` binds and `finish` takes the result of."""

    step: Step
    verb: Verb
    call: Call
    plan: Plan[Any]
    pending: Pending
    mark: int  # how many kernel messages there were when it started
    unrolled: Unrolled | None = None  # the program, where its rounds are looked at one by one
    before: list[Outcome] = field(default_factory=list)  # what all rounds but the last gave
    outcome: Outcome | None = field(default=None)

    @property
    def times(self) -> int:
        """How often it is made."""
        return self.call.times if self.unrolled is None else self.unrolled.times

    @property
    def actor(self) -> str:
        """Who makes it."""
        return self.step.by


class Fail(Protocol):
    """Fails the step that is being made."""

    def __call__(self, wanted: str, got: str, *notes: str, title: str = "") -> NoReturn:
        """Tell what was wanted and what there is instead."""


class Cast:
    """The actors of one scenario in one guest."""

    def __init__(
        self,
        agent: Agent,
        abi: Abi,
        *,
        config: Mapping[str, str],
        narrow: Callable[[], narrow_.Narrow] | None,
        context: Callable[[], Context],
        patience: Callable[[], float],
        fail: Fail,
    ) -> None:
        """`config` is the kernel's. `narrow` makes what 32-bit actors are made of, or raises Unsupported.

        `context` gives what an actor's properties resolve against, `patience` how long, in seconds, the agent
        may take now.
        """
        self.facts: dict[str, ActorFacts] = {}  # of the dead, too
        self._agent = agent
        self._abi = abi
        self._config = config
        self._narrow = narrow
        self._context = context
        self._patience = patience
        self._fail = fail
        self._narrow_abi: Abi | None = None  # once there is a 32-bit actor
        self._narrow_actors: set[str] = set()
        self.narrow_sent = False  # whether the guest has their program
        self._running: dict[str, Running] = {}  # what each is in the middle of
        self._dead: dict[str, str] = {}  # and how they died

    def spawn(self, spec: ActorSpec) -> None:
        """Bring an actor to life."""
        context, natural = self._context(), self._abi.arch.word * 8
        word = natural if spec.word is None else spec.word
        if spec.word is not None:
            reason = narrow_.why_not(word, self._abi.arch, self._config)
            if reason is not None:
                raise Unsupported(reason)
        owner = spec.thread_of
        if owner is not None:
            self.need(owner)
        caps = None if spec.caps is None else _bits(each.resolve(context) for each in spec.caps)
        actor = self._agent.spawn(
            spec.name,
            uid=spec.uid.resolve(context),
            gid=spec.gid.resolve(context),
            caps=caps,
            sigmask=_bits(each.resolve(context) - 1 for each in spec.sigmask),
            thread_of=owner,
            timeout=self._patience(),
        )
        if word != natural:
            self._make_narrow(spec.name)
        elif owner in self._narrow_actors:
            self._narrow_actors.add(spec.name)
        self.facts[spec.name] = ActorFacts(pid=actor.pid, tid=actor.tid)

    def _make_narrow(self, name: str) -> None:
        if self._narrow_abi is None:
            if self._narrow is None:
                raise Unsupported("this guest was made without what 32-bit actors are made of")
            made = self._narrow()
            if not self.narrow_sent:
                narrow_.send(made.program, self._agent, self._abi, timeout=self._patience())
                self.narrow_sent = True
            self._narrow_abi = replace(made.abi, page_size=self._abi.page_size)
        narrow_.become(name, self._agent, self._abi, timeout=self._patience())
        self._narrow_actors.add(name)

    def abi(self, actor: str) -> Abi:
        """Return the constants, structs and system calls of an actor: a 32-bit one has its own."""
        if actor in self._narrow_actors:
            assert self._narrow_abi is not None  # known since the first of them came to be
            return self._narrow_abi
        return self._abi

    def need(self, name: str) -> None:
        """Make sure that an actor is there; `main` comes to life when it is first needed."""
        self.note_exits()
        if name in self._dead:
            self._fail("a living actor", f"{name!r} {self._dead[name]}", title=f"actor {name!r} is dead")
        if name in self.facts:
            return
        if name != "main":
            self._fail(f"an actor {name!r}", "none of that name", title=f"there is no actor {name!r}")
        self.spawn(ActorSpec("main"))

    def need_free(self, name: str) -> None:
        """Make sure that an actor is there and makes no other step."""
        self.need(name)
        busy = self._running.get(name)
        if busy is not None:
            self._fail(
                f"actor {name!r} is free",
                f"it is still in line {busy.step.line}: {busy.step.text}",
                *self.asleep(name),
                title=f"actor {name!r} is still busy",
            )

    def born(self, name: str, pid: int, tid: int | None = None, *, of: str | None = None) -> None:
        """Note an actor that a step brought to life (an upcall, a fork `of` another actor)."""
        if of in self._narrow_actors:
            self._narrow_actors.add(name)
        self.facts[name] = ActorFacts(pid=pid, tid=pid if tid is None else tid)
        self._dead.pop(name, None)

    def began(self, running: Running) -> None:
        """Note what an actor is in the middle of."""
        self._running[running.actor] = running

    def busy(self, name: str) -> bool:
        """Tell whether an actor is in the middle of a call."""
        return name in self._running

    def ended(self, running: Running, exited: int | None) -> None:
        """Note that a call has ended; `exited`: its actor with it, with this wait status."""
        self._running.pop(running.actor, None)
        if exited is not None:
            self.died(running.actor, exited, running.step)

    def died(self, name: str, status: int, step: Step | None) -> None:
        """Note the end of an actor, in a step or between its steps."""
        where = f"in line {step.line}: {step.text}" if step else "between its steps"
        self._dead.setdefault(name, f"{self.death(status)} {where}")

    def note_exits(self) -> None:
        """Learn which actors died while they made no step."""
        for each in self._agent.exits:
            if each.actor in self.facts and each.actor not in self._running:
                self.died(each.actor, each.status, None)

    def death(self, status: int) -> str:
        """Return in words how an actor died, by its wait status."""
        fields = exit_fields(status)
        if "signal" in fields:
            return f"was killed by {self._abi.signal_name(fields['signal'])}"
        return "ended" if status == -1 else f"ended with status {fields['status']}"

    def asleep(self, name: str) -> list[str]:
        """Return lines that tell where an actor is, as far as the guest still answers."""
        try:
            state = self._agent.state(name, timeout=self._patience())
            return [describe(name, state, self.abi(name))]
        except GuestError as error:
            return [f"where actor {name!r} is could not be asked: {error.message}"]

    def whereabouts(self, timeout: float) -> list[str]:
        """Return where every living actor is, for a report; raises GuestError when the agent is silent."""
        lines = []
        for name in self.facts:
            if name in self._dead:
                continue
            if any(each.actor == name for each in self._agent.exits):
                continue
            running = self._running.get(name)
            doing = f", in line {running.step.line}: {running.step.text}" if running else ""
            state = self._agent.state(name, timeout=timeout)
            here, *stack = describe(name, state, self.abi(name)).splitlines()
            lines.append("\n".join([here + doing, *stack]))
        if self._agent.busy(LAB):
            lines.append(describe(LAB, self._agent.state(LAB, timeout=timeout), self._abi))
        return lines


_STATES = {"R": "runs", "S": "sleeps", "D": "sleeps and cannot be killed", "T": "is stopped", "Z": "is dead"}


def describe(name: str, state: ActorState, abi: Abi) -> str:
    """Return in one line (and its kernel stack below) where an actor is."""
    first = state.syscall.split(" ", 1)[0]
    call = f" in {abi.syscall_name(int(first))}" if first.isdigit() else ""
    where = f", waiting in {state.wchan}" if state.wchan not in ("", "0") else ""
    does = _STATES.get(state.state, "is in state")
    text = f"actor {name!r} {does} ({state.state}){call}{where}"
    return "\n".join([text, *(f"    {line}" for line in state.stack.splitlines())])


def _bits(numbers: Any) -> int:
    bits = 0
    for number in numbers:
        bits |= 1 << number
    return bits
