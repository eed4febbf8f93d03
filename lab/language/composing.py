# SPDX-License-Identifier: MIT
"""A file's bytes to nodes; what is no YAML, or more than anybody would read, is told before it costs time."""

from __future__ import annotations

import re
from typing import Any

import yaml

from lab.language.nodes import MappingNode, Mistakes, Node, ScalarNode, SequenceNode, shape

# What a file may be at most; the largest of ours has a fifth of that. What is more is refused before it costs
# anybody's time.
MOST_BYTES = 1 << 19
MOST_DEPTH = 64  # nodes in one another: reading recurses
MOST_NODES = 100_000  # with all values of `with` put in
_CHARACTERS = 200  # of a text that cost as much as a node

# Of PyYAML's loaders the base one takes every scalar as text. The C one composes ten times as fast.
_Loader: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
_PLAIN_TAGS = frozenset({"tag:yaml.org,2002:str", "tag:yaml.org,2002:seq", "tag:yaml.org,2002:map"})
_ODD = re.compile(r"[&*!]")  # without these there is no anchor, no alias and no tag


class Budget:
    """How much of a file is read in all: what `with` multiplies is read again for each of its values."""

    def __init__(self, mistakes: Mistakes) -> None:
        self._mistakes = mistakes
        self._left = MOST_NODES

    def spend(self, nodes: int, where: Node) -> None:
        """Note that so many nodes will be read; raises ScenarioError when that is too much."""
        self._left -= nodes
        if self._left < 0:
            self._mistakes.add(
                where,
                "reading stops here: with the values of `with` put in, "
                f"the file has more than {MOST_NODES:,} words: make two of it",
            )
            self._mistakes.raise_any()


def weight(*nodes: Node) -> int:
    """Return how many nodes there are in some; a long text counts as several."""
    found, left = 0, list(nodes)
    while left:
        node = left.pop()
        found += 1 + (len(node.value) // _CHARACTERS if isinstance(node, ScalarNode) else 0)
        if isinstance(node, SequenceNode):
            left += node.value
        elif isinstance(node, MappingNode):
            for pair in node.value:
                left += pair
    return found


def decoded(data: bytes, mistakes: Mistakes) -> str:
    """Return a file's text; raises ScenarioError for what is none, or too long."""
    if len(data) > MOST_BYTES:
        mistakes.add(1, f"the file has more than {MOST_BYTES:,} bytes: make several of it")
        mistakes.raise_any()
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line, bad = data.count(b"\n", 0, error.start) + 1, data[error.start]
        mistakes.add(line, f"byte {bad:#04x} is no UTF-8 here ({error.reason}): save the file as UTF-8")
        mistakes.raise_any()
        raise


def compose(text: str, mistakes: Mistakes) -> Node | None:
    """Return a YAML text's node tree.

    Raises ScenarioError at once for what is no YAML. Aliases, anchors and tags are mistakes: the language has
    no variables but the ones it names. They are looked for before there is a tree, which an alias could make
    endless.
    """
    try:
        if _ODD.search(text):
            _refuse(text, mistakes)
            mistakes.raise_any()
        root = yaml.compose(text, Loader=_Loader)
    except RecursionError:  # of PyYAML's own parser, where there is no libyaml
        mistakes.add(1, f"more than {MOST_DEPTH} lists and mappings are in one another")
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        why = " ".join(filter(None, (error.problem or "unreadable", error.context)))
        mistakes.add(mark.line + 1 if mark else 1, f"this is not YAML: {why}")
    except yaml.YAMLError as error:
        mistakes.add(_line_of_reader_error(text, error), f"this is not YAML: {error}".splitlines()[0])
    mistakes.raise_any()
    if root is not None:
        _measure(root, mistakes)
        mistakes.raise_any()
    return root


def _line_of_reader_error(text: str, error: yaml.YAMLError) -> int:
    position = getattr(error, "position", 0)
    return text.count("\n", 0, position if isinstance(position, int) else 0) + 1


def _refuse(text: str, mistakes: Mistakes) -> None:
    """Note anchors, aliases and tags (`!!python/…`)."""
    for event in yaml.parse(text, Loader=_Loader):
        line = event.start_mark.line + 1 if event.start_mark is not None else 1
        if getattr(event, "anchor", None) is not None:
            mistakes.add(
                line, "anchors and aliases (&x, *x) are not part of the language: write the step again"
            )
        tag = getattr(event, "tag", None)
        if tag is not None and tag not in _PLAIN_TAGS:
            mistakes.add(line, f"tags ({tag}) are not part of the language: verbs give the types")


def _measure(root: Node, mistakes: Mistakes) -> None:
    """Note keys that are no word, and what is too deep or too much to be read."""
    left, depth, nodes = [root], 0, 0
    while left:
        depth, nodes = depth + 1, nodes + len(left)
        if depth > MOST_DEPTH:
            mistakes.add(left[0], f"more than {MOST_DEPTH} lists and mappings are in one another here")
            return
        if nodes > MOST_NODES:
            mistakes.add(left[0], f"the file has more than {MOST_NODES:,} words: make several of it")
            return
        inner: list[Node] = []
        for node in left:
            if isinstance(node, SequenceNode):
                inner += node.value
            elif isinstance(node, MappingNode):
                for key, value in node.value:
                    if not isinstance(key, ScalarNode):
                        mistakes.add(key, f"a key is a word, not {shape(key)}")
                    inner += key, value
        left = inner
