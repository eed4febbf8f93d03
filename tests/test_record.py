# SPDX-License-Identifier: MIT
"""Records as JSON and back, and the files that they are kept in."""

from __future__ import annotations

import json
import os
from multiprocessing import get_context
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.errors import BootFailed, BuildFailed, HostError, LabError, ModuleFailed, Unsupported
from lab.run.record import Finding, Identity, Place, Provenance, Record, Seconds, Verdict, refused
from lab.store import lines

if TYPE_CHECKING:
    from pathlib import Path

HERE = Identity("ioctl", "a struct goes in", "scenarios/ioctl.yaml", 14, "6.12-x86_64")
TEXTS = st.lists(st.text(max_size=5), max_size=3).map(tuple)
PLACES = st.builds(Place, st.text(max_size=5), st.text(max_size=5), st.integers(0, 9))
FINDINGS = st.builds(
    Finding,
    st.sampled_from(Verdict),
    st.text(max_size=5),
    PLACES,
    st.text(max_size=5),
    st.text(max_size=5),
    TEXTS,
    st.text(max_size=5),
    st.text(max_size=5),
    TEXTS,
)
PROVENANCES = st.builds(
    Provenance,
    *[st.text(max_size=3)] * 5,
    st.integers(0, 1 << 32),
    TEXTS,
    st.text(max_size=3),
    st.text(max_size=3),
    TEXTS,
    st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2),
)


@given(
    st.lists(FINDINGS, max_size=3).map(tuple),
    st.text(max_size=5),
    TEXTS,
    st.one_of(st.none(), PROVENANCES),
    st.floats(0, 1e9),
)
def test_what_becomes_json_comes_back(
    findings: tuple[Finding, ...],
    unsupported: str,
    messages: tuple[str, ...],
    provenance: Provenance | None,
    began: float,
) -> None:
    made = Record(
        HERE,
        findings,
        unsupported,
        messages,
        messages,
        "run",
        began,
        Seconds(1.0, began, 0.5),
        "clone",
        provenance,
    )
    assert Record.from_json(json.loads(json.dumps(made.to_json()))) == made


def test_what_is_no_record() -> None:
    line = Record(HERE).to_json()
    for broken in ({}, line | {"format": 99}, {**line, "findings": [{}]}, line | {"seconds": {"x": 1}}):
        with pytest.raises((ValueError, KeyError, TypeError)):
            Record.from_json(broken)


@pytest.mark.parametrize(
    ("error", "verdict", "told"),
    [
        (Unsupported("no PCI"), Verdict.UNSUPPORTED, []),
        (ModuleFailed("x does not compile", "x.c:3: y"), Verdict.BUILD_FAILED, ["  x.c:3: y"]),
        (BuildFailed("no agent", "agent.c:3: y"), Verdict.LAB_ERROR, ["  agent.c:3: y"]),
        (BootFailed("no agent", "Kernel panic"), Verdict.BOOT_FAILED, ["  Kernel panic"]),
        (HostError("full", hint="make room"), Verdict.LAB_ERROR, ["  hint    make room"]),
    ],
)
def test_what_came_to_no_guest(error: LabError | Unsupported, verdict: Verdict, told: list[str]) -> None:
    record = refused(HERE, error)
    assert record.verdict is verdict
    assert record.title == str(error).splitlines()[0]
    assert set(told) <= set(record.report().splitlines())


def test_what_a_finding_has_of_the_kernels_words_is_not_told_again() -> None:
    report = ("BUG: it broke", "Call Trace:")
    said = tuple(f"[    1.{number:06}] {text}" for number, text in enumerate(("before", *report, "after")))
    lines = (
        Record(HERE, (Finding(Verdict.SPLAT, "it broke", notes=report),), messages=said).report().splitlines()
    )
    assert [line.strip() for line in lines if "BUG: it broke" in line] == ["BUG: it broke"]
    assert lines[-3:] == ["other kernel messages:", "  [    1.000000] before", "  [    1.000003] after"]


def test_places_read_as_editors_take_them() -> None:
    assert str(Place("{read: $f}", "x.yaml", 3)) == "x.yaml:3: {read: $f}"
    assert [str(Place("the end")), str(Place("", "x.yaml", 3)), str(Place())] == ["the end", "x.yaml:3", ""]


# --- files of lines -----------------------------------------------------------------------------------


def many(path: Path, who: int) -> None:
    for number in range(50):
        lines.append(path, [{"who": who, "number": number, "text": "x" * 5000}])
        if number % 10 == 9:
            lines.rewrite(path, list)


def test_several_append_and_nothing_is_lost(tmp_path: Path) -> None:
    context = get_context("fork")
    crew = [context.Process(target=many, args=(tmp_path / "f", who)) for who in range(3)]
    for each in crew:
        each.start()
    for each in crew:
        each.join()
    found = [(line["who"], line["number"]) for line in lines.read(tmp_path / "f")]
    assert sorted(found) == [(who, number) for who in range(3) for number in range(50)]
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_half_a_line_is_left_out_and_spoils_no_other(tmp_path: Path) -> None:
    path = tmp_path / "f"
    assert list(lines.read(path)) == []
    path.write_bytes(b'{"a": 1}\n[1]\n{"b": ')
    lines.append(path, [{"c": 1}])
    assert list(lines.read(path)) == [{"a": 1}, {"c": 1}]


def test_a_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, write = tmp_path / "f", os.write
    lines.append(path, [{"a": 1}])
    monkeypatch.setattr(os, "write", lambda descriptor, text: write(descriptor, text[:5]))
    with pytest.raises(OSError, match="No space left"):
        lines.append(path, [{"b": 1}])
    assert path.read_bytes() == b'{"a":1}\n'


def test_what_cannot_be_rewritten_stays(tmp_path: Path) -> None:
    path = tmp_path / "f"
    lines.append(path, [{"a": 1}])
    with pytest.raises(TypeError):
        lines.rewrite(path, lambda _: [{"b": object()}])
    assert list(lines.read(path)) == [{"a": 1}]
    assert [each.name for each in tmp_path.iterdir()] == ["f"]
