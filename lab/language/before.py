# SPDX-License-Identifier: MIT
"""`before`: steps that are made first in each scenario, as far as the scenario asks for them.

A step of it that binds a name is made where a scenario's steps use the name: by its own `by`, by whom its
descriptor belongs to, or by whom uses the name first. A step that uses such names and binds none is made
where they are; any other is made in each scenario, by main. So a scenario has what it uses, is refused on the
targets that have no such thing, and nothing else of it is open while it runs.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

from lab.language.nodes import MappingNode, Mistakes, Node, ScalarNode, SequenceNode, line_of, text_of
from lab.language.steps import read_step
from lab.language.values import REFERENCE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from lab.errors import Mistake
    from lab.language.scope import Scope
    from lab.language.steps import Step

_MAIN = "main"
_MOST_TOLD = 50  # mistakes: reading stops there


class Before:
    """The steps of one `before`, of a file's head or of a scenario."""

    def __init__(self, node: Node | None, mistakes: Mistakes) -> None:
        self._mistakes = mistakes
        self._node = node
        self._items = [] if node is None else mistakes.items(node, "before")
        self._made: set[int] = set()  # those that some scenario has
        self._told: dict[Mistake, list[str]] = {}  # and the scenarios that have it
        self._readers: dict[int, set[str]] = {}  # the line of a step -> the scenarios that have it

    @cached_property
    def _binds(self) -> list[str | None]:
        return [_said(item, "as") for item in self._items]

    @property
    def text(self) -> str:
        """All of it in one line, as it was written."""
        return "" if self._node is None else text_of(self._node)

    def read(self, scope: Scope, steps: Sequence[Node], title: str) -> tuple[Step, ...]:
        """Return what a scenario with these steps has made first; binds its names in the scope."""
        wanted = list(_Wanted(self._items, self._binds, _flat(steps), scope).steps())
        scope.steps = self._node
        scope.offered = [name for name in self._binds if name is not None]
        mine, scope.mistakes = scope.mistakes, Mistakes(scope.mistakes.file)
        implied = _MAIN not in scope.actors
        found: list[Step | None] = []
        for index, by in wanted:
            self._made.add(index)
            self._readers.setdefault(line_of(self._items[index]), set()).add(title)
            if implied and by == _MAIN:
                scope.actors[_MAIN] = 0  # who prepares is root, whoever acts
            found.append(read_step(_by(self._items[index], by), scope))
        if implied:
            scope.actors.pop(_MAIN, None)
        for mistake in scope.mistakes.found:
            self._told.setdefault(mistake, []).append(title)
        scope.mistakes = mine
        if len(self._told) > _MOST_TOLD:
            self.close()
            mine.raise_any()
        return tuple(step for step in found if step is not None)

    def close(self) -> None:
        """Note the mistakes: what only some scenarios make wrong, with one of them, and steps without use."""
        for mistake, titles in self._told.items():
            everywhere = set(titles) >= self._readers.get(mistake.line, set()) and len(set(titles)) > 1
            tail = "" if everywhere else f" (for scenario {titles[0]!r})"
            self._mistakes.note(replace(mistake, message=f"{mistake.message}{tail}"))
        for index, (item, name) in enumerate(zip(self._items, self._binds, strict=True)):
            if index not in self._made:
                what = f"uses ${name}" if name is not None else "has this step made"
                self._mistakes.add(item, f"no scenario {what}: take it out of `before`")


class _Wanted:
    """Which steps of a `before` one scenario asks for."""

    def __init__(
        self, items: Sequence[Node], binds: Sequence[str | None], steps: Sequence[Node], scope: Scope
    ) -> None:
        self._items, self._binds = items, binds
        self._there = {name for name in binds if name is not None}
        self._scope = scope
        self._mistakes = scope.mistakes
        self._uses: dict[str, Node] = {}  # a name, and the scenario's step that uses it first
        for step in steps:
            for name in _names(step, scope):
                self._uses.setdefault(name, step)
        for step in steps:
            self._uses.pop(_said(step, "as") or "", None)  # the scenario's own of that name
        self._needed: set[str] = set()
        for name in self._uses:
            self._need(name)

    def _need(self, name: str) -> None:
        if name in self._there and name not in self._needed:
            self._needed.add(name)
            for other in _names(self._items[self._binds.index(name)], self._scope):
                self._need(other)

    def steps(self) -> Iterator[tuple[int, str | None]]:
        """Yield the numbers of the steps, and who makes each where that follows from who uses it."""
        for index, (item, name) in enumerate(zip(self._items, self._binds, strict=True)):
            asks = self._there.intersection(_names(item, self._scope))
            if name is not None and name in self._needed:
                yield index, self._maker(index, name)
            elif name is None and asks <= self._needed:
                yield index, None if asks else _MAIN

    def _maker(self, index: int, name: str) -> str | None:
        """Return who binds a name; None where its step says it, or is by whom its descriptor belongs to."""
        item = self._items[index]
        if _said(item, "by") is not None or self._there & self._descriptor(item):
            return None
        user = self._user(name, index)
        if user is None:
            return None  # an earlier step uses it, which is told
        by, actors = _said(user, "by"), self._scope.actors
        if by in actors:
            return by
        if self._scope.default_by is None:
            self._mistakes.add(
                user,
                f"whose is ${name}, which `before` binds in line {line_of(item)}? "
                f"The first step that uses it says `by` ({', '.join(actors)})",
            )
            return next(iter(actors))  # so that this is the only mistake
        return None

    def _user(self, name: str, index: int) -> Node | None:
        """Return the step that uses a name first: of the scenario, else of what is made for it."""
        if name in self._uses:
            return self._uses[name]
        for later in range(index + 1, len(self._items)):
            bound, item = self._binds[later], self._items[later]
            if bound is not None and bound in self._needed and name in _names(item, self._scope):
                return item if _said(item, "by") is not None else self._user(bound, later)
        return None

    def _descriptor(self, step: Node) -> set[str]:
        """Return the names in what a step's verb holds, where that is a descriptor or a mapping."""
        for key, value in step.value if isinstance(step, MappingNode) else ():
            verb = self._scope.verbs.get(key.value)
            if verb is not None and verb.signature.first.kind.wants in ("fd", "address"):
                return set(_names(value, self._scope))
        return set()


def _flat(steps: Iterable[Node]) -> list[Node]:
    """Return steps and those within them."""
    found: list[Node] = []
    for step in steps:
        found.append(step)
        for key, value in step.value if isinstance(step, MappingNode) else ():
            if key.value in ("together", "in_turn") and isinstance(value, SequenceNode):
                found[-1:] = _flat(value.value)
    return found


def _said(step: Node, word: str) -> str | None:
    """Return what a step says for a key."""
    for key, value in step.value if isinstance(step, MappingNode) else ():
        if key.value == word and isinstance(value, ScalarNode):
            return str(value.value)
    return None


def _names(node: Node, scope: Scope) -> Iterator[str]:
    """Yield the names that a node refers to; those within the values of `with` that it names, too.

    Not those of `with` that such a value names: nothing keeps it from naming itself.
    """
    for name in references(node):
        if name in scope.parameters:
            yield from references(scope.parameters[name])
        else:
            yield name


def references(node: Node) -> Iterator[str]:
    """Yield the names that a node refers to."""
    if isinstance(node, ScalarNode):
        yield from (name for name, _ in REFERENCE.findall(node.value))
    elif isinstance(node, SequenceNode):
        for item in node.value:
            yield from references(item)
    elif isinstance(node, MappingNode):
        for pair in node.value:
            for each in pair:
                yield from references(each)


def _by(step: Node, actor: str | None) -> Node:
    """Return a step with who makes it, unless it says so itself."""
    if actor is None or not isinstance(step, MappingNode) or _said(step, "by") is not None:
        return step
    mark = step.start_mark, step.end_mark
    word, name = (ScalarNode("tag:yaml.org,2002:str", text, *mark) for text in ("by", actor))
    return MappingNode(step.tag, [(word, name), *step.value], *mark, flow_style=step.flow_style)
