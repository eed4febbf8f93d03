# SPDX-License-Identifier: MIT
"""Kinds of values: how each is read, checked and described.

A verb's parameter is annotated with one of the names of lab.language.annotations (``flags: Flags``). To
Python that is the type that the verb's body gets (an int); to the lab it is also the `Kind` that reads a YAML
node into a `Value`, tells the mistakes, and describes itself to the reference page and to editors.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar

from lab.abi.layout import nearest
from lab.guest.layouts import MAX_FRAME
from lab.language import expression
from lab.language.expression import Bound, Expression, ExpressionError, Name, Number, Sizeof
from lab.language.nodes import Node, ScalarNode, SequenceNode, plain, text_of
from lab.language.values import NOTHING, REFERENCE, Computed, Fixed, Reference, Several, Value

if TYPE_CHECKING:
    from lab.language.context import Context
    from lab.language.reading import Reading

_DURATION = re.compile(r"(\d{1,12}(?:\.\d{1,12})?)\s*(ns|us|ms|s|min)", re.ASCII)
_SECONDS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0}
_TRUE, _FALSE = frozenset({"true", "yes", "on"}), frozenset({"false", "no", "off"})


@dataclass(frozen=True)
class Kind:
    """Reads nodes of one kind. Subclasses say `title` (for people), `wants` and `gives` (for references)."""

    title: ClassVar[str] = "a value"
    forms: ClassVar[tuple[str, ...]] = ()  # examples for the reference page
    wants: ClassVar[str] = "any"  # what `$name` alone must be where this kind stands
    gives: ClassVar[str] = "any"  # what a result's field of this kind can be used as

    def parse(self, node: Node, scope: Reading) -> Value:
        """Return the value of a node; notes mistakes in the scope. References are told apart here."""
        node = scope.given(node)
        if isinstance(node, ScalarNode) and node.value[:1] == "$" and (plain(node) or self.wants != "data"):
            found = REFERENCE.fullmatch(node.value)
            if found is not None:
                return scope.refer(found[0][1:], node, self.wants)
        return self.read(node, scope)

    def read(self, node: Node, scope: Reading) -> Value:
        """Return the value of a node that is no reference."""
        scope.mistakes.add(node, f"{scope.place} is {self.title}, not {text_of(node, 40)}")
        return NOTHING

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema of what may stand here."""
        return {"description": self.title}

    def text(self, node: Node, scope: Reading) -> str | None:
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

    def read(self, node: Node, scope: Reading) -> Value:
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
        names = list(expression.names(tree))
        if not names:
            return self._constant(tree, node, scope)
        for name in names:
            check_name(name, node, scope)
        return Computed(tree)

    def _constant(self, tree: Expression, node: Node, scope: Reading) -> Value:
        """Return what is the same everywhere; its mistakes are told before there is a target."""
        try:
            return Fixed(expression.constant(tree))
        except ExpressionError as error:
            scope.mistakes.add(node, f"{scope.place} is {self.title}, {text_of(node, 40)!r} is none: {error}")
            return NOTHING

    def schema(self) -> dict[str, Any]:
        """Return that numbers and expressions are fine."""
        return {"type": ["integer", "string"], "description": self.title}


def check_name(name: Name | Sizeof | Bound, node: Node, scope: Reading) -> None:
    """Note a name in an expression that nobody knows."""
    match name:
        case Name(word):
            scope.constant(word, node)
        case Sizeof(struct):
            scope.struct(struct, node)
        case Bound(path):
            scope.refer(path, node, "int")


def with_parameters(tree: Expression, node: Node, scope: Reading) -> Expression:
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

    def read(self, node: Node, scope: Reading) -> Value:
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
class LengthKind(SizeKind):
    """A number of bytes that the host makes, for one step to carry."""

    def read(self, node: Node, scope: Reading) -> Value:
        """Read a number; one that no step can carry is told before there is a target."""
        found = super().read(node, scope)
        if isinstance(found, Fixed) and isinstance(found.value, int):
            wrong = length_trouble(found.value)
            if wrong:
                scope.mistakes.add(node, f"{scope.place}: {wrong}")
        return found


def length_trouble(size: int) -> str:
    """Return why the host cannot make data of a size, nothing where it can."""
    if size < 0:
        return f"{size} is no number of bytes"
    return f"{size:,} bytes are more than the {MAX_FRAME:,} of one step" if size > MAX_FRAME else ""


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

    def read(self, node: Node, scope: Reading) -> Value:
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
class TimeKind(IntKind):
    """A point in time, as files have it; the verb gets nanoseconds since 1970."""

    title: ClassVar[str] = "a point in time, in nanoseconds since 1970 or with a unit"
    forms: ClassVar[tuple[str, ...]] = ("$before", "$f.mtime", "$f.mtime+1", "0", "5s", "1700000000s")

    def read(self, node: Node, scope: Reading) -> Value:
        """Read a number with its unit, or an expression."""
        found = _DURATION.fullmatch(node.value.strip()) if isinstance(node, ScalarNode) else None
        if found is None:
            return super().read(node, scope)
        return Fixed(int(Decimal(found[1]) * round(_SECONDS[found[2]] * 1_000_000_000)))


@dataclass(frozen=True)
class TextKind(Kind):
    """A text, taken as it stands there."""

    title: ClassVar[str] = "a text"
    forms: ClassVar[tuple[str, ...]] = ("/dev/lab_ioctl",)
    wants: ClassVar[str] = "data"  # quoted, a `$` is just a character
    gives: ClassVar[str] = "text"

    def read(self, node: Node, scope: Reading) -> Value:
        """Take the text; the kernel's strings end at a NUL, so there is none in it."""
        text = self.text(node, scope)
        if text is not None and "\0" in text:
            scope.mistakes.add(node, f"{scope.place} is {self.title}, which holds no NUL")
        for name, _ in REFERENCE.findall(text or "") if plain(node) else ():
            if name in scope.parameters:
                told = f"{scope.place} is {self.title}: ${name} is no part of one, `with` gives it whole"
                scope.mistakes.add(node, told)
        return NOTHING if text is None else Fixed(text)

    def parse(self, node: Node, scope: Reading) -> Value:
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

    def read(self, node: Node, scope: Reading) -> Value:
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

    def read(self, node: Node, scope: Reading) -> Value:
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

    def read(self, node: Node, scope: Reading) -> Value:
        """Read an actor's name or a number."""
        if isinstance(node, ScalarNode) and scope.actor_exists(node.value):
            return Reference(node.value, "pid")
        return super().read(node, scope)
