# SPDX-License-Identifier: MIT
"""What a tree's text says of its modules before anything is built."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lab.errors import UsageError
from lab.house import TREE, TREES
from lab.kernels.tree import Header, Tree, Trees, trees

if TYPE_CHECKING:
    from pathlib import Path


def tree(path: Path, **files: str) -> Tree:
    for name, text in files.items():
        file = path / name.replace("__", "/").replace("_c", ".c").replace("_h", ".h")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return Tree(path)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("obj-m := mine.o", {"mine"}),
        ("obj-m += a.o \\\n  b-two.o # not c.o\nobj-m+=D.o", {"a", "b_two", "D"}),
        ("obj-$(CONFIG_X) += x.o\nobj-${CONFIG_Y} := y.o\nmine-objs := z.o", {"x", "y"}),
        ("ifneq ($(KERNELRELEASE),)\n\tobj-m := m.o\nelse\nall:\n\tmake -C $(K) M=$(PWD)\nendif", {"m"}),
        ("obj-m := $(addsuffix .o,$(MODULES))", set()),
        ("obj-m := sub/ gone/", {"below"}),
        ("obj-y := kept.o", {"below"}),
        ("include list.mk", set()),
    ],
)
def test_what_a_makefile_lists(tmp_path: Path, text: str, names: set[str]) -> None:
    found = tree(tmp_path, Makefile=text, sub__Kbuild="obj-m := below.o")
    assert set(found.modules) == names
    assert not found.claims("mine")


def test_a_kbuild_stands_before_a_makefile(tmp_path: Path) -> None:
    assert set(tree(tmp_path, Kbuild="obj-m := a.o", Makefile="obj-m := b.o").modules) == {"a"}


def test_the_house_s_own_are_found_like_all_others() -> None:
    assert {f"lab_{path.stem}" for path in TREE.path.glob("*.c")} == set(TREE.modules)
    assert TREE.picks
    assert TREE.claims("lab_nowhere")
    assert not TREE.claims("evdev")
    assert "depth" in (TREE.parameters("lab_core") or ())
    assert TREES.header("lab_ioctl.h") == Header(TREE.path / "uapi", "lab_ioctl.h")


def test_parameters(tmp_path: Path) -> None:
    one = tree(
        tmp_path,
        Kbuild="obj-m := a.o b.o c.o d.o",
        a_c="module_param(x, int, 0);\n  module_param_named(y, z, int, 0);\nmodule_hw_param(p, int, 0);",
        b_c="#define KNOB(n) module_param_named(n, n, int, 0)\nKNOB(x);",
        c_c='#include "rest.c"\nmodule_param(x, int, 0);',
    )
    assert one.parameters("a") == frozenset({"x", "y", "p", "async_probe", "dyndbg"})
    for nobody_knows in ("b", "c", "d", "nowhere"):  # a macro of its own, another file, several files
        assert one.parameters(nobody_knows) is None


def test_headers_are_found_where_trees_have_them(tmp_path: Path) -> None:
    tree(tmp_path / "a", Kbuild="", uapi__x_h="", include__x_h="", include__linux__y_h="", z_h="")
    tree(tmp_path / "b", Kbuild="", x_h="", w_h="")
    found = Trees.of(tmp_path / "a", tmp_path / "b")
    assert found.header("x.h") == Header(tmp_path / "a/uapi", "x.h")
    assert found.header("linux/y.h") == Header(tmp_path / "a/include", "linux/y.h")
    assert found.header("w.h") == Header(tmp_path / "b", "w.h")
    assert found.header("v.h") is None
    assert found.headers() == ["w.h", "x.h", "z.h"]
    assert found.places() == ["a/uapi/", "a/include/", "a/", "b/"]


def test_faults(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    tree(one, Kbuild="")
    (two / "faults").mkdir(parents=True)
    (two / "faults/late.patch").touch()
    assert Trees.of(one, two).fault("late") == two / "faults/late.patch"
    with pytest.raises(UsageError, match="no fault is called 'lat'; did you mean 'late'"):
        Trees.of(one, two).fault("lat")


def test_what_is_no_tree(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--module names .*/x, which is not a directory"):
        trees({tmp_path / "x": "--module"})
    with pytest.raises(UsageError, match="which has neither a Kbuild nor a Makefile"):
        trees({tmp_path: "--module"})
    below = tree(tmp_path, sub__Makefile="obj-m := x.o")
    assert below.is_described_by(tmp_path / "sub/Makefile")
    assert set(below.modules) == {"x"}
    assert trees({tmp_path: "--module"}, ["X=1"]).all[0].make == ("X=1",)
    with pytest.raises(UsageError, match="make is told '-k', which is no NAME=value"):
        trees({tmp_path: "--module"}, ["-k"])
    (tmp_path / "link").symlink_to(tmp_path)
    assert trees({tmp_path: "--module", tmp_path / "link": "--module"}) == Trees.of(tmp_path)
