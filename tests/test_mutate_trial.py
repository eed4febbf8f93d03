# SPDX-License-Identifier: MIT
"""How mutants are tried: which scenarios first, until when, and what stops a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lab.errors import BuildFailed, LabError, Unsupported
from lab.mutate import operators
from lab.mutate.journal import Journal, Outcome
from lab.mutate.journal import Verdict as Became
from lab.mutate.trial import NotWell, Subject, Trial
from lab.progress import Progress
from lab.run.record import Finding, Identity, Place, Record, Seconds, Verdict
from lab.scenario import Scenario

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SOURCE = b"""\
void lab_first(void)
{
	one();
	two();
	three();
}

void lab_second(void)
{
	four();
}
"""
DATA = Path(__file__).parent / "data"
AS_IT_IS, CHANGED = ((DATA / f"probe-{name}.elf").read_bytes() for name in ("gcc10-dwarf4", "gcc14-dwarf5"))
HERE = Identity("x", "", "scenarios/x.yaml", 1, "here")


def scenario(name: str) -> Scenario:
    return Scenario(name, name, Path("scenarios/x.yaml"), 1, "x")


class Stand:
    """A lab whose guests notice what they are told to notice."""

    def __init__(self, notices: Mapping[str, str], **how: Any) -> None:
        self.notices = notices  # the scenario that fails, by the call that is missing
        self.how = how
        self.progress = Progress(quiet=True)
        self.images = {"lab_x": AS_IT_IS}
        self.ran: list[tuple[str, str]] = []  # scenarios, with what was missing
        self.again: list[tuple[str, str]] = []  # those that were made again and again

    def target(self, _target: Any) -> Stand:
        return self

    def expect(self, *_args: Any) -> None: ...

    def ready(self, _target: Any, each: Scenario) -> None:
        if each.name == self.how.get("unsupported"):
            raise Unsupported("not here")

    def mutated(self, patch: Path, module: str, needs: Sequence[str]) -> dict[str, bytes]:
        assert (module, needs) == ("lab_x", ["lab_core"])
        missing = self._missing(patch)
        if missing == self.how.get("broken"):
            raise BuildFailed("it does not compile", "x.c:3: error")
        return {"lab_x": AS_IT_IS if missing == self.how.get("identical") else CHANGED}

    def run(
        self,
        _target: Any,
        each: Scenario,
        *,
        patches: Sequence[Path] = (),
        images: Any = None,
        leaks: bool = False,
    ) -> Record:
        missing = self._missing(patches[0]) if patches else ""
        assert (images is not None) == bool(patches)
        if leaks:
            self.again.append((each.name, missing))
            grows = (each.name, missing) in self.how.get("leaks", ())
            return Record(HERE, (Finding(Verdict.UNCLEAN, "filp grows"),) if grows else ())
        self.ran.append((each.name, missing))
        if not missing:
            bad = each.name == self.how.get("failing") and len(self.ran) > self.how.get("after", 0)
            return Record(HERE, (Finding(Verdict.LOST, "it died"),) if bad else ())
        if missing == self.how.get("trouble"):
            return Record(HERE, (Finding(Verdict.LAB_ERROR, "no memory"),))
        if self.notices.get(missing) != each.name:
            return Record(HERE)
        found = Finding(Verdict.STEP_FAILED, "read failed: EIO", Place("{read: $r}"))
        return Record(HERE, (found,), seconds=Seconds(steps=self.how.get("seconds", 0.1)))

    @staticmethod
    def _missing(patch: Path) -> str:
        return next(line[2:-3] for line in patch.read_text().splitlines() if line.startswith("-\t"))


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "mutants.jsonl", "as it is")


def trial(stand: Stand, journal: Journal, names: str = "a b c") -> list[tuple[str, Outcome]]:
    subject = Subject("x", SOURCE, tuple(map(scenario, names.split())))
    tried = Trial(stand, None, subject, journal).run(operators.mutants(SOURCE))  # type: ignore[arg-type]
    return [(mutant.text, outcome) for mutant, outcome in tried]


def test_it_stops_at_the_first_failure_and_tries_first_what_caught_there(journal: Journal) -> None:
    stand = Stand({"one": "b", "two": "b", "four": "c"})
    found = trial(stand, journal)
    assert [(text, outcome.verdict.value, outcome.scenario) for text, outcome in found] == [
        ("one();", "caught", "b"),
        ("two();", "caught", "b"),
        ("three();", "survived", ""),
        ("four();", "caught", "c"),
    ]
    assert found[0][1].seen == "step failed: read failed: EIO: {read: $r}"
    assert stand.ran == [
        *(("a", ""), ("b", ""), ("c", "")),
        *(("a", "one"), ("b", "one")),
        ("b", "two"),
        *(("b", "three"), ("a", "three"), ("c", "three")),
        *(("a", "four"), ("b", "four"), ("c", "four")),
    ]


def test_what_nobody_noticed_may_leak(journal: Journal) -> None:
    leaky = [("a", ""), ("a", "two"), ("b", "two"), ("a", "three")]
    stand = Stand({"one": "b", "four": "c"}, leaks=leaky)
    found = trial(stand, journal)
    assert [(outcome.verdict.value, outcome.scenario) for _, outcome in found] == [
        ("caught", "b"),
        ("caught", "b"),  # not by a, which leaks by itself
        ("survived", ""),
        ("caught", "c"),
    ]
    assert found[1][1].seen == "unclean: filp grows: "
    assert stand.again[:4] == [("b", "two"), ("b", ""), ("b", "three"), ("a", "three")]


def test_what_is_known_is_not_tried_again(journal: Journal) -> None:
    found = trial(Stand({"one": "b"}), journal)
    again = Stand({})
    assert trial(again, journal) == found
    assert again.ran == []


def test_after_a_change_what_caught_it_last_is_tried_first(journal: Journal, tmp_path: Path) -> None:
    trial(Stand({"four": "c"}), journal)
    again = Stand({"four": "c"})
    trial(again, Journal(tmp_path / "mutants.jsonl", "changed"))
    assert [ran for ran in again.ran if ran[1] == "four"] == [("c", "four")]


def test_what_does_not_build_or_is_the_same_is_not_run(journal: Journal) -> None:
    stand = Stand({}, broken="one", identical="two")
    verdicts = [outcome.verdict for _, outcome in trial(stand, journal)]
    assert verdicts == [Became.NO_BUILD, Became.IDENTICAL, Became.SURVIVED, Became.SURVIVED]
    assert {missing for _, missing in stand.ran} == {"", "three", "four"}


def test_what_the_target_cannot_do_is_left_out(journal: Journal) -> None:
    stand = Stand({}, unsupported="b")
    trial(stand, journal)
    assert {name for name, _ in stand.ran} == {"a", "c"}
    with pytest.raises(NotWell, match="can do none"):
        trial(Stand({}, unsupported="b"), replace_inputs(journal), "b")


def replace_inputs(journal: Journal) -> Journal:
    return Journal(journal._path, "something else")


def test_a_scenario_that_fails_without_a_mutant_ends_it(journal: Journal) -> None:
    with pytest.raises(NotWell, match="b on None without a mutant: lost: it died"):
        trial(Stand({}, failing="b"), journal)


def test_trouble_of_the_host_is_no_verdict_and_what_was_found_is_kept(journal: Journal) -> None:
    with pytest.raises(LabError, match=r"with lab_first: drop statement: three.*no memory"):
        trial(Stand({"one": "a", "two": "a"}, trouble="three"), journal)
    again = Stand({"one": "a", "two": "a"})
    assert len(trial(again, journal)) == 4
    assert {missing for _, missing in again.ran} == {"three", "four"}


def test_a_failure_that_took_long_is_held_against_the_scenario_without_it(journal: Journal) -> None:
    stand = Stand({"one": "a"}, seconds=10.0)
    trial(stand, journal)
    assert stand.ran[3:5] == [("a", "one"), ("a", "")]
    busy = Stand({"one": "a"}, seconds=10.0, failing="a", after=4)
    with pytest.raises(NotWell, match="failed without a mutant, too"):
        trial(busy, replace_inputs(journal))
