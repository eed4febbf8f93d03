# SPDX-License-Identifier: MIT
"""What would make a scenario unclean and is meant: complaints of the kernel's, what it leaves behind."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.language.nodes import ScalarNode
from lab.language.patterns import compiled

if TYPE_CHECKING:
    from lab.language.nodes import Mistakes, Node, Pairs

MEMORY = "memory"  # what `leaves` calls less of it that is free
_UNPATHED = (MEMORY, "generic netlink: ")  # what else has no path
MEANT_KEYS = ("complains", "leaves", "loses_messages", "once", "taint")
TAINTS = "PFSRMBUDAWCIOELKXTNJ"  # the letter of bit N: Documentation/admin-guide/tainted-kernels.rst


@dataclass(frozen=True)
class Meant:
    """What a scenario means the kernel to say or to keep."""

    complains: tuple[re.Pattern[str], ...] = ()  # found in what it may say, at warning level or above
    leaves: tuple[str, ...] = ()  # names that are there afterwards: '/proc/x'
    loses_messages: bool = False  # it prints more than the log holds
    once: str = ""  # why it cannot be made again in the same guest
    taint: str = ""  # the letters of what may taint the kernel

    @property
    def taint_bits(self) -> int:
        """What may be set in /proc/sys/kernel/tainted."""
        return sum(1 << TAINTS.index(letter) for letter in set(self.taint))


def read_meant(pairs: Pairs, mistakes: Mistakes) -> Meant:
    """Return what stands under the keys; notes mistakes."""
    found = {key: pairs[key][1] for key in MEANT_KEYS if key in pairs}
    complains = [(node, text) for node, text in _texts(found.get("complains"), "complains", mistakes) if text]
    leaves = _texts(found.get("leaves"), "leaves", mistakes)
    for node, text in leaves:
        if not text.startswith(("/", *_UNPATHED)):
            mistakes.add(node, f"what a scenario leaves is a path (/proc/x) or {MEMORY!r}, not {text!r}")
    return Meant(
        tuple(filter(None, (_pattern(node, text, mistakes) for node, text in complains))),
        tuple(text for _, text in leaves),
        _flag(found.get("loses_messages"), mistakes),
        _reason(found.get("once"), mistakes),
        _letters(found.get("taint"), mistakes),
    )


def _texts(node: Node | None, key: str, mistakes: Mistakes) -> list[tuple[Node, str]]:
    if node is None:
        return []
    items = [node] if isinstance(node, ScalarNode) else mistakes.items(node, key)
    return [(item, mistakes.scalar(item, f"an entry of {key}") or "") for item in items]


def _pattern(node: Node, text: str, mistakes: Mistakes) -> re.Pattern[str] | None:
    try:
        return compiled(text)
    except re.error as error:
        mistakes.add(node, f"{text!r} is no regular expression: {error}")
    return None


def _letters(node: Node | None, mistakes: Mistakes) -> str:
    found = ""
    for item, text in _texts(node, "taint", mistakes):
        if len(text) == 1 and text in TAINTS:
            found += text
        else:
            mistakes.add(item, f"what may taint the kernel is one of the letters {TAINTS}, not {text!r}")
    return found


def _reason(node: Node | None, mistakes: Mistakes) -> str:
    text = mistakes.scalar(node, "once") if node is not None else ""
    if node is not None and text is not None and not text.strip():
        mistakes.add(node, "once says why the scenario cannot be made again in the same guest")
    return text or ""


def _flag(node: Node | None, mistakes: Mistakes) -> bool:
    word = mistakes.scalar(node, "loses_messages") if node is not None else "false"
    if word not in ("true", "false"):
        assert node is not None
        mistakes.add(node, f"loses_messages is true or false, not {word!r}")
    return word == "true"
