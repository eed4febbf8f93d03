# SPDX-License-Identifier: MIT
"""The kernel's messages, as an actor's own open /dev/kmsg gives them."""

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

from lab.errors import AgentError, UsageError
from lab.guest.kmsg import parse_record
from lab.verbs import Bool, Call, Data, Fd, Int, Memory, Outcome, Plan, Size, Text, verb, wire
from lab.verbs.files import Got, got

MOST_RECORDS = 64
RECORD_SIZE = 4096
# The kernel's names, in the order of their numbers; no header for user space has them.
Action = Literal[
    "SYSLOG_ACTION_CLOSE",
    "SYSLOG_ACTION_OPEN",
    "SYSLOG_ACTION_READ",
    "SYSLOG_ACTION_READ_ALL",
    "SYSLOG_ACTION_READ_CLEAR",
    "SYSLOG_ACTION_CLEAR",
    "SYSLOG_ACTION_CONSOLE_OFF",
    "SYSLOG_ACTION_CONSOLE_ON",
    "SYSLOG_ACTION_CONSOLE_LEVEL",
    "SYSLOG_ACTION_SIZE_UNREAD",
    "SYSLOG_ACTION_SIZE_BUFFER",
]


@dataclass(frozen=True, kw_only=True)
class Record:
    """One record: its text without escapes, its device dictionary, and all of it as it was read (`raw`)."""

    level: Int
    facility: Int
    continues: Bool
    text: Text
    fields: dict[str, Text]
    raw: Data


@dataclass(frozen=True, kw_only=True)
class Records(Outcome):
    """All that was there: `returns` counts what is in `records`; `errno` of the first read that failed.

    `missing` counts the sequence numbers that were left out between two records that were read; one that did
    not rise counts too.
    """

    records: list[Record] | None = None
    missing: Int | None = None


@verb
def kmsg_drain(
    call: Call, fd: Fd, *, only: Text = "", most: Int = MOST_RECORDS, size: Size = RECORD_SIZE
) -> Plan[Records]:
    """Read all records of /dev/kmsg that are there, `most` at most: read(2) of a file with O_NONBLOCK.

    `records` of the result are those whose text `only`, a regular expression, is found in: the kernel may say
    something at any time. An error on the way (EPIPE) does not end it.
    """
    try:
        wanted = re.compile(only)
    except re.error as error:
        raise UsageError(f"{only!r} is no regular expression: {error}") from None
    at_the_end = call.constant("EAGAIN")
    taken = []
    for _ in range(most):
        into = call.room(None, size)
        index = call.syscall("read", fd, into, size, once=True)
        taken.append((index, into.fetch(call, up_to_call=index)))

    def decode(reply: wire.Reply) -> Records:
        if reply.exited is not None:
            return Records(**call.result(reply))
        results = [(reply.calls[index], take(reply)) for index, take in taken]
        failed = [each.errno for each, _ in results if each.errno not in (None, at_the_end)]
        raws = [data for each, data in results if each.errno is None]
        try:
            parsed = [(parse_record(raw), raw) for raw in raws]
        except AgentError as error:
            raise UsageError(f"this is no /dev/kmsg: {error}") from None
        steps = (after.sequence - before.sequence - 1 for (before, _), (after, _) in pairwise(parsed))
        records = [
            Record(
                level=message.priority,
                facility=message.facility,
                continues=message.continues,
                text=message.text,
                fields=dict(message.fields),
                raw=raw,
            )
            for message, raw in parsed
            if wanted.search(message.text)
        ]
        errno = failed[0] if failed else None
        returns = len(records) if errno is None else None
        return Records(returns=returns, errno=errno, records=records, missing=sum(map(abs, steps)))

    return Plan(decode)


@verb
def syslog(call: Call, action: Action, *, buffer: Memory | None = None, len_: Int = 0) -> Plan[Got]:
    """Read or steer the kernel's log.

    syslog(2). `len` is the count asked for, and the level of SYSLOG_ACTION_CONSOLE_LEVEL; `buffer` is where
    it goes, by default room for `len` bytes where the action reads.
    """
    reads = "_READ" in action and len_ > 0
    into = call.room(buffer, len_ if reads else 0)
    address = 0 if buffer is None and not reads else into
    index = call.syscall("syslog", get_args(Action).index(action), address, len_)
    return got(call, index, into.fetch(call, up_to_call=index) if reads else lambda _: b"")
