# SPDX-License-Identifier: MIT
"""A run written down to the last value, and two of them compared: `pytest --journal FILE`, `lab compare`.

Ways to run a scenario (a clone, in place, booted) must not differ in anything that a step, the kernel or the
health check gives. Some of it differs between any two runs (times, addresses, who comes first): what two
journals of the same way do not agree on says nothing about a third.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Any, get_args

from lab.errors import UsageError
from lab.language.kinds import TimeKind
from lab.run.record import Record
from lab.store import lines

if TYPE_CHECKING:
    from pathlib import Path

_SHORT = 64  # bytes that are written as they are
_DEEP = 6
_VALUES = "values"  # of a line, beside what a record has
Fields = dict[str, str]  # of one scenario: what it is -> its value


def write(path: Path, record: Record, modules: Sequence[str]) -> None:
    """Append a record with the values that it gave; several processes may do so at once.

    `modules` are loaded at its end. Raises UsageError where writing is impossible.
    """
    try:
        lines.append(path, [record.to_json() | {_VALUES: _values(record, modules)}])
    except OSError as error:
        raise UsageError(f"the journal {path} cannot be written: {error.strerror}") from error


def _values(record: Record, modules: Sequence[str]) -> Fields:
    found: Fields = {"verdict": record.verdict.value}
    for number, finding in enumerate(record.findings):
        found[f"finding {number}"] = f"{finding.title} / {finding.place} / {finding.wanted} / {finding.got}"
    for number, outcome in enumerate(record.outcomes):
        found |= {f"step {number}{key}": value for key, value in _flat(outcome)}
    return found | {"messages": "\n".join(record.said), "modules": " ".join(modules)}


def _flat(value: Any, key: str = "", depth: int = 0) -> list[tuple[str, str]]:
    """Return the parts of an outcome with their places."""
    if depth < _DEEP and is_dataclass(value):
        parts = {
            f".{each.name}": getattr(value, each.name) for each in fields(value) if not _is_time(each.type)
        }
    elif depth < _DEEP and isinstance(value, Mapping):
        parts = {f".{name}": part for name, part in value.items()}
    elif depth < _DEEP and isinstance(value, (list, tuple)):
        parts = {f"[{number}]": part for number, part in enumerate(value)}
    elif isinstance(value, (bytes, bytearray)):
        short = len(value) <= _SHORT
        return [(key, value.hex() if short else f"{len(value)} {hashlib.sha256(value).hexdigest()}")]
    else:
        return [(key, value if isinstance(value, str) else re.sub(r" at 0x[0-9a-f]+", "", repr(value)))]
    return [
        pair
        for name, part in parts.items()
        if part is not None
        for pair in _flat(part, key + name, depth + 1)
    ]


def _is_time(annotation: Any) -> bool:
    """Tell whether a part says when the run was, which is no difference."""
    parts = (annotation, *get_args(annotation))
    return any(isinstance(extra, TimeKind) for part in parts for extra in getattr(part, "__metadata__", ()))


def read(path: Path) -> dict[str, Fields]:
    """Return what a journal has, by scenario and target. Raises UsageError when it is none."""
    found: dict[str, Fields] = {}
    number = 0
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):  # noqa: B007 - the error tells which
                one = json.loads(line)
                found[str(Record.from_json(one).identity)] = dict(one[_VALUES])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{path}:{number}: this is no journal: {error}", hint="`pytest --journal FILE` writes one"
        ) from error
    return found


@dataclass(frozen=True)
class Comparison:
    """What is different about one way to run scenarios."""

    scenarios: int  # that both have
    values: int  # that were compared
    unsteady: int  # that the first way itself does not agree on
    missing: list[str]  # scenarios that only one of them has
    differences: list[str]  # 'scenario: value: this, that'


def compare(one_way: Sequence[Mapping[str, Fields]], other: Mapping[str, Fields]) -> Comparison:
    """Compare journals of one way to run, one or more, with one of another way."""
    first = one_way[0]
    values = unsteady = 0
    differences: list[str] = []
    both = [name for name in first if name in other]
    for name in both:
        for key in dict.fromkeys([*first[name], *other[name]]):
            values += 1
            seen = {journal[name].get(key) for journal in one_way if name in journal}
            if other[name].get(key) in seen:
                continue
            if len(seen) > 1:
                unsteady += 1
            else:
                differences.append(f"{name}: {key}: {first[name].get(key)!r}, {other[name].get(key)!r}")
    missing = [name for name in {**first, **other} if name not in first or name not in other]
    return Comparison(len(both), values, unsteady, missing, differences)
