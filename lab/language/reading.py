# SPDX-License-Identifier: MIT
"""What a kind of value asks of the scenario that it is read from. `Scope` (lab/language/scope.py) answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from collections.abc import Set as AbstractSet
    from contextlib import AbstractContextManager

    from lab.language.choice import Choice, Needs
    from lab.language.nodes import Mistakes, Node
    from lab.language.requires import Requires
    from lab.language.values import Value


@dataclass(frozen=True)
class Words:
    """Names that exist: constants, and structs with their fields (of system headers and a file's `uapi`)."""

    constants: AbstractSet[str]
    structs: Mapping[str, Collection[str]]
    elsewhere: Callable[[str], str | None] = lambda _name: None  # the header that has it and is not in `uapi`


class Reading(Protocol):
    """A scenario while it is read. What a node says wrong is noted in `mistakes`, and reading goes on."""

    mistakes: Mistakes
    words: Words
    place: str  # what is being read, for messages
    requires: Requires  # what is known to hold where this is looked at

    @property
    def parameters(self) -> Mapping[str, Node]:
        """The values of `with`, by name."""

    def at(self, place: str) -> AbstractContextManager[None]:
        """Name what is being read."""

    def comparing(self) -> AbstractContextManager[None]:
        """Read what is only compared with: another actor's file descriptor is a number there."""

    def branch(self, condition: Requires | None) -> AbstractContextManager[Callable[[], Needs]]:
        """Read what holds under a condition only; the function returns what it uses of the headers."""

    def choose(self, needs: Choice[Needs]) -> None:
        """Note what is used of the headers on some machines only."""

    def given(self, node: Node) -> Node:
        """Return the node that `with` gives where a step names its parameter, else the node itself."""

    def inner_steps(self, node: Node, *, in_turn: bool = False) -> Collection[object]:
        """Return the steps of a step: made together, each by another actor, or in turn by one."""

    def constant(self, name: str, node: Node) -> None:
        """Note the use of a constant; it is a mistake when no header has it."""

    def struct(self, name: str, node: Node) -> Collection[str] | None:
        """Return a struct's field names; None after noting that no header has it."""

    def actor_exists(self, name: str) -> bool:
        """Return whether a step can be by this actor."""

    def need_actor(self, name: str, node: Node) -> None:
        """Note that there is no such actor."""

    def new_actor(self, name: str, node: Node) -> None:
        """Note the birth of an actor."""

    def refer(self, path: str, node: Node, wants: str) -> Value:
        """Return the reference that a path is, after checking that it is bound and fits."""
