# SPDX-License-Identifier: MIT
"""Kinds that are made of others, or that name something of the scenario."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from lab.language.kinds import BoolKind, ChoiceKind, DurationKind, IntKind, Kind, TextKind
from lab.language.nodes import MappingNode, Node, SequenceNode, text_of
from lab.language.values import NOTHING, Fixed, Keyed, Several, Value

if TYPE_CHECKING:
    from lab.language.reading import Reading


@dataclass(frozen=True)
class ActorKind(Kind):
    """The name of an actor."""

    title: ClassVar[str] = "an actor's name"
    forms: ClassVar[tuple[str, ...]] = ("writer",)
    new: bool = False  # the step brings this actor to life

    def read(self, node: Node, scope: Reading) -> Value:
        """Read the name of an actor that exists, or of one that does not yet."""
        text = self.text(node, scope)
        if text is None:
            return NOTHING
        if self.new:
            scope.new_actor(text, node)
        else:
            scope.need_actor(text, node)
        return Fixed(text)

    def schema(self) -> dict[str, Any]:
        """Return a name."""
        return {"type": "string"}


@dataclass(frozen=True)
class PendingKind(Kind):
    """A call that was started with `background`."""

    title: ClassVar[str] = "a call that was started with `background: true` ($name)"
    forms: ClassVar[tuple[str, ...]] = ("$pending",)
    wants: ClassVar[str] = "pending"

    def schema(self) -> dict[str, Any]:
        """Return a reference."""
        return {"type": "string", "pattern": r"^\$\w+$"}


@dataclass(frozen=True)
class StepsKind(Kind):
    """Steps within a step."""

    title: ClassVar[str] = "a list of steps"
    in_turn: bool = False  # all by one actor, one after the other; else together, each by another

    def read(self, node: Node, scope: Reading) -> Value:
        """Read the steps; they become `Step` records."""
        return Fixed(tuple(scope.inner_steps(node, in_turn=self.in_turn)))

    def schema(self) -> dict[str, Any]:
        """Return a list of steps."""
        return {"type": "array", "items": {"$ref": "#/$defs/step"}}


@dataclass(frozen=True)
class ListKind(Kind):
    """Several of one kind."""

    of: Kind = field(default_factory=Kind)
    gives: ClassVar[str] = "list"

    def parse(self, node: Node, scope: Reading) -> Value:
        """Read each item."""
        node = scope.given(node)
        if isinstance(node, SequenceNode):
            return Several(tuple(self.of.parse(item, scope) for item in node.value))
        scope.mistakes.add(node, f"{scope.place} is a list, each {self.of.title}, not {text_of(node, 40)}")
        return NOTHING

    def schema(self) -> dict[str, Any]:
        """Return a list."""
        return {"type": "array", "items": self.of.schema()}


@dataclass(frozen=True)
class MapKind(Kind):
    """Values of one kind by free keys."""

    of: Kind = field(default_factory=Kind)

    def parse(self, node: Node, scope: Reading) -> Value:
        """Read each value."""
        pairs = scope.mistakes.pairs(scope.given(node), scope.place)
        found = {key: self.of.parse(value, scope) for key, (_, value) in pairs.items()}
        return Keyed(found)

    def schema(self) -> dict[str, Any]:
        """Return an object."""
        return {"type": "object", "additionalProperties": self.of.schema()}


@dataclass(frozen=True)
class RecordKind(Kind):
    """A small record of a verb's own: a dataclass whose fields are annotated like parameters."""

    record: type = object
    gives: ClassVar[str] = "record"

    @property
    def parts(self) -> dict[str, tuple[Kind, bool]]:
        """The record's fields: kind, and whether it must be given."""
        return record_parts(self.record)

    def parse(self, node: Node, scope: Reading) -> Value:
        """Read the fields."""
        node = scope.given(node)
        what = f"{scope.place} (a {self.record.__name__.lower()})"
        pairs = scope.mistakes.pairs(node, what)
        if isinstance(node, MappingNode):
            scope.mistakes.known(pairs, self.parts, what)
            for name, (_, required) in self.parts.items():
                if required and name not in pairs:
                    scope.mistakes.add(node, f"{what} wants {name!r}")
        found: dict[str, Value] = {}
        for key, (_, value) in pairs.items():
            if key in self.parts:
                with scope.at(f"{key!r} of {what}"):
                    found[key] = self.parts[key][0].parse(value, scope)
        return Keyed(found, self.record)

    def schema(self) -> dict[str, Any]:
        """Return an object."""
        return {
            "type": "object",
            "properties": {name: kind.schema() for name, (kind, _) in self.parts.items()},
            "required": [name for name, (_, required) in self.parts.items() if required],
            "additionalProperties": False,
        }


@dataclass(frozen=True)
class TreeKind(Kind):
    """In a result: a struct's fields or a message, whose parts' types only the target knows."""

    title: ClassVar[str] = "fields of a struct or a message"
    argument: str = ""  # the verb's argument whose struct it is, to check field names against


@cache
def record_parts(record: type) -> dict[str, tuple[Kind, bool]]:
    """Return the kind of each field of a dataclass, and whether it has no default."""
    hints = typing.get_type_hints(record, include_extras=True)
    return {
        field.name: (
            kind_of(hints[field.name]),
            field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING,
        )
        for field in dataclasses.fields(record)
    }


_BY_TYPE: dict[type, Kind] = {int: IntKind(), str: TextKind(), bool: BoolKind(), float: DurationKind()}


def kind_of(annotation: Any) -> Kind:
    """Return the kind that an annotation names.

    Raises TypeError for one that the language cannot read: a mistake in a verb, not in a scenario.
    """
    origin = typing.get_origin(annotation)
    arguments = typing.get_args(annotation)
    if origin is Annotated:
        for extra in reversed(arguments[1:]):  # the outermost annotation is the last
            if isinstance(extra, Kind):
                return extra
        return kind_of(arguments[0])
    if origin in (typing.Union, types.UnionType):
        rest = [argument for argument in arguments if argument is not types.NoneType]
        if len(rest) == 1:
            return kind_of(rest[0])
    if origin is Literal:
        return ChoiceKind(words=tuple(map(str, arguments)))
    if origin in (list, tuple, Sequence):
        return ListKind(of=kind_of(arguments[0]))
    if origin in (dict, Mapping):
        return MapKind(of=kind_of(arguments[1]))
    if annotation in _BY_TYPE:
        return _BY_TYPE[annotation]
    if annotation in (Any, bytes):
        return TreeKind()
    if dataclasses.is_dataclass(annotation) and isinstance(annotation, type):
        return RecordKind(record=annotation)
    raise TypeError(f"no kind of value reads {annotation!r}")
