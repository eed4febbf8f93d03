# SPDX-License-Identifier: MIT
"""What the commands of `lab` have in common: their errors, tables, and what they open."""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING, Any, TypeVar

import click

from lab.errors import LabError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from lab.progress import Progress
    from lab.settings import Settings
    from lab.store.cache import Cache

COLUMNS = 6  # targets side by side, in a table
F = TypeVar("F", bound="Callable[..., Any]")


def told(function: F) -> F:
    """Tell the lab's own errors in their own words, and leave with 1."""

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except LabError as error:
            click.echo(f"lab: {error}", err=True)
            sys.exit(1)

    return wrapped  # type: ignore[return-value]  # functools.wraps keeps the signature, which mypy cannot see


def opened(*, quiet: bool = False) -> tuple[Settings, Cache, Progress]:
    """Return the settings that hold here, the cache and who tells what takes long."""
    from lab import settings as settings_  # noqa: PLC0415 - each command pays for what it uses
    from lab.plugin import ini  # noqa: PLC0415 - as above
    from lab.progress import Progress  # noqa: PLC0415 - as above
    from lab.store.cache import Cache  # noqa: PLC0415 - as above

    progress = Progress(quiet=quiet)
    settings = settings_.load(ini.here())
    return settings, Cache(settings.cache, progress), progress


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table."""
    from rich.console import Console  # noqa: PLC0415 - as above
    from rich.table import Table  # noqa: PLC0415 - as above

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in head:
        table.add_column(name, no_wrap=True)
    for row in rows:
        table.add_row(*row)
    # A terminal's width is a reader's; a pipe's reader wants whole lines.
    console = Console() if sys.stdout.isatty() else Console(width=200)
    console.print(table, highlight=False)


__all__ = ["COLUMNS", "opened", "table", "told"]
