# SPDX-License-Identifier: MIT
"""`lab new`: a module, its header, its scenarios and a deliberate mistake, that pass as they are."""

from __future__ import annotations

import re
from pathlib import Path

from lab.errors import HostError, UsageError

_STARTER = Path(__file__).with_name("starter")
# What a file of lab/starter/ is called there.
_PLACES = {"module.c": "{}.c", "uapi/module.h": "uapi/{}.h", "scenarios/module.yaml": "scenarios/{}.yaml"}
_PLACES |= {"ci.yml": ".github/workflows/chanlab.yml"}
_MOST = 40  # characters: names that are made of it have to be names of the kernel's too


def new(directory: Path) -> list[Path]:
    """Write a starting point into a directory that is empty or not there; return its files.

    The module is called like the directory. Raises UsageError, HostError.
    """
    name = directory.absolute().name.replace("-", "_")
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or len(name) > _MOST:
        raise UsageError(
            f"the module would be called {name!r}, like its directory",
            hint=f"letters a to z, digits, - and _, at most {_MOST}",
        )
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise UsageError(f"{directory} is there already, and not empty", hint="name another one")
    made = []
    try:
        for source in sorted(path for path in _STARTER.rglob("*") if path.is_file()):
            at = str(source.relative_to(_STARTER))
            path = directory / _PLACES.get(at, at).format(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            text = source.read_text(encoding="utf-8").replace("@name@", name).replace("@NAME@", name.upper())
            path.write_text(text, encoding="utf-8")
            made.append(path)
    except OSError as error:
        raise HostError(f"{error.filename}: {error.strerror}") from error
    return made


__all__ = ["new"]
