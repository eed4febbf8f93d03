# SPDX-License-Identifier: MIT
"""The lab's settings in the file that configures pytest: for its runs, and for the `lab` command."""

from __future__ import annotations

import pytest

from lab.errors import UsageError
from lab.plugin import options


def here() -> dict[str, str]:
    """Return the settings in the file that a run of pytest would find from this directory.

    Raises what config() does.
    """
    return of(config())


def config() -> pytest.Config:
    """Return what a run of pytest from this directory would be configured as.

    No conftest.py is run and nothing is captured. Raises UsageError for a file that pytest refuses.
    """
    # Nothing but settings is wanted; anyio comes with httpx, and is half of the time.
    bare = ["--noconftest", "--capture=no", "--assert=plain", "-p", "no:warnings", "-p", "no:anyio"]
    try:
        found = pytest.Config.fromdictargs({}, bare)
    except (pytest.UsageError, pytest.fail.Exception) as error:
        raise UsageError(f"pytest does not take its configuration: {error}") from None
    if not found.pluginmanager.has_plugin("lab.plugin"):  # nobody loads plugins here by their entry points
        found.pluginmanager.register(options)
    return found


def of(config: pytest.Config) -> dict[str, str]:
    """Return the settings in the ini file of a run; raises UsageError for one that is no text."""
    from lab.settings import SETTINGS  # noqa: PLC0415 - pytest starts without the lab's parts

    try:
        return {setting.name: str(config.getini(setting.name)) for setting in SETTINGS}
    except (pytest.UsageError, TypeError) as error:  # the latter up to pytest 9.1
        raise UsageError(str(error), hint="in TOML, settings are strings: write it in quotes") from None
