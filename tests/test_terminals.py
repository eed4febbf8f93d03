# SPDX-License-Identifier: MIT
"""A terminal's settings, wherever an architecture keeps them."""

from __future__ import annotations

import pytest

from lab.abi import Abi
from lab.abi.layout import Field, Struct
from lab.arch import X86_64
from lab.errors import Unsupported, UsageError
from lab.language.context import Context
from lab.verbs.terminals import Settings, termios, termios2

FLAGS = ("c_iflag", "c_oflag", "c_cflag", "c_lflag")


def context(*, speeds: bool = False) -> Context:
    fields = [Field(name, 4 * at, 4, "uint") for at, name in enumerate(FLAGS)]
    fields += [Field("c_line", 16, 1, "uint"), Field("c_cc", 17, 19, "bytes")]
    if speeds:
        fields += [Field("c_ispeed", 36, 4, "uint"), Field("c_ospeed", 40, 4, "uint")]
    layout = Struct("termios", 44 if speeds else 36, tuple(fields))
    names = [
        "VINTR",
        "VQUIT",
        "VERASE",
        "VKILL",
        "VEOF",
        "VTIME",
        "VMIN",
        "VSWTC",
        "VSTART",
        "VSTOP",
        "VSUSP",
    ]
    names += ["VEOL", "VREPRINT", "VDISCARD", "VWERASE", "VLNEXT", "VEOL2"]
    constants = {name: place for place, name in enumerate(names)}
    constants |= {"B38400": 15, "CS8": 0x30, "CREAD": 0x80, "HUPCL": 0x400}
    return Context(Abi(X86_64, constants, {}, {"termios": layout, "termios2": layout}, {}))


def test_without_anything_it_is_raw_with_the_usual_characters() -> None:
    packed = termios(context())
    assert packed[:17] == bytes(8) + (0x4BF).to_bytes(4, "little") + bytes(5)
    assert packed[17:24] == bytes([3, 28, 127, 21, 4, 0, 1])


def test_characters_go_to_their_places() -> None:
    packed = termios(context(), Settings(lflag=2, cc={"VMIN": 7, "VTIME": 9}))
    assert packed[12] == 2
    assert packed[17 + 5 : 17 + 7] == bytes([9, 7])


def test_speeds() -> None:
    packed = termios2(context(speeds=True), Settings(cflag=0x1000, ispeed=5, ospeed=12345))
    assert packed[36:44] == (5).to_bytes(4, "little") + (12345).to_bytes(4, "little")
    with pytest.raises(Unsupported, match="no speeds"):
        termios(context(), Settings(ospeed=1))


def test_mistakes() -> None:
    with pytest.raises(UsageError, match="'VWRONG' is none of"):
        termios(context(), Settings(cc={"VWRONG": 1}))
    with pytest.raises(UsageError, match="is a character"):
        termios(context(), Settings(cc={"VMIN": 256}))
