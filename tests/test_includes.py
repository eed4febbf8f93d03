# SPDX-License-Identifier: MIT
"""What a header includes is told by its text, and where it is not told, the answer is not to be had."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lab.abi.includes import included

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a directory of headers: b.h is there twice, and within sub it is another one."""
    (tmp_path / "uapi/sub").mkdir(parents=True)
    for name in ("b.h", "c.h", "sub/b.h", "../above.h"):
        (tmp_path / "uapi" / name).write_text(f"/* {name} */\n")
    return tmp_path / "uapi"


def of(tree: Path, text: str, name: str = "a.h") -> list[str] | None:
    """Return the names of what a header with this text includes besides itself."""
    (tree / name).write_text(text)
    found = included([name], tree)
    if found is None:
        return None
    assert all(data == (tree / each).read_bytes() for each, data in found.items())
    assert next(iter(found)) == name
    return list(found)[1:]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", []),
        ('#include "b.h"\n', ["b.h"]),
        ("#include <b.h>\n", ["b.h"]),
        (" # \tinclude\t<b.h> /* why */\n", ["b.h"]),
        ('#include"sub/b.h"', ["sub/b.h"]),
        ("#include <linux/types.h>\n#include <sub>\n", []),  # the system's, and a directory
        ('#include "gone.h"\n', []),  # the compiler will say
        ('#if 0\n#include "b.h"\n#else\n#include "c.h"\n#endif\n', ["c.h", "b.h"]),
        ('#inc\\\nlude \\  \n"b.h"\n', ["b.h"]),
        ('%:include "b.h"\n', ["b.h"]),
        ('#import "b.h"\n', ["b.h"]),
        ('/* odd */ #include "b.h"\n', ["b.h"]),
        ('# /* a\nb */ include "b.h"\n', ["b.h"]),
        ('#/**/include "b.h"\n', ["b.h"]),
        ('#define Q \'"\' /* "\n*/\n#include "b.h"\n', ["b.h"]),
        ('/* #include "b.h" */\n', ["b.h"]),  # one too many does no harm
        ('#include "../above.h"\n', ["../above.h"]),
        ('#include "../uapi/../uapi/a.h"\n', []),  # itself, by another way
        ('#include "b.h"\r\n#include "c.h"\r\n', ["c.h", "b.h"]),
        ("/* what these include */\n#define INCLUDED_BY include\n", []),
    ],
)
def test_what_the_text_says(tree: Path, text: str, wanted: list[str]) -> None:
    assert of(tree, text) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "#include OTHER\n",
        '#include /* odd */ "b.h"\n',
        '#include "b.h\n',
        '#include_next "b.h"\n',
        '#embed "b.h"\n',
        '#if __has_include("later.h")\n#endif\n',
        '#include "bad.h"\n',
    ],
)
def test_what_the_text_does_not_say(tree: Path, text: str) -> None:
    (tree / "bad.h").write_text("#include BAD\n")
    assert of(tree, text) is None


def test_a_header_that_is_not_there(tree: Path) -> None:
    assert included(["b.h", "gone.h"], tree) is None


def test_where_an_include_is_looked_for(tree: Path) -> None:
    """Beside the header that has it, then from the top; in <> from the top alone."""
    assert of(tree, '#include "b.h"\n', "sub/a.h") == ["sub/b.h"]
    assert of(tree, "#include <b.h>\n", "sub/a.h") == ["b.h"]
    assert of(tree, '#include "c.h"\n', "sub/a.h") == ["c.h"]
    assert of(tree, '#include "sub/a.h"\n#include "b.h"\n') == ["b.h", "sub/a.h", "c.h"]


def test_headers_by_a_link_include_from_where_they_are_opened(tree: Path) -> None:
    (tree / "link").symlink_to("sub")
    (tree / "d.h").write_text('#include "b.h"\n')
    (tree / "sub/e.h").symlink_to("../d.h")
    assert of(tree, '#include "link/e.h"\n') == ["sub/e.h", "sub/b.h"]


def test_rings_end(tree: Path) -> None:
    (tree / "b.h").write_text('#include "a.h"\n')
    assert of(tree, '#include "b.h"\n') == ["b.h"]
    found = included(["b.h", "a.h"], tree)
    assert found is not None
    assert sorted(found) == ["a.h", "b.h"]
