# SPDX-License-Identifier: MIT
"""Runs written down and compared."""

from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner

from lab.cli import main
from lab.errors import UsageError
from lab.language.outcome import Outcome
from lab.run import journal
from lab.run.record import Finding, Identity, Record, Verdict
from lab.verbs.names import Status


@dataclass(frozen=True, kw_only=True)
class Read(Outcome):
    data: bytes | None = None


def written(path: Path, *, data: bytes = b"hello", verdict: str = "", name: str = "a") -> Path:
    findings = (Finding(Verdict.STEP_FAILED, verdict),) if verdict else ()
    here = Identity("x", name, "x.yaml", 1, "6.12-x86_64")
    record = Record(here, findings, outcomes=(Read(returns=len(data), data=data),), said=("one", "two"))
    journal.write(path, record, ["lab_core"])
    return path


def test_what_a_scenario_gave_is_written_down(tmp_path: Path) -> None:
    path = written(tmp_path / "j")
    written(path, name="b", verdict="wrong", data=bytes(100))
    found = journal.read(path)
    assert found["x: a [6.12-x86_64]"] == {
        "verdict": "passed",
        "step 0.returns": "5",
        "step 0.data": b"hello".hex(),
        "messages": "one\ntwo",
        "modules": "lab_core",
    }
    other = found["x: b [6.12-x86_64]"]
    assert other["verdict"] == "step failed"
    assert other["finding 0"].startswith("wrong / ")
    assert other["step 0.data"].startswith(
        "100 cd00e292c5970d3c5e2f0ffa5171e555bc46bfc4faddfb4a418b6840b86e79a3"
    )


@pytest.mark.parametrize(
    ("change", "told"),
    [({}, []), ({"data": b"hellO"}, ["step 0.data"]), ({"verdict": "no"}, ["verdict", "finding 0"])],
)
def test_differences_are_told(tmp_path: Path, change: dict[str, bytes | str], told: list[str]) -> None:
    one = written(tmp_path / "one")
    other = written(tmp_path / "other", **change)  # type: ignore[arg-type]
    done = CliRunner().invoke(main, ["compare", str(one), str(other)])
    assert done.exit_code == bool(told)
    assert f"{len(told)} differences" in done.output
    for value in told:
        assert f"x: a [6.12-x86_64]: {value}: " in done.output


def test_what_is_unsteady_anyway_says_nothing(tmp_path: Path) -> None:
    ones = [written(tmp_path / name, data=name.encode()) for name in ("a", "b")]
    found = journal.compare(
        [journal.read(one) for one in ones], journal.read(written(tmp_path / "c", data=b"c"))
    )
    assert (found.differences, found.unsteady) == ([], 1)
    long = journal.read(written(tmp_path / "d", data=b"long"))
    differences = journal.compare([journal.read(one) for one in ones], long).differences
    assert differences == ["x: a [6.12-x86_64]: step 0.returns: '1', '4'"]


def test_what_only_one_has_is_told(tmp_path: Path) -> None:
    one = journal.read(written(tmp_path / "one"))
    assert journal.compare([one], {}).missing == ["x: a [6.12-x86_64]"]


@pytest.mark.parametrize("text", ["no json", "[]", '{"scenario": "a"}'])
def test_what_is_no_journal(tmp_path: Path, text: str) -> None:
    (tmp_path / "j").write_text(f"{text}\n")
    with pytest.raises(UsageError, match="j:1: this is no journal"):
        journal.read(tmp_path / "j")


def test_a_journal_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be written: No such file or directory"):
        written(tmp_path / "no" / "j")


def test_when_a_run_was_is_no_difference() -> None:
    assert [journal._flat(Status(mode=0o644, mtime=when)) for when in (5, 6)] == [[(".mode", "420")]] * 2
