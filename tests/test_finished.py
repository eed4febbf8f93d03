# SPDX-License-Identifier: MIT
"""Kernels that somebody else has built: what they are known by, and what is wrong with half of one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lab import settings as settings_
from lab.errors import UsageError
from lab.kernels.finished import Build, Packages
from lab.progress import Progress
from lab.store.cache import Cache

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lab.settings import Settings

QUIET = Progress(quiet=True)
CONFIG = "CONFIG_64BIT=y\nCONFIG_X86_64=y\nCONFIG_GCC_VERSION=120200\n"


@pytest.fixture
def have(tmp_path: Path) -> Iterator[tuple[Settings, Cache, Progress]]:
    cache = Cache(tmp_path / "cache")
    yield settings_.load({}, {"CHANLAB_CACHE": str(cache.root)}), cache, QUIET
    cache.close()


@pytest.fixture
def built(tmp_path: Path) -> Path:
    place = tmp_path / "build"
    (place / "include/config").mkdir(parents=True)
    files = {
        ".config": CONFIG,
        "Module.symvers": "",
        "modules.order": "",
        "System.map": "",
        "include/config/kernel.release": "6.9.0-rc3-mine+\n",
    }
    for name, text in files.items():
        (place / name).write_text(text)
    (tmp_path / "bzImage").write_bytes(b"kernel")
    return place


Have = tuple["Settings", Cache, Progress]


def test_a_build_is_known_by_what_it_holds(built: Path, have: Have) -> None:
    image = built.parent / "bzImage"
    found = Build(image, built, *have)
    (kernel,) = found.offers(["arm64", "x86_64"]).kernels
    assert (found.name, kernel.line, kernel.version) == ("build", "6.9", "6.9.0")
    assert (kernel.release, kernel.arch, kernel.compiler) == ("6.9.0-rc3-mine+", "x86_64", "gcc-12")
    assert kernel.ask == ("--kernel-image", str(image), "--kernel-build", str(built))
    assert not found.is_cached(kernel)
    before = kernel.package_version
    image.write_bytes(b"another")
    assert Build(image, built, *have).offers(["x86_64"]).kernels[0].package_version != before


def test_another_architecture_is_to_be_said(built: Path, have: Have) -> None:
    with pytest.raises(UsageError, match="is a kernel for x86_64") as error:
        Build(built.parent / "bzImage", built, *have).offers(["arm64"])
    assert "--arch x86_64" in str(error.value)


@pytest.mark.parametrize(
    ("config", "arch"),
    [
        ("CONFIG_X86_32=y\n", "i386"),
        ("CONFIG_ARM64=y\nCONFIG_64BIT=y\n", "arm64"),
        ("CONFIG_PPC64=y\nCONFIG_CPU_LITTLE_ENDIAN=y\n", "ppc64el"),
        ("CONFIG_RISCV=y\nCONFIG_64BIT=y\n", "riscv64"),
        ("CONFIG_S390=y\n", "s390x"),
    ],
)
def test_a_configuration_tells_the_architecture(built: Path, have: Have, config: str, arch: str) -> None:
    (built / ".config").write_text(config)
    assert Build(built.parent / "bzImage", built, *have).offers([arch]).kernels[0].arch == arch


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("CONFIG_SPARC=y\n", "of no architecture that the lab knows"),
        (f"{CONFIG}CONFIG_CC_IS_CLANG=y\n", "was built with clang"),
    ],
)
def test_what_cannot_be_used(built: Path, have: Have, config: str, said: str) -> None:
    (built / ".config").write_text(config)
    with pytest.raises(UsageError, match=said):
        Build(built.parent / "bzImage", built, *have).offers(["x86_64"])


@pytest.mark.parametrize(("gcc", "root"), [(90300, "gcc-10"), (130200, "gcc-14"), (170000, "gcc-16")])
def test_the_next_compiler_is_taken(built: Path, have: Have, gcc: int, root: str) -> None:
    (built / ".config").write_text(f"CONFIG_X86_64=y\nCONFIG_GCC_VERSION={gcc}\n")
    assert Build(built.parent / "bzImage", built, *have).offers(["x86_64"]).kernels[0].compiler == root


@pytest.mark.parametrize("name", ["Module.symvers", "modules.order", "include/config/kernel.release"])
def test_half_a_build_says_what_is_missing(built: Path, have: Have, name: str) -> None:
    (built / name).unlink()
    with pytest.raises(UsageError, match=f"it has no {name}"):
        Build(built.parent / "bzImage", built, *have)
    with pytest.raises(UsageError, match="there is no such file"):
        Build(built.parent / "none", built, *have)


@pytest.mark.parametrize(
    ("names", "lacks"),
    [
        ((), "linux-image"),
        (("linux-headers-6.9_1_amd64.deb",), "linux-image"),
        (("linux-image-6.9-dbg_1_amd64.deb", "linux-headers-6.9_1_amd64.deb"), "linux-image"),
        (("linux-image-6.9_1_amd64.deb", "linux-libc-dev_6.9_amd64.deb"), "linux-headers"),
    ],
)
def test_packages_that_are_no_kernel(tmp_path: Path, have: Have, names: tuple[str, ...], lacks: str) -> None:
    place = tmp_path / "debs"
    place.mkdir()
    for name in names:
        (place / name).write_bytes(b"")
    with pytest.raises(UsageError, match=f"there is no {lacks}"):
        Packages(place, *have)
