# SPDX-License-Identifier: MIT
"""The `lab` command finds its settings where pytest does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from lab import cli, settings
from lab.errors import UsageError
from lab.plugin import ini

if TYPE_CHECKING:
    from pathlib import Path

INI = "[pytest]\nCHANLAB_ACCEL = {}\n"
CFG = "[tool:pytest]\nCHANLAB_ACCEL = {}\n"
TOML = '[tool.pytest.ini_options]\nCHANLAB_ACCEL = "{}"\n'


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a directory below which the `lab` command is used; its conftest.py must not be run for that."""
    (tmp_path / "conftest.py").write_text("raise SystemExit('it was run')\n")
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    for name in [setting.name for setting in settings.SETTINGS]:
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("pytest.ini", INI),
        (".pytest.ini", INI),
        ("tox.ini", INI),
        ("setup.cfg", CFG),
        ("pyproject.toml", TOML),
    ],
)
def test_every_file_that_pytest_takes(here: Path, name: str, text: str) -> None:
    (here / name).write_text(text.format("tcg"))
    found = ini.here()
    assert found["CHANLAB_ACCEL"] == "tcg"
    assert found.keys() == {setting.name for setting in settings.SETTINGS}
    assert not any(value for name, value in found.items() if name != "CHANLAB_ACCEL")


def test_of_several_files_pytest_chooses(here: Path) -> None:
    (here / "tox.ini").write_text(INI.format("tcg"))
    assert ini.here()["CHANLAB_ACCEL"] == "tcg"
    (here / "pyproject.toml").write_text(TOML.format("kvm"))
    assert ini.here()["CHANLAB_ACCEL"] == "kvm"
    (here / "pytest.ini").write_text("")
    assert ini.here()["CHANLAB_ACCEL"] == ""


def test_what_a_file_leaves_out_is_not_set(here: Path) -> None:
    assert not any(ini.here().values())
    (here / "pytest.ini").write_text("[pytest]\naddopts = --no-such-option\nmy_own = 1\n")
    assert not any(ini.here().values())


def test_where_no_plugin_is_loaded_by_itself(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    (here / "pytest.ini").write_text(INI.format("tcg"))
    assert ini.here()["CHANLAB_ACCEL"] == "tcg"


def test_what_pytest_refuses_is_told(here: Path) -> None:
    (here / "pytest.ini").write_text("[pytest\n")
    with pytest.raises(UsageError, match=r"does not take its configuration: .*pytest\.ini"):
        ini.here()
    told = CliRunner().invoke(cli.main, ["clean", "--dry-run"])
    assert told.exit_code == 1
    assert told.output.startswith("lab: pytest does not take its configuration")


@pytest.mark.parametrize("error", [pytest.UsageError, TypeError])
def test_a_setting_that_is_no_text_is_told(error: type[Exception]) -> None:
    class Config:
        def getini(self, name: str) -> str:
            raise error(f"{name} expects a string, got int: 4")

    with pytest.raises(UsageError, match="CHANLAB_CACHE expects a string") as caught:
        ini.of(Config())  # type: ignore[arg-type]
    assert "in quotes" in caught.value.hint


def test_the_commands_settings_come_from_there(here: Path) -> None:
    (here / "pytest.ini").write_text(f"[pytest]\nCHANLAB_CACHE = {here}/mine\n")
    (here / "mine/v1/download/odd").mkdir(parents=True)
    (here / "mine/v1/download/odd/file").write_bytes(b"x")
    told = CliRunner().invoke(cli.main, ["clean"])
    assert (told.exit_code, told.output.count(f"{here}/mine")) == (0, 1)
