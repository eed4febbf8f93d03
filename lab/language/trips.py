# SPDX-License-Identifier: MIT
"""The head's `trip`: what one round trip of a channel is, for lab.measure.price to tell what it costs.

It is read as a scenario is; a round's steps can be only what one program of an actor can do again and again.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from lab.language.actors import read_actors, who_makes_steps
from lab.language.nodes import SequenceNode, line_of, node_of, text_of
from lab.language.scope import Scope
from lab.language.steps import read_inner, read_step, read_steps
from lab.scenario import Trip

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lab.language.before import Before
    from lab.language.nodes import Mistakes, Node, Pairs
    from lab.language.reading import Words
    from lab.language.verb import Verb
    from lab.scenario import Scenario, Step

TRIP_KEYS = ("about", "bytes", "ready", "steps", "after", "modules", "requires", "actors", "boot")
_NOT_AGAIN = ("background", "within", "times")  # what a step of a round cannot have
_STEPS = ("ready", "steps", "after")  # in the order in which they are made
_JUDGED = "expect"


def read_trips(
    given: Pairs,
    node: Node,
    common: Pairs,
    base: Scenario,
    words: Words,
    mistakes: Mistakes,
    verbs: Mapping[str, Verb],
    before: Before,
) -> tuple[Trip, ...]:
    """Return a trip for each number of `bytes`; `common` has what the head says for all, too.

    `before` is the head's: a trip begins with what it uses of it, as a scenario does.
    """
    for wanted in ("about", "bytes", "steps"):
        if wanted not in given:
            mistakes.add(node, f"a trip wants {wanted!r}")
    if "steps" not in given or "bytes" not in given:
        return ()
    found = []
    for amount in _amounts(given["bytes"][1], mistakes):
        parameters = {"bytes": node_of(amount, line_of(node))}
        scope = Scope(
            mistakes, words, verbs=verbs, parameters=parameters, inner=read_inner, requires=base.requires
        )
        actors = read_actors(common["actors"][1], scope) if "actors" in common else ()
        who_makes_steps(common, actors, scope)
        own = [item for key in _STEPS if key in given for item in mistakes.items(given[key][1], key)]
        ready = before.read(scope, own, "trip")
        ready += read_steps(given["ready"][1], scope) if "ready" in given else ()
        steps = _round(given["steps"][1], scope)
        after = read_steps(given["after"][1], scope) if "after" in given else ()
        scenario = replace(
            base,
            id=f"{base.channel}, {amount} bytes",
            actors=actors,
            steps=ready,
            needs=scope.needs,
        )
        text = f"{before.text} {text_of(node)}".strip()
        found.append(Trip(base.about, amount, scenario, steps, after, text))
    return tuple(found)


def _amounts(node: Node, mistakes: Mistakes) -> list[int]:
    """Return the numbers of bytes that a trip carries: one, or a list from small to large."""
    found: list[int] = []
    for item in node.value if isinstance(node, SequenceNode) else [node]:
        text = mistakes.scalar(item, "bytes") or ""
        if not (text.isdecimal() and len(text) < 10):
            mistakes.add(item, f"bytes is a number or a list of them, not {text!r}")
        elif found and int(text) <= found[-1]:
            mistakes.add(item, "the numbers of bytes go up")
        else:
            found.append(int(text))
    return found


def _round(node: Node, scope: Scope) -> tuple[Step, ...]:
    """Return the steps of one round; each must be one that a program can repeat, and one must be judged."""
    mistakes = scope.mistakes
    found: list[Step] = []
    judged = False
    for item in mistakes.items(node, "the steps of a trip"):
        step = read_step(item, scope)
        if step is None:
            continue
        pairs = mistakes.pairs(item, "a step")
        judged = judged or _JUDGED in pairs
        for word in _NOT_AGAIN:
            if word in pairs:
                mistakes.add(pairs[word][0], f"a step of a trip cannot have {word!r}")
        if not scope.verbs[step.verb].plans:
            mistakes.add(item, f"step {step.verb!r} cannot be part of a trip: it is more than one program")
        if any(each.dmesg is not None or each.no_messages for each in step.expect.each()):
            mistakes.add(item, "a step of a trip cannot wait for kernel messages")
        if found and step.by != found[0].by:
            mistakes.add(item, "all steps of a trip are by one actor")
        found.append(step)
    if found and not judged:
        mistakes.add(node, "a trip looks at what comes back: one of its steps wants 'expect'")
    return tuple(found)


__all__ = ["TRIP_KEYS", "read_trips"]
