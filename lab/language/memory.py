# SPDX-License-Identifier: MIT
"""Data and memory in a scenario's arguments: bytes, structs, buffers, and addresses that are bad on purpose.

A *form* is a mapping that makes bytes: ``{hex: "0102"}``, ``{u32: [1, 2]}``. It is a typed function,
registered by `form`: its name is the form's key. `StructValue` is the one form that is no function, as its
keys are a struct's.

Where a system call takes an address, a verb's parameter is `Memory` (or `Content`, where a bare text is its
content) and the verb gets a `Placed`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, cast

from lab.abi.layout import LayoutError, nearest
from lab.errors import UsageError
from lab.guest import wire
from lab.language import expression
from lab.language.expression import Expression, ExpressionError
from lab.language.kinds import IntKind, Kind, SizeKind, check_name, with_parameters
from lab.language.nodes import MappingNode, Node, ScalarNode, SequenceNode, plain, text_of
from lab.language.signature import Signature
from lab.language.values import NOTHING, REFERENCE, Reference, Value

if TYPE_CHECKING:
    from lab.abi.layout import Field, Struct
    from lab.language.context import Context
    from lab.language.plan import Call
    from lab.language.scope import Scope

Decode = Callable[[bytes], Any]

# --- forms: mappings that make bytes ---------------------------------------------------------------------


@dataclass(frozen=True)
class Form:
    """A registered form; `decode` reads the same memory back after a call (None: bytes)."""

    signature: Signature
    decode: Callable[[Context, bytes, Mapping[str, Any]], Any] | None = None


FORMS: dict[str, Form] = {}


def form(
    function: Callable[..., bytes] | None = None,
    *,
    decode: Callable[[Context, bytes, Mapping[str, Any]], Any] | None = None,
) -> Any:
    """Register a function as a data form: ``(context, first, *, others) -> bytes``.

    The function's name is the form's key, its first parameter that key's value. Pure: the same on every call.
    """

    def register(made: Callable[..., bytes]) -> Callable[..., bytes]:
        signature = Signature(made)
        FORMS[signature.name] = Form(signature, decode)
        return made

    return register if function is None else register(function)


@dataclass(frozen=True)
class FormValue:
    """A form with its arguments."""

    form: Form
    arguments: Mapping[str, Value]

    def resolve(self, context: Context) -> bytes:
        """Return the bytes."""
        return bytes(self.form.signature.function(context, **self._concrete(context)))

    def _concrete(self, context: Context) -> dict[str, Any]:
        return {name: value.resolve(context) for name, value in self.arguments.items()}

    def decoder(self, context: Context) -> Decode | None:
        """Return what reads the same memory after the call."""
        decode = self.form.decode
        if decode is None:
            return None
        arguments = self._concrete(context)
        return lambda data: decode(context, data, arguments)


@dataclass(frozen=True)
class TextData:
    """A text as bytes, in UTF-8, without a NUL at its end."""

    text: str

    def resolve(self, context: Context) -> bytes:  # noqa: ARG002 - the same everywhere
        """Return the bytes."""
        return self.text.encode()


@dataclass(frozen=True)
class BoundData:
    """Data that an earlier step got."""

    reference: Reference

    def resolve(self, context: Context) -> bytes:
        """Return the bytes."""
        found = self.reference.resolve(context)
        if isinstance(found, str):
            return found.encode()
        if not isinstance(found, bytes):
            raise UsageError(f"${self.reference.path} is {found!r}, which is no data")
        return found


def read_form(node: Node, scope: Scope) -> Value | None:
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

    def parse(self, node: Node, scope: Scope) -> Value:
        """Read data; a reference gives an earlier step's."""
        found = super().parse(node, scope)
        return BoundData(found) if isinstance(found, Reference) else found

    def read(self, node: Node, scope: Scope) -> Value:
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


def note_no_form(node: Node, scope: Scope, title: str, more: tuple[str, ...]) -> None:
    """Note a mapping or list that is none of the forms."""
    known = [*more, "struct", *FORMS]
    hint = ""
    if isinstance(node, MappingNode) and node.value:
        hints = (nearest(str(key.value), known) for key, _ in node.value)
        hint = next((each for each in hints if each), f"; forms: {', '.join(known)}")
    scope.mistakes.add(node, f"{scope.place} is {title}, not {text_of(node, 40)}{hint}")


Data = Annotated[bytes, DataKind()]

# --- structs ---------------------------------------------------------------------------------------------

Tree = Any  # what a field may be given: Leaf, Value, list or dict of these


@dataclass(frozen=True)
class Leaf:
    """A scalar whose type only the struct on the target tells: a number, a text, a reference."""

    text: str
    reference: Reference | None = None
    tree: Expression | None = None  # where the text can be read as one

    def number(self, context: Context, where: str) -> int:
        """Return it as a number; UsageError when it is none."""
        if self.reference is not None:
            return context.number(self.reference.path)
        if self.tree is None:
            raise UsageError(f"{where} is a number on this target, {self.text!r} is none")
        return expression.evaluate(self.tree, context)

    def content(self, context: Context) -> bytes:
        """Return it as bytes."""
        if self.reference is not None:
            return BoundData(self.reference).resolve(context)
        return self.text.encode()


def read_tree(node: Node, scope: Scope) -> Tree:
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


def _read_leaf(node: ScalarNode, scope: Scope) -> Leaf:
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


def _read_struct(node: MappingNode, scope: Scope) -> Value:
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


Fixups = list[tuple[int, tuple[str, ...], Value]]  # offset, path, what its address goes there


@dataclass(frozen=True)
class StructValue:
    """A struct of the target's, with the fields that are given; the others are zero."""

    name: str
    fields: Mapping[str, Tree]

    def resolve(self, context: Context) -> bytes:
        """Return its bytes; UsageError when it points to memory, which only a call's argument can."""
        data, fixups = self.pack(context)
        if fixups:
            raise UsageError(f"struct {self.name} points to memory: give it as an argument of a call")
        return data

    def pack(self, context: Context) -> tuple[bytes, Fixups]:
        """Return its bytes, and which addresses are to be written into them."""
        struct = context.struct(self.name)
        fixups: Fixups = []
        plain_values = _struct_values(struct, self.fields, context, _Where(self.name, 0, (), fixups))
        return bytes(struct.pack(plain_values, context.abi.arch)), fixups


@dataclass(frozen=True)
class _Where:
    """Where packing is: for messages, and for the addresses that come later."""

    name: str
    offset: int
    path: tuple[str, ...]
    fixups: Fixups

    def inner(self, name: str, offset: int) -> _Where:
        return _Where(f"{self.name}.{name}", self.offset + offset, (*self.path, name), self.fixups)


def _struct_values(
    struct: Struct, fields: Mapping[str, Tree], context: Context, where: _Where
) -> dict[str, Any]:
    return {
        name: _field_value(struct[name], tree, context, where.inner(name, struct[name].offset))
        for name, tree in fields.items()
    }


def _field_value(member: Field, tree: Tree, context: Context, where: _Where) -> Any:
    if member.kind == "struct" and isinstance(tree, (Mapping, StructValue)):
        assert member.type is not None
        inner = tree.fields if isinstance(tree, StructValue) else tree
        return _struct_values(member.type, inner, context, where)
    if member.kind == "array" and isinstance(tree, list):
        return _array_values(member, tree, context, where)
    if member.kind == "bytes" and isinstance(tree, list):
        return [leaf.number(context, where.name) for leaf in tree]
    if member.kind in ("int", "uint", "pointer"):
        return _word_value(member, tree, context, where)
    if isinstance(tree, Leaf):
        if member.kind != "bytes" and tree.reference is None:
            raise UsageError(f"{where.name} is a {member.kind} on this target, not {tree.text!r}")
        return tree.content(context)
    if isinstance(tree, (list, Mapping)):
        raise UsageError(f"{where.name} is a {member.kind} on this target: it cannot hold {tree!r}")
    return tree.resolve(context)


def _array_values(member: Field, trees: list[Tree], context: Context, where: _Where) -> list[Any]:
    element = member.element
    assert element is not None
    return [
        _field_value(element, tree, context, where.inner(str(index), index * element.size))
        for index, tree in enumerate(trees)
    ]


def _word_value(member: Field, tree: Tree, context: Context, where: _Where) -> int:
    """Return a number; an address, also one in a __u64, is not known yet: zero, and noted."""
    if isinstance(tree, Leaf):
        return tree.number(context, where.name)
    if member.kind != "pointer" and member.size != 8:
        if isinstance(tree, FormValue):
            return int.from_bytes(tree.resolve(context), context.abi.arch.byteorder)
        raise UsageError(f"{where.name} is a number of {member.size * 8} bits: no place for an address")
    target = ArrayValue(tuple(tree)) if isinstance(tree, list) else tree
    if isinstance(target, Mapping):
        raise UsageError(f"{where.name} is no struct on this target: point to one by {{struct: NAME, …}}")
    where.fixups.append((where.offset, where.path, target))
    return 0


@dataclass(frozen=True)
class ArrayValue:
    """Several pieces of data one after the other: structs of an iovec, say."""

    items: tuple[Tree, ...]

    def pack(self, context: Context) -> tuple[bytes, Fixups]:
        """Return the bytes, and which addresses are to be written into them."""
        data = bytearray()
        fixups: Fixups = []
        for index, item in enumerate(self.items):
            if isinstance(item, StructValue):
                one, inner = item.pack(context)
                fixups += [(len(data) + at, (str(index), *path), value) for at, path, value in inner]
            elif isinstance(item, Leaf):
                one = item.content(context)
            elif isinstance(item, (Mapping, list)):
                raise UsageError(f"an array in memory holds data or {{struct: NAME, …}}, not {item!r}")
            else:
                one = item.resolve(context)
            data += one
        return bytes(data), fixups

    def resolve(self, context: Context) -> bytes:
        """Return its bytes; UsageError when something in it points to memory."""
        data, fixups = self.pack(context)
        if fixups:
            raise UsageError("data that points to memory can only be an argument of a call")
        return data


# --- memory of a call ------------------------------------------------------------------------------------

_BAD = {"unmapped": wire.Kind.UNMAPPED, "readonly": wire.Kind.READONLY, "partial": wire.Kind.PARTIAL}


@dataclass(frozen=True)
class Placed:
    """Memory of a program, or an address: what a verb passes to a call."""

    argument: int | wire.Buffer | wire.At
    size: int
    decode: Decode | None = None  # None: bytes
    inner: tuple[tuple[tuple[str, ...], Placed], ...] = field(default=())  # what its pointers point to

    @property
    def readable(self) -> int:
        """How many of its bytes can be brought back."""
        if not isinstance(self.argument, wire.Buffer) or self.argument.kind is wire.Kind.UNMAPPED:
            return 0
        return self.size // 2 if self.argument.kind is wire.Kind.PARTIAL else self.size

    def fetch(
        self, call: Call, *, size: int | None = None, up_to_call: int | None = None
    ) -> Callable[[wire.Reply], Any]:
        """Bring its content back after the calls so far; the result takes it out of the reply.

        `size` and a call's result cut it. None where nothing can be read, or where the actor died.
        """
        if not isinstance(self.argument, wire.Buffer) or self.argument.kind is wire.Kind.UNMAPPED:
            return lambda _: None
        wanted = self.readable if size is None else min(size, self.readable)
        index = call.program.fetch(self.argument, 0, wanted, up_to_call)
        inner = [(path, placed.fetch(call)) for path, placed in self.inner]

        def take(reply: wire.Reply) -> Any:
            if index >= len(reply.data):
                return None
            found = self._decoded(reply.data[index])
            for path, get in inner:
                _put(found, path, get(reply))
            return found

        return take

    def _decoded(self, data: bytes) -> Any:
        if self.decode is None:
            return data
        with contextlib.suppress(LayoutError):  # cut short by the call: the bytes as they are
            return self.decode(data)
        return data


def _put(tree: Any, path: tuple[str, ...], value: Any) -> None:
    """Put what a pointer points to where its address stood."""
    *head, last = path
    for part in head:
        tree = tree[int(part)] if isinstance(tree, list) else tree[part] if isinstance(tree, dict) else None
    if isinstance(tree, dict):
        tree[last] = value
    elif isinstance(tree, list):
        tree[int(last)] = value


def place(value: Any, context: Context) -> Placed:
    """Put a value into the program's memory; numbers are addresses as they are."""
    call = cast("Call", context)
    if isinstance(value, (BufferValue, BadValue)):
        return value.resolve(context)
    if isinstance(value, (StructValue, ArrayValue)):
        return _place_packed(value, call, wire.Kind.PLAIN, None)
    if isinstance(value, FormValue):
        data = value.resolve(context)
        return Placed(call.program.buffer(data), len(data), value.decoder(context))
    found = value.resolve(context)
    if isinstance(found, bytes):
        return Placed(call.program.buffer(found), len(found))
    if isinstance(found, Placed):
        return found
    if isinstance(found, int):
        return Placed(found, 0)
    raise UsageError(f"{found!r} is neither memory nor an address")


def _place_packed(value: StructValue | ArrayValue, call: Call, kind: wire.Kind, size: int | None) -> Placed:
    data, fixups = value.pack(call)
    buffer = call.program.buffer(data, size, kind)
    inner = []
    for offset, path, target in fixups:
        placed = place(target, call)
        if isinstance(placed.argument, wire.Buffer):
            call.program.pointer(buffer, offset, placed.argument)
            inner.append((path, placed))
        elif isinstance(placed.argument, int) and placed.argument:
            raise UsageError(f"{'.'.join(path)}: give an address as a number")
    decode: Decode | None = None
    if isinstance(value, StructValue):
        struct, arch = call.struct(value.name), call.abi.arch

        def decode(raw: bytes) -> Any:
            return struct.unpack(raw, arch)

    return Placed(buffer, buffer.size, decode, tuple(inner))


@dataclass(frozen=True)
class BufferValue:
    """``{buffer: data, size: …}``: memory that ends at a guard page."""

    content: Value | None
    size: Value | None

    def resolve(self, context: Context) -> Placed:
        """Put it into the program."""
        return _content(self.content, self.size, wire.Kind.PLAIN, cast("Call", context))


@dataclass(frozen=True)
class BadValue:
    """``{bad: unmapped | readonly | partial}``: memory that a call cannot use, or only the first half of."""

    kind: wire.Kind
    content: Value | None
    size: Value | None

    def resolve(self, context: Context) -> Placed:
        """Put it into the program; without a size it is two pages, so that the half of it is one."""
        call = cast("Call", context)
        size = self.size
        if size is None and self.content is None:
            data: bytes = b""
            length = 2 * context.abi.page_size
            return Placed(call.program.buffer(data, length, self.kind), length)
        return _content(self.content, size, self.kind, call)


def _content(content: Value | None, size: Value | None, kind: wire.Kind, call: Call) -> Placed:
    length = None if size is None else int(size.resolve(call))
    if isinstance(content, (StructValue, ArrayValue)):
        return _place_packed(content, call, kind, length)
    data = b"" if content is None else content.resolve(call)
    decode = content.decoder(call) if isinstance(content, FormValue) and length is None else None
    buffer = call.program.buffer(data, length, kind)
    return Placed(buffer, buffer.size, decode)


def read_memory(node: Node, scope: Scope) -> Value | None:
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


def _read_content(node: Node, scope: Scope) -> Value:
    node = scope.given(node)
    if isinstance(node, SequenceNode):
        return ArrayValue(tuple(read_tree(item, scope) for item in node.value))
    return DataKind().parse(node, scope)


def _read_bad(node: Node, scope: Scope) -> wire.Kind:
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

    def parse(self, node: Node, scope: Scope) -> Value:
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


@dataclass(frozen=True)
class PlacedValue:
    """Something that becomes memory of the program, or an address."""

    value: Any

    def resolve(self, context: Context) -> Placed:
        """Put it there."""
        return place(self.value, context)

    @property
    def struct(self) -> str | None:
        """The name of the struct that lies there."""
        inner = self.value.content if isinstance(self.value, (BufferValue, BadValue)) else self.value
        return inner.name if isinstance(inner, StructValue) else None


Memory = Annotated[Placed, MemoryKind()]
Content = Annotated[Placed, MemoryKind(text_is_content=True)]
