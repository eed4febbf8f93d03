# SPDX-License-Identifier: MIT
"""What is wanted differs by target: ``{">=6.12": EXDEV, else: EINVAL}``, one value under each condition.

A condition is what `requires` may have: a range of kernel versions, an architecture, several with commas
between them. That exactly one fits, wherever the scenario can be run, is seen when the file is read.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from lab.abi.layout import nearest
from lab.arch import ARCHITECTURES
from lab.language.choice import Choice, Needs
from lab.language.nodes import MappingNode, Node, ScalarNode, text_of
from lab.language.requires import VERSION, Machine, Requires, wrong_version

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from lab.language.reading import Reading

T = TypeVar("T")
ELSE = "else"


def is_choice(node: Node) -> bool:
    """Return whether a node is a choice by target: one of a mapping's keys is a condition, or `else`."""
    return isinstance(node, MappingNode) and any(
        isinstance(key, ScalarNode)
        and (
            key.value == ELSE
            or key.value.startswith(("<", ">", "="))
            or _words(key.value)[0] in ARCHITECTURES
        )
        for key, _ in node.value
    )


def read_choice(node: Node, scope: Reading, read: Callable[[Node], T]) -> Choice[T]:
    """Return a choice whose values `read` reads; notes mistakes in the scope."""
    found: list[tuple[Requires | None, T]] = []
    needs: list[tuple[Requires | None, Needs]] = []
    keys: list[tuple[Node, str, Requires]] = []
    for key, (key_node, value) in scope.mistakes.pairs(node, scope.place).items():
        condition = None if key == ELSE else _condition(key, key_node, scope)
        if condition is not None:
            keys.append((key_node, key, condition))
        with scope.branch(condition) as noted:
            found.append((condition, read(value)))
        needs.append((condition, noted()))
    _check(node, keys, scope, has_else=len(keys) < len(found))
    written = text_of(node, 100)
    scope.choose(Choice(tuple(needs), written))
    return Choice(tuple(found), written)


def _words(key: str) -> list[str]:
    return [word.strip() for word in key.split(",")]


def _condition(key: str, node: Node, scope: Reading) -> Requires:
    """Return the condition that a key is; one that is none is noted, and true of nothing."""
    kernel, arch = [], []
    for word in _words(key):
        if not wrong_version(word):
            kernel.append(word.replace(" ", ""))
        elif word in ARCHITECTURES:
            arch.append(word)
        else:
            hint = nearest(word, [*ARCHITECTURES, ELSE])
            what = "no condition ('>=6.1', '<6.12', an architecture)"
            scope.mistakes.add(node, f"{word!r} in {scope.place} is {what}{hint}")
    return Requires(kernel=tuple(kernel), arch=tuple(arch))


def _check(node: Node, keys: Sequence[tuple[Node, str, Requires]], scope: Reading, *, has_else: bool) -> None:
    """Note where not exactly one of the conditions fits, as far as a file can tell: everywhere."""
    if not all(condition.kernel or condition.arch for _, _, condition in keys):
        return  # one of them could not be read
    if not keys:
        scope.mistakes.add(node, f"{scope.place}: {ELSE!r} alone is no choice, write its value as it is")
        return
    unused, rest, told = dict.fromkeys(key for _, key, _ in keys), has_else, 0
    for machine in _machines([scope.requires, *(condition for _, _, condition in keys)]):
        if not replace(scope.requires, config=()).fits(machine):
            continue
        fits = [key for _, key, condition in keys if condition.fits(machine)]
        shown = str(machine).replace("kernel 0 ", "an old kernel ")
        for key in fits:
            unused.pop(key, None)
        rest = rest and bool(fits)
        if len(fits) > 1 and not told:
            where = f"both {fits[0]!r} and {fits[1]!r} fit {shown}"
            scope.mistakes.add(node, f"{scope.place}: {where}, only one may")
        elif not fits and not has_else and not told:
            scope.mistakes.add(node, f"{scope.place}: nothing is for {shown}: say it, or {ELSE!r}")
        told += len(fits) > 1 or (not fits and not has_else)
    for key in unused:
        scope.mistakes.add(node, f"{scope.place}: {key!r} fits nothing that the scenario can be run on")
    if rest:
        scope.mistakes.add(node, f"{scope.place}: {ELSE!r} is never reached, the others fit everything")


def _machines(conditions: Sequence[Requires]) -> Iterator[Machine]:
    """Yield machines, old kernels first, so that each set of them that conditions tell apart has one.

    What conditions say changes only where a version begins or has just ended.
    """
    versions: set[tuple[int, ...]] = {(0,)}
    for condition in conditions:
        for text in condition.kernel:
            operator_and_version = VERSION.fullmatch(text)
            if operator_and_version is not None:
                stable = filter(None, operator_and_version[3].split("|"))
                for version in (operator_and_version[2], *stable):
                    parts = tuple(int(part) for part in version.split("."))
                    versions |= {parts, (*parts[:-1], parts[-1] + 1)}
                    if len(parts) == 3:  # a line's releases before it are told apart from it
                        versions |= {(*parts[:2], 0), (parts[0], parts[1] + 1)}
    for parts in sorted(versions):
        for arch in ARCHITECTURES:
            yield Machine(arch, ".".join(map(str, parts)))
