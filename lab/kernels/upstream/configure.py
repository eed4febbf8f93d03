# SPDX-License-Identifier: MIT
"""A kernel's configuration: fragments on top of the architecture's own, and which options did not make it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from lab.errors import BuildFailed
from lab.kernels.process import run
from lab.parts import part
from lab.store.cache import digest, file_digest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from lab.arch import Architecture
    from lab.kernels.upstream.kmake import KernelMake

FRAGMENTS = part("kernels") / "config"
_OURS = ("channels", "guest", "small")
_STAMP = ".chanlab-config"
_LINE = re.compile(r"^(?:(CONFIG_\w+)=(.*)|# (CONFIG_\w+) is not set)$", re.MULTILINE)
_DEPENDS = re.compile(r"^\s+depends on (.+?)\s*(?:#.*)?$", re.MULTILINE)
_MOST_FILES = 4000  # Kconfig files: a tree has some 1,600


def fragments(arch: Architecture, own: Sequence[Path] = ()) -> list[Path]:
    """Return the fragments for an architecture in their order, and those of a user's own behind them."""
    there = [FRAGMENTS / f"{name}.config" for name in (*_OURS, arch.name)]
    return [*(path for path in there if path.is_file()), *own]


def fragments_digest(paths: Sequence[Path]) -> str:
    """Return what fragments are, for a key."""
    return digest([file_digest(path) for path in paths])


def configure(make: KernelMake, paths: Sequence[Path]) -> list[str]:
    """Make a kernel's configuration if it is not there; returns what was asked for and did not make it.

    Raises BuildFailed.
    """
    stamp, wanted = make.build / _STAMP, fragments_digest(paths)
    if not (stamp.exists() and stamp.read_text() == wanted):
        make.run(make.defconfig)
        _merge(make, paths)
        make.run("olddefconfig")
        stamp.write_text(wanted)
    return unmet((make.build / ".config").read_text(), paths, make.source)


def _merge(make: KernelMake, paths: Sequence[Path]) -> None:
    script = make.source / "scripts/kconfig/merge_config.sh"
    config = str(make.build / ".config")
    argv = [*make.root.command("dash"), str(script), "-m", "-O", str(make.build), config, *map(str, paths)]
    status, text = run(argv, cwd=make.build, env=make.root.environment())
    if status:
        raise BuildFailed(f"{script} cannot merge the configuration", text)


def options(text: str) -> dict[str, str]:
    """Return the options of a configuration: CONFIG_X -> its value, 'n' where it says that it is not set."""
    return {match[1] or match[3]: match[2] if match[1] else "n" for match in _LINE.finditer(text)}


def unmet(config: str, paths: Sequence[Path], source: Path) -> list[str]:
    """Return a line for each option that fragments ask for and a configuration does not have.

    Told with what it depends on; what the release does not have at all is no news.
    """
    have = options(config)
    asked: dict[str, str] = {}
    for path in paths:
        asked |= options(path.read_text())  # the last one that says something holds
    missing = {
        name: value
        for name, value in asked.items()
        if value != "n" and (have.get(name, "n") == "n" or (value not in ("y", "m") and have[name] != value))
    }
    if not missing:
        return []
    return [
        f"{name}={asked[name]} was asked for and is {have.get(name, 'n')}{why}"
        for name, why in _reasons(missing, have, source).items()
    ]


def _reasons(missing: Mapping[str, str], have: Mapping[str, str], source: Path) -> dict[str, str]:
    """Return why options are not set, of those that this release has."""
    names = "|".join(name.removeprefix("CONFIG_") for name in missing)
    entry = re.compile(rf"^(?:menu)?config ({names})\n((?:[ \t]+.*\n|\n)*)", re.MULTILINE)
    found: dict[str, str] = {}
    for number, path in enumerate(sorted(source.rglob("Kconfig*"))):
        if number > _MOST_FILES:
            break
        if not path.is_file():
            continue
        for match in entry.finditer(path.read_text(errors="replace")):
            depends = " && ".join(f"({each[1]})" for each in _DEPENDS.finditer(match[2]))
            used = dict.fromkeys(re.findall(r"\b[A-Z][A-Z0-9_]+\b", depends))
            values = ", ".join(f"{name}={have.get(f'CONFIG_{name}', 'n')}" for name in used)
            name = f"CONFIG_{match[1]}"
            where = path.relative_to(source)
            told = f": {where} has it depend on {depends}; {values}" if depends else f": see {where}"
            found[name] = found.get(name) or told
    return found


__all__ = ["FRAGMENTS", "configure", "fragments", "fragments_digest", "options", "unmet"]
