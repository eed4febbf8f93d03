# SPDX-License-Identifier: MIT
"""What values need of a target and of the steps before, to become numbers and bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from lab.abi import known_names
from lab.errors import Unsupported, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lab.abi import Abi
    from lab.abi.layout import Struct
    from lab.language.requires import Machine


class Bindings(Protocol):
    """What names stand for while steps are made. `Bound` (lab/language/outcome.py) is the one there is."""

    def value(self, path: str, wants: str) -> Any:
        """Return what ``$path`` stands for; UsageError when it is not there."""

    def pid(self, actor: str) -> int | None:
        """Return an actor's process id, None when there is no such actor."""


class Context:
    """A target's headers, the run's seed, and what earlier steps bound."""

    def __init__(
        self,
        abi: Abi,
        *,
        seed: int = 0,
        bindings: Bindings | None = None,
        actor: str = "main",
        modules: Mapping[str, bytes] | None = None,
        machine: Machine | None = None,
    ) -> None:
        self.abi = abi
        self.machine = machine
        self.seed = seed
        self.bindings = bindings
        self.actor = actor
        self.modules = modules if modules is not None else {}
        bits = abi.arch.word * 8
        self._builtin = {
            "PAGE_SIZE": abi.page_size,
            "NULL": 0,
            "INT_MIN": -(1 << 31),
            "INT_MAX": (1 << 31) - 1,
            "UINT_MAX": (1 << 32) - 1,
            "LONG_MIN": -(1 << (bits - 1)),
            "LONG_MAX": (1 << (bits - 1)) - 1,
            "ULONG_MAX": (1 << bits) - 1,
            "SSIZE_MAX": (1 << (bits - 1)) - 1,
        }

    @property
    def pid(self) -> int:
        """The process id of the actor; 0 where none is known."""
        return (self.bindings.pid(self.actor) if self.bindings is not None else None) or 0

    def constant(self, name: str) -> int:
        """Return a constant's value.

        Raises Unsupported when this target's headers do not have it.
        """
        found = self._builtin.get(name)
        if found is None:
            found = self.abi.constants.get(name)
        if found is None and name.islower() and name not in known_names():
            raise UsageError(f"{name!r} is no number and no constant")
        if found is None:
            raise Unsupported(f"the headers of this target have no {name}")
        return found

    def struct(self, name: str) -> Struct:
        """Return a struct's layout.

        Raises Unsupported when this target's headers do not have it.
        """
        if name not in self.abi.structs:
            raise Unsupported(f"the headers of this target have no struct {name}")
        return self.abi.structs[name]

    def sizeof(self, name: str) -> int:
        """Return a struct's size."""
        return self.struct(name).size

    def number(self, path: str) -> int:
        """Return what ``$path`` is, as a number; UsageError when it is none."""
        found = self.bound_value(path, "int")
        if isinstance(found, bytes):
            text = found.decode(errors="replace").strip()
            try:
                return int(text, 0)
            except ValueError:
                raise UsageError(f"${path} is {text!r}, which is no number") from None
        if not isinstance(found, int):
            raise UsageError(f"${path} is {found!r}, which is no number")
        return found

    def bound_value(self, path: str, wants: str) -> Any:
        """Return what a reference stands for; UsageError when it is not there."""
        if self.bindings is None:
            raise UsageError(f"nothing is bound to ${path.partition('.')[0]} yet")
        return self.bindings.value(path, wants)
