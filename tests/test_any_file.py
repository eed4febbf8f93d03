# SPDX-License-Identifier: MIT
"""Scenario files that nobody means: each is read, or told by one error, and soon."""

from __future__ import annotations

import os
import re
from copy import deepcopy
from pathlib import Path
from random import Random

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from lab.errors import ScenarioError
from lab.house import TREES
from lab.language import reader
from lab.language.composing import MOST_BYTES, MOST_NODES
from lab.language.nodes import MappingNode, Node, ScalarNode, SequenceNode
from lab.scenario import ScenarioFile
from lab.verbs import table

ROOT = Path(__file__).parent.parent
FILES = sorted((ROOT / "scenarios").glob("*.yaml"))
HEAD = "channel: x\nscenarios:\n"
STEPS = "    steps:\n      - {open: /dev/null, as: dev}\n"

# What goes wrong elsewhere: of YAML, of numbers, of names, of terminals.
PIECES = (
    *(
        "&a ",
        "*a",
        "!!python/object:os.system ",
        "!x ",
        "? ",
        "- ",
        "[",
        "]",
        "{",
        "}",
        ": ",
        ", ",
        "|\n",
        ">\n",
    ),
    *(
        '"',
        "'",
        "#",
        "%YAML 1.1\n",
        "---\n",
        "...\n",
        "\t",
        "\n",
        "\r",
        "\0",
        "\x1b[2J",
        "\x85",
        "\u202e",
        "\ufeff",
    ),
    *(
        "9" * 5000,
        "0x" + "f" * 5000,
        "1<<99",
        "256MiB",
        "99999GiB",
        "-1",
        "1+" * 900 + "1",
        "(" * 300,
        "~" * 300,
    ),
    *(
        "$",
        "$a",
        "$dev",
        "$dev.data",
        "${a}",
        "::",
        "..",
        "/",
        "NULL",
        "1e999s",
        "٣s",
        "sizeof(x)",
        "O_RDWR|",
    ),
    *(
        "with",
        "steps",
        "expect",
        "together",
        "in_turn",
        "before",
        "trip",
        "by",
        "as",
        "struct",
        "buffer",
        "else",
    ),
    *("(", "(?P<", "(" * 499 + ")" * 499, "[[a", "a{99999999999}", "(a+)+$", "x" * 3000, "é" * 200),
)


def read(data: bytes, tmp_path: Path) -> ScenarioFile | ScenarioError:
    """Read a file; whatever else comes out of it is a failure."""
    path = tmp_path / "any.yaml"
    path.write_bytes(data)
    try:
        return reader.load(path, root=tmp_path, verbs=table(), trees=TREES)
    except ScenarioError as error:
        told = error
    assert told.mistakes
    assert str(told).replace("\n", "").isprintable(), repr(str(told))
    lines = data.count(b"\n") + data.count(b"\r") + 10
    assert all(len(str(each)) < 600 and 0 <= each.line <= lines for each in told.mistakes)
    return told


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("any")


EXAMPLES = int(os.environ.get("CHANLAB_FUZZ", "60"))  # a long run by hand: CHANLAB_FUZZ=20000
SOME = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))


@SOME
@given(data=st.binary(max_size=400))
@example(data=b"")
@example(data=b"\xff\xfe")
@example(data=b"\xef\xbb\xbf" + HEAD.encode())
def test_bytes_are_no_traceback(place: Path, data: bytes) -> None:
    read(data, place)


@SOME
@given(
    seed=st.integers(0, 1 << 64), pieces=st.lists(st.sampled_from(PIECES) | st.text(max_size=8), max_size=4)
)
def test_a_file_with_pieces_put_in_is_no_traceback(place: Path, seed: int, pieces: list[str]) -> None:
    chance = Random(seed)  # noqa: S311 - to be repeated, not secret
    text = few(chance)
    for piece in pieces:
        at, gone = chance.randrange(len(text) + 1), chance.choice((0, 0, 1, 10, 100))
        text = text[:at] + piece + text[at + gone :]
    read(text.encode("utf-8", "surrogatepass"), place)


@SOME
@given(seed=st.integers(0, 1 << 64))
@example(seed=73887)
def test_a_file_with_values_in_wrong_places_is_no_traceback(place: Path, seed: int) -> None:
    chance = Random(seed)  # noqa: S311 - to be repeated, not secret
    root, other = (yaml.compose(few(chance), Loader=yaml.CBaseLoader) for _ in range(2))
    assert root is not None
    assert other is not None
    for _ in range(chance.randrange(1, 4)):
        there = list(places(root))
        holder, index, part = chance.choice(there)
        new = chance.choice([node_at(*each) for each in places(other)] + [scalar(chance)])
        put(holder, index, part, deepcopy(new))  # it may go into what was put in before, and not into itself
    text = yaml.serialize(root, Dumper=Flat, allow_unicode=True)
    read(text.encode("utf-8", "surrogatepass"), place)


class Flat(yaml.Dumper):
    """Writes a node that stands in two places twice: an alias is told before anything else is looked at."""

    def anchor_node(self, node: Node) -> None:
        """Give no node a name."""

    def serialize_node(self, node: Node, parent: Node | None, index: int | None) -> None:
        """Write it, whether it was written already or not."""
        self.serialized_nodes.clear()
        self.anchors[node] = None
        super().serialize_node(node, parent, index)


def few(chance: Random) -> str:
    """Return a file of ours with its head and one or two of its scenarios."""
    text = chance.choice(FILES).read_text()
    head, _, rest = text.partition("\nscenarios:\n")
    scenarios = re.split(r"(?m)^(?=  - name:)", rest)[1:]
    return f"{head}\nscenarios:\n{''.join(chance.sample(scenarios, min(len(scenarios), 2)))}"


def scalar(chance: Random) -> Node:
    style = chance.choice((None, '"'))
    return ScalarNode("tag:yaml.org,2002:str", chance.choice(PIECES).strip() or "x", style=style)


def places(root: Node) -> list[tuple[Node, int, int]]:
    """Return where nodes stand: in which list or mapping, at which place, and which half of a pair."""
    found: list[tuple[Node, int, int]] = []
    left = [root]
    while left:
        node = left.pop()
        if isinstance(node, SequenceNode):
            found += [(node, index, -1) for index in range(len(node.value))]
            left += node.value
        elif isinstance(node, MappingNode):
            for index, pair in enumerate(node.value):
                found += [(node, index, 0), (node, index, 1)]
                left += pair
    return found


def node_at(holder: Node, index: int, part: int) -> Node:
    found: Node = holder.value[index] if part < 0 else holder.value[index][part]
    return found


def put(holder: Node, index: int, part: int, new: Node) -> None:
    if part < 0:
        holder.value[index] = new
        return
    pair = list(holder.value[index])
    pair[part] = new
    holder.value[index] = tuple(pair)


def told(text: str | bytes, tmp_path: Path) -> list[str]:
    found = read(text if isinstance(text, bytes) else text.encode(), tmp_path)
    assert isinstance(found, ScenarioError)
    return [f"{mistake.line}: {mistake.message}" for mistake in found.mistakes]


def bomb(deep: int) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]" for level in range(1, deep)]
    return HEAD + "  - name: a\n" + STEPS + "\n".join(lines) + "\n"


def test_aliases_are_refused_where_they_stand_before_anything_is_put_in(place: Path) -> None:
    lines = [int(line.partition(":")[0]) for line in told(bomb(40), place)]
    assert lines == list(range(6, 46))
    assert "aliases" in told(HEAD + "  - name: a\n    steps: &s [*s]\n", place)[0]


def test_an_alias_is_never_composed(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml, "compose", lambda *_, **__: pytest.fail("the tree was made"))
    assert "aliases" in told(bomb(3), place)[0]


def test_with_makes_a_thousand_scenarios_at_most(place: Path) -> None:
    values = ", ".join(map(str, range(200)))
    step = "    steps:\n      - {open: /dev/null, as: dev}\n      - {lseek: $dev, offset: $a, whence: $b}\n"
    text = f"{HEAD}  - name: a\n    with: {{a: [{values}], b: [{values}]}}\n{step}"
    assert told(text, place) == [
        "4: `with` makes 40,000 scenarios of this one, 1,000 are the most: choose the values that matter"
    ]


def test_what_with_multiplies_is_counted(place: Path) -> None:
    big = ", ".join(["1"] * 5000)
    step = "      - {write: $dev, data: {u8: $a}}\n" * 100
    text = f"{HEAD}  - name: a\n    with: {{a: [[{big}]]}}\n{STEPS}{step}"
    assert any("has more than 100,000 words" in line for line in told(text, place))
    chain = ", ".join(f"a{n}: [[$a{n + 1}, $a{n + 1}]]" for n in range(40))
    step = "      - {write: $dev, data: {buffer: $a0}}\n"
    text = f"{HEAD}  - name: a\n    with: {{{chain}, a40: [x]}}\n{STEPS}{step}"
    assert told(text, place)


def test_values_of_with_that_name_themselves(place: Path) -> None:
    step = "    steps:\n      - {open: /dev/null, as: dev}\n      - {write: $dev, data: {buffer: $a}}\n"
    assert told(f"{HEAD}  - name: a\n    with: {{a: [[$a, $a]]}}\n{step}", place)


def test_big_files(place: Path) -> None:
    assert told("#" * (MOST_BYTES + 1), place) == [
        "1: the file has more than 524,288 bytes: make several of it"
    ]
    many = ", ".join(["a"] * (MOST_NODES + 1))
    assert "more than 100,000 words" in told(f"{HEAD}  - name: a\n    steps: [{many}]\n", place)[0]
    deep = "[" * 65 + "]" * 65
    assert "in one another" in told(f"{HEAD}  - name: a\n    steps: {deep}\n", place)[0]
    wrong = "".join(f"k{number}: 1\n" for number in range(5000))
    assert "reading stops here" in "".join(told(f"{HEAD}  - name: a\n{STEPS}{wrong}", place))


def test_numbers_that_no_step_can_have(place: Path) -> None:
    def step(data: str) -> str:
        return told(f"{HEAD}  - name: a\n{STEPS}      - {{write: $dev, data: {data}}}\n", place)[0]

    assert "268,435,456 bytes are more than the 33,554,432 of one step" in step("{random: 256MiB}")
    assert "bytes are more than" in step("{repeat: a, size: 99999GiB}")
    assert "-1 is no number of bytes" in step("{random: -1}")
    assert "more than 1000 characters" in step(f"{{u8: {'9' * 5000}}}")
    assert "more than 64 numbers" in step(f"{{u8: {'1+' * 100}1}}")
    assert "deeper than 16" in step("{u8: " + "(" * 30 + "1" + ")" * 30 + "}")
    assert "a shift by 99 is outside" in step("{u8: 1<<99}")


def test_a_name_can_be_selected_and_shown(place: Path) -> None:
    def name(text: str) -> list[str]:
        return told(f"{HEAD}  - name: {text}\n{STEPS}", place)

    assert name("a::b") == ["3: '::' parts what pytest selects by: a name cannot have it"]
    assert name(r'"\e[31mred"') == [r"3: a name is printable and of one line, not '\x1b[31mred'"]
    assert name(r'"two\nlines"') == [r"3: a name is printable and of one line, not 'two\nlines'"]
    assert "at most 200 characters" in name("x" * 300)[0]


def test_values_of_with_stand_in_ids_as_they_can_be_selected(place: Path) -> None:
    step = "    steps:\n      - {open: $a}\n"
    found = read(f'{HEAD}  - name: a\n    with: {{a: ["::1", "\\e[2J", a\u202eb]}}\n{step}'.encode(), place)
    assert isinstance(found, ScenarioFile)
    assert [each.id for each in found.scenarios] == [
        r'a (a=":\x3a1")',
        r'a (a="\x1b[2J")',
        r'a (a="a\u202eb")',
    ]


@pytest.mark.parametrize("channel", ["skip", "a b", "_x", '"\\e"', "xfail"])
def test_a_channel_is_a_mark_of_its_own(place: Path, channel: str) -> None:
    assert told(f"channel: {channel}\nscenarios:\n  - name: a\n{STEPS}", place)[0].startswith("1: ")


def test_a_byte_that_is_no_utf8_is_told_where_it_stands(place: Path) -> None:
    found = told(f"{HEAD}  - name: a\n{STEPS}# caf".encode() + b"\xe9\n", place)
    assert found == ["6: byte 0xe9 is no UTF-8 here (invalid continuation byte): save the file as UTF-8"]


@pytest.mark.parametrize("pattern", ["a{99999999999}", "[[a]", "(", "x" * 1001])
def test_patterns_that_are_none(place: Path, pattern: str) -> None:
    wanted = f"    expect_splat: {{kind: BUG, matches: '{pattern}'}}\n"
    assert any("no regular expression" in line for line in told(f"{HEAD}  - name: a\n{wanted}{STEPS}", place))
