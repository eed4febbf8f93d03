# SPDX-License-Identifier: MIT
"""Building modules, with a make that costs nothing: one culprit takes nobody down, what is right stays."""

from __future__ import annotations

import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from lab.arch import X86_64
from lab.errors import BuildFailed, LabError, ModuleFailed, UsageError
from lab.kernels import process
from lab.kernels.build import Modules, build_agent, build_modules, build_trees
from lab.kernels.make_output import first_errors
from lab.kernels.model import Headers, Kernel
from lab.kernels.process import run
from lab.kernels.roots import Root
from lab.kernels.sources import File, read_sources, synchronise
from lab.kernels.tree import Tree, Trees
from lab.progress import Progress
from lab.store.cache import Cache

if TYPE_CHECKING:
    from pathlib import Path

# What kbuild does, as far as it matters here: each X.c is the module X; a file that says "#error" does not
# compile, one that says "warn" is warned about, "use S" and "export S" are about symbols. What is newer than
# its object is compiled, and modules are made only when all is.
MAKE = """
import os, pathlib, re, sys
tree = pathlib.Path([a for a in sys.argv if a.startswith('M=')][0][2:])
if (tree / 'gone').exists():
    print("make[2]: *** No rule to make target 'kmod/mine.o', needed by 'kmod/'.  Stop."); sys.exit(2)
if (tree / 'nonsense').exists():
    print('Kbuild:1: *** missing separator.  Stop.'); sys.exit(2)
(tree.parent / 'variables').write_text(' '.join(a for a in sys.argv if a.startswith(('OWN', 'KCFLAGS'))))
only = [name for a in sys.argv if a.startswith('LAB_ONLY=') for name in a[9:].split()]
sources = [s for s in sorted(tree.glob('*.c')) if not only or s.stem in only]
bad, symvers = False, ''
(tree / 'modules.order').write_text(''.join(f'{s.with_suffix(".o")}\\n' for s in sources))
for s in sources:
    o, text = s.with_suffix('.o'), s.read_text()
    s.with_suffix('.mod').write_text(f'{o}\\n')
    if o.exists() and o.stat().st_mtime_ns >= s.stat().st_mtime_ns:
        continue
    (tree.parent / 'compiled').open('a').write(s.name + ' ')
    print(f'  CC [M]  {o}')
    if '#error' in text:
        print(f'{s}:1:2: error: #error')
        print(f'make[2]: *** [/k/Makefile.build:9: {o}] Error 1')
        bad = True
        continue
    if 'warn' in text: print(f'{s}:1: warning: mind')
    o.write_text(text)
if bad: sys.exit(2)
for s in sources:
    if not s.with_suffix('.ko').exists() or s.with_suffix('.ko').read_text() != s.read_text():
        s.with_suffix('.ko').unlink(missing_ok=True)
        s.with_suffix('.ko').write_text(s.read_text())
    for e in re.findall('export (.*)', s.read_text()):
        symvers += f'0x0\\t{e}\\t{s.with_suffix("")}\\tEXPORT_SYMBOL\\t\\n'
(tree / 'Module.symvers').write_text(symvers)
"""
NM = """
import pathlib, re, sys
for name in sys.argv[4:]:
    for s in re.findall('use (.*)', pathlib.Path(name).read_text()): print(f'{name}: {s} U')
"""
STRIP = """
import pathlib, sys
for name in sys.argv[2:]: pathlib.Path(name).write_text(pathlib.Path(name).read_text().replace('debug', ''))
"""
GCC = """
import pathlib, sys
if 'warn' in pathlib.Path(sys.argv[-1]).read_text(): print('agent.c:1: error: warn'); sys.exit(1)
pathlib.Path(sys.argv[sys.argv.index('-o') + 1]).write_text('agent')
"""
KERNEL = Kernel("6.1", "6.1.1", "6.1.1-1", "6.1.0-1-amd64", "x86_64", "stock", "a test", "gcc-12", True)


class Lab:
    def __init__(self, base: Path) -> None:
        programs = base / "root/usr/bin"
        programs.mkdir(parents=True)
        for name, text in {"make": MAKE, "gnu-nm": NM, "gnu-strip": STRIP, "gnu-gcc-12": GCC}.items():
            path = programs / name.replace("gnu", X86_64.gnu)
            path.write_text(f"#!{sys.executable}{text}")
            path.chmod(0o755)
        self.root = Root(base / "root", "r", {})
        self.kdir = base / "kdir"
        self.kdir.mkdir()
        (self.kdir / "Module.symvers").write_text("0x0\tprintk\tvmlinux\tEXPORT_SYMBOL\t\n")
        self.headers = Headers(KERNEL, self.kdir, self.kdir, "h")
        self.source = base / "kmod"
        self.source.mkdir()
        self.write("Kbuild", "obj-m := ...")
        self.cache = Cache(base / "cache")

    def write(self, name: str, text: str) -> None:
        (self.source / name).write_text(text)

    def build(self, *only: str) -> Modules:
        for compiled in self.cache.root.glob("v1/build-tree/*/compiled"):
            compiled.unlink()
        quiet = Progress(quiet=True)
        return build_modules(Tree(self.source), self.headers, self.root, self.cache, quiet, only=only)

    def trees(self, *paths: Path) -> Modules:
        return build_trees(Trees.of(*paths), self.headers, self.root, self.cache, Progress(quiet=True))

    def compiled(self) -> list[str]:
        """Return what the last build compiled."""
        found = self.cache.root.glob("v1/build-tree/*/compiled")
        return [name for path in found for name in path.read_text().split()]


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


def test_a_culprit_is_alone_in_failed(lab: Lab) -> None:
    lab.write("core.c", "debug export put")
    lab.write("door-a.c", "use put\nuse printk\nwarn")
    lab.write("door_b.c", "#error")
    built = lab.build()
    assert set(built.ko) == {"core", "door_a"}  # the kernel's name
    assert built.failed == {"door_b": "kmod/door_b.c:1:2: error: #error"}
    assert built.warnings == {"door_a": "kmod/door-a.c:1: warning: mind"}
    assert "debug" in built.debug["core"].read_text()
    assert "debug" not in built.ko["core"].read_text()
    assert lab.build() == built
    assert lab.compiled() == []  # a warm hit runs nothing


def test_only_what_changed_is_compiled_again(lab: Lab) -> None:
    lab.write("a.c", "warn")
    lab.write("b.c", "1")
    lab.write("c.c", "#error")
    first = lab.build()
    assert sorted(lab.compiled()) == ["a.c", "b.c", "c.c", "c.c"]  # the second time as a stub
    lab.write("b.c", "2")
    lab.write("c.c", "fine")
    second = lab.build()
    assert lab.compiled() == ["b.c", "c.c"]
    assert set(second.ko) == {"a", "b", "c"}
    assert second.warnings == first.warnings  # said when it was compiled, true still
    assert second.ko["a"].samefile(first.ko["a"])  # one file on disk, not one more for each change
    assert not second.ko["b"].samefile(first.ko["b"])
    assert second.ko["b"].read_text() == "2"
    assert first.ko["b"].read_text() == "1"
    (lab.source / "b.c").unlink()
    assert set(lab.build().ko) == {"a", "c"}


PICKS = "obj-m := core.o door.o gate.o\n# of these, those in LAB_ONLY\n"


def test_modules_that_nobody_asked_for_wait(lab: Lab) -> None:
    lab.write("Kbuild", PICKS)
    lab.write("core.c", "export put")
    lab.write("door.c", "use put")
    lab.write("gate.c", "use put")
    assert set(lab.build("core", "door", "evdev").ko) == {"core", "door"}
    assert lab.compiled() == ["core.c", "door.c"]
    assert set(lab.build().ko) == {"core", "door", "gate"}
    assert lab.compiled() == ["gate.c"]
    assert set(lab.build("core", "door", "gate").ko) == {"core", "door", "gate"}
    assert lab.compiled() == []  # all is there, and all will do
    lab.write("gate.c", "")
    assert set(lab.build("core").ko) == {"core"}
    assert lab.compiled() == []


def test_modules_that_lack_one_that_nobody_asked_for_are_built_with_all(lab: Lab) -> None:
    lab.write("Kbuild", PICKS)
    lab.write("core.c", "export put")
    lab.write("door.c", "use put")
    built = lab.build("door")
    assert set(built.ko) == {"core", "door"}
    assert built.failed == {}


def test_undefined_symbols_and_what_follows(lab: Lab) -> None:
    lab.write("core.c", "#error\nEXPORT_SYMBOL_GPL(put);\nEXPORT_SYMBOL(get);")
    lab.write("door.c", "use put\nuse get\nexport knob")
    lab.write("handle.c", "use knob")
    lab.write("lone.c", "use nowhere\nuse __this_module")
    lab.write("fine.c", "")
    built = lab.build()
    assert set(built.ko) == {"fine"}
    assert built.failed["door"] == "kmod/door.ko uses put, get of kmod/core.c, which does not build"
    assert built.failed["handle"] == 'ERROR: modpost: "knob" [kmod/handle.ko] undefined!'
    assert built.failed["lone"] == 'ERROR: modpost: "nowhere" [kmod/lone.ko] undefined!'


def test_when_nobody_is_to_blame_make_is_quoted(lab: Lab) -> None:
    lab.write("a.c", "")
    lab.write("nonsense", "")
    with pytest.raises(BuildFailed, match=r"kmod does not build for 6\.1\.0-1-amd64") as caught:
        lab.build()
    assert "missing separator" in str(caught.value)
    (lab.source / "nonsense").unlink()
    assert set(lab.build().ko) == {"a"}


def test_a_tree_whose_build_was_cut_off_is_built_anew(lab: Lab) -> None:
    lab.write("a.c", "1")
    lab.write("b.c", "1")
    lab.build()
    (kept,) = lab.cache.root.glob("v1/build-tree/*")
    (kept / "dirty").touch()
    lab.write("b.c", "2")
    lab.build()
    assert lab.compiled() == ["a.c", "b.c"]
    assert not (kept / "dirty").exists()


def test_a_tree_that_is_none(lab: Lab, tmp_path: Path) -> None:
    (lab.source / "Kbuild").unlink()
    with pytest.raises(UsageError, match="neither a Kbuild nor a Makefile"):
        lab.build()
    with pytest.raises(UsageError, match="is not a directory"):
        read_sources(tmp_path / "nowhere")
    lab.write("Makefile", "")
    with pytest.raises(BuildFailed, match="has no module to build"):
        lab.build()


def test_make_is_told_variables(lab: Lab) -> None:
    lab.write("a.c", "1")
    tree = Tree(lab.source, ("OWN=m", "OWN_PWD={tree}"))
    headers = Headers(KERNEL, lab.kdir, lab.kdir, "h")
    first = build_modules(tree, headers, lab.root, lab.cache, Progress(quiet=True))
    (copy,) = lab.cache.root.glob("v1/build-tree/*/tree")
    assert (copy.parent / "variables").read_text().endswith(f" OWN=m OWN_PWD={copy}")
    assert lab.build().digest != first.digest


def test_a_directory_with_a_blank_in_its_name(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    lab.source = lab.source.rename(tmp_path / "my $module")
    lab.write("a.c", "1")
    assert set(lab.build().ko) == {"a"}
    (said,) = lab.cache.root.glob("v1/build-tree/*/variables")
    assert said.read_text().endswith("=my__module/")


def test_a_source_that_is_no_c(lab: Lab) -> None:
    lab.write("gone", "")
    with pytest.raises(ModuleFailed, match=r"kmod does not build for .*\n  kbuild finds no mine\.c\n"):
        lab.build()
    lab.write("mine.cpp", "")
    with pytest.raises(ModuleFailed, match=r"no mine\.c, and mine\.cpp is none: a kernel has no C\+\+\n"):
        lab.build()


def test_what_a_build_left_is_no_source(tmp_path: Path) -> None:
    for name in (
        "Kbuild",
        "a.c",
        "a.o",
        ".a.o.cmd",
        "a.mod.c",
        "Module.symvers",
        "x.patch",
        "sub/b.h",
        ".git/c.c",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "sub/round").symlink_to(tmp_path)
    assert read_sources(tmp_path) == {name: File(name.encode()) for name in ("Kbuild", "a.c", "sub/b.h")}


def test_synchronise_makes_what_it_writes_the_newest(tmp_path: Path) -> None:
    synchronise(tmp_path, {"a.c": File(b"1"), "b.c": File(b"1"), "sub/c.h": File(b"1")})
    (tmp_path / "a.o").write_text("object")
    future = time.time_ns() + 3600 * 10**9
    os.utime(tmp_path / "a.o", ns=(future, future))  # the clock was set back since
    before = (tmp_path / "b.c").stat().st_mtime_ns
    synchronise(tmp_path, {"a.c": File(b"2"), "b.c": File(b"1")})
    assert (tmp_path / "a.c").stat().st_mtime_ns > future
    assert (tmp_path / "b.c").stat().st_mtime_ns == before
    assert not (tmp_path / "sub/c.h").exists()
    assert (tmp_path / "a.o").exists()


def test_the_agent_is_made_once(lab: Lab, tmp_path: Path) -> None:
    source = tmp_path / "rootfs"
    source.mkdir()
    with pytest.raises(UsageError, match="has no C files"):
        build_agent(source, lab.root, X86_64, lab.cache, Progress(quiet=True))
    (source / "agent.c").write_text("1")
    first = build_agent(source, lab.root, X86_64, lab.cache, Progress(quiet=True))
    assert first.read_text() == "agent"
    assert build_agent(source, lab.root, X86_64, lab.cache, Progress(quiet=True)) == first
    (source / "agent.c").write_text("warn")
    with pytest.raises(BuildFailed, match=r"(?s)agent does not compile for x86_64.*agent\.c:1: error"):
        build_agent(source, lab.root, X86_64, lab.cache, Progress(quiet=True))


def test_run_keeps_the_order_of_what_is_said(tmp_path: Path) -> None:
    script = (
        "import os,sys; os.write(1, b'a'); os.write(2, b'b'); sys.stdout.write(sys.stdin.read()); sys.exit(3)"
    )
    assert run([sys.executable, "-c", script], cwd=tmp_path, env={}, stdin=b"c") == (3, "abc")


def test_what_threads_wait_for_ends_with_the_run(tmp_path: Path) -> None:
    script = "import os,sys,time; os.fork(); print(os.getpid()); sys.stdout.flush(); time.sleep(60)"
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(run, [sys.executable, "-c", script], cwd=tmp_path, env={})
        while not process._running:
            time.sleep(0.01)
        started = time.monotonic()
        process.end_all()
        with pytest.raises(LabError, match="interrupted"):
            waiting.result(timeout=20)
    assert time.monotonic() - started < 20
    assert not process._running | process._ended
    assert run([sys.executable, "-c", ""], cwd=tmp_path, env={}) == (0, "")


def test_scripts_stay_executable(lab: Lab, tmp_path: Path) -> None:
    lab.write("a.c", "1")
    lab.write("gen.sh", "#!/bin/sh\n")
    (lab.source / "gen.sh").chmod(0o755)
    lab.build()
    (copy,) = lab.cache.root.glob("v1/build-tree/*/tree/gen.sh")
    assert os.access(copy, os.X_OK)
    (lab.source / "gen.sh").chmod(0o644)
    lab.build()
    assert not os.access(copy, os.X_OK)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/Makefile").write_text("")
    (tmp_path / "sub/x").touch(0o755)
    assert read_sources(tmp_path / "sub")["x"] == File(b"", executable=True)


def test_modules_in_directories_below_are_one_tree(lab: Lab) -> None:
    (lab.source / "Kbuild").unlink()
    for name in ("common", "deep/er", "deep/er/still", "tests"):
        (lab.source / name).mkdir(parents=True)
    lab.write("Makefile", "all:\n\tmake -C common\n")
    lab.write("common/Kbuild", "obj-m := c.o\n")
    lab.write("deep/er/Makefile", "obj-$(CONFIG_X) += d.o still/\n")
    lab.write("deep/er/still/Makefile", "obj-m += s.o\n")
    lab.write("tests/Makefile", "all:\n")
    lab.write("x.c", "1")
    lab.build()
    (made,) = lab.cache.root.glob("v1/build-tree/*/tree/Kbuild")
    assert made.read_text() == "obj-m += common/\nobj-m += deep/er/\n"


def test_a_makefile_that_includes_another_one_is_taken_as_it_is(lab: Lab) -> None:
    (lab.source / "Kbuild").unlink()
    (lab.source / "sub").mkdir()
    lab.write("Makefile", "include list.mk\n")
    lab.write("sub/Kbuild", "obj-m := c.o\n")
    lab.write("x.c", "1")
    assert set(lab.build().ko) == {"x"}
    assert not list(lab.cache.root.glob("v1/build-tree/*/tree/Kbuild"))


def test_a_tree_uses_what_one_before_it_exports(lab: Lab, tmp_path: Path) -> None:
    second, third = tmp_path / "second", tmp_path / "third"
    for path in (second, third):
        path.mkdir()
        (path / "Kbuild").write_text("obj-m := ...")
    lab.write("core.c", "export put")
    (second / "door.c").write_text("use put")
    assert set(lab.trees(lab.source, second).ko) == {"core", "door"}
    assert lab.trees(second, lab.source).failed.keys() == {"door"}
    assert lab.trees(lab.source, second).failed == {}
    (third / "core.c").write_text("1")
    with pytest.raises(UsageError, match=r"third has a module core as a tree before it has"):
        lab.trees(lab.source, second, third)
    assert lab.trees().ko == {}


def test_of_what_a_compiler_says_the_first_errors_are_told() -> None:
    noise = "In file included from a.c:1:\n                 from b.h:2:\na.c: In function 'f':\n"
    one = "a.c:{0}:9: error: 'x' undeclared\n   {0} |  x = 1;\n      |  ^\n"
    text = noise + "".join(one.format(number) for number in range(10, 20)) + "a.c:30:1: warning: odd\n"
    told = first_errors(text, 2).splitlines()
    assert told == [
        "a.c:10:9: error: 'x' undeclared",
        "   10 |  x = 1;",
        "      |  ^",
        "a.c:11:9: error: 'x' undeclared",
        "   11 |  x = 1;",
        "      |  ^",
        "… and 8 more errors",
    ]
    fatal = "b.c:1:10: fatal error: no.h: No such file"
    assert first_errors(f"{fatal}\n") == fatal
    assert first_errors("make: *** no rule\n") == "make: *** no rule\n"
