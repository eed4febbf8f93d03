# SPDX-License-Identifier: MIT
"""What a scenario whose steps all went well is blamed for all the same: the verdict `unclean`.

The kernel complained without a stack trace, or not all that it said could be read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import yaml

from lab.guest.splat import cut
from lab.guest.splat_words import WARNING_PRIORITY
from lab.language.requires import Machine, Requires
from lab.run.record import Finding, Place, Verdict

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from pathlib import Path

    from lab.guest.kmsg import KernelMessage
    from lab.guest.splat import Splat

_MOST_COMPLAINTS = 6  # that are told, each a finding of its own


@dataclass(frozen=True)
class Known:
    """A kind of line that kernels print, and on which of them."""

    matches: re.Pattern[str]  # found in the line
    why: str
    where: Requires  # kernels and architectures


@dataclass(frozen=True)
class Complaints:
    """What is no complaint although it is urgent, and what is one although it is not."""

    harmless: tuple[Known, ...] = ()
    grave: tuple[Known, ...] = ()


@lru_cache(maxsize=4)
def known_complaints(path: Path) -> Complaints:
    """Return what a file lists (kernels/complaints.yaml); raises OSError, or ValueError and its kin."""
    found = yaml.safe_load(path.read_text())
    return Complaints(_known(found["harmless"]), _known(found["grave"]))


def _known(entries: Sequence[Mapping[str, str]]) -> tuple[Known, ...]:
    return tuple(
        Known(
            re.compile(each["matches"]),
            each["why"],
            Requires(kernel=_words(each.get("kernel")), arch=_words(each.get("arch"))),
        )
        for each in entries
    )


def _words(given: str | None) -> tuple[str, ...]:
    return tuple(word.replace(" ", "") for word in given.split(",")) if given else ()


def complaints(
    messages: Sequence[KernelMessage],
    *,
    told: Iterable[Splat],
    meant: Collection[int],
    known: Complaints,
    machine: Machine,
    complains: Sequence[re.Pattern[str]] = (),
) -> list[KernelMessage]:
    """Return what the kernel said at warning level or above, or gravely, and nobody wanted.

    `told` are reports that are findings or wanted, `meant` the numbers of messages that a step expects,
    `complains` what the scenario lets it say.
    """
    grave = [each.matches for each in known.grave if each.where.fits(machine)]
    urgent = [
        each
        for each in messages
        if each.facility == 0
        and (each.priority <= WARNING_PRIORITY or any(pattern.search(each.text) for pattern in grave))
    ]
    if not urgent:
        return []
    reported = {line for splat in told for line in splat.lines}
    meant_here = [*(each.matches for each in known.harmless if each.where.fits(machine)), *complains]
    return [
        each
        for each in urgent
        if each.sequence not in meant
        and any(part not in reported for part in each.text.split("\n"))
        and not any(pattern.search(each.text) for pattern in meant_here)
    ]


def complained(found: Sequence[tuple[KernelMessage, Place]]) -> list[Finding]:
    """Return findings: the kernel complained, and during which step; each kind of complaint once."""
    kinds: dict[str, list[tuple[KernelMessage, Place]]] = {}
    for message, place in found:
        kinds.setdefault(cut(message.text.partition("\n")[0]), []).append((message, place))
    findings = []
    for title, all_of_it in list(kinds.items())[:_MOST_COMPLAINTS]:
        message, place = all_of_it[0]
        more = len(all_of_it) - 1
        findings.append(
            Finding(
                Verdict.UNCLEAN,
                f"the kernel complained: {title}",
                place,
                got=message.text,
                notes=(f"and {more} times more",) if more else (),
                hint="is it meant? `expect: {dmesg: …}` of its step, or `complains: […]` of the scenario",
            )
        )
    return findings


def lost(count: int) -> Finding:
    """Return the finding that messages were overwritten before the agent had read them."""
    return Finding(
        Verdict.UNCLEAN,
        "messages of the kernel were lost",
        Place("the kernel's log"),
        got=f"{count} or more were overwritten before they could be read: a report may be among them",
        hint="print less, or at longer intervals; boot: {cmdline: log_buf_len=4M} keeps more",
    )
