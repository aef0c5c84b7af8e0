"""A site: the expression that a frame of the user's code is evaluating, as its source says it.

Python keeps, for each instruction, the span of source it was made from; the innermost
syntax that covers the span is what the user wrote there. Where there is no source (an
`exec`, a file that was changed since) there is no site, and its reader does without.
"""

from __future__ import annotations

import ast
import builtins
import linecache
import sys
from collections import ChainMap
from collections.abc import Mapping
from functools import lru_cache
from itertools import islice
from textwrap import dedent
from types import FrameType, ModuleType
from typing import TypeAlias

import attrs

from orchestra.graph.source.frames import place

Path: TypeAlias = tuple[ast.AST, ...]
"""Pieces of syntax, each inside the one before."""
UNKNOWN: object = object()
"""What a name means that nothing is known of."""


@attrs.frozen(eq=False)
class Site:
    """A place in the user's code."""

    where: str
    """`file:line`."""
    line: str
    """The line as it is written, without its indentation; empty where there is no source."""
    source: str
    """The whole file."""
    path: Path
    """The syntax there, the module first and the expression last; empty without source."""
    locals: Mapping[str, object]
    names: Mapping[str, object]
    """What names mean there: the locals, and everything around them."""

    def text(self, node: ast.AST) -> str:
        """A piece of syntax as the user wrote it, on one line."""
        plain = ast.unparse(node)
        segment = ast.get_source_segment(self.source, node) if hasattr(node, "lineno") else None
        # Inside an f-string, Python 3.11 gives wrong columns.
        return segment if segment is not None and _says(segment, plain) else plain

    def meaning(self, node: ast.AST) -> object:
        """What a name, or a name in a module, stands for; `UNKNOWN` for every other expression."""
        if isinstance(node, ast.Name):
            return self.names.get(node.id, UNKNOWN)
        if isinstance(node, ast.Attribute):
            holder = self.meaning(node.value)
            if isinstance(holder, ModuleType):
                return getattr(holder, node.attr, UNKNOWN)
        return UNKNOWN

    def replaced(self, old: ast.expr, new: str) -> str:
        """The statement around an expression, with another text in its place.

        Only the first line of a statement that has others inside it.
        """
        statement = self.statement
        lines = self.source.splitlines()
        assert old.end_lineno is not None, "a parsed expression has an end"
        before = "\n".join(lines[statement.lineno - 1 : old.lineno - 1])
        head = _columns(lines[old.lineno - 1], 0, old.col_offset)
        tail = _columns(lines[old.end_lineno - 1], old.end_col_offset, None)
        last = old.end_lineno if _holds_others(statement) else statement.end_lineno
        after = "\n".join(lines[old.end_lineno : last])
        return dedent("\n".join(filter(None, (before, head + new + tail, after))))

    @property
    def statement(self) -> ast.stmt:
        """The innermost statement of the path."""
        return next(node for node in reversed(self.path) if isinstance(node, ast.stmt))

    @property
    def wrong(self) -> str:
        """What the user wrote: the statement if it is a simple one, else the line."""
        if not self.path or _holds_others(self.statement):
            return self.line
        statement = self.statement
        lines = self.source.splitlines()[statement.lineno - 1 : statement.end_lineno]
        return dedent("\n".join(lines))


def _holds_others(statement: ast.stmt) -> bool:
    return hasattr(statement, "body") or isinstance(statement, ast.Match)


def site_of(frame: FrameType, instruction: int) -> Site:
    """The site of an instruction of a frame, such as `frame.f_lasti`."""
    code = frame.f_code
    source = "".join(linecache.getlines(code.co_filename, frame.f_globals))
    span = next(islice(code.co_positions(), instruction // 2, None))
    line = span[0] or frame.f_lineno
    known = _locals(frame)
    return Site(
        place(code.co_filename, line),
        linecache.getline(code.co_filename, line, frame.f_globals).strip(),
        source,
        _path(source, span),
        known,
        ChainMap(known, dict(frame.f_globals), dict(vars(builtins))),
    )


def _locals(frame: FrameType) -> dict[str, object]:
    """The names of a function; in a comprehension also those of the functions around it."""
    known = dict(frame.f_locals)
    inner: FrameType | None = frame
    while inner is not None and inner.f_code.co_name in _COMPREHENSIONS:
        inner = inner.f_back
        while inner is not None and inner.f_code.co_filename != frame.f_code.co_filename:
            inner = inner.f_back  # whoever in Python's own library asks a generator for more
        known = {**(inner.f_locals if inner else {}), **known}
    return known


# Until Python 3.12 each runs in a frame of its own, which sees only the names that it uses.
_COMPREHENSIONS = ("<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>")


def is_library(meaning: object) -> bool:
    """Whether something belongs to Python itself: it takes values, and never wires."""
    module = getattr(meaning, "__module__", None) or getattr(type(meaning), "__module__", "")
    return str(module).partition(".")[0] in {"builtins", *sys.stdlib_module_names}


_Span: TypeAlias = tuple[int | None, int | None, int | None, int | None]
_Point: TypeAlias = tuple[int, int]
_Spanned: TypeAlias = ast.expr | ast.stmt | ast.pattern | ast.keyword


def _path(source: str, span: _Span) -> Path:
    start_line, end_line, start, end = span
    if start_line is None or end_line is None or start is None or end is None:
        return ()
    try:
        tree = parsed(source)
    except SyntaxError:  # it was changed since it was imported
        return ()
    inside = _inside(tree, (start_line, start), (end_line, end))
    has_statement = any(isinstance(node, ast.stmt) for node in inside)
    return (tree, *inside) if has_statement else ()


@lru_cache(maxsize=4)
def parsed(source: str) -> ast.Module:
    """The syntax of a file.

    Raises:
        SyntaxError: it is no Python.
    """
    return ast.parse(source)


def _inside(node: ast.AST, start: _Point, end: _Point) -> Path:
    """The nodes below this one that cover the span, outermost first."""
    if isinstance(node, ast.JoinedStr):
        return ()  # the columns in it cannot be trusted, and it is refused as a whole
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.expr | ast.stmt | ast.pattern | ast.keyword):
            inside = _inside(child, start, end)  # it has no span of its own
            if inside:
                return (child, *inside)
        elif _covers(child, start, end):
            return (child, *_inside(child, start, end))
    return ()


def _covers(node: _Spanned, start: _Point, end: _Point) -> bool:
    last = (node.end_lineno or node.lineno, node.end_col_offset or 0)
    first = min([node, *getattr(node, "decorator_list", ())], key=lambda each: each.lineno)
    return (first.lineno, first.col_offset) <= start and end <= last


def _columns(line: str, start: int | None, end: int | None) -> str:
    """Part of a line; columns of syntax count bytes."""
    return line.encode()[start:end].decode()


def _says(segment: str, plain: str) -> bool:
    """Whether a piece of source means the same as `ast.unparse` of its syntax."""
    try:
        return ast.unparse(ast.parse(segment, mode="eval")) == plain
    except SyntaxError:
        return False
