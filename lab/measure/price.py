# SPDX-License-Identifier: MIT
"""What a round trip of each channel costs in instructions of the guest, the same number each time.

The guests have one CPU, and a clock that QEMU makes of the instructions executed (`-icount`): nothing that
the host does is in a figure. Each trip is made in guests of two boots, whose figures must agree.
"""

from __future__ import annotations

import json
import statistics
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from lab.errors import BuildFailed, GuestError, LabError, ModuleFailed, Unsupported, UsageError
from lab.guest.pool import Pool
from lab.guest.template import template
from lab.house import HOUSE, SCENARIOS, TREES, WISHES
from lab.language import reader
from lab.measure import price_list as list_
from lab.measure import trip as trip_
from lab.measure.price_list import Prices
from lab.pages import channels
from lab.run import runner
from lab.run.lab import Lab
from lab.scenario import BootOptions
from lab.store.cache import digest, tree_digest
from lab.verbs import table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from lab.kernels.model import Target
    from lab.progress import Progress
    from lab.run.ready import Ready
    from lab.scenario import ScenarioFile, Trip
    from lab.settings import Settings

    Show = Callable[[Sequence[str], Iterable[Sequence[str]]], None]  # a head and rows

COMMITTED = channels.PRICES
AGREE: Final = 0.01  # of a price: by how much two guests may differ, half of the change that is told
_PATIENCE: Final = 120.0  # seconds for a step: a guest that counts is slower, and nobody hunts hangs here
_FORMAT: Final = 2
# What decides how a trip becomes a program.
_CODE = (
    "measure/trip.py",
    "run/session.py",
    "run/cast.py",
    "guest/layouts.py",
    "guest/rounds.py",
    "guest/wire.py",
    "language/*.py",
    "verbs/*.py",
    "packets/*.py",
)


@dataclass(frozen=True)
class Wanted:
    """What the command line asks for."""

    kernels: Sequence[str]
    arches: Sequence[str]
    channels: Sequence[str] = ()  # none: all
    patches: tuple[Path, ...] = ()  # of the modules
    against: Path | None = None  # None: the committed prices
    write: bool = False
    as_json: bool = False


@dataclass
class _Found:
    """What came of it."""

    targets: dict[str, Prices] = field(default_factory=dict)
    troubles: list[str] = field(default_factory=list)


def main(settings: Settings, progress: Progress, wanted: Wanted, show: Show) -> bool:
    """Measure, print (tables by `show`) and compare.

    Returns whether every trip did what it says and costs what it did. Raises LabError where a target, a
    channel or a file cannot be had.
    """
    before = {} if wanted.write else list_.read(wanted.against or COMMITTED)
    if wanted.against is not None and not before:
        raise UsageError(
            f"there are no prices in {wanted.against}", hint="`lab price --json` prints such a file"
        )
    files = _files(wanted.channels)
    found = _measure(settings, progress, wanted, files)
    changes = list(list_.changes(before, found.targets))
    if wanted.write and not found.troubles:  # what failed would be left at its old price
        list_.write(COMMITTED, found.targets)
        page = channels.pages()["channels.md"]
        (COMMITTED.parent / "channels.md").write_text(page, encoding="utf-8")
    if wanted.as_json:
        told = {"changes": [str(each) for each in changes], "troubles": found.troubles}
        print(json.dumps({**list_.to_json(found.targets), **told}, indent=1))
    else:
        _print(show, files, found, before, [str(each) for each in changes])
    return not (changes or found.troubles)


def _print(
    show: Show, files: Sequence[ScenarioFile], found: _Found, before: dict[str, Prices], changes: list[str]
) -> None:
    show(("channel", "round trip", "bytes", *found.targets), list_.rows(files, found.targets))
    print("instructions of the guest, kernel and program, for one round trip")
    for name, prices in found.targets.items():
        for channel, why in prices.unsupported.items():
            print(f"unsupported: {name}: {channel}: {why}")
    for line in found.troubles:
        print(f"FAILED {line}")
    for name, prices in found.targets.items():
        if before and name not in before:
            print(f"{name}: nothing to compare with")
        elif before and before[name].release != prices.release:
            print(f"{name}: compared with {before[name].release}, this is {prices.release}")
    for line in changes:
        print(f"CHANGED {line}")
    if not changes and before.keys() & found.targets.keys():
        print(f"no price changed by {100 * list_.CHANGE:g} % or more")


def _files(channels: Sequence[str]) -> list[ScenarioFile]:
    """Return the scenario files of the channels; raises UsageError for one that is not or has no trip."""
    paths = {path.stem: path for path in sorted(SCENARIOS.glob("*.yaml"))}
    for name in channels:
        if name not in paths:
            raise UsageError(f"no channel is called {name!r}", hint=f"there are: {', '.join(paths)}")
    files = [
        reader.load(paths[name], root=HOUSE, verbs=table(), trees=TREES)
        for name in paths
        if not channels or name in channels
    ]
    for file in files:
        if channels and not file.trips:
            raise UsageError(f"{file.channel} has no round trip: {file.no_trip}")
    return [file for file in files if file.trips]


def _measure(settings: Settings, progress: Progress, wanted: Wanted, files: Sequence[ScenarioFile]) -> _Found:
    found = _Found()
    lab = Lab(settings, replace(WISHES, patches=wanted.patches), progress)
    try:
        for target in lab.targets(wanted.kernels, wanted.arches, ["stock"]):
            _target(lab, target, files, found)
    finally:
        lab.close()
    return found


def _target(lab: Lab, target: Target, files: Sequence[ScenarioFile], found: _Found) -> None:
    parts = lab.target(target)
    trips: dict[str, dict[int, int]] = {}
    unsupported: dict[str, str] = {}
    wanted = [(file.channel, trip) for file in files for trip in file.trips]
    with lab.progress.task(f"counting {len(wanted)} trips on {target}", len(wanted)) as task:
        for channel, trip in wanted:
            try:
                trips.setdefault(channel, {})[trip.bytes] = _price(lab, parts, trip)
            except Unsupported as error:
                unsupported[channel] = str(error)
            except (GuestError, BuildFailed, Disagree) as error:
                found.troubles.append(f"{target}: {channel}, {trip.bytes} bytes: {error.message}")
            task.advance(1)
    trips = {channel: each for channel, each in trips.items() if each}
    spec = parts.spec(BootOptions())
    found.targets[str(target)] = Prices(target.kernel.release, spec.qemu.version, trips, unsupported)


class Disagree(LabError):  # noqa: N818 - what happened
    """Guests do not give the same number."""


def _price(lab: Lab, parts: Ready, trip: Trip) -> int:
    """Return what a round trip costs, from the cache where nothing has changed since it was measured."""
    parts.check(trip.scenario)
    for name in trip.scenario.loads:
        if name in parts.modules.failed:
            raise ModuleFailed(f"{name} does not compile", parts.modules.failed[name])
    trip = replace(trip, scenario=replace(trip.scenario, modules=parts.loads(trip.scenario.modules)))
    spec = parts.spec(trip.scenario.boot)
    spec = replace(spec, accel="tcg", counted=True, cpus=1)
    key = f"price-{digest(_FORMAT, spec.key(), *_ingredients(parts, trip))}"
    known = lab.cache.recall(key)
    if isinstance(known, int):
        return known
    # Guests of two boots: what a boot leaves to chance is the same in all clones of one.
    boots = [spec, replace(spec, cmdline=(*spec.cmdline, "chanlab.boot=2"))]
    with ExitStack() as stack:
        pools = [
            stack.enter_context(
                Pool(template(each, lab.cache, lab.progress), each, waiting=0, in_place=False)
            )
            for each in boots
        ]
        price = agreed(lambda number: _count(pools[number % 2], parts, trip, number))
    lab.cache.remember(key, price)
    return price


def agreed(count: Callable[[int], int]) -> int:
    """Return the mean of what two guests count; where they differ, that of the middle three of five.

    Between threads the way through the scheduler is not always the same. `count` is told which guest it is.
    Raises Disagree when those three differ, too.
    """
    prices = sorted(count(number) for number in range(2))
    if _differ(prices):
        prices = sorted([*prices, *(count(number) for number in range(2, 5))])
        if _differ(prices[1:4]):
            raise Disagree(f"guests do not agree: {', '.join(f'{price:,}' for price in prices)} instructions")
        prices = prices[1:4]
    return round(statistics.mean(prices))


def _differ(prices: Sequence[int]) -> bool:
    return prices[-1] - prices[0] > AGREE * prices[0]


def _count(pool: Pool, parts: Ready, trip: Trip, number: int) -> int:
    """Return what a round trip costs in one more guest."""
    with pool.take(f"price {trip.scenario.id} {number}") as guest:
        session = runner.session(parts, guest, trip.scenario.uapi, seed=0, images=parts.images)
        session.patience = _PATIENCE
        price = trip_.instructions(session, trip)
        tainted = runner.taint(guest, timeout=_PATIENCE)
        if tainted is not None:
            raise trip_.TripFailed(tainted.title)
        return price


def _ingredients(parts: Ready, trip: Trip) -> Iterator[Any]:
    """Yield what a price depends on besides the guest: the modules, the trip and how it is made."""
    yield [(load.name, load.text, digest(parts.images[load.name])) for load in trip.scenario.modules]
    yield [tree_digest(header.path) for name in trip.scenario.uapi if (header := TREES.header(name))]
    yield trip.text, trip.bytes
    yield [tree_digest(path) for pattern in _CODE for path in sorted((HOUSE / "lab").glob(pattern))]


__all__ = ["AGREE", "COMMITTED", "Disagree", "Wanted", "agreed", "main"]
