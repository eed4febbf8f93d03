# SPDX-License-Identifier: MIT
"""What a step makes of a siginfo_t that a signal left."""

from dataclasses import replace

import pytest

from lab.abi import Abi
from lab.abi.layout import Field, Struct
from lab.arch import X86_64, Architecture
from lab.guest import wire
from lab.language.context import Context
from lab.language.plan import Call
from lab.verbs.processes import Seen, sigtimedwait

BIG = replace(X86_64, name="big", byteorder="big")
SMALL = replace(X86_64, name="small", word=4)
CONSTANTS = {
    "SIGILL": 4,
    "SIGTRAP": 5,
    "SIGBUS": 7,
    "SIGFPE": 8,
    "SIGSEGV": 11,
    "SIGCHLD": 17,
    "SIGIO": 29,
    "SIGSYS": 31,
    "SI_KERNEL": 128,
    "SI_QUEUE": -1,
    "SI_SIGIO": -5,
    "POLL_IN": 1,
    "POLL_HUP": 6,
}


def siginfo(word: int) -> Struct:
    value = Struct("sigval", word, (Field("sival_int", 0, 4, "int"), Field("sival_ptr", 0, word, "uint")))
    sent = Struct(
        "sent",
        8 + word,
        (
            Field("_pid", 0, 4, "int"),
            Field("_uid", 4, 4, "uint"),
            Field("_sigval", 8, word, "struct", type=value),
        ),
    )
    poll = Struct("poll", word + 4, (Field("_band", 0, word, "int"), Field("_fd", word, 4, "int")))
    size = 8 + word
    union = Struct(
        "union",
        size,
        (
            Field("_rt", 0, sent.size, "struct", type=sent),
            Field("_sigpoll", 0, poll.size, "struct", type=poll),
        ),
    )
    begin = 16 if word == 8 else 12
    return Struct(
        "siginfo",
        128,
        (
            Field("si_signo", 0, 4, "int"),
            Field("si_errno", 4, 4, "int"),
            Field("si_code", 8, 4, "int"),
            Field("_sifields", begin, size, "struct", type=union),
        ),
    )


def decoded(arch: Architecture, signo: int, code: int, body: bytes) -> Seen | None:
    layout = siginfo(arch.word)
    abi = Abi(arch, CONSTANTS, {}, {"siginfo": layout}, {"rt_sigtimedwait": 1})
    call = Call(Context(abi), wire.Program(arch), actor="main")
    plan = sigtimedwait(call, [signo], timeout=0.0)
    data = bytes(layout.pack({"si_signo": signo, "si_code": code}, arch))
    begin = layout.offset_of("_sifields")
    data = (data[:begin] + body).ljust(128, b"\0")
    return plan.decode(wire.Reply(calls=(wire.CallResult(signo, 1),), data=(data,))).info


@pytest.mark.parametrize("arch", [X86_64, BIG, SMALL], ids=lambda arch: arch.name)
@pytest.mark.parametrize(("signo", "code"), [(29, 1), (29, 6), (35, 1), (10, 2), (17, -5)])
def test_a_files_signal_has_band_and_fd(arch: Architecture, signo: int, code: int) -> None:
    body = (0x41).to_bytes(arch.word, arch.byteorder) + (7).to_bytes(4, arch.byteorder)
    assert decoded(arch, signo, code, body) == Seen(signo, code, band=0x41, fd=7)


@pytest.mark.parametrize("arch", [X86_64, BIG, SMALL], ids=lambda arch: arch.name)
@pytest.mark.parametrize(("signo", "code"), [(29, 128), (35, -1), (17, 1), (10, 0), (10, 7)])
def test_another_has_a_sender_and_a_value(arch: Architecture, signo: int, code: int) -> None:
    body = b"".join(each.to_bytes(4, arch.byteorder) for each in (12, 34, 56))
    assert decoded(arch, signo, code, body) == Seen(signo, code, pid=12, uid=34, value=56)
