# SPDX-License-Identifier: MIT
"""What the lab does where modules cannot be loaded ahead."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from lab.errors import CacheError, GuestHung, LabError
from lab.guest import loaded
from lab.prepare import Lab
from lab.progress import Progress
from lab.ready import Wishes
from lab.scenario import ModuleLoad
from lab.settings import load

if TYPE_CHECKING:
    from pathlib import Path

MODULES = (ModuleLoad("lab_core"),)


@pytest.fixture
def ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return what tries to load ahead and meets an error (None: loading is refused), and gives the notes."""
    house = Lab(load({"CHANLAB_CACHE": str(tmp_path)}), Wishes(seed=0), Progress(io.StringIO(), quiet=True))
    base, spec = SimpleNamespace(refused=""), SimpleNamespace(name="6.12-x86_64")
    parts = SimpleNamespace(images={"lab_core": b"image"})

    def meet(error: LabError | None) -> list[str]:
        def fail(*_: Any) -> None:
            if error is not None:
                raise error

        monkeypatch.setattr(loaded, "loaded", fail)
        assert house._loaded(base, spec, parts, MODULES) is None  # type: ignore[arg-type]  # all that is used
        return list(house._notes)

    return meet


def test_modules_that_are_refused_are_left_to_the_scenarios_without_a_word(ahead: Any) -> None:
    assert ahead(None) == []


def test_that_each_scenario_loads_for_want_of_a_template_is_told_with_the_reason(ahead: Any) -> None:
    assert ahead(GuestHung("the agent did not answer")) == [
        "6.12-x86_64: each scenario loads its modules itself: the agent did not answer"
    ]


def test_a_full_disk_is_an_error(ahead: Any) -> None:
    with pytest.raises(CacheError, match="no space"):
        ahead(CacheError("no space left"))
