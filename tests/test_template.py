# SPDX-License-Identifier: MIT
"""What becomes of a template that is refused: see lab.guest.template."""

import pytest

from lab.guest.template import makings


@pytest.mark.parametrize(
    ("answers", "told", "asked"),
    [
        (["", "never asked"], [], [False]),
        (["slow", ""], ["slow"], [False, True]),
        (["slow", "slow still"], ["slow"], [False, True]),
    ],
)
def test_a_template_that_is_refused_is_made_once_more(
    answers: list[str], told: list[str], asked: list[bool]
) -> None:
    """The last one is told that it is, and stays, whatever it is: its manifest says why it is refused."""
    left = iter(answers)
    lasts: list[bool] = []

    def once(last: bool) -> str:
        lasts.append(last)
        return next(left)

    assert list(makings(once)) == told
    assert lasts == asked
