# SPDX-License-Identifier: MIT
"""Memory of a call: data put into the actor's program, and addresses that are bad on purpose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from lab.errors import UsageError
from lab.guest import wire
from lab.language.data import ArrayValue, FormValue, StructValue
from lab.language.plan import Placed

if TYPE_CHECKING:
    from lab.language.context import Context
    from lab.language.data import Decode
    from lab.language.plan import Call
    from lab.language.values import Value


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


def _content(content: Value | None, size: Value | None, kind: wire.Kind, call: Call) -> Placed:
    length = None if size is None else int(size.resolve(call))
    if isinstance(content, (StructValue, ArrayValue)):
        return _place_packed(content, call, kind, length)
    data = b"" if content is None else content.resolve(call)
    decode = content.decoder(call) if isinstance(content, FormValue) and length is None else None
    buffer = call.program.buffer(data, length, kind)
    return Placed(buffer, buffer.size, decode)
