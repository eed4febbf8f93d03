# SPDX-License-Identifier: MIT
"""What real runs of make said, of each way that kbuild writes it.

tests/data/make/RELEASE-1.log: bad.c and b.c (of the module `many`) do not compile, good.c warns;
RELEASE-2.log: they were repaired, nolic.c has no licence and calls what nobody has.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.kernels.make_output import Output, localise, parse

DATA = Path(__file__).parent / "data" / "make"
SOURCES = ("a.c", "b.c", "bad.c", "good.c", "nolic.c", "uapi/odd.h")
RELEASES = ("5.10", "6.12", "7.3")


def output(release: str, run: int) -> Output:
    return parse((DATA / f"{release}-{run}.log").read_text(), "/cache/tree", SOURCES, "kmod")


@pytest.mark.parametrize("release", RELEASES)
def test_culprits_with_the_compilers_own_lines(release: str) -> None:
    failed = {step.target: step.text for step in output(release, 1).failed}
    assert set(failed) == {"bad.o", "b.o"}
    assert failed["bad.o"].splitlines()[:2] == [
        "kmod/bad.c: In function 'wrong':",
        "kmod/bad.c:6:16: error: 'nothing' undeclared (first use in this function)",
    ]
    assert failed["b.o"].splitlines()[:2] == [
        "In file included from kmod/b.c:2:",
        "kmod/uapi/odd.h:1:12: error: unknown type name 'undefined_t'",
    ]
    assert "make" not in failed["b.o"]


@pytest.mark.parametrize("release", RELEASES)
def test_warnings_belong_to_their_file(release: str) -> None:
    said = {step.target: step.text for step in output(release, 1).steps if not step.failed}
    assert said["good.o"].startswith("kmod/good.c:3:12: warning: 'late' defined but not used")
    assert said["a.o"] == said["nolic.o"] == ""


@pytest.mark.parametrize("release", RELEASES)
def test_modposts_words_are_kept_apart(release: str) -> None:
    found = output(release, 2)
    said = found.warnings if release == "5.10" else found.modpost
    assert any("missing MODULE_LICENSE()" in line and "nolic" in line for line in said)
    assert not any("nowhere" in line for line in found.modpost + found.warnings)  # found otherwise
    assert all(step.kind == "MODPOST" for step in found.failed)
    assert bool(found.failed) == (release != "5.10")


def test_a_make_in_a_directory_below_names_files_from_there() -> None:
    sources = ("ext/a.c", "ext/sub/b.c", "x/c.c", "y/c.c", "ext/h.h")

    def said(line: str) -> str:
        return localise(line, "/tree", sources, "mine")

    assert said("a.c:1:2: error: x") == "mine/ext/a.c:1:2: error: x"
    assert said("In file included from sub/b.c:3:") == "In file included from mine/ext/sub/b.c:3:"
    assert said("./c.c:1: error: either") == "./c.c:1: error: either"
    assert said("h.h:1: error: the kernel's?") == "h.h:1: error: the kernel's?"
