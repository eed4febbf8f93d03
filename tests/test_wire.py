# SPDX-License-Identifier: MIT
"""Programs are laid out as rootfs/wire.h says, and replies are read strictly."""

from __future__ import annotations

import contextlib
import struct
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.arch import X86_64
from lab.errors import AgentError, UsageError
from lab.guest import frames, layouts, wire
from lab.guest.wire import At, Buffer, CallResult, Fault, Kind, Op, Program, Reply, Result, decode_reply

if TYPE_CHECKING:
    from collections.abc import Callable

BIG_ENDIAN = replace(X86_64, name="big", byteorder="big")


def test_a_call_with_a_buffer() -> None:
    program = Program(X86_64)
    buffer = program.buffer(b"hello", size=6)
    index = program.call(1, 3, buffer, 5)
    assert index == 0
    assert program.encode() == (
        struct.pack("<IIII", 1, 0, 1, 0)
        + struct.pack("<IIQQ", 0, 0, 6, 5)
        + b"hello\0\0\0"
        + struct.pack("<II", 1, 32 + 3 * 16)
        + struct.pack("<QQqq", 1, 1, 0, (1 << 63) - 1)
        + struct.pack("<IIQ", 0, 0, 3)
        + struct.pack("<IIQ", 1, 0, 0)
        + struct.pack("<IIQ", 0, 0, 5)
    )


def test_the_guests_byte_order() -> None:
    program = Program(BIG_ENDIAN)
    program.exit(3)
    assert program.encode() == struct.pack(">IIII", 0, 0, 1, 0) + struct.pack(">IIQ", 11, 8, 3)


def test_indices_count_calls_and_data_apart() -> None:
    program = Program(X86_64)
    buffer = program.buffer(size=16)
    assert program.call(0, 3, buffer, 16) == 0
    assert program.fetch(buffer, up_to_call=0) == 0
    assert program.load(At(buffer, 4), 8) == 1
    assert program.fork(95) == 1
    assert program.sigaction(10, "record") == 2
    assert program.send_fd(Result(0), 7) == 3
    assert program.receive_fd(8) == 4
    assert (program.calls, program.data) == (5, 2)
    assert program.forks == [(1, 95)]


@given(
    st.integers(-(1 << 63), (1 << 64) - 1),
    st.lists(st.binary(max_size=40), max_size=6),
)
def test_every_part_is_a_multiple_of_eight(value: int, data: list[bytes]) -> None:
    program = Program(X86_64)
    for each in data:
        buffer = program.buffer(each)
        program.store(buffer, each)
        program.pointer(program.buffer(size=8), 0, buffer, len(each))
    program.call(1, value)
    encoded = program.encode()
    assert len(encoded) % 8 == 0
    assert struct.pack("<Q", value & wire.U64) in encoded


def looped(program: Program, times: int, inside: Callable[[], object]) -> int:
    with program.loop(times) as loop:
        inside()
    return loop


@pytest.mark.parametrize(
    "mistake",
    [
        lambda p: p.buffer(b"abc", size=2),
        lambda p: p.call(1, 1, 2, 3, 4, 5, 6, 7),
        lambda p: p.call(1, times=0),
        lambda p: p.call(1, 1 << 64),
        lambda p: p.call(1, Result(0)),
        lambda p: p.call(1, Buffer(0, 4, Kind.PLAIN)),
        lambda p: p.fetch(p.buffer(size=8), 4, 5),
        lambda p: p.fetch(p.buffer(size=8), up_to_call=0),
        lambda p: p.fetch(p.buffer(size=8, kind=Kind.PARTIAL), 0, 5),
        lambda p: p.fetch(p.buffer(size=8, kind=Kind.UNMAPPED), 0, 1),
        lambda p: p.pointer(p.buffer(size=8), 1, p.buffer()),
        lambda p: p.pointer(p.buffer(size=8, kind=Kind.UNMAPPED), 0, p.buffer()),
        lambda p: p.barrier(1 << 16, 2),
        lambda p: p.fork(0),
        lambda p: p.fork(layouts.ACTORS),
        lambda p: p.invoke(0, 1, 2, 3, 4, 5, 6, 7),
        lambda p: p.invoke(0, times=0),
        lambda p: p.peek(0, 3),
        lambda p: p.poke(0, 1, 16),
        lambda p: p.poke(0, Result(0), 8),
        lambda p: p.want(0, b"x", of_call=0),
        lambda p: p.keep(p.buffer(size=8, kind=Kind.READONLY)),
        lambda p: looped(p, 0, lambda: p.call(1)),
        lambda p: looped(p, 2, lambda: None),
        lambda p: looped(p, 2, lambda: p.fork(5)),
        lambda p: looped(p, 2, lambda: looped(p, 2, lambda: p.call(1))),
    ],
)
def test_wrong_use_is_told_where_it_happens(mistake) -> None:  # type: ignore[no-untyped-def]  # any lambda
    with pytest.raises(UsageError):
        mistake(Program(X86_64))


def test_a_loop_says_how_much_belongs_to_it() -> None:
    program = Program(X86_64)
    buffer = program.buffer(b"abc")
    with program.loop(7) as loop:
        call = program.call(39, want=(5, 5))
        same = program.want(buffer, b"abc", of_call=call)
    assert (loop, call, same, program.call(39)) == (0, 1, 2, 3)
    operations = program.operations
    assert operations[0] == (Op.LOOP, layouts.OpLoop(2, 0, 7))
    at = layouts.Argument(layouts.ArgumentKind.BUFFER, 0, 0)
    assert operations[2] == (Op.WANT, layouts.OpWant(at, 1, 0, 3, b"abc" + bytes(5)))


def test_a_number_that_is_read_is_an_argument() -> None:
    program = Program(X86_64)
    read = program.peek(program.buffer(size=8), 8)
    program.poke(Result(read, 16), Result(read, -1), 4)
    (_, poke) = program.operations[-1]
    number = layouts.ArgumentKind.RESULT
    wanted = layouts.OpPoke(layouts.Argument(number, 0, 16), layouts.Argument(number, 0, (1 << 64) - 1), 4)
    assert poke == wanted


def test_code_is_whole_words_and_what_is_kept_keeps_what_it_points_to() -> None:
    program = Program(X86_64)
    code = program.code(b"\xc3")
    assert (code.size, code.kind) == (8, Kind.CODE)
    inner, outer, other = program.buffer(b"inner"), program.buffer(size=16), program.buffer(b"other")
    program.pointer(outer, 8, inner)
    program.keep(outer)
    program.address(outer)
    program.let_go(0x1000)
    encoded = program.encode()
    heads = [
        struct.pack("<IIQQ", kind, 0, buffer.size, used)
        for kind, buffer, used in (
            (Kind.CODE, code, 8),
            (Kind.KEPT, inner, 5),
            (Kind.KEPT, outer, 0),
            (Kind.PLAIN, other, 5),
        )
    ]
    assert [each in encoded for each in heads] == [True] * 4
    assert not other.kind


def test_operations_are_moved_into_another_program() -> None:
    result = layouts.Argument(layouts.ArgumentKind.RESULT, 1, 5)
    buffer = layouts.Argument(layouts.ArgumentKind.BUFFER, 2, 5)
    number = layouts.Argument(layouts.ArgumentKind.NUMBER, 0, 5)

    def moved(what: layouts.Record) -> layouts.Record | None:
        return wire.moved(what, 10, 20)

    result_, buffer_ = replace(result, index=21), replace(buffer, index=12)
    assert moved(layouts.OpInvoke(result, 1, 2, 3, (buffer, number))) == layouts.OpInvoke(
        result_, 1, 2, 3, (buffer_, number)
    )
    assert moved(layouts.OpCall(1, 1, 2, 3, (result, number))) == layouts.OpCall(
        1, 1, 2, 3, (result_, number)
    )
    assert moved(layouts.OpPoke(result, buffer, 8)) == layouts.OpPoke(result_, buffer_, 8)
    assert moved(layouts.OpAccess(buffer, 8, b"x")) == layouts.OpAccess(buffer_, 8, b"x")
    assert moved(layouts.OpWant(buffer, 3, 0, 1, b"x")) == layouts.OpWant(buffer_, 23, 0, 1, b"x")
    assert moved(layouts.OpFetch(1, layouts.NONE, 0, 1)) == layouts.OpFetch(11, layouts.NONE, 0, 1)
    assert moved(layouts.OpFetch(1, 3, 0, 1)) == layouts.OpFetch(11, 23, 0, 1)
    assert moved(buffer) == buffer_
    assert moved(layouts.OpSigaction(1, 2, 3)) == layouts.OpSigaction(1, 2, 3)


def test_too_much_for_a_frame() -> None:
    program = Program(X86_64)
    program.buffer(bytes(layouts.MAX_FRAME))
    with pytest.raises(UsageError, match="more than"):
        program.encode()


def head(**given_fields: int) -> bytes:
    """Return the head of a reply."""
    fields = dict.fromkeys(["trouble", "op", "detail", "calls", "data", "signals", "exited", "status"], 0)
    fields |= dict.fromkeys(["signal", "code", "during", "address"], 0)
    assert given_fields.keys() <= fields.keys()
    return struct.pack("<IIqIIIIiIiIQ", *(fields | given_fields).values())


def test_a_whole_reply() -> None:
    payload = head(calls=2, data=1, signals=1, signal=11, code=2, during=wire.Op.LOAD, address=0x1000, op=4)
    payload += struct.pack("<qQqQ", -11, 0, 5, 3)
    payload += struct.pack("<Q", 3) + b"abc" + bytes(5)
    payload += struct.pack("<iiiIqiIq", 10, -1, 42, 1000, -7, 0, 0, 0) + b"r" * 128
    reply = decode_reply(payload, X86_64)
    assert reply.calls == (CallResult(-11, 0), CallResult(5, 3))
    assert (reply.calls[0].errno, reply.calls[1].errno) == (11, None)
    assert reply.data == (b"abc",)
    assert reply.fault == Fault(11, 2, 0x1000, "load", 4)
    (info,) = reply.signals
    assert (info.signo, info.code, info.pid, info.uid, info.value, info.raw) == (
        10, -1, 42, 1000, -7, b"r" * 128,
    )  # fmt: skip
    assert reply.exited is None


def test_a_big_address_is_no_errno() -> None:
    assert CallResult(-4096, 1).errno is None
    assert CallResult(-4095, 0).errno == 4095


def test_an_actor_that_died() -> None:
    assert decode_reply(head(exited=1, status=9), X86_64) == Reply(exited=9)
    assert decode_reply(head(exited=1, status=-1), X86_64) == Reply(exited=-1)


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        (head(trouble=3, op=2, detail=1), "barrier"),
        (head(trouble=2, detail=-12), "errno 12"),
        (head(trouble=99), "trouble 99"),
        (head(calls=1), "too soon"),
        (head() + b"x", "too many"),
        (head(data=1) + struct.pack("<Q", 1 << 40), "too soon"),
        (head(signal=11, during=77), "operation 77"),
        (head(signal=5, during=wire.Op.LOOP), "operation 16"),
        (b"", "too soon"),
    ],
)
def test_nonsense_is_an_error(payload: bytes, words: str) -> None:
    with pytest.raises(AgentError, match=words):
        decode_reply(payload, X86_64)


@given(st.binary(max_size=300))
def test_no_bytes_bring_anything_but_agent_errors(payload: bytes) -> None:
    with contextlib.suppress(AgentError):
        decode_reply(payload, X86_64)


@given(st.lists(st.binary(max_size=50), min_size=1, max_size=5), st.integers(1, 40))
def test_frames_come_out_as_they_went_in(payloads: list[bytes], piece: int) -> None:
    stream = frames.Frames(X86_64)
    sent = b"".join(stream.encode(layouts.FrameType.DONE, i, each) for i, each in enumerate(payloads))
    got = [
        frame
        for at in range(0, len(sent), piece)
        for frame in stream.feed(sent[at : at + piece])
    ]  # fmt: skip
    assert got == [(layouts.FrameType.DONE, i, each) for i, each in enumerate(payloads)]


def test_what_another_life_said_is_left_out() -> None:
    kinds = layouts.FrameType
    old, new = frames.Frames(X86_64, life=2), frames.Frames(X86_64, life=3)
    sent = old.encode(kinds.DONE, 7, b"old") + new.encode(kinds.DONE, 7, b"new")
    assert new.feed(sent) == [(kinds.DONE, 7, b"new")]
    # Nobody has told the agent yet which life it is when it says that it is up.
    assert new.feed(frames.Frames(X86_64, life=0).encode(kinds.READY, 0, b"")) == [(kinds.READY, 0, b"")]


@pytest.mark.parametrize(
    "noise",
    [
        b"Kernel panic - not syncing",
        struct.pack("<IIIIII", layouts.MAGIC, 67, layouts.MAX_FRAME + 1, 1, 1, 0),
        struct.pack("<IIIIII", layouts.MAGIC, 12345, 0, 1, 1, 0),
    ],
)
def test_noise_on_the_port(noise: bytes) -> None:
    with pytest.raises(AgentError, match="not a frame"):
        frames.Frames(X86_64).feed(noise)


@pytest.mark.parametrize(("text", "size"), [("", 8), ("/dev/xx", 8), ("/dev/xxx", 16), ("ä", 8)])
def test_a_string_ends_with_a_word(text: str, size: int) -> None:
    program = Program(X86_64)
    assert program.string(text).size == size
    assert text.encode().ljust(size, b"\0") in program.encode()


def test_becoming_another_is_a_program_of_its_own() -> None:
    program = Program(X86_64)
    assert program.become("/lab/agent32") == 0
    path = b"/lab/agent32"
    assert program.encode() == (
        struct.pack("<IIII", 1, 0, 1, 0)
        + struct.pack("<IIQQ", 0, 0, 16, 16)
        + path.ljust(16, b"\0")
        + struct.pack("<II", 14, 8)
        + struct.pack("<II", 0, 0)
    )
