# SPDX-License-Identifier: MIT
"""Actors of 32 bits on a kernel of 64: which kernels run them, and how one comes to be.

Such an actor is the agent once more, compiled for the architecture that `Architecture.compat` names. It
begins as any other and executes that program once it has its ids; from then on its system calls, its memory
and its structs are that architecture's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.errors import AgentError, Unsupported
from lab.guest import wire
from lab.guest.answers import LAB

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lab.abi import Abi
    from lab.arch import Architecture
    from lab.guest.agent import Agent

WORDS = (32, 64)
NAME = "agent32"
_PROGRAM = f"/lab/{NAME}"  # beside /lab/helper
_AT_FDCWD = -100


@dataclass(frozen=True)
class Narrow:
    """What a target's 32-bit actors are made of."""

    program: bytes  # the agent, as their architecture's compiler made it
    abi: Abi  # what that architecture's headers say


def why_not(word: int, arch: Architecture, config: Mapping[str, str]) -> str | None:
    """Return why a kernel runs no processes of `word` bits as guests of its own, None where it does.

    Of 64 bits every kernel of 64 does. `config` maps options to their values; what is not set is absent.
    """
    if arch.word == 4:
        return f"a {word}-bit actor needs a 64-bit kernel, {arch.name}'s is a 32-bit one"
    if word == 8 * arch.word:
        return None
    compat = arch.compat
    if config.get(compat.config, "n") != "y":
        return f"a {word}-bit actor needs {compat.config}, which is not set in this kernel's config"
    if config.get(compat.off, "n") == "y":
        return f"this kernel runs no {word}-bit programs by default: its config has {compat.off}"
    if not compat.arch:
        return f"{arch.name}'s {word}-bit programs are of no architecture that the lab knows"
    return None


def send(program: bytes, agent: Agent, abi: Abi, timeout: float) -> None:
    """Bring the program of 32-bit actors into a guest; `abi` is the guest's own.

    Raises AgentError when the guest does not take it.
    """
    sending, calls, flags = wire.Program(abi.arch), abi.syscalls, abi.constants
    path, content = sending.string(_PROGRAM), sending.buffer(program)
    create = flags["O_WRONLY"] | flags["O_CREAT"] | flags["O_TRUNC"] | flags["O_CLOEXEC"]
    file = sending.call(calls["openat"], _AT_FDCWD, path, create, 0o755)
    written = sending.call(calls["write"], wire.Result(file), content, len(program))
    sending.call(calls["close"], wire.Result(file))
    reply = agent.run(LAB, sending, timeout=timeout)
    if reply.exited is not None or reply.calls[written].value != len(program):
        raise AgentError(f"the guest does not take {_PROGRAM}: {reply.calls}")


def become(actor: str, agent: Agent, abi: Abi, timeout: float) -> None:
    """Let a new actor go on as the program that was sent.

    Raises Unsupported where the guest runs none whatever its config says, AgentError for all else.
    """
    program = wire.Program(abi.arch)
    program.become(_PROGRAM)
    reply = agent.run(actor, program, timeout=timeout)
    if reply.exited is not None:
        raise AgentError(f"actor {actor!r} died while it became a 32-bit process (status {reply.exited})")
    (result,) = reply.calls
    if result.errno is not None and abi.errno_name(result.errno) == "ENOEXEC":
        raise Unsupported(
            "this guest runs no 32-bit programs: its CPU cannot, or its command line forbids it"
        )
    if result.errno is not None:
        raise AgentError(f"actor {actor!r} cannot become a 32-bit process: {abi.errno_name(result.errno)}")
