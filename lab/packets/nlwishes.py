# SPDX-License-Identifier: MIT
"""What is wanted of netlink messages that came: read from under `expect`, and compared part by part."""

from collections.abc import ItemsView, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from lab.abi.layout import whole
from lab.language.annotations import Errno, Flags, Int, Size, Text
from lab.language.composites import RecordKind, TreeKind, kind_of
from lab.language.context import Context
from lab.language.kinds import BoolKind, IntKind
from lab.language.memory_kinds import Data, DataKind
from lab.language.nodes import Node, ScalarNode, SequenceNode, is_empty, text_of
from lab.language.reading import Reading
from lab.language.show import show
from lab.language.values import Value
from lab.language.wish_reader import WishKind, by_target, matcher
from lab.language.wishes import Each, Fields, Matcher, Mismatch
from lab.packets import nlmsg
from lab.packets.nlmsg import Attribute, Extack, Message
from lab.packets.nlvalues import attribute_pairs, only

NUMBERS: dict[str, tuple[int, bool, bool]] = {  # form of a number -> its bytes, sign, network order
    **{f"u{8 * size}": (size, False, False) for size in (1, 2, 4, 8)},
    **{f"s{8 * size}": (size, True, False) for size in (1, 2, 4, 8)},
    **{f"be{8 * size}": (size, False, True) for size in (2, 4, 8)},
}


_HEADER_BITS = {"length": 32, "type": 16, "flags": 16, "seq": 32, "pid": 32}  # struct nlmsghdr


# --- what is wanted of messages that came ------------------------------------------------------------------


@dataclass(frozen=True)
class GenlWanted:
    """A generic netlink header and what follows it."""

    cmd: Int | None = None
    version: Int | None = None
    reserved: Int | None = None


@dataclass(frozen=True)
class ExtackWanted:
    """What NETLINK_EXT_ACK adds."""

    msg: Text | None = None
    offset: Int | None = None
    cookie: Data | None = None
    policy: Annotated[Any, TreeKind()] = None
    miss_type: Int | None = None
    miss_nest: Int | None = None


@dataclass(frozen=True)
class Wanted:
    """What may be said of a message: its header, its error, and its content read in one of several ways."""

    type: Int | None = None
    flags: Flags | None = None
    seq: Int | None = None
    pid: Int | None = None
    length: Size | None = None
    error: Errno | None = None
    extack: ExtackWanted | None = None


_READ_BY_OTHERS = ("genl", "attrs", "data", "payload")


@dataclass(frozen=True)
class ReceivedKind(WishKind):
    """The messages of a datagram; under `expect` a list of as many, each with the parts that matter."""

    title: ClassVar[str] = (
        "a list of messages, each {type, flags, seq, pid, length, error, extack, genl, attrs, data, payload}"
    )
    forms: ClassVar[tuple[str, ...]] = (
        "[{type: NLMSG_ERROR, error: EINVAL, extack: {msg: integer out of range, offset: 20}}]",
        "[{type: $family.id, genl: {cmd: LAB_GENL_CMD_STAT, attrs: {LAB_GENL_A_COUNT: {u32: 1}}}}]",
        "[{type: LAB_NL_STAT, payload: {struct: lab_nl_stat, count: 1}}]",
    )
    gives: ClassVar[str] = "list"

    def wish(self, node: Node, scope: Reading) -> Matcher:
        """Return what is wanted."""
        node = scope.given(node)
        items = scope.mistakes.items(node, scope.place)
        return Each(tuple(self._one(item, scope) for item in items), text_of(node, 100))

    def _one(self, node: Node, scope: Reading) -> Matcher:
        node = scope.given(node)
        chosen = by_target(node, scope, lambda each: self._one(each, scope))
        if chosen is not None:
            return chosen
        own = kind_of(Wanted)
        assert isinstance(own, RecordKind)
        pairs = scope.mistakes.pairs(node, "a message")
        scope.mistakes.known(pairs, [*own.parts, *_READ_BY_OTHERS], "a message")
        fields: dict[str, Matcher] = {}
        for key, (_, value) in pairs.items():
            with scope.at(f"{key!r} of a message"):
                if key in own.parts:
                    fields[key] = matcher(own.parts[key][0], value, scope)
                elif key == "genl":
                    fields[key] = _genl(value, scope)
                elif key == "attrs":
                    fields["attributes"] = attrs_wish(value, scope)
                elif key == "data":
                    fields["payload"] = matcher(DataKind(), value, scope)
                elif key == "payload":
                    fields[key] = matcher(DataKind(), value, scope)
        return Fields(fields, text_of(node, 100))

    def schema(self) -> dict[str, Any]:
        """Return a list of objects."""
        return {"type": "array", "items": {"type": "object"}, "description": self.title}


def _genl(node: Node, scope: Reading) -> Matcher:
    chosen = by_target(scope.given(node), scope, lambda each: _genl(each, scope))
    if chosen is not None:
        return chosen
    own = kind_of(GenlWanted)
    assert isinstance(own, RecordKind)
    pairs = scope.mistakes.pairs(scope.given(node), "a generic netlink message")
    scope.mistakes.known(pairs, [*own.parts, "attrs"], "a generic netlink message")
    fields: dict[str, Matcher] = {}
    for key, (_, value) in pairs.items():
        with scope.at(f"{key!r} of a generic netlink message"):
            if key in own.parts:
                fields[key] = matcher(own.parts[key][0], value, scope)
            elif key == "attrs":
                fields["attributes"] = attrs_wish(value, scope)
    return Fields(fields, text_of(node, 100))


# --- what is wanted of attributes --------------------------------------------------------------------------


def attrs_wish(node: Node, scope: Reading) -> Matcher:
    """Return the wish for attributes: of a mapping, those that are named; of a list, these and no others."""
    node = scope.given(node)
    chosen = by_target(node, scope, lambda each: attrs_wish(each, scope))
    if chosen is not None:
        return chosen
    pairs = attribute_pairs(node, scope) or []
    wishes = []
    for key, value in pairs:
        with scope.at(f"an attribute's name in {scope.place}"):
            number = IntKind().parse(key, scope)
        with scope.at(f"attribute {key.value!r}"):
            wishes.append((key.value, number, _content_wish(scope.given(value), scope)))
    return AttrsWish(tuple(wishes), isinstance(node, SequenceNode), text_of(node, 100))


def _content_wish(node: Node, scope: Reading) -> Matcher | None:
    """Return the wish for an attribute's content; None: that the attribute is not there."""
    if is_empty(node):
        return matcher(DataKind(), ScalarNode(node.tag, "", node.start_mark, node.end_mark, style='"'), scope)
    absent = only(node, "absent")
    if absent is not None:
        BoolKind().parse(absent, scope)
        return None
    inner = only(node, "nested")
    if inner is not None:
        return NestWish(attrs_wish(inner, scope), text_of(node, 100))
    for name, (size, signed, network) in NUMBERS.items():
        given = only(node, name)
        if given is not None and not isinstance(given, SequenceNode):
            return NumberWish(matcher(IntKind(), given, scope), size, signed, network, text_of(node, 100))
    return matcher(DataKind(), node, scope)


@dataclass(frozen=True)
class NumberWish:
    """An attribute that is a number of one width."""

    number: Matcher
    size: int
    signed: bool
    network: bool
    written: str

    def check(self, got: Any, path: str, context: Context) -> list[Mismatch]:
        """Compare as a number; another width differs."""
        if not isinstance(got, bytes) or len(got) != self.size:
            return [Mismatch(path, self.written, show(got, DataKind(), context))]
        order = "big" if self.network else context.abi.arch.byteorder
        found = whole(8 * self.size, signed=self.signed)(nlmsg.number(got, order, signed=self.signed))
        return self.number.check(found, path, context)


@dataclass(frozen=True)
class NestWish:
    """An attribute that holds attributes."""

    inner: Matcher
    written: str

    def check(self, got: Any, path: str, context: Context) -> list[Mismatch]:
        """Read what is nested, and compare."""
        try:
            found = nlmsg.attributes(got, context.abi.arch.byteorder)
        except (nlmsg.DatagramError, TypeError) as error:
            return [Mismatch(path, self.written, f"{show(got, DataKind(), context)}: {error}")]
        return self.inner.check(found, path, context)


@dataclass(frozen=True)
class AttrsWish:
    """Attributes by their names."""

    wishes: tuple[tuple[str, Value, Matcher | None], ...]
    exactly: bool  # in this order and no others
    written: str

    def check(self, got: Any, path: str, context: Context) -> list[Mismatch]:
        """Compare attribute by attribute."""
        if not isinstance(got, Sequence) or isinstance(got, (str, bytes)):
            return [Mismatch(path, self.written, f"no attributes ({show(got, TreeKind(), context)})")]
        numbers = [int(number.resolve(context)) for _, number, _ in self.wishes]
        if self.exactly and numbers != [each.type for each in got]:
            shown = ", ".join(str(each.type) for each in got)
            return [Mismatch(path, f"attributes {', '.join(map(str, numbers))}", shown or "none")]
        found: list[Mismatch] = []
        for index, ((name, _, wish), number) in enumerate(zip(self.wishes, numbers, strict=True)):
            there = got[index] if self.exactly else _attribute(got, number)
            found += _differs(there, wish, f"{path}.{name}", context)
        return found


def _attribute(got: Sequence[Attribute], number: int) -> Attribute | None:
    return next((each for each in got if each.type == number), None)


def _differs(there: Attribute | None, wish: Matcher | None, path: str, context: Context) -> list[Mismatch]:
    if there is None:
        return [] if wish is None else [Mismatch(path, "is there", "there is none")]
    if wish is None:
        return [Mismatch(path, "is absent", show(there.payload, DataKind(), context))]
    return wish.check(there.payload, path, context)


# --- messages that came, as `expect` looks at them ----------------------------------------------------------


@dataclass(frozen=True)
class GenlView:
    """A payload read as a generic netlink header and attributes."""

    cmd: int
    version: int
    reserved: int
    attributes: list[Attribute]


@dataclass(frozen=True)
class View(Mapping[str, Any]):
    """A message that came: its parts by name, read when they are asked for."""

    message: Message
    context: Context

    def __getitem__(self, key: str) -> Any:
        if key in _HEADER_BITS:
            return whole(_HEADER_BITS[key], signed=False)(getattr(self.message, key))
        if key in ("payload", "data"):
            return self.message.payload
        order = self.context.abi.arch.byteorder
        match key:
            case "error":
                said = self._verdict()
                return None if said is None else said.error
            case "extack":
                said = self._verdict()
                return Extack() if said is None else said.extack
            case "attributes" | "attrs":
                return _attributes_or_none(self.message.payload, order)
            case "genl":
                return _genl_view(self.message.payload, order)
        raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        return iter(("type", "flags", "seq", "pid", *self._said()))

    def __len__(self) -> int:
        return 4 + len(self._said())

    def items(self) -> ItemsView[str, Any]:
        """Return the parts as a report shows them: an error by its name."""
        found = {key: self[key] for key in self}
        if found.get("error"):
            found["error"] = self.context.abi.errno_name(found["error"])
        return found.items()

    def _said(self) -> tuple[str, ...]:
        """Which of the other parts a report shows."""
        said = self._verdict()
        if said is None:
            return ("payload",)
        return ("error", "extack") if said.extack != Extack() else ("error",)

    def _verdict(self) -> nlmsg.Verdict | None:
        """Return what an error message says; None for another one, and for one that is malformed."""
        try:
            return nlmsg.verdict(self.message, self.context.abi.arch.byteorder)
        except nlmsg.DatagramError:
            return None


def _attributes_or_none(data: bytes, order: nlmsg.ByteOrder) -> list[Attribute] | None:
    try:
        return nlmsg.attributes(data, order)
    except nlmsg.DatagramError:
        return None


def _genl_view(data: bytes, order: nlmsg.ByteOrder) -> GenlView | None:
    if len(data) < nlmsg.GENL_HEADER_SIZE:
        return None
    found = _attributes_or_none(data[nlmsg.GENL_HEADER_SIZE :], order)
    if found is None:
        return None
    return GenlView(data[0], data[1], nlmsg.number(data[2:4], order), found)


def views(data: bytes | None, context: Context) -> list[View] | str | None:
    """Return the messages of a datagram; None when there is none, a text that says why it cannot be read."""
    if data is None:
        return None
    try:
        return [View(one, context) for one in nlmsg.messages(data, context.abi.arch.byteorder)]
    except nlmsg.DatagramError as error:
        return f"{len(data)} bytes that are no netlink datagram: {error.message}"
