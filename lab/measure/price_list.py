# SPDX-License-Identifier: MIT
"""Prices as they are kept, compared and shown: how many instructions of a guest a round trip takes."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from lab.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from lab.scenario import ScenarioFile

CHANGE: Final = 0.02  # of a price: what is told


@dataclass(frozen=True)
class Prices:
    """What was measured on one target."""

    release: str  # `uname -r`
    qemu: str
    trips: Mapping[str, Mapping[int, int]] = field(default_factory=dict)  # channel -> bytes -> instructions
    unsupported: Mapping[str, str] = field(default_factory=dict)  # channel -> why it has none here

    def merged(self, newer: Prices) -> Prices:
        """Return these with what is newer in their place; of another kernel, nothing older stays."""
        if (self.release, self.qemu) != (newer.release, newer.qemu):
            return newer
        trips = {**self.trips, **newer.trips}
        for name in newer.unsupported:
            trips.pop(name, None)
        unsupported = {name: why for name, why in self.unsupported.items() if name not in newer.trips}
        return replace(newer, trips=trips, unsupported={**unsupported, **newer.unsupported})


@dataclass(frozen=True)
class Change:
    """A price that is not what it was."""

    target: str
    channel: str
    bytes: int
    before: int
    now: int

    def __str__(self) -> str:
        percent = 100 * (self.now - self.before) / self.before
        return (
            f"{self.target}: {self.channel}, {self.bytes} bytes: {self.before:,} instructions before, "
            f"{self.now:,} now ({percent:+.1f} %)"
        )


def changes(before: Mapping[str, Prices], now: Mapping[str, Prices]) -> Iterator[Change]:
    """Yield the prices that differ by as much as is told; what only one of them has is none."""
    for target, prices in now.items():
        for channel, trips in prices.trips.items():
            known = before[target].trips.get(channel, {}) if target in before else {}
            for amount, price in trips.items():
                old = known.get(amount)
                if old and abs(price - old) >= CHANGE * old:
                    yield Change(target, channel, amount, old, price)


# --- kept ---------------------------------------------------------------------------------------------


def read(path: Path) -> dict[str, Prices]:
    """Return the prices in a file by target, none where there is no file.

    Raises UsageError for a file that holds something else.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return {name: _prices(entry) for name, entry in data["targets"].items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"{path} holds no prices: {error!r}",
            hint="`lab price --json` and `lab price --write` make such files",
        ) from None


def _prices(entry: Mapping[str, Any]) -> Prices:
    trips = {
        str(channel): {int(amount): int(price) for amount, price in each.items()}
        for channel, each in entry["trips"].items()
    }
    return Prices(entry["release"], entry["qemu"], trips, dict(entry["unsupported"]))


def to_json(targets: Mapping[str, Prices]) -> dict[str, Any]:
    """Return what read() reads."""
    return {
        "unit": "guest instructions per round trip, by the bytes that it carries",
        "targets": {
            name: {
                "release": prices.release,
                "qemu": prices.qemu,
                "trips": {
                    channel: {str(amount): trips[amount] for amount in sorted(trips)}
                    for channel, trips in sorted(prices.trips.items())
                },
                "unsupported": dict(sorted(prices.unsupported.items())),
            }
            for name, prices in targets.items()
        },
    }


def write(path: Path, targets: Mapping[str, Prices]) -> None:
    """Keep prices in a file, those of other targets that are there with them."""
    kept = read(path)
    for name, prices in targets.items():
        kept[name] = kept[name].merged(prices) if name in kept else prices
    path.write_text(
        json.dumps(to_json(dict(sorted(kept.items(), key=_order))), indent=1) + "\n", encoding="utf-8"
    )


def _order(item: tuple[str, Prices]) -> tuple[object, ...]:
    """Sort targets by architecture, x86_64 first, then by kernel line."""
    line, _, arch = item[0].partition("-")
    return (arch != "x86_64", arch, [int(part) for part in line.split(".") if part.isdecimal()], line)


# --- shown --------------------------------------------------------------------------------------------


def rows(files: Sequence[ScenarioFile], targets: Mapping[str, Prices]) -> Iterator[tuple[str, ...]]:
    """Yield the table's rows: channel, round trip, bytes and a price for each target, the cheapest first."""
    priced = [file for file in files if any(file.channel in prices.trips for prices in targets.values())]
    for file in sorted(priced, key=lambda file: _least(file.channel, targets)):
        about = ""
        for number, trip in enumerate(file.trips):
            larger = trip.about == about  # the same with more bytes
            about = trip.about
            yield (
                "" if number else file.channel,
                "" if larger else about,
                str(trip.bytes),
                *(_cell(prices, file.channel, trip.bytes, per_byte=larger) for prices in targets.values()),
            )


def _least(channel: str, targets: Mapping[str, Prices]) -> tuple[int, ...]:
    """Return what a channel's smallest trip costs on each target, the dearest where there is none."""
    return tuple(min(prices.trips.get(channel, {}).values(), default=1 << 62) for prices in targets.values())


def _cell(prices: Prices, channel: str, amount: int, *, per_byte: bool) -> str:
    price = prices.trips.get(channel, {}).get(amount)
    if price is None:
        return "-"
    if not (per_byte and amount):
        return f"{price:,}"
    return f"{price:,} ({price / amount:,.{0 if price >= 10 * amount else 1}f} a byte)"


__all__ = ["CHANGE", "Change", "Prices", "changes", "read", "rows", "to_json", "write"]
