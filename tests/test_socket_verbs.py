# SPDX-License-Identifier: MIT
"""Messages, addresses, control messages: what YAML makes of them, what is wanted of those that came."""

import struct
from dataclasses import replace
from pathlib import Path

import pytest

from lab.abi import Abi
from lab.abi.layout import Field, Struct
from lab.arch import X86_64, Architecture
from lab.guest import wire
from lab.language.composing import compose
from lab.language.context import Context
from lab.language.data import FORMS
from lab.language.memory_kinds import DataKind
from lab.language.nodes import Mistakes, Node
from lab.language.plan import Call
from lab.language.reading import Words
from lab.language.scope import Scope
from lab.packets import msghdr, nlmsg
from lab.packets.nlwishes import ReceivedKind, views
from lab.verbs import addresses, table

BIG = replace(X86_64, name="big", byteorder="big")
CONSTANTS = {
    "AF_UNIX": 1,
    "AF_INET": 2,
    "AF_INET6": 10,
    "AF_NETLINK": 16,
    "SOL_SOCKET": 1,
    "SCM_RIGHTS": 1,
    "SCM_CREDENTIALS": 2,
    "NLM_F_REQUEST": 1,
    "NLM_F_ACK": 4,
    "NLMSG_ERROR": 2,
    "MSG_DONTWAIT": 0x40,
    "EAGAIN": 11,
    "EINVAL": 22,
    "ENOBUFS": 105,
    "ENOENT": 2,
    "SOCK_RAW": 3,
    "SOCK_CLOEXEC": 0o2000000,
    "NETLINK_GENERIC": 16,
    "A_NUMBER": 1,
    "A_TEXT": 2,
    "A_FLAG": 3,
    "A_NEST": 4,
    "CMD_ECHO": 7,
}
STAT = Struct("stat2", 8, (Field("count", 0, 4, "uint"), Field("depth", 4, 4, "uint")))
SYSCALLS = {
    name: nr for nr, name in enumerate(("socket", "sendto", "recvfrom", "recvmsg", "sendmsg", "close"))
}


def context(arch: Architecture = X86_64) -> Context:
    return Context(Abi(arch, CONSTANTS, {}, {"stat2": STAT}, SYSCALLS))


def call(arch: Architecture = X86_64) -> Call:
    return Call(context(arch), wire.Program(arch), actor="main")


def scope() -> Scope:
    mistakes = Mistakes(Path("x.yaml"))
    return Scope(mistakes, Words(set(CONSTANTS), {"stat2": ["count", "depth"]}))


def node(text: str, where: Scope) -> Node:
    made = compose(text, where.mistakes)
    assert made is not None
    return made


def data(text: str, arch: Architecture = X86_64) -> bytes:
    table()
    where = scope()
    value = DataKind().parse(node(text, where), where)
    where.mistakes.raise_any()
    made = value.resolve(context(arch))
    assert isinstance(made, bytes)
    return made


def mistakes(text: str) -> list[str]:
    table()
    where = scope()
    DataKind().parse(node(text, where), where)
    return [each.message for each in where.mistakes._found]


# --- messages to send ------------------------------------------------------------------------------------


@pytest.mark.parametrize("arch", [X86_64, BIG], ids=lambda arch: arch.byteorder)
def test_a_message_with_attributes(arch: Architecture) -> None:
    mark = "<" if arch.byteorder == "little" else ">"
    made = data(
        "{nlmsg: {type: 20, flags: NLM_F_REQUEST|NLM_F_ACK, seq: 7, attrs: {A_NUMBER: {u32: 5}, A_FLAG: , "
        "A_NEST: {nested: {A_TEXT: {cstring: hi}}}}}}",
        arch,
    )
    attrs = (
        struct.pack(mark + "HHI", 8, 1, 5)
        + struct.pack(mark + "HH", 4, 3)
        + struct.pack(mark + "HH", 12, 4 | 0x8000)
        + struct.pack(mark + "HH", 7, 2)
        + b"hi\0\0"
    )
    assert made == struct.pack(mark + "IHHII", 16 + len(attrs), 20, 5, 7, 0) + attrs


def test_several_messages_in_one_datagram_are_padded() -> None:
    made = data("{nlmsg: [{type: 16, data: abc}, {type: 17, length: 3}]}")
    assert made == struct.pack("<IHHII", 19, 16, 0, 0, 0) + b"abc\0" + struct.pack("<IHHII", 3, 17, 0, 0, 0)


def test_generic_netlink_and_a_family_header_before_attributes() -> None:
    genl = data("{nlmsg: {type: 30, genl: {cmd: CMD_ECHO, reserved: 1, attrs: [{A_TEXT: a}, {A_TEXT: b}]}}}")
    assert genl[16:] == bytes([7, 1, 1, 0]) + b"\5\0\2\0a\0\0\0\5\0\2\0b\0\0\0"
    assert data("{nlmsg: {type: 30, data: x, attrs: {1: ab}}}")[16:] == b"x\0\0\0\6\0\1\0ab\0\0"


def test_attributes_as_plain_data_have_no_nested_flag() -> None:
    assert data("{nlmsg: {type: 1, attrs: {A_NEST: {attributes: {A_FLAG: }}}}}")[16:] == b"\x08\0\4\0\4\0\3\0"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("{nlmsg: {typ: 1}}", "unknown key 'typ' in a netlink message"),
        ("{nlmsg: {flags: 1}}", "a netlink message (a nlmsg) wants 'type'"),
        ("{nlmsg: {type: 1, attrs: {A_NUMBR: x}}}", "unknown constant 'A_NUMBR'"),
        ("{nlmsg: {type: 1, attrs: 5}}", "is attributes: {NAME: data} or a list of such, not 5"),
        ("{nlmsg: {type: 1, data: x, genl: {cmd: 1}}}", "neither 'data' nor 'attrs'"),
        ("{nlmsg: {type: 1, flags: NLM_F_REQEST}}", "did you mean 'NLM_F_REQUEST'?"),
        ("{sockaddr_nl: {port: 1}}", "unknown key 'port'"),
    ],
)
def test_mistakes_are_told(text: str, wanted: str) -> None:
    assert any(wanted in each for each in mistakes(text)), mistakes(text)


# --- addresses -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arch", [X86_64, BIG], ids=lambda arch: arch.byteorder)
@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("{sockaddr_nl: {pid: 5, groups: 3}}", {"family": 16, "pid": 5, "groups": 3}),
        ("{sockaddr_un: {path: /run/x}}", {"family": 1, "path": "/run/x"}),
        ("{sockaddr_un: {abstract: x}}", {"family": 1, "abstract": "x"}),
        ("{sockaddr_un: }", {"family": 1}),
        ("{sockaddr_in: {addr: 127.0.0.1, port: 80}}", {"family": 2, "addr": "127.0.0.1", "port": 80}),
        (
            "{sockaddr_in6: {addr: '::1', port: 80, scope_id: 2}}",
            {"family": 10, "addr": "::1", "port": 80, "flowinfo": 0, "scope_id": 2},
        ),
    ],
)
def test_addresses_there_and_back(arch: Architecture, text: str, parts: dict[str, object]) -> None:
    assert addresses.decode(context(arch), data(text, arch)) == parts


def test_the_bytes_of_addresses() -> None:
    assert data("{sockaddr_nl: {pid: 5, groups: 3}}") == struct.pack("<HHII", 16, 0, 5, 3)
    assert data("{sockaddr_in: {addr: 10.0.0.1, port: 258}}") == b"\2\0\1\2\x0a\0\0\1" + bytes(8)
    assert len(data("{sockaddr_in6: }")) == 28
    assert addresses.decode(context(), b"\x63\0abc") == {"family": 99, "data": b"abc"}
    assert addresses.decode(context(), b"") is None


# --- control messages ------------------------------------------------------------------------------------


@pytest.mark.parametrize("arch", [X86_64, BIG, replace(X86_64, word=4)], ids=["64", "big", "32"])
def test_control_messages_there_and_back(arch: Architecture) -> None:
    where = context(arch)
    sent = [
        msghdr.Control(1, 1, b"".join(fd.to_bytes(4, arch.byteorder) for fd in (3, 4))),
        msghdr.Control(1, 2, b"".join(part.to_bytes(4, arch.byteorder) for part in (9, 0, 1000))),
        msghdr.Control(270, 3, b"xyz"),
    ]
    raw = msghdr.control_bytes(where, sent)
    assert len(raw) % arch.word == 0
    found = msghdr.control_records(where, raw)
    assert found[0].fds == [3, 4]
    assert found[1].credentials == msghdr.Credentials(9, 0, 1000)
    assert (found[2].level, found[2].type, found[2].data) == (270, 3, b"xyz")
    assert msghdr.control_records(where, raw[:-1])[-1] == found[1] or len(found) == 3


# --- what is wanted --------------------------------------------------------------------------------------


def wish(text: str, got: bytes | None, arch: Architecture = X86_64) -> list[str]:
    table()
    where = scope()
    wanted = ReceivedKind().wish(node(text, where), where)
    where.mistakes.raise_any()
    return [
        " / ".join(each.lines())
        for each in wanted.check(views(got, context(arch)), "messages", context(arch))
    ]


def error(errno: int, tlvs: bytes = b"", *, seq: int = 1) -> bytes:
    body = struct.pack("<i", -errno) + struct.pack("<IHHII", 16, 0x10, 1, seq, 0) + tlvs
    flags = nlmsg.NLM_F_CAPPED | (nlmsg.NLM_F_ACK_TLVS if tlvs else 0)
    return nlmsg.message(nlmsg.Message(nlmsg.NLMSG_ERROR, flags, seq, 0, body), "little")


def test_an_error_is_as_wanted() -> None:
    tlvs = nlmsg.attribute(1, b"out of range\0", "little") + nlmsg.attribute(
        2, struct.pack("<I", 20), "little"
    )
    got = error(22, tlvs)
    assert (
        wish("[{type: NLMSG_ERROR, seq: 1, error: EINVAL, extack: {msg: out of range, offset: 20}}]", got)
        == []
    )
    assert wish("[{error: EINVAL, extack: {msg: {matches: range}}}]", got) == []
    assert wish("[{error: 0}]", error(0)) == []


def test_what_differs_is_told_with_its_place() -> None:
    (told,) = wish("[{error: EINVAL}]", error(2))
    wanted, got = told.split(" / ")
    assert wanted == "messages[0].error: EINVAL (22: Invalid argument)"
    assert got == "messages[0].error: ENOENT (2: No such file or directory)"
    assert "extack.msg" in wish("[{extack: {msg: x}}]", error(22))[0]
    assert "2 items" in wish("[{error: 0}, {error: 0}]", error(0))[0]
    assert "error: 'ENOENT'" in wish("[]", error(2))[0]
    cut = nlmsg.message(nlmsg.Message(nlmsg.NLMSG_ERROR, 0, 1, 0, b""), "little")
    assert "[0].error" in wish("[{error: 0}]", cut)[0]
    assert "[0].seq" in wish("[{seq: 2}]", error(0))[0]
    assert "no netlink datagram" in wish("[{error: 0}]", b"\1\2\3")[0]
    assert wish("[]", None) != []


def reply() -> bytes:
    attrs = (
        nlmsg.attribute(1, struct.pack("<I", 5), "little")
        + nlmsg.attribute(2, b"hi\0", "little")
        + nlmsg.attribute(3, b"", "little")
        + nlmsg.attribute(
            4 | nlmsg.NLA_F_NESTED, nlmsg.attribute(1, struct.pack("<i", -3), "little"), "little"
        )
    )
    return nlmsg.message(nlmsg.Message(30, 0, 1, 0, bytes([7, 1, 0, 0]) + attrs), "little")


@pytest.mark.parametrize(
    "attrs",
    [
        "{A_NUMBER: {u32: 5}}",
        "{A_NUMBER: {u32: {min: 4, max: 5}}, A_FLAG: }",
        "{A_TEXT: {cstring: hi}, A_NEST: {nested: {A_NUMBER: {s32: -3}}}}",
        "{A_NEST: {nested: [{A_NUMBER: {s32: -3}}]}, 9: {absent: true}}",
        "[{A_NUMBER: {u32: 5}}, {A_TEXT: {matches: ^hi}}, {A_FLAG: }, {A_NEST: {nested: {}}}]",
    ],
)
def test_attributes_are_as_wanted(attrs: str) -> None:
    assert wish(f"[{{genl: {{cmd: CMD_ECHO, version: 1, attrs: {attrs}}}}}]", reply()) == []


@pytest.mark.parametrize(
    ("attrs", "told"),
    [
        ("{A_NUMBER: {u32: 6}}", "A_NUMBER: 6 / messages[0].genl.attributes.A_NUMBER: 5"),
        ("{A_NUMBER: {u64: 5}}", "A_NUMBER"),
        ("{A_TEXT: hi}", "A_TEXT"),
        ("{9: {u8: 1}}", "is there / messages[0].genl.attributes.9: there is none"),
        ("{A_FLAG: {absent: true}}", "is absent"),
        ("[{A_NUMBER: {u32: 5}}]", "attributes 1 / messages[0].genl.attributes: 1, 2, 3, 4"),
        ("{A_NEST: {nested: {A_NUMBER: {s32: 3}}}}", "A_NEST.A_NUMBER: 3"),
        ("{A_TEXT: {nested: {}}}", "A_TEXT"),
    ],
)
def test_attributes_that_differ_are_told(attrs: str, told: str) -> None:
    found = wish(f"[{{genl: {{cmd: CMD_ECHO, attrs: {attrs}}}}}]", reply())
    assert len(found) == 1
    assert told in found[0]


def test_a_payload_is_data_or_a_struct() -> None:
    got = nlmsg.message(nlmsg.Message(19, 0, 1, 0, struct.pack("<II", 2, 64)), "little")
    assert wish("[{type: 19, payload: {struct: stat2, count: 2}}]", got) == []
    assert wish("[{data: {u32: [2, 64]}}]", got) == []
    assert "depth" in wish("[{payload: {struct: stat2, depth: 2}}]", got)[0]
    assert "stat2" in wish("[{payload: {struct: stat2, count: 2}}]", error(0))[0]


# --- verbs -----------------------------------------------------------------------------------------------


def test_a_family_is_read_from_its_answer() -> None:
    def attr(kind: int, payload: bytes) -> bytes:
        return nlmsg.attribute(kind, payload, "little")

    group = attr(1, attr(1, b"store\0") + attr(2, struct.pack("<I", 9)))
    attrs = (
        attr(1, struct.pack("<H", 35)) + attr(2, b"lab\0") + attr(3, struct.pack("<I", 1)) + attr(7, group)
    )
    answer = nlmsg.message(nlmsg.Message(16, 0, 1, 0, bytes([1, 2, 0, 0]) + attrs), "little")
    plan = table()["genl_family"].signature.function(call(), "lab")
    ok = [
        wire.CallResult(3, 1),
        wire.CallResult(28, 1),
        wire.CallResult(len(answer), 1),
        wire.CallResult(0, 1),
    ]
    family = plan.decode(wire.Reply(calls=tuple(ok), data=(answer,)))
    assert (family.id, family.version, family.groups, family.errno) == (35, 1, {"store": 9}, None)
    gone = error(2)
    assert plan.decode(wire.Reply(calls=tuple(ok), data=(gone,))).errno == 2
    refused = (wire.CallResult(-97, 0), *ok[1:])
    assert plan.decode(wire.Reply(calls=refused, data=(b"",))).errno == 97


def test_draining_goes_on_behind_an_error() -> None:
    plan = table()["netlink_drain"].signature.function(call(), 3, most=4)
    results = [-105, 36, 36, -11]
    calls = tuple(wire.CallResult(value, int(value > 0)) for value in results)
    got = plan.decode(wire.Reply(calls=calls, data=(b"", error(0), error(22), b"")))
    assert (got.returns, got.errno, got.sizes) == (None, 105, [36, 36])
    assert [each["error"] for each in got.messages] == [0, 22]
    assert got.flags == nlmsg.NLM_F_CAPPED


def test_recvmsg_tells_flags_sender_and_control() -> None:
    made = call()
    plan = table()["recvmsg"].signature.function(made, 3, size=8)
    sender = data("{sockaddr_nl: {pid: 0, groups: 1}}")
    control = msghdr.control_bytes(context(), [msghdr.Control(1, 1, struct.pack("<i", 5))])
    head = struct.pack("<QIxxxxQQQQixxxx", 0, len(sender), 0, 1, 0, len(control), 0x20)
    reply = wire.Reply(
        calls=(wire.CallResult(3, 1),),
        data=(b"abc\0\0\0\0\0", head, sender.ljust(128, b"\0"), control.ljust(256, b"\0")),
    )
    got = plan.decode(reply)
    assert (got.returns, got.data, got.flags) == (3, b"abc", 0x20)
    assert got.sender == {"family": 16, "pid": 0, "groups": 1}
    assert got.control[0].fds == [5]
    assert made.program.encode()


def test_every_form_here_is_known() -> None:
    table()
    assert {"nlmsg", "attributes", "sockaddr_nl", "sockaddr_un", "sockaddr_in", "sockaddr_in6"} <= set(FORMS)
