# SPDX-License-Identifier: MIT
"""Who makes a step that does not say `by`: whose its descriptor or mapping is."""

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

    from lab.scenario import Step


def read(path: Path, text: str, actors: str) -> tuple[Step, ...]:
    indented = textwrap.indent(textwrap.dedent(text).strip(), "      ")
    head = f"    actors: {actors}\n" if actors else ""
    path.write_text(f"channel: x\nscenarios:\n  - name: n\n{head}    steps:\n{indented}\n")
    return reader.load(path, root=path.parent, verbs=table(), trees=Trees.of(path.parent)).scenarios[0].steps


@pytest.mark.parametrize(
    ("actors", "text", "who"),
    [
        # A descriptor, its part, and one in a list, whoever else makes steps.
        ("[one, two]", "- {by: one, open: /x, as: f}\n- {read: $f, size: 1}", "one"),
        ("[main, two]", "- {by: two, open: /x, as: f}\n- {read: $f, size: 1}", "two"),
        ("[one, two]", "- {by: two, pipe: 0, as: p}\n- {write: $p.write, data: x}", "two"),
        (
            "[one, two]",
            "- {by: two, open: /x, as: f}\n- {poll: [{fd: $f, events: POLLIN}], timeout: 0}",
            "two",
        ),
        ("[one, two]", "- {by: two, open: /x, as: f}\n- {select: [$f], timeout: 0}", "two"),
        ("[one, two]", "- {by: two, epoll_create: 0, as: e}\n- {epoll_wait: $e, timeout: 0}", "two"),
        # A mapping is its maker's as a descriptor is.
        (
            "[main, two]",
            "- {by: two, mmap: -1, length: 8, prot: 1, flags: 34, offset: 0, as: m}\n- {load: $m+4, size: 4}",
            "two",
        ),
        # What was handed over belongs to who got it, and the giver keeps his own.
        ("[one, two]", "- {by: one, open: /x, as: f}\n- {pass: $f, to: two, as: g}\n- {close: $g}", "two"),
        ("[one, two]", "- {by: one, open: /x, as: f}\n- {pass: $f, to: two, as: g}\n- {close: $f}", "one"),
        # A finished call's result too.
        (
            "[one, two]",
            "- {by: two, open: /x, background: true, as: p}\n- {finish: $p, as: f}\n- {close: $f}",
            "two",
        ),
        # main has it as well as its child: main's steps need not say so.
        ("", "- {open: /x, as: f}\n- {fork: child}\n- {close: $f}", "main"),
        ("", "- {fork: child}\n- {by: child, open: /x, as: f}\n- {close: $f}", "child"),
        # A number is nobody's.
        ("[main, two]", "- {by: two, getpid: , as: pid}\n- {kill: $pid, signal: 0}", "main"),
    ],
)
def test_a_step_is_by_whose_its_descriptor_is(tmp_path: Path, actors: str, text: str, who: str) -> None:
    assert read(tmp_path / "x.yaml", text, actors)[-1].by == who


@pytest.mark.parametrize(
    ("actors", "text", "told"),
    [
        (
            "[one, {two: {thread_of: one}}]",
            "- {by: one, open: /x, as: f}\n- {close: $f}",
            "7: who makes this step? Say `by` (one, two): $f belongs to one and two",
        ),
        (
            "[one]",
            "- {by: one, open: /x, as: f}\n- {by: one, fork: child}\n- {pass: $f, to: one}",
            "8: who makes this step? Say `by` (one, child): $f belongs to child and one",
        ),
        (
            "[one, two]",
            "- {by: one, open: /x, as: f}\n- {open: /x, as: g}",
            "7: who makes this step? Say `by` (one, two), or have an actor main",
        ),
        (
            "[one, two]",
            "- {by: one, open: /x, as: f}\n- {by: two, dup: $f}",
            "7: $f is a file descriptor of actor one, this step is by 'two'",
        ),
        # The descriptors of a step are one actor's: the first says whose it is.
        (
            "[one, two]",
            "- {by: one, open: /x, as: f}\n- {by: two, open: /x, as: g}\n- {splice: $f, to: $g, size: 1}",
            "8: $g is a file descriptor of actor two, this step is by 'one'",
        ),
    ],
)
def test_nobody_is_guessed(tmp_path: Path, actors: str, text: str, told: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        read(tmp_path / "x.yaml", text, actors)
    (mistake,) = caught.value.mistakes
    assert f"{mistake.line}: {mistake.message}".partition(": hand it over")[0] == told


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abc")), min_size=1, max_size=6))
def test_it_makes_no_difference_whether_the_owner_is_said(
    tmp_path_factory: pytest.TempPathFactory, moves: list[tuple[str, str]]
) -> None:
    """Descriptors are opened and handed over at random: with and without `by` the steps are the same."""
    said: list[str] = []
    for number, (owner, other) in enumerate(moves):
        said.append(f"- {{by: {owner}, open: /x, as: f{number}}}")
        if other != owner:
            said.append(f"- {{by: {owner}, pass: $f{number}, to: {other}, as: g{number}}}")
            said.append(f"- {{by: {other}, read: $g{number}, size: 1}}")
        said.append(f"- {{by: {owner}, write: $f{number}, data: x}}")
    unsaid = [step if "open" in step else f"- {{{step.partition(', ')[2]}" for step in said]
    path = tmp_path_factory.mktemp("owners") / "x.yaml"
    found = [[step.by for step in read(path, "\n".join(text), "[a, b, c]")] for text in (said, unsaid)]
    assert found[0] == found[1]
