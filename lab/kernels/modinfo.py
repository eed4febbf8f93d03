# SPDX-License-Identifier: MIT
"""What a module says of itself in its section .modinfo."""

from __future__ import annotations

import re
from functools import lru_cache

# license_is_gpl_compatible() of include/linux/license.h.
GPL_COMPATIBLE = frozenset(
    {"GPL", "GPL v2", "GPL and additional rights", "Dual BSD/GPL", "Dual MIT/GPL", "Dual MPL/GPL"}
)
# What stands before the section does not always end with a NUL.
_LICENCE = re.compile(rb"(?<![A-Za-z0-9_])license=([^\0]*)\0")
_DEPENDS = re.compile(rb"(?<![A-Za-z0-9_])depends=([^\0]*)\0")


@lru_cache(maxsize=64)  # asked once a scenario, of images that stay the same for a run
def licence(image: bytes) -> str:
    """Return the licence that a module's file names, '' where it names none."""
    found = _LICENCE.search(image)
    return found[1].decode(errors="replace") if found is not None else ""


def depends(image: bytes) -> tuple[str, ...]:
    """Return the modules whose symbols a module's file uses, as modpost wrote them down."""
    found = _DEPENDS.search(image)
    names = found[1].decode(errors="replace") if found is not None else ""
    return tuple(name.replace("-", "_") for name in names.split(",") if name)
