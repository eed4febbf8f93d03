# SPDX-License-Identifier: MIT
"""Where the lab's files are that are no Python: beside this package in a checkout, or in it when installed.

pyproject.toml says which directory becomes which part: `kernels` is the package `lab.parts_kernels`.
"""

from __future__ import annotations

from pathlib import Path

_HERE = Path(__file__).resolve().parent


def part(name: str) -> Path:
    """Return the directory of the data on `kernels`, or of the agent's sources, `rootfs`."""
    installed = _HERE / f"parts_{name}"
    return installed if installed.is_dir() else _HERE.parent / name


def in_a_checkout() -> bool:
    """Tell whether the lab's own modules and scenarios are at hand."""
    return (_HERE.parent / "kmod").is_dir()


__all__ = ["in_a_checkout", "part"]
