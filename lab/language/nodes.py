# SPDX-License-Identifier: MIT
"""YAML as the author wrote it: nodes with their lines, and one place where a file's mistakes gather.

Nothing here knows a verb. Scalars stay text: what `5.10`, `no` or `0102` mean is decided by who reads them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path  # noqa: TC003 - a record's field
from typing import TypeAlias

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from lab.abi.layout import nearest
from lab.errors import Mistake, ScenarioError, printable

__all__ = [
    "MappingNode",
    "Mistakes",
    "Node",
    "Pairs",
    "ScalarNode",
    "SequenceNode",
    "is_empty",
    "line_of",
    "node_of",
    "plain",
    "shape",
    "text_of",
]

# Of one file.
_MOST_MISTAKES = 100  # reading stops there: the nearest word is looked for each
_MOST_CHARACTERS = 400  # of one mistake

_SIMPLE = re.compile(r"[^\s\d$,\[\]{}#&*!|>'\"%@`:?-][^,\[\]{}\n#:\"']*")

Pairs: TypeAlias = dict[str, tuple[ScalarNode, Node]]


class Mistakes:
    """The mistakes of one file. Reading goes on after each, so that all are told at once."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._found: dict[Mistake, None] = {}

    def __bool__(self) -> bool:
        return bool(self._found)

    def __len__(self) -> int:
        return len(self._found)

    def add(self, where: Node | int, message: str) -> None:
        """Note a mistake; the same one twice (a step read for each value of `with`) counts once."""
        line = where if isinstance(where, int) else line_of(where)
        self.note(Mistake(self.file, line, message))

    def note(self, mistake: Mistake) -> None:
        """Note a mistake that was found elsewhere; raises ScenarioError when there are too many."""
        if len(mistake.message) > _MOST_CHARACTERS:
            cut = f"{mistake.message[: _MOST_CHARACTERS // 2]} … {mistake.message[-_MOST_CHARACTERS // 2 :]}"
            mistake = replace(mistake, message=cut)
        self._found[mistake] = None
        if len(self._found) == _MOST_MISTAKES:
            last = max(each.line for each in self._found)
            self._found[Mistake(self.file, last, "reading stops here: there are too many mistakes")] = None
            self.raise_any()

    @property
    def found(self) -> tuple[Mistake, ...]:
        """All so far, each once."""
        return tuple(self._found)

    def raise_any(self) -> None:
        """Raise ScenarioError when there are any."""
        if self._found:
            raise ScenarioError(list(self._found))

    def pairs(self, node: Node, what: str) -> Pairs:
        """Return a mapping's entries by key; a key that is given twice or is no word is a mistake."""
        if not isinstance(node, MappingNode):
            self.add(node, f"{what} is a mapping (key: value), not {shape(node)}")
            return {}
        found: Pairs = {}
        for key, value in node.value:
            if not isinstance(key, ScalarNode):
                self.add(key, f"a key of {what} is a word, not {shape(key)}")
            elif key.value in found:
                self.add(key, f"key {key.value!r} is given twice in {what}")
            else:
                found[key.value] = (key, value)
        return found

    def items(self, node: Node, what: str) -> list[Node]:
        """Return a sequence's entries."""
        if isinstance(node, SequenceNode):
            return list(node.value)
        self.add(node, f"{what} is a list, not {shape(node)}")
        return []

    def scalar(self, node: Node, what: str) -> str | None:
        """Return a scalar's text, or None after noting the mistake."""
        if isinstance(node, ScalarNode):
            return str(node.value)
        self.add(node, f"{what} is one value, not {shape(node)}")
        return None

    def known(self, keys: Pairs, allowed: Iterable[str], what: str) -> None:
        """Note each key that is not allowed, with the nearest that is."""
        allowed = list(allowed)
        for word, (key, _) in keys.items():
            if word not in allowed:
                self.add(key, f"unknown key {word!r} in {what}{nearest(word, allowed)}")


def line_of(node: Node) -> int:
    """Return the line of the file that a node begins in, from 1."""
    mark = node.start_mark
    return int(mark.line) + 1 if mark is not None else 0


def plain(node: Node) -> bool:
    """Return whether a scalar stands there without quotes; only such a one can be a reference."""
    return isinstance(node, ScalarNode) and not node.style


def is_empty(node: Node) -> bool:
    """Return whether nothing was written (`pipe:`)."""
    return isinstance(node, ScalarNode) and node.value == "" and not node.style


def shape(node: Node) -> str:
    """Return what a node is, for a message that says what should be there."""
    if isinstance(node, ScalarNode):
        return repr(node.value) if node.value or node.style else "nothing"
    return "a list" if isinstance(node, SequenceNode) else "a mapping"


def text_of(node: Node, most: int = 0) -> str:
    """Return a node in one line of flow YAML, as reports and ids show it; `most` > 0 shortens it."""
    if isinstance(node, ScalarNode):
        text = _scalar_text(node)
    elif isinstance(node, SequenceNode):
        text = f"[{', '.join(text_of(item) for item in node.value)}]"
    else:
        text = f"{{{', '.join(_pair_text(key, value) for key, value in node.value)}}}"
    return text if not most or len(text) <= most else f"{text[: most - 1]}…"


def _pair_text(key: Node, value: Node) -> str:
    return f"{text_of(key)}: {text_of(value)}" if not is_empty(value) else f"{text_of(key)}:"


def _scalar_text(node: ScalarNode) -> str:
    value = str(node.value)
    if not node.style and value.isprintable():
        return value
    if _SIMPLE.fullmatch(value) and value.isprintable() and value == value.strip():
        return value
    escaped = printable(value).replace("\\x0a", "\\n").replace('"', '\\"')
    return f'"{escaped}"'


def node_of(value: object, line: int = 0) -> Node:
    """Return the node of a Python value: what a Python test gives to a verb is read like a file's."""
    mark = yaml.Mark("", 0, line - 1, 0, "", 0)
    if isinstance(value, Node):
        return value
    if isinstance(value, Mapping):
        pairs = [(node_of(str(key), line), node_of(item, line)) for key, item in value.items()]
        return MappingNode("tag:yaml.org,2002:map", pairs, mark, mark, flow_style=True)
    if isinstance(value, (list, tuple)):
        return SequenceNode(
            "tag:yaml.org,2002:seq", [node_of(item, line) for item in value], mark, mark, flow_style=True
        )
    if isinstance(value, (bytes, bytearray)):
        return node_of({"hex": value.hex()}, line)
    style = '"' if isinstance(value, str) else None
    if value is None:
        text = "NULL"
    elif isinstance(value, bool):
        text = "true" if value else "false"
    else:
        text = f"{value}s" if isinstance(value, float) else str(value)
    return ScalarNode("tag:yaml.org,2002:str", text, mark, mark, style=style)
