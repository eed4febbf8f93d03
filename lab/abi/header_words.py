# SPDX-License-Identifier: MIT
"""A light look at a user's header: what it defines, by its text alone, before any compiler is there."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path


@dataclass(frozen=True)
class HeaderWords:
    """What a header defines, by its text alone: for checks before any compiler is there."""

    constants: frozenset[str]
    structs: Mapping[str, frozenset[str]]  # fields that could be told; anonymous members' are among them


_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/|\"(?:\\.|[^\"\\\n])*\"", re.DOTALL)
_DEFINE = re.compile(r"^[ \t]*#[ \t]*define[ \t]+([A-Za-z_]\w*)[ \t]+\S", re.MULTILINE)
_AGGREGATE = re.compile(r"\b(struct|union|enum)\b([^;{}()]*)\{")
_DECLARATOR = re.compile(r"([A-Za-z_]\w*)\s*(?:\[[^\]]*\]\s*|:\s*\w+\s*)*$")
_POINTER_TO_FUNCTION = re.compile(r"\(\s*\*\s*([A-Za-z_]\w*)")
_ATTRIBUTE = re.compile(r"__attribute__\s*\(\(.*?\)\)|\b__packed\b|\b__aligned\s*\([^)]*\)")


def header_words(path: Path) -> HeaderWords:
    """Scan a uapi header for its macros, enumerators, structs and fields.

    No compiler: macros that make declarations and conditions (#if) are not followed, so it may know too many
    names, and a struct made by a macro not at all. Raises OSError when the file cannot be read.
    """
    text = path.read_text(encoding="utf-8", errors="replace").replace("\\\n", " ")
    text = _COMMENT.sub(lambda found: '""' if found[0].startswith('"') else " ", text)
    constants = set(_DEFINE.findall(text))
    body = re.sub(r"^[ \t]*#.*$", "", text, flags=re.MULTILINE)
    body = _ATTRIBUTE.sub(" ", body)
    structs: dict[str, frozenset[str]] = {}
    _aggregates(body, constants, structs)
    return HeaderWords(frozenset(constants), structs)


def _aggregates(text: str, constants: set[str], structs: dict[str, frozenset[str]]) -> None:
    """Find the aggregates at this level of braces, and those within them."""
    at = 0
    while found := _AGGREGATE.search(text, at):
        end = _closing(text, found.end())
        inside = text[found.end() : end]
        name = (re.findall(r"[A-Za-z_]\w*", found[2]) or [""])[-1]
        after = re.match(r"[^;]*", text[end + 1 :])
        assert after is not None
        if found[1] == "enum":
            constants.update(re.findall(r"(?:^|,)\s*([A-Za-z_]\w*)", inside))
        else:
            fields = frozenset(_fields(inside))
            typedef = re.search(r"\btypedef\s*$", text[: found.start()])
            for alias in {name, after[0].strip() if typedef else ""} - {""}:
                structs[alias] = fields
            _aggregates(inside, constants, structs)
        at = end + 1


def _closing(text: str, at: int) -> int:
    depth = 1
    while at < len(text) and depth:
        depth += {"{": 1, "}": -1}.get(text[at], 0)
        at += 1
    return at - 1


def _fields(inside: str) -> Iterator[str]:
    """Yield the names that a struct's body declares; an anonymous member yields its own."""
    at = 0
    flat = ""
    while found := _AGGREGATE.search(inside, at):
        end = _closing(inside, found.end())
        tail = re.match(r"[^;]*", inside[end + 1 :])
        assert tail is not None
        if not tail[0].strip() and found[1] != "enum":
            yield from _fields(inside[found.end() : end])
        flat += inside[at : found.start()] + "int "
        at = end + 1
    flat += inside[at:]
    for declaration in flat.split(";"):
        first, *more = declaration.split(",")
        words = first.split()
        if pointer := _POINTER_TO_FUNCTION.search(declaration):
            yield pointer[1]
        elif len(words) > 1 or (words and "[" in first):
            for declarator in (first, *more):
                if name := _DECLARATOR.search(declarator.strip()):
                    yield name[1]
