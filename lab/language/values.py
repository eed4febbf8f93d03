# SPDX-License-Identifier: MIT
"""What stands in a scenario's arguments, once it is read: values, which a target makes concrete.

Reading needs no target. A `Value` becomes what the verb gets when the step is made, against a `Context` that
knows the target.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from lab.language import expression

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lab.language.context import Context
    from lab.language.expression import Expression

REFERENCE = re.compile(r"\$([A-Za-z_]\w*)((?:\.\w+)*)")


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


def is_bound(value: Any) -> bool:
    """Return whether what a value is depends on what an earlier step gave."""
    tree = getattr(value, "expression", None) or getattr(value, "tree", None)
    if tree is not None:
        return any(isinstance(name, expression.Bound) for name in expression.names(tree))
    return isinstance(value, Reference) or getattr(value, "reference", None) is not None


NOTHING = Fixed(None)  # stands in for what could not be read; its mistake is noted
