# SPDX-License-Identifier: MIT
"""The mutants that nobody has to notice, each with its argument: docs/mutants.yaml."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from lab.abi.layout import nearest
from lab.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from lab.mutate.operators import Mutant


@dataclass(frozen=True)
class Exclusion:
    """Some mutants of one module, and why a stock kernel cannot show them."""

    why: str
    mutants: tuple[str, ...]  # by their ids


def read(path: Path) -> dict[str, tuple[Exclusion, ...]]:
    """Return the exclusions by the module's file name without .c.

    Raises UsageError for a file that is not a mapping of modules to lists of `why` and `mutants`.
    """
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        return {str(name): tuple(_exclusion(each) for each in entries) for name, entries in found.items()}
    except FileNotFoundError:
        return {}
    except (yaml.YAMLError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise UsageError(
            f"{path} does not say which mutants are excluded: {error}",
            hint="a module's name, and below it a list of {why: text, mutants: [id, …]}",
        ) from error


def _exclusion(entry: Mapping[str, Any]) -> Exclusion:
    why, mutants = entry["why"], entry["mutants"]
    if not isinstance(why, str) or not why.strip() or not isinstance(mutants, list) or not mutants:
        raise ValueError(f"{dict(entry)!r} has no reason, or names no mutant")
    return Exclusion(" ".join(why.split()), tuple(str(each) for each in mutants))


def argued(exclusions: Sequence[Exclusion], mutants: Sequence[Mutant], where: str) -> dict[str, str]:
    """Return why each excluded mutant of a module is.

    Raises UsageError for one that there is not, and for one that is there twice.
    """
    known = [each.id for each in mutants]
    found: dict[str, str] = {}
    for exclusion in exclusions:
        for name in exclusion.mutants:
            if name not in known:
                raise UsageError(
                    f"{where} excludes a mutant that there is not: {name!r}{nearest(name, known)}",
                    hint="`lab mutate --list` names those there are",
                )
            if name in found:
                raise UsageError(f"{where} excludes {name!r} twice")
            found[name] = exclusion.why
    return found
