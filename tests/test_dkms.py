# SPDX-License-Identifier: MIT
"""What a dkms.conf says, sourced by this host's bash."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from lab.errors import ModuleFailed
from lab.kernels import dkms
from lab.kernels.dkms import Conf, Facts, Wanted
from lab.kernels.sources import File

if TYPE_CHECKING:
    from pathlib import Path

HEAD = "PACKAGE_NAME=mine\nPACKAGE_VERSION=1.0\n"
ONE = f"{HEAD}BUILT_MODULE_NAME[0]=mine\nDEST_MODULE_LOCATION[0]=/extra\n"


@pytest.fixture
def kdir(tmp_path: Path) -> Path:
    place = tmp_path / "kdir"
    place.mkdir()
    (place / ".config").write_text("CONFIG_NET=y\nCONFIG_I2C=m\n# CONFIG_DRM is not set\nCONFIG_HZ=250\n")
    return place


def read(kdir: Path, text: str, release: str = "6.1.0-37-amd64", machine: str = "x86_64") -> Conf:
    files = {"dkms.conf": File(text.encode()), "version": File(b"7.1\n"), "src/a.c": File(b"")}
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C"}
    return dkms.read(files, "tree", Facts(release, machine, kdir), bash=["bash"], environment=environment)


def test_the_usual_one(kdir: Path) -> None:
    text = f"""{HEAD}
MAKE[0]="make -C ${{kernel_source_dir}} M=${{dkms_tree}}/${{PACKAGE_NAME}}/${{PACKAGE_VERSION}}/build HDAPS=1"
CLEAN="make clean"
BUILT_MODULE_NAME[0]="mine-one"
BUILT_MODULE_NAME[1]="$PACKAGE_NAME"
BUILT_MODULE_LOCATION[1]="./src"
DEST_MODULE_LOCATION[0]=/extra
DEST_MODULE_LOCATION[1]=/extra
BUILD_DEPENDS[0]=other
AUTOINSTALL="yes"
"""
    found = read(kdir, text)
    assert found == Conf(
        "mine",
        (Wanted("mine-one"), Wanted("mine", "src/")),
        f"make KERNELRELEASE=6.1.0-37-amd64 -C {kdir} M={{tree}} HDAPS=1",
        depends=("other",),
    )
    assert [each.kernel_name for each in found.made] == ["mine_one", "mine"]


def test_what_is_not_said_is_what_dkms_takes_then(kdir: Path) -> None:
    found = read(kdir, f"{HEAD}DEST_MODULE_LOCATION=/extra\n")
    assert found.modules == (Wanted("mine"),)
    assert found.make == f"make KERNELRELEASE=6.1.0-37-amd64 -C {kdir} M={{tree}}"
    assert found.pre_build == ""
    assert read(kdir, HEAD).modules == ()


def test_it_is_a_shell_s_and_has_the_tree_and_the_kernel_at_hand(kdir: Path) -> None:
    text = f"""{ONE}
pushd $(dirname $BASH_SOURCE)
echo to nobody
MAKE="make VER=$(cat version) KV=$kernelver A=$arch SRC=$source_tree/mine-1.0 HERE=$PWD all"
popd
. $kernel_source_dir/.config
if [ -z "$CONFIG_DRM" ]; then PRE_BUILD="./pre.sh '$CONFIG_I2C  x'"; fi
false
"""
    found = read(kdir, text)
    assert found.make == (
        "make KERNELRELEASE=6.1.0-37-amd64 VER=7.1 KV=6.1.0-37-amd64 A=x86_64 SRC={tree} HERE={tree} all"
    )
    assert found.pre_build == "./pre.sh 'm  x'"


def test_an_editor_s_carriage_returns(kdir: Path) -> None:
    assert read(kdir, ONE.replace("\n", "\r\n")).modules == (Wanted("mine"),)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("MAKE[0]='make a'\nMAKE[1]='make b'", "make KERNELRELEASE={} a"),  # one without a match is for none
        ("MAKE[0]='make a'\nMAKE[1]='make b'\nMAKE_MATCH[1]='^6\\.'", "make KERNELRELEASE={} b"),
        ("MAKE[0]='make a'\nMAKE[1]='make b'\nMAKE_MATCH[1]='^5\\.'", "make KERNELRELEASE={} a"),
        ("MAKE[0]='make a'\nMAKE_MATCH[0]='^5\\.'", "make KERNELRELEASE={} -C {kdir} M={{tree}}"),
        ("MAKE=\"'make' a && make b\"", "'make' a && make b"),  # quoted: as it is
        ("MAKE='makepp a'", "makepp a"),
        ("MAKE='(cd src; make)'", "(cd src; make)"),
    ],
)
def test_which_make(kdir: Path, text: str, line: str) -> None:
    assert read(kdir, ONE + text).make == line.format("6.1.0-37-amd64", kdir=kdir)


def test_patches_by_kernel(kdir: Path) -> None:
    text = f"{ONE}PATCH[0]=all.patch\nPATCH[1]=old.patch\nPATCH_MATCH[1]='^5'\nPATCH[2]=new.patch\n"
    text += "PATCH_MATCH[2]='^6\\.[0-9]+\\.'\n"
    assert read(kdir, text).patches == ("all.patch", "new.patch")
    assert read(kdir, text, "5.10.0-1-amd64").patches == ("all.patch", "old.patch")


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("BUILD_EXCLUSIVE_KERNEL='^5\\.'", "6.1.0-37-amd64 does not match it"),
        ("BUILD_EXCLUSIVE_KERNEL='^(5|6)\\.'", ""),
        ("BUILD_EXCLUSIVE_KERNEL_MIN=6.2", "6.1.0-37-amd64 is older"),
        ("BUILD_EXCLUSIVE_KERNEL_MIN=6.1", ""),
        ("BUILD_EXCLUSIVE_KERNEL_MIN=6.1.0-37", ""),
        ("BUILD_EXCLUSIVE_KERNEL_MAX=6.1", "6.1.0-37-amd64 is newer"),
        ("BUILD_EXCLUSIVE_KERNEL_MAX=6.10", ""),
        ("OBSOLETE_BY=5.19", "6.1.0-37-amd64 is newer"),
        ("OBSOLETE_BY=5.19\nBUILD_EXCLUSIVE_KERNEL_MAX=6.2", ""),
        ("BUILD_EXCLUSIVE_ARCH='^(aarch64|arm)'", "x86_64 does not match it"),
        ("BUILD_EXCLUSIVE_ARCH=x86", ""),
        ("BUILD_EXCLUSIVE_CONFIG='CONFIG_NET CONFIG_DRM'", "6.1.0-37-amd64 is without CONFIG_DRM"),
        ("BUILD_EXCLUSIVE_CONFIG='CONFIG_HZ'", "6.1.0-37-amd64 is without CONFIG_HZ"),  # y or m, says dkms
        ("BUILD_EXCLUSIVE_CONFIG='!CONFIG_I2C'", "6.1.0-37-amd64 is with CONFIG_I2C"),
        ("BUILD_EXCLUSIVE_CONFIG='CONFIG_NET !CONFIG_DRM CONFIG_I2C'", ""),
    ],
)
def test_kernels_that_it_is_not_for(kdir: Path, line: str, why: str) -> None:
    excluded = read(kdir, f"{ONE}{line}\n").excluded
    if why:
        assert excluded.keys() == {"mine"}
        assert excluded["mine"].startswith(f"its dkms.conf has {line.partition('=')[0]}=")
        assert excluded["mine"].endswith(f", and {why}")
    else:
        assert excluded == {}


def test_a_module_may_be_excluded_alone(kdir: Path) -> None:
    text = f"{ONE}BUILT_MODULE_NAME[1]=new\nDEST_MODULE_LOCATION[1]=/extra\n"
    found = read(kdir, f"{text}BUILD_EXCLUSIVE_KERNEL_MIN[1]=6.5\n")
    assert found.excluded.keys() == {"new"}
    assert found.made == (Wanted("mine"),)
    assert read(kdir, f"{text}BUILD_EXCLUSIVE_KERNEL_MIN[0]=6.5\n").made == ()  # the first one's is for all


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{ONE}if true\n", "tree/dkms.conf: line 6: syntax error"),
        (f"{ONE}exit 3\n", "it ends the shell"),
        (f"set -e\n{ONE}frobnicate --now\n", "frobnicate: command not found"),
        ("PACKAGE_NAME=mine\n", "tree/dkms.conf: it sets no PACKAGE_VERSION"),
        (f"{HEAD}BUILT_MODULE_NAME[1]=x\n", "it sets no BUILT_MODULE_NAME[0]"),
        (f"{HEAD}BUILT_MODULE_NAME=x.ko\n", "it goes without a suffix"),
    ],
)
def test_one_that_fails_is_told_with_its_file(kdir: Path, text: str, message: str) -> None:
    with pytest.raises(ModuleFailed) as caught:
        read(kdir, text)
    assert "tree/dkms.conf" in caught.value.message
    assert message in str(caught.value)


def test_a_program_that_it_wants_and_nobody_has(kdir: Path) -> None:
    with pytest.raises(ModuleFailed) as caught:
        read(kdir, "PACKAGE_NAME=$(frobnicate)\nPACKAGE_VERSION=1\n")
    assert "no frobnicate" in caught.value.hint
    assert "chanlab_tools = frobnicate" in caught.value.hint


def test_one_that_hangs(kdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dkms, "_SECONDS", 0.3)
    with pytest.raises(ModuleFailed, match=r"tree/dkms.conf does not come to its end"):
        read(kdir, f"{ONE}sleep 60\n")


@pytest.mark.parametrize(
    ("said", "program"),
    [
        ("./configure: 12: gawk: not found", "gawk"),
        ("pre.sh: line 3: git: command not found\nmore", "git"),
        ("/usr/bin/env: 'python3': No such file or directory", "python3"),
        ("make[2]: flex: No such file or directory", "flex"),
        ("cat: config.h: No such file or directory", ""),
        ("./configure: error: kernel headers not found", ""),
    ],
)
def test_what_says_that_a_program_is_missing(said: str, program: str) -> None:
    hint = dkms.missing_program(said)
    assert (f"has no {program}: " in hint) if program else not hint
