# SPDX-License-Identifier: MIT
"""What the heads of the scenario files say of their channels, as pages for people."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from lab.house import DOCS, HOUSE, SCENARIOS, TREES
from lab.language.reader import load
from lab.language.steps import all_steps
from lab.measure import price_list
from lab.verbs import table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from lab.language.steps import Step
    from lab.measure.price_list import Prices
    from lab.scenario import Requires, Scenario, ScenarioFile

PRICES = DOCS / "price.json"  # made by `lab price --write`
OPERATIONS = "operations"  # the file whose scenarios make the table of files and calls
FILES = ("chardev", "procfs", "sysfs", "debugfs", "relay", "filesystem", "anon_inode")
CALLS = ("open", "read", "write", "lseek", "ioctl", "mmap", "poll", "fsync")
_CHANNELS_HEAD = """\
# The channels

Ways in which a program and the kernel talk, each with a module that shows it and scenarios that prove it.
Made from the heads of the scenario files by `python -m lab.pages.reference`; do not edit. How the
scenarios went on each target: `lab channels`.

| channel | what it is |
| --- | --- |
"""
_PRICES_HEAD = """
## What a round trip costs

Instructions of the guest, those of the kernel and of the program, for one round trip: the cheapest first,
and where more bytes go the same way, how many that makes for each. They are counted by QEMU, so that the
number is the same each time: `lab price` counts them again and tells a change of 2 %. These were made by
`lab price --write`.

Which one to choose, as far as the price goes: for much data, or data that is looked at often, map memory.
For messages it makes little difference which file they go through, a device's, one of debugfs or procfs, or
by a request of ioctl: the price is that of two calls, two copies and the memory that the module allocates. A
struct by one ioctl is cheaper than any text. A message by netlink costs several times as much as by a file,
and what a trip through another thread costs (tty, a kernel thread, a disk) is mostly the switching to and
fro.

How to read it:

- Compare within a column. An instruction of s390x may move hundreds of bytes, and one of x86_64 is counted
  once for each step of a string instruction; these guests' CPU has no fast ones, so that the kernel copies
  by words.
- An instruction is no unit of time: waiting for memory, for devices and for other CPUs is not in it.
- The guest has one CPU, and the program runs whenever it can. What others do is counted where the program
  waits for them; what the kernel puts off until nobody waits is not.
- Each call's price contains some tens of instructions that the lab's agent takes to make it. What it takes
  to survive a fault of a load or a store is left out.
- Most messages go through the store that all channels share: a put allocates memory and copies, a get copies
  and frees.

"""
_OPERATIONS_HEAD = """\
# Files and calls

What happens when a call is made on a file of each kind: it works, or which error comes. Made from the
scenarios of [operations.yaml](../scenarios/operations.yaml) by `python -m lab.pages.reference`; do not edit.

"""


def pages() -> dict[str, str]:
    """Return the pages by the names of their files in docs/."""
    files = [load(path, root=HOUSE, verbs=table(), trees=TREES) for path in sorted(SCENARIOS.glob("*.yaml"))]
    made = {"channels.md": channels_page(files, price_list.read(PRICES))}
    for file in files:
        if file.path.stem == OPERATIONS:
            made["operations.md"] = operations_page(file)
    return made


# --- the channels -------------------------------------------------------------------------------------


def channels_page(files: Iterable[ScenarioFile], prices: Mapping[str, Prices] | None = None) -> str:
    """Return docs/channels.md; `prices` by target, none: without a table of them."""
    files = list(files)
    index = "".join(f"| [{file.channel}](#{file.channel}) | {_line(file.about)} |\n" for file in files)
    table = _prices(files, prices) if prices else ""
    return _CHANNELS_HEAD + index + table + "".join(f"\n{section}" for section in map(_section, files))


def _prices(files: Sequence[ScenarioFile], prices: Mapping[str, Prices]) -> str:
    """Return the table of prices, why some channels have none, and what they were counted on."""
    lines = [f"| channel | the round trip | bytes | {' | '.join(prices)} |"]
    lines.append(f"| --- | --- | ---: |{' ---: |' * len(prices)}")
    for channel, *cells in price_list.rows(files, prices):
        lines.append(f"| {f'[{channel}](#{channel})' if channel else ''} | {' | '.join(cells)} |")
    lines += ["", "Without a price:", ""]
    lines += [f"- {file.channel}: {_line(file.no_trip)}" for file in files if file.no_trip]
    for target, each in prices.items():
        lines += [f"- {channel} on {target}: {why}" for channel, why in each.unsupported.items()]
    kernels = ", ".join(f"{target} is {each.release}" for target, each in prices.items())
    emulators = " and ".join(sorted({each.qemu for each in prices.values()}))
    return _PRICES_HEAD + "\n".join([*lines, "", f"Counted by QEMU {emulators}: {kernels}.", ""])


def _section(file: ScenarioFile) -> str:
    said = [("When to choose it", file.choose), ("Its price", file.price)]
    lines = [f"## {file.channel}", "", _line(file.about), ""]
    lines += [f"- {what}: {_line(text)}" for what, text in said if text]
    lines.append(f"- Read: {', '.join(_places(file))}{f'; {_line(file.read)}' if file.read else ''}")
    lines += [f"- Does not apply: {want}: {_line(why)}" for want, why in file.not_applicable]
    return "\n".join([*lines, ""])


def _line(text: str) -> str:
    return re.sub(r"\s+", " ", text.split("\n\n", maxsplit=1)[0]).strip()


def _places(file: ScenarioFile) -> Iterator[str]:
    """Yield links to a channel's files: the module of its own, what user space sees of it, the scenarios."""
    for name in (f"kmod/{file.path.stem}.c", *(f"kmod/uapi/{header}" for header in file.uapi)):
        if (HOUSE / name).is_file():
            yield f"[{name}](../{name})"
    yield f"[scenarios/{file.path.name}](../scenarios/{file.path.name}) ({len(file.scenarios)} scenarios)"


# --- files and calls ----------------------------------------------------------------------------------


def operations_page(file: ScenarioFile) -> str:
    """Return docs/operations.md: for each pair of a file and a call what its scenarios expect."""
    cells: dict[tuple[str, str], list[str]] = {}
    for scenario in file.scenarios:
        kind, call = pair(scenario)
        said = f"{_expected(scenario, call)}{_where(scenario.requires)}"
        if said not in cells.setdefault((kind, call), []):
            cells[kind, call].append(said)
    lines = [f"| | {' | '.join(CALLS)} |", f"| --- |{' --- |' * len(CALLS)}"]
    for kind in FILES:
        row = ("; ".join(cells.get((kind, call), ["?"])) for call in CALLS)
        lines.append(f"| [{kind}](channels.md#{kind}) | {' | '.join(row)} |")
    notes = [
        f"- {_line(scenario.name)}: {_line(scenario.about)}" for scenario in file.scenarios if scenario.about
    ]
    return _OPERATIONS_HEAD + "\n".join([*lines, "", *notes, ""]).rstrip() + "\n"


def pair(scenario: Scenario) -> tuple[str, str]:
    """Return the file and the call of a scenario `FILE: CALL …`; ValueError when it is named otherwise."""
    found = re.match(r"(\w+): (\w+)", scenario.name)
    if found is None or found[1] not in FILES or found[2] not in CALLS:
        raise ValueError(f"{scenario.file}:{scenario.line}: {scenario.name!r} is not 'FILE: CALL'")
    return found[1], found[2]


def _expected(scenario: Scenario, call: str) -> str:
    """Return what is expected of the last step that makes the call."""
    steps: list[Step] = [step for step in all_steps(scenario.steps) if step.verb == call]
    if not steps:
        raise ValueError(f"{scenario.file}:{scenario.line}: {scenario.name!r} makes no call {call}")
    errno = re.search(r"\berrno: (\w+)", steps[-1].text)
    return f"`{errno[1]}`" if errno else "works"


def _where(requires: Requires) -> str:
    said = [*requires.kernel, *requires.config, *requires.arch]
    return f" ({', '.join(said)})" if said else ""


__all__ = ["CALLS", "FILES", "channels_page", "operations_page", "pages", "pair"]
