# SPDX-License-Identifier: MIT
"""Data in a scenario's arguments, as values: texts, forms, structs and what stands one after the other.

A *form* is a mapping that makes bytes: ``{hex: "0102"}``, ``{u32: [1, 2]}``. It is a typed function,
registered by `form`: its name is the form's key. `StructValue` is the one form that is no function, as its
keys are a struct's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lab.errors import UsageError
from lab.language import expression
from lab.language.signature import Signature
from lab.language.values import Reference, Value

if TYPE_CHECKING:
    from lab.abi.layout import Field, Struct
    from lab.language.context import Context
    from lab.language.expression import Expression

Decode = Callable[[bytes], Any]
Tree = Any  # what a struct's field may be given: Leaf, Value, list or dict of these
Fixups = list[tuple[int, tuple[str, ...], Value]]  # offset, path, what its address goes there


@dataclass(frozen=True)
class Form:
    """A registered form; `decode` reads the same memory back after a call (None: bytes)."""

    signature: Signature
    decode: Callable[[Context, bytes, Mapping[str, Any]], Any] | None = None


FORMS: dict[str, Form] = {}
BUILTIN_FORMS = ("buffer", "bad", "struct")  # the language's own, see memory_kinds.py


def form(
    function: Callable[..., bytes] | None = None,
    *,
    decode: Callable[[Context, bytes, Mapping[str, Any]], Any] | None = None,
) -> Any:
    """Register a function as a data form: ``(context, first, *, others) -> bytes``.

    The function's name is the form's key, its first parameter that key's value. Pure: the same on every call.
    Raises TypeError when there is one of that name.
    """

    def register(made: Callable[..., bytes]) -> Callable[..., bytes]:
        signature = Signature(made)
        if signature.name in BUILTIN_FORMS:
            raise TypeError(f"form {signature.name!r} means something already: {signature.where}")
        found = Form(signature, decode)
        there = FORMS.setdefault(signature.name, found).signature.where
        if there != signature.where:  # the same: its file was imported again, after a mistake in it
            raise TypeError(f"form {signature.name!r} comes twice: {there}, {signature.where}")
        FORMS[signature.name] = found
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
