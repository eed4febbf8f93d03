# SPDX-License-Identifier: MIT
"""The lab's own data in YAML, read quickly and once."""

from __future__ import annotations

import threading
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

_READING = threading.Lock()  # several threads ask for the same file at once


def read(path: Path) -> Any:
    """Return what is in a YAML file of the lab's own; not to be changed. Raises OSError, yaml.YAMLError."""
    with _READING:
        return _read(path)


@cache
def _read(path: Path) -> Any:
    import yaml  # noqa: PLC0415 - only who reads a table pays for it

    # The C one is ten times as fast, and not in every build of PyYAML.
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return yaml.load(path.read_text(encoding="utf-8"), Loader=loader)  # noqa: S506 - it is a safe one
