# SPDX-License-Identifier: MIT
"""A kernel's own modules, as its package brings them: which there are, what each needs, their images."""

from __future__ import annotations

import gzip
import lzma
from typing import TYPE_CHECKING

from lab.errors import FetchError, Unsupported
from lab.kernels.modules_dep import module_name

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class OwnModules:
    """The modules below lib/modules/V of a kernel, by the kernel's names for them (with _)."""

    def __init__(self, directory: Path) -> None:
        """Read modules.dep and modules.builtin; raises FetchError where they are not there."""
        self._needs: dict[str, list[str]] = {}
        self._paths: dict[str, Path] = {}
        for line in _text(directory / "modules.dep").splitlines():
            path, _, needs = line.partition(":")
            name = module_name(directory / path)
            self._paths[name] = directory / path
            # modules.dep(5): what a module needs, in the order of unloading
            self._needs[name] = [module_name(directory / each) for each in reversed(needs.split())]
        self._builtin = {
            module_name(directory / line) for line in _text(directory / "modules.builtin").split()
        }

    def __contains__(self, name: str) -> bool:
        return name in self._paths

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def builtin(self, name: str) -> bool:
        """Tell whether the kernel has it without loading anything."""
        return name in self._builtin

    def order(self, name: str) -> tuple[str, ...]:
        """Return a module behind all that has to be loaded before it; KeyError when it is not there."""
        return (*self._needs[name], name)

    def path(self, name: str) -> Path:
        """Return where a module is; KeyError when it is not there."""
        return self._paths[name]

    def image(self, name: str) -> bytes:
        """Return a module's ELF file; raises KeyError, and what module_image() does."""
        return module_image(self._paths[name])


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


__all__ = ["OwnModules", "module_image"]
