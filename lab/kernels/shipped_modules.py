# SPDX-License-Identifier: MIT
"""The modules that a kernel is shipped with: which there are, what each needs, their images."""

from __future__ import annotations

import gzip
import lzma
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from lab.errors import FetchError, Unsupported
from lab.kernels.modules_dep import module_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class ShippedModules:
    """The modules below lib/modules/V of a kernel, by the kernel's names for them (with _).

    They are read when first asked for: most scenarios load none. Then FetchError is raised where they are not
    there. Those that hardly anybody wants were not unpacked; `all_of_them` does that and returns where they
    are, when one is asked for that is not among the others.
    """

    def __init__(self, directory: Path, all_of_them: Callable[[], Path] | None = None) -> None:
        self._directory = directory
        self._all_of_them = all_of_them

    @cached_property
    def _listed(self) -> dict[str, _Shipped]:
        return _listed(self._directory)

    @cached_property
    def _rest(self) -> dict[str, _Shipped]:
        return _listed(self._all_of_them()) if self._all_of_them is not None else {}

    def _find(self, name: str) -> _Shipped | None:
        found = self._listed.get(name)
        return self._rest.get(name) if found is None and not self.builtin(name) else found

    @cached_property
    def _builtin(self) -> set[str]:
        lines = _text(self._directory / "modules.builtin").split()
        return {module_name(self._directory / line) for line in lines}

    def __contains__(self, name: str) -> bool:
        return self._find(name) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self._listed)

    def builtin(self, name: str) -> bool:
        """Tell whether the kernel has it without loading anything."""
        return name in self._builtin

    def order(self, name: str) -> tuple[str, ...]:
        """Return a module behind all that has to be loaded before it; KeyError when it is not there."""
        order: dict[str, None] = {}
        self._add(name, order, set())
        return tuple(order)

    def _add(self, name: str, order: dict[str, None], seen: set[str]) -> None:
        if name in seen:  # what is asked for may ask for who asked
            return
        seen.add(name)
        found = self._found(name)
        for each in (*found.needs, name):
            for asked in () if (there := self._find(each)) is None else there.asks:
                if self._find(asked) is not None:
                    self._add(asked, order, seen)
            order.setdefault(each)

    def _found(self, name: str) -> _Shipped:
        found = self._find(name)
        if found is None:
            raise KeyError(name)
        return found

    def path(self, name: str) -> Path:
        """Return where a module is; KeyError when it is not there."""
        return self._found(name).path

    def image(self, name: str) -> bytes:
        """Return a module's ELF file; raises KeyError, and what module_image() does."""
        return module_image(self.path(name))


class _Shipped(NamedTuple):
    """A module of a kernel's."""

    path: Path
    needs: tuple[str, ...]  # what is loaded before it, in that order
    asks: tuple[str, ...]  # what it asks the kernel for when it begins


def _listed(directory: Path) -> dict[str, _Shipped]:
    """Read modules.dep(5) and what lab.kernels.modules_dep writes beside it."""
    soft = {}
    for line in _text(directory / "modules.softdep").splitlines():
        name, _, asks = line.partition(":")
        soft[name] = tuple(asks.split())
    found = {}
    for line in _text(directory / "modules.dep").splitlines():
        path, _, needs = line.partition(":")
        name = module_name(directory / path)
        # The last to load comes first there, in the order of unloading.
        order = tuple(module_name(directory / each) for each in reversed(needs.split()))
        found[name] = _Shipped(directory / path, order, soft.get(name, ()))
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise _damaged(path, error.strerror or "it cannot be read") from error


def module_image(path: Path) -> bytes:
    """Return a module's ELF file, unpacked.

    Raises FetchError when it is damaged or gone, Unsupported for a packing that Python cannot undo.
    """
    try:
        data = path.read_bytes()
        match path.suffix:
            case ".ko":
                return data
            case ".xz":
                return lzma.decompress(data)
            case ".gz":
                return gzip.decompress(data)
    except (lzma.LZMAError, OSError, EOFError) as error:
        raise _damaged(path, str(error)) from error
    raise Unsupported(f"{path.name}: the lab cannot unpack {path.suffix} modules")


def _damaged(path: Path, why: str) -> FetchError:
    return FetchError(
        f"{path} is damaged: {why}",
        hint="`lab clean` removes the kernel, the next run fetches it again",
    )


__all__ = ["ShippedModules", "module_image"]
