# SPDX-License-Identifier: MIT
"""What `lab new` writes is a tree whose scenarios have no mistakes, and whose fault applies."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from lab.errors import HostError, UsageError
from lab.kernels.tree import Tree, Trees
from lab.language import reader
from lab.new import new
from lab.verbs import table

if TYPE_CHECKING:
    from pathlib import Path


def test_a_starting_point(tmp_path: Path) -> None:
    place = tmp_path / "my-drv"
    made = new(place)
    assert sorted(str(path.relative_to(place)) for path in made) == [
        ".github/workflows/chanlab.yml",
        "Kbuild",
        "faults/nobody-wakes.patch",
        "my_drv.c",
        "pytest.ini",
        "scenarios/my_drv.yaml",
        "uapi/my_drv.h",
    ]
    assert set(Tree(place).modules) == {"my_drv"}
    assert not any("@name@" in path.read_text().lower() for path in made)
    file = reader.load(place / "scenarios/my_drv.yaml", root=place, verbs=table(), trees=Trees.of(place))
    assert len(file.scenarios) == 4
    assert "#define MY_DRV_MAX\t128" in (place / "uapi/my_drv.h").read_text()


@pytest.mark.skipif(shutil.which("patch") is None, reason="this host has no patch(1)")
def test_its_fault_applies(tmp_path: Path) -> None:
    new(tmp_path / "mine")
    patch = (tmp_path / "mine/faults/nobody-wakes.patch").read_bytes()
    words = ["patch", "-p1", "--fuzz=0"]
    subprocess.run(words, cwd=tmp_path / "mine", input=patch, check=True, capture_output=True)
    assert "wake_up" not in (tmp_path / "mine/mine.c").read_text()


@pytest.mark.parametrize("name", ["8ball", "Mine", "a b", "ä", "x" * 41])
def test_a_name_that_no_module_can_have(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="the module would be called"):
        new(tmp_path / name)
    assert not (tmp_path / name).exists()


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    assert new(tmp_path / "mine")
    for there in ("mine", "file"):
        (tmp_path / "file").touch()
        with pytest.raises(UsageError, match="is there already, and not empty"):
            new(tmp_path / there)
    with pytest.raises(HostError, match="file"):
        new(tmp_path / "file" / "below")
