# SPDX-License-Identifier: MIT
"""What the heads of the scenario files say of their channels, as pages for people."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from lab.language.steps import all_steps
from lab.scenario import load

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from lab.language.steps import Step
    from lab.scenario import Requires, Scenario, ScenarioFile

HOUSE = Path(__file__).resolve().parent.parent
OPERATIONS = "operations"  # the file whose scenarios make the table of files and calls
FILES = ("chardev", "procfs", "sysfs", "debugfs", "relay", "filesystem", "anon_inode")
CALLS = ("open", "read", "write", "lseek", "ioctl", "mmap", "poll", "fsync")
_CHANNELS_HEAD = """\
# The channels

Ways in which a program and the kernel talk, each with a module that shows it and scenarios that prove it.
Made from the heads of the scenario files by `python -m lab.reference`; do not edit. How the scenarios went on
each target: `lab channels`.

| channel | what it is |
| --- | --- |
"""
_OPERATIONS_HEAD = """\
# Files and calls

What happens when a call is made on a file of each kind: it works, or which error comes. Made from the
scenarios of [operations.yaml](../scenarios/operations.yaml) by `python -m lab.reference`; do not edit.

"""


def pages() -> dict[str, str]:
    """Return the pages by the names of their files in docs/."""
    files = [load(path, root=HOUSE) for path in sorted((HOUSE / "scenarios").glob("*.yaml"))]
    made = {"channels.md": channels_page(files)}
    for file in files:
        if file.path.stem == OPERATIONS:
            made["operations.md"] = operations_page(file)
    return made


# --- the channels -------------------------------------------------------------------------------------


def channels_page(files: Iterable[ScenarioFile]) -> str:
    """Return docs/channels.md."""
    files = list(files)
    index = "".join(f"| [{file.channel}](#{file.channel}) | {_line(file.about)} |\n" for file in files)
    return _CHANNELS_HEAD + index + "".join(f"\n{section}" for section in map(_section, files))


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
