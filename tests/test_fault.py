# SPDX-License-Identifier: MIT
"""A deliberate mistake is shown by the step that is about it, and by no other failure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lab.errors import UsageError
from lab.language.requires import Machine
from lab.run import fault
from lab.run.record import Finding, Identity, Place, Record, Verdict

if TYPE_CHECKING:
    from pathlib import Path

HERE = Identity("poll", "poll sleeps", "scenarios/poll.yaml", 14, "6.12-x86_64")
PLACE = Place("{finish: $pending, expect: {returns: 1}}", "scenarios/poll.yaml", 148)
HEAD = """\
SPDX-License-Identifier: GPL-2.0-only
Channel: poll
Breaks: a put wakes nobody
Scenario: scenarios/poll.yaml::poll sleeps: until a put
Verdict: step failed, hung
Seen: {finish: $pending … poll did not end
Seen: BUG: soft lockup

Why: whatever.

--- a/poll.c
+++ b/poll.c
"""


def read(path: Path, head: str = HEAD) -> fault.Fault:
    path = path / "poll-x.patch"
    path.write_text(head)
    return fault.read(path)


def run(verdict: Verdict, title: str, place: Place = PLACE, **words: object) -> Record:
    return Record(HERE, (Finding(verdict, title, place, **words),))  # type: ignore[arg-type]


def test_a_head_says_what_and_where(tmp_path: Path) -> None:
    assert read(tmp_path) == fault.Fault(
        "poll-x",
        "poll",
        "a put wakes nobody",
        "scenarios/poll.yaml",
        "poll sleeps: until a put",
        ("step failed", "hung"),
        ("{finish: $pending … poll did not end", "BUG: soft lockup"),
    )


@pytest.mark.parametrize("key", ["Breaks", "Scenario", "Seen"])
def test_a_head_that_leaves_something_out_is_told(tmp_path: Path, key: str) -> None:
    head = "\n".join(line for line in HEAD.splitlines() if not line.startswith(key))
    with pytest.raises(UsageError, match=f"does not say {key}"):
        read(tmp_path, head)


@pytest.mark.parametrize(
    "record",
    [
        run(Verdict.STEP_FAILED, "poll did not end in time"),
        run(Verdict.HUNG, "hung", notes=("first", "watchdog: BUG: soft\n lockup - CPU#0")),
    ],
)
def test_it_is_shown_by_its_step_or_its_words(tmp_path: Path, record: Record) -> None:
    assert read(tmp_path).missed(record) is None


def test_another_step_is_no_proof(tmp_path: Path) -> None:
    record = run(Verdict.STEP_FAILED, "open failed: EIO", Place("{open: /dev/x}", "scenarios/poll.yaml", 5))
    assert read(tmp_path).missed(record) == (
        "the fault was seen by step {open: /dev/x} at line 5 (open failed: EIO), "
        "it must be by {finish: $pending … poll did not end or by BUG: soft lockup"
    )


def test_the_pieces_stand_in_their_order(tmp_path: Path) -> None:
    record = run(Verdict.STEP_FAILED, "{finish: $pending", Place("poll did not end"))
    assert "seen by poll did not end" in str(read(tmp_path).missed(record))


def test_another_verdict_is_no_proof(tmp_path: Path) -> None:
    says = read(tmp_path)
    assert says.missed(Record(HERE)) == "wanted step failed or hung, got passed: as without it"
    splat = run(Verdict.SPLAT, "poll did not end in time")
    assert says.missed(splat) == "wanted step failed or hung, got splat: poll did not end in time"


def test_what_an_architecture_cannot_show(tmp_path: Path) -> None:
    said = "Unseen: s390x: address 0: it can be read\nVerdict:"
    on_s390x = read(tmp_path, HEAD.replace("Verdict:", said))
    assert on_s390x.why_unseen(Machine("s390x", "6.12.1")) == "address 0: it can be read"
    assert on_s390x.why_unseen(Machine("arm64", "6.12.1")) is None
    on_old = read(tmp_path, HEAD.replace("Verdict:", "Unseen: <5.12: it does not count\nVerdict:"))
    assert on_old.why_unseen(Machine("arm64", "5.10.200")) == "it does not count"
    assert on_old.why_unseen(Machine("arm64", "5.12.0")) is None
    for wrong in ("s390x", "vax: it is old", "<5: ", "5.12: it does not count"):
        with pytest.raises(UsageError, match="Unseen is an architecture or a range of kernels"):
            read(tmp_path, HEAD.replace("Verdict:", f"Unseen: {wrong}\nVerdict:"))
