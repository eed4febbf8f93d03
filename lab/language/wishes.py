# SPDX-License-Identifier: MIT
"""Wishes: what may be wanted of a part of a result, how it is compared, and how a difference is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from lab.abi.layout import Unpacked, nearest
from lab.errors import UsageError
from lab.language.composites import TreeKind
from lab.language.kinds import AddressKind, IntKind, Kind
from lab.language.memory_kinds import DataKind
from lab.language.numbers import limited, same_address, same_number
from lab.language.padding import Dirt, dirt
from lab.language.show import compare_data, show, show_data, show_value
from lab.language.values import is_bound

if TYPE_CHECKING:
    import re

    from lab.language.choice import Choice
    from lab.language.context import Context
    from lab.language.data import Leaf
    from lab.language.expression import Expression
    from lab.language.requires import Machine
    from lab.language.values import Reference, Value


@dataclass(frozen=True)
class Mismatch:
    """One part of a result that is not as wanted; `path` is empty for the call as a whole."""

    path: str
    wanted: str
    got: str
    dirt: Dirt | None = None  # what was wrong is that alone

    def lines(self) -> tuple[str, str]:
        """Return the two texts, each with the part's name before it."""
        head = f"{self.path}: " if self.path else ""
        return f"{head}{self.wanted}", f"{head}{self.got}"


class Matcher(Protocol):
    """One wish."""

    def check(self, got: Any, path: str, context: Context) -> list[Mismatch]:
        """Return what differs."""


@dataclass(frozen=True)
class Equal:
    """Exactly this value."""

    value: Value
    kind: Kind
    written: str

    def check(self, got: Any, path: str, context: Context) -> list[Mismatch]:
        """Compare as the field's kind does; a struct that came is compared by its bytes with bytes."""
        wanted = self.value.resolve(context)
        if isinstance(wanted, bytes) and isinstance(got, Unpacked):
            got = got.raw
        if isinstance(wanted, bytes) and isinstance(got, bytes):
            if wanted == got:
                return []
            return [Mismatch(path, *compare_data(wanted, got))]
        if isinstance(wanted, float) and isinstance(got, float):
            same = abs(wanted - got) < 1e-9
        elif isinstance(wanted, str) and isinstance(got, bytes):
            same = wanted.encode() == got
        elif isinstance(self.kind, AddressKind) and isinstance(wanted, int) and isinstance(got, int):
            same = same_address(wanted, got, 8 * context.abi.arch.word, path, bound=is_bound(self.value))
        elif isinstance(wanted, int) and isinstance(got, int):
            same = same_number(wanted, got, path, bound=is_bound(self.value))
        else:
            same = wanted == got
        if same:
            return []
        text = show(wanted, self.kind, context, self.written)
        return [Mismatch(path, text, show(got, self.kind, context))]


@dataclass(frozen=True)
class Between:
    """At least, at most."""

    low: Value | None
    high: Value | None
    kind: Kind
    written: str

    def check(self, got: Any, path: str, context: Context) -> list[Mismatch]:
        """Compare a number, or the length of data."""
        number = len(got) if isinstance(got, (bytes, str, list, tuple)) else got
        if not isinstance(number, (int, float)):
            return [Mismatch(path, self.written, show(got, self.kind, context))]
        low, high = (
            None if limit is None else limited(limit.resolve(context), number, path, bound=is_bound(limit))
            for limit in (self.low, self.high)
        )
        if (low is None or low <= number) and (high is None or number <= high):
            return []
        shown = show(got, self.kind, context) if number is got else f"a length of {number}"
        return [Mismatch(path, self.written, shown)]


@dataclass(frozen=True)
class Matches:
    """A regular expression found in the text: an error's name, a number in decimal, data as latin-1."""

    pattern: re.Pattern[str]
    kind: Kind
    written: str

    def check(self, got: Any, path: str, context: Context) -> list[Mismatch]:
        """Search the text."""
        if isinstance(got, bytes):
            text = got.decode("latin-1")
        elif got is None or isinstance(got, Mapping):  # how a struct is printed is not what it holds
            text = None
        else:
            text = show_value(got, self.kind, context)
        if text is not None and self.pattern.search(text):
            return []
        return [Mismatch(path, self.written, show(got, self.kind, context))]


@dataclass(frozen=True)
class Each:
    """A list: as many items, each as wanted."""

    items: tuple[Matcher, ...]
    written: str

    def check(self, got: Any, path: str, context: Context) -> list[Mismatch]:
        """Compare item by item."""
        if isinstance(got, bytes):
            got = list(got)
        if not isinstance(got, Sequence) or isinstance(got, str):
            return [Mismatch(path, self.written, show(got, TreeKind(), context))]
        found: list[Mismatch] = []
        if len(got) != len(self.items):
            found.append(Mismatch(path, f"{len(self.items)} items", f"{len(got)}: {_items(got, context)}"))
        for index, (matcher, item) in enumerate(zip(self.items, got, strict=False)):
            found += matcher.check(item, f"{path}[{index}]", context)
        return found


@dataclass(frozen=True)
class Fields:
    """A mapping or record: the named parts as wanted; others are not looked at."""

    fields: Mapping[str, Matcher]
    written: str

    def check(self, got: Any, path: str, context: Context) -> list[Mismatch]:
        """Compare part by part."""
        if got is None or isinstance(got, (int, bytes, str, list)):
            return [Mismatch(path, self.written, show(got, TreeKind(), context))]
        found: list[Mismatch] = []
        for name, matcher in self.fields.items():
            inner = f"{path}.{name}" if path else name
            there = got.get(name, _ABSENT) if isinstance(got, Mapping) else getattr(got, name, _ABSENT)
            if there is _ABSENT:
                names = list(got) if isinstance(got, Mapping) else list(vars(got))
                found.append(Mismatch(inner, "is there", f"there is none{nearest(name, names)}"))
            else:
                found += matcher.check(there, inner, context)
        return found


@dataclass(frozen=True)
class StructLike:
    """Data that is a struct: its named fields as wanted, and no byte more or less than the struct has.

    What lies between the fields is nothing of anybody's: it must be zero.
    """

    name: str
    fields: Fields

    def size(self, context: Context) -> int | None:
        """Return how many bytes it is; None: as many as there are."""
        struct = context.struct(self.name)
        return None if any(field.flexible for field in struct.fields) else struct.size

    def check(self, got: Any, path: str, context: Context) -> list[Mismatch]:
        """Unpack and compare."""
        if isinstance(got, Unpacked):
            if got.struct.name == self.name:
                return self.fields.check(got, path, context)  # its padding is looked at as the call's memory
            got = got.raw
        struct = context.struct(self.name)
        if not isinstance(got, bytes):
            return [Mismatch(path, self.fields.written, show(got, TreeKind(), context))]
        if len(got) < struct.size or self.size(context) not in (None, len(got)):
            wanted = f"struct {self.name}, {struct.size} bytes"
            return [Mismatch(path, wanted, f"{len(got)} bytes: {show_data(got[:48])}")]
        unpacked = struct.unpack(got, context.abi.arch)
        unpacked.before = getattr(got, "before", b"")
        return [*self.fields.check(unpacked, path, context), *dirty(unpacked, path, context)]


@dataclass(frozen=True)
class Joined:
    """Data of several parts, some of them structs: each part as wanted, and nothing behind the last one."""

    parts: tuple[StructLike | Equal | Joined, ...]
    written: str

    def size(self, context: Context) -> int | None:
        """Return how many bytes the parts are; None: as many as there are."""
        sizes = [_size(part, context) for part in self.parts]
        return None if None in sizes else sum(each or 0 for each in sizes)

    def check(self, got: Any, path: str, context: Context) -> list[Mismatch]:
        """Cut into parts, and compare each."""
        if isinstance(got, Unpacked):
            got = got.raw
        size = self.size(context)
        if not isinstance(got, bytes) or size not in (None, len(got)):
            wanted = self.written if size is None else f"{size} bytes: {self.written}"
            return [Mismatch(path, wanted, show(got, DataKind(), context))]
        found: list[Mismatch] = []
        at = 0
        for index, part in enumerate(self.parts):
            length = _size(part, context)
            if length is None and index + 1 < len(self.parts):
                raise UsageError(f"{path}[{index}] is as long as its data is: it can only be the last part")
            end = len(got) if length is None else at + length
            found += part.check(got[at:end], f"{path}[{index}]", context)
            at = end
        return found


def _size(part: StructLike | Equal | Joined, context: Context) -> int | None:
    return len(part.value.resolve(context)) if isinstance(part, Equal) else part.size(context)


def dirty(struct: Unpacked, path: str, context: Context) -> list[Mismatch]:
    """Return what is wrong with the bytes between a struct's fields."""
    found = dirt(struct, context.abi.arch)
    if found is None:
        return []
    return [Mismatch(path, f"zero where struct {struct.struct.name} has no field", str(found), found)]


@dataclass(frozen=True)
class Like:
    """A scalar whose type the result tells: a number, or the content of a char array without its NULs."""

    leaf: Leaf
    written: str

    def check(self, got: Any, path: str, context: Context) -> list[Mismatch]:
        """Compare as what was got is."""
        if isinstance(got, bytes):
            wanted = self.leaf.content(context)
            if got == wanted or got.rstrip(b"\0") == wanted:
                return []
            return [Mismatch(path, *compare_data(wanted, got.rstrip(b"\0")))]
        if isinstance(got, (int, bool)):
            return self._number(got, path, context)
        wanted_text = self.leaf.content(context).decode(errors="replace")
        if isinstance(got, str) and got == wanted_text:
            return []
        return [Mismatch(path, self.written, show(got, TreeKind(), context))]

    def _number(self, got: int, path: str, context: Context) -> list[Mismatch]:
        if self.leaf.tree is None and self.leaf.reference is None:
            if self.written in ("true", "false") and got == (self.written == "true"):
                return []
            return [Mismatch(path, self.written, show(got, IntKind(), context))]
        wanted = self.leaf.number(context, path)
        if same_number(wanted, got, path, bound=is_bound(self.leaf)):
            return []
        return [Mismatch(path, show(wanted, IntKind(), context, self.written), show(got, IntKind(), context))]


@dataclass(frozen=True)
class Limit:
    """A bound of what only the target tells the type of."""

    leaf: Leaf

    @property
    def reference(self) -> Reference | None:
        """The leaf's, where it is one."""
        return self.leaf.reference

    @property
    def tree(self) -> Expression | None:
        """The leaf's, where it is one."""
        return self.leaf.tree

    def resolve(self, context: Context) -> int:
        """Return the number."""
        return self.leaf.number(context, "a bound")


@dataclass(frozen=True)
class FieldsOr:
    """Words that are a range or a pattern, or a struct's fields of these names: what was got tells."""

    fields: Fields
    other: Matcher

    def check(self, got: Any, path: str, context: Context) -> list[Mismatch]:
        """Compare as what was got is."""
        return (self.fields if isinstance(got, Mapping) else self.other).check(got, path, context)


class Anything:
    """Whatever it is."""

    written = "any"

    def check(self, got: Any, path: str, context: Context) -> list[Mismatch]:  # noqa: ARG002
        """Find nothing that differs."""
        return []


@dataclass(frozen=True)
class ByTarget:
    """One wish or another, by the target."""

    choice: Choice[Matcher]
    written: str

    def on(self, machine: Machine | None) -> Matcher:
        """Return the wish for a machine; raises UsageError where nobody said which one it is."""
        found = self.choice.of(machine)
        return found.on(machine) if isinstance(found, ByTarget) else found

    def check(self, got: Any, path: str, context: Context) -> list[Mismatch]:
        """Compare with the target's."""
        return self.on(context.machine).check(got, path, context)


def wish_on(wish: Matcher, machine: Machine | None) -> Matcher:
    """Return the wish for a machine, where it may differ by target."""
    return wish.on(machine) if isinstance(wish, ByTarget) else wish


_ABSENT = object()


def _items(got: Sequence[Any], context: Context) -> str:
    return (
        f"[{', '.join(show(item, TreeKind(), context) for item in got[:8])}{', …' if len(got) > 8 else ''}]"
    )
