# SPDX-License-Identifier: MIT
"""What becomes of a template whose CPUs do not wake each other, and how that is told from a busy host."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import pytest

from lab.errors import HostError
from lab.guest import template, wakes

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("first", "second", "slow"),
    [
        (0.05, 0.01, False),  # the first time, much is translated
        (0.25, 0.02, False),
        (0.6, 0.3, False),  # a busy host stays busy
        (0.6, 0.1, True),
        (10.8, 5.2, True),  # nothing has woken that CPU up for good yet
    ],
)
def test_a_busy_host_is_not_a_slow_cpu(first: float, second: float, slow: bool) -> None:
    assert wakes.too_slow(first, second) is slow


def seal(monkeypatch: pytest.MonkeyPatch, path: Path, checks: list[str], *, last: bool) -> tuple[str, int]:
    """Return why a made-up template is refused, and how many clones were asked.

    `checks`: what each clone is found to be: 'slow', 'dead' or 'well'.
    """
    asked: list[str] = []

    def check(_made: Any, _spec: Any, *, whole: bool, quick: bool) -> None:
        assert whole
        asked.append(checks[len(asked)])
        if asked[-1] == "slow" and quick:
            raise wakes.SlowWakes("its CPUs do not wake each other")
        if asked[-1] == "dead":
            raise HostError("it stood still")

    made = template.Facts("00", 2.0, 0.01, 0.0, 1, "", "", "6.12", ["qemu"], kernel_stub=False)
    monkeypatch.setattr(template, "_freeze", lambda *_, **__: asdict(made))
    monkeypatch.setattr(template, "_check", check)
    for name in ("ram", "state"):
        (path / name).write_bytes(b"0")
    guest: Any = nullcontext()
    spec: Any = None
    why = template.seal(guest, spec, path, 1.0, last=last)
    assert json.loads((path / "template.json").read_text())["refused"] == why
    assert (path / "ram").exists() is not bool(why)
    return why, len(asked)


@pytest.mark.parametrize(
    ("checks", "last", "why", "asked"),
    [
        (["well"], False, "", 1),
        (["dead", "well"], False, "", 2),
        (["dead", "dead"], True, "it stood still", 2),
        (["slow"], False, "its CPUs do not wake each other", 1),
        (["slow"], True, "", 1),  # made twice, slow twice: better than booting each guest
        (["dead", "slow"], False, "its CPUs do not wake each other", 2),
    ],
)
def test_a_template_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, checks: list[str], last: bool, why: str, asked: int
) -> None:
    assert seal(monkeypatch, tmp_path, checks, last=last) == (why, asked)
