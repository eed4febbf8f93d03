# SPDX-License-Identifier: MIT
"""Numbers as a kernel developer writes them: ``PAGE_SIZE-1``, ``O_RDWR|O_NONBLOCK``, ``1 << 4``, ``64KiB``.

Precedence is C's: ``~ -`` bind tightest, then ``*``, ``+ -``, ``<<``, ``&``, ``|``. ``sizeof(NAME)`` is the
size of a struct on the target.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "UNITS",
    "Binary",
    "Environment",
    "Expression",
    "ExpressionError",
    "constant",
    "evaluate",
    "names",
    "parse",
]

UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "KB": 1000, "MB": 1000_000}

_TOKEN = re.compile(
    r"\s*(?:(0[xX][0-9a-fA-F]+|0[bB][01]+|\d+)([A-Za-z]\w*)?|([A-Za-z_]\w*)|\$([A-Za-z_][\w.]*)|(<<|[-+*|&~()]))"
)
_MOST_CHARACTERS, _MOST_TOKENS, _MOST_DEPTH = 1000, 64, 16
_LEVELS = (("|",), ("&",), ("<<",), ("+", "-"), ("*",))


class ExpressionError(ValueError):
    """The text is no expression; the message says why, without the text."""


@dataclass(frozen=True)
class Number:
    """A literal, its unit applied."""

    value: int


@dataclass(frozen=True)
class Name:
    """A constant of the kernel's headers or of the module's."""

    name: str


@dataclass(frozen=True)
class Sizeof:
    """The size of a struct on the target."""

    struct: str


@dataclass(frozen=True)
class Bound:
    """``$name`` or ``$name.field``."""

    path: str


@dataclass(frozen=True)
class Unary:
    """``-x`` or ``~x``."""

    operator: str
    operand: Expression


@dataclass(frozen=True)
class Binary:
    """Two operands."""

    operator: str
    left: Expression
    right: Expression


Expression: TypeAlias = Number | Name | Sizeof | Bound | Unary | Binary


class Environment(Protocol):
    """What an expression needs to become a number."""

    def constant(self, name: str) -> int:
        """Return a constant's value on the target."""

    def sizeof(self, name: str) -> int:
        """Return a struct's size on the target."""

    def number(self, path: str) -> int:
        """Return what ``$path`` is, as a number."""


@lru_cache(maxsize=4096)
def parse(text: str) -> Expression:
    """Return the expression that a text is.

    Raises ExpressionError saying what is wrong with it.
    """
    if len(text) > _MOST_CHARACTERS:
        raise ExpressionError(f"it has more than {_MOST_CHARACTERS} characters")
    tokens = _Tokens(text)
    result = _level(tokens, 0)
    if tokens.here is not None:
        raise ExpressionError(f"{tokens.here[1]!r} is too much")
    return result


def names(expression: Expression) -> Iterator[Name | Sizeof | Bound]:
    """Yield what an expression refers to."""
    match expression:
        case Unary(_, operand):
            yield from names(operand)
        case Binary(_, left, right):
            yield from names(left)
            yield from names(right)
        case Number():
            pass
        case _:
            yield expression


def constant(expression: Expression) -> int:
    """Return the number that an expression without names is everywhere; raises ExpressionError."""
    match expression:
        case Number(value):
            return value
        case Unary(operator, operand):
            value = constant(operand)
            return -value if operator == "-" else ~value
        case Binary(operator, one, other):
            return _apply(operator, constant(one), constant(other))
    raise ExpressionError("it has names")


def evaluate(expression: Expression, environment: Environment) -> int:
    """Return the number; raises what the environment raises for a name that it does not have."""
    match expression:
        case Number(value):
            return value
        case Name(name):
            return environment.constant(name)
        case Sizeof(struct):
            return environment.sizeof(struct)
        case Bound(path):
            return environment.number(path)
        case Unary(operator, operand):
            value = evaluate(operand, environment)
            return -value if operator == "-" else ~value
        case Binary(operator, one, other):
            return _apply(operator, evaluate(one, environment), evaluate(other, environment))


def _apply(operator: str, left: int, right: int) -> int:
    match operator:
        case "+":
            return left + right
        case "-":
            return left - right
        case "*":
            return left * right
        case "|":
            return left | right
        case "&":
            return left & right
    if not 0 <= right < 64:
        raise ExpressionError(f"a shift by {right} is outside a 64-bit word")
    return left << right


class _Tokens:
    """The tokens of a text, one ahead: (kind, text, value)."""

    def __init__(self, text: str) -> None:
        self._text, self._at = text.rstrip(), 0
        self._count = 0
        self.depth = 0  # of parentheses and signs
        self.here: tuple[str, str, int] | None = None
        self.next()

    def next(self) -> None:
        self._count += 1
        if self._count > _MOST_TOKENS:
            raise ExpressionError(f"it has more than {_MOST_TOKENS} numbers, names and signs")
        if self._at >= len(self._text):
            self.here = None
            return
        found = _TOKEN.match(self._text, self._at)
        if found is None:
            raise ExpressionError(f"{self._text[self._at :].strip()[0]!r} means nothing here")
        self._at = found.end()
        digits, unit, name, path, operator = found.groups()
        if digits is not None:
            self.here = ("number", found[0].strip(), _literal(digits, unit))
        elif name is not None:
            self.here = ("name", name, 0)
        elif path is not None:
            self.here = ("bound", path, 0)
        else:
            self.here = ("operator", operator, 0)

    def take(self, *operators: str) -> str | None:
        if self.here is not None and self.here[0] == "operator" and self.here[1] in operators:
            taken = self.here[1]
            self.next()
            return taken
        return None


def _literal(digits: str, unit: str | None) -> int:
    octal = len(digits) > 1 and digits.isdigit() and digits[0] == "0"  # as in C: modes are written 0644
    value = _octal(digits) if octal else int(digits, 0)
    if unit is None:
        return value
    if unit in UNITS:
        return value * UNITS[unit]
    if re.fullmatch(r"[uUlL]{1,3}", unit):  # C's suffixes
        return value
    raise ExpressionError(f"{unit!r} is no unit here (known: {', '.join(UNITS)})")


def _octal(digits: str) -> int:
    try:
        return int(digits, 8)
    except ValueError:
        raise ExpressionError(f"{digits!r} begins like an octal number, as in C, but is none") from None


def _level(tokens: _Tokens, level: int) -> Expression:
    if level == len(_LEVELS):
        return _unary(tokens)
    left = _level(tokens, level + 1)
    while (operator := tokens.take(*_LEVELS[level])) is not None:
        left = Binary(operator, left, _level(tokens, level + 1))
    return left


def _unary(tokens: _Tokens) -> Expression:
    tokens.depth += 1
    if tokens.depth > _MOST_DEPTH:
        raise ExpressionError(f"it is deeper than {_MOST_DEPTH} parentheses and signs")
    try:
        return _operand(tokens)
    finally:
        tokens.depth -= 1


def _operand(tokens: _Tokens) -> Expression:
    if (operator := tokens.take("-", "~", "+")) is not None:
        operand = _unary(tokens)
        return operand if operator == "+" else Unary(operator, operand)
    if tokens.take("("):
        inside = _level(tokens, 0)
        if tokens.take(")") is None:
            raise ExpressionError("a ')' is missing")
        return inside
    if tokens.here is None:
        raise ExpressionError("it ends too early")
    kind, text, value = tokens.here
    tokens.next()
    if kind == "number":
        return Number(value)
    if kind == "bound":
        return Bound(text)
    if kind == "name":
        return _name(tokens, text)
    raise ExpressionError(f"{text!r} means nothing here")


def _name(tokens: _Tokens, text: str) -> Expression:
    if tokens.take("(") is None:
        return Name(text)
    if text != "sizeof":
        raise ExpressionError(f"{text!r} is no function; only sizeof(STRUCT) is")
    inside = ""
    while tokens.here is not None and tokens.here[0] == "name":
        inside = tokens.here[1]  # `sizeof(struct x)` as well as `sizeof(x)`
        tokens.next()
    if not inside or tokens.take(")") is None:
        raise ExpressionError("sizeof wants a struct's name: sizeof(lab_square)")
    return Sizeof(inside)
