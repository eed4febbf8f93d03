# SPDX-License-Identifier: MIT
"""Figures and their ratios, and what `lab bench` makes of what it measured; no guest is started."""

from __future__ import annotations

import json
import multiprocessing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from lab.cli import main
from lab.errors import HostError, Unsupported
from lab.guest.cost import Cost
from lab.measure import bench, crew, figures
from lab.measure.bench import Plan
from lab.measure.crew import Shift
from lab.measure.figures import ANOTHER, CLONE, COLD, IN_PLACE, SAME, Report, Row, figure
from lab.measure.stand import Sample, Stand
from lab.settings import load


def row(mode: str, wall: float, *, scenario: str = SAME, rates: dict[int, float] | None = None) -> Row:
    costs = {
        "wall_ms": figure([wall]),
        "steps_ms": figure([wall / 2]),
        "cpu_ms": figure([wall]),
        "blocks": figure([0]),
    }
    return Row(
        mode, scenario, "10.0.13", costs, {count: figure([rate]) for count, rate in (rates or {}).items()}
    )


REPORT = Report(
    "6.12-x86_64",
    (
        row(COLD, 8000),
        row(CLONE, 300, rates={1: 3.0, 2: 5.0}),
        row(IN_PLACE, 40, rates={1: 21.0, 2: 40.0}),
        row(CLONE, 330, scenario=ANOTHER),
        row(IN_PLACE, 55, scenario=ANOTHER),
    ),
    notes=("guests run under tcg",),
)


def test_a_figure_is_a_median() -> None:
    made = figure([30.0, 10.0, 20.0, 1000.0])
    assert (made.median, made.least, made.most, made.runs) == (25.0, 10.0, 1000.0, 4)


def test_ratios_say_how_many_times_better_than_a_clone() -> None:
    clone, in_place = REPORT.rows[1:3]
    better = figures.ratios(in_place, clone)
    assert better == {"wall_ms": 7.5, "steps_ms": 7.5, "cpu_ms": 7.5, "1 worker": 7.0, "2 workers": 8.0}
    assert set(figures.ratios(clone, clone).values()) == {1.0}
    assert figures.ratios(REPORT.rows[0], clone)["wall_ms"] == pytest.approx(0.0375)


def test_each_row_is_compared_with_clones_that_ran_the_same() -> None:
    found = [figures.clone_of(each, REPORT.rows) for each in REPORT.rows]
    assert found == [REPORT.rows[at] for at in (1, 1, 1, 3, 3)]
    assert figures.clone_of(row(IN_PLACE, 1), [row(CLONE, 1, scenario=ANOTHER)]) is None


def test_a_table_has_a_cell_for_each_head() -> None:
    head, rows = figures.table(REPORT)
    assert {len(cells) for cells in rows} == {len(head)}
    cold, _, in_place, _, other = (dict(zip(head, cells, strict=True)) for cells in rows)
    assert (cold["wall ms"], cold["2 workers /s"], cold["x 2 workers"]) == ("8,000", "-", "-")
    assert (in_place["1 worker /s"], in_place["x wall"], in_place["x 2 workers"]) == ("21.0", "7.50", "8.00")
    assert (other["scenario"], other["x wall"], other["private MiB"]) == (ANOTHER, "6.00", "-")


def test_what_was_left_out_is_said_with_the_reason() -> None:
    left = replace(REPORT, rows=REPORT.rows[:2], left_out={IN_PLACE: "QEMU 7 does not know"})
    assert figures.remarks(left) == [
        "medians over 1 (cold), 1 (clone)",
        "QEMU 10.0.13: cold, clone",
        "in place: left out: QEMU 7 does not know",
        "note: guests run under tcg",
    ]
    assert len(figures.table(left)[1]) == 2
    assert figures.to_json(left)["left_out"] == {IN_PLACE: "QEMU 7 does not know"}


def sample(wall: float, life: int) -> Sample:
    return Sample(dict.fromkeys(figures.COSTS, wall), life)


def test_a_clone_among_guests_in_place_does_not_count() -> None:
    samples = [sample(400, 1), sample(40, 2), sample(42, 3)]
    assert bench.costs(IN_PLACE, samples)["wall_ms"] == figure([40, 42])
    assert bench.costs(CLONE, samples)["wall_ms"].runs == 3
    with pytest.raises(HostError, match="none of 1 guests was restored in place"):
        bench.costs(IN_PLACE, samples[:1])


def test_workers_must_be_in_the_mode_that_is_measured() -> None:
    bench.check(IN_PLACE, [Shift(20, 20, 1.0), Shift(20, 18, 1.0)])
    bench.check(CLONE, [Shift(20, 0, 1.0)])
    with pytest.raises(HostError, match="only 5 of 40 guests"):
        bench.check(IN_PLACE, [Shift(20, 5, 1.0), Shift(20, 0, 1.0)])


def test_in_place_is_what_a_run_has_and_the_rest_what_it_would_have_without(tmp_path: Path) -> None:
    own = load({}, {"CHANLAB_CACHE": str(tmp_path), "CHANLAB_QEMU": "/opt/qemu"})
    for stock, qemu in ((False, Path("/opt/qemu")), (True, None)):
        made = bench.modes(own, stock=stock)
        assert made[IN_PLACE][0] == own
        assert own.turbo
        assert made[IN_PLACE][1].in_place
        for mode in (COLD, CLONE):
            settings, wishes = made[mode]
            assert settings.qemu == qemu
            assert not settings.turbo
            assert not wishes.in_place
            assert wishes.cold == (mode == COLD)


class FakeLab:
    """Runs scenarios in a moment, in a guest that takes a while to look at."""

    def __init__(self, problem: str = "") -> None:
        self.problem = problem
        self.unsupported: set[str] = set()
        self.images: dict[str, bytes] = {"lab_x": b""}

    def run(self, target: Any, scenario: Any, *, afterwards: Any) -> Any:
        afterwards(SimpleNamespace(process=SimpleNamespace(life=4), private_kib=lambda: 51200))
        from lab.run.record import Finding, Identity, Record, Seconds, Verdict

        findings = (Finding(Verdict.HUNG, self.problem),) if self.problem else ()
        return Record(Identity("x", "a", "x.yaml", 1, "here"), findings, seconds=Seconds(steps=0.25))

    def target(self, target: Any) -> Any:
        return self

    def check(self, scenario: Any) -> None:
        if scenario.name in self.unsupported:
            raise Unsupported("not here")

    def notes(self) -> list[str]:
        return ["6.12-x86_64: each guest is a clone: memory 'x' is shared", "another"]


def stand(lab: FakeLab, monkeypatch: pytest.MonkeyPatch, clock: list[float]) -> Stand:
    made = Stand(lab, None)  # type: ignore[arg-type]  # FakeLab
    times = iter(clock)
    monkeypatch.setattr("lab.measure.stand.time.perf_counter", lambda: next(times))
    monkeypatch.setattr(made._meter, "read", lambda guest: Cost(15, 0.025))
    return made


def test_asking_for_the_cost_is_not_part_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    # A start, asking from 2.0 to 2.5, and the end.
    made = stand(FakeLab(), monkeypatch, [1.0, 2.0, 2.5, 3.0]).sample(SimpleNamespace(id="a"))  # type: ignore[arg-type]
    assert made.costs == {"wall_ms": 1500, "steps_ms": 250, "cpu_ms": 25, "blocks": 15, "private_mib": 50}
    assert made.costs.keys() == figures.COSTS.keys()
    assert made.life == 4


def test_a_scenario_that_fails_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(HostError, match=r"did not pass: a(?s:.*)hung: it sleeps"):
        stand(FakeLab("it sleeps"), monkeypatch, [1, 2, 3, 4]).sample(SimpleNamespace(id="a"))  # type: ignore[arg-type]


def test_the_others_are_those_that_the_same_guest_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    from lab.scenario import ActorSpec, BootOptions, ModuleLoad, Scenario, SplatWanted

    subject = Scenario("s", "s", Path("x"), 1, "x", modules=(ModuleLoad("lab_x"),))
    good = replace(subject, name="good")
    bad = [
        replace(subject, name="modules", modules=()),
        replace(subject, name="boot", boot=BootOptions(devices=("edu",))),
        replace(subject, name="splat", expect_splat=SplatWanted("WARNING")),
        replace(subject, name="lost", expect_verdict="lost"),
        replace(subject, name="beside", actors=(ActorSpec("a"), ActorSpec("b"))),
        replace(subject, name="word", actors=(ActorSpec("a", word=32),)),
        replace(subject, name="unsupported"),
    ]
    lab = FakeLab()
    lab.unsupported = {"unsupported"}
    assert Stand(lab, None).like(subject, [*bad, good]) == [good]  # type: ignore[arg-type]  # FakeLab


def test_the_reason_of_clones_is_the_pools() -> None:
    made = Stand(FakeLab(), None)  # type: ignore[arg-type]  # FakeLab
    assert made.why_clones() == "memory 'x' is shared"


def test_the_rate_of_workers_adds_up() -> None:
    assert crew.rate([Shift(10, 0, 2.0), Shift(9, 0, 3.0)]) == 8.0


def test_what_a_worker_says_is_told_and_its_end_too() -> None:
    ours, theirs = multiprocessing.Pipe()
    theirs.send(Shift(3, 3, 1.0))
    assert crew._answer(ours, 1.0) == Shift(3, 3, 1.0)
    theirs.send("a worker of the benchmark: no kernel")
    with pytest.raises(HostError, match="no kernel"):
        crew._answer(ours, 1.0)
    with pytest.raises(HostError, match=r"did not answer within 0.01 s"):
        crew._answer(ours, 0.01)
    theirs.close()
    with pytest.raises(HostError, match="ended without a word"):
        crew._answer(ours, 1.0)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Any]:
    """Give `lab bench` something that was measured; returns the plans that it had."""
    plans: list[Any] = []

    def measure(settings: Any, progress: Any, plan: Plan) -> Any:
        plans.append(plan)
        yield REPORT
        if "all" in plan.arches:
            yield Report("6.12-s390x", failed="no QEMU\n  fetch one")

    monkeypatch.setattr(bench, "measure", measure)
    monkeypatch.setenv("CHANLAB_CACHE", str(tmp_path))
    return plans


def test_the_command_shows_a_table_a_target(measured: list[Any]) -> None:
    done = CliRunner().invoke(main, ["bench", "-n", "7", "--workers", "2", "--stock"])
    assert done.exit_code == 0
    assert measured == [Plan("6.12", ("x86_64",), 7, 2, stock=True)]
    assert "6.12-x86_64\nmode " in done.output
    assert "in place  the same  40" in done.output
    assert done.output.splitlines()[-1] == "note: guests run under tcg"


def test_a_target_that_failed_does_not_hide_the_others(measured: list[Any]) -> None:
    done = CliRunner().invoke(main, ["bench", "--arch", "all"])
    assert done.exit_code == 1
    assert "in place  the same  40" in done.output
    assert "FAILED 6.12-s390x: no QEMU\n  fetch one" in done.output


def test_the_command_speaks_json(measured: list[Any]) -> None:
    done = CliRunner().invoke(main, ["bench", "--arch", "all", "--json"])
    said = json.loads(done.stdout)
    assert "CPU" in said["host"]
    good, bad = said["targets"]
    assert bad == {
        "target": "6.12-s390x",
        "rows": [],
        "left_out": {},
        "failed": "no QEMU\n  fetch one",
        "notes": [],
    }
    in_place = good["rows"][2]
    assert (in_place["mode"], in_place["scenario"], in_place["wall_ms"]["median"]) == (
        "in place",
        "the same",
        40,
    )
    assert in_place["scenarios_a_second"]["2"]["median"] == 40.0
    assert in_place["times_a_clone"]["2 workers"] == 8.0
