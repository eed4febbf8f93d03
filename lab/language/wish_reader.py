# SPDX-License-Identifier: MIT
"""How a wish is read: what stands under `expect` for one part of a result."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lab.abi.layout import nearest
from lab.language.by_target import is_choice, read_choice
from lab.language.composites import ListKind, MapKind, RecordKind, TreeKind
from lab.language.kinds import IntKind, Kind
from lab.language.memory_kinds import DataKind, read_form, read_tree
from lab.language.nodes import MappingNode, Node, Pairs, SequenceNode, text_of
from lab.language.patterns import compiled
from lab.language.values import Fixed
from lab.language.wishes import (
    Between,
    ByTarget,
    Each,
    Equal,
    Fields,
    FieldsOr,
    Joined,
    Like,
    Limit,
    Matcher,
    Matches,
    StructLike,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lab.language.reading import Reading


@dataclass(frozen=True)
class WishKind(Kind):
    """A kind that reads by itself what may be wanted of it: messages, whose parts only their family knows."""

    def wish(self, node: Node, scope: Reading) -> Matcher:
        """Return the wish that a node is; notes mistakes in the scope."""
        raise NotImplementedError


def by_target(node: Node, scope: Reading, read: Callable[[Node], Matcher]) -> Matcher | None:
    """Return the wish of ``{">=6.12": …, else: …}``, each value read by `read`; None for any other node."""
    return ByTarget(read_choice(node, scope, read), text_of(node, 100)) if is_choice(node) else None


def matcher(kind: Kind, node: Node, scope: Reading, fields: Mapping[str, Any] | None = None) -> Matcher:
    """Return the wish that a node is, for a field of a kind; notes mistakes in the scope."""
    node = scope.given(node)
    chosen = by_target(node, scope, lambda each: matcher(kind, each, scope, fields))
    if chosen is not None:
        return chosen
    written = text_of(node, 100)
    if isinstance(kind, TreeKind) and isinstance(node, MappingNode):
        return _tree_mapping(node, scope, written, fields)
    special = _pattern(kind, node, scope, written) or _data(kind, node, scope, written)
    if special is not None:
        return special
    if isinstance(kind, MapKind):
        return _map(kind, node, scope, written)
    if isinstance(kind, WishKind):
        return kind.wish(node, scope)
    if isinstance(kind, ListKind):
        items = scope.mistakes.items(node, scope.place)
        return Each(tuple(matcher(kind.of, item, scope) for item in items), written)
    if isinstance(kind, RecordKind):
        return _record(kind, node, scope, written)
    if isinstance(kind, TreeKind):
        return _tree(node, scope, written)
    return Equal(kind.parse(node, scope), kind, written)


def _pattern(kind: Kind, node: Node, scope: Reading, written: str) -> Matcher | None:
    """Return the wish of ``{min, max}`` or ``{matches}``, None when the node is neither."""
    if not isinstance(node, MappingNode):
        return None
    keys = {key.value for key, _ in node.value}
    if not keys or not keys <= {"min", "max", "matches"}:
        return None
    pairs = scope.mistakes.pairs(node, scope.place)
    if "matches" in pairs:
        if len(pairs) > 1:
            scope.mistakes.add(node, f"{scope.place}: 'matches' stands alone, without min and max")
        text = scope.mistakes.scalar(pairs["matches"][1], "a regular expression") or ""
        try:
            return Matches(compiled(text), kind, written)
        except re.error as error:
            scope.mistakes.add(pairs["matches"][1], f"{text!r} is no regular expression: {error}")
            return Matches(re.compile(""), kind, written)
    numeric = isinstance(kind, IntKind) or kind.title.startswith("a time")
    bounds = kind if numeric else IntKind()
    low, high = (bounds.parse(pairs[word][1], scope) if word in pairs else None for word in ("min", "max"))
    if isinstance(low, Fixed) and isinstance(high, Fixed) and low.value is not None is not high.value:
        _check_range(node, scope, low.value, high.value)
    return Between(low, high, kind, written)


def _check_range(node: Node, scope: Reading, low: float, high: float) -> None:
    if low > high:
        scope.mistakes.add(node, f"{scope.place}: nothing is in {text_of(node, 60)}")


def _range_or_fields(node: MappingNode, scope: Reading, written: str) -> Matcher | None:
    """Return the wish of ``{min, max}`` where only the target tells whether it is a number or a struct."""
    if not node.value or not {key.value for key, _ in node.value} <= {"min", "max"}:
        return None
    fields = _fields(scope.mistakes.pairs(node, scope.place), scope, None, written)
    leaves = {name: wish.leaf for name, wish in fields.fields.items() if isinstance(wish, Like)}
    if len(leaves) < len(fields.fields):
        return fields  # no bound is a list or a mapping
    low, high = (Limit(leaves[word]) if word in leaves else None for word in ("min", "max"))
    return FieldsOr(fields, Between(low, high, TreeKind(), written))


def _data(kind: Kind, node: Node, scope: Reading, written: str) -> StructLike | Joined | None:
    """Return the wish for data that is a struct, or parts with structs among them; None for other data.

    ``{struct: NAME, …}`` wants the fields that it names of what was got, there as alone.
    """
    if not isinstance(kind, (DataKind, TreeKind)) or not isinstance(node, MappingNode):
        return None
    keys = [key.value for key, _ in node.value]
    if "struct" in keys:
        pairs = scope.mistakes.pairs(node, scope.place)
        name_node = pairs.pop("struct")[1]
        name = (scope.mistakes.scalar(name_node, "a struct's name") or "").removeprefix("struct ")
        fields = scope.struct(name, name_node)
        return StructLike(name, _fields(pairs, scope, dict.fromkeys(fields) if fields else None, written))
    if keys != ["join"] or not isinstance(node.value[0][1], SequenceNode):
        return None
    items = node.value[0][1].value
    if not any(_with_struct(item, scope) for item in items):
        return None
    return Joined(tuple(_part(item, scope) for item in items), written)


def _with_struct(node: Node, scope: Reading) -> bool:
    node = scope.given(node)
    if not isinstance(node, MappingNode):
        return False
    inner = next((value for key, value in node.value if key.value == "join"), None)
    if isinstance(inner, SequenceNode):
        return any(_with_struct(item, scope) for item in inner.value)
    return any(key.value == "struct" for key, _ in node.value)


def _part(node: Node, scope: Reading) -> StructLike | Equal | Joined:
    node = scope.given(node)
    written = text_of(node, 100)
    special = _data(DataKind(), node, scope, written)
    return special or Equal(DataKind().parse(node, scope), DataKind(), written)


def _map(kind: MapKind, node: Node, scope: Reading, written: str) -> Matcher:
    pairs = scope.mistakes.pairs(node, scope.place)
    return Fields({key: matcher(kind.of, value, scope) for key, (_, value) in pairs.items()}, written)


def _record(kind: RecordKind, node: Node, scope: Reading, written: str) -> Matcher:
    pairs = scope.mistakes.pairs(node, scope.place)
    scope.mistakes.known(pairs, kind.parts, scope.place)
    found = {}
    for key, (_, value) in pairs.items():
        if key in kind.parts:
            with scope.at(f"{key!r} of {scope.place}"):
                found[key] = matcher(kind.parts[key][0], value, scope)
    return Fields(found, written)


def _tree(node: Node, scope: Reading, written: str) -> Matcher:
    if isinstance(node, SequenceNode):
        return Each(tuple(matcher(TreeKind(), item, scope) for item in node.value), written)
    return Like(read_tree(node, scope), written)


def _tree_mapping(
    node: MappingNode, scope: Reading, written: str, fields: Mapping[str, Any] | None
) -> Matcher:
    """Return the wish that a mapping is for a part of a struct: its fields, unless its words are others'."""
    keys = {key.value for key, _ in node.value}
    if fields is None or not keys <= set(fields):
        special = _range_or_fields(node, scope, written) or _pattern(TreeKind(), node, scope, written)
        special = special or _data(TreeKind(), node, scope, written)
        if special is not None:
            return special
        form = read_form(node, scope)
        if form is not None:
            return Equal(form, DataKind(), written)
    if not keys:
        scope.mistakes.add(node, f"{scope.place}: {{}} wants nothing")
    return _fields(scope.mistakes.pairs(node, scope.place), scope, fields, written)


def _fields(pairs: Pairs, scope: Reading, fields: Mapping[str, Any] | None, written: str) -> Fields:
    found = {}
    for key, (key_node, value) in pairs.items():
        if fields is not None and key not in fields:
            scope.mistakes.add(key_node, f"unknown field {key!r} in {scope.place}{nearest(key, fields)}")
        with scope.at(f"{key!r} of {scope.place}"):
            found[key] = matcher(TreeKind(), value, scope)
    return Fields(found, written)
