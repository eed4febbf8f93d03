# SPDX-License-Identifier: MIT
"""Structs by name, as JSON has them and made when they are asked for: thousands of them cost nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from lab.abi.layout import Field, Struct


class Structs(Mapping[str, Struct]):
    """Structs by name, made from their JSON when they are first asked for: thousands cost nothing."""

    def __init__(self, raw: Mapping[str, Any] | str | bytes) -> None:
        self._raw = raw
        self._made: dict[str, Struct] = {}

    @property
    def raw(self) -> Mapping[str, Any]:
        """The structs as JSON has them."""
        if isinstance(self._raw, str | bytes):  # many runs never ask
            self._raw = json.loads(self._raw)
        assert isinstance(self._raw, Mapping)
        return self._raw

    def __getitem__(self, name: str) -> Struct:
        made = self._made.get(name)
        if made is None:
            made = self._made[name] = self._struct(self.raw[name], name)
        return made

    def __iter__(self) -> Iterator[str]:
        return iter(self.raw)

    def __len__(self) -> int:
        return len(self.raw)

    def __contains__(self, name: object) -> bool:
        return name in self.raw

    def _struct(self, raw: Any, name: str) -> Struct:
        if isinstance(raw, str):  # another name of the same
            return self[raw]
        size, members, *own = raw  # an unnamed struct within another may bring a name of its own
        name = own[0] if own else name
        return Struct(name, size, tuple(self._field(member, name) for member in members))

    def _field(self, raw: Any, owner: str) -> Field:
        name, offset, size, kind, *rest = raw
        if kind == "struct":
            inner = rest[0]
            made = self[inner] if isinstance(inner, str) else self._struct(inner, f"{owner}.{name}")
            return Field(name, offset, size, "struct", type=made)
        if kind == "array":
            return Field(
                name, offset, size, "array", rest[0], element=self._field(rest[1], f"{owner}.{name}")
            )
        if kind == "bytes":
            return Field(name, offset, size, "bytes", rest[0])
        return Field(name, offset, size, kind, bits=(rest[0], rest[1]) if rest else None)


def _raw_field(member: Field) -> list[Any]:
    head: list[Any] = [member.name, member.offset, member.size, member.kind]
    match member.kind:
        case "struct":
            assert member.type is not None
            return [*head, [*_raw_struct(member.type), member.type.name]]
        case "array":
            assert member.element is not None
            return [*head, member.count, _raw_field(member.element)]
        case "bytes":
            return [*head, member.count]
    return [*head, *(member.bits or ())]


def _raw_struct(struct: Struct) -> list[Any]:
    return [struct.size, [_raw_field(member) for member in struct.fields]]


class Joined(Mapping[str, Struct]):
    """Two sets of structs; the first one's come first."""

    def __init__(self, first: Mapping[str, Struct], second: Mapping[str, Struct]) -> None:
        self._first, self._second = first, second

    def __getitem__(self, name: str) -> Struct:
        return self._first[name] if name in self._first else self._second[name]

    def __iter__(self) -> Iterator[str]:
        yield from self._first
        yield from (name for name in self._second if name not in self._first)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, name: object) -> bool:
        return name in self._first or name in self._second


def raw_structs(structs: Mapping[str, Struct]) -> dict[str, Any]:
    """Return what `Structs` takes, ready for JSON."""
    if isinstance(structs, Structs):
        return dict(structs.raw)
    return {name: _raw_struct(struct) for name, struct in structs.items()}
