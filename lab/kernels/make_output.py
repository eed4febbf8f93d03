# SPDX-License-Identifier: MIT
"""What `make` of a module tree said: which files failed, with the compiler's own lines. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

# kbuild says "  CC [M]  /tree/chardev.o"; what follows up to the next such line belongs to it (-O).
_STEP = re.compile(r"  ([A-Z][A-Z0-9+_]*)(?: \[M\])? +(\S+)")
# make says of a target that failed "make[2]: *** [/kernel/scripts/Makefile.build:9: /tree/chardev.o] Error 1"
_FAILED = re.compile(r"make(?:\[\d+\])?: \*\*\* \[(?:\S+:\d+: )?(\S+)\] (?:Error \d+|\w.*)")
# Of make's targets those that are files; directories and phony ones fail because these did.
_FILE = re.compile(r"^[^/].*\.(?:o|ko|mod|c|symvers)$")
_MAKE = re.compile(r"make(?:\[\d+\])?: ")
# modpost says "ERROR: modpost: missing MODULE_LICENSE() in /tree/x.o"; what is undefined is found otherwise.
_MODPOST = re.compile(r"(ERROR|FATAL|WARNING): modpost: ")
_UNDEFINED = re.compile(r"(?:ERROR|WARNING): modpost: .* undefined!$|.*unresolved symbol warnings because")
_LOCATION = re.compile(r"^((?:In file included from |\s+from )?)([^\s:]+)(?=[:,])", re.MULTILINE)
_HERE = re.compile(r"^(?:\./)+")
_ERROR = re.compile(r"(?::\d+: (?:fatal )?error: )|^ERROR: modpost")
_PLACE = re.compile(r"\s*\d*\s+\|")  # the line of the source, and what points into it
_PLACE_LINES = 2


@dataclass
class Step:
    """One command that kbuild ran."""

    kind: str  # 'CC', 'LD', 'MODPOST', 'BTF'
    target: str  # relative to the tree where it lies there
    lines: list[str] = field(default_factory=list)
    failed: bool = False

    @property
    def text(self) -> str:
        """What the command itself said."""
        return "\n".join(self.lines).strip("\n")


@dataclass(frozen=True)
class Output:
    """One run of make."""

    steps: tuple[Step, ...]
    modpost: tuple[str, ...]  # modpost's errors about something else than undefined symbols
    warnings: tuple[str, ...]  # and its warnings
    text: str  # all of it

    @property
    def failed(self) -> tuple[Step, ...]:
        """The commands that failed, for files of the tree."""
        return tuple(step for step in self.steps if step.failed)


def parse(text: str, tree: str, sources: Collection[str], name: str) -> Output:
    """Read the output of ``make -O -k``.

    `tree` is where it was built, `sources` are the files there, `name` is what the user calls the tree:
    paths below it become relative to that, 'kmod/chardev.c:12:3: error: ...'.
    """
    steps: list[Step] = []
    modpost: dict[bool, list[str]] = {True: [], False: []}
    here = Step("", "")
    for line in text.splitlines():
        if step := _STEP.fullmatch(line):
            here = Step(step[1], relative(step[2], tree))
            steps.append(here)
        elif failed := _FAILED.fullmatch(line):
            target = relative(failed[1], tree)
            if _FILE.search(target):
                _mark_failed(steps, target)
        elif _UNDEFINED.match(line):
            pass
        elif said := _MODPOST.match(line):
            modpost[said[1] == "WARNING"].append(localise(line, tree, sources, name))
        elif not _MAKE.match(line):
            here.lines.append(localise(line, tree, sources, name))
    return Output(
        tuple(steps), tuple(modpost[False]), tuple(modpost[True]), localise(text, tree, sources, name)
    )


def relative(path: str, tree: str) -> str:
    """Return a file of the tree by its path there: kbuild writes it in full up to 6.12, and ./ since."""
    return _HERE.sub("", path.removeprefix(f"{tree}/"))


def _mark_failed(steps: list[Step], target: str) -> None:
    for step in reversed(steps):
        if step.target == target:
            step.failed = True
            return
    # A command that announced nothing: objtool's, or one that kbuild runs silently.
    steps.append(Step("", target, failed=True))


def localise(text: str, tree: str, sources: Collection[str], name: str) -> str:
    """Make paths of the tree relative to the user's: newer kbuild prints them bare, older ones absolute.

    A bare one is relative to M=, which may be a directory below: a C file's name tells which, if it is the
    only one. A header of that name could be the kernel's.
    """
    text = text.replace(f"{tree}/", f"{name}/")

    def bare(found: re.Match[str]) -> str:
        path = _HERE.sub("", found[2])
        if path.endswith(".c") and path not in sources:
            below = [source for source in sources if source.endswith(f"/{path}")]
            path = below[0] if len(below) == 1 else path
        return f"{found[1]}{name}/{path}" if path in sources else found[0]

    return _LOCATION.sub(bare, text)


def first_errors(text: str, most: int = 5) -> str:
    """Return the first errors of what a compiler said, each with the lines that show its place.

    One header that is missing is followed by hundreds of lines, which say nothing more. What has no errors,
    as of a program other than a compiler, stays as it is.
    """
    lines = text.splitlines()
    starts = [at for at, line in enumerate(lines) if _ERROR.search(line)]
    if not starts:
        return text
    shown = []
    for at in starts[:most]:
        shown.append(lines[at])
        for line in lines[at + 1 : at + 1 + _PLACE_LINES]:
            if not _PLACE.match(line):
                break
            shown.append(line)
    if len(starts) > most:
        shown.append(f"… and {len(starts) - most} more errors")
    return "\n".join(shown)
