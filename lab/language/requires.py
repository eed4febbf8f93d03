# SPDX-License-Identifier: MIT
"""What a scenario needs of a kernel; decided from the kernel package's own config and version."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lab.abi.layout import nearest
from lab.arch import ARCHITECTURES
from lab.language.nodes import Node, Pairs, ScalarNode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lab.language.nodes import Mistakes

_CONFIG = re.compile(r"CONFIG_\w+(=(y|m|n|y\|m|\"[^\"]*\"|\d+|0x[0-9a-fA-F]+))?")
# '>=6.9|6.6.27|6.1.85': from 6.9 on, and from that release of each stable line on, which got it too.
VERSION = re.compile(
    r"(>=|<=|<|>|==)\s*(\d{1,6}(?:\.\d{1,6}){0,5})((?:\|\d{1,6}\.\d{1,6}\.\d{1,6})*)", re.ASCII
)


@dataclass(frozen=True)
class Machine:
    """What conditions look at: the architecture of the kernel, and upstream's version of it, '6.12.107'."""

    arch: str
    version: str

    def __str__(self) -> str:
        return f"kernel {self.version} on {self.arch}"


@dataclass(frozen=True)
class Requires:
    """Conditions that all must hold."""

    config: tuple[str, ...] = ()  # 'CONFIG_X' (y or m), or 'CONFIG_X=y'
    arch: tuple[str, ...] = ()  # any of them; empty: every one
    kernel: tuple[str, ...] = ()  # '>=6.1'

    def merged(self, other: Requires) -> Requires:
        """Return both; the other's architectures narrow this one's."""
        arch = tuple(name for name in self.arch if name in other.arch) if other.arch else self.arch
        return Requires(
            tuple(dict.fromkeys((*self.config, *other.config))),
            arch if self.arch else other.arch,
            tuple(dict.fromkeys((*self.kernel, *other.kernel))),
        )

    def fits(self, machine: Machine) -> bool:
        """Return whether the conditions on version and architecture hold."""
        return replace(self, config=()).unmet(config={}, arch=machine.arch, version=machine.version) is None

    def unmet(self, *, config: Mapping[str, str], arch: str, version: str) -> str | None:
        """Return why a kernel cannot do it, None when it can.

        `config` maps options to their values (a missing one is not set); `version` is upstream's, '6.12.107'.
        """
        if self.arch and arch not in self.arch:
            return f"needs architecture {' or '.join(self.arch)}, this is {arch}"
        for condition in self.kernel:
            found = VERSION.fullmatch(condition)
            if found is not None and not _holds(found[1], version, found[2], found[3]):
                return f"needs kernel {condition}, this is {version}"
        for wanted in self.config:
            option, _, value = wanted.partition("=")
            there = config.get(option, "n")
            if there not in (value.split("|") if value else ("y", "m")):
                shown = "is not set" if there == "n" else f"is {there}"
                return f"needs {wanted}, {option} {shown} in this kernel's config"
        return None


def _holds(operator: str, version: str, other: str, stable: str) -> bool:
    wanted = [int(part) for part in other.split(".")]
    there = [int(part) for part in re.findall(r"\d+", version)]
    for release in filter(None, stable.split("|")):
        first = [int(part) for part in release.split(".")]
        if there[:2] == first[:2]:  # of that line, it alone counts
            return (there[2:3] >= first[2:]) == (operator in (">=", ">"))
    # '<=6.1' and '==6.1' mean the whole line: compare as many parts as were written.
    cut = there[: len(wanted)] + [0] * (len(wanted) - len(there))
    return {
        ">=": cut >= wanted,
        "<=": cut <= wanted,
        ">": cut > wanted,
        "<": cut < wanted,
        "==": cut == wanted,
    }[operator]


def read_requires(pairs: Pairs, mistakes: Mistakes) -> Requires:
    """Return what stands under `requires`."""
    if "requires" not in pairs:
        return Requires()
    given = mistakes.pairs(pairs["requires"][1], "requires")
    mistakes.known(given, ("config", "arch", "kernel"), "requires")
    found: dict[str, tuple[str, ...]] = {}
    for key, (_, node) in given.items():
        words = _words(node, key, mistakes)
        for item, text in words:
            _check(key, item, text, mistakes)
        found[key] = tuple(text.replace(" ", "") for _, text in words)
    return Requires(found.get("config", ()), found.get("arch", ()), found.get("kernel", ()))


def _words(node: Node, key: str, mistakes: Mistakes) -> list[tuple[Node, str]]:
    items = [node] if isinstance(node, ScalarNode) else mistakes.items(node, f"{key!r} of requires")
    found = []
    for item in items:
        text = mistakes.scalar(item, f"an entry of {key!r} of requires")
        found += [(item, part.strip()) for part in (text or "").split(",") if part.strip()]
    return found


def _check(key: str, node: Node, text: str, mistakes: Mistakes) -> None:
    if key == "config" and not _CONFIG.fullmatch(text):
        mistakes.add(node, f"{text!r} is no config option (CONFIG_X, or CONFIG_X=y)")
    elif key == "kernel":
        wrong = wrong_version(text)
        if wrong:
            mistakes.add(node, f"{text!r} {wrong}")
    elif key == "arch" and text not in ARCHITECTURES:
        mistakes.add(node, f"{text!r} is no architecture{nearest(text, ARCHITECTURES)}")


def wrong_version(text: str) -> str:
    """Return what is wrong with a condition on a kernel's version, '' where nothing is."""
    found = VERSION.fullmatch(text)
    if found is None:
        return "is no condition on a kernel's version ('>=6.1', '<6.12')"
    lines = [release.rpartition(".")[0] for release in found[3].split("|") if release]
    if lines and found[1] not in (">=", "<"):
        return "has stable releases behind it, which only '>=' and '<' may have"
    if len(set(lines)) < len(lines):
        return "names two releases of one stable line"
    return ""
