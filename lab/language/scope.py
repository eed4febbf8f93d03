# SPDX-License-Identifier: MIT
"""What a scenario's words may refer to where they stand, before any target is there."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lab.abi.layout import nearest
from lab.language.choice import Choice, Needs
from lab.language.composing import weight
from lab.language.composites import ListKind, RecordKind, record_parts
from lab.language.nodes import (
    MappingNode,
    Mistakes,
    Node,
    ScalarNode,
    SequenceNode,
    line_of,
    plain,
)
from lab.language.outcome import ActorFacts, Outcome
from lab.language.requires import Requires
from lab.language.values import NOTHING, Reference, Value

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from lab.language.composing import Budget
    from lab.language.kinds import Kind
    from lab.language.reading import Words
    from lab.language.verb import Verb

# Constants that C has from the compiler, not from a header.
BUILTIN = frozenset(
    {"PAGE_SIZE", "NULL", "INT_MIN", "INT_MAX", "UINT_MAX", "LONG_MIN", "LONG_MAX", "ULONG_MAX", "SSIZE_MAX"}
)

# Which parts of a result can be used where a kind of value is wanted.
_FITS: dict[str, frozenset[str]] = {
    "int": frozenset({"int", "fd", "address", "any", "pid"}),
    "fd": frozenset({"fd", "int", "any"}),
    "pid": frozenset({"int", "pid", "any"}),
    "address": frozenset({"address", "int", "any"}),
    "data": frozenset({"data", "text", "any"}),
}
_CALLED = {
    "int": "number",
    "fd": "file descriptor",
    "pid": "process",
    "address": "address",
    "data": "data",
}


@dataclass
class Known:
    """What a bound name is, as far as the file tells."""

    verb: str
    line: int
    outcome: type
    owners: set[str]  # actors that have its file descriptors
    pending: bool = False
    unread: bool = False  # its step could not be read: nothing more is said about it
    finished: int = 0  # the line of the step that took its result
    arguments: Mapping[str, Value] = field(default_factory=dict)

    @property
    def where(self) -> str:
        """How messages name it."""
        return f"bound by step {self.verb!r} in line {self.line}"


class Scope:
    """One scenario, as far as it was read. Everything that reads a node is given it."""

    def __init__(
        self,
        mistakes: Mistakes,
        words: Words,
        *,
        verbs: Mapping[str, Verb] | None = None,
        parameters: Mapping[str, Node] | None = None,
        inner: Callable[[Node, Scope, bool], Collection[object]] | None = None,
        requires: Requires | None = None,
        budget: Budget | None = None,
    ) -> None:
        self.mistakes = mistakes
        self.words = words
        self.verbs = verbs or {}
        self.parameters = dict(parameters or {})
        self.bound: dict[str, Known] = {}
        self.offered: Collection[str] = ()  # names that `before` would bind if a step used them
        self.steps: Node | None = None  # all of them, to tell what a later one binds
        self.actors: dict[str, int] = {"main": 0}
        self.sharing: dict[str, str] = {}  # thread -> the actor whose files it shares
        self.default_by: str | None = "main"  # who makes a step that does not say; None: it must say
        self.actor = "main"  # whose step is being read
        self.place = "the value"  # what is being read, for messages
        self.constants: set[str] = set()  # all that the scenario uses, for the target to have
        self.structs: set[str] = set()
        self.choices: list[Choice[Needs]] = []  # and what it uses on some targets only
        self.requires = requires or Requires()  # what is known of the target
        self._inner = inner
        self._budget = budget
        self._weights = {name: weight(node) for name, node in self.parameters.items()}
        if budget is not None:
            for name, node in self.parameters.items():
                budget.spend(self._weights[name], node)
        self._compares = False

    @contextmanager
    def at(self, place: str) -> Iterator[None]:
        """Name what is being read."""
        before, self.place = self.place, place
        try:
            yield
        finally:
            self.place = before

    @contextmanager
    def comparing(self) -> Iterator[None]:
        """Read what is only compared with: another actor's file descriptor is a number there."""
        before, self._compares = self._compares, True
        try:
            yield
        finally:
            self._compares = before

    @contextmanager
    def branch(self, condition: Requires | None) -> Iterator[Callable[[], Needs]]:
        """Read what holds under a condition only; the function returns what it uses of the headers."""
        outer = self.constants, self.structs, self.choices, self.requires
        constants: set[str] = set()
        structs: set[str] = set()
        choices: list[Choice[Needs]] = []
        self.constants, self.structs, self.choices = constants, structs, choices
        self.requires = self.requires.merged(condition or Requires())
        try:
            yield lambda: Needs(frozenset(constants), frozenset(structs), tuple(choices))
        finally:
            self.constants, self.structs, self.choices, self.requires = outer

    def choose(self, needs: Choice[Needs]) -> None:
        """Note what is used of the headers on some machines only."""
        self.choices.append(needs)

    @property
    def needs(self) -> Needs:
        """What was used of the headers so far."""
        return Needs(frozenset(self.constants), frozenset(self.structs), tuple(self.choices))

    def given(self, node: Node) -> Node:
        """Return the node that `with` gives where a step names its parameter, else the node itself."""
        if self.parameters and isinstance(node, ScalarNode) and node.value[:1] == "$" and plain(node):
            name = node.value[1:]
            if self._budget is not None and name in self._weights:
                self._budget.spend(self._weights[name], node)
            return self.parameters.get(name, node)
        return node

    def inner_steps(self, node: Node, *, in_turn: bool = False) -> Collection[object]:
        """Return the steps of a step: made together, each by another actor, or in turn by one."""
        assert self._inner is not None
        return self._inner(node, self, in_turn)

    # --- names of headers -----------------------------------------------------------------------------

    def constant(self, name: str, node: Node) -> None:
        """Note the use of a constant; it is a mistake when no header has it."""
        if name in BUILTIN:
            return
        if name in self.words.constants:
            self.constants.add(name)
            return
        what = "constant" if name.isupper() or "_" in name else "word"
        hint = self._elsewhere(name) or nearest(name, _likely(name, self.words.constants | BUILTIN))
        self.mistakes.add(node, f"unknown {what} {name!r} in {self.place}{hint}")

    def struct(self, name: str, node: Node) -> Collection[str] | None:
        """Return a struct's field names; None after noting that no header has it."""
        found = self.words.structs.get(name)
        if found is None:
            hint = self._elsewhere(name) or nearest(name, self.words.structs)
            self.mistakes.add(node, f"unknown struct {name!r} in {self.place}{hint}")
        else:
            self.structs.add(name)
        return found

    def _elsewhere(self, name: str) -> str:
        header = self.words.elsewhere(name)
        return f": {header} has it: name it under uapi" if header else ""

    # --- actors ---------------------------------------------------------------------------------------

    def actor_exists(self, name: str) -> bool:
        """Return whether a step can be by this actor."""
        return name in self.actors

    def need_actor(self, name: str, node: Node) -> None:
        """Note that there is no such actor."""
        if name not in self.actors:
            # A scenario that names none has `main`, which nobody's mistake is near to.
            hint = nearest(name, self.actors) or f": there is {', '.join(self.actors)}, `actors` names more"
            self.mistakes.add(node, f"unknown actor {name!r}{hint}")

    def new_actor(self, name: str, node: Node) -> None:
        """Note the birth of an actor: by fork it has its parent's files, by an upcall none."""
        if self.actors.get(name):
            self.mistakes.add(node, f"actor {name!r} is there already (line {self.actors[name]})")
        elif name in self.bound:
            self.mistakes.add(node, f"{name!r} is taken: {self.bound[name].where}")
        self.actors[name] = line_of(node)

    def inherit(self, parent: str, child: str) -> None:
        """Give a forked child its parent's file descriptors."""
        for known in self.bound.values():
            if parent in known.owners:
                known.owners.add(child)

    def family(self, actor: str) -> set[str]:
        """Return the actors that share an actor's files."""
        head = self.sharing.get(actor, actor)
        return {head, actor, *(thread for thread, owner in self.sharing.items() if owner == head)}

    # --- names that steps bind ------------------------------------------------------------------------

    def bind(self, name: str, node: Node, known: Known) -> None:
        """Bind what a step gives."""
        if not name.isidentifier():
            self.mistakes.add(node, f"{name!r} is no name: letters, digits and _ only")
        elif name in self.parameters:
            self.mistakes.add(node, f"{name!r} is a parameter of `with` already")
        elif name in self.bound:
            self.mistakes.add(node, f"{name!r} is {self.bound[name].where} already: take another name")
        elif self.actors.get(name):
            self.mistakes.add(node, f"{name!r} is an actor already: take another name")
        self.bound[name] = known

    def refer(self, path: str, node: Node, wants: str) -> Value:
        """Return the reference that a path is, after checking that it is bound and fits."""
        name, *parts = path.split(".")
        known = self.bound.get(name)
        if known is None:
            if not (name in self.actors and self._actor_part(parts, node, name)):
                self._unknown(name, node)
                return NOTHING
        elif known.unread:
            return NOTHING
        elif known.pending or wants == "pending":
            self._pending(known, name, node, wants)
        else:
            self._part(known, path, parts, node, wants)
        return Reference(path, wants)

    def _unknown(self, name: str, node: Node) -> None:
        if name in self.actors:
            return
        if name in self.parameters:
            self.mistakes.add(node, f"${name} is a value of `with`, it has no parts")
        elif (line := self._bound_later(name)) is not None:
            self.mistakes.add(node, f"${name} is used before the step that binds it (line {line})")
        else:
            hint = nearest(name, [*self.bound, *self.parameters, *self.offered])
            self.mistakes.add(node, f"unknown name ${name}: no earlier step has `as: {name}`{hint}")

    def _bound_later(self, name: str) -> int | None:
        if not isinstance(self.steps, SequenceNode):
            return None
        for step in self.steps.value:
            for key, value in step.value if isinstance(step, MappingNode) else ():
                if key.value == "as" and value.value == name:
                    return line_of(step)
        return None

    def _actor_part(self, parts: list[str], node: Node, name: str) -> bool:
        parts_of_actor = list(record_parts(ActorFacts))
        if len(parts) == 1 and parts[0] in parts_of_actor:
            return True
        self.mistakes.add(node, f"${name} is an actor: ${name}.pid or ${name}.tid")
        return False

    def _pending(self, known: Known, name: str, node: Node, wants: str) -> None:
        if not known.pending:
            self.mistakes.add(
                node, f"${name} is no call that still runs: it was {known.where}, without `background: true`"
            )
        elif known.finished:
            self.mistakes.add(node, f"${name} was finished already, in line {known.finished}")
        elif wants != "pending":
            self.mistakes.add(
                node,
                f"${name} is a call that still runs ({known.where}): `finish: ${name}` with `as` gives it",
            )

    def _part(self, known: Known, path: str, parts: list[str], node: Node, wants: str) -> None:
        bare = getattr(known.outcome, "bare", Outcome.bare)
        if not parts:
            if wants == "any" or wants in bare or (wants == "pid" and "int" in bare):
                pass
            else:
                self.mistakes.add(node, f"${path} gives no {_CALLED.get(wants, wants)}: it was {known.where}")
                return
        gives = self._gives(known, path, parts, node) if parts else wants
        if gives is not None and wants in _FITS and gives not in _FITS[wants]:
            called = _CALLED.get(wants, wants)
            self.mistakes.add(node, f"${path} is no {called}: it was {known.where}")
        elif (gives == "fd" or wants == "fd") and not self._compares and self.actor not in known.owners:
            owners = " and ".join(sorted(known.owners))
            self.mistakes.add(
                node,
                f"${path} is a file descriptor of actor {owners}, this step is by {self.actor!r}: "
                f"hand it over (`pass: ${path}, to: {self.actor}, as: …`)",
            )

    def _gives(self, known: Known, path: str, parts: list[str], node: Node) -> str | None:
        """Return what a part of a result can be used as; None after noting that there is no such part."""
        record: type = known.outcome
        kind: Kind = RecordKind(record=record)
        for part in parts:
            if isinstance(kind, ListKind) and part.isdigit():
                kind = kind.of
                continue
            if not isinstance(kind, RecordKind):
                return "any"  # a struct's field: only the target knows
            fields = kind.parts
            if part not in fields:
                self.mistakes.add(
                    node, f"${path}: step {known.verb!r} gives no {part!r}{nearest(part, fields)}"
                )
                return None
            kind = fields[part][0]
        return kind.gives


def _likely(name: str, words: Collection[str]) -> list[str]:
    """Return the words worth a comparison: there are many thousands, and a comparison is slow."""
    first = name[:1].upper()
    near = (word for word in words if abs(len(word) - len(name)) <= 3)
    return [word for word in near if word[:1] == first or name in word or word in name]


def kinds_of_outcome(outcome: type) -> dict[str, Kind]:
    """Return the fields of a verb's outcome with their kinds: the keys that `expect` may have."""
    return {name: kind for name, (kind, _) in record_parts(outcome).items()}
