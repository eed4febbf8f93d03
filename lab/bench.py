# SPDX-License-Identifier: MIT
"""What a scenario costs on this host: medians over many runs, to be compared by ratio in one run."""

from __future__ import annotations

import json
import multiprocessing
import statistics
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from lab import scenario as scenario_
from lab.errors import HostError
from lab.guest.pool import Pool
from lab.prepare import HOUSE, Lab, Wishes
from lab.progress import Progress
from lab.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.synchronize import Barrier

    from lab.guest.machine import Guest
    from lab.kernels.model import Target
    from lab.scenario import Scenario
    from lab.settings import Settings

SUBJECT = HOUSE / "scenarios" / "ioctl.yaml"  # its first scenario is the one that is timed
_WORKERS = (1, 2)
_SETTLE_SECONDS = 0.5  # for a QEMU to have become a waiting one


@dataclass(frozen=True)
class Figure:
    """One measured quantity."""

    name: str
    unit: str
    median: float
    least: float
    most: float
    runs: int


def figure(name: str, unit: str, values: list[float]) -> Figure:
    """Return the figure of some measured values, of which there is at least one."""
    return Figure(name, unit, statistics.median(values), min(values), max(values), len(values))


def main(settings: Settings, progress: Progress, *, kernel: str, arch: str, runs: int, as_json: bool) -> None:
    """Measure and print; raises LabError where the target or the subject cannot be had."""
    lab = Lab(settings, Wishes(seed=0), progress)
    try:
        (target,) = lab.targets([kernel], [arch], ["stock"])
        subject = scenario_.load(SUBJECT, root=HOUSE).scenarios[0]
        lab.expect(target, subject, runs)
        lab.ready(target, subject)
        figures = []
        for made in _figures(lab, target, subject, settings, runs):
            progress.note(f"  {made.name}: {made.median:.1f} {made.unit}")
            figures.append(made)
        notes = lab.notes()
    finally:
        lab.close()
    if as_json:
        print(json.dumps({"target": str(target), "notes": notes, "figures": [asdict(f) for f in figures]}))
        return
    print(f"{target}: medians over {runs} runs")
    for made in figures:
        print(f"  {made.name:<44} {made.median:8.1f} {made.unit:<4} ({made.least:.1f} to {made.most:.1f})")
    for note in notes:
        print(f"  note: {note}")


def _figures(lab: Lab, target: Target, subject: Scenario, settings: Settings, runs: int) -> Iterator[Figure]:
    parts = lab.target(target)
    spec = parts.spec(subject.boot)
    template = parts.template(subject.boot, spec)
    with Pool(None, spec, seed=0, cold=True) as pool:
        yield figure("cold boot to agent", "ms", [_take(pool) for _ in range(runs)])
    private: list[float] = []

    def weigh(guest: Guest) -> None:
        private.append(guest.private_kib() / 1024)

    with Pool(template, spec, seed=0, waiting=1) as pool:
        values = []
        for _ in range(runs):
            time.sleep(_SETTLE_SECONDS)
            values.append(_take(pool, weigh))
    yield figure("restore to first reply, a clone waiting", "ms", values)
    yield figure("private memory of a clone", "MiB", private)
    with Pool(template, spec, seed=0, waiting=0) as pool:
        yield figure("restore to first reply, from nothing", "ms", [_take(pool) for _ in range(runs)])
    yield figure("a whole scenario, one after the other", "ms", _scenarios(lab, target, subject, runs))
    for workers in _WORKERS:
        yield _throughput(settings, target, workers, runs)


def _take(pool: Pool, then: Callable[[Guest], None] | None = None) -> float:
    """Return the milliseconds until a guest has answered."""
    started = time.perf_counter()
    with pool.take() as guest:
        took = (time.perf_counter() - started) * 1000
        if then is not None:
            then(guest)
    return took


def _scenarios(lab: Lab, target: Target, subject: Scenario, runs: int) -> list[float]:
    """Return the milliseconds of each of some runs of a scenario, guests and all."""
    values = []
    for _ in range(runs):
        started = time.perf_counter()
        result = lab.run(target, subject)
        values.append((time.perf_counter() - started) * 1000)
        if result.verdict is not Verdict.PASSED:
            raise HostError(f"the scenario that is timed did not pass\n{result.report()}")
    return values


def _throughput(settings: Settings, target: Target, workers: int, runs: int) -> Figure:
    """Return scenarios a second of some processes side by side, as pytest -n has them."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(workers)
    results = context.SimpleQueue()
    processes = [
        context.Process(
            target=_worker, args=(settings, str(target.name), target.kernel.arch, runs, barrier, results)
        )
        for _ in range(workers)
    ]
    for process in processes:
        process.start()
    rates: list[float] = []
    for process in processes:
        process.join()
        if process.exitcode != 0:
            raise HostError(f"a worker of the benchmark ended with {process.exitcode}")
        rates.append(results.get())
    total = sum(rates)
    plural = "s" if workers > 1 else ""
    return Figure(f"scenarios a second, {workers} worker{plural}", "/s", total, total, total, runs * workers)


def _worker(
    settings: Settings,
    kernel: str,
    arch: str,
    runs: int,
    barrier: Barrier,
    results: multiprocessing.SimpleQueue[float],
) -> None:
    lab = Lab(settings, Wishes(seed=0), Progress(quiet=True))
    try:
        (target,) = lab.targets([kernel], [arch], ["stock"])
        subject = scenario_.load(SUBJECT, root=HOUSE).scenarios[0]
        lab.expect(target, subject, runs)
        lab.ready(target, subject)
        _scenarios(lab, target, subject, 2)  # what is made at first use is not what is measured
        barrier.wait()
        started = time.perf_counter()
        _scenarios(lab, target, subject, runs)
        results.put(runs / (time.perf_counter() - started))
    finally:
        lab.close()
