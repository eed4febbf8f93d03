# SPDX-License-Identifier: MIT
"""A channel's round trip, as the head of its scenario file has it."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import pytest

from lab.errors import ScenarioError
from lab.kernels.tree import Trees
from lab.language import reader
from lab.verbs import table

if TYPE_CHECKING:
    from pathlib import Path

    from lab.scenario import ScenarioFile

TRIP = """\
about: write and read
bytes: [2, 5]
ready: [{open: /dev/x, flags: O_RDWR, as: dev}]
steps:
  - {write: $dev, data: {random: $bytes, id: a}, expect: {returns: $bytes}}
  - {read: $dev, size: $bytes, expect: {data: {random: $bytes, id: a}}}
after: [{close: $dev}]
"""


def read(tmp_path: Path, trip: str) -> ScenarioFile:
    """Return a scenario file whose trip this is."""
    path = tmp_path / "x.yaml"
    text = textwrap.indent(textwrap.dedent(trip), "  ")
    path.write_text(f"channel: x\ntrip:\n{text}\nscenarios: [{{name: n, steps: [open: /x]}}]\n")
    return reader.load(path, root=tmp_path, verbs=table(), trees=Trees.of(tmp_path / "kmod"))


def test_a_trip_is_read_for_each_number_of_bytes(tmp_path: Path) -> None:
    small, large = read(tmp_path, TRIP).trips
    assert (small.about, small.bytes, large.bytes) == ("write and read", 2, 5)
    assert [step.verb for step in small.scenario.steps] == ["open"]
    assert [step.verb for step in large.steps] == ["write", "read"]
    assert [step.verb for step in large.after] == ["close"]
    assert large.scenario.needs.constants == {"O_RDWR"}
    assert large.scenario.id == "x, 5 bytes"


def test_a_channel_may_have_several_trips_or_say_why_it_has_none(tmp_path: Path) -> None:
    two = "- {about: a, bytes: 0, steps: [{close: 1, expect: {errno: EBADF}}]}\n"
    found = read(tmp_path, two + two.replace("0", "7")).trips
    assert [trip.bytes for trip in found] == [0, 7]
    none = read(tmp_path, ">-\n  it carries nothing")
    assert (none.trips, none.no_trip) == ((), "it carries nothing")


@pytest.mark.parametrize(
    ("trip", "mistake"),
    [
        ("{about: a, bytes: 1}", "a trip wants 'steps'"),
        ("{about: a, bytes: many, steps: [{close: 1, expect: {}}]}", "bytes is a number"),
        ("{about: a, bytes: [64, 8], steps: [{close: 1, expect: {}}]}", "the numbers of bytes go up"),
        ("{about: a, bytes: 1, steps: [close: 1]}", "one of its steps wants 'expect'"),
        ("{about: a, bytes: 1, steps: [{close: 1, times: 2, expect: {}}]}", "cannot have 'times'"),
        ("{about: a, bytes: 1, steps: [{close: 1, background: true, as: p}]}", "cannot have 'background'"),
        ("{about: a, bytes: 1, steps: [{dmesg: x, expect: {}}]}", "is more than one program"),
        ("{about: a, bytes: 1, stepz: [], steps: [{close: 1, expect: {}}]}", "did you mean 'steps'"),
        (
            "{about: a, bytes: 1, actors: [a, b], steps: [{by: a, close: 1, expect: {}}, {by: b, close: 1}]}",
            "all steps of a trip are by one actor",
        ),
        (
            "- {about: a, bytes: 1, steps: [{close: 1, expect: {}}]}\n- {about: b, bytes: 1, steps: []}",
            "two trips carry 1 bytes",
        ),
    ],
)
def test_what_cannot_be_a_trip_is_told(tmp_path: Path, trip: str, mistake: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        read(tmp_path, trip)
    assert mistake in str(caught.value)
