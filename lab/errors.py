# SPDX-License-Identifier: MIT
"""Everything that the lab raises on purpose.

::

    LabError                     carries a hint: what the user can do
    ├── UsageError               an option, a setting or a word of the user's is wrong
    │   ├── KernelNotOffered     nobody offers the kernel that was asked for
    │   └── ScenarioError        mistakes in a scenario file, all of them
    ├── HostError                this machine cannot do it: disk, rights, missing mirror
    │   └── CacheError           the cache directory is unwritable or full
    ├── FetchError               the archive did not give what it should
    │   ├── SignatureError       an index is not signed by Debian's keys
    │   └── HashMismatch         a file is not what the signed index says
    ├── BuildFailed              something of the lab's does not compile: the compiler's own lines
    │   └── ModuleFailed         a module, or a header of its, does not
    ├── BootFailed               no agent came up: the console's tail
    └── GuestError               something happened to a running guest
        ├── GuestLost            it died: panic, triple fault, QEMU killed
        ├── GuestHung            a deadline passed without an answer
        └── AgentError           it answered what the protocol does not allow
    Unsupported                  not an error: this target cannot do it, for a checked reason
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def printable(text: str) -> str:
    """Return a text with those characters escaped that a terminal would obey instead of showing them."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escape(ord(c)) for c in text)


def _escape(code: int) -> str:
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


class LabError(Exception):
    """Something the lab can explain; `hint` says what the user can do about it."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message


class UsageError(LabError):
    """An option, a setting or a word of the user's is wrong."""


class KernelNotOffered(UsageError):  # noqa: N818 - it is a verdict on what was asked
    """Nobody offers the kernel that was asked for."""


@dataclass(frozen=True, order=True)
class Mistake:
    """One mistake in one file, printed ``file:line: message``."""

    file: Path
    line: int
    message: str

    def __str__(self) -> str:
        message = "\n".join(map(printable, self.message.split("\n")))
        return f"{printable(str(self.file))}:{self.line}: {message}"


class ScenarioError(UsageError):
    """All the mistakes of a scenario file at once."""

    def __init__(self, mistakes: Sequence[Mistake]) -> None:
        self.mistakes = tuple(sorted(mistakes))
        super().__init__("\n".join(map(str, self.mistakes)))


class HostError(LabError):
    """This machine cannot do it: disk, rights, a missing mirror."""


class CacheError(HostError):
    """The cache directory is unwritable, full or not a cache."""


class FetchError(LabError):
    """The archive did not give what it should."""


class SignatureError(FetchError):
    """An index is not signed by a key of Debian's."""


class HashMismatch(FetchError):  # noqa: N818 - the field's word
    """A file is not what the signed index says."""


class BuildFailed(LabError):  # noqa: N818 - a verdict's name
    """Something does not compile; `output` holds the compiler's own lines."""

    def __init__(self, message: str, output: str, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.output = output

    def __str__(self) -> str:
        return f"{super().__str__()}\n{self.output}"


class ModuleFailed(BuildFailed):
    """A module, or a header of its, does not compile against a kernel."""

    @property
    def whole(self) -> str:
        """All that it says, for where it is told of each module."""
        return "\n".join(filter(None, [self.message, self.output, self.hint]))


class BootFailed(LabError):  # noqa: N818 - a verdict's name
    """No agent came up; `console` holds the console's tail."""

    def __init__(self, message: str, console: str, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.console = console

    def __str__(self) -> str:
        return f"{super().__str__()}\nthe console's last lines:\n{self.console}"


class GuestError(LabError):
    """Something happened to a running guest."""


class GuestLost(GuestError):  # noqa: N818 - a verdict's name
    """The guest died: panic, triple fault, QEMU killed."""


class GuestHung(GuestError):  # noqa: N818 - a verdict's name
    """A deadline passed without an answer."""


class AgentError(GuestError):
    """The agent answered what the protocol does not allow."""


class Unsupported(Exception):  # noqa: N818 - a verdict's name
    """This target cannot do it; `reason` was checked there."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
