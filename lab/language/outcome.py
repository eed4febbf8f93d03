# SPDX-License-Identifier: MIT
"""What became of a call: the record that `expect` looks at and `as` binds, and what is bound."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from lab.errors import UsageError
from lab.language.annotations import Address, Errno, Int, Signal


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What every call has. A verb's own record adds fields; what was not seen is None.

    `bare` says what `$name` alone stands for, by what is wanted where it stands ('int', 'fd', 'address',
    'data'); a verb's record overrides it where that is not `returns`.
    """

    bare: ClassVar[Mapping[str, str]] = {"int": "returns"}

    returns: Int | None = None  # what the call returned when it did not fail
    errno: Errno | None = None  # why it failed
    signal: Signal | None = None  # the signal that a memory access gave, or that killed the actor
    code: Int | None = None  # si_code of that signal
    address: Address | None = None  # si_addr of that signal (of mmap: the mapping's)
    status: Int | None = None  # exit status, when the actor ended in the call
    completed: Int | None = None  # how often `times` was done as wanted


@dataclass(frozen=True, kw_only=True)
class ActorFacts:
    """What `$actor.pid` and `$actor.tid` are."""

    pid: Int
    tid: Int


@dataclass(frozen=True, kw_only=True)
class OfPending(Outcome):
    """Stands for the outcome of the call that a verb finishes."""


@dataclass(frozen=True)
class Bound:
    """What names stand for: what the steps before gave, and the actors."""

    given: Mapping[str, Any] = field(default_factory=dict)
    actors: Mapping[str, ActorFacts] = field(default_factory=dict)

    def value(self, path: str, wants: str) -> Any:
        """Return what ``$path`` stands for.

        Raises UsageError when it is not there: the step that binds it failed as it was expected to, or the
        target's struct has no such field.
        """
        name, *parts = path.split(".")
        if name not in self.given and name in self.actors:
            return getattr(self.actors[name], parts[0] if parts else "pid")
        if name not in self.given:
            raise UsageError(f"nothing is bound to ${name} yet")
        found = self.given[name]
        if wants == "pending":
            return found
        if not parts and isinstance(found, Outcome):
            bare = found.bare
            found = getattr(found, bare.get(wants) or bare.get("int") or "returns")
        for part in parts:
            found = _part(found, part, path)
        if found is None:
            raise UsageError(f"${path} holds nothing: that step did not give it")
        return found

    def pid(self, actor: str) -> int | None:
        """Return an actor's process id, None when there is no such actor."""
        return self.actors[actor].pid if actor in self.actors else None


def _part(found: Any, part: str, path: str) -> Any:
    if isinstance(found, Mapping):
        if part in found:
            return found[part]
    elif isinstance(found, Sequence) and part.isdigit():
        if int(part) < len(found):
            return found[int(part)]
    elif hasattr(found, part):
        return getattr(found, part)
    raise UsageError(f"${path}: there is no {part!r} in {found!r}")
