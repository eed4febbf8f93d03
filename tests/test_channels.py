# SPDX-License-Identifier: MIT
"""The pages that are made from the heads of the scenario files."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import pytest

from lab.house import HOUSE, SCENARIOS, TREES
from lab.kernels.tree import Trees
from lab.language import reader
from lab.pages import channels
from lab.verbs import table

if TYPE_CHECKING:
    from pathlib import Path

    from lab.scenario import ScenarioFile

HEAD = """\
channel: x
about: What it
  is.
choose: When nothing else will do.
price: A call.
read: ioctl(2)
not_applicable: {blocking: it never waits}
"""


def read(tmp_path: Path, scenarios: str) -> ScenarioFile:
    path = tmp_path / "x.yaml"
    path.write_text(HEAD + "scenarios:\n" + textwrap.indent(textwrap.dedent(scenarios), "  "))
    return reader.load(path, root=tmp_path, verbs=table(), trees=Trees.of(tmp_path / "kmod"))


def test_a_channel_is_explained(tmp_path: Path) -> None:
    page = channels.channels_page([read(tmp_path, "- {name: n, steps: [open: /x]}")])
    assert "| [x](#x) | What it is. |" in page
    assert page.endswith(
        "## x\n\nWhat it is.\n\n"
        "- When to choose it: When nothing else will do.\n"
        "- Its price: A call.\n"
        "- Read: [scenarios/x.yaml](../scenarios/x.yaml) (1 scenarios); ioctl(2)\n"
        "- Does not apply: blocking: it never waits\n"
    )


def test_files_and_calls_make_a_table(tmp_path: Path) -> None:
    page = channels.operations_page(
        read(
            tmp_path,
            """
            - name: "chardev: lseek is refused"
              steps:
                - {open: /dev/x, flags: O_RDWR, as: f}
                - {lseek: $f, offset: 0, whence: SEEK_SET, expect: {errno: ESPIPE}}
            - {name: "procfs: open", about: Why., steps: [{open: /proc/x, flags: O_RDWR}]}
            - name: "procfs: open as it was"
              requires: {kernel: "<6.1"}
              steps: [{open: /proc/x, flags: O_RDWR, expect: {errno: EACCES}}]
            """,
        )
    )
    assert "| [chardev](channels.md#chardev) | ? | ? | ? | `ESPIPE` | ? | ? | ? | ? |" in page
    assert "| [procfs](channels.md#procfs) | works; `EACCES` (<6.1) | ? |" in page
    assert page.endswith("\n- procfs: open: Why.\n")


@pytest.mark.parametrize(
    ("one", "why"),
    [
        ('{name: "other: open", steps: [open: /x]}', "is not 'FILE: CALL'"),
        ('{name: "procfs: read", steps: [open: /x]}', "makes no call read"),
    ],
)
def test_a_pair_is_named_and_made(tmp_path: Path, one: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        channels.operations_page(read(tmp_path, f"- {one}"))


def test_each_call_on_each_file_is_shown() -> None:
    path = SCENARIOS / f"{channels.OPERATIONS}.yaml"
    file = reader.load(path, root=HOUSE, verbs=table(), trees=TREES)
    shown = {channels.pair(each) for each in file.scenarios}
    assert shown == {(kind, call) for kind in channels.FILES for call in channels.CALLS}
