"""Silent tests: `is`, `isinstance` and `match`, which Python answers without calling the wire.

A wire is not None, and not an instance of the class that the user means. So such a test always
takes the same branch. Python has no hook for these tests, so the function's source is searched for
them after the call. Only names that are certainly wires count: inputs, results of steps, and their
parts.
"""

from __future__ import annotations

import ast
import builtins
import dis
import linecache
from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import islice
from types import CodeType, FunctionType
from typing import TypeAlias, cast

import attrs

from orchestra.annotations.facts import MISSING
from orchestra.errors import DefinitionError
from orchestra.graph.calls.closures import closed_over
from orchestra.graph.nodes import Constant, Input, Node, Origin
from orchestra.graph.source.decorated import Decorated
from orchestra.graph.source.frames import place
from orchestra.graph.source.site import COMPREHENSIONS, UNKNOWN, Path, Site, path_to_def
from orchestra.graph.wires import Wire

_Point: TypeAlias = tuple[int, int]

_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
_LOOPS = (ast.For, ast.While, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_CALLS = ("isinstance", "type", "hasattr", "callable")
_PATTERNS = (ast.MatchSingleton, ast.MatchClass, ast.MatchSequence, ast.MatchMapping)
_MADE_IN = (
    "orchestra.graph.control.constructs",
    "orchestra.graph.control.agreeing",
    "orchestra.steps.generate",
)
"""Modules whose callables are not steps, but return wires."""
_OPCODES = {
    number
    for name, number in dis.opmap.items()
    if name == "IS_OP" or name.startswith("MATCH_") or name.endswith("_NONE")
}
"""The bytecode instructions of silent tests."""


@contextmanager
def refusing_silent_tests(
    function: FunctionType, wires: Mapping[str, Wire], nodes: Sequence[Node]
) -> Iterator[None]:
    """Refuse silent tests of wires in a pipeline's function; wraps the call of the function.

    `wires` are the function's wires by name when it is called: its parameters, and those of the
    enclosing function. Such tests are also looked for when the call fails: taking the wrong branch
    is often the cause.

    Raises:
        DefinitionError: the function has such a test; the message is about the first.
    """
    try:
        yield
    except DefinitionError:
        raise
    except Exception as error:
        if (refused := _first_refusal(function, wires, nodes)) is None:
            raise
        raise DefinitionError(refused) from error
    if (refused := _first_refusal(function, wires, nodes)) is not None:
        raise DefinitionError(refused)


def refusing_silent_tests_of_items(
    body: Callable[..., object], item: Wire, nodes: Sequence[Node]
) -> AbstractContextManager[None]:
    """As `refusing_silent_tests`, for a function that the pipeline's function passes to `each`.

    A function from elsewhere may be meant for plain values, too.
    """
    if not isinstance(body, FunctionType) or "<locals>" not in body.__qualname__:
        return nullcontext()
    wires = {name: held for name, held in closed_over(body).items() if isinstance(held, Wire)}
    first, count = body.__code__.co_varnames[:1], body.__code__.co_argcount
    wires |= dict.fromkeys(first if count else (), item)  # for `*items`, it is in a tuple
    return refusing_silent_tests(body, wires, nodes)


def _first_refusal(
    function: FunctionType, wires: Mapping[str, Wire], nodes: Sequence[Node]
) -> str | None:
    code = function.__code__
    if not any(map(_tests, _codes(code))):  # nearly always: the file need not be parsed
        return None
    source = "".join(linecache.getlines(code.co_filename, function.__globals__))
    path = path_to_def(source, code)
    if not path:
        return None
    known = _Names.of(function, path[-1], wires, nodes)
    for inner in _walk(path[-1]):
        tested = known.silent_test(inner)
        if tested is not None:
            from orchestra.graph.refusals.refusal import refusal_at  # as in `wires`

            wire, act, at = tested
            return refusal_at(known.site((*path, *inner[1:], *at), source), wire, act)
    return None


def _tests(code: CodeType) -> bool:
    """Whether code has an instruction or a name of a silent test."""
    return not _OPCODES.isdisjoint(code.co_code[::2]) or not set(_CALLS).isdisjoint(code.co_names)


def _codes(code: CodeType) -> Iterator[CodeType]:
    """The code of a function, and of its comprehensions that Python compiles apart."""
    yield code
    for each in code.co_consts:
        if isinstance(each, CodeType) and each.co_name in COMPREHENSIONS:
            yield from _codes(each)


@attrs.frozen(eq=False)
class _Names:
    """The names that a pipeline's function can read, and which of them are wires."""

    code: CodeType
    around: Mapping[str, object]
    """The names of the function's module."""
    wires: dict[str, Wire]
    """The inputs, and the variables that are certainly assigned wires."""
    stores: dict[str, list[tuple[_Point, bool]]]
    """The places where each name is assigned, and whether the value is certainly a wire."""
    names: Mapping[str, object]

    @classmethod
    def of(
        cls,
        function: FunctionType,
        body: ast.AST,
        given: Mapping[str, Wire],
        nodes: Sequence[Node],
    ) -> _Names:
        """Read from the function's source, its wires, and the nodes that calling it made."""
        wires = dict(given)
        around = closed_over(function), function.__globals__, dict(vars(builtins))
        names: Mapping[str, object] = ChainMap(cast("dict[str, object]", wires), *around)
        known = cls(function.__code__, function.__globals__, wires, {}, names)
        for path in islice(_walk(body), 1, None):
            for name in _stored(path[-1]):
                made = known.assigned(path, nodes)
                if made is not None:
                    wires.setdefault(name, made)
                point = _end(path[-2]) if made is not None else _start(path[-1])
                known.stores.setdefault(name, []).append((point, made is not None))
        return known

    def site(self, path: Path, source: str) -> Site:
        """The site of the last node of a path."""
        filename, line = self.code.co_filename, _start(path[-1])[0]
        text = linecache.getline(filename, line, dict(self.around)).strip()
        functions = {each.co_name for each in self.code.co_consts if isinstance(each, CodeType)}
        own = {*self.code.co_varnames, *self.code.co_cellvars}
        known = {name: _stand_in if name in functions else UNKNOWN for name in own} | self.wires
        names = {**self.names, **known}
        return Site(place(filename, line), text, source, path, known, names)

    def silent_test(self, path: Path) -> tuple[str, str, Path] | None:
        """The tested wire, the kind of test, and the rest of the path to it; None for no test."""
        match path[-1]:
            case ast.Compare(left=left, ops=[ast.Is() | ast.IsNot() as op], comparators=[right]):
                on, other = (right, left) if isinstance(left, ast.Constant) else (left, right)
                narrows = isinstance(path[-2], ast.Assert) and isinstance(op, ast.IsNot)
                if isinstance(other, ast.Constant) and self._is_wire(on, path) and not narrows:
                    return ast.unparse(on), "be tested with `is`", ()
            case ast.Call(func=ast.Name(id=name), args=[on, *_]) if name in _CALLS:
                if self.names.get(name) is getattr(builtins, name) and self._is_wire(on, path):
                    return ast.unparse(on), f"be tested with `{name}`", ()
            case ast.Match(subject=on, cases=cases) if self._is_wire(on, path):
                found = next((each for each in cases if _matches_silently(each.pattern)), None)
                if found is not None:
                    return ast.unparse(on), "be matched", (found, found.pattern)
        return None

    def assigned(self, path: Path, nodes: Sequence[Node]) -> Wire | None:
        """The wire that `name = step(...)`, or `name = wire.part`, assigns; None for all others."""
        match path[-2]:
            case ast.Assign(value=value) | ast.AnnAssign(value=ast.expr() as value):
                pass
            case _:
                return None
        match value:
            case ast.Call(func=ast.Name(id=called)) if _gives_wires(
                meaning := self.names.get(called)
            ):
                if hasattr(meaning, "inputs"):  # a pipeline: its nodes are from other lines
                    return _stand_in(called, getattr(meaning, "returns", MISSING))
                lines = range(value.lineno, (value.end_lineno or value.lineno) + 1)
                here = [each for each in nodes if each.origin.line in lines]
                made = [each for each in here if not isinstance(each, Constant | Input)]
                return Wire(made[-1]) if made else None
            case ast.Name() | ast.Attribute() | ast.Subscript() if self._is_wire(value, path):
                in_loop = any(isinstance(each, _LOOPS) for each in path)  # it may be set again
                return None if in_loop else self._part(value)
        return None

    def _part(self, node: ast.expr) -> Wire | None:
        """The wire that a name, or a part of one, stands for."""
        match node:
            case ast.Name(id=name):
                return self.wires[name]
            case ast.Attribute(value=holder, attr=attribute):
                found = self._part(holder)
                return None if found is None else cast("Wire", getattr(found, attribute))
            case ast.Subscript(value=holder, slice=ast.Constant(value=key)):
                found = self._part(holder)
                return None if found is None else found[key]
        return None

    def _is_wire(self, node: ast.expr, path: Path) -> bool:
        match node:
            case ast.Attribute(value=holder, attr=name):
                return not name.startswith("_") and self._is_wire(holder, path)
            case ast.Subscript(value=holder):
                return self._is_wire(holder, path)
            case ast.Call(func=ast.Name(id=name)):
                return _gives_wires(self.names.get(name))
            case ast.Name(id=name) if name in self.wires:
                start = _start(node)
                loop = next((each for each in path if isinstance(each, _LOOPS)), None)
                until = start if loop is None else max(start, _end(loop))
                before = [made for at, made in self.stores.get(name, ()) if at <= until]
                return all(before)
        return False


def _walk(node: ast.AST, above: Path = ()) -> Iterator[Path]:
    """The paths to all nodes of a function, without nested functions, in source order."""
    path = (*above, node)
    yield path
    for child in ast.iter_child_nodes(node):
        if isinstance(child, _SCOPES):
            yield (*path, child)
        else:
            yield from _walk(child, path)


def _stored(node: ast.AST) -> Iterator[str]:
    """The names that a syntax node assigns or deletes."""
    match node:
        case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
            yield name
        case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
            yield name
        case ast.ExceptHandler(name=str(name)) | ast.MatchMapping(rest=str(name)):
            yield name
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield name


def _stand_in(called: str, returns: object) -> Wire:
    """A wire of this type. The function object itself stands in for every local function."""
    return Wire(Input(Origin(0, (), "", 0), called, returns, MISSING))


def _gives_wires(meaning: object) -> bool:
    return isinstance(meaning, Decorated) or getattr(meaning, "__module__", "") in _MADE_IN


def _matches_silently(pattern: ast.pattern) -> bool:
    """Whether Python matches the pattern without calling `==`."""
    match pattern:
        case ast.MatchOr(patterns=patterns):
            return any(map(_matches_silently, patterns))
        case ast.MatchAs(pattern=ast.pattern() as inner):
            return _matches_silently(inner)
    return isinstance(pattern, _PATTERNS)


def _start(node: ast.AST) -> _Point:
    return getattr(node, "lineno", 0), getattr(node, "col_offset", 0)


def _end(node: ast.AST) -> _Point:
    return getattr(node, "end_lineno", 0), getattr(node, "end_col_offset", 0)
