# SPDX-License-Identifier: MIT
"""Source trees of modules: where the sources, their headers and the deliberate faults are.

What is told here is what the text says, before anything is built: a scenario file is checked without a
compiler. Where the text does not tell, as of a Makefile with logic, nothing is claimed; what was really built
is known by lab.kernels.build.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from lab.abi.layout import nearest
from lab.errors import UsageError
from lab.kernels.modinfo import EVERYBODYS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

MAKEFILES = ("Kbuild", "Makefile")  # in the order in which kbuild looks, scripts/Makefile.build
TEMPLATES = ("Kbuild.in", "Makefile.in", "Makefile.am", "configure")  # of those
DKMS = "dkms.conf"  # says what dkms does, in the top of a tree: lab.kernels.dkms
# Where headers are that user space includes, below a tree.
_INCLUDES = ("uapi", "include/uapi", "include", ".")
_PARAMETER = re.compile(r"^[ \t]*module_(?:hw_)?param(?:_\w+)?\(\s*(\w+)", re.MULTILINE)
# One that a macro of the tree's own makes, or that is in another file: what it is called nobody can tell.
_HIDDEN = re.compile(
    r'^[ \t]*#\s*(?:define\b.*\bmodule_\w*param|include\s*"[^"]*\.c")|\b__module_param_call\(', re.MULTILINE
)
_MODE = re.compile(
    r"^[ \t]*module_(?:hw_)?param(?:_\w+)?\(\s*(\w+)\b[^;]*,\s*(0[0-7]*|S_I\w+(?:\s*\|\s*S_I\w+)*)\s*\)\s*;",
    re.MULTILINE,
)
_OBJECTS = re.compile(r"^\s*obj-(?:m|\$[({]\w+[)}])\s*[:+?]?=(.*)$", re.MULTILINE)
_PREFIX = re.compile(r"\$[({]addprefix\s+(\w+),")
_VARIABLE = re.compile(r"[A-Za-z_]\w*[:+?]?=")
_DEPTH = 6  # of directories: a link may lead back


@dataclass(frozen=True)
class Tree:
    """A directory with a Kbuild or a Makefile; nothing is ever written to it."""

    path: Path
    make: tuple[str, ...] = ()  # what else make is told: 'CONFIG_X=m', 'PWD={tree}'
    prepare: str = ""  # a command for the copy, before make
    tools: tuple[str, ...] = ()  # Debian packages whose programs it wants

    @cached_property
    def kbuild(self) -> str:
        """The text of what says which modules there are; '' where there is none."""
        return _kbuild(self.path)

    @property
    def makefile(self) -> Path | None:
        """The file that kbuild reads first, or what makes one; None where nothing says what to build."""
        places = [self.path, *(self.path / name for name in self.below())]
        found = [path for place in places for name in MAKEFILES if (path := place / name).is_file()]
        return next(iter(found), self.dkms or self._template)

    @property
    def dkms(self) -> Path | None:
        """Its dkms.conf, which says how it is built; None where it has none."""
        path = self.path / DKMS
        return path if path.is_file() else None

    @property
    def _template(self) -> Path | None:
        """What the Makefile of its top is made of, where a command makes it."""
        if not self.prepare or any((self.path / name).is_file() for name in MAKEFILES):
            return None
        return next((path for name in TEMPLATES if (path := self.path / name).is_file()), None)

    def is_described_by(self, path: Path) -> bool:
        """Tell whether a file is the one that kbuild reads first."""
        return self.makefile is not None and path.resolve() == self.makefile.resolve()

    @property
    def listed(self) -> bool:
        """Whether its own Kbuild says which modules there are, not only those of directories below."""
        return bool(_OBJECTS.search(self.kbuild))

    @property
    def picks(self) -> bool:
        """Whether its Kbuild builds only those modules that LAB_ONLY names, if that is set."""
        return "LAB_ONLY" in self.kbuild

    def below(self) -> list[str]:
        """Return the directories whose modules are to be built, of a tree that does not itself say so.

        Each is for its own make, as far as the tree's goes; what another file says that it includes is left
        to make.
        """
        if self.listed or "include" in self.kbuild or self._template is not None:
            return []
        found: list[str] = []
        for directory, names, _ in os.walk(self.path):
            below = Path(directory)
            names[:] = sorted(name for name in names if not name.startswith("."))
            if below != self.path and Tree(below).listed:
                found.append(str(below.relative_to(self.path)))
                names.clear()
        return found

    @cached_property
    def modules(self) -> Mapping[str, Path]:
        """The modules that it is seen to make, by the kernel's names (with _), and where X.c would be."""
        places = [self.path, *(self.path / name for name in self.below())]
        found = (each for place in places for each in _modules(place, _DEPTH))
        return {path.name.replace("-", "_"): source for path, source in found}

    @cached_property
    def prefix(self) -> str:
        """What the names of all modules begin with that its Kbuild makes of the files there; or ''."""
        return next((prefix for text in _assigned(self.kbuild) if (prefix := _prefix(text))), "")

    def claims(self, module: str) -> bool:
        """Tell whether a module of that name could only be one of this tree's."""
        return bool(self.prefix) and module.startswith(self.prefix)

    def parameters(self, module: str) -> frozenset[str] | None:
        """Return the names of a module's parameters by its source; None where that does not tell."""
        source = self.modules.get(module)
        try:
            text = source.read_text(encoding="utf-8", errors="replace") if source is not None else ""
        except OSError:  # made of several files
            return None
        if source is None or _HIDDEN.search(text):
            return None
        return frozenset(_PARAMETER.findall(text)) | EVERYBODYS

    def readable(self, module: str) -> list[str]:
        """Return the parameters that its source says can be read while the module is loaded."""
        source = self.modules.get(module)
        if source is None or not source.is_file():
            return []
        text = source.read_text(encoding="utf-8", errors="replace")
        return [name for name, mode in _MODE.findall(text) if _can_be_read(mode)]

    @property
    def includes(self) -> list[Path]:
        """The directories where headers for user space are looked for."""
        return [place for name in _INCLUDES if (place := self.path / name).is_dir()]

    def fault(self, name: str) -> Path | None:
        """Return the patch of a deliberate mistake."""
        path = self.path / "faults" / f"{name}.patch"
        return path if path.is_file() else None

    def faults(self) -> list[str]:
        """Return the names of the deliberate mistakes."""
        return sorted(path.stem for path in (self.path / "faults").glob("*.patch"))


@dataclass(frozen=True)
class Header:
    """A header for user space, as a scenario file names it."""

    include: Path  # the directory that it is found from
    name: str

    @property
    def path(self) -> Path:
        """Where it is."""
        return self.include / self.name


@dataclass(frozen=True)
class Trees:
    """The trees of one run, in the order in which they are built."""

    all: tuple[Tree, ...] = ()

    @classmethod
    def of(cls, *paths: Path) -> Trees:
        """Return the trees in some directories."""
        return cls(tuple(map(Tree, paths)))

    @property
    def modules(self) -> list[str]:
        """The names of the modules that they are seen to make."""
        return [name for tree in self.all for name in tree.modules]

    def made_of(self, file: str) -> str | None:
        """Return the module that is made of a file of that name."""
        found = (name for tree in self.all for name, path in tree.modules.items() if path.name == file)
        return next(found, None)

    @property
    def tools(self) -> list[str]:
        """The Debian packages whose programs they want."""
        return sorted({package for tree in self.all for package in tree.tools})

    def claims(self, module: str) -> bool:
        """Tell whether a module of that name could only be one of theirs."""
        return any(tree.claims(module) for tree in self.all)

    def parameters(self, module: str) -> frozenset[str] | None:
        """Return the names of a module's parameters; None where no source tells."""
        return next((tree.parameters(module) for tree in self.all if module in tree.modules), None)

    def header(self, name: str) -> Header | None:
        """Return the first header of that name."""
        places = (place for tree in self.all for place in tree.includes)
        return next((Header(place, name) for place in places if (place / name).is_file()), None)

    def headers(self) -> list[str]:
        """Return the names that header() knows, without those in directories below."""
        places = [place for tree in self.all for place in tree.includes]
        return sorted({path.name for place in places for path in place.glob("*.h")})

    def places(self) -> list[str]:
        """Return where headers are looked for, for people."""
        return [f"{place.relative_to(tree.path.parent)}/" for tree in self.all for place in tree.includes]

    def fault(self, name: str) -> Path:
        """Return the patch of a deliberate mistake; raises UsageError naming those there are."""
        for tree in self.all:
            path = tree.fault(name)
            if path is not None:
                return path
        known = [each for tree in self.all for each in tree.faults()]
        places = ", ".join(str(tree.path / "faults") for tree in self.all) or "no tree of modules"
        raise UsageError(
            f"no fault is called {name!r}{nearest(name, known)}", hint=f"there are {len(known)} in {places}"
        )


def trees(
    paths: Mapping[Path, str], make: Sequence[str] = (), prepare: str = "", tools: Sequence[str] = ()
) -> Trees:
    """Return the trees in some directories; the values say who named each. The others: see Tree.

    Raises UsageError for a directory that is not there, or where nothing says what to build.
    """
    wrong = next((word for word in make if not _VARIABLE.match(word)), None)
    if wrong is not None:
        raise UsageError(f"make is told {wrong!r}, which is no NAME=value", hint="CONFIG_X=m, or PWD={tree}")
    found: dict[Path, Tree] = {}
    for path, origin in paths.items():
        if not path.is_dir():
            raise UsageError(
                f"{origin} names {path}, which is not a directory", hint="name the one with the Kbuild"
            )
        tree = Tree(path, tuple(make), prepare, tuple(tools))
        if tree.makefile is None:
            raise UsageError(
                f"{origin} names {path}, which has neither a Kbuild nor a Makefile, nor a dkms.conf",
                hint="one line is enough, `obj-m := mine.o` for mine.c",
            )
        found.setdefault(path.resolve(), tree)
    return Trees(tuple(found.values()))


def _can_be_read(mode: str) -> bool:
    return "S_IR" in mode if mode.startswith("S") else bool(int(mode, 8) & 0o400)


def _kbuild(directory: Path) -> str:
    for name in MAKEFILES:
        try:
            text = (directory / name).read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        return text.replace("\\\n", " ")
    return ""


def _assigned(text: str) -> list[str]:
    return [value.partition("#")[0].strip() for value in _OBJECTS.findall(text)]


def _prefix(assigned: str) -> str:
    found = _PREFIX.search(assigned)
    return found[1] if found is not None else ""


def _modules(directory: Path, depth: int) -> Iterator[tuple[Path, Path]]:
    """Yield what kbuild would make, without a suffix, and the file it would be made of if it is one."""
    text = _kbuild(directory)
    for assigned in _assigned(text):
        prefix = _prefix(assigned)
        if "$(wildcard" in text and prefix:  # each file is a module
            for path in sorted(directory.glob("*.c")):
                yield directory / f"{prefix}{path.stem}", path
        for word in assigned.split():
            if re.fullmatch(r"[\w./+-]+\.o", word):
                stem = directory / word.removesuffix(".o")
                yield stem, stem.with_name(f"{stem.name}.c")
            elif re.fullmatch(r"[\w./+-]+/", word) and depth and (directory / word).is_dir():
                yield from _modules(directory / word, depth - 1)


__all__ = ["DKMS", "MAKEFILES", "TEMPLATES", "Header", "Tree", "Trees", "trees"]
