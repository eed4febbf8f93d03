# SPDX-License-Identifier: MIT
"""One scenario's life inside one guest: its actors, what its steps bound, what they gave.

The runner makes the steps of a YAML scenario with it, and `Hand` (lab/run/hand.py) those of a Python test.
"""

from __future__ import annotations

import errno
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from lab.errors import GuestError, GuestHung, LabError, Mistake, ScenarioError, UsageError
from lab.guest import wire
from lab.guest.agent import Died
from lab.guest.unrolled import Unrolled, most_rounds
from lab.language.composites import RecordKind
from lab.language.context import Context
from lab.language.expect import Expectations, match_messages
from lab.language.expression import ExpressionError
from lab.language.kinds import ErrnoKind
from lab.language.outcome import Bound, Outcome
from lab.language.plan import Call, Plan
from lab.language.show import show
from lab.language.steps import Step
from lab.language.wishes import Mismatch
from lab.run.cast import Cast, Running, describe

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from lab.abi import Abi
    from lab.arch import Architecture
    from lab.guest.agent import Agent
    from lab.guest.kmsg import KernelMessage
    from lab.guest.names import Names
    from lab.language.requires import Machine
    from lab.language.verb import Verb
    from lab.run.narrow import Narrow
    from lab.scenario import ModuleLoad, Scenario

__all__ = ["LeakedReference", "Session", "StepFailed"]

_BUSY_ERRNOS = ("EAGAIN", "EBUSY")  # a module in use; EBUSY while it is still being loaded
T = TypeVar("T")
_CLEANUP = b"\0cleanup_module\0"  # the symbol that a module's exit has
_PAUSE = 0.003  # between two looks at something that only time changes


class StepFailed(Exception):  # noqa: N818 - a verdict's name
    """A step's result is not as wanted. `wanted` and `got` are for a report, several lines each."""

    def __init__(
        self,
        step: Step,
        wanted: str,
        got: str,
        notes: Sequence[str] = (),
        *,
        title: str = "",
        unclean: bool = False,
    ) -> None:
        """`unclean`: all came out as it was wanted, but for what the kernel should have kept to itself."""
        self.step = step
        self.unclean = unclean
        self.wanted = wanted
        self.got = got
        self.notes = list(notes)
        self.title = title or f"{step.verb}: not as wanted"
        super().__init__(self.title)

    def __str__(self) -> str:
        lines = [self.title, f"  at      {self.step.where}", f"  wanted  {_indented(self.wanted)}"]
        lines += [f"  got     {_indented(self.got)}", *(f"  {note}" for note in self.notes)]
        return "\n".join(lines)


class LeakedReference(Exception):  # noqa: N818 - what happened
    """The scenario is over, but a module cannot be unloaded or an actor cannot be killed."""


class Session:
    """One scenario inside one guest. Not to be used again after finish()."""

    def __init__(
        self,
        agent: Agent,
        abi: Abi,
        *,
        arch: Architecture,
        modules: Mapping[str, bytes],
        verbs: Mapping[str, Verb],
        seed: int = 0,
        patience: float = 5.0,
        config: Mapping[str, str] | None = None,
        narrow: Callable[[], Narrow] | None = None,
        machine: Machine | None = None,
    ) -> None:
        """`modules` are images and `verbs` what steps may have, by name. `machine` is what the kernel is.

        `patience` is a step's default deadline in seconds, scaled.
        `narrow` makes what 32-bit actors are made of when the first one is wanted, or raises Unsupported.
        """
        self.agent = agent
        self.abi = abi
        self.arch = arch
        self.modules = modules
        self.verbs = verbs
        self.machine = machine
        self.seed = seed
        self.patience = patience
        self.cast = Cast(
            agent,
            abi,
            config=config or {},
            narrow=narrow,
            context=self.context,
            patience=lambda: self.patience,
            fail=self.fail,
        )
        self.bound: dict[str, Any] = {}
        self._names = Bound(self.bound, self.cast.facts)
        self.messages: list[KernelMessage] = []
        self.meant: set[int] = set()  # the numbers of those that a step wants
        self.names: Names | None = None  # what had one in the kernel before the modules came
        self.loaded: list[str] = []  # in order
        self.current = Step(Path("session"), 0, "start", "")
        self._within: float | None = None
        self.hangs = False  # whether the scenario expects that it hangs
        self.handless = False  # the agent's own actor is dead: nothing can be loaded or unloaded any more
        self._meetings = 0
        self._mark = 0  # how many kernel messages there were before the current step
        self.earlier = 0  # and before the one before it

    # --- the scenario's frame ---------------------------------------------------------------------------

    def start(self, scenario: Scenario, *, loaded: bool = False) -> None:
        """Bring the actors to life and load the modules, unless the guest was made with them `loaded`.

        Such a guest has the program of 32-bit actors too, where the scenario has any.

        Raises StepFailed for a module that does not load, Unsupported for actors that cannot be made here.
        """
        self._within = scenario.within
        self.hangs = scenario.expect_verdict == "hung"
        self.current = Step(scenario.file, scenario.line, "load", f"modules of {scenario.name!r}")
        if loaded:
            self.cast.narrow_sent = True
            self.loaded = [module.name for module in scenario.modules if not module.shipped]
        else:
            self.load_modules(scenario.modules)
        by_steps = set(scenario.loads) - {module.name for module in scenario.modules}
        if by_steps and self.names is None:
            self.names = self.agent.names(self.patience, wide=True)
        for spec in sorted(scenario.actors, key=lambda each: each.thread_of is not None):
            self.cast.spawn(spec)

    def load_modules(self, modules: Sequence[ModuleLoad]) -> None:
        """Load modules by the agent's own hand, in order; raises StepFailed when one is refused."""
        for module in modules:
            if not module.shipped and self.names is None:
                self.names = self.agent.names(self.patience, wide=True)
            tail = f" with {module.text}" if module.text else ""
            image = self.image(module.name)
            result = self._by_hand(
                f"loading {module.name}{tail}",
                lambda image=image, text=module.text: self.agent.load_module(  # type: ignore[misc]
                    image, text, timeout=self.patience
                ),
            )
            if module.shipped and result.errno in (None, errno.EEXIST):
                if result.errno is None and not self.loaded:
                    self.names = None  # what it brought is not the tested ones'
                continue  # the kernel's: who asks for it does not test it, and it goes with the guest
            if result.errno is not None:
                shown = show(result.errno, ErrnoKind(), self.context())
                # All that the kernel gives for a symbol that it did not find, which it names in its log.
                notes = [_NO_SYMBOL] if result.errno == errno.ENOENT else []
                self.fail(f"{module.name} loads{tail}", shown, *notes, title=f"{module.name} does not load")
            self.loaded.append(module.name)

    def _by_hand(self, what: str, call: Callable[[], T]) -> T:
        """Do something by the agent's own hand, load a module say; what becomes of it is told like a step's.

        Raises StepFailed when that actor is killed in it, GuestHung when the call does not come back.
        """
        self.current = Step(self.current.file, self.current.line, "load", what)
        try:
            return call()
        except GuestHung as error:
            raise GuestHung(f"{what} does not come back", hint=error.hint) from error
        except Died as error:
            self.handless = True
            self.take_messages()
            self.fail(
                "it comes back", f"who did it {self.cast.death(error.status)}", title=f"{what} was fatal"
            )
        finally:
            self.take_messages()

    def look(self, *, wide: bool) -> Names:
        """Return what has a name in the kernel; raises what _by_hand() does."""
        return self._by_hand("looking what is left", lambda: self.agent.names(self.patience, wide=wide))

    def image(self, name: str) -> bytes:
        """Return a module's image; UsageError when there is none of that name."""
        return Call(self.context(), self.program(), actor="main").image(name)

    def finish(self) -> None:
        """Reap the actors and unload the modules in reverse.

        Raises LeakedReference for what is not given back within the session's patience.
        """
        self.current = Step(self.current.file, self.current.line, "finish", "the end of the scenario")
        left = self.agent.reap(timeout=self.patience)
        self.take_messages()
        if left:
            names = (
                describe(each.actor or f"pid {each.pid}", each.state, self.cast.abi(each.actor or ""))
                for each in left
            )
            raise LeakedReference("killed, but still there: " + "\n".join(names))
        for name in reversed(self.loaded):
            self._unload(name)
        self.loaded.clear()

    def _unload(self, name: str) -> None:
        left = self.agent.deadline(self.patience)
        nonblock = self.abi.constants.get("O_NONBLOCK", 0o4000)
        while True:
            result = self._by_hand(
                f"unloading {name}",
                lambda: self.agent.unload_module(name, nonblock, timeout=self.patience),
            )
            error = None if result.errno is None else self.abi.errno_name(result.errno)
            if error is None or error == "ENOENT":  # a step unloaded it by a raw system call
                return
            if error == "EBUSY" and _CLEANUP not in self.modules.get(name, _CLEANUP):
                raise LeakedReference(f"{name} has no exit: no kernel unloads such a module")
            if error not in _BUSY_ERRNOS or left() <= 0:
                raise LeakedReference(f"{name} cannot be unloaded after the scenario: {error}")
            time.sleep(_PAUSE)

    # --- steps ------------------------------------------------------------------------------------------

    def step(self, step: Step) -> Any:
        """Make a step and return its outcome (of one in the background: the `Running` call).

        Raises StepFailed when it is not as expected, ScenarioError for what turns out to make no sense on
        this target, Unsupported for what the target cannot do, GuestHung and GuestLost as they happen.
        """
        self.current = step
        verb = self.verbs[step.verb]
        self.earlier, self._mark = self._mark, len(self.messages)
        try:
            outcome = self._plan_step(step, verb) if verb.plans else self._control_step(step, verb)
        except (UsageError, ExpressionError) as error:
            if isinstance(error, ScenarioError):
                raise
            message = error.message if isinstance(error, LabError) else str(error)
            raise ScenarioError([Mistake(step.file, step.line, f"step {step.verb!r}: {message}")]) from error
        except GuestError as error:
            error.add_note(f"in step {step.where}")
            raise
        finally:
            self.take_messages()
        self.bind(step, outcome)
        return outcome

    def bind(self, step: Step, outcome: Any) -> None:
        """Keep what a step gave under its name."""
        if step.bind is not None:
            self.bound[step.bind] = outcome

    def context(self, actor: str = "main") -> Context:
        """Return what values resolve against."""
        return Context(
            self.cast.abi(actor),
            seed=self.seed,
            bindings=self._names,
            actor=actor,
            modules=self.modules,
            machine=self.machine,
        )

    def prepare(self, step: Step, *, meeting: tuple[int, int, float] | None = None) -> Running:
        """Plan a step and hand it to its actor; `meeting` is a barrier at first: number, parties, seconds.

        Fails the step when the actor is dead or busy.
        """
        self.cast.need_free(step.by)
        arch = self.cast.abi(step.by).arch
        program = wire.Program(arch)
        if meeting is not None:
            program.barrier(*meeting)
        call, plan = self.plan(step, program)
        unrolled: Unrolled | None = None
        if call.times > 1:
            # What `finish` will expect of a call in the background is not known yet.
            looked_at = step.expect.on(self.machine).seen_by_host(compared=call.compared)
            if looked_at or (step.background and call.times <= most_rounds([program])):
                times, round_ = call.times, wire.Program(arch)
                call, plan = self.plan(step, round_, once=True)
                program = unrolled = Unrolled(arch, [round_], times, meeting=meeting)
        verb, pending = self.verbs[step.verb], self.agent.submit(step.by, program)
        running = Running(step, verb, call, plan, pending, self._mark, unrolled)
        self.cast.began(running)
        return running

    def plan(
        self, step: Step, program: wire.Program, *, each: bool = False, once: bool = False
    ) -> tuple[Call, Plan[Any]]:
        """Put a step of a verb that plans into a program; return what it resolves against, and the plan.

        `each`: something repeats the program, and what the step expects is looked at each time. `once`: it is
        one round of several, and what it brings back is looked at here.
        """
        call = Call(self.context(step.by), program, actor=step.by)
        if step.times is not None and not once:
            call.times = int(step.times.resolve(call))
        if step.times is not None or each or once:
            expect = step.expect.on(self.machine)
            call.want, call.wanted = expect.range(call), None if once else expect.data(call)
            if call.want is None and "errno" in expect.fields:
                call.want = (-(1 << 63), (1 << 63) - 1)  # which failure is wanted is not the guest's matter
        arguments = {name: value.resolve(call) for name, value in step.arguments.items()}
        return call, self.verbs[step.verb].signature.function(call, **arguments)

    def program(self) -> wire.Program:
        """Return an empty program for this target."""
        return wire.Program(self.arch)

    def run(self, program: wire.Program, by: str | None = None) -> wire.Reply:
        """Let an actor (default: the step's) run a program of a control verb's own."""
        actor = self.current.by if by is None else by
        self.cast.need_free(actor)
        reply = self.agent.run(actor, program, timeout=self.patience)
        if reply.exited is not None:
            self.cast.died(actor, reply.exited, self.current)
            self.cast.need(actor)
        return reply

    def together(self, steps: Sequence[Step]) -> None:
        """Make steps at once; each is judged on its own, the first that is not as expected fails."""
        outer, number = self.current, self.meeting()
        running: list[Running] = []
        for step in steps:
            self.current = step
            # On a slow target the last one may come late.
            running.append(self.prepare(step, meeting=(number, len(steps), 2 * self.patience)))
        failed: list[StepFailed] = []
        for each in running:
            self.current = each.step
            if each.step.background:
                self.bind(each.step, each)
                continue
            try:
                outcome = self.take(each, self.within(each.step))
                self.bind(each.step, outcome)
                self.judge(each.step, outcome, each)
            except StepFailed as failure:
                failed.append(failure)
        self.current = outer
        if failed:
            first, *rest = failed
            first.notes += [f"and {other.step.where}: {other.title}" for other in rest]
            raise first

    def await_end(self, actor: str) -> int:
        """Wait until an actor is dead and return its wait status; fails the step when it goes on living."""
        within = self.within(self.current)
        left = self.agent.deadline(self.patience if within is None else within)
        while True:
            for each in self.agent.exits:
                if each.actor == actor:
                    self.cast.note_exits()
                    return each.status
            if left() <= 0:
                notes = self.cast.asleep(actor) if self.cast.busy(actor) else []
                self.fail(f"the end of actor {actor!r}", "it is still there", *notes)
            self.nudge()

    def nudge(self) -> None:
        """Let a little time pass and ask the agent for anything: what was printed before comes with it."""
        time.sleep(_PAUSE)
        self.agent.sync(timeout=self.patience)
        self.take_messages()

    def fail_awake(self, running: Running, wanted: str) -> NoReturn:
        """Fail the step because a call in the background does not sleep: tell what it does instead."""
        reply = self.agent.finish(running.pending, within=0.0, timeout=self.patience)
        if reply is None:
            where = self.cast.asleep(running.actor)
            self.fail(wanted, "it runs", *where, title=f"{running.step.verb} does not sleep")
        outcome = self.take(running, None)
        shown = show(outcome, RecordKind(record=type(outcome)), running.call)
        self.fail(wanted, f"it ended: {shown}", title=f"{running.step.verb} ended instead of sleeping")

    def meeting(self) -> int:
        """Return a fresh number for a barrier."""
        self._meetings = (self._meetings + 1) % 0x10000
        return self._meetings

    def _plan_step(self, step: Step, verb: Verb) -> Any:  # noqa: ARG002 - the two kinds look alike
        running = self.prepare(step)
        if step.background:
            return running
        outcome = self.take(running, self.within(step))
        self.judge(step, outcome, running)
        return outcome

    def within(self, step: Step) -> float | None:
        """Return how long a step may take, None for the session's patience."""
        return step.within if step.within is not None else self._within

    def take(self, running: Running, within: float | None) -> Outcome:
        """Wait for a call and return its outcome.

        One that does not come within the time given fails the step; without a time given it is GuestHung.
        """
        if running.outcome is not None:
            self.fail("a call that was not finished before", f"line {running.step.line} was finished already")
        timeout = self.patience + (within or 0.0)
        try:
            reply = self.agent.finish(running.pending, within=within, timeout=timeout)
        except GuestHung as error:
            what = f"{running.verb.name} by {running.actor!r} does not come back"
            raise GuestHung(what, hint=error.hint) from error
        if reply is None:
            self.fail(
                f"an answer of {running.step.verb} within {within:g}s",
                "it is still in the call",
                *self.cast.asleep(running.actor),
                title=f"{running.step.verb} did not end in time",
            )
        self.cast.ended(running, reply.exited)
        outcome: Outcome
        if running.unrolled is None or reply.exited is not None:
            outcome = running.plan.decode(reply)
        else:
            rounds = running.unrolled.rounds(reply)
            *running.before, outcome = (running.plan.decode(own) for (own,) in rounds)
            outcome = replace(outcome, completed=running.unrolled.completed(reply))
        running.outcome = outcome
        # Whose unloading killed who asked for it will not be unloaded by anybody.
        if outcome.returns == 0 or (reply.exited is not None and running.plan.unloads is not None):
            self._note_modules(running.plan)
        return outcome

    def _note_modules(self, plan: Plan[Any]) -> None:
        """Remember what a call did to the modules."""
        if plan.loads is not None:
            self.loaded.append(plan.loads)
        if plan.unloads in self.loaded:
            self.loaded.remove(plan.unloads)

    def _control_step(self, step: Step, verb: Verb) -> Any:
        context = self.context(step.by)
        arguments = {name: value.resolve(context) for name, value in step.arguments.items()}
        outcome = verb.signature.function(self, **arguments)
        running = next((value for value in arguments.values() if isinstance(value, Running)), None)
        finished = running is not None and outcome is running.outcome
        self.judge(step, outcome, running if finished else None)
        return outcome

    def judge(
        self, step: Step, outcome: Outcome, running: Running | None = None, *, context: Context | None = None
    ) -> None:
        """Compare an outcome with what the step expects; raises StepFailed where it differs.

        `context` is what the step was resolved against, where no `running` call says it.
        """
        context = running.call if running else context or self.context(step.by)
        times = running.times if running else 1
        expect = step.expect.on(self.machine)
        if running is not None and running.step is not step and running.unrolled is None and times > 1:
            _need_no_rounds(expect, times)
        for index, before in enumerate(running.before if running else (), 1):
            if found := expect.without("completed").check(before, context):
                raise self._failure(step, found, running, f"in round {index} of {times}")
        mismatches = expect.check(outcome, context, times=times)
        if running is not None:
            mismatches += _out_of_bounds(expect, outcome, running.call.bounds)
        self.take_messages()
        if expect.dmesg is not None:
            mismatches += self._judge_messages(expect, running.mark if running else self._mark, step)
        if expect.no_messages:
            mismatches += self._judge_silence(running.mark if running else self._mark)
        if mismatches:
            raise self._failure(step, mismatches, running, *self._past_the_end(expect, outcome, running))

    def _past_the_end(self, expect: Expectations, outcome: Outcome, running: Running | None) -> list[str]:
        """Return what EFAULT means where nobody meant it and all memory was good."""
        if running is None or "errno" in expect.fields or outcome.errno is None:
            return []
        kinds = {buffer.kind for buffer, _ in running.call.program.buffers}
        if self.abi.errno_name(outcome.errno) != "EFAULT" or kinds != {wire.Kind.PLAIN}:
            return []
        return ["the memory that it was given ends where nothing is: the kernel went past the end of it"]

    def _failure(
        self, step: Step, mismatches: list[Mismatch], running: Running | None, *notes: str
    ) -> StepFailed:
        wanted, got = zip(*(mismatch.lines() for mismatch in mismatches), strict=True)
        first = mismatches[0]
        verb = running.verb.name if running else step.verb
        unclean = all(mismatch.dirt is not None for mismatch in mismatches)
        if unclean:
            title = f"{verb}: padding that is not zero went out"
        elif first.path:
            parts = dict.fromkeys(mismatch.path.partition("[")[0] for mismatch in mismatches)
            title = f"{verb}: {', '.join(parts)} not as wanted"
        else:
            title = f"{verb} failed: {first.got.partition(' (')[0]}"
        if running is not None and running.step is not step:
            notes += (f"it was started in line {running.step.line}: {running.step.text}",)
        return StepFailed(step, "\n".join(wanted), "\n".join(got), notes, title=title, unclean=unclean)

    def _judge_messages(self, expect: Expectations, mark: int, step: Step) -> list[Mismatch]:
        wish = expect.dmesg
        assert wish is not None
        texts = self.await_messages(expect, mark, self.within(step))
        if texts is None:
            return []
        got = "\n".join(texts[-12:]) if texts else "the kernel printed nothing"
        return [Mismatch("dmesg", getattr(wish, "written", ""), got)]

    def _judge_silence(self, mark: int) -> list[Mismatch]:
        """Look for messages of the kernel's that came before the call's answer, or at once after it."""
        self.nudge()
        said = [message.text for message in self.messages[mark:] if message.facility == 0]
        return [Mismatch("no_messages", "the kernel says nothing", "\n".join(said[:12]))] if said else []

    def await_messages(self, expect: Expectations, mark: int, within: float | None) -> list[str] | None:
        """Wait until the kernel printed what is expected; None when it did, else what it printed instead.

        What a kernel thread prints comes when it comes: the wait lasts `within` or half the patience.
        """
        wish = expect.on(self.machine).dmesg
        assert wish is not None
        left = self.agent.deadline(self.patience / 2 if within is None else within)
        context = self.context()
        while True:
            since = self.messages[mark:]
            texts = [message.text for message in since]
            found = match_messages(wish, texts, context)
            if found is not None:
                self.meant |= {since[each].sequence for each in found}
                return None
            if left() <= 0:
                return texts
            self.nudge()

    @property
    def lost(self) -> int:
        """How many messages of the kernel's nobody will ever see."""
        return self.agent.lost

    def take_messages(self) -> None:
        """Take over what the kernel printed since."""
        self.messages += self.agent.messages()

    def fail(self, wanted: str, got: str, *notes: str, title: str = "") -> NoReturn:
        """Fail the current step."""
        raise StepFailed(self.current, wanted, got, notes, title=title)


_NO_SYMBOL = (
    "a symbol that it wants is of no module loaded so far: the one that has it stands before it in `modules`"
)


def _need_no_rounds(expect: Expectations, times: int) -> None:
    """Raise UsageError for what a `finish` expects of each round where there is only the last one."""
    parts = expect.of_each_round()
    if parts:
        raise UsageError(
            f"{', '.join(parts)} of {times} times in the background cannot be looked at each time: "
            "expect `completed`, or do it less often"
        )


def _out_of_bounds(expect: Expectations, outcome: Outcome, bounds: tuple[int, int] | None) -> list[Mismatch]:
    """Return what is wrong with a call that moved more than it was asked for, or nothing, unless expected."""
    returned = outcome.returns
    if bounds is None or returned is None or "returns" in expect.fields:
        return []
    least, most = bounds
    if returned > most:
        return [Mismatch("returns", f"{most} at most: it was asked for no more", f"{returned}")]
    if returned < least:
        return [Mismatch("returns", f"{least} at least: who is told 0 tries again, for ever", f"{returned}")]
    return []


def _indented(text: str) -> str:
    return text.replace("\n", "\n          ")
