# SPDX-License-Identifier: MIT
"""Asking a compiler what headers mean: which macros are integers, which are text, and their values.

A macro may be anything. What it expands to is looked at first, so that only what could be an expression is
compiled; what the compiler then complains about is left out, and the rest compiled again.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lab.errors import BuildFailed
from lab.kernels.dwarf import read_array, read_types
from lab.kernels.process import run

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from lab.kernels.roots import Root

_DEFINE = re.compile(r"^#define ([A-Za-z_]\w*)(?: (.*))?$")
_MARKER = re.compile(r'^# \d+ "([^"]*)"')
_MARK = "__lab__"
_EXPANSION = re.compile(rf"^{_MARK} ([A-Za-z_]\w*) = (.*)$")
_STRINGS = re.compile(r'(?:u8)?"(?:\\.|[^"\\])*"(?:\s*"(?:\\.|[^"\\])*")*')
_TOKEN = re.compile(
    r"""\s*(?:
        (?P<word>[A-Za-z_]\w*)
      | (?P<number>0[xX][0-9a-fA-F]+[uUlL]*|\d+[uUlL]*)(?![\w.])
      | (?P<char>'(?:\\.|[^'\\])+')
      | (?P<operator><<|>>|<=|>=|==|!=|&&|\|\||[-+*/%&|^~!<>?:(),])
    )""",
    re.VERBOSE,
)
# Words that begin something which is no expression and could swallow what follows.
_NO_EXPRESSION = re.compile(
    "asm|__asm__|__asm|break|case|const|continue|default|do|else|extern|for|goto|if|inline|__inline|__inline__|"
    "register|return|static|switch|typedef|volatile|__volatile__|while|__attribute__|_Static_assert"
)
_FLAGS = (
    *("-std=gnu11", "-O0", "-w", "-g", "-gdwarf-5"),
    # Types that no variable has are what is asked for.
    *("-fno-eliminate-unused-debug-types", "-fno-eliminate-unused-debug-symbols"),
    # An error within a macro is followed by a note that names the line of ours.
    *("-ftrack-macro-expansion=2", "-fno-diagnostics-show-caret", "-fmax-errors=0"),
)
# Linked, since what a linker does for RISC-V's debug information is more than pyelftools knows.
_LINKED = ("-nostdlib", "-static", "-no-pie", "-Wl,--entry=0")
_ROUNDS = 40


@dataclass
class Found:
    """What headers define."""

    constants: dict[str, int] = field(default_factory=dict)
    strings: dict[str, str] = field(default_factory=dict)
    structs: dict[str, Any] = field(default_factory=dict)


class Probe:
    """A text of #include lines, and a compiler to ask about it."""

    def __init__(self, text: str, compiler: Sequence[str], toolchain: Root, scratch: Path) -> None:
        self._text = text if text.endswith("\n") else text + "\n"
        self._compiler = [*compiler, *_FLAGS]
        self._environment = toolchain.environment()
        self._scratch = scratch

    def find(self, below: Path | None = None) -> Found:
        """Return all that the headers define; `below`: only macros of files in this directory.

        Raises BuildFailed with the compiler's lines when the headers themselves do not compile.
        """
        names = self._macros(below)
        expressions, strings = _sort(self._expand(names))
        values, types = self._evaluate(expressions)
        constants = {**types.enumerators, **values}
        return Found(constants, strings, types.structs)

    def macros(self) -> list[str]:
        """Return the names of the object-like macros that are not the compiler's own."""
        return self._macros(None)

    def _macros(self, below: Path | None) -> list[str]:
        known = set(_defined(self._run("", "-E", "-dM")))
        if below is None:
            return [name for name in _defined(self._run(self._text, "-E", "-dM")) if name not in known]
        inside, found = False, {}
        for line in self._run(self._text, "-E", "-dD").splitlines():
            if marker := _MARKER.match(line):
                inside = marker[1].startswith(f"{below}/")
            elif inside and (define := _DEFINE.match(line)) and define[2]:
                found[define[1]] = True
        return list(found)

    def _expand(self, names: Iterable[str]) -> dict[str, str]:
        # By number, since a name that stood there would be expanded too.
        names = [*names]
        lines = "".join(f"{_MARK} lab_{number}_ = {name}\n" for number, name in enumerate(names))
        found = {}
        for line in self._run(f"{self._text}{lines}", "-E", "-P").splitlines():
            if expansion := _EXPANSION.match(line):
                found[names[int(expansion[1].split("_")[1])]] = expansion[2].strip()
        return found

    def _evaluate(self, names: list[str]) -> tuple[dict[str, int], Any]:
        """Compile the expressions, without those that the compiler does not take."""
        first = self._text.count("\n") + 1
        for _ in range(_ROUNDS):
            lines = "".join(
                f"static long long lab_{n} = (long long)({name});\n" for n, name in enumerate(names)
            )
            status, output = self._compile(self._text + lines, "-fsyntax-only")
            if status == 0:
                break
            bad = {int(number) - first for number in re.findall(r"^probe\.c:(\d+):", output, re.MULTILINE)}
            if not bad or min(bad) < 0 or not any(number < len(names) for number in bad):
                raise BuildFailed("headers do not compile", output)
            names = [name for number, name in enumerate(names) if number not in bad]
        return self._read(names)

    def _read(self, names: list[str]) -> tuple[dict[str, int], Any]:
        values = "".join(f"(long long)({name}),\n" for name in names)
        # Whether a value beyond the largest long long is meant. By type: a pointer has no sign to ask for.
        unsigned = "".join(
            f"_Generic(({name}), unsigned long: 1, unsigned long long: 1, default: 0),\n" for name in names
        )
        text = (
            f"{self._text}const long long lab_values[] = {{\n{values}0 }};\n"
            f"const unsigned char lab_unsigned[] = {{\n{unsigned}0 }};\n"
        )
        status, output = self._compile(text, *_LINKED, "-o", "probe")
        if status:
            raise BuildFailed("headers do not compile", output)
        with (self._scratch / "probe").open("rb") as file:
            signed = read_array(file, "lab_values", 8, signed=True)
            flags = read_array(file, "lab_unsigned", 1, signed=False)
            types = read_types(file)
        return {
            name: value + (1 << 64) if flag and value < 0 else value
            for name, value, flag in zip(names, signed, flags, strict=False)
        }, types

    def _run(self, text: str, *options: str) -> str:
        status, output = self._compile(text, *options)
        if status:
            raise BuildFailed("headers do not compile", output)
        return output

    def _compile(self, text: str, *options: str) -> tuple[int, str]:
        (self._scratch / "probe.c").write_text(text)
        return run([*self._compiler, *options, "probe.c"], cwd=self._scratch, env=self._environment)


def _defined(output: str) -> list[str]:
    """Return the object-like macros with a body; a function-like one has its ( right behind the name."""
    found = (_DEFINE.match(line) for line in output.splitlines())
    return [define[1] for define in found if define is not None and define[2]]


def _sort(expansions: dict[str, str]) -> tuple[list[str], dict[str, str]]:
    """Tell what could be an expression and what is text; the rest is neither."""
    expressions, strings = [], {}
    for name, text in expansions.items():
        if _STRINGS.fullmatch(text):
            value = _text(text)
            if value is not None:
                strings[name] = value
        elif could_be_integer(text):
            expressions.append(name)
    return expressions, strings


def _text(literals: str) -> str | None:
    try:
        value = ast.literal_eval(f"({literals.replace('u8', '')})")
    except (SyntaxError, ValueError):
        return None
    return value if isinstance(value, str) else None


def could_be_integer(text: str) -> bool:
    """Whether an expanded macro may be an integer expression: it cannot swallow what stands behind it.

    Floating numbers, statements, assignments, lists and unbalanced parentheses are out; what is left is the
    compiler's to judge.
    """
    at, depth, tokens = 0, 0, 0
    text = text.strip()
    while at < len(text):
        token = _TOKEN.match(text, at)
        if token is None or _NO_EXPRESSION.fullmatch(token["word"] or ""):
            return False
        match token["operator"]:
            case "(":
                depth += 1
            case ")":
                depth -= 1
            case ",":
                if depth == 0:
                    return False
        if depth < 0:
            return False
        at, tokens = token.end(), tokens + 1
    return depth == 0 and tokens > 0
