# SPDX-License-Identifier: MIT
"""The modules that can be sent to a guest of a target, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab.kernels.shipped_modules import ShippedModules


class Images(Mapping[str, bytes]):
    """What was built, and what the kernel is shipped with, which is unpacked when it is first asked for."""

    def __init__(self, built: Mapping[str, bytes], shipped: ShippedModules) -> None:
        self._there = dict(built)
        self._shipped = shipped

    def __getitem__(self, name: str) -> bytes:
        if name not in self._there:
            self._there[name] = self._shipped.image(name)
        return self._there[name]

    def __contains__(self, name: object) -> bool:
        return name in self._there or (isinstance(name, str) and name in self._shipped)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys([*self._there, *self._shipped]))

    def __len__(self) -> int:
        return sum(1 for _ in self)
