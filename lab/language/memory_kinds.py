# SPDX-License-Identifier: MIT
"""How data and memory are read: the kinds of parameters that take them.

Where a system call takes an address, a verb's parameter is `Memory` (or `Content`, where a bare text is its
content) and the verb gets a `Placed`; where it is bytes, `Data`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from lab.abi.layout import nearest
from lab.guest import wire
from lab.language import expression
from lab.language.data import FORMS, ArrayValue, BoundData, FormValue, Leaf, StructValue, TextData, Tree
from lab.language.expression import ExpressionError
from lab.language.kinds import IntKind, Kind, SizeKind, check_name, with_parameters
from lab.language.memory import BadValue, BufferValue, PlacedValue
from lab.language.nodes import MappingNode, Node, ScalarNode, SequenceNode, plain, text_of
from lab.language.plan import Placed
from lab.language.values import NOTHING, REFERENCE, Reference, Value

if TYPE_CHECKING:
    from lab.language.reading import Reading

_BAD = {"unmapped": wire.Kind.UNMAPPED, "readonly": wire.Kind.READONLY, "partial": wire.Kind.PARTIAL}


def read_form(node: Node, scope: Reading) -> Value | None:
    """Return the value of a form, None when a mapping is no form."""
    if not isinstance(node, MappingNode):
        return None
    for key, own in node.value:
        if key.value == "struct":
            return _read_struct(node, scope)
        found = FORMS.get(key.value)
        if found is not None:
            what = f"{{{key.value}: …}}"
            pairs = scope.mistakes.pairs(node, what)
            return FormValue(found, found.signature.read(own, pairs, scope, what=what, where=node))
    return None


@dataclass(frozen=True)
class DataKind(Kind):
    """Bytes."""

    title: ClassVar[str] = "data (a text or a form)"
    forms: ClassVar[tuple[str, ...]] = (
        "hello",
        '{hex: "0102"}',
        "{repeat: ab, size: 1MiB}",
        "{random: 4KiB, id: a}",
        "{u32: [1, 2]}",
        "{struct: NAME, field: value}",
        "$r.data",
    )
    wants: ClassVar[str] = "data"
    gives: ClassVar[str] = "data"

    def parse(self, node: Node, scope: Reading) -> Value:
        """Read data; a reference gives an earlier step's."""
        found = super().parse(node, scope)
        return BoundData(found) if isinstance(found, Reference) else found

    def read(self, node: Node, scope: Reading) -> Value:
        """Read a text or a form."""
        if isinstance(node, ScalarNode):
            return TextData(node.value)
        made = read_form(node, scope)
        if made is not None:
            return made
        note_no_form(node, scope, self.title, ())
        return NOTHING

    def schema(self) -> dict[str, Any]:
        """Return that texts and mappings are fine."""
        return {"type": ["string", "number", "object", "boolean", "null"], "description": self.title}


def note_no_form(node: Node, scope: Reading, title: str, more: tuple[str, ...]) -> None:
    """Note a mapping or list that is none of the forms."""
    known = [*more, "struct", *FORMS]
    hint = ""
    if isinstance(node, MappingNode) and node.value:
        hints = (nearest(str(key.value), known) for key, _ in node.value)
        hint = next((each for each in hints if each), f"; forms: {', '.join(known)}")
    scope.mistakes.add(node, f"{scope.place} is {title}, not {text_of(node, 40)}{hint}")


Data = Annotated[bytes, DataKind()]


def read_tree(node: Node, scope: Reading) -> Tree:
    """Return what stands for a struct's field, as far as it can be told without its type."""
    node = scope.given(node)
    if isinstance(node, ScalarNode):
        return _read_leaf(node, scope)
    if isinstance(node, SequenceNode):
        return [read_tree(item, scope) for item in node.value]
    made = read_memory(node, scope) or read_form(node, scope)
    if made is not None:
        return made
    pairs = scope.mistakes.pairs(node, scope.place)
    return {key: read_tree(value, scope) for key, (_, value) in pairs.items()}


def _read_leaf(node: ScalarNode, scope: Reading) -> Leaf:
    text = str(node.value)
    if plain(node) and REFERENCE.fullmatch(text):
        reference = scope.refer(text[1:], node, "any")
        return Leaf(text, reference if isinstance(reference, Reference) else Reference(text[1:], "any"))
    try:
        tree = expression.parse(text)
    except ExpressionError:
        return Leaf(text)
    tree = with_parameters(tree, node, scope)
    if plain(node):
        for name in expression.names(tree):
            # An unknown lower-case word is probably the content of a char array: the target tells.
            if not isinstance(name, expression.Name) or name.name in scope.words.constants:
                check_name(name, node, scope)
            elif name.name.isupper() and "_" in name.name:
                scope.constant(name.name, node)
    return Leaf(text, tree=tree)


def _read_struct(node: MappingNode, scope: Reading) -> Value:
    pairs = scope.mistakes.pairs(node, "{struct: …}")
    name_node = pairs.pop("struct")[1]
    name = scope.mistakes.scalar(name_node, "a struct's name")
    if name is None:
        return NOTHING
    name = name.removeprefix("struct ")
    fields = scope.struct(name, name_node)
    found: dict[str, Tree] = {}
    for key, (key_node, value) in pairs.items():
        if fields and key not in fields:
            scope.mistakes.add(key_node, f"struct {name} has no field {key!r}{nearest(key, fields)}")
        with scope.at(f"field {key!r} of struct {name}"):
            found[key] = read_tree(value, scope)
    return StructValue(name, found)


def read_memory(node: Node, scope: Reading) -> Value | None:
    """Return the value of ``{buffer: …}`` or ``{bad: …}``, None for another node."""
    if not isinstance(node, MappingNode):
        return None
    keys = {key.value for key, _ in node.value}
    own = next((word for word in ("buffer", "bad") if word in keys), None)
    if own is None:
        return None
    what = f"{{{own}: …}}"
    pairs = scope.mistakes.pairs(node, what)
    scope.mistakes.known(pairs, ("buffer", "size") if own == "buffer" else ("bad", "data", "size"), what)
    with scope.at(f"'size' of {what}"):
        size = SizeKind().parse(pairs["size"][1], scope) if "size" in pairs else None
    content_node = pairs.get("buffer" if own == "buffer" else "data", (None, None))[1]
    content: Value | None = None
    if content_node is not None and not (isinstance(content_node, ScalarNode) and content_node.value == ""):
        with scope.at(f"{own!r} of {what}"):
            content = _read_content(content_node, scope)
    if own == "buffer":
        return BufferValue(content, size)
    kind = _read_bad(pairs["bad"][1], scope)
    return BadValue(kind, content, size)


def _read_content(node: Node, scope: Reading) -> Value:
    node = scope.given(node)
    if isinstance(node, SequenceNode):
        return ArrayValue(tuple(read_tree(item, scope) for item in node.value))
    return DataKind().parse(node, scope)


def _read_bad(node: Node, scope: Reading) -> wire.Kind:
    word = scope.mistakes.scalar(scope.given(node), "the kind of bad memory")
    if word is not None and word not in _BAD:
        scope.mistakes.add(node, f"bad memory is one of {', '.join(_BAD)}, not {word!r}{nearest(word, _BAD)}")
    return _BAD.get(word or "", wire.Kind.UNMAPPED)


@dataclass(frozen=True)
class MemoryKind(IntKind):
    """Where a call wants an address: memory of this step, a mapping, or a bad address."""

    title: ClassVar[str] = "memory: {buffer: …}, {bad: …}, {struct: …}, data forms, $map, NULL"
    forms: ClassVar[tuple[str, ...]] = (
        "{buffer: hello, size: 64}",
        "{bad: unmapped}",
        "{bad: partial, data: hello}",
        "{struct: NAME, field: value}",
        "{u32: 5}",
        "$map+PAGE_SIZE",
        "NULL",
    )
    text_is_content: bool = False  # a bare scalar is data, not a number

    def parse(self, node: Node, scope: Reading) -> Value:
        """Read memory; the verb gets a `Placed`."""
        node = scope.given(node)
        if isinstance(node, SequenceNode):
            return PlacedValue(ArrayValue(tuple(read_tree(item, scope) for item in node.value)))
        if isinstance(node, MappingNode):
            made = read_memory(node, scope) or read_form(node, scope)
            if made is None:
                note_no_form(node, scope, self.title, ("buffer", "bad"))
                return NOTHING
            return PlacedValue(made)
        if self.text_is_content:
            return PlacedValue(DataKind().parse(node, scope))
        return PlacedValue(super().parse(node, scope))

    def schema(self) -> dict[str, Any]:
        """Return that most shapes are fine."""
        return {"type": ["string", "integer", "object", "array"], "description": self.title}


Memory = Annotated[Placed, MemoryKind()]
Content = Annotated[Placed, MemoryKind(text_is_content=True)]
