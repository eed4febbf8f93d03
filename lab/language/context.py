# SPDX-License-Identifier: MIT
"""What values need of a target and of the steps before, to become numbers and bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lab.abi import known_names
from lab.errors import Unsupported, UsageError
from lab.language.outcome import ActorFacts, Outcome

if TYPE_CHECKING:
    from lab.abi import Abi
    from lab.abi.layout import Struct


class Context:
    """A target's headers, the run's seed, and what earlier steps bound."""

    def __init__(
        self,
        abi: Abi,
        *,
        seed: int = 0,
        bound: Mapping[str, Any] | None = None,
        actors: Mapping[str, ActorFacts] | None = None,
        actor: str = "main",
        modules: Mapping[str, bytes] | None = None,
    ) -> None:
        self.abi = abi
        self.seed = seed
        self.bound = bound if bound is not None else {}
        self.actors = actors if actors is not None else {}
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
        """Return what a reference stands for.

        Raises UsageError when it is not there: the step that binds it failed as it was expected to, or the
        target's struct has no such field.
        """
        name, *parts = path.split(".")
        if name not in self.bound and name in self.actors:
            return getattr(self.actors[name], parts[0] if parts else "pid")
        if name not in self.bound:
            raise UsageError(f"nothing is bound to ${name} yet")
        found = self.bound[name]
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
