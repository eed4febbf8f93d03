# SPDX-License-Identifier: MIT
"""A source tree of modules: where the sources, their headers and the deliberate faults are."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path  # noqa: TC003 - a record's field

from lab.abi.layout import nearest
from lab.errors import UsageError

# What every module has: kernel/module/main.c, unknown_module_param_cb().
_EVERYBODYS = frozenset({"async_probe", "dyndbg"})
_PARAMETER = re.compile(r"^module_(?:hw_)?param(?:_\w+)?\(\s*(\w+)", re.MULTILINE)


@dataclass(frozen=True)
class Tree:
    """A directory with a Kbuild; nothing is ever written to it."""

    path: Path

    @property
    def uapi(self) -> Path:
        """Where the headers are that user space includes."""
        return self.path / "uapi"

    @property
    def modules(self) -> frozenset[str]:
        """The names of the modules that it makes: lab_X of every X.c."""
        return frozenset(f"lab_{path.stem}" for path in self.path.glob("*.c"))

    def parameters(self, module: str) -> frozenset[str] | None:
        """Return the names of a module's parameters by its source; None where that is not at hand."""
        try:
            source = (self.path / f"{module.removeprefix('lab_')}.c").read_text(
                encoding="utf-8", errors="replace"
            )
        except OSError:
            return None
        return frozenset(_PARAMETER.findall(source)) | _EVERYBODYS

    def fault(self, name: str) -> Path:
        """Return the patch of a deliberate mistake; raises UsageError naming those there are."""
        directory = self.path / "faults"
        path = directory / f"{name}.patch"
        if not path.is_file():
            known = sorted(patch.stem for patch in directory.glob("*.patch"))
            hint = f"there are {len(known)} in {directory}"
            raise UsageError(f"no fault is called {name!r}{nearest(name, known)}", hint=hint)
        return path
