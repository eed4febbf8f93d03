# SPDX-License-Identifier: MIT
"""The modules that a kernel is shipped with: which there are, what each needs, their images."""

from __future__ import annotations

import gzip
import lzma
from functools import cached_property
from typing import TYPE_CHECKING

from lab.errors import FetchError, Unsupported
from lab.kernels.modules_dep import module_name

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class ShippedModules:
    """The modules below lib/modules/V of a kernel, by the kernel's names for them (with _).

    They are read when first asked for: most scenarios load none. Then FetchError is raised where they are not
    there.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @cached_property
    def _listed(self) -> dict[str, tuple[Path, str]]:
        """Where each is, and what it needs as modules.dep(5) has it."""
        found = {}
        for line in _text(self._directory / "modules.dep").splitlines():
            path, _, needs = line.partition(":")
            found[module_name(self._directory / path)] = (self._directory / path, needs)
        return found

    @cached_property
    def _builtin(self) -> set[str]:
        lines = _text(self._directory / "modules.builtin").split()
        return {module_name(self._directory / line) for line in lines}

    def __contains__(self, name: str) -> bool:
        return name in self._listed

    def __iter__(self) -> Iterator[str]:
        return iter(self._listed)

    def builtin(self, name: str) -> bool:
        """Tell whether the kernel has it without loading anything."""
        return name in self._builtin

    def order(self, name: str) -> tuple[str, ...]:
        """Return a module behind all that has to be loaded before it; KeyError when it is not there."""
        _, needs = self._listed[name]
        # The last to load comes first there, in the order of unloading.
        return (*(module_name(self._directory / each) for each in reversed(needs.split())), name)

    def path(self, name: str) -> Path:
        """Return where a module is; KeyError when it is not there."""
        return self._listed[name][0]

    def image(self, name: str) -> bytes:
        """Return a module's ELF file; raises KeyError, and what module_image() does."""
        return module_image(self.path(name))


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
