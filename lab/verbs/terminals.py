# SPDX-License-Identifier: MIT
"""A terminal's settings: the characters of c_cc stand at other places on some architectures."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lab.errors import Unsupported, UsageError
from lab.language.annotations import Int
from lab.language.context import Context
from lab.language.data import form

# What every terminal begins with: ^C ^\ DEL ^U ^D and so on.
CHARACTERS = {
    "VINTR": 3,
    "VQUIT": 28,
    "VERASE": 127,
    "VKILL": 21,
    "VEOF": 4,
    "VTIME": 0,
    "VMIN": 1,
    "VSTART": 17,
    "VSTOP": 19,
    "VSUSP": 26,
    "VEOL": 0,
    "VREPRINT": 18,
    "VDISCARD": 15,
    "VWERASE": 23,
    "VLNEXT": 22,
    "VEOL2": 0,
}
CFLAG = ("B38400", "CS8", "CREAD", "HUPCL")


@dataclass(frozen=True)
class Settings:
    """The flags, the line discipline's number, the special characters; the speeds are BOTHER's."""

    iflag: Int = 0
    oflag: Int = 0
    cflag: Int | None = None
    lflag: Int = 0
    line: Int = 0
    cc: dict[str, Int] = field(default_factory=dict)
    ispeed: Int = 0
    ospeed: Int = 0


def _read(name: str, context: Context, data: bytes) -> dict[str, Any]:
    layout = context.struct(name)
    values = layout.unpack(data, context.abi.arch)
    at = layout.find("c_cc").offset
    places = {each: context.abi.constants.get(each) for each in CHARACTERS}
    found: dict[str, Any] = {
        each.removeprefix("c_"): value for each, value in values.items() if each != "c_cc"
    }
    found["cc"] = {each: data[at + place] for each, place in places.items() if place is not None}
    return found


def _pack(name: str, context: Context, given: Settings) -> bytes:
    layout = context.struct(name)
    cflag = given.cflag
    if cflag is None:
        cflag = 0
        for word in CFLAG:
            cflag |= context.constant(word)
    values = {"c_iflag": given.iflag, "c_oflag": given.oflag, "c_cflag": cflag, "c_lflag": given.lflag}
    values["c_line"] = given.line
    for each, speed in (("c_ispeed", given.ispeed), ("c_ospeed", given.ospeed)):
        if any(member.name == each for member in layout.fields):
            values[each] = speed
        elif speed:
            raise Unsupported(f"struct {name} has no speeds on this target")
    packed = layout.pack(values, context.abi.arch)
    place = layout.find("c_cc")
    for each in given.cc:
        if each not in CHARACTERS:
            raise UsageError(f"{{{name}: …}}: {each!r} is none of {', '.join(CHARACTERS)}")
    for each, character in (CHARACTERS | given.cc).items():
        if not 0 <= character <= 0xFF:
            raise UsageError(f"{{{name}: …}}: {each} is a character, {character} is none")
        packed[place.offset + context.constant(each)] = character
    return bytes(packed)


def _termios_read(context: Context, data: bytes, _arguments: Mapping[str, Any]) -> dict[str, Any]:
    return _read("termios", context, data)


def _termios2_read(context: Context, data: bytes, _arguments: Mapping[str, Any]) -> dict[str, Any]:
    return _read("termios2", context, data)


def termios(context: Context, settings: Settings | None = None) -> bytes:
    """Make a terminal's settings for TCSETS: `iflag`, `oflag`, `cflag`, `lflag`, `line`, `cc`.

    Without anything: raw, with 38400 baud, 8 bits, CREAD and HUPCL. `cc: {VMIN: 1}` changes some of the
    special characters, which are otherwise those that every terminal begins with. TCGETS gives the same.
    """
    return _pack("termios", context, settings or Settings())


def termios2(context: Context, settings: Settings | None = None) -> bytes:
    """Make a terminal's settings for TCSETS2: the same, and `ispeed` and `ospeed`."""
    return _pack("termios2", context, settings or Settings())


form(termios, decode=_termios_read)
form(termios2, decode=_termios2_read)
