# SPDX-License-Identifier: MIT
"""Numbers that are compared: what a written number is in a field of so many bits, with a sign or not."""

from __future__ import annotations

from lab.abi.layout import Whole
from lab.errors import UsageError


def same_number(wanted: int, got: int, where: str, *, bound: bool = False) -> bool:
    """Return whether a field holds just this number.

    In a field without a sign a negative number is what C makes of it: -1 is all of the field's bits. Where a
    number has no known width it must be the same. Raises UsageError for one that the field cannot hold,
    unless it is `bound`: what an earlier step gave is nobody's mistake.
    """
    if not isinstance(got, Whole):
        return wanted == got
    lowest, highest = -(1 << got.bits - 1), (1 << got.bits - got.signed) - 1
    if not lowest <= wanted <= highest:
        if bound:
            return False
        raise UsageError(f"{where} is {_field(got)}: it is never {wanted}")
    return wanted % (1 << got.bits) == int(got) % (1 << got.bits)


def same_address(wanted: int, got: int, bits: int, where: str, *, bound: bool = False) -> bool:
    """Return whether two numbers are the same address; each may be written with a sign or without.

    Raises UsageError for what is no address of so many bits, unless it is `bound`.
    """
    if not -(1 << bits - 1) <= wanted < 1 << bits:
        if bound:
            return False
        raise UsageError(f"{where} is an address of {bits} bits: it is never {wanted:#x}")
    return (wanted - got) % (1 << bits) == 0


def limited(limit: float, got: float, where: str, *, bound: bool = False) -> float:
    """Return a bound of a range.

    Raises UsageError for a negative one of a field that has no sign, unless it is `bound`: an earlier step's.
    """
    if isinstance(got, Whole) and not got.signed and limit < 0 and not bound:
        raise UsageError(f"{where} is {_field(got)}: no bound of it is {limit}")
    return limit


def _field(got: Whole) -> str:
    sign = "with" if got.signed else "without"
    return f"a number of {got.bits} bits {sign} a sign"
