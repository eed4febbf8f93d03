# SPDX-License-Identifier: MIT
"""What the parameters of verbs are annotated with."""

from __future__ import annotations

from typing import Annotated, Any

from lab.language.composites import ActorKind, PendingKind, StepsKind, TreeKind
from lab.language.kinds import (
    AddressKind,
    BoolKind,
    DurationKind,
    ErrnoKind,
    FdKind,
    FlagsKind,
    IntKind,
    LengthKind,
    PidKind,
    SignalKind,
    SizeKind,
    TextKind,
    TimeKind,
)

Int = Annotated[int, IntKind()]
Flags = Annotated[int, FlagsKind()]
Size = Annotated[int, SizeKind()]
Length = Annotated[int, LengthKind()]  # of what the host makes
Signal = Annotated[int, SignalKind()]
Errno = Annotated[int, ErrnoKind()]
Duration = Annotated[float, DurationKind()]
Timeout = Annotated[float | None, DurationKind(endless=True)]  # None: for ever
Time = Annotated[int, TimeKind()]  # nanoseconds since 1970
Text = Annotated[str, TextKind()]
Bool = Annotated[bool, BoolKind()]
Fd = Annotated[int, FdKind()]
Address = Annotated[int, AddressKind()]
Pid = Annotated[int, PidKind()]
ActorName = Annotated[str, ActorKind()]
NewActor = Annotated[str, ActorKind(new=True)]
Pending = Annotated[Any, PendingKind()]
Steps = Annotated[tuple[Any, ...], StepsKind()]
Tree = Annotated[Any, TreeKind()]
