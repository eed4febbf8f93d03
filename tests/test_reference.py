# SPDX-License-Identifier: MIT
"""The pages that are made from the signatures of the verbs."""

from __future__ import annotations

import ast
import json
import keyword
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lab import verbs
from lab.abi import known_syscalls
from lab.house import DOCS
from lab.language import data
from lab.language import verb as verb_
from lab.language.outcome import OfPending, Outcome
from lab.language.scope import kinds_of_outcome
from lab.language.steps import COMMON
from lab.pages import channels, mutants, reference
from lab.verbs import FORMS, Call, Fd, Int, Plan, table, verb

if TYPE_CHECKING:
    from collections.abc import Callable

    from lab.language.context import Context


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("verbs.md", reference.page()),
        ("mutants.md", mutants.page()),
        *channels.pages().items(),
        ("scenario.schema.json", reference.schema_text()),
    ],
)
def test_the_files_are_what_the_signatures_say(name: str, made: str) -> None:
    there = (DOCS / name).read_text(encoding="utf-8")
    assert there == made, f"docs/{name} is old: python -m lab.pages.reference"


def test_every_verb_and_form_is_on_the_page() -> None:
    page = reference.page()
    for name in {each.name for each in table().values()} | set(FORMS):
        assert f"### {name}" in page


def test_the_schema_knows_every_verb() -> None:
    schema = json.loads(reference.schema_text())
    names = {each["$ref"].rpartition("_")[2] for each in schema["$defs"]["step"]["oneOf"]}
    assert {name.rpartition("_")[2] for name in table()} == names
    assert schema["$defs"]["verb_ioctl"]["required"] == ["ioctl", "request"]
    assert "out" in schema["$defs"]["verb_ioctl"]["properties"]["expect"]["properties"]


@pytest.mark.parametrize("name", sorted(table()))
def test_a_verb_fits_the_language(name: str) -> None:
    made = table()[name]
    assert made.signature.about, "a verb without a docstring"
    assert not keyword.iskeyword(made.name), "a Python test could not call it"
    taken = {*COMMON, *table()} - {made.name, *made.aliases}
    keys = {parameter.key for parameter in made.signature.parameters.values()} - {made.signature.first.key}
    assert not keys & taken, "an argument looks like a verb or like a key of every step"
    assert issubclass(made.outcome, Outcome)
    if made.outcome is not OfPending:
        assert kinds_of_outcome(made.outcome)


def test_verbs_make_system_calls_that_there_are() -> None:
    """One that no architecture has is "unsupported" everywhere: scenarios are skipped, and nothing fails."""
    made = {
        str(node.args[0].value)
        for path in Path(verbs.__file__).parent.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args
        if node.func.attr in ("syscall", "nr", "has") and isinstance(node.args[0], ast.Constant)
    }
    assert len(made) > 60
    assert made - known_syscalls() == set()


def test_a_verb_comes_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verb_, "VERBS", dict(table()))

    def fresh(call: Call, *, fd: Fd) -> Plan[Outcome]:
        raise NotImplementedError

    def read(call: Call, *, fd: Fd) -> Plan[Outcome]:
        raise NotImplementedError

    assert verb(fresh) is fresh
    assert verb_.VERBS["fresh"].signature.function is fresh
    with pytest.raises(
        TypeError, match=r"verb 'read' comes twice: .*files\.py:\d+, .*test_reference\.py:\d+"
    ):
        verb(read)
    with pytest.raises(TypeError, match="verb 'pass' comes twice"):
        verb(alias="pass")(lambda: None)


def test_a_form_comes_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "FORMS", {})

    def form() -> Callable[..., bytes]:
        def same(context: Context, value: Int) -> bytes:
            return b""

        return same

    def other() -> Callable[..., bytes]:
        def same(context: Context, value: Int) -> bytes:
            return b""

        return same

    def struct(context: Context, value: Int) -> bytes:
        return b""

    data.form(form())
    data.form(form())  # its file, imported once more
    with pytest.raises(TypeError, match=r"form 'same' comes twice: .*test_reference\.py:\d+, .*:\d+"):
        data.form(other())
    with pytest.raises(TypeError, match="form 'struct' means something already"):
        data.form(struct)


@pytest.mark.parametrize("name", sorted(FORMS))
def test_a_form_fits_the_language(name: str) -> None:
    signature = FORMS[name].signature
    assert signature.about
    assert name not in {"buffer", "bad", "struct", "min", "max", "matches"}
    assert signature.parameters
