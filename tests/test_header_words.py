# SPDX-License-Identifier: MIT
"""What collection can tell of a user's header without a compiler."""

from __future__ import annotations

from pathlib import Path

from lab.abi import header_words

SAMPLE = Path(__file__).parent / "data" / "sample_uapi.h"


def test_macros_and_enumerators() -> None:
    found = header_words(SAMPLE).constants
    assert found == {
        "SAMPLE_NAME",
        "SAMPLE_LIMIT",
        "SAMPLE_ONE",
        "SAMPLE_TWO",
        "SAMPLE_FLAGS",
        "SAMPLE_IN",
        "SAMPLE_OUT",
        "SAMPLE_IOC_SQUARE",
    }


def test_structs_and_their_fields() -> None:
    structs = header_words(SAMPLE).structs
    assert structs["sample_square"] == {"n", "square"}
    assert structs["sample_t"] == {
        *("name", "text", "low", "high", "words", "inner", "next"),
        *("a", "b", "c"),  # an anonymous member's are the struct's own
        *("named", "direction", "done", "tail"),
    }
