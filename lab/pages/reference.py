# SPDX-License-Identifier: MIT
"""What verbs and data forms say of themselves, as a page for people and as a JSON Schema for editors.

``python -m lab.pages.reference`` writes docs/verbs.md and docs/scenario.schema.json, and what
lab.pages.channels and lab.pages.mutants make; a test compares them.
"""

from __future__ import annotations

import inspect
import json
import sys
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from lab.arch import ARCHITECTURES
from lab.errors import LabError
from lab.guest.splat_words import KINDS
from lab.house import DOCS
from lab.language.composites import ListKind, MapKind, RecordKind
from lab.language.data import FORMS
from lab.language.expect import OF_MESSAGES
from lab.language.kinds import DurationKind, IntKind, Kind
from lab.language.meant import TAINTS
from lab.language.outcome import OfPending, Outcome
from lab.language.scope import kinds_of_outcome
from lab.language.steps import COMMON
from lab.language.trips import TRIP_KEYS
from lab.pages import channels, mutants
from lab.verbs import Verb, table

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lab.language.signature import Parameter, Signature

_GENERIC = frozenset(each.name for each in fields(Outcome))
# A key that tells targets apart: a range of kernel versions, an architecture, or `else`.
_CONDITION = rf"^([<>=].*|({'|'.join(ARCHITECTURES)}|else)\b.*)$"
_HEAD = """\
# Verbs

Made from the signatures in lab/verbs/ by `python -m lab.pages.reference`; do not edit.

A step is a mapping with one verb. The verb's own key holds its first argument. Besides its arguments a
step may have `by` (the actor), `as` (a name for the result), `background`, `within`, `times` and
`expect`. Every call's result has `returns`, `errno`, `signal` with `code` and `address`, `status` and,
with `times`, `completed`; every step may expect `dmesg`, `no_messages` and `padding`. What a verb's result
has besides is said with it; how it is compared stands in [scenarios.md](scenarios.md#what-is-wanted). What
is wanted may differ by kernel version or architecture: `{">=6.12": EXDEV, else: EINVAL}` stands wherever a
wish can, or instead of all of them.
"""
_STRUCT = """\
### struct

A struct of the target's headers; fields that are not given are zero, and so is what lies between them. Where
a field points to memory it may be `{buffer: …}`, `{bad: …}`, another struct or a list. Under `expect` it
wants the fields that it names, and leaves the others open.

```yaml
{struct: NAME, field: value}
```
"""


def families() -> dict[str, list[Verb]]:
    """Return the verbs by the file that they stand in, each once, in the order of their names."""
    found: dict[str, dict[str, Verb]] = {}
    for verb in table().values():
        found.setdefault(verb.family, {})[verb.name] = verb
    return {family: [verbs[name] for name in sorted(verbs)] for family, verbs in sorted(found.items())}


# --- the page --------------------------------------------------------------------------------------------


def page() -> str:
    """Return docs/verbs.md."""
    out = [_HEAD]
    for family, verbs in families().items():
        module = sys.modules[f"lab.verbs.{family}"]
        title = (module.__doc__ or family).splitlines()[0].rstrip(".")
        out.append(f"## {title}\n")
        out += [_verb(verb) for verb in verbs]
    out.append(
        "## Data forms\n\nA mapping with one of these keys is data, wherever data or memory belongs.\n"
    )
    out += [_form(name) for name in sorted(FORMS)]
    out += [_STRUCT, *_values()]
    return "\n".join(out).rstrip() + "\n"


def _verb(verb: Verb) -> str:
    signature = verb.signature
    names = [verb.name, *verb.aliases]
    out = [f"### {' or '.join(names)}\n", signature.about, "", *_arguments(signature)]
    result = list(_result(verb.outcome))
    if result:
        about = inspect.cleandoc(verb.outcome.__doc__ or "")
        out += ["", f"Result: {about}", "", *result]
    return "\n".join(out) + "\n"


def _form(name: str) -> str:
    signature = FORMS[name].signature
    return "\n".join([f"### {name}\n", signature.about, "", *_arguments(signature)]) + "\n"


def _arguments(signature: Signature) -> list[str]:
    out = ["| key | is | default |", "| --- | --- | --- |"]
    for parameter in signature.parameters.values():
        first = parameter is signature.first
        key = f"`{signature.name}:` ({parameter.key})" if first and parameter.key != signature.name else ""
        key = key or f"`{parameter.key}:`"
        out.append(f"| {key} | {_kind(parameter.kind)} | {_default(parameter)} |")
    return out


def _default(parameter: Parameter) -> str:
    if parameter.required:
        return "must be given"
    if parameter.default in (None, "", ()):
        return ""
    default = parameter.default
    return f"`{oct(default).replace('0o', '0')}`" if parameter.key == "mode" and default else f"`{default}`"


def _kind(kind: Kind) -> str:
    if isinstance(kind, ListKind):
        return f"a list, each {_kind(kind.of)}"
    if isinstance(kind, MapKind):
        return f"a mapping, each value {_kind(kind.of)}"
    if isinstance(kind, RecordKind):
        parts = ", ".join(f"`{name}`: {_kind(part)}" for name, (part, _) in kind.parts.items())
        return f"a mapping of {parts}"
    words = getattr(kind, "words", ())
    if words:
        return " or ".join(f"`{word}`" for word in words)
    return _cell(kind.title)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _values() -> list[str]:
    """Return the section that shows how each kind of value is written."""
    kinds: dict[str, Kind] = {}
    signatures = [verb.signature for verb in table().values()]
    signatures += [form.signature for form in FORMS.values()]
    for signature in signatures:
        for parameter in signature.parameters.values():
            kind: Kind = parameter.kind
            while isinstance(kind, (ListKind, MapKind)):
                kind = kind.of
            kinds.setdefault(kind.title, kind)
    out = ["## Values\n", "| what | examples |", "| --- | --- |"]
    for title, kind in sorted(kinds.items()):
        if kind.forms:
            examples = ", ".join(f"`{example}`" for example in kind.forms)
            out.append(f"| {_cell(title)} | {_cell(examples)} |")
    return out


def _result(outcome: type) -> Iterator[str]:
    if outcome is OfPending or not issubclass(outcome, Outcome):
        return
    for name, kind in kinds_of_outcome(outcome).items():
        if name not in _GENERIC:
            yield f"- `{name}`: {_kind(kind)}"


# --- the schema ------------------------------------------------------------------------------------------


def schema() -> dict[str, Any]:
    """Return docs/scenario.schema.json as data. It helps editors; `lab check` knows more."""
    kinds = {"enum": sorted(KINDS)}
    scenario = _object(
        {
            "name": {"type": "string"},
            "about": {"type": "string"},
            "with": {"type": "object", "additionalProperties": {"type": "array", "minItems": 1}},
            **_shared(),
            "before": {"$ref": "#/$defs/steps"},
            "expect_splat": {
                "anyOf": [
                    kinds,
                    {"type": "object", "properties": {"kind": kinds, "matches": {"type": "string"}}},
                ]
            },
            "expect_verdict": {"enum": ["lost", "hung"]},
            "steps": {"$ref": "#/$defs/steps"},
        },
        required=["name", "steps"],
    )
    file = _object(
        {
            "channel": {"type": "string"},
            "about": {"type": "string"},
            "choose": {"type": "string"},
            "price": {"type": "string"},
            "read": {"type": "string"},
            "not_applicable": {"type": "object", "additionalProperties": {"type": "string"}},
            "trip": {
                "anyOf": [
                    {"type": "string"},
                    {"$ref": "#/$defs/trip"},
                    {"type": "array", "items": {"$ref": "#/$defs/trip"}},
                ]
            },
            **_shared(),
            "before": {"$ref": "#/$defs/steps"},
            "scenarios": {"type": "array", "items": {"$ref": "#/$defs/scenario"}},
        },
        required=["channel", "scenarios"],
    )
    steps = {"type": "array", "items": {"$ref": "#/$defs/step"}}
    trip = _object({name: _trip_key(name) for name in TRIP_KEYS}, required=["about", "bytes", "steps"])
    verbs = {f"verb_{name}": _verb_schema(verb, name) for name, verb in sorted(table().items())}
    step = {"type": "object", "oneOf": [{"$ref": f"#/$defs/{name}"} for name in verbs]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A chanlab scenario file",
        **file,
        "$defs": {"scenario": scenario, "trip": trip, "steps": steps, "step": step, **verbs},
    }


def _trip_key(name: str) -> dict[str, Any]:
    number = {"type": "integer", "minimum": 0}
    known: dict[str, dict[str, Any]] = {
        **_shared(),
        "about": {"type": "string"},
        "bytes": {"anyOf": [number, {"type": "array", "items": number}]},
    }
    return known.get(name, {"$ref": "#/$defs/steps"})


def _shared() -> dict[str, Any]:
    """Return what both the head and a scenario may have."""
    texts = {"type": "array", "items": {"type": "string"}}
    one_or_more = {"type": ["string", "array"]}
    return {
        "modules": {"type": "array", "items": {"type": ["string", "object"]}},
        "uapi": texts,
        "actors": {"type": ["array", "object"]},
        "requires": _object({"config": one_or_more, "arch": one_or_more, "kernel": one_or_more}),
        "boot": _object({"cmdline": texts, "devices": texts}),
        "within": DurationKind().schema(),
        "complains": texts,
        "leaves": texts,
        "loses_messages": {"type": "boolean"},
        "once": {"type": "string"},
        "taint": {"type": "array", "items": {"enum": list(TAINTS)}},
    }


def _verb_schema(verb: Verb, key: str) -> dict[str, Any]:
    signature = verb.signature
    properties: dict[str, Any] = {key: signature.first.kind.schema()}
    if not signature.first.required:
        properties[key] = {"anyOf": [properties[key], {"type": "null"}]}
    for parameter in signature.parameters.values():
        if parameter is not signature.first:
            properties[parameter.key] = parameter.kind.schema()
    about = signature.about.split("\n\n")[0]
    properties[key] = {**properties[key], "description": about}
    properties.update(_common(verb))
    required = [p.key for p in signature.parameters.values() if p.required and p is not signature.first]
    return _object(properties, required=[key, *required])


def _common(verb: Verb) -> dict[str, Any]:
    expect: dict[str, Any] = {"type": "object"}
    if verb.outcome is not OfPending and issubclass(verb.outcome, Outcome):
        expect = _object({name: {} for name in (*kinds_of_outcome(verb.outcome), *OF_MESSAGES, "padding")})
        expect["patternProperties"] = {_CONDITION: {}}
    known = {
        "by": {"type": "string"},
        "as": {"type": "string"},
        "background": {"type": "boolean"},
        "within": DurationKind().schema(),
        "times": IntKind().schema(),
        "expect": expect,
    }
    return {name: known[name] for name in COMMON}


def _object(properties: dict[str, Any], required: list[str] | None = None) -> dict[str, Any]:
    found = {"type": "object", "properties": properties, "additionalProperties": False}
    return {**found, "required": required} if required else found


def schema_text() -> str:
    """Return the schema as the file has it."""
    return json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"


def write(directory: Path = DOCS) -> list[Path]:
    """Write all the files."""
    made = {
        "verbs.md": page(),
        "scenario.schema.json": schema_text(),
        "mutants.md": mutants.page(),
        **channels.pages(),
    }
    for name, text in made.items():
        (directory / name).write_text(text, encoding="utf-8")
    return [directory / name for name in made]


if __name__ == "__main__":
    try:
        for written in write():
            print(written)
    except LabError as error:  # a scenario file's mistakes, mostly
        sys.exit(str(error))
