# SPDX-License-Identifier: MIT
"""A value for each kind of target: which one it is follows from the kernel's version and architecture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from lab.errors import UsageError

if TYPE_CHECKING:
    from lab.language.requires import Machine, Requires

T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True)
class Choice(Generic[T_co]):
    """Values under conditions, in the order in which they were written; None is `else`."""

    branches: tuple[tuple[Requires | None, T_co], ...]
    written: str = ""

    def of(self, machine: Machine | None) -> T_co:
        """Return the value for a machine; UsageError where nobody said which one it is."""
        if machine is None:
            raise UsageError(
                f"which of {self.written} is wanted is the kernel's to say, which is not known here"
            )
        fits = [value for condition, value in self.branches if condition and condition.fits(machine)]
        rest = [value for condition, value in self.branches if condition is None]
        if not fits + rest:
            raise UsageError(f"nothing of {self.written} is for {machine}")
        return (fits + rest)[0]


@dataclass(frozen=True)
class Needs:
    """Names of headers that something uses; `choices`: and what it uses of them on some machines only."""

    constants: frozenset[str] = frozenset()
    structs: frozenset[str] = frozenset()
    choices: tuple[Choice[Needs], ...] = ()

    def on(self, machine: Machine | None) -> tuple[frozenset[str], frozenset[str]]:
        """Return the constants and the structs that a machine must have."""
        constants, structs = self.constants, self.structs
        for choice in self.choices:
            more = choice.of(machine).on(machine)
            constants, structs = constants | more[0], structs | more[1]
        return constants, structs
