# SPDX-License-Identifier: MIT
"""What is wanted of a result: read from under `expect`, compared, and told when it differs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from lab.abi.layout import nearest
from lab.language.by_target import is_choice, read_choice
from lab.language.composites import ListKind, MapKind, RecordKind, TreeKind
from lab.language.kinds import AddressKind, IntKind, Kind, TextKind
from lab.language.memory import PlacedValue
from lab.language.memory_kinds import DataKind, read_form, read_tree
from lab.language.nodes import MappingNode, Node, Pairs, ScalarNode, SequenceNode, text_of
from lab.language.outcome import Outcome
from lab.language.scope import kinds_of_outcome
from lab.language.show import compare_data, show, show_data, show_value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lab.language.choice import Choice
    from lab.language.context import Context
    from lab.language.data import Leaf
    from lab.language.reading import Reading
    from lab.language.requires import Machine
    from lab.language.values import Value
    from lab.language.verb import Verb


@dataclass(frozen=True)
class Mismatch:
    """One part of a result that is not as wanted; `path` is empty for the call as a whole."""

    path: str
    wanted: str
    got: str

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
        """Compare as the field's kind does: numbers of one width may be written with either sign."""
        wanted = self.value.resolve(context)
        if isinstance(wanted, bytes) and isinstance(got, bytes):
            if wanted == got:
                return []
            return [Mismatch(path, *compare_data(wanted, got))]
        if isinstance(wanted, float) and isinstance(got, float):
            same = abs(wanted - got) < 1e-9
        elif isinstance(wanted, str) and isinstance(got, bytes):
            same = wanted.encode() == got
        elif isinstance(self.kind, AddressKind) and isinstance(wanted, int) and isinstance(got, int):
            same = (wanted - got) % (1 << 8 * context.abi.arch.word) == 0
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
        low = None if self.low is None else self.low.resolve(context)
        high = None if self.high is None else self.high.resolve(context)
        inside = number is not None and (low is None or low <= number) and (high is None or number <= high)
        if inside:
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
        elif got is None:
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
    """Data that is a struct: its named fields as wanted, and no byte more or less than the struct has."""

    name: str
    fields: Fields

    def check(self, got: Any, path: str, context: Context) -> list[Mismatch]:
        """Unpack and compare."""
        if isinstance(got, Mapping):
            return self.fields.check(got, path, context)
        struct = context.struct(self.name)
        if not isinstance(got, bytes):
            return [Mismatch(path, self.fields.written, show(got, TreeKind(), context))]
        longer = len(got) > struct.size and not any(field.flexible for field in struct.fields)
        if len(got) < struct.size or longer:
            wanted = f"struct {self.name}, {struct.size} bytes"
            return [Mismatch(path, wanted, f"{len(got)} bytes: {show_data(got[:48])}")]
        return self.fields.check(struct.unpack(got, context.abi.arch), path, context)


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
            return self._number(int(got), path, context)
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
        if wanted == got or (wanted < 0 <= got and (wanted - got) % (1 << _width(got)) == 0):
            return []
        return [Mismatch(path, show(wanted, IntKind(), context, self.written), show(got, IntKind(), context))]


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


def _on(wish: Matcher, machine: Machine | None) -> Matcher:
    return wish.on(machine) if isinstance(wish, ByTarget) else wish


def _width(number: int) -> int:
    """Return the width that an unsigned number with its top bit set has: -1 is 0xffffffff in a __u32."""
    return next((bits for bits in (8, 16, 32) if number < 1 << bits), 64)


_ABSENT = object()


def _items(got: Sequence[Any], context: Context) -> str:
    return (
        f"[{', '.join(show(item, TreeKind(), context) for item in got[:8])}{', …' if len(got) > 8 else ''}]"
    )


# --- reading ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class WishKind(Kind):
    """A kind that reads by itself what may be wanted of it: messages, whose parts only their family knows."""

    def wish(self, node: Node, scope: Reading) -> Matcher:
        """Return the wish that a node is; notes mistakes in the scope."""
        raise NotImplementedError


def by_target(node: Node, scope: Reading, read: Callable[[Node], Matcher]) -> Matcher | None:
    """Return the wish of ``{">=6.12": …, else: …}``, each value read by `read`; None for any other node."""
    return ByTarget(read_choice(node, scope, read), text_of(node, 100)) if is_choice(node) else None


def matcher(kind: Kind, node: Node, scope: Reading, fields: Mapping[str, Any] | None = None) -> Matcher:
    """Return the wish that a node is, for a field of a kind; notes mistakes in the scope."""
    node = scope.given(node)
    chosen = by_target(node, scope, lambda each: matcher(kind, each, scope, fields))
    if chosen is not None:
        return chosen
    written = text_of(node, 100)
    special = _pattern(kind, node, scope, written) or _struct(kind, node, scope, written)
    if special is not None:
        return special
    if isinstance(kind, MapKind):
        return _map(kind, node, scope, written)
    if isinstance(kind, WishKind):
        return kind.wish(node, scope)
    if isinstance(kind, ListKind):
        items = scope.mistakes.items(node, scope.place)
        return Each(tuple(matcher(kind.of, item, scope) for item in items), written)
    if isinstance(kind, RecordKind):
        return _record(kind, node, scope, written)
    if isinstance(kind, TreeKind):
        return _tree(node, scope, written, fields)
    return Equal(kind.parse(node, scope), kind, written)


def _pattern(kind: Kind, node: Node, scope: Reading, written: str) -> Matcher | None:
    """Return the wish of ``{min, max}`` or ``{matches}``, None when the node is neither."""
    if not isinstance(node, MappingNode):
        return None
    keys = {key.value for key, _ in node.value}
    if not keys or not keys <= {"min", "max", "matches"}:
        return None
    pairs = scope.mistakes.pairs(node, scope.place)
    if "matches" in pairs:
        if len(pairs) > 1:
            scope.mistakes.add(node, f"{scope.place}: 'matches' stands alone, without min and max")
        text = scope.mistakes.scalar(pairs["matches"][1], "a regular expression") or ""
        try:
            return Matches(re.compile(text), kind, written)
        except re.error as error:
            scope.mistakes.add(pairs["matches"][1], f"{text!r} is no regular expression: {error}")
            return Matches(re.compile(""), kind, written)
    bound_kind = kind if isinstance(kind, IntKind) or kind.title.startswith("a time") else IntKind()
    low, high = (
        bound_kind.parse(pairs[word][1], scope) if word in pairs else None for word in ("min", "max")
    )
    return Between(low, high, kind, written)


def _struct(kind: Kind, node: Node, scope: Reading, written: str) -> Matcher | None:
    """Return the wish of ``{struct: NAME, …}`` for data: the named fields of what was got."""
    if not isinstance(kind, (DataKind, TreeKind)) or not isinstance(node, MappingNode):
        return None
    pairs = scope.mistakes.pairs(node, scope.place)
    if "struct" not in pairs:
        return None
    name_node = pairs.pop("struct")[1]
    name = (scope.mistakes.scalar(name_node, "a struct's name") or "").removeprefix("struct ")
    fields = scope.struct(name, name_node)
    return StructLike(name, _fields(pairs, scope, dict.fromkeys(fields) if fields else None, written))


def _map(kind: MapKind, node: Node, scope: Reading, written: str) -> Matcher:
    pairs = scope.mistakes.pairs(node, scope.place)
    return Fields({key: matcher(kind.of, value, scope) for key, (_, value) in pairs.items()}, written)


def _record(kind: RecordKind, node: Node, scope: Reading, written: str) -> Matcher:
    pairs = scope.mistakes.pairs(node, scope.place)
    scope.mistakes.known(pairs, kind.parts, scope.place)
    found = {}
    for key, (_, value) in pairs.items():
        if key in kind.parts:
            with scope.at(f"{key!r} of {scope.place}"):
                found[key] = matcher(kind.parts[key][0], value, scope)
    return Fields(found, written)


def _tree(node: Node, scope: Reading, written: str, fields: Mapping[str, Any] | None) -> Matcher:
    if isinstance(node, ScalarNode):
        made = read_tree(node, scope)
        return Like(made, written)
    if isinstance(node, SequenceNode):
        return Each(tuple(matcher(TreeKind(), item, scope) for item in node.value), written)
    form = read_form(node, scope)
    if form is not None:
        return Equal(form, DataKind(), written)
    return _fields(scope.mistakes.pairs(node, scope.place), scope, fields, written)


def _fields(pairs: Pairs, scope: Reading, fields: Mapping[str, Any] | None, written: str) -> Fields:
    found = {}
    for key, (key_node, value) in pairs.items():
        if fields is not None and key not in fields:
            scope.mistakes.add(key_node, f"unknown field {key!r} in {scope.place}{nearest(key, fields)}")
        with scope.at(f"{key!r} of {scope.place}"):
            found[key] = matcher(TreeKind(), value, scope)
    return Fields(found, written)


# --- all that a step expects -----------------------------------------------------------------------------


OF_MESSAGES = ("dmesg", "no_messages")  # of the kernel's, which any step may expect


@dataclass(frozen=True)
class Expectations:
    """What stands under `expect`. Empty: that the call succeeds."""

    fields: Mapping[str, Matcher] = field(default_factory=dict)
    dmesg: Matcher | None = None
    no_messages: bool = False  # the kernel says nothing
    written: str = ""
    choice: Choice[Expectations] | None = None  # all of it differs by target

    def each(self) -> Iterator[Expectations]:
        """Yield what there is for any target."""
        if self.choice is None:
            yield self
        else:
            for _, branch in self.choice.branches:
                yield from branch.each()

    def on(self, machine: Machine | None) -> Expectations:
        """Return what is wanted on a machine; raises UsageError where that depends on it and it is None."""
        if self.choice is not None:
            return self.choice.of(machine).on(machine)
        if not any(isinstance(wish, ByTarget) for wish in (self.dmesg, *self.fields.values())):
            return self
        fields = {name: _on(wish, machine) for name, wish in self.fields.items()}
        return replace(self, fields=fields, dmesg=None if self.dmesg is None else _on(self.dmesg, machine))

    def check(self, got: Outcome, context: Context, *, times: int = 1) -> list[Mismatch]:
        """Return what differs; a call that fails without being expected to differs.

        Raises ScenarioError's kin (UsageError) for what cannot be compared on this target.
        """
        found: list[Mismatch] = []
        if got.errno is not None and "errno" not in self.fields:
            found.append(Mismatch("", self._success(), show(got.errno, _kind(got, "errno"), context)))
        if got.signal is not None and "signal" not in self.fields:
            found.append(Mismatch("", "no signal", _signal(got, context)))
        if got.status is not None and "status" not in self.fields and not getattr(got, "ends", False):
            found.append(Mismatch("", self._success(), f"the actor ended with status {got.status}"))
        if times > 1 and got.completed != times and "completed" not in self.fields:
            found.append(Mismatch("completed", f"{times} times as wanted", f"{got.completed} times"))
        failed = bool(found)
        for name, wish in self.fields.items():
            value = getattr(got, name)
            if failed and value is None:
                continue  # follows from the failure that is told already
            if name == "errno" and value is None:
                found.append(_no_error(wish, got, context))
                continue
            found += wish.check(value, name, context)
        return found

    def range(self, context: Context) -> tuple[int, int] | None:
        """Return the raw results that are as wanted, so that `times` can stop in the guest at another."""
        errno, returns = self.fields.get("errno"), self.fields.get("returns")
        if isinstance(errno, Equal):
            number = int(errno.value.resolve(context))
            return (-number, -number) if number else None
        if isinstance(returns, Equal):
            number = int(returns.value.resolve(context))
            return (number, number)
        if isinstance(returns, Between):
            low = 0 if returns.low is None else int(returns.low.resolve(context))
            high = (1 << 63) - 1 if returns.high is None else int(returns.high.resolve(context))
            return (low, high)
        return None

    def data(self, context: Context) -> bytes | None:
        """Return the data that is wanted to the byte, so that the guest can compare it at each repetition."""
        wish = self.fields.get("data")
        wanted = wish.value.resolve(context) if isinstance(wish, Equal) else None
        return wanted if isinstance(wanted, bytes) else None

    def _success(self) -> str:
        returns = self.fields.get("returns")
        return f"returns {getattr(returns, 'written', '')}".strip() if returns else "success"


def _kind(got: Outcome, name: str) -> Kind:
    return kinds_of_outcome(type(got))[name]


def _no_error(wish: Matcher, got: Outcome, context: Context) -> Mismatch:
    wanted = wish.check(None, "errno", context)
    text = wanted[0].wanted if wanted else getattr(wish, "written", "an error")
    if got.signal is not None:
        return Mismatch("errno", text, _signal(got, context))
    returned = "" if got.returns is None else f", it returned {show(got.returns, IntKind(), context)}"
    return Mismatch("errno", text, f"no error{returned}")


def _signal(got: Outcome, context: Context) -> str:
    assert got.signal is not None
    name = context.abi.signal_name(got.signal)
    if got.code is None:
        return f"the actor was killed by {name}"
    address = "" if got.address is None else f" at address {got.address:#x}"
    return f"{name} (si_code {got.code}){address}"


def read_expectations(node: Node, verb: Verb, arguments: Mapping[str, Value], scope: Reading) -> Expectations:
    """Return what is under a step's `expect`; notes mistakes in the scope."""
    what = f"expect of step {verb.name!r}"
    if is_choice(node):
        with scope.at(what):
            chosen = read_choice(node, scope, lambda each: read_expectations(each, verb, arguments, scope))
        return Expectations(written=text_of(node, 200), choice=chosen)
    kinds = kinds_of_outcome(verb.outcome) if issubclass(verb.outcome, Outcome) else {}
    pairs = scope.mistakes.pairs(node, what)
    scope.mistakes.known(pairs, [*kinds, *OF_MESSAGES], what)
    silent = False
    found: dict[str, Matcher] = {}
    dmesg: Matcher | None = None
    for key, (_, value) in pairs.items():
        with scope.at(f"{key!r} in {what}"), scope.comparing():
            if key == "dmesg":
                dmesg = read_dmesg(value, scope)
            elif key == "no_messages":
                silent = _silent(value, scope)
            elif key in kinds:
                found[key] = matcher(kinds[key], value, scope, _fields_of(kinds[key], arguments, scope))
    if silent and dmesg is not None:
        scope.mistakes.add(node, f"{what}: either messages are wanted or none are")
    return Expectations(found, dmesg, silent, text_of(node, 200))


def _silent(node: Node, scope: Reading) -> bool:
    word = scope.mistakes.scalar(node, "no_messages")
    if word is not None and word != "true":
        scope.mistakes.add(node, f"no_messages is true, or not said: not {word!r}")
    return word == "true"


def read_dmesg(node: Node, scope: Reading) -> Matcher:
    """Return the wish for kernel messages: one text or pattern, or several, each found in this order."""
    node = scope.given(node)
    chosen = by_target(node, scope, lambda each: read_dmesg(each, scope))
    if chosen is not None:
        return chosen
    if isinstance(node, SequenceNode):
        return Each(tuple(matcher(TextKind(), item, scope) for item in node.value), text_of(node, 100))
    return matcher(TextKind(), node, scope)


def match_messages(wish: Matcher, texts: Sequence[str], context: Context) -> set[int] | None:
    """Return which messages any of the wishes is about; None when one is missing.

    Each wish is met by one message, in the order given; others like it may come besides.
    """
    wishes = wish.items if isinstance(wish, Each) else (wish,)
    rest = iter(texts)
    if not all(any(not each.check(text, "dmesg", context) for text in rest) for each in wishes):
        return None
    return {
        number
        for number, text in enumerate(texts)
        if any(not each.check(text, "dmesg", context) for each in wishes)
    }


def _fields_of(kind: Kind, arguments: Mapping[str, Value], scope: Reading) -> Mapping[str, Any] | None:
    """Return the field names of the struct that a result is read back as, when the file tells."""
    if not isinstance(kind, TreeKind) or not kind.argument:
        return None
    value = arguments.get(kind.argument)
    name = value.struct if isinstance(value, PlacedValue) else None
    found = scope.words.structs.get(name) if name else None
    return dict.fromkeys(found) if found else None
