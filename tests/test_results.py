# SPDX-License-Identifier: MIT
"""What `lab channels` knows of earlier runs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from lab import cli
from lab.errors import CacheError
from lab.kernels.tree import Trees
from lab.language import reader
from lab.run import results
from lab.run.record import Finding, Identity, Place, Provenance, Record, Verdict
from lab.run.results import Cell, Records, cells
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


def record(target: str, name: str, wrong: str = "", unsupported: str = "", *, fault: str = "") -> Record:
    findings = (Finding(Verdict.STEP_FAILED, wrong, Place("read", "ioctl.yaml", 3)),) if wrong else ()
    made = Provenance("0", "6.12", "6.12-1", "here", "gcc-14", 7, (fault,) if fault else ())
    return Record(Identity("ioctl", name, "ioctl.yaml", 1, target), findings, unsupported, provenance=made)


RECORDS = [
    record("6.12-x86_64", "fine"),
    record("6.12-x86_64", "broken", "not as wanted"),
    record("6.12-x86_64", "gone"),
    record("6.12-s390x", "elsewhere", unsupported="no PCI"),
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
    files = [
        reader.load(house / "scenarios/ioctl.yaml", root=house, verbs=table(), trees=Trees.of(house / "kmod"))
    ]
    return cells(Records(cache, house), files)


def keep(cache: Cache, root: Path, *records: Record) -> None:
    kept = Records(cache, root)
    for each in records:
        kept.add(each)


def test_nothing_was_run(cache: Cache, house: Path) -> None:
    assert found(cache, house) == []


def test_each_scenarios_last_verdict_counts(cache: Cache, house: Path) -> None:
    keep(cache, house, *RECORDS)
    amd, ibm = found(cache, house)
    assert amd == Cell("ioctl", "6.12-x86_64", 1, {}, {"broken": "step failed: not as wanted"}, not_run=1)
    assert str(amd) == "1 FAILED 1 1?"
    assert ibm == Cell("ioctl", "6.12-s390x", 0, {"no PCI": 1}, {}, not_run=2)
    assert str(ibm) == "1u 2?"
    keep(cache, house, record("6.12-x86_64", "broken"))
    assert str(found(cache, house)[0]) == "2 1?"


def test_another_tree_has_results_of_its_own(cache: Cache, house: Path, tmp_path: Path) -> None:
    keep(cache, tmp_path / "other", *RECORDS)
    assert found(cache, house) == []


def test_the_command(cache: Cache, house: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(house)
    monkeypatch.setenv("CHANLAB_CACHE", str(cache.root))
    none = CliRunner().invoke(cli.main, ["channels"])
    assert "nothing was run here yet" in none.output
    keep(cache, house, *RECORDS)
    told = CliRunner().invoke(cli.main, ["channels"])
    assert told.exit_code == 0
    assert "unsupported: ioctl: no PCI: 6.12-s390x (1)" in told.output
    assert "FAILED 6.12-x86_64: ioctl: broken: step failed: not as wanted" in told.output
    parsed = json.loads(CliRunner().invoke(cli.main, ["channels", "--json"]).output)
    assert [(cell["channel"], cell["target"], cell["passed"]) for cell in parsed] == [
        ("ioctl", "6.12-x86_64", 1),
        ("ioctl", "6.12-s390x", 0),
    ]


def test_a_fault_says_nothing_about_a_channel(cache: Cache, house: Path) -> None:
    keep(cache, house, record("6.12-x86_64", "fine"), record("6.12-x86_64", "fine", "wrong", fault="bad"))
    assert [str(cell) for cell in found(cache, house)] == ["1 2?"]


def test_cleaning_leaves_records_alone(cache: Cache, house: Path) -> None:
    keep(cache, house, *RECORDS)
    cache.remember("fact", 1)
    cache.clean()
    assert len(found(cache, house)) == 2


def test_very_many_records_become_the_last_ones(
    cache: Cache, house: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(cache, house, *RECORDS, *RECORDS, record("6.12-x86_64", "broken", "else", fault="bad"))
    before, kept = found(cache, house), Records(cache, house)
    kept.shorten()
    assert len(kept.path.read_text().splitlines()) == 11
    monkeypatch.setattr(results, "_MOST_BYTES", 100)
    kept.shorten()
    assert len(kept.path.read_text().splitlines()) == 5
    assert found(cache, house) == before


def test_records_of_another_format_are_left_out(cache: Cache, house: Path) -> None:
    keep(cache, house, *RECORDS)
    path = Records(cache, house).path
    path.write_text(path.read_text().replace('"format":1', '"format":0'))
    assert found(cache, house) == []


def test_a_disk_that_takes_nothing_is_told(cache: Cache, house: Path) -> None:
    Records(cache, house).path.mkdir()
    with pytest.raises(CacheError, match="cannot be written: Is a directory"):
        keep(cache, house, *RECORDS)
