# SPDX-License-Identifier: MIT
"""The actors of a scenario, and who makes a step that does not say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.language.kinds import IntKind
from lab.language.nodes import MappingNode, Node, Pairs, ScalarNode, SequenceNode, line_of
from lab.scenario import ROOT, ActorSpec

if TYPE_CHECKING:
    from lab.language.scope import Scope
    from lab.language.values import Value

_ACTOR_KEYS = ("uid", "gid", "caps", "sigmask", "word", "thread_of")
_WORDS = ("32", "64")


def read_actors(node: Node, scope: Scope) -> tuple[ActorSpec, ...]:
    """Return the actors: a list of names, a mapping to their properties, or a list that mixes both."""
    mistakes = scope.mistakes
    entries: list[tuple[Node, Node | None]] = []
    for item in node.value if isinstance(node, (SequenceNode, MappingNode)) else ():
        if isinstance(item, tuple):
            entries.append(item)
        elif isinstance(item, MappingNode):
            entries += item.value
        else:
            entries.append((item, None))
    if isinstance(node, ScalarNode):
        mistakes.add(node, "actors are a list of names or a mapping of names to properties")
    for key, _ in entries:
        name = mistakes.scalar(key, "an actor's name") or ""
        if not name.isidentifier():
            mistakes.add(key, f"{name!r} is no name for an actor: letters, digits and _ only")
        if scope.actors.get(name):
            mistakes.add(key, f"actor {name!r} is given twice")
        scope.actors[name] = line_of(key) or 1
    return tuple(_read_actor(str(key.value), value, scope) for key, value in entries)


def _read_actor(name: str, node: Node | None, scope: Scope) -> ActorSpec:
    if node is None or (isinstance(node, ScalarNode) and not node.value):
        return ActorSpec(name)
    what = f"actor {name!r}"
    pairs = scope.mistakes.pairs(node, what)
    scope.mistakes.known(pairs, _ACTOR_KEYS, what)
    numbers: dict[str, Value] = {}
    lists: dict[str, tuple[Value, ...]] = {}
    thread_of: str | None = None
    word: int | None = None
    for key, (_, value) in pairs.items():
        with scope.at(f"{key!r} of {what}"):
            if key in ("caps", "sigmask"):
                items = scope.mistakes.items(scope.given(value), scope.place)
                lists[key] = tuple(IntKind().parse(item, scope) for item in items)
            elif key == "word":
                word = _read_word(value, scope)
            elif key in ("uid", "gid"):
                numbers[key] = IntKind().parse(value, scope)
            elif key == "thread_of":
                thread_of = _read_owner(name, value, scope)
    if word is not None and thread_of is not None:
        scope.mistakes.add(pairs["word"][0], f"{what} is a thread: its word is that of {thread_of!r}")
    return ActorSpec(
        name,
        uid=numbers.get("uid", ROOT),
        gid=numbers.get("gid", ROOT),
        caps=lists.get("caps"),
        sigmask=lists.get("sigmask", ()),
        word=word,
        thread_of=thread_of,
    )


def _read_word(node: Node, scope: Scope) -> int | None:
    text = scope.mistakes.scalar(scope.given(node), scope.place)
    if text in _WORDS:
        return int(text)
    if text is not None:
        scope.mistakes.add(node, f"{scope.place} is {' or '.join(_WORDS)}, not {text!r}")
    return None


def _read_owner(name: str, node: Node, scope: Scope) -> str | None:
    owner = scope.mistakes.scalar(node, "the actor after 'thread_of'")
    if owner == name:
        scope.mistakes.add(node, f"actor {name!r} cannot be a thread of itself")
    elif owner is not None:
        scope.actors.setdefault("main", 0)
        scope.need_actor(owner, node)
        scope.sharing[name] = owner
    return owner


def who_makes_steps(pairs: Pairs, actors: tuple[ActorSpec, ...], scope: Scope) -> None:
    """Settle who makes a step that does not say `by`: main, or the only actor there is."""
    names = {actor.name for actor in actors}
    if not names or "main" in names or any(actor.thread_of == "main" for actor in actors):
        return
    del scope.actors["main"]
    said = any(
        key.value == "by"
        for step in pairs["steps"][1].value
        if isinstance(step, MappingNode)
        for key, _ in step.value
    )
    scope.default_by = next(iter(names)) if len(names) == 1 and not said else None
