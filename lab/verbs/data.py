# SPDX-License-Identifier: MIT
"""The forms of data: mappings that make bytes."""

import random as pseudo
import sys
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from lab.abi.layout import whole
from lab.errors import UsageError
from lab.language.annotations import Int, Length, Text
from lab.language.context import Context
from lab.language.data import form
from lab.language.kinds import IntKind, length_trouble
from lab.language.memory_kinds import Data
from lab.language.nodes import Node, SequenceNode
from lab.language.reading import Reading
from lab.language.values import Several, Value


def _check_length(size: int) -> None:
    wrong = length_trouble(size)
    if wrong:
        raise UsageError(wrong)


@form
def hex_(_context: Context, digits: Text) -> bytes:
    """Bytes by their hexadecimal digits; spaces between bytes are fine."""
    try:
        return bytes.fromhex(digits)
    except ValueError as error:
        raise UsageError(f"{{hex: {digits!r}}} is not pairs of hexadecimal digits: {error}") from None


@form
def repeat(_context: Context, data: Data, *, size: Length) -> bytes:
    """Repeat some data, `size` bytes in all."""
    if not data:
        raise UsageError("{repeat: …} needs something to repeat")
    _check_length(size)
    return (data * (size // len(data) + 1))[:size]


@form
def counting(context: Context, first: Int, *, size: Length) -> bytes:
    """Consecutive unsigned 64-bit numbers from `first` on, as the target stores them, `size` bytes in all."""
    _check_length(size)
    if size % 8:
        raise UsageError(f"{{counting: …}} is of 8 bytes each, {size} are no whole numbers")
    if not 0 <= first <= (1 << 64) - size // 8:
        raise UsageError(f"{{counting: {first}}} of {size} bytes leaves the 64 bits")
    numbers = array("Q", range(first, first + size // 8))
    if sys.byteorder != context.abi.arch.byteorder:
        numbers.byteswap()
    return numbers.tobytes()


@form
def random(context: Context, size: Length, *, id_: Text = "") -> bytes:
    """Random bytes from the run's seed; the same `id` and seed give the same bytes."""
    _check_length(size)
    return pseudo.Random(f"{context.seed}/{id_}").randbytes(size)  # noqa: S311 - to be repeated, not secret


@form
def cstring(_context: Context, text: Text) -> bytes:
    """Text and the NUL that ends it."""
    return text.encode() + b"\0"


@form
def join(_context: Context, parts: list[Data]) -> bytes:
    """Several pieces of data one after the other."""
    return b"".join(parts)


@form
def exactly(_context: Context, data: Data) -> bytes:
    """Give the data to the byte.

    Under `expect`, a struct in it has zero in all that is not named, which `{struct: …}` alone leaves open.
    """
    return data


@dataclass(frozen=True)
class NumbersKind(IntKind):
    """One number or several."""

    title: ClassVar[str] = "a number or a list of numbers"

    def read(self, node: Node, scope: Reading) -> Value:
        """Read one or a list."""
        if isinstance(node, SequenceNode):
            return Several(tuple(IntKind().parse(item, scope) for item in node.value))
        return super().read(node, scope)

    def schema(self) -> dict[str, Any]:
        """Return that a list is fine."""
        return {"type": ["integer", "string", "array"], "description": self.title}


def _numbers(name: str, size: int, *, signed: bool, network: bool = False) -> None:
    """Register the form of numbers of one width, `{u32: 5}` or `{u32: [1, 2]}`."""

    def order(context: Context) -> Any:
        return "big" if network else context.abi.arch.byteorder

    def make(context: Context, numbers: Annotated[Any, NumbersKind()]) -> bytes:
        given = numbers if isinstance(numbers, list) else [numbers]
        mask = (1 << (8 * size)) - 1
        lowest, highest = -(1 << (8 * size - 1)), mask
        for number in given:
            if not lowest <= number <= highest:
                raise UsageError(f"{number} does not fit {{{name}: …}}")
        return b"".join((number & mask).to_bytes(size, order(context)) for number in given)

    def back(context: Context, data: bytes, arguments: Mapping[str, Any]) -> Any:
        number = whole(8 * size, signed=signed)
        found = [
            number.from_bytes(data[at : at + size], order(context), signed=signed)
            for at in range(0, len(data) - size + 1, size)
        ]
        return found if isinstance(arguments["numbers"], list) else (found[0] if found else None)

    make.__name__ = name
    make.__doc__ = (
        f"One number or a list of numbers of {8 * size} bits, {'signed' if signed else 'unsigned'}, "
        f"{'in network order' if network else 'as the target stores them'}."
    )
    form(make, decode=back)


for _size in (1, 2, 4, 8):
    _numbers(f"u{_size * 8}", _size, signed=False)
    _numbers(f"s{_size * 8}", _size, signed=True)
for _size in (2, 4, 8):
    _numbers(f"be{_size * 8}", _size, signed=False, network=True)
