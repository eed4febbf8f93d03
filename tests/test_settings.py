# SPDX-License-Identifier: MIT
"""Settings: which of several values wins, what the host's apt sources say, and what cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab import settings
from lab.errors import UsageError
from lab.settings import SETTINGS, Mirrors, apt_mirrors, load


@pytest.fixture
def apt(tmp_path: Path) -> Path:
    (tmp_path / "sources.list.d").mkdir()
    return tmp_path


def test_the_environment_wins_over_the_ini_file(apt: Path) -> None:
    found = load({"CHANLAB_ACCEL": "kvm", "CHANLAB_CACHE": "/ini"}, {"CHANLAB_ACCEL": "tcg"}, apt=apt)
    assert (found.accel, found.cache) == ("tcg", Path("/ini"))
    assert dict(found.sources) == {"CHANLAB_CACHE": "pytest ini", "CHANLAB_ACCEL": "environment"}


def test_an_empty_value_is_none(apt: Path) -> None:
    assert load({"CHANLAB_ACCEL": "kvm"}, {"CHANLAB_ACCEL": ""}, apt=apt).accel == "kvm"


def test_defaults(apt: Path) -> None:
    found = load({}, {}, apt=apt)
    assert found.cache.name == "chanlab"
    assert (found.debian_mirror, found.security_mirror, found.qemu) == (None, None, None)
    assert (found.accel, found.index_hours, found.offline) == ("auto", 24, False)
    assert found.jobs >= 1


def test_every_setting_has_a_value_for_people(apt: Path) -> None:
    found = load({}, {"CHANLAB_QEMU": "~/qemu"}, apt=apt)
    assert {setting.name: found.value(setting.name) for setting in SETTINGS}["CHANLAB_QEMU"].startswith("/")


def test_a_home_directory_and_a_relative_path_are_made_whole(
    apt: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert load({}, {"CHANLAB_CACHE": "~/c"}, apt=apt).cache == Path("/home/me/c")
    assert load({}, {"CHANLAB_CACHE": "c"}, apt=apt).cache == Path.cwd() / "c"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CHANLAB_ACCEL", "hvf"),
        ("CHANLAB_DEBIAN_MIRROR", "ftp://HOST/debian"),
        ("CHANLAB_DEBIAN_MIRROR", "HOST/debian"),
        ("CHANLAB_INDEX_HOURS", "soon"),
        ("CHANLAB_INDEX_HOURS", "-1"),
        ("CHANLAB_OFFLINE", "yes"),
        ("CHANLAB_CASH", "/cache"),
    ],
)
def test_what_cannot_be_is_named(apt: Path, name: str, value: str) -> None:
    with pytest.raises(UsageError, match=name):
        load({}, {name: value}, apt=apt)


def test_the_security_tree_is_beside_the_other(apt: Path) -> None:
    found = load({}, {"CHANLAB_DEBIAN_MIRROR": "https://HOST/debian/"}, apt=apt)
    assert (found.debian_mirror, found.security_mirror) == (
        "https://HOST/debian",
        "https://HOST/debian-security",
    )
    assert load({}, {"CHANLAB_DEBIAN_MIRROR": "https://HOST/odd"}, apt=apt).security_mirror is None


def test_a_mirror_that_is_set_hides_that_of_the_host(apt: Path) -> None:
    (apt / "sources.list").write_text(
        "deb http://host/debian trixie main\ndeb http://host/sec trixie-security main\n"
    )
    found = load({}, {"CHANLAB_DEBIAN_MIRROR": "https://HOST/debian"}, apt=apt)
    assert found.security_mirror == "https://HOST/debian-security"
    assert load({}, {}, apt=apt).security_mirror == "http://host/sec"


def test_deb822_sources(apt: Path) -> None:
    (apt / "sources.list.d/debian.sources").write_text(
        "Types: deb\n# http://no/debian\nURIs: http://one/debian/\nSuites: trixie trixie-updates\n"
        "Components: main\n\n"
        "Types: deb deb-src\nURIs:\n http://one/debian-security\nSuites:\n trixie-security\n"
        "Components: main\n"
    )
    assert apt_mirrors(apt) == Mirrors("http://one/debian", "http://one/debian-security")


def test_one_line_sources(apt: Path) -> None:
    (apt / "sources.list").write_text(
        "# deb http://no/debian trixie main\ndeb-src http://no/debian trixie main\n"
        "deb [arch=amd64 signed-by=/k.gpg] http://one/debian bookworm main contrib # mine\n"
        "deb http://one/debian-security bookworm-security main\n"
    )
    assert apt_mirrors(apt) == Mirrors("http://one/debian", "http://one/debian-security")


def test_what_debootstrap_leaves(apt: Path) -> None:
    (apt / "sources.list").write_text("deb http://one/debian trixie main\n")
    assert load({}, {}, apt=apt).security_mirror == "http://one/debian-security"


@pytest.mark.parametrize(
    "text",
    [
        "deb https://no/linux/debian bookworm stable",  # a vendor's
        "deb http://no/ubuntu jammy main",
        "deb cdrom:[Debian]/ trixie main",
        "deb http://no/apt cloud-sdk-bookworm main",
        "deb http://no",
        "\xff\xfe",
    ],
)
def test_other_sources_are_no_mirror(apt: Path, text: str) -> None:
    (apt / "sources.list").write_text(text)
    assert apt_mirrors(apt) == Mirrors(None, None)


def test_disabled_and_foreign_files_are_not_read(apt: Path) -> None:
    (apt / "sources.list.d/a.sources").write_text(
        "Enabled: no\nTypes: deb\nURIs: http://no/debian\nSuites: sid\nComponents: main\n"
    )
    (apt / "sources.list.d/b.list.disabled").write_text("deb http://no/debian sid main\n")
    assert apt_mirrors(apt) == Mirrors(None, None)


def test_the_debian_tree_is_preferred(apt: Path) -> None:
    (apt / "sources.list").write_text(
        "deb http://other/raspbian trixie main\ndeb http://one/debian trixie main\n"
    )
    assert apt_mirrors(apt).debian == "http://one/debian"


def test_cpus_obey_the_quota(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "cgroup_values", lambda _: ["max 100000", "150000 100000", "50000 100000"])
    assert settings.cpu_quota() == 0.5
    assert settings.cpus() == 1
