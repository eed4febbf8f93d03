# SPDX-License-Identifier: MIT
"""Regular expressions that a scenario has."""

from __future__ import annotations

import re
import warnings

_MOST = 1000  # characters


def compiled(text: str) -> re.Pattern[str]:
    """Return the expression; raises re.error saying why it is none, whatever it is."""
    if len(text) > _MOST:
        raise re.error(f"it has more than {_MOST} characters")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # what will mean something else one day
            return re.compile(text)
    except (RecursionError, OverflowError, Warning) as error:
        raise re.error(str(error)) from None
