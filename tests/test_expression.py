# SPDX-License-Identifier: MIT
"""Numbers as scenarios write them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.language import expression
from lab.language.expression import ExpressionError


class Values:
    """Constants, structs and bound names that the tests use."""

    def constant(self, name: str) -> int:
        return {"PAGE_SIZE": 4096, "O_RDWR": 2, "O_NONBLOCK": 0o4000}[name]

    def sizeof(self, name: str) -> int:
        return {"timespec": 16}[name]

    def number(self, path: str) -> int:
        return {"map": 0x1000, "r.out.pid": 7}[path]


def value(text: str) -> int:
    return expression.evaluate(expression.parse(text), Values())


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("12", 12),
        ("0x1F", 31),
        ("0b101", 5),
        ("0644", 0o644),
        ("0", 0),
        ("10UL", 10),
        ("4KiB", 4096),
        ("1MiB", 1 << 20),
        ("PAGE_SIZE-1", 4095),
        ("PAGE_SIZE + 1", 4097),
        ("2*PAGE_SIZE-1", 8191),
        ("O_RDWR|O_NONBLOCK", 0o4002),
        ("1<<4|1", 17),
        ("1 << 2 + 1", 8),
        ("6 & 3 | 8", 10),
        ("~0 & 0xff", 255),
        ("-1", -1),
        ("-(1+2)*3", -9),
        ("+5", 5),
        ("sizeof(timespec)+1", 17),
        ("sizeof(struct timespec)", 16),
        ("$map+PAGE_SIZE", 0x2000),
        ("$r.out.pid", 7),
        ("10-2-3", 5),
    ],
)
def test_values(text: str, wanted: int) -> None:
    assert value(text) == wanted


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "ends too early"),
        ("1+", "ends too early"),
        ("(1", "')' is missing"),
        ("1 2", "too much"),
        ("089", "octal"),
        ("4KIB", "no unit"),
        ("hello world", "too much"),
        ("a/b", "means nothing"),
        ("min(1)", "no function"),
        ("sizeof()", "struct's name"),
        ("*3", "means nothing"),
        ("5.10", "means nothing"),
        ("$", "means nothing"),
    ],
)
def test_what_is_none(text: str, why: str) -> None:
    with pytest.raises(ExpressionError, match="(?i)" + why.replace("(", r"\(").replace(")", r"\)")):
        expression.parse(text)


def test_a_shift_beyond_the_word_is_refused() -> None:
    with pytest.raises(ExpressionError, match="outside"):
        value("1 << 64")


def test_names() -> None:
    found = list(expression.names(expression.parse("PAGE_SIZE+$map|sizeof(x)")))
    assert found == [expression.Name("PAGE_SIZE"), expression.Bound("map"), expression.Sizeof("x")]


operands = st.one_of(
    st.integers(0, 1 << 40).map(str),
    st.integers(0, 1 << 40).map(hex),
    st.sampled_from(["PAGE_SIZE", "O_RDWR"]),
)
trees = st.recursive(
    operands,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from("+-*|&"), inner).map(lambda t: f"({t[0]}{t[1]} {t[2]})"),
        inner.map(lambda t: f"~{t}"),
        inner.map(lambda t: f"-{t}"),
    ),
    max_leaves=12,
)


@settings(max_examples=50, deadline=None)
@given(trees)
def test_the_same_as_python(text: str) -> None:
    assert value(text) == eval(text, {"PAGE_SIZE": 4096, "O_RDWR": 2})  # noqa: S307 - a text of our own making


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=30))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        expression.parse(text)
    except ExpressionError as error:
        assert str(error)  # noqa: PT017 - either way is fine
