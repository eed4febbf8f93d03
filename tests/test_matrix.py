# SPDX-License-Identifier: MIT
"""The compile matrix has a cell for each module and target, whatever fails."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from lab.errors import FetchError, ModuleFailed
from lab.kernels import matrix as matrix_
from lab.kernels.build import Modules
from lab.kernels.matrix import Cell, matrix
from lab.kernels.model import Kernel, Target
from lab.kernels.tree import Trees
from lab.progress import Progress

if TYPE_CHECKING:
    from pathlib import Path


def target(name: str) -> Target:
    return Target(name, Kernel(name, name, name, name, "x86_64", "stock", "debian", "gcc-14", True))


class Source:
    def headers(self, kernel: Kernel) -> str:
        if kernel.version == "4.4":
            raise FetchError("gone")
        return kernel.version

    def toolchain(self, _kernel: Kernel) -> str:
        return "gcc"


def cells(trees: Trees, *names: str) -> list[Cell]:
    source: Any = Source()
    cache: Any = None
    return list(matrix(trees, list(map(target, names)), source, cache, Progress(quiet=True)))


def test_each_module_and_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def build(_trees: Trees, headers: str, *_: object, **__: object) -> Modules:
        if headers == "7.3":
            raise ModuleFailed("mine does not build", "make: ***")
        failed = {"b": "b.c:1: error"} if headers == "6.1" else {}
        built = {name: tmp_path for name in ("a", "b") if name not in failed}
        return Modules(built, built, failed, {"a": "a.c:1: warning"}, "")

    monkeypatch.setattr(matrix_, "build_trees", build)
    (tmp_path / "Kbuild").write_text("obj-m := a.o b.o")
    found = cells(Trees.of(tmp_path), "6.1", "6.12", "7.3")
    assert [(cell.module, cell.target, cell.word) for cell in found] == [
        ("a", "6.1-x86_64", "warnings"),
        ("b", "6.1-x86_64", "FAILED"),
        ("a", "6.12-x86_64", "warnings"),
        ("b", "6.12-x86_64", "built"),
        ("a", "7.3-x86_64", "FAILED"),
        ("b", "7.3-x86_64", "FAILED"),
    ]
    assert found[-1].failed == "mine does not build\nmake: ***"
    (tmp_path / "Kbuild").write_text("obj-m := $(NAMES)")
    assert [cell.module for cell in cells(Trees.of(tmp_path), "7.3")] == [""]


def test_what_cannot_be_fetched_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matrix_, "build_trees", lambda *_: Modules({}, {}, {}, {}, ""))
    with pytest.raises(FetchError, match="gone"):
        cells(Trees(), "4.4", "6.1")
