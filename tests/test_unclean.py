# SPDX-License-Identifier: MIT
"""What the kernel complains of: what counts, what is meant, what is known to be harmless."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from lab.guest.kmsg import KernelMessage
from lab.guest.splat import splats
from lab.house import HOUSE
from lab.language.requires import Machine, Requires
from lab.run.record import Place, Verdict
from lab.run.unclean import Complaints, Known, complained, complaints, known_complaints

if TYPE_CHECKING:
    from pathlib import Path

NONE = Complaints()
HERE = Machine("x86_64", "6.12.107")
HUGE = "fill_read_buffer: huge_show+0x0/0x40 [lab_x] returned bad count"


def said(text: str, *, priority: int = 4, facility: int = 0, sequence: int = 7) -> KernelMessage:
    return KernelMessage(priority, facility, sequence, 0, text)


def left(*messages: KernelMessage, meant: set[int] | None = None, known: Complaints = NONE) -> list[str]:
    found = complaints(messages, told=splats(messages), meant=meant or set(), known=known, machine=HERE)
    return [each.text for each in found]


@pytest.mark.parametrize(
    ("message", "counts"),
    [
        (said(HUGE), True),
        (said(HUGE, priority=3), True),
        (said(HUGE, priority=0), True),
        (said(HUGE, priority=5), False),  # a notice
        (said(HUGE, priority=4, facility=1), False),  # a process wrote it
    ],
)
def test_what_counts(message: KernelMessage, counts: bool) -> None:
    assert left(message) == [HUGE] * counts


def test_what_a_step_wants_is_meant() -> None:
    first, second = said(HUGE, sequence=7), said(HUGE, sequence=8)
    assert left(first, second, meant={7}) == [HUGE]
    assert left(first, second, meant={7, 8}) == []


def test_what_belongs_to_a_report_is_told_by_it() -> None:
    report = [
        said("------------[ cut here ]------------", sequence=1),
        said("WARNING: CPU: 0 PID: 7 at trouble.c:33 trouble_warn+0x10/0x20 [lab_trouble]", sequence=2),
        said("---[ end trace 0000000000000000 ]---", sequence=3),
    ]
    assert left(*report, said(HUGE, sequence=4)) == [HUGE]


@pytest.mark.parametrize(
    ("where", "harmless_here"),
    [
        (Requires(), True),
        (Requires(kernel=(">=6.12",)), True),
        (Requires(kernel=("<6.12",)), False),
        (Requires(arch=("arm64",)), False),
        (Requires(arch=("arm64", "x86_64"), kernel=(">=6",)), True),
    ],
)
def test_harmless_is_so_on_some_kernels(where: Requires, harmless_here: bool) -> None:
    known = Known(re.compile("returned bad count$"), "because", where)
    assert left(said(HUGE), known=Complaints(harmless=(known,))) == [HUGE] * (not harmless_here)
    grave = Complaints(grave=(known,))
    assert left(said(HUGE, priority=6), known=grave) == [HUGE] * harmless_here


def test_findings_have_titles_that_stay() -> None:
    place = Place("read", "x.yaml", 3)
    found = complained([(said(HUGE), place), (said(HUGE.replace("40", "80")), place), (said("x"), place)])
    assert [each.verdict for each in found] == [Verdict.UNCLEAN] * 2
    assert [each.title for each in found] == [
        "the kernel complained: fill_read_buffer: huge_show [lab_x] returned bad count",
        "the kernel complained: x",
    ]
    assert found[0].got == HUGE
    assert found[0].place == place
    assert found[0].notes == ("and 1 times more",)


def test_our_own_list_has_reasons_and_hides_no_complaint() -> None:
    known = known_complaints(HOUSE / "kernels" / "complaints.yaml")
    assert left(said("seq_file: buggy .next function s_next [lab_x]", priority=6), known=known)
    for each in (*known.harmless, *known.grave):
        assert len(each.why) > 10, each
    for each in known.harmless:
        for complaint in (
            HUGE,
            "seq_file: buggy .next function s_next [lab_x] did not update position index",
            "netlink: 'main': attribute type 1 has an invalid length.",
            "debugfs: Directory 'lab_x' with parent '/' already present!",
            "sysfs: cannot create duplicate filename '/kernel/lab_x'",
            "remove_proc_entry: removing non-empty directory '/proc/lab_x', leaking at least 'inner'",
            "lab_x: something",
            "",
        ):
            assert not each.matches.search(complaint), (each, complaint)


@pytest.mark.parametrize(
    "line",
    [
        "lab_x: loading out-of-tree module taints kernel.",
        "lab_x: module license 'CDDL' taints kernel.",
        "lab_x: module license taints kernel.",
        "Disabling lock debugging due to kernel taint",
    ],
)
def test_what_loading_a_module_of_ones_own_makes_the_kernel_say_is_harmless(line: str) -> None:
    assert left(said(line), known=known_complaints(HOUSE / "kernels" / "complaints.yaml")) == []


def test_a_list_that_says_no_reason_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "complaints.yaml"
    file.write_text("grave: []\nharmless: [{matches: x}]\n")
    with pytest.raises(KeyError):
        known_complaints(file)
