# SPDX-License-Identifier: MIT
"""The names that some target's system headers have: what scenario files are checked against before any fetch.

``python -m lab.pages.names`` writes lab/abi/names.txt anew: it asks each compiler that an architecture's
kernels are built with, and fetches those that are not in the cache.
"""

from __future__ import annotations

import sys
import textwrap
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from lab import abi
from lab.arch import ARCHITECTURES
from lab.errors import LabError
from lab.kernels.debian.offers import nominal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from lab.abi import Abi

FILE = Path(abi.__file__).with_name("names.txt")
_HEAD = """\
# SPDX-License-Identifier: MIT
# Names that system headers define on some target, made by: python -m lab.pages.names
"""
_WIDTH = 110
# Families that only a header tells from other constants: how their names begin, after which nothing but
# letters and digits comes.
HEADERS = {"errno": ("linux/errno.h", "E"), "signal": ("linux/signal.h", "SIG")}
_NO_SIGNALS = {"SIGSTKSZ"}


@dataclass
class Words:
    """Names by their family, structs with their fields."""

    families: dict[str, set[str]] = field(
        default_factory=lambda: {name: set() for name in ("errno", "signal", "constant", "string", "syscall")}
    )
    structs: dict[str, dict[str, None]] = field(default_factory=dict)

    def take(self, found: Abi, macros: Mapping[str, Iterable[str]]) -> None:
        """Add what a target has; `macros` are those of each of the HEADERS."""
        for family, (header, start) in HEADERS.items():
            names = (name for name in macros[header] if name.startswith(start) and name.isalnum())
            self.families[family].update(names)
        self.families["constant"].update(found.constants)
        self.families["string"].update(found.strings)
        self.families["syscall"].update(found.syscalls)
        for name, struct in found.structs.items():
            self.structs.setdefault(name, {}).update(dict.fromkeys(each.name for each in struct.fields))

    def text(self, made_of: Mapping[str, Sequence[str]]) -> str:
        """Return the file's text; `made_of` names the compilers asked, by architecture."""
        families = {**self.families, "signal": self.families["signal"] - _NO_SIGNALS}
        families["constant"] = families["constant"] - families["errno"] - families["signal"]
        lines = [f"# {arch}: {' '.join(names)}" for arch, names in made_of.items()]
        for family, names in families.items():
            lines += [f"[{family}]", *textwrap.wrap(" ".join(sorted(names)), _WIDTH, break_on_hyphens=False)]
        lines += ["[struct]", *(f"{name}: {' '.join(self.structs[name])}" for name in sorted(self.structs))]
        return _HEAD + "\n".join(lines) + "\n"


def compilers() -> dict[str, list[str]]:
    """Return the compilers that kernels are built with, by architecture: each brings headers of its own."""
    return {
        name: list(dict.fromkeys(kernel.compiler for kernel in nominal(name).kernels))
        for name in ARCHITECTURES
    }


def write(path: Path = FILE) -> None:
    """Write the file; raises what roots.root() does, and BuildFailed."""
    from lab import settings  # noqa: PLC0415 - a test asks for the names alone
    from lab.kernels.roots import root  # noqa: PLC0415 - as above
    from lab.kernels.uapi import macros, system_abi  # noqa: PLC0415 - as above
    from lab.progress import Progress  # noqa: PLC0415 - as above
    from lab.store.cache import Cache  # noqa: PLC0415 - as above

    chosen, progress, words = settings.load(), Progress(), Words()
    cache = Cache(chosen.cache, progress)
    made_of = compilers()
    for name, programs in made_of.items():
        arch = ARCHITECTURES[name]
        for program in programs:
            toolchain = root(program, chosen, cache, progress, target=arch)
            found = {header: macros([header], toolchain, arch) for header, _ in HEADERS.values()}
            words.take(system_abi(toolchain, arch, cache, progress), found)
    path.write_text(words.text(made_of), encoding="ascii")


if __name__ == "__main__":
    try:
        write()
    except LabError as error:
        sys.exit(str(error))
    print(FILE)
