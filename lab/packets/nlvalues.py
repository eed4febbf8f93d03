# SPDX-License-Identifier: MIT
"""Netlink messages to be sent, as a scenario writes them."""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from lab.language.annotations import Flags, Int, Size
from lab.language.composites import RecordKind
from lab.language.context import Context
from lab.language.kinds import IntKind, Kind
from lab.language.memory_kinds import Data, DataKind
from lab.language.nodes import MappingNode, Node, ScalarNode, SequenceNode, is_empty, text_of
from lab.language.reading import Reading
from lab.language.values import NOTHING, Fixed, Several, Value
from lab.packets import nlmsg
from lab.packets.nlmsg import Message

# --- attributes to send ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class AttributeValue:
    """One attribute: its number, and its bytes or the attributes nested in it."""

    number: Value
    content: Value
    nested: bool = False

    def resolve(self, context: Context) -> bytes:
        """Return the attribute with its padding."""
        number = int(self.number.resolve(context)) | (nlmsg.NLA_F_NESTED if self.nested else 0)
        return nlmsg.attribute(number, self.content.resolve(context), context.abi.arch.byteorder)


@dataclass(frozen=True)
class Joined:
    """Pieces of data one after the other."""

    parts: tuple[Value, ...]

    def resolve(self, context: Context) -> bytes:
        """Return the bytes."""
        return b"".join(part.resolve(context) for part in self.parts)


@dataclass(frozen=True)
class AttrsKind(Kind):
    """Attributes by their names: a mapping, or a list of mappings where a name comes twice."""

    title: ClassVar[str] = "attributes: {NAME: data} or a list of such"
    forms: ClassVar[tuple[str, ...]] = (
        "{LAB_GENL_A_INDEX: {u32: 5}, LAB_GENL_A_MESSAGE: hello}",
        "{NAME: {cstring: text}, FLAG: , NEST: {nested: {INNER: {s32: -1}}}}",
        "[{NAME: {u8: 1}}, {NAME: {u8: 2}}]",
    )

    def read(self, node: Node, scope: Reading) -> Value:
        """Read a mapping or a list of them."""
        pairs = attribute_pairs(node, scope)
        return (
            NOTHING if pairs is None else Joined(tuple(self._one(key, value, scope) for key, value in pairs))
        )

    def _one(self, key: ScalarNode, node: Node, scope: Reading) -> Value:
        with scope.at(f"an attribute's name in {scope.place}"):
            number = IntKind().parse(key, scope)
        node = scope.given(node)
        with scope.at(f"attribute {key.value!r}"):
            if is_empty(node):
                return AttributeValue(number, Fixed(b""))
            inner = only(node, "nested")
            if inner is not None:
                return AttributeValue(number, self.parse(inner, scope), nested=True)
            return AttributeValue(number, DataKind().parse(node, scope))

    def schema(self) -> dict[str, Any]:
        """Return that both shapes are fine."""
        return {"type": ["object", "array"], "description": self.title}


def attribute_pairs(node: Node, scope: Reading) -> list[tuple[ScalarNode, Node]] | None:
    """Return names and contents in their order; None after noting that the node is no such thing."""
    if isinstance(node, SequenceNode):
        found: list[tuple[ScalarNode, Node]] = []
        for item in node.value:
            found += scope.mistakes.pairs(item, "an attribute").values()
        return found
    if isinstance(node, MappingNode):
        return list(scope.mistakes.pairs(node, scope.place).values())
    scope.mistakes.add(node, f"{scope.place} is {AttrsKind.title}, not {text_of(node, 40)}")
    return None


def only(node: Node, word: str) -> Node | None:
    """Return what stands at the only key of a mapping, None when it is another."""
    if isinstance(node, MappingNode) and len(node.value) == 1 and node.value[0][0].value == word:
        found: Node = node.value[0][1]
        return found
    return None


Attrs = Annotated[bytes, AttrsKind()]


# --- messages to send --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Genl:
    """A generic netlink header and what follows it."""

    cmd: Int
    version: Int = 1
    reserved: Int = 0
    attrs: Attrs = b""


@dataclass(frozen=True)
class NlMsg:
    """One message. `length` lies about its size; `data` comes before `attrs`, as a family's header does."""

    type: Int
    flags: Flags = 0
    seq: Int = 0
    pid: Int = 0
    length: Size | None = None
    data: Data = b""
    attrs: Attrs = b""
    genl: Genl | None = None

    def pack(self, context: Context) -> bytes:
        """Return its bytes."""
        order = context.abi.arch.byteorder
        payload = self.data
        if self.genl is not None:
            head = nlmsg.genl_header(self.genl.cmd, self.genl.version, order, reserved=self.genl.reserved)
            payload = head + self.genl.attrs
        elif self.attrs:
            payload = nlmsg.padded(self.data) + self.attrs
        one = Message(self.type, self.flags, self.seq, self.pid, payload)
        return nlmsg.message(one, order, length=self.length)


@dataclass(frozen=True)
class MessagesKind(RecordKind):
    """One message, or a list of them in one datagram."""

    record: type = NlMsg
    title: ClassVar[str] = "a netlink message {type, flags, seq, pid, data | attrs | genl}, or a list of them"
    forms: ClassVar[tuple[str, ...]] = (
        "{type: LAB_NL_PUT, flags: NLM_F_REQUEST|NLM_F_ACK, seq: 1, data: hello}",
        "{type: $family.id, flags: NLM_F_REQUEST, genl: {cmd: LAB_GENL_CMD_GET, attrs: {}}}",
    )

    def parse(self, node: Node, scope: Reading) -> Value:
        """Read one or a list."""
        node = scope.given(node)
        if isinstance(node, SequenceNode):
            return Several(tuple(self._one(item, scope) for item in node.value))
        return Several((self._one(node, scope),))

    def _one(self, node: Node, scope: Reading) -> Value:
        if isinstance(node, MappingNode):
            keys = {key.value for key, _ in node.value}
            if "genl" in keys and keys & {"data", "attrs"}:
                scope.mistakes.add(node, "with 'genl' a message has neither 'data' nor 'attrs'")
        with scope.at("a netlink message"):
            return super().parse(node, scope)

    def schema(self) -> dict[str, Any]:
        """Return that both shapes are fine."""
        one = super().schema()
        return {"anyOf": [one, {"type": "array", "items": one}]}


Messages = Annotated[list[NlMsg], MessagesKind()]
