"""A site: the expression that a frame of the user's code is evaluating, found in the source.

Python keeps, for each instruction, the span of source it was made from. The innermost
syntax node that covers the span is the expression. Without source (an `exec`, a file changed
since) the site has an empty path, and messages show no rewritten code.
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
from types import CodeType, FrameType, ModuleType
from typing import TypeAlias

from orchestra.eventclass import frozen
from orchestra.graph.source.frames import place

Path: TypeAlias = tuple[ast.AST, ...]
"""Syntax nodes, each inside the one before."""
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
UNKNOWN: object = object()
"""The meaning of a name that has no known value."""


@frozen(eq=False)
class Site:
    """A place in the user's code."""

    where: str
    """`file:line`."""
    line: str
    """The line as it is written, without its indentation; empty where there is no source."""
    source: str
    """The whole file."""
    path: Path
    """The syntax nodes, from the module to the expression; empty without source."""
    locals: Mapping[str, object]
    names: Mapping[str, object]
    """All names visible there: the locals, the globals and the builtins."""

    def text(self, node: ast.AST) -> str:
        """The source of a syntax node; on one line where the source cannot be used as it is."""
        plain = ast.unparse(node)
        segment = ast.get_source_segment(self.source, node) if hasattr(node, "lineno") else None
        # Inside an f-string, Python 3.11 gives wrong columns.
        return segment if segment is not None and _parses_to(segment, plain) else plain

    def meaning(self, node: ast.AST) -> object:
        """The value of a name, or of an attribute of a module; `UNKNOWN` for other expressions."""
        if isinstance(node, ast.Name):
            return self.names.get(node.id, UNKNOWN)
        if isinstance(node, ast.Attribute):
            holder = self.meaning(node.value)
            if isinstance(holder, ModuleType):
                return getattr(holder, node.attr, UNKNOWN)
        return UNKNOWN

    def replaced(self, old: ast.expr, new: str) -> str:
        """The source of the statement around an expression, with `new` in the expression's place.

        For a statement that contains others, only its head.
        """
        statement = self.statement
        lines = _lines(self.source)
        if isinstance(old, ast.GeneratorExp):
            new = f"({new})"  # it may have shared the parentheses of a call
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
        """The code to show as wrong: the whole statement if it is a simple one, else its line.

        For a `match`, also its head, since the right code replaces both.
        """
        if not self.path:
            return self.line
        statement = self.statement
        lines = _lines(self.source)[statement.lineno - 1 : statement.end_lineno]
        if isinstance(statement, ast.Match):
            head = lines[0].strip()
            return head if head == self.line else f"{head}\n    {self.line}"
        return self.line if _holds_others(statement) else dedent("\n".join(lines))


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
    """The locals of a frame; for a comprehension, also those of the functions around it."""
    known = dict(frame.f_locals)
    inner: FrameType | None = frame
    while inner is not None and inner.f_code.co_name in COMPREHENSIONS:
        inner = inner.f_back
        while inner is not None and inner.f_code.co_filename != frame.f_code.co_filename:
            inner = inner.f_back  # a function of Python's library that iterates over a generator
        known = {**(inner.f_locals if inner else {}), **known}
    return known


COMPREHENSIONS = ("<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>")
"""Until Python 3.12 each runs in its own frame, which has only the names that it uses."""


def is_library(meaning: object) -> bool:
    """Whether an object belongs to Python's own library: it takes values, never wires."""
    module = getattr(meaning, "__module__", None) or getattr(type(meaning), "__module__", "")
    return str(module).partition(".")[0] in {"builtins", *sys.stdlib_module_names}


_Span: TypeAlias = tuple[int | None, int | None, int | None, int | None]
_Point: TypeAlias = tuple[int, int]
_Spanned: TypeAlias = ast.expr | ast.stmt | ast.pattern | ast.keyword


def _path(source: str, span: _Span) -> Path:
    start_line, end_line, start, end = span
    if start_line is None or end_line is None or start is None or end is None:
        return ()
    tree = parsed(source)
    if tree is None:
        return ()
    inside = _inside(tree, (start_line, start), (end_line, end))
    has_statement = any(isinstance(node, ast.stmt) for node in inside)
    return (tree, *inside) if has_statement else ()


@lru_cache(maxsize=4)
def parsed(source: str) -> ast.Module | None:
    """The syntax tree of a file; None if it is not valid Python: it was changed since its import.

    None also if it is nested too deep to be parsed.
    """
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # ValueError: a null byte
        return None


def path_to_def(source: str, code: CodeType) -> Path:
    """The path to a function's `def` or `lambda`; empty where the source does not have it."""
    tree = parsed(source)
    todo: list[Path] = [(tree,)] if tree else []
    while todo:
        path = todo.pop()
        if _defines(path[-1], code):
            return path
        todo += [(*path, child) for child in ast.iter_child_nodes(path[-1])]
    return ()


def _defines(node: ast.AST, code: CodeType) -> bool:
    if isinstance(node, ast.Lambda) and code.co_name == "<lambda>":
        return _span(node.body) == _span_of(code)  # a line may have several
    if isinstance(node, FUNCTIONS) and node.name == code.co_name:
        return code.co_firstlineno == min(each.lineno for each in (node, *node.decorator_list))
    return False


def _span(node: ast.expr) -> tuple[_Point, _Point]:
    return (node.lineno, node.col_offset), (node.end_lineno or 0, node.end_col_offset or 0)


def _span_of(code: CodeType) -> tuple[_Point, _Point] | None:
    """The smallest span that covers all instructions; None if it is not known."""
    known = [each for each in code.co_positions() if each[3]]  # columns 0 to 0 are of no code
    starts = [(line or 0, column or 0) for line, _, column, _ in known]
    ends = [(line or 0, column or 0) for _, line, _, column in known]
    return (min(starts), max(ends)) if known else None


def _inside(node: ast.AST, start: _Point, end: _Point) -> Path:
    """The descendants that cover the span, outermost first."""
    if isinstance(node, ast.JoinedStr):
        return ()  # columns inside an f-string are unreliable, and it is refused as a whole
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


def _lines(source: str) -> list[str]:
    """The lines as Python counts them: `splitlines` also splits at a form feed and the like."""
    return source.split("\n")  # `linecache` has turned every line ending into this one


def _columns(line: str, start: int | None, end: int | None) -> str:
    """Part of a line; the columns of syntax nodes count bytes."""
    return line.encode()[start:end].decode()


def _parses_to(segment: str, plain: str) -> bool:
    """Whether a piece of source parses to the same syntax as `plain`."""
    try:
        return ast.unparse(ast.parse(segment, mode="eval")) == plain
    except SyntaxError:
        return False
