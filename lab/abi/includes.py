# SPDX-License-Identifier: MIT
"""What headers include, by their text alone: on which files it depends what a compiler says of them."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_SPLICE = re.compile(r"\\[ \t\r]*\n")
# A directive, or what could be one behind the end of a comment. Those in comments and under an #if that does
# not hold are seen too: rather one too many.
_DIRECTIVE = re.compile(
    r"(?:\#|%:|\*/)[ \t\r\f\v]*(include_next|include|import|embed)\b"
    r"(?:[ \t\f\v]*(?:\"(?P<quoted>[^\"\n]+)\"|<(?P<angled>[^>\n]+)>))?"
)
_ASKED = re.compile(r"\b__has_(?:include|include_next|embed)\b")


def included(headers: Sequence[str], directory: Path) -> dict[str, bytes] | None:
    """Return the files of a directory that headers there include, themselves first, with their contents.

    `headers` and the keys are paths as seen from `directory`, where the compiler looks first (-I). What is
    not there is the system's. None where their text does not tell: the include of a macro, a question whether
    there is a file, a file that cannot be read.
    """
    top = directory.resolve()
    found: dict[str, bytes] = {}
    todo = [top / name for name in reversed(headers)]
    while todo:
        path = todo.pop()
        path = path.parent.resolve() / path.name  # the directory that its own includes are looked for in
        name = os.path.relpath(path, top)
        if name in found:
            continue
        try:
            found[name] = path.read_bytes()
        except OSError:
            return None
        for places, wanted in _includes(found[name], path.parent, top):
            if wanted is None:
                return None
            todo += [place / wanted for place in places if (place / wanted).is_file()][:1]
    return found


def _includes(data: bytes, here: Path, top: Path) -> Iterator[tuple[tuple[Path, ...], str | None]]:
    """Yield what a file includes and where that is looked for; None for what the text does not tell."""
    text = _SPLICE.sub("", data.decode(errors="replace"))
    if _ASKED.search(text):
        yield (), None
    for found in _DIRECTIVE.finditer(text):
        plain = found[1] in ("include", "import")
        if plain and found["quoted"]:
            yield (here, top), found["quoted"]
        else:
            yield (top,), found["angled"] if plain else None
