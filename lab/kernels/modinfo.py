# SPDX-License-Identifier: MIT
"""What a module's file says of it: in its section .modinfo, and of its parameters by their symbols."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from lab.abi.layout import nearest

if TYPE_CHECKING:
    from collections.abc import Iterable

# license_is_gpl_compatible() of include/linux/license.h.
GPL_COMPATIBLE = frozenset(
    {"GPL", "GPL v2", "GPL and additional rights", "Dual BSD/GPL", "Dual MIT/GPL", "Dual MPL/GPL"}
)
# What stands before the section does not always end with a NUL.
_LICENCE = re.compile(rb"(?<![A-Za-z0-9_])license=([^\0]*)\0")
# Of each parameter: its type where the kernel's own macros make it, its name in any case (moduleparam.h).
_PARAMETER = re.compile(rb"(?:(?<![A-Za-z0-9_])parmtype=(\w+):|(?<![A-Za-z0-9_])__param_str_(\w+)\0)")
# What every module has: kernel/module/main.c, unknown_module_param_cb().
EVERYBODYS = frozenset({"async_probe", "dyndbg"})
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


@lru_cache(maxsize=64)
def parameters(image: bytes) -> frozenset[str]:
    """Return the names of a module's parameters, those that every module has among them."""
    found = {(of_type or by_symbol).decode() for of_type, by_symbol in _PARAMETER.findall(image)}
    return frozenset(found) | EVERYBODYS


def unknown_parameter(image: bytes, names: Iterable[str]) -> str | None:
    """Return what is wrong with parameters that a module is to have: the kernel only says so, and goes on."""
    known = parameters(image)
    for name in names:
        # The kernel takes - and _ for the same: parameqn() in kernel/params.c.
        if name.replace("-", "_") not in known:
            return f"has no parameter {name!r}{nearest(name, sorted(known))}"
    return None
