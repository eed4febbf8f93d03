# SPDX-License-Identifier: MIT
"""What `lab channels` knows of earlier runs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from lab import cli
from lab.language import reader
from lab.run import results
from lab.run.results import Cell, Row
from lab.store.cache import Cache
from lab.verbs import table

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FILE = """channel: ioctl
scenarios:
  - {name: fine, steps: [open: /dev/null]}
  - {name: broken, steps: [open: /dev/null]}
  - {name: elsewhere, steps: [open: /dev/null]}
"""
ROWS = [
    Row("6.12-x86_64", "ioctl", "fine", "passed"),
    Row("6.12-x86_64", "ioctl", "broken", "step failed", "not as wanted"),
    Row("6.12-x86_64", "ioctl", "gone", "passed"),
    Row("6.12-s390x", "ioctl", "elsewhere", "unsupported", "no PCI"),
]


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Cache]:
    made = Cache(tmp_path / "cache")
    yield made
    made.close()


@pytest.fixture
def house(tmp_path: Path) -> Path:
    (tmp_path / "scenarios").mkdir()
    (tmp_path / "scenarios" / "ioctl.yaml").write_text(FILE)
    return tmp_path


def found(cache: Cache, house: Path) -> list[Cell]:
    return results.cells(
        cache, house, [reader.load(house / "scenarios/ioctl.yaml", root=house, verbs=table())]
    )


def test_nothing_was_run(cache: Cache, house: Path) -> None:
    assert found(cache, house) == []


def test_each_scenarios_last_verdict_counts(cache: Cache, house: Path) -> None:
    results.record(cache, house, ROWS)
    amd, ibm = found(cache, house)
    assert amd == Cell("ioctl", "6.12-x86_64", 1, {}, {"broken": "step failed: not as wanted"}, not_run=1)
    assert str(amd) == "1 FAILED 1 1?"
    assert ibm == Cell("ioctl", "6.12-s390x", 0, {"no PCI": 1}, {}, not_run=2)
    assert str(ibm) == "1u 2?"
    results.record(cache, house, [Row("6.12-x86_64", "ioctl", "broken", "passed")])
    assert str(found(cache, house)[0]) == "2 1?"


def test_another_tree_has_results_of_its_own(cache: Cache, house: Path, tmp_path: Path) -> None:
    results.record(cache, tmp_path / "other", ROWS)
    assert found(cache, house) == []


def test_the_command(cache: Cache, house: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(house)
    monkeypatch.setenv("CHANLAB_CACHE", str(cache.root))
    none = CliRunner().invoke(cli.main, ["channels"])
    assert "nothing was run here yet" in none.output
    results.record(cache, house, ROWS)
    told = CliRunner().invoke(cli.main, ["channels"])
    assert told.exit_code == 0
    assert "unsupported: ioctl: no PCI: 6.12-s390x (1)" in told.output
    assert "FAILED 6.12-x86_64: ioctl: broken: step failed: not as wanted" in told.output
    parsed = json.loads(CliRunner().invoke(cli.main, ["channels", "--json"]).output)
    assert [(cell["channel"], cell["target"], cell["passed"]) for cell in parsed] == [
        ("ioctl", "6.12-x86_64", 1),
        ("ioctl", "6.12-s390x", 0),
    ]
