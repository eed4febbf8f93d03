# SPDX-License-Identifier: MIT
"""A step, read from its mapping: one verb, its arguments, and what is wanted of the result."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path  # noqa: TC003 - a record's field
from typing import TYPE_CHECKING

from lab.abi.layout import nearest
from lab.guest.layouts import MAX_OPERATIONS
from lab.language.composites import ActorKind, ListKind, RecordKind, StepsKind
from lab.language.expect import Expectations, read_expectations
from lab.language.kinds import BoolKind, DurationKind, IntKind
from lab.language.nodes import MappingNode, Node, Pairs, ScalarNode, SequenceNode, line_of, text_of
from lab.language.outcome import OfPending
from lab.language.scope import Known, Scope
from lab.language.values import REFERENCE, Fixed, Reference, Value

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from lab.language.kinds import Kind
    from lab.language.verb import Verb

COMMON = ("by", "as", "background", "within", "times", "expect")


@dataclass(frozen=True)
class Step:
    """One line of a scenario."""

    file: Path
    line: int
    verb: str
    text: str  # as written, in one line, for reports
    arguments: Mapping[str, Value] = field(default_factory=dict)
    by: str = "main"
    bind: str | None = None
    background: bool = False
    within: float | None = None  # seconds, measured in the guest
    times: Value | None = None
    expect: Expectations = field(default_factory=Expectations)

    @property
    def where(self) -> str:
        """File, line and the step itself."""
        return f"{self.file}:{self.line}: {self.text}"


def all_steps(steps: Iterable[Step]) -> Iterator[Step]:
    """Yield steps and those within them."""
    for step in steps:
        yield step
        for value in step.arguments.values():
            if isinstance(value, Fixed) and isinstance(value.value, tuple):
                yield from all_steps(each for each in value.value if isinstance(each, Step))


def read_steps(node: Node, scope: Scope) -> tuple[Step, ...]:
    """Return the steps of a scenario; notes mistakes in the scope."""
    scope.steps = node
    found = (read_step(item, scope) for item in scope.mistakes.items(node, "steps"))
    return tuple(step for step in found if step is not None)


def read_inner(node: Node, scope: Scope, in_turn: bool) -> tuple[Step, ...]:
    """Return the steps that are made at once, each by another actor, or in turn, by one.

    None uses what another one binds.
    """
    word = "in_turn" if in_turn else "together"
    outer, before = scope.actor, dict(scope.bound)
    found: list[Step] = []
    bound: dict[str, Known] = {}
    items = scope.mistakes.items(node, scope.place)
    if len(items) > MAX_OPERATIONS:
        scope.mistakes.add(node, f"`{word}` has {len(items)} steps, {MAX_OPERATIONS} are the most")
        return ()
    for item in items:
        step = read_step(item, scope)
        if step is None:
            continue
        if not scope.verbs[step.verb].plans:
            scope.mistakes.add(item, f"step {step.verb!r} cannot be part of `{word}`")
        twice = next((other for other in found if other.by == step.by), None)
        if in_turn:
            _check_turn(item, step, found, scope)
        elif twice is not None:
            line = f"line {twice.line}" if twice.line != step.line else "the step before"
            scope.mistakes.add(item, f"actor {step.by!r} has a step of this `together` already: {line}")
        bound.update({name: known for name, known in scope.bound.items() if name not in before})
        scope.bound = dict(before)
        found.append(step)
    if isinstance(node, SequenceNode) and len(items) < (1 if in_turn else 2):
        scope.mistakes.add(node, f"`{word}` wants {'a step' if in_turn else 'two steps'} or more")
    scope.bound = {**before, **bound}
    scope.actor = outer
    return tuple(found)


def _check_turn(item: Node, step: Step, before: list[Step], scope: Scope) -> None:
    """Note what a step cannot have that others follow without the host."""
    for key, given in (("background", step.background), ("times", step.times), ("within", step.within)):
        if given:
            scope.mistakes.add(item, f"a step of `in_turn` has no {key!r} of its own")
    if before and step.by != before[0].by:
        scope.mistakes.add(item, f"all steps of `in_turn` are by one actor: {before[0].by!r}")
    wishes = list(step.expect.each())
    if any(each.dmesg is not None or each.no_messages or "signal" in each.fields for each in wishes):
        scope.mistakes.add(item, "a step of `in_turn` can expect neither messages nor a signal")


def read_step(node: Node, scope: Scope) -> Step | None:
    """Return one step, or None when its verb cannot be told."""
    mistakes = scope.mistakes
    if not isinstance(node, MappingNode):
        mistakes.add(node, f"a step is a mapping with one verb, not {text_of(node, 40)}")
        return None
    pairs = mistakes.pairs(node, "a step")
    verb, key = _verb(node, pairs, scope)
    if verb is None:
        return None
    own = pairs.pop(key)[1]
    what = f"step {key!r}"
    by = _actor(verb, own, pairs, scope)
    arguments = verb.signature.read(own, pairs, scope, what=what, where=node, also=COMMON)
    judged, judged_arguments = _judged(verb, arguments, scope)
    with scope.at(f"'within' of {what}"):
        within = DurationKind().parse(pairs["within"][1], scope) if "within" in pairs else Fixed(None)
    with scope.at(f"'times' of {what}"):
        times = IntKind().parse(pairs["times"][1], scope) if "times" in pairs else None
    several = next(
        (each.kind for each in verb.signature.parameters.values() if isinstance(each.kind, StepsKind)), None
    )
    if several is not None and "by" in pairs:
        mistakes.add(pairs["by"][0], f"{what} is made by who makes the steps in it: say `by` there")
    if "times" in pairs and not verb.plans and (several is None or not several.in_turn):
        mistakes.add(pairs["times"][0], f"{what} is made once: it has no 'times'")
    expect = Expectations()
    if "expect" in pairs:
        expect = read_expectations(pairs["expect"][1], judged, judged_arguments, scope)
    step = Step(
        file=mistakes.file,
        line=line_of(node),
        verb=verb.name,
        text=text_of(node, 160),
        arguments=arguments,
        by=by,
        background=_background(verb, pairs, scope),
        bind=mistakes.scalar(pairs["as"][1], "the name after 'as'") if "as" in pairs else None,
        within=within.value if isinstance(within, Fixed) else None,
        times=times,
        expect=expect,
    )
    _consequences(verb, step, pairs, scope, judged=judged, arguments=judged_arguments)
    return step


def _verb(node: Node, pairs: Pairs, scope: Scope) -> tuple[Verb | None, str]:
    verbs = scope.verbs
    found = [word for word in pairs if word in verbs]
    if len(found) == 1:
        return verbs[found[0]], found[0]
    if found:
        scope.mistakes.add(node, f"a step has one verb, this has {' and '.join(map(repr, found))}")
        return None, ""
    others = [word for word in pairs if word not in COMMON]
    guesses = ((word, nearest(word, verbs)) for word in others)
    word, hint = next(((word, hint) for word, hint in guesses if hint), (others[0] if others else "", ""))
    if "as" in pairs:  # what it would have bound is not unknown as well
        name = text_of(pairs["as"][1])
        scope.bound.setdefault(name, Known(word, line_of(node), object, set(scope.actors), unread=True))
    if word:
        scope.mistakes.add(pairs[word][0], f"unknown verb {word!r}{hint}")
    else:
        scope.mistakes.add(node, "this step has no verb")
    return None, ""


def _actor(verb: Verb, own: Node, pairs: Pairs, scope: Scope) -> str:
    """Return who makes the step; sets it in the scope for what is read next."""
    by = scope.default_by or "main"
    if "by" in pairs:
        name = scope.mistakes.scalar(pairs["by"][1], "the actor after 'by'")
        if name is not None:
            scope.need_actor(name, pairs["by"][1])
            by = name if scope.actor_exists(name) else by
    elif verb.plans or verb.inherits or verb.gives_to:
        by = _owner(own, verb.signature.first.kind, scope)
    scope.actor = by
    return by


def _owner(own: Node, kind: Kind, scope: Scope) -> str:
    """Return whose step it is that does not say: his who alone has its descriptor or mapping.

    Who makes such steps anyway makes it where he has them too. It is a mistake where nobody can tell.
    """
    names = list(dict.fromkeys(_owned(own, kind, scope)))
    default = scope.default_by
    who = set(scope.actors).intersection(*(scope.bound[name].owners for name in names))
    if default is not None and (not names or not who or default in who):
        return default  # of descriptors that nobody has together each is told when it is read
    if names and len(who) == 1:
        return who.pop()
    asked = f"Say `by` ({', '.join(scope.actors)})"
    if names and who:
        owners = " and ".join(sorted(who))
        scope.mistakes.add(own, f"who makes this step? {asked}: ${names[0]} belongs to {owners}")
        return min(who)  # so that this is the only mistake
    scope.mistakes.add(own, f"who makes this step? {asked}, or have an actor main")
    return "main"


def _owned(node: Node, kind: Kind, scope: Scope) -> Iterator[str]:
    """Yield the names in a verb's own value that stand for descriptors or mappings of an actor."""
    node = scope.given(node)
    if isinstance(kind, ListKind) and isinstance(node, SequenceNode):
        for item in node.value:
            yield from _owned(item, kind.of, scope)
    elif isinstance(kind, RecordKind) and isinstance(node, MappingNode):
        for key, value in node.value:
            if key.value in kind.parts:
                yield from _owned(value, kind.parts[key.value][0], scope)
    elif kind.wants in ("fd", "address") and isinstance(node, ScalarNode):
        for name, part in REFERENCE.findall(node.value):
            known = scope.bound.get(name)
            if known is not None and not known.pending and not known.unread:
                bare = getattr(known.outcome, "bare", {})
                if kind.wants == "fd" or ("address" in bare and not part):
                    yield name


def _background(verb: Verb, pairs: Pairs, scope: Scope) -> bool:
    if "background" not in pairs:
        return False
    node = pairs["background"][1]
    with scope.at("'background'"):
        value = BoolKind().parse(node, scope)
    background = isinstance(value, Fixed) and value.value is True
    if background and not verb.plans:
        scope.mistakes.add(node, f"step {verb.name!r} cannot be in the background")
    elif background and "expect" in pairs:
        scope.mistakes.add(
            pairs["expect"][0], "a step in the background has no result yet: `finish` expects it"
        )
    elif background and "as" not in pairs:
        scope.mistakes.add(node, "a step in the background wants `as`: how else would it be finished?")
    if background and "within" in pairs:
        scope.mistakes.add(pairs["within"][0], "a step in the background has no `within`: its `finish` has")
    return background


def _judged(verb: Verb, arguments: Mapping[str, Value], scope: Scope) -> tuple[Verb, Mapping[str, Value]]:
    """Return the verb whose outcome a step has, and its arguments: of `finish`, the call that it finishes."""
    if verb.outcome is OfPending:
        pending = next((value for value in arguments.values() if isinstance(value, Reference)), None)
        known = scope.bound.get(pending.path) if pending else None
        if known is not None:
            return scope.verbs[known.verb], known.arguments
    return verb, arguments


def _consequences(
    verb: Verb, step: Step, pairs: Pairs, scope: Scope, *, judged: Verb, arguments: Mapping[str, Value]
) -> None:
    """Tell the scope what the step changes: names, actors, who has which file descriptors."""
    owner = step.by
    for parameter in verb.signature.parameters.values():
        value = step.arguments.get(parameter.name)
        if not isinstance(parameter.kind, ActorKind) or not isinstance(value, Fixed):
            continue
        if parameter.kind.new and verb.inherits:
            scope.inherit(step.by, str(value.value))
        elif parameter.key == verb.gives_to:
            owner = str(value.value)
    if verb.outcome is OfPending:
        for value in step.arguments.values():
            known = scope.bound.get(value.path) if isinstance(value, Reference) else None
            if known is not None:
                known.finished, owner = step.line, min(known.owners, default=owner)
    if step.bind is not None and "as" in pairs:
        known = Known(
            verb=judged.name,
            line=step.line,
            outcome=judged.outcome,
            owners=scope.family(owner),
            pending=step.background,
            arguments=arguments,
        )
        scope.bind(step.bind, pairs["as"][1], known)
