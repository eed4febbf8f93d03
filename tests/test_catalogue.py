# SPDX-License-Identifier: MIT
"""Which kernels a user means."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.errors import KernelNotOffered, UsageError
from lab.kernels.catalogue import Catalogue
from lab.kernels.model import Kernel


def kernel(version: str, *, buildable: bool = True, flavour: str = "stock", package: str = "1") -> Kernel:
    line = ".".join(version.split(".")[:2])
    release = f"{version}-{package}-{flavour}"
    return Kernel(
        line, version, f"{version}-{package}", release, "x86_64", flavour, "debian x", "gcc-14", buildable
    )


KERNELS = (
    kernel("7.3.4"),
    kernel("7.3.4", flavour="rt"),
    kernel("7.2.12"),
    kernel("6.16.3", buildable=False),
    kernel("6.12.118", buildable=False),
    kernel("6.12.117", package="2"),
    kernel("6.12.117", package="1"),
    kernel("6.12.107"),
    kernel("6.1.192"),
    kernel("5.10.262"),
)
CATALOGUE = Catalogue(KERNELS, fetched=1.0, notes=("sid: old",))


def chosen(*specs: str, flavours: tuple[str, ...] = ("stock",)) -> list[str]:
    return [f"{target} {target.kernel.release}" for target in CATALOGUE.select(specs, ["x86_64"], flavours)]


@pytest.mark.parametrize(
    ("spec", "names"),
    [
        ("6.12", ["6.12-x86_64 6.12.117-2-stock"]),
        ("6.12.107", ["6.12.107-x86_64 6.12.107-1-stock"]),
        ("6.12.117", ["6.12.117-x86_64 6.12.117-2-stock"]),
        ("6.16.3", ["6.16.3-x86_64 6.16.3-1-stock"]),  # who names it gets it, built for or not
        ("oldest", ["5.10-x86_64 5.10.262-1-stock"]),
        ("newest", ["7.3-x86_64 7.3.4-1-stock"]),
        (">=7.2", ["7.2-x86_64 7.2.12-1-stock", "7.3-x86_64 7.3.4-1-stock"]),
        (">= 7.3", ["7.3-x86_64 7.3.4-1-stock"]),
    ],
)
def test_what_a_word_means(spec: str, names: list[str]) -> None:
    assert chosen(spec) == names


def test_all_means_every_line_that_can_be_built_for() -> None:
    lines = [name.split("-")[0] for name in chosen("all")]
    assert lines == CATALOGUE.lines() == ["5.10", "6.1", "6.12", "7.2", "7.3"]
    assert chosen(">=5.0") == chosen("all")


def test_each_kernel_comes_once() -> None:
    assert chosen("newest", "7.3", "7.3.4", "all")[0] == "7.3-x86_64 7.3.4-1-stock"
    assert len(chosen("newest", "7.3", "7.3.4", "all")) == 5


def test_flavours() -> None:
    assert chosen("7.3", flavours=("stock", "rt")) == ["7.3-x86_64 7.3.4-1-stock", "7.3-x86_64-rt 7.3.4-1-rt"]
    with pytest.raises(UsageError, match="no flavour 'kasan'"):
        chosen("7.3", flavours=("kasan",))
    with pytest.raises(KernelNotOffered, match="x86_64, rt"):
        chosen("6.1", flavours=("rt",))


@pytest.mark.parametrize(
    ("spec", "near"),
    [
        ("6.6", "nearest: 6.1 and 6.12\n"),
        ("4.19", "nearest: 5.10\n"),
        ("9.0", "nearest: 7.3\n"),
        (">=9.0", "nearest: 7.3\n"),
        ("6.12.50", "nearest: 6.12.107\n"),
        ("6.12.110", "nearest: 6.12.107 and 6.12.117\n"),
        ("6.16", "only kernels without headers, which no module can be built for: 6.16.3"),
    ],
)
def test_what_nobody_offers(spec: str, near: str) -> None:
    with pytest.raises(KernelNotOffered) as error:
        chosen(spec)
    said = str(error.value)
    assert said.startswith(f"no kernel {spec} is on offer for x86_64, stock\n")
    assert near in said
    assert "lines on offer: 5.10, 6.1, 6.12, 7.2, 7.3" in said
    assert "`lab kernels`" in said
    assert "left out: sid: old" in said


@pytest.mark.parametrize(
    "spec", ["", "7", "six", "6.12.", "v6.12", "<6.1", "6.12-rc1", ">=6", "6.12.1.2", "*"]
)
def test_what_is_no_kernel_at_all(spec: str) -> None:
    with pytest.raises(UsageError, match="names no kernel") as error:
        chosen(spec)
    assert not isinstance(error.value, KernelNotOffered)


def test_an_unknown_architecture() -> None:
    with pytest.raises(UsageError, match="unknown architecture 'vax'"):
        CATALOGUE.select(["6.12"], ["vax"], ["stock"])


def test_an_empty_catalogue() -> None:
    with pytest.raises(KernelNotOffered, match="no kernel is on offer"):
        Catalogue((), 1.0).select(["newest"], ["x86_64"], ["stock"])


@given(st.text(alphabet="0123456789.>= abnewstold", max_size=12))
def test_any_word_selects_or_explains(spec: str) -> None:
    try:
        targets = CATALOGUE.select([spec], ["x86_64"], ["stock"])
    except UsageError as error:
        assert error.hint  # noqa: PT017 - either is right
    else:
        assert targets
        assert all(target.kernel in KERNELS for target in targets)


@given(
    st.lists(
        st.tuples(st.integers(3, 9), st.integers(0, 30), st.integers(0, 300), st.booleans()), max_size=12
    )
)
def test_a_line_is_its_newest_kernel_that_can_be_built_for(rows: list[tuple[int, int, int, bool]]) -> None:
    ordered = sorted(set(rows), reverse=True)
    found = Catalogue(tuple(kernel(f"{a}.{b}.{c}", buildable=good) for a, b, c, good in ordered), 1.0)
    for line in found.lines():
        best = max(row for row in rows if row[3] and f"{row[0]}.{row[1]}" == line)
        target = found.select([line], ["x86_64"], ["stock"])[0]
        assert target.kernel.version == f"{best[0]}.{best[1]}.{best[2]}"
        assert target.kernel.buildable


def test_a_warm_run_does_not_pay_for_the_archive() -> None:
    text = """
import sys, lab.kernels.catalogue, lab.kernels.debian.packages, lab.kernels.debian.offers
import lab.kernels.roots, lab.store.cache, lab.settings
print(sorted({"httpx", "debian", "rich", "pysequoia", "yaml"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", text], cwd=Path(__file__).parents[1], check=True, stdout=-1)
    assert done.stdout == b"[]\n"
