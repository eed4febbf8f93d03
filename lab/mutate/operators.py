# SPDX-License-Identifier: MIT
"""What mistakes a C file can be made to have: one small change each, at a place that the syntax tells.

The number of lines stays, so that a change alone is what differs in what the compiler makes of it. A mutant
is known by its function, its kind and its text, which stay the same while lines around it come and go.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from lab.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tree_sitter import Node

# Words of the kernel's that a parser of plain C takes for names; blanks of the same width stand for them.
_ANNOTATIONS = re.compile(
    rb"\b(?:__user|__init|__exit|__percpu|__rcu|__iomem|__force|__must_check|noinline)\b"
)
# What the names of called functions say: the first that fits.
_CALLS = (
    (
        "drop unregister",
        re.compile(
            r"unreg|dereg|remove|destroy|_del(?:_|$)|del_|delete|unmap|stop|cancel|flush|detach|_exit$"
        ),
    ),
    ("drop wake-up", re.compile(r"wake|complete|notify|_call_chain|kill_fasync|_signal|queue_work|schedule")),
    ("drop unlock", re.compile(r"unlock|(?:^|_)up(?:_read|_write)?$|local_irq_(?:restore|enable)")),
    ("drop lock", re.compile(r"lock(?:_(?!init)\w+)?$|(?:^|_)down(?:_\w+)?$|local_irq_(?:save|disable)")),
    ("drop put", re.compile(r"(?:^|_)f?put(?:_|$)|free|release|unref|drop|put_")),
)
_NEGATED = {"==": "!=", "!=": "==", "<": ">=", ">=": "<", ">": "<=", "<=": ">"}
_SHIFTED = {"<": "<=", "<=": "<", ">": ">=", ">=": ">"}
_ERRNO = re.compile(r"E[A-Z0-9]{2,}")
# What is easily taken one for the other; what is not here becomes EIO.
_SWAPPED = {
    "EAGAIN": "ENODATA",
    "EBUSY": "EEXIST",
    "EEXIST": "EBUSY",
    "EFAULT": "EINVAL",
    "EINVAL": "ENODEV",
    "EIO": "EINVAL",
    "ENODEV": "ENXIO",
    "ENOTTY": "EINVAL",
    "EPERM": "EACCES",
    "ERESTARTSYS": "EINTR",
}
_JUMPS = frozenset({"return_statement", "goto_statement", "break_statement", "continue_statement"})
_CONDITIONED = frozenset(
    {"if_statement", "while_statement", "do_statement", "for_statement", "conditional_expression"}
)
KINDS = (*(name for name, _ in _CALLS), "drop statement", "drop field", "negate", "shift", "errno")


@dataclass(frozen=True)
class Mutant:
    """One change of a file."""

    function: str  # that it is in, or the variable
    kind: str  # of KINDS
    text: str  # what is changed, in one line
    line: int
    start: int  # the bytes of the file that are replaced
    end: int
    by: bytes
    number: int = 1  # among those that are the same so far, in the order of the file

    @property
    def id(self) -> str:
        """What it is called: unique in a file, and without line numbers."""
        return f"{self.function}: {self.kind}: {self.text}" + (f" #{self.number}" if self.number > 1 else "")

    def apply(self, source: bytes) -> bytes:
        """Return the file with it."""
        return source[: self.start] + self.by + source[self.end :]

    def patch(self, name: str, source: bytes) -> str:
        """Return it as a patch of the file called `name`, with -p1 from the tree's root."""
        before, after = (text.decode().splitlines(keepends=True) for text in (source, self.apply(source)))
        return "".join(difflib.unified_diff(before, after, f"a/{name}", f"b/{name}"))


def mutants(source: bytes) -> list[Mutant]:
    """Return all mutants of a C file in the order of their places.

    Raises UsageError where the parser is not installed.
    """
    found = sorted(_Finder(source).walk(_parse(source), ""), key=lambda each: (each.start, each.end))
    seen = Counter[str]()
    numbered = []
    for mutant in found:
        seen[mutant.id] += 1
        numbered.append(replace(mutant, number=seen[mutant.id]))
    return numbered


def _parse(source: bytes) -> Node:
    try:
        import tree_sitter  # noqa: PLC0415 - few have it, and only this needs it
        import tree_sitter_c  # noqa: PLC0415 - as above
    except ImportError as error:
        raise UsageError(
            f"statements of C are found by tree-sitter, which is not installed ({error.name} is missing)",
            hint="pip install 'chanlab[mutate]', or tree-sitter and tree-sitter-c",
        ) from error
    parser = tree_sitter.Parser(tree_sitter.Language(tree_sitter_c.language()))
    return parser.parse(_ANNOTATIONS.sub(lambda match: b" " * len(match[0]), source)).root_node


class _Finder:
    """The search through one file."""

    def __init__(self, source: bytes) -> None:
        self._source = source

    def walk(self, node: Node, function: str) -> Iterator[Mutant]:
        """Yield the mutants of a node and of all below."""
        if node.type == "function_definition":
            function = _declared(node)
        elif node.type == "declaration" and not function:
            yield from self._fields(node)
            return
        if function:
            yield from self._of(node, function)
        for child in node.named_children:
            yield from self.walk(child, function)

    def _of(self, node: Node, function: str) -> Iterator[Mutant]:
        if node.type == "expression_statement" and _whole(node):
            yield self._drop(node, function, _kind_of_call(node))
        elif node.type in _JUMPS and _whole(node) and not _ends_function(node):
            yield self._drop(node, function, "drop statement")
        elif node.type == "binary_expression":
            yield from self._binary(node, function)
        elif node.type == "unary_expression" and _operator(node) == "!":
            yield self._make(node, function, "negate", _text(node)[1:].encode())
        elif node.type == "unary_expression" and _operator(node) == "-":
            yield from self._errno(node, function)
        if node.type in _CONDITIONED:
            yield from self._truth(node.child_by_field_name("condition"), function)

    def _binary(self, node: Node, function: str) -> Iterator[Mutant]:
        operator = node.child_by_field_name("operator")
        assert operator is not None
        sign = _text(operator)
        for kind, table in (("negate", _NEGATED), ("shift", _SHIFTED)):
            if sign in table:
                yield self._make(operator, function, kind, table[sign].encode(), shown=node)
        if sign in ("&&", "||"):
            for name in ("left", "right"):
                yield from self._truth(node.child_by_field_name(name), function)

    def _truth(self, node: Node | None, function: str) -> Iterator[Mutant]:
        """Yield the contrary of a value of which only matters whether it is 0.

        Comparisons and negations have mutants of their own.
        """
        while node is not None and node.type == "parenthesized_expression":
            node = node.named_children[0]
        if node is None or (node.type == "unary_expression" and _operator(node) == "!"):
            return
        if node.type == "binary_expression" and _operator(node) in (*_NEGATED, "&&", "||"):
            return
        if node.type == "number_literal" or not _text(node):  # for (;;), while (1)
            return
        yield self._make(
            node, function, "negate", b"!(" + self._source[node.start_byte : node.end_byte] + b")"
        )

    def _errno(self, node: Node, function: str) -> Iterator[Mutant]:
        name = node.child_by_field_name("argument")
        if name is not None and name.type == "identifier" and _ERRNO.fullmatch(_text(name)):
            other = _SWAPPED.get(_text(name), "EIO").encode()
            yield self._make(name, function, "errno", other, shown=_statement(node))

    def _fields(self, declaration: Node) -> Iterator[Mutant]:
        """Yield a variable without one of the functions, owners and flags that its initializer names."""
        for pair in _below(declaration, "initializer_pair"):
            after = pair.next_sibling
            if pair.child_count and after is not None and after.type in (",", "}"):
                end = after if after.type == "," else pair
                blank = re.sub(rb"[^\n]", b"", self._source[pair.start_byte : end.end_byte])
                yield replace(self._make(pair, _declared(declaration), "drop field", blank), end=end.end_byte)

    def _drop(self, node: Node, function: str, kind: str) -> Mutant:
        text = self._source[node.start_byte : node.end_byte]
        return self._make(node, function, kind, b";" + b"\n" * text.count(b"\n"))

    def _make(self, node: Node, function: str, kind: str, by: bytes, shown: Node | None = None) -> Mutant:
        shown = shown or node
        text = " ".join(self._source[shown.start_byte : shown.end_byte].decode().split())
        return Mutant(function, kind, text, node.start_point[0] + 1, node.start_byte, node.end_byte, by)


def _text(node: Node) -> str:
    return (node.text or b"").decode()


def _operator(node: Node) -> str:
    found = node.child_by_field_name("operator")
    return _text(found) if found is not None else ""


def _declared(node: Node) -> str:
    """Return the name that a definition defines."""
    found: Any = node.child_by_field_name("declarator")
    while found is not None and found.type != "identifier":
        inner = found.child_by_field_name("declarator")
        found = inner if inner is not None else next(iter(found.named_children), None)
    return _text(found) if found is not None else "?"


def _whole(node: Node) -> bool:
    """Tell whether a statement has its own end: `list_for_each_entry(…) {` looks like one that has none."""
    return node.child_count > 0 and _text(node.children[-1]) == ";" and not node.children[-1].is_missing


def _ends_function(node: Node) -> bool:
    """Tell whether what follows a return is the end of the function, or a label."""
    if node.type != "return_statement":
        return False
    block = node.parent
    return (
        block is not None
        and block.parent is not None
        and block.parent.type == "function_definition"
        and node == block.named_children[-1]
    )


def _kind_of_call(statement: Node) -> str:
    called = next((each for each in statement.named_children if each.type == "call_expression"), None)
    name = _text(called.child_by_field_name("function") or called) if called is not None else ""
    return next((kind for kind, words in _CALLS if words.search(name)), "drop statement")


def _statement(node: Node) -> Node:
    """Return what an expression is told as part of: the statement, but no more than its own line or so."""
    while node.parent is not None and not node.type.endswith(("_statement", "declaration")):
        node = node.parent
    return node


def _below(node: Node, kind: str) -> Iterator[Node]:
    """Yield the nodes of a kind below a node, the outermost only."""
    for child in node.named_children:
        if child.type == kind:
            yield child
        else:
            yield from _below(child, kind)
