# SPDX-License-Identifier: MIT
"""Trees with a dkms.conf, built by a make that costs nothing and this host's bash."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from test_build import Lab

from lab.errors import ModuleFailed, UsageError
from lab.kernels.build import build_modules
from lab.kernels.roots import Root
from lab.kernels.sources import File, read_sources
from lab.kernels.surroundings import bound
from lab.kernels.tree import Tree, trees
from lab.progress import Progress

if TYPE_CHECKING:
    from pathlib import Path

    from lab.kernels.build import Modules

HEAD = "PACKAGE_NAME=mine\nPACKAGE_VERSION=1.0\nDEST_MODULE_LOCATION[0]=/extra\n"
USUAL = 'MAKE="make -C $kernel_source_dir M=$dkms_tree/mine/1.0/build modules"\n'


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    made = Lab(tmp_path)
    bash = shutil.which("bash")
    assert bash is not None
    made.root.path.joinpath("usr/bin/bash").symlink_to(bash)
    made.write("mine.c", "fine")
    return made


def build(lab: Lab, text: str) -> Modules:
    lab.write("dkms.conf", HEAD + text)
    return lab.build()


def test_what_it_says_is_made(lab: Lab) -> None:
    built = build(lab, f"{USUAL}BUILT_MODULE_NAME=mine\n")
    assert built.ko.keys() == {"mine"}
    assert (built.failed, built.warnings, built.excluded) == ({}, {}, {})
    assert build(lab, "BUILT_MODULE_NAME=mine\n").ko.keys() == {"mine"}  # dkms's own line


def test_what_does_not_compile_takes_nobody_down(lab: Lab) -> None:
    lab.write("bad.c", "#error")
    # What comes last of a line is what the shell says of it.
    for line in (USUAL, USUAL.replace(' modules"', ' ; true"'), USUAL.replace(' modules"', ' && exit 0"')):
        built = build(lab, line + "BUILT_MODULE_NAME[0]=mine\nBUILT_MODULE_NAME[1]=bad\n")
        assert built.ko.keys() == {"mine"}
        assert built.failed == {"bad": "kmod/bad.c:1:2: error: #error"}


def test_modules_below_each_with_a_make_of_its_own(lab: Lab) -> None:
    for name, text in (("one", "export shared"), ("two-b", "use shared")):
        (lab.source / "src" / name).mkdir(parents=True)
        (lab.source / "src" / name / f"{name}.c").write_text(text)
    text = """B=$dkms_tree/mine/1.0/build/src
MAKE="make -C k M=$B/one && make -C k M=$B/two-b"
BUILT_MODULE_NAME[0]=one
BUILT_MODULE_LOCATION[0]=src/one
BUILT_MODULE_NAME[1]=two-b
BUILT_MODULE_LOCATION[1]=src/two-b/
"""
    built = build(lab, text)
    assert built.ko.keys() == {"one", "two_b"}
    assert not built.failed
    assert "shared" in built.exports[0].read_text()
    lab.source.joinpath("src/one/one.c").write_text("#error export shared")
    built = build(lab, text)
    assert built.failed["one"] == "kmod/src/one/one.c:1:2: error: #error"
    assert "does not build" not in built.failed["one"]
    assert built.failed.keys() == {"one", "two_b"}


def test_what_was_to_be_built_and_was_not(lab: Lab) -> None:
    built = build(lab, "BUILT_MODULE_NAME[0]=mine\nBUILT_MODULE_NAME[1]=gone\nBUILT_MODULE_LOCATION[0]=x\n")
    assert built.failed["gone"].startswith(
        "kmod/gone.ko was to be built, by its dkms.conf, and make made none"
    )
    assert built.warnings["mine"] == "dkms looks for kmod/x/mine.ko, and make made kmod/mine.ko"
    built = build(lab, 'BUILT_MODULE_NAME=gone\nMAKE="echo nothing to do"\n')
    assert built.failed.keys() == {"gone"}
    assert "nothing to do" in built.failed["gone"]


def test_kernels_that_it_is_not_for(lab: Lab) -> None:
    text = "BUILT_MODULE_NAME[0]=mine\nBUILT_MODULE_NAME[1]=other\n"
    built = build(lab, f"{text}BUILD_EXCLUSIVE_KERNEL_MIN=6.5\nMAKE='exit 1'\n")
    assert built.excluded.keys() == {"mine", "other"}
    assert built.names == ["mine", "other"]
    assert not built.failed
    lab.write("other.c", "fine too")
    built = build(lab, f"{text}BUILD_EXCLUSIVE_KERNEL_MIN[1]=6.5\n")
    assert built.excluded.keys() == {"other"}
    assert built.ko.keys() == {"mine"}


def test_before_make(lab: Lab) -> None:
    lab.write("pre.sh", "#!/bin/bash\necho $1 $PWD\necho 'made use' > generated.c\nexit ${1:-0}\n")
    (lab.source / "pre.sh").chmod(0o755)
    text = "BUILT_MODULE_NAME[0]=mine\nBUILT_MODULE_NAME[1]=generated\n"
    assert build(lab, f"{text}PRE_BUILD=pre.sh\n").ko.keys() == {"mine", "generated"}
    assert not (lab.source / "generated.c").exists()
    built = build(lab, f"{text}PRE_BUILD='pre.sh 3'\n")
    assert built.failed.keys() == {"mine", "generated"}  # both are told, by name
    said = built.failed["mine"].splitlines()
    assert said[0].endswith("for 6.1.0-1-amd64: PRE_BUILD of its dkms.conf fails with status 3")
    assert said[1] == "$ ./pre.sh 3"
    assert said[2].startswith("3 ")
    (lab.source / "pre.sh").chmod(0o644)  # dkms passes over it
    assert build(lab, f"{text}PRE_BUILD=pre.sh\n").failed.keys() == {"generated"}


def test_a_program_that_the_root_lacks_is_named(lab: Lab) -> None:
    lab.write("pre.sh", "#!/bin/bash\nfrobnicate x\n")
    (lab.source / "pre.sh").chmod(0o755)
    for line in ("PRE_BUILD=pre.sh", "MAKE='frobnicate && make'"):
        said = build(lab, f"BUILT_MODULE_NAME=mine\n{line}\n").failed["mine"]
        assert "the root of the kernel's compiler has no frobnicate" in said
    lab.write("mine.c", "#error")
    said = build(lab, f"BUILT_MODULE_NAME=mine\n{USUAL.replace('make', 'frobnicate; make', 1)}").failed[
        "mine"
    ]
    assert said.startswith(
        "kmod/mine.c:1:2: error: #error\nthe root of the kernel's compiler has no frobnicate"
    )
    with pytest.raises(ModuleFailed, match=r"kmod/dkms\.conf cannot be read") as caught:
        build(lab, "set -e\nfrobnicate\n")
    assert "has no frobnicate" in caught.value.hint


def test_scripts_are_run_by_the_root_s_interpreters(lab: Lab) -> None:
    def first(line: str) -> str:
        files = {"x": File(f"#!{line}\nbody\n".encode(), executable=True)}
        return bound(files, lab.root)["x"].data.decode().partition("\n")[0]

    programs = lab.root.path / "usr/bin"
    assert first("/bin/sh -e") == "#!/bin/sh -e"
    assert first("/bin/bash -e") == f"#!{programs}/bash -e"
    assert first("/usr/bin/python3") == f"#!{programs}/env python3"
    plain = {"x": File(b"#!/bin/bash\n")}
    assert bound(plain, lab.root) == plain


def test_its_patches_are_applied_to_the_copy(lab: Lab) -> None:
    programs = lab.root.path / "usr/bin"
    programs.joinpath("patch").symlink_to(shutil.which("patch") or "/usr/bin/patch")
    (lab.source / "patches").mkdir()
    lab.write("patches/fix.patch", "--- a/mine.c\n+++ b/mine.c\n@@ -1 +1 @@\n-#error\n+right\n")
    lab.write("mine.c", "#error\n")
    text = "BUILT_MODULE_NAME=mine\n"
    assert build(lab, text).failed.keys() == {"mine"}
    assert build(lab, f"{text}PATCH=fix.patch\n").ko.keys() == {"mine"}
    assert (lab.source / "mine.c").read_text() == "#error\n"
    assert build(lab, f"{text}PATCH=fix.patch\nPATCH_MATCH='^5'\n").failed.keys() == {"mine"}
    assert "kmod/patches/gone.patch is not there" in build(lab, f"{text}PATCH=gone.patch\n").failed["mine"]
    lab.write("mine.c", "other\n")
    said = build(lab, f"{text}PATCH=fix.patch\n").failed["mine"]
    assert "kmod cannot be patched as its dkms.conf says" in said
    assert "fix.patch does not apply" in said


def test_faults_are_no_sources(lab: Lab) -> None:
    (lab.source / "faults").mkdir()
    lab.write("faults/x.patch", "")
    lab.write("y.patch", "")
    assert "y.patch" not in read_sources(lab.source)
    lab.write("dkms.conf", HEAD)
    assert "y.patch" in read_sources(lab.source)
    assert "faults/x.patch" not in read_sources(lab.source)


def test_trees_that_need_one_another(lab: Lab, tmp_path: Path) -> None:
    lab.write("dkms.conf", f"{HEAD}BUILT_MODULE_NAME=mine\nBUILD_DEPENDS=other\n")
    lab.write("mine.c", "use theirs")
    said = lab.build().failed["mine"]
    assert "kmod needs modules of other, by BUILD_DEPENDS" in said
    assert "PACKAGE_NAME=other" in said
    other = tmp_path / "two"
    other.mkdir()
    (other / "theirs.c").write_text("export theirs")
    (other / "dkms.conf").write_text(f"{HEAD.replace('mine', 'other')}BUILT_MODULE_NAME=theirs\n")
    built = lab.trees(lab.source, other)  # in whichever order they are named
    assert built.failed == {}
    assert built.ko.keys() == {"mine", "theirs"}
    assert built.homes == {"mine": lab.source, "theirs": other}


def test_a_dkms_conf_alone_says_what_to_build(lab: Lab) -> None:
    (lab.source / "Kbuild").unlink()
    lab.write("dkms.conf", HEAD)
    assert Tree(lab.source).makefile == lab.source / "dkms.conf"


def test_a_command_before_make(lab: Lab) -> None:
    (lab.source / "Kbuild").unlink()
    lab.write("Makefile.in", "")

    def build_with(command: str) -> Modules:
        tree = trees({lab.source: "--module"}, prepare=command).all[0]
        assert tree.makefile == lab.source / "Makefile.in"
        return build_modules(tree, lab.headers, lab.root, lab.cache, Progress(quiet=True))

    built = build_with("echo {release} > Makefile && echo '{kdir} {tree}' > generated.c; echo ${x:-mine}")
    assert built.ko.keys() == {"mine", "generated"}
    assert built.debug["generated"].read_text().startswith(f"{lab.kdir} /")
    with pytest.raises(
        ModuleFailed, match=r"kmod cannot be prepared for 6\.1\.0-1-amd64: chanlab_prepare"
    ) as caught:
        build_with("echo some; frobnicate")
    assert "some\nbash: line 1: frobnicate: command not found" in caught.value.output
    assert "chanlab_tools = frobnicate" in caught.value.hint
    with pytest.raises(UsageError, match="neither a Kbuild nor a Makefile"):
        trees({lab.source: "--module"})


def test_programs_that_are_named_are_behind_the_compiler_s(lab: Lab, tmp_path: Path) -> None:
    programs = tmp_path / "tools/usr/bin"
    programs.mkdir(parents=True)
    for name in ("frobnicate", "make"):
        (programs / name).write_text("#!/bin/sh\necho 'made of' $0 > generated.c\n")
        (programs / name).chmod(0o755)
    lab.write("make.sh", "#!/usr/bin/frobnicate\n")
    (lab.source / "make.sh").chmod(0o755)
    tools = Root(tmp_path / "tools", "t", {})
    for command in ("frobnicate", "./make.sh"):
        tree = Tree(lab.source, prepare=command, tools=("frobnicate",))
        quiet = Progress(quiet=True)
        built = build_modules(tree, lab.headers, lab.root, lab.cache, quiet, tools=tools)
        assert built.ko.keys() == {"mine", "generated"}
