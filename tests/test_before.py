# SPDX-License-Identifier: MIT
"""`before`: what of it a scenario has made first, by whom, and the mistakes that can be made with it."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.errors import ScenarioError
from lab.kernels.tree import Trees
from lab.language import reader
from lab.verbs import table

if TYPE_CHECKING:
    from pathlib import Path

    from lab.scenario import Scenario, ScenarioFile

HEAD = """\
channel: x
before:
  - {mkdir: /d}
  - {open: /hw, flags: O_RDWR, as: hw}
  - {read: $hw, as: node}
  - {open: $node, flags: O_RDONLY|O_NONBLOCK, as: ev}
  - {fcntl: $ev, cmd: F_SETFL, arg: O_APPEND}
  - {open: /other, flags: O_RDWR, as: other}
"""


def read(path: Path, scenarios: str, head: str = HEAD) -> ScenarioFile:
    path.write_text(f"{head}scenarios:\n{textwrap.indent(textwrap.dedent(scenarios).strip(), '  ')}\n")
    return reader.load(path, root=path.parent, verbs=table(), trees=Trees.of(path.parent))


def mistakes(path: Path, scenarios: str, head: str = HEAD) -> list[str]:
    with pytest.raises(ScenarioError) as caught:
        read(path, scenarios, head)
    return [f"{mistake.line}: {mistake.message}" for mistake in caught.value.mistakes]


def made(scenario: Scenario) -> list[tuple[str, str, int]]:
    return [(step.verb, step.by, step.line) for step in scenario.steps]


ALL = """\
- name: all of it
  steps:
    - {read: $ev, size: 1}
    - {close: $other}
"""


UNBOUND = [f"{line}: unknown name $f: no earlier step has `as: f`" for line in (6, 9)]


def test_a_scenario_has_made_what_it_uses(tmp_path: Path) -> None:
    file = read(
        tmp_path / "x.yaml",
        f"""{ALL}
- name: some of it
  steps: [{{read: $hw, size: 1}}]
- name: none of it
  before: []
  steps: [{{open: /hw, as: hw}}, {{read: $hw, size: 1}}]
- name: its own
  before: [{{open: /mine, as: hw}}]
  steps: [{{read: $hw, size: 1}}]
- name: its own of the same name
  steps: [{{open: /mine, as: other}}, {{close: $other}}]
""",
    )
    whole, some, none, own, same = (made(each) for each in file.scenarios)
    before = [("mkdir", 3), ("open", 4), ("read", 5), ("open", 6), ("fcntl", 7), ("open", 8)]
    assert [(verb, line) for verb, _, line in whole] == [*before, ("read", 12), ("close", 13)]
    assert [line for _, _, line in some] == [3, 4, 16]
    assert [verb for verb, _, _ in none] == ["open", "read"]
    assert [(verb, line) for verb, _, line in own] == [("open", 21), ("read", 22)]
    assert [line for _, _, line in same] == [3, 24, 24]


def test_only_what_is_made_is_asked_of_a_target(tmp_path: Path) -> None:
    some = ALL + "- name: some\n  steps: [{open: /y, flags: O_WRONLY}]\n"
    whole, little = read(tmp_path / "x.yaml", some).scenarios
    assert whole.needs.constants >= {"O_RDWR", "O_NONBLOCK", "F_SETFL"}
    assert little.needs.constants == {"O_WRONLY"}


@pytest.mark.parametrize(
    ("actors", "steps", "by"),
    [
        # By whom uses it first, and then its steps are his without a word.
        (
            "[one, two]",
            "[{by: two, read: $hw, size: 1}, {read: $hw, size: 1}]",
            ["main", "two", "two", "two"],
        ),
        # What is made of a descriptor is its owner's, whoever uses it.
        (
            "[one, two]",
            "[{by: two, close: $hw}, {by: one, write: 1, data: $node}]",
            ["main", "two", "two", "two", "one"],
        ),
        # By him too for what is made of it.
        ("[one, two]", "[{by: two, close: $ev}]", ["main", "two", "two", "two", "two", "two"]),
        ("[main, two]", "[{by: two, close: $hw}]", ["main", "two", "two"]),
        ("[main, two]", "[{close: $hw}]", ["main", "main", "main"]),
        ("{user: {uid: 1}}", "[{close: $hw}]", ["main", "user", "user"]),
        # A child is not there yet.
        ("[main]", "[{fork: child}, {by: child, close: $hw}]", ["main", "main", "main", "child"]),
        (
            "[one, two]",
            "[{together: [{by: one, getpid: }, {by: two, close: $hw}]}]",
            ["main", "two", "main"],
        ),
    ],
)
def test_who_makes_it(tmp_path: Path, actors: str, steps: str, by: list[str]) -> None:
    text = f"{ALL}- name: n\n  actors: {actors}\n  steps: {steps}\n"
    scenario = read(tmp_path / "x.yaml", text).scenarios[1]
    assert [step.by for step in scenario.steps] == by


def test_values_of_with_and_references_within_them(tmp_path: Path) -> None:
    head = "channel: x\nbefore: [{open: $path, as: f}, {open: /b, as: g}]\n"
    text = """\
- name: n
  with: {path: [/a, /c], it: [$f, $g]}
  steps: [{close: $it}]
"""
    opened = [
        [getattr(step.arguments["path"], "value", None) for step in each.steps if step.verb == "open"]
        for each in read(tmp_path / "x.yaml", text, head).scenarios
    ]
    assert opened == [["/a"], ["/b"], ["/c"], ["/b"]]


def test_a_trip_begins_with_what_it_uses(tmp_path: Path) -> None:
    head = f"""{HEAD}trip:
  about: t
  bytes: 1
  ready: [{{read: $hw, size: 1}}]
  steps: [{{write: $other, data: x, expect: {{returns: 1}}}}]
"""
    (trip,) = read(tmp_path / "x.yaml", ALL, head).trips
    assert [step.line for step in trip.scenario.steps] == [3, 4, 8, 12]
    assert [step.verb for step in trip.steps] == ["write"]
    # Its price was counted with that, and is not known for another.
    (other,) = read(tmp_path / "x.yaml", ALL, head.replace("/hw", "/else")).trips
    assert other.text != trip.text


@pytest.mark.parametrize(
    ("scenarios", "told"),
    [
        (
            "- {name: n, steps: [{close: $ev}]}",
            ["8: no scenario uses $other: take it out of `before`"],
        ),
        (
            "- {name: n, before: [], steps: [{open: /x}]}",
            [
                "3: no scenario has this step made: take it out of `before`",
                *(
                    f"{line}: no scenario uses ${name}: take it out of `before`"
                    for line, name in ((4, "hw"), (5, "node"), (6, "ev"))
                ),
                "7: no scenario has this step made: take it out of `before`",
                "8: no scenario uses $other: take it out of `before`",
            ],
        ),
        (
            f"{ALL}- {{name: n, actors: [one, two], steps: [{{close: $hw}}]}}",
            [
                (
                    "14: whose is $hw, which `before` binds in line 4? The first step that uses it says `by` "
                    "(one, two)"
                )
            ],
        ),
        (
            f"{ALL}- {{name: n, steps: [{{close: $othr}}]}}",
            ["14: unknown name $othr: no earlier step has `as: othr`; did you mean 'other'?"],
        ),
        (
            f"{ALL}- {{name: n, before: [{{open: /x, as: f}}, {{open: /x, as: g}}], steps: [{{close: $f}}]}}",
            ["14: no scenario uses $g: take it out of `before`"],
        ),
    ],
)
def test_mistakes(tmp_path: Path, scenarios: str, told: list[str]) -> None:
    assert mistakes(tmp_path / "x.yaml", scenarios) == told


@pytest.mark.parametrize(
    ("before", "told"),
    [
        # A mistake of the step itself is told once, by its line; one of a scenario with the scenario.
        ("[{opne: /x, as: f}]", ["2: unknown verb 'opne'; did you mean 'open'?"]),
        (
            "[{by: reader, open: /x, as: f}]",
            ["2: unknown actor 'reader': there is main, `actors` names more (for scenario 'two')"],
        ),
        (
            "[{open: $path, as: f}]",
            ["2: unknown name $path: no earlier step has `as: path` (for scenario 'one')"],
        ),
        (
            "[{open: /x, as: f}, {open: /y, as: f}]",
            ["2: 'f' is bound by step 'open' in line 2 already: take another name"],
        ),
        ("[{read: $f, as: g}, {open: /x, as: f}]", ["2: $f is used before the step that binds it (line 2)"]),
        ("{open: /x}", ["2: before is a list, not a mapping", *UNBOUND]),
    ],
)
def test_mistakes_of_its_steps(tmp_path: Path, before: str, told: list[str]) -> None:
    text = """\
- name: one
  actors: [main, reader]
  steps: [{close: $f}, {write: 1, data: $g}]
- name: two
  with: {path: [/x]}
  steps: [{close: $f}, {write: 1, data: $g}]
"""
    if "as: g" not in before:
        text = text.replace(", {write: 1, data: $g}", "")
    found = mistakes(tmp_path / "x.yaml", text, f"channel: x\nbefore: {before}\n")
    assert [each for each in found if not each.startswith(("5:", "8:"))] == told


NAMES = "abcd"


@given(
    asks=st.lists(st.sampled_from(NAMES), max_size=6),
    chain=st.dictionaries(st.sampled_from(NAMES[1:]), st.sampled_from(NAMES), max_size=3),
)
def test_what_is_made_is_what_is_used_in_order(
    tmp_path_factory: pytest.TempPathFactory, asks: list[str], chain: dict[str, str]
) -> None:
    """A scenario's first steps are those it uses and those that they use, each once, in the head's order."""
    chain = {name: of for name, of in chain.items() if of < name}
    before = [
        f"{{dup: ${chain[name]}, as: {name}}}" if name in chain else f"{{open: /{name}, as: {name}}}"
        for name in NAMES
    ]
    text = f"- name: all\n  steps: [{', '.join(f'{{close: ${name}}}' for name in NAMES)}]\n"
    text += f"- name: some\n  steps: [{', '.join(f'{{close: ${name}}}' for name in asks) or '{open: /x}'}]\n"
    file = read(
        tmp_path_factory.mktemp("before") / "x.yaml", text, f"channel: x\nbefore: [{', '.join(before)}]\n"
    )
    wanted = set(asks)
    for name in reversed(NAMES):
        if name in wanted and name in chain:
            wanted.add(chain[name])
    assert [step.bind for step in file.scenarios[1].steps if step.bind] == sorted(wanted)
