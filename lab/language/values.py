# SPDX-License-Identifier: MIT
"""What stands in a scenario's arguments: kinds of values, how each is read, checked and resolved.

A verb's parameter is annotated with one of the names of this file (``flags: Flags``). To Python that is the
type that the verb's body gets (an int); to the lab it is also the `Kind` that reads a YAML node into a
`Value`, tells the mistakes, and describes itself to the reference page and to editors. Reading needs no
target. A `Value` becomes what the verb gets when the step is made, against a `Context` that knows the
target.
"""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Protocol

from lab.abi.layout import nearest
from lab.language import expression
from lab.language.expression import Bound, Expression, ExpressionError, Name, Number, Sizeof
from lab.language.nodes import MappingNode, Node, ScalarNode, SequenceNode, plain, text_of

if TYPE_CHECKING:
    from lab.language.context import Context
    from lab.language.scope import Scope

REFERENCE = re.compile(r"\$([A-Za-z_]\w*)((?:\.\w+)*)")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ns|us|ms|s|min)")
_SECONDS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0}
_TRUE, _FALSE = frozenset({"true", "yes", "on"}), frozenset({"false", "no", "off"})


class Value(Protocol):
    """What was read; becomes concrete when its step is made."""

    def resolve(self, context: Context) -> Any:
        """Return what the verb gets."""


@dataclass(frozen=True)
class Fixed:
    """Known when it was read."""

    value: Any

    def resolve(self, context: Context) -> Any:  # noqa: ARG002 - the same everywhere
        """Return it."""
        return self.value


@dataclass(frozen=True)
class Computed:
    """An expression over constants, a number on a target."""

    expression: Expression

    def resolve(self, context: Context) -> int:
        """Return the number."""
        return expression.evaluate(self.expression, context)


@dataclass(frozen=True)
class Reference:
    """``$name`` or ``$name.field``, and as what it is wanted: 'fd', 'int' or 'data'."""

    path: str
    wants: str

    def resolve(self, context: Context) -> Any:
        """Return what was bound."""
        return context.bound_value(self.path, self.wants)


@dataclass(frozen=True)
class Several:
    """A list of values."""

    items: tuple[Value, ...]
    joined_by_or: bool = False

    def resolve(self, context: Context) -> Any:
        """Return the list; of flags, the bits of all."""
        found = [item.resolve(context) for item in self.items]
        if not self.joined_by_or:
            return found
        bits = 0
        for item in found:
            bits |= item
        return bits


@dataclass(frozen=True)
class Keyed:
    """Values by key; `make` turns them into what the verb gets."""

    items: Mapping[str, Value]
    make: Callable[..., Any] = dict

    def resolve(self, context: Context) -> Any:
        """Return the mapping or record."""
        return self.make(**{key: value.resolve(context) for key, value in self.items.items()})


NOTHING = Fixed(None)  # stands in for what could not be read; its mistake is noted


@dataclass(frozen=True)
class Kind:
    """Reads nodes of one kind. Subclasses say `title` (for people), `wants` and `gives` (for references)."""

    title: ClassVar[str] = "a value"
    forms: ClassVar[tuple[str, ...]] = ()  # examples for the reference page
    wants: ClassVar[str] = "any"  # what `$name` alone must be where this kind stands
    gives: ClassVar[str] = "any"  # what a result's field of this kind can be used as

    def parse(self, node: Node, scope: Scope) -> Value:
        """Return the value of a node; notes mistakes in the scope. References are told apart here."""
        node = scope.given(node)
        if isinstance(node, ScalarNode) and node.value[:1] == "$" and (plain(node) or self.wants != "data"):
            found = REFERENCE.fullmatch(node.value)
            if found is not None:
                return scope.refer(found[0][1:], node, self.wants)
        return self.read(node, scope)

    def read(self, node: Node, scope: Scope) -> Value:
        """Return the value of a node that is no reference."""
        scope.mistakes.add(node, f"{scope.place} is {self.title}, not {text_of(node, 40)}")
        return NOTHING

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema of what may stand here."""
        return {"description": self.title}

    def text(self, node: Node, scope: Scope) -> str | None:
        """Return a scalar's text, or None after noting what should be there."""
        if isinstance(node, ScalarNode):
            return str(node.value)
        scope.mistakes.add(node, f"{scope.place} is {self.title}, not {text_of(node, 40)}")
        return None


@dataclass(frozen=True)
class IntKind(Kind):
    """A number by an expression over constants."""

    title: ClassVar[str] = "a number"
    forms: ClassVar[tuple[str, ...]] = (
        "12",
        "0x10",
        "PAGE_SIZE-1",
        "O_RDWR|O_NONBLOCK",
        "4KiB",
        "sizeof(timespec)",
    )
    wants: ClassVar[str] = "int"
    gives: ClassVar[str] = "int"

    def read(self, node: Node, scope: Scope) -> Value:
        """Read an expression; every name in it must be known."""
        text = self.text(node, scope)
        if text is None:
            return NOTHING
        try:
            tree = expression.parse(text)
        except ExpressionError as error:
            scope.mistakes.add(node, f"{scope.place} is {self.title}, {text!r} is none: {error}")
            return NOTHING
        if isinstance(tree, Number):
            return Fixed(tree.value)
        tree = with_parameters(tree, node, scope)
        for name in expression.names(tree):
            check_name(name, node, scope)
        return Computed(tree)

    def schema(self) -> dict[str, Any]:
        """Return that numbers and expressions are fine."""
        return {"type": ["integer", "string"], "description": self.title}


def check_name(name: Name | Sizeof | Bound, node: Node, scope: Scope) -> None:
    """Note a name in an expression that nobody knows."""
    match name:
        case Name(word):
            scope.constant(word, node)
        case Sizeof(struct):
            scope.struct(struct, node)
        case Bound(path):
            scope.refer(path, node, "int")


def with_parameters(tree: Expression, node: Node, scope: Scope) -> Expression:
    """Put the values of `with` where an expression names them (`$size+1`)."""
    match tree:
        case Bound(path) if path in scope.parameters:
            given = scope.parameters[path]
            try:
                return expression.parse(text_of(given))
            except ExpressionError as error:
                scope.mistakes.add(given, f"${path} in {text_of(node, 40)!r} is no number: {error}")
                return Number(0)
        case expression.Unary(operator, operand):
            return expression.Unary(operator, with_parameters(operand, node, scope))
        case expression.Binary(operator, left, right):
            return expression.Binary(
                operator, with_parameters(left, node, scope), with_parameters(right, node, scope)
            )
    return tree


@dataclass(frozen=True)
class FlagsKind(IntKind):
    """Bits: an expression, or a list of expressions."""

    title: ClassVar[str] = "flags"
    forms: ClassVar[tuple[str, ...]] = ("O_RDWR|O_NONBLOCK", "[O_RDWR, O_NONBLOCK]", "0")

    def read(self, node: Node, scope: Scope) -> Value:
        """Read an expression or a list of them."""
        if isinstance(node, SequenceNode):
            return Several(tuple(self.parse(item, scope) for item in node.value), joined_by_or=True)
        return super().read(node, scope)

    def schema(self) -> dict[str, Any]:
        """Return that a list is fine too."""
        return {"type": ["integer", "string", "array"], "description": self.title}


@dataclass(frozen=True)
class SizeKind(IntKind):
    """A number of bytes."""

    title: ClassVar[str] = "a size in bytes"
    forms: ClassVar[tuple[str, ...]] = ("64", "PAGE_SIZE+1", "4KiB", "1MiB")


@dataclass(frozen=True)
class SignalKind(IntKind):
    """A signal's number."""

    title: ClassVar[str] = "a signal"
    forms: ClassVar[tuple[str, ...]] = ("SIGUSR1", "SIGRTMIN+1")


@dataclass(frozen=True)
class ErrnoKind(IntKind):
    """An error's number, shown by its name."""

    title: ClassVar[str] = "an error's name"
    forms: ClassVar[tuple[str, ...]] = ("EAGAIN", "ENOTTY")


@dataclass(frozen=True)
class DurationKind(Kind):
    """A time with its unit; the verb gets seconds."""

    title: ClassVar[str] = "a time with its unit (2s, 200ms)"
    forms: ClassVar[tuple[str, ...]] = ("2s", "200ms", "50us", "1min")
    endless: bool = False  # -1, for calls that wait for ever: the verb gets None

    def read(self, node: Node, scope: Scope) -> Value:
        """Read a number with its unit; zero needs none."""
        text = self.text(node, scope)
        if text is None:
            return NOTHING
        found = _DURATION.fullmatch(text.strip())
        if found is not None:
            return Fixed(float(found[1]) * _SECONDS[found[2]])
        if self.endless and text in ("0", "-1", "forever"):
            return Fixed(0.0 if text == "0" else None)
        more = ", 0, or -1 for ever" if self.endless else ""
        scope.mistakes.add(node, f"{scope.place} is {self.title}{more}, not {text!r}")
        return NOTHING

    def schema(self) -> dict[str, Any]:
        """Return the pattern."""
        ends = "|0|-1|forever" if self.endless else ""
        return {"type": ["string", "integer"], "pattern": rf"^(\d+(\.\d+)?\s*(ns|us|ms|s|min){ends}|\$.*)$"}


@dataclass(frozen=True)
class TextKind(Kind):
    """A text, taken as it stands there."""

    title: ClassVar[str] = "a text"
    forms: ClassVar[tuple[str, ...]] = ("/dev/lab_ioctl",)
    wants: ClassVar[str] = "data"  # quoted, a `$` is just a character
    gives: ClassVar[str] = "text"

    def read(self, node: Node, scope: Scope) -> Value:
        """Take the text; the kernel's strings end at a NUL, so there is none in it."""
        text = self.text(node, scope)
        if text is not None and "\0" in text:
            scope.mistakes.add(node, f"{scope.place} is {self.title}, which holds no NUL")
        return NOTHING if text is None else Fixed(text)

    def parse(self, node: Node, scope: Scope) -> Value:
        """Read a text; what `$name` gives is decoded where it is data."""
        found = super().parse(node, scope)
        return AsText(found) if isinstance(found, Reference) else found

    def schema(self) -> dict[str, Any]:
        """Return that YAML may have guessed a number: it is a text all the same."""
        return {"type": ["string", "number", "boolean", "null"], "description": self.title}


@dataclass(frozen=True)
class AsText:
    """Data where a text is wanted: what was read from a file, without the line's end."""

    value: Value

    def resolve(self, context: Context) -> str:
        """Return the text."""
        found = self.value.resolve(context)
        return found.decode(errors="replace").rstrip("\n\0") if isinstance(found, bytes) else str(found)


@dataclass(frozen=True)
class BoolKind(Kind):
    """Yes or no."""

    title: ClassVar[str] = "true or false"
    forms: ClassVar[tuple[str, ...]] = ("true", "false")
    gives: ClassVar[str] = "int"

    def read(self, node: Node, scope: Scope) -> Value:
        """Read true or false."""
        text = node.value if isinstance(node, ScalarNode) else None
        if text in _TRUE or text in _FALSE:
            return Fixed(text in _TRUE)
        return super().read(node, scope)

    def schema(self) -> dict[str, Any]:
        """Return a boolean."""
        return {"type": "boolean"}


@dataclass(frozen=True)
class ChoiceKind(Kind):
    """One of a few words."""

    words: tuple[str, ...] = ()
    wants: ClassVar[str] = "data"

    def read(self, node: Node, scope: Scope) -> Value:
        """Read one of the words."""
        text = self.text(node, scope)
        if text is not None and text not in self.words:
            hint = nearest(text, self.words)
            scope.mistakes.add(node, f"{scope.place} is one of {', '.join(self.words)}, not {text!r}{hint}")
        return Fixed(text)

    def schema(self) -> dict[str, Any]:
        """Return the words."""
        return {"enum": list(self.words)}


@dataclass(frozen=True)
class FdKind(IntKind):
    """A file descriptor of the actor that makes the step."""

    title: ClassVar[str] = "a file descriptor ($name)"
    forms: ClassVar[tuple[str, ...]] = ("$dev", "-1", "AT_FDCWD")
    wants: ClassVar[str] = "fd"
    gives: ClassVar[str] = "fd"


@dataclass(frozen=True)
class AddressKind(IntKind):
    """An address: of a mapping, or a number."""

    title: ClassVar[str] = "an address"
    forms: ClassVar[tuple[str, ...]] = ("$map", "$map+PAGE_SIZE", "NULL")
    wants: ClassVar[str] = "address"
    gives: ClassVar[str] = "address"


@dataclass(frozen=True)
class PidKind(IntKind):
    """A process: an actor by its name, or a number."""

    title: ClassVar[str] = "an actor or a process id"
    forms: ClassVar[tuple[str, ...]] = ("reader", "$reader.tid", "$r.number", "1")
    wants: ClassVar[str] = "pid"

    def read(self, node: Node, scope: Scope) -> Value:
        """Read an actor's name or a number."""
        if isinstance(node, ScalarNode) and scope.actor_exists(node.value):
            return Reference(node.value, "pid")
        return super().read(node, scope)


@dataclass(frozen=True)
class ActorKind(Kind):
    """The name of an actor."""

    title: ClassVar[str] = "an actor's name"
    forms: ClassVar[tuple[str, ...]] = ("writer",)
    new: bool = False  # the step brings this actor to life

    def read(self, node: Node, scope: Scope) -> Value:
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

    def read(self, node: Node, scope: Scope) -> Value:
        """Read the steps; they become `Step` records."""
        return Fixed(tuple(scope.inner_steps(node)))

    def schema(self) -> dict[str, Any]:
        """Return a list of steps."""
        return {"type": "array", "items": {"$ref": "#/$defs/step"}}


@dataclass(frozen=True)
class ListKind(Kind):
    """Several of one kind."""

    of: Kind = Kind()
    gives: ClassVar[str] = "list"

    def parse(self, node: Node, scope: Scope) -> Value:
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

    of: Kind = Kind()

    def parse(self, node: Node, scope: Scope) -> Value:
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

    def parse(self, node: Node, scope: Scope) -> Value:
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


Int = Annotated[int, IntKind()]
Flags = Annotated[int, FlagsKind()]
Size = Annotated[int, SizeKind()]
Signal = Annotated[int, SignalKind()]
Errno = Annotated[int, ErrnoKind()]
Duration = Annotated[float, DurationKind()]
Timeout = Annotated[float | None, DurationKind(endless=True)]  # None: for ever
Text = Annotated[str, TextKind()]
Bool = Annotated[bool, BoolKind()]
Fd = Annotated[int, FdKind()]
Address = Annotated[int, AddressKind()]
Pid = Annotated[int, PidKind()]
ActorName = Annotated[str, ActorKind()]
NewActor = Annotated[str, ActorKind(new=True)]
Steps = Annotated[tuple[Any, ...], StepsKind()]
Tree = Annotated[Any, TreeKind()]
