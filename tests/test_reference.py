# SPDX-License-Identifier: MIT
"""The pages that are made from the signatures of the verbs."""

from __future__ import annotations

import json
import keyword

import pytest

from lab import channel_pages, reference
from lab.language.outcome import OfPending, Outcome
from lab.language.scope import kinds_of_outcome
from lab.language.steps import COMMON
from lab.verbs import FORMS, table


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("verbs.md", reference.page()),
        *channel_pages.pages().items(),
        ("scenario.schema.json", reference.schema_text()),
    ],
)
def test_the_files_are_what_the_signatures_say(name: str, made: str) -> None:
    there = (reference.DOCS / name).read_text(encoding="utf-8")
    assert there == made, f"docs/{name} is old: python -m lab.reference"


def test_every_verb_and_form_is_on_the_page() -> None:
    page = reference.page()
    for name in {verb.name for verb in table().values()} | set(FORMS):
        assert f"### {name}" in page


def test_the_schema_knows_every_verb() -> None:
    schema = json.loads(reference.schema_text())
    names = {each["$ref"].rpartition("_")[2] for each in schema["$defs"]["step"]["oneOf"]}
    assert {name.rpartition("_")[2] for name in table()} == names
    assert schema["$defs"]["verb_ioctl"]["required"] == ["ioctl", "request"]
    assert "out" in schema["$defs"]["verb_ioctl"]["properties"]["expect"]["properties"]


@pytest.mark.parametrize("name", sorted(table()))
def test_a_verb_fits_the_language(name: str) -> None:
    verb = table()[name]
    assert verb.signature.about, "a verb without a docstring"
    assert not keyword.iskeyword(verb.name), "a Python test could not call it"
    taken = {*COMMON, *table()} - {verb.name, *verb.aliases}
    keys = {parameter.key for parameter in verb.signature.parameters.values()} - {verb.signature.first.key}
    assert not keys & taken, "an argument looks like a verb or like a key of every step"
    assert issubclass(verb.outcome, Outcome)
    if verb.outcome is not OfPending:
        assert kinds_of_outcome(verb.outcome)


@pytest.mark.parametrize("name", sorted(FORMS))
def test_a_form_fits_the_language(name: str) -> None:
    signature = FORMS[name].signature
    assert signature.about
    assert name not in {"buffer", "bad", "struct", "min", "max", "matches"}
    assert signature.parameters
