# SPDX-License-Identifier: MIT
"""What became of a call: the record that `expect` looks at and `as` binds."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

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
