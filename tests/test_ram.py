# SPDX-License-Identifier: MIT
"""The memory of templates as it lies on the disk, whole or as what differs from another one."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from lab.guest.ram import compose, copy, difference, ram_digest, reserve

if TYPE_CHECKING:
    from pathlib import Path

PAGE = 4096


def test_a_ram_file_has_its_space_reserved_and_gives_back_what_is_empty(tmp_path: Path) -> None:
    ram = tmp_path / "ram"
    reserve(ram, 4 << 20)
    assert ram.stat().st_size == 4 << 20
    with ram.open("r+b") as file:
        file.seek(1 << 20)
        file.write(b"x" * 100)
        file.seek(3 << 20)
        file.write(bytes(1 << 20))  # written, but empty
    before = ram_digest(ram, thin=False)
    assert ram_digest(ram, thin=True) == before
    assert ram.stat().st_blocks * 512 < 1 << 20
    assert ram_digest(ram, thin=False) == before
    assert ram.stat().st_size == 4 << 20
    assert ram.read_bytes()[1 << 20 : (1 << 20) + 100] == b"x" * 100
    with ram.open("r+b") as file:
        file.seek(2 << 20)
        file.write(b"y")
    assert ram_digest(ram, thin=False) != before


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A RAM file with holes: 4 MiB, of which 300 KiB are not empty."""
    ram = tmp_path / "base"
    reserve(ram, 4 << 20)
    with ram.open("r+b") as file:
        file.seek(1 << 20)
        file.write(os.urandom(300 << 10))
    ram_digest(ram, thin=True)
    return ram


@pytest.mark.parametrize(
    ("changes", "pages"),
    [
        ({}, 0),
        ({0: b"first"}, 1),
        ({(4 << 20) - 4: b"last"}, 1),
        ({(1 << 20) + 10 * PAGE: bytes(PAGE)}, 1),  # a page that has become empty
        ({(2 << 20) + PAGE - 2: b"over", (1 << 20) + 5: b"x", 3 << 20: bytes(PAGE)}, 3),
    ],
)
def test_memory_is_put_together_from_what_differs(
    base: Path, tmp_path: Path, changes: dict[int, bytes], pages: int
) -> None:
    ram, differences = tmp_path / "ram", tmp_path / "differences"
    copy(base, ram)
    with ram.open("r+b") as file:
        for offset, data in changes.items():
            file.seek(offset)
            file.write(data)
    ram_digest(ram, thin=True)
    difference(base, ram, differences)
    assert differences.stat().st_size == 8 + pages * (8 + PAGE)
    with os.fdopen(compose(base, differences), "rb") as file:
        assert file.read() == ram.read_bytes()
        assert os.fstat(file.fileno()).st_blocks * 512 < 1 << 20  # what is empty takes no memory


@pytest.mark.parametrize("harm", [b"", b"\1", (2).to_bytes(8, "little") + bytes(16 + PAGE)])
def test_what_is_no_difference_is_not_put_together(base: Path, tmp_path: Path, harm: bytes) -> None:
    (tmp_path / "differences").write_bytes(harm)
    with pytest.raises(ValueError, match=f"differences has {len(harm)} bytes"):
        compose(base, tmp_path / "differences")
