# SPDX-License-Identifier: MIT
"""A verb's or a data form's Python signature, as the language reads it: the only description there is."""

from __future__ import annotations

import inspect
import typing
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from lab.abi.layout import nearest
from lab.language.composites import kind_of
from lab.language.nodes import MappingNode, Node, Pairs, is_empty

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from lab.language.kinds import Kind
    from lab.language.reading import Reading
    from lab.language.values import Value


@dataclass(frozen=True)
class Parameter:
    """One argument of a step: its key in YAML, its name in Python, what it reads."""

    key: str
    name: str
    kind: Kind
    required: bool
    default: Any = None


class Signature:
    """The parameters of a function after its first (the call or the session), read when first used.

    The first of them is the value of the step's own key. A name that Python reserves is written with an
    underscore at its end there, and without it in YAML.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.name = word(function.__name__)

    @cached_property
    def parameters(self) -> dict[str, Parameter]:
        """The parameters by their key."""
        hints = inspect.get_annotations(self.function, eval_str=True)
        _, *rest = inspect.signature(self.function).parameters.values()
        found = {}
        for parameter in rest:
            required = parameter.default is inspect.Parameter.empty
            key = word(parameter.name)
            kind = kind_of(hints[parameter.name])
            default = None if required else parameter.default
            found[key] = Parameter(key, parameter.name, kind, required, default)
        return found

    @cached_property
    def first(self) -> Parameter:
        """The parameter that the step's own key holds."""
        return next(iter(self.parameters.values()))

    @cached_property
    def returns(self) -> Any:
        """The annotation of what it returns."""
        return inspect.get_annotations(self.function, eval_str=True).get("return")

    @cached_property
    def outcome(self) -> type:
        """What the function returns: a plan's type argument, or the return type itself."""
        arguments = typing.get_args(self.returns)
        found = arguments[0] if arguments else self.returns
        return found if isinstance(found, type) else object

    @property
    def where(self) -> str:
        """The file and line where the function stands."""
        code = self.function.__code__
        return f"{code.co_filename}:{code.co_firstlineno}"

    @cached_property
    def about(self) -> str:
        """The docstring."""
        return inspect.getdoc(self.function) or ""

    def read(
        self, own: Node, pairs: Pairs, scope: Reading, *, what: str, where: Node, also: Iterable[str] = ()
    ) -> dict[str, Value]:
        """Return the values of the arguments that are given, by Python name; notes every mistake."""
        found: dict[str, Value] = {}
        parameters = self.parameters
        first = self.first
        if not (is_empty(own) and not first.required):
            with scope.at(what if first.key == self.name else f"the {first.key} of {what}"):
                found[first.name] = first.kind.parse(own, scope)
        for key, (key_node, node) in pairs.items():
            parameter = parameters.get(key)
            if parameter is None:
                if key not in also and key != self.name:
                    others = [p for p in parameters if p != first.key] + list(also)
                    scope.mistakes.add(key_node, f"unknown key {key!r} in {what}{nearest(key, others)}")
            elif parameter is first:
                if key != self.name:
                    scope.mistakes.add(key_node, f"{key!r} of {what} is written at {self.name!r} itself")
            else:
                with scope.at(f"{key!r} of {what}"):
                    found[parameter.name] = parameter.kind.parse(node, scope)
        for parameter in parameters.values():
            if parameter.required and parameter is not first and parameter.key not in pairs:
                scope.mistakes.add(where, f"{what} wants {parameter.key!r} ({parameter.kind.title})")
        return found


def word(name: str) -> str:
    """Return a Python name as YAML has it."""
    return name.rstrip("_")


def is_form(node: Node, forms: Iterable[str]) -> bool:
    """Return whether a mapping is one of the forms: whether one of its keys is a form's name."""
    return isinstance(node, MappingNode) and any(key.value in forms for key, _ in node.value)
