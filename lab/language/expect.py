# SPDX-License-Identifier: MIT
"""What is wanted of a result: read from under `expect`, compared, and told when it differs."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from lab.language.by_target import is_choice, read_choice
from lab.language.composites import TreeKind
from lab.language.kinds import IntKind, Kind, TextKind
from lab.language.memory import PlacedValue
from lab.language.memory_kinds import DataKind
from lab.language.nodes import Node, ScalarNode, SequenceNode, text_of
from lab.language.outcome import Outcome
from lab.language.padding import came_out
from lab.language.scope import kinds_of_outcome
from lab.language.show import show
from lab.language.wish_reader import by_target, matcher
from lab.language.wishes import Anything, Between, ByTarget, Each, Equal, Matcher, Mismatch, dirty, wish_on

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from lab.language.choice import Choice
    from lab.language.context import Context
    from lab.language.reading import Reading
    from lab.language.requires import Machine
    from lab.language.values import Value
    from lab.language.verb import Verb


_OF_THE_END = frozenset({"completed", "signal", "code", "address", "status"})
OF_MESSAGES = ("dmesg", "no_messages")  # of the kernel's, which any step may expect


@dataclass(frozen=True)
class Expectations:
    """What stands under `expect`. Empty: that the call succeeds."""

    fields: Mapping[str, Matcher] = field(default_factory=dict)
    dmesg: Matcher | None = None
    no_messages: bool = False  # the kernel says nothing
    padding: Matcher | None = None  # the bytes between fields that are not zero, None: there are none
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
        if not any(isinstance(wish, ByTarget) for wish in (self.dmesg, self.padding, *self.fields.values())):
            return self
        fields = {name: wish_on(wish, machine) for name, wish in self.fields.items()}
        both = (self.dmesg, self.padding)
        dmesg, padding = (None if wish is None else wish_on(wish, machine) for wish in both)
        return replace(self, fields=fields, dmesg=dmesg, padding=padding)

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
        for path, struct in came_out(got):
            found += dirty(struct, path, context)
        return found if self.padding is None else self._with_padding(self.padding, found, context)

    @staticmethod
    def _with_padding(wish: Matcher, found: list[Mismatch], context: Context) -> list[Mismatch]:
        """Compare what lay between fields with what is wanted to be there."""
        there = b"".join(each.dirt.data for each in found if each.dirt is not None)
        return [each for each in found if each.dirt is None] + wish.check(there, "padding", context)

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

    def without(self, name: str) -> Expectations:
        """Return all but what is wanted of one part."""
        return replace(self, fields={key: wish for key, wish in self.fields.items() if key != name})

    def seen_by_host(self, *, compared: bool) -> list[str]:
        """Return the parts whose wishes a guest cannot look at each time that a call is repeated.

        What range() says it can, and what data() says where that is `compared` there; where an instruction is
        refused or the actor dies it stops.
        """
        errno, returns = (self.fields.get(name) for name in ("errno", "returns"))
        by_guest: set[str] = set()
        if isinstance(errno, Equal):
            by_guest |= {"errno"}
        elif isinstance(returns, (Equal, Between)):
            by_guest |= {"returns"}
        if compared and isinstance(self.fields.get("data"), Equal):
            by_guest |= {"data"}
        return [name for name in self.of_each_round() if name not in by_guest]

    def of_each_round(self) -> list[str]:
        """Return the parts that are looked at each time that a call is repeated; others end the rounds."""
        return [name for name in self.fields if name not in _OF_THE_END]

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
    scope.mistakes.known(pairs, [*kinds, *OF_MESSAGES, "padding"], what)
    silent = False
    found: dict[str, Matcher] = {}
    dmesg: Matcher | None = None
    padding: Matcher | None = None
    for key, (_, value) in pairs.items():
        with scope.at(f"{key!r} in {what}"), scope.comparing():
            if key == "dmesg":
                dmesg = read_dmesg(value, scope)
            elif key == "no_messages":
                silent = _silent(value, scope)
            elif key == "padding":
                padding = _read_padding(value, scope)
            elif key in kinds:
                found[key] = matcher(kinds[key], value, scope, _fields_of(kinds[key], arguments, scope))
    if silent and dmesg is not None:
        scope.mistakes.add(node, f"{what}: either messages are wanted or none are")
    return Expectations(found, dmesg, silent, padding, text_of(node, 200))


def _silent(node: Node, scope: Reading) -> bool:
    word = scope.mistakes.scalar(node, "no_messages")
    if word is not None and word != "true":
        scope.mistakes.add(node, f"no_messages is true, or not said: not {word!r}")
    return word == "true"


def _read_padding(node: Node, scope: Reading) -> Matcher:
    """Return the wish for what lies between the fields of structs: any, or data."""
    node = scope.given(node)
    chosen = by_target(node, scope, lambda each: _read_padding(each, scope))
    if chosen is not None:
        return chosen
    if not isinstance(node, ScalarNode):
        return matcher(DataKind(), node, scope)
    if node.value != "any":
        scope.mistakes.add(node, f"{scope.place} is `any` or a data form, not {text_of(node, 40)}")
    return Anything()


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
