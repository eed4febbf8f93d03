# SPDX-License-Identifier: MIT
"""What a verb is to the language: a function's signature, and what the session makes of it.

Verbs stand in lab/verbs/, which says how one is written. Who reads or makes steps is given a table of them.
"""

from __future__ import annotations

import typing
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar, overload

from lab.language.plan import Plan
from lab.language.signature import Signature

if TYPE_CHECKING:
    from collections.abc import Callable

F = TypeVar("F", bound="Callable[..., Any]")


@dataclass(frozen=True)
class Verb:
    """One verb of the language."""

    name: str
    signature: Signature
    family: str  # the file it stands in
    aliases: tuple[str, ...] = ()
    gives_to: str = ""  # the key that names the actor whose the resulting file descriptor is
    inherits: bool = False  # the actor that it brings to life has its parent's file descriptors

    @cached_property
    def plans(self) -> bool:
        """Whether it makes a program for one actor (else it controls the session)."""
        returns = self.signature.returns
        return (typing.get_origin(returns) or returns) is Plan

    @cached_property
    def outcome(self) -> type:
        """The record that it gives."""
        return self.signature.outcome


VERBS: dict[str, Verb] = {}  # that were imported, by name, aliases too


@overload
def verb(function: F) -> F: ...
@overload
def verb(*, alias: str = ..., gives_to: str = ..., inherits: bool = ...) -> Callable[[F], F]: ...
def verb(function: Any = None, *, alias: str = "", gives_to: str = "", inherits: bool = False) -> Any:
    """Register a function as a verb; TypeError when there is one of that name.

    `alias`: another word for it in YAML, where Python reserves that word. `gives_to` and `inherits`: see
    `Verb`.
    """

    def register(made: F) -> F:
        signature = Signature(made)
        family = made.__module__.rpartition(".")[2]
        aliases = (alias,) if alias else ()
        found = Verb(signature.name, signature, family, aliases, gives_to, inherits)
        for name in (found.name, *aliases):
            there = VERBS.setdefault(name, found).signature.where
            if there != signature.where:  # the same: its file was imported again, after a mistake in it
                raise TypeError(f"verb {name!r} comes twice: {there}, {signature.where}")
            VERBS[name] = found
        return made

    return register if function is None else register(function)
