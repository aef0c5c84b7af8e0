"""The part of the house style that a machine can check, as rules over one parsed file.

A rule takes a `Source` and yields (line, what is wrong). `RULES` says where each applies,
`ANY` and `BREAKS` what is excused and why. tests/test_tidy.py applies them to every file,
and shows of each that it bites.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

import attrs

ROOT = Path(__file__).parent.parent
FILE_LINES_MAX = 400
FILE_LINES_MEDIAN = 150
FUNCTION_LINES_MAX = 60
FOLDERS_MAX = 2

ANY: Mapping[str, str] = {
    "orchestra/values.py:Json": "what json.loads gives",
    "orchestra/events.py:Delta": "a chunk is whatever the pipeline's last step yields",
    "orchestra/events.py:Snapshot": "chunks, put together",
    "orchestra/events.py:RunFinished": "a result is whatever the pipeline's last step returns",
}
"""Where the pure floors may say `Any`, as `file:definition`, and why."""

BREAKS: Mapping[str, str] = {}
"""What in our own code breaks the house style, as `file: rule`, and why. Do not copy it."""

Finding: TypeAlias = tuple[int, str]
Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef
FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)


@attrs.frozen(slots=False)
class Source:
    """A file as the rules see it; `path` is relative to the project, with slashes."""

    path: str
    text: str
    classes: Mapping[str, ast.ClassDef] = {}
    """Every class of the package by its name, for what an override inherits."""

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @cached_property
    def nodes(self) -> tuple[ast.AST, ...]:
        return tuple(ast.walk(self.tree))

    @cached_property
    def calls(self) -> tuple[tuple[ast.Call, str], ...]:
        """Every call with the dotted name of what is called, without its `[...]`."""
        return tuple((n, dotted(n.func)) for n in self.nodes if isinstance(n, ast.Call))


Rule: TypeAlias = Callable[[Source], Iterator[Finding]]


def dotted(node: ast.AST) -> str:
    """`trio.sleep` for the expression `trio.sleep`, "" for what is not a name."""
    if isinstance(node, ast.Subscript):
        return dotted(node.value)
    return ast.unparse(node) if isinstance(node, (ast.Name, ast.Attribute)) else ""


def last(node: ast.AST) -> str:
    """The last part of a dotted name; of a decorator, whether called or not."""
    return dotted(node.func if isinstance(node, ast.Call) else node).rpartition(".")[2]


def file_length(source: Source) -> Iterator[Finding]:
    """A file is one idea."""
    lines = len(source.text.splitlines())
    if lines > FILE_LINES_MAX:
        yield lines, f"the file has {lines} lines, over {FILE_LINES_MAX}: it holds two ideas"


def function_length(source: Source) -> Iterator[Finding]:
    """A function fits a glance."""
    for node in source.nodes:
        if isinstance(node, FUNCTION):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > FUNCTION_LINES_MAX:
                yield node.lineno, f"{node.name} has {lines} lines, over {FUNCTION_LINES_MAX}"


def folders(source: Source) -> Iterator[Finding]:
    """Two folder levels, the package being the first."""
    if source.path.count("/") > FOLDERS_MAX:
        yield 1, f"the file is more than {FOLDERS_MAX} folders deep"


def docstrings(source: Source) -> Iterator[Finding]:
    """Every public name says what you get; an override may leave that to what it overrides."""
    if source.tree.body and not ast.get_docstring(source.tree):
        yield 1, "the module has no docstring"
    yield from _undocumented(source, source.tree, "")


def _undocumented(source: Source, scope: ast.Module | ast.ClassDef, prefix: str) -> Iterator[Finding]:
    for node in _public(scope):
        if not ast.get_docstring(node) and not _inherited(source, scope, node.name):
            yield node.lineno, f"{prefix}{node.name} has no docstring"
        if isinstance(node, ast.ClassDef):
            yield from _undocumented(source, node, f"{prefix}{node.name}.")


def _public(scope: ast.Module | ast.ClassDef) -> Iterator[Function | ast.ClassDef]:
    for node in scope.body:
        if isinstance(node, (*FUNCTION, ast.ClassDef)) and not node.name.startswith("_"):
            if not {last(d) for d in node.decorator_list} & {"overload", "setter", "deleter"}:
                yield node


def _inherited(source: Source, scope: ast.Module | ast.ClassDef, name: str) -> bool:
    if isinstance(scope, ast.Module):
        return False
    bases = [source.classes.get(last_of_base(base)) for base in scope.bases]
    return any(
        any(getattr(n, "name", "") == name and ast.get_docstring(n) for n in _public(base))
        or _inherited(source, base, name)
        for base in bases
        if base is not None
    )


def last_of_base(base: ast.AST) -> str:
    """`Step` for the bases `Step`, `steps.Step` and `Step[P, T]`."""
    return dotted(base).rpartition(".")[2]


SIGNALS = {"EndOfChannel", "StopAsyncIteration", "StopIteration", "WouldBlock"}
"""Exceptions that are answers, not errors: there is nothing to say."""


def raises(source: Source) -> Iterator[Finding]:
    """Every `raise` of an exception class says what is wrong."""
    for node in source.nodes:
        if not isinstance(node, ast.Raise) or node.exc is None:
            continue
        silent = not isinstance(node.exc, ast.Call) or not (node.exc.args or node.exc.keywords)
        name = last(node.exc)
        if silent and name[:1].isupper() and name not in SIGNALS:
            yield node.lineno, f"`raise {name}` has no message"


BOUND = re.compile(r"[A-Z_]+|.*(limit|bound|max|window|buffer|capacity)", re.IGNORECASE)


def channels(source: Source) -> Iterator[Finding]:
    """Every memory channel is bounded, visibly: by a number, or a name that says it is a bound."""
    for call, name in source.calls:
        if name.endswith("open_memory_channel"):
            size = [*call.args, *(keyword.value for keyword in call.keywords)][0]
            number = isinstance(size, ast.Constant) and type(size.value) is int
            named = BOUND.fullmatch(dotted(size).rpartition(".")[2])
            if not number and (not named or last(size) == "inf"):
                yield call.lineno, f"a channel's bound cannot be seen in `{ast.unparse(size)}`"


def prints(source: Source) -> Iterator[Finding]:
    """Only the command line prints."""
    for call, name in source.calls:
        if name == "print":
            yield call.lineno, "`print` outside orchestra/cli.py"


def sleeps(source: Source) -> Iterator[Finding]:
    """No test waits for real: `trio.sleep` only on a virtual clock."""
    names = {n.id for n in source.nodes if isinstance(n, ast.Name)}
    names |= {n.attr for n in source.nodes if isinstance(n, ast.Attribute)}
    virtual = names & {"MockClock", "simulate"}
    for call, name in source.calls:
        if name == "time.sleep" or (name == "trio.sleep" and not virtual):
            yield call.lineno, f"`{name}` in real time; wait for what you wait for, or simulate"


def generators(source: Source) -> Iterator[Finding]:
    """No public async generator: it stays suspended when its reader goes away."""
    scopes = [source.tree, *(n for n in source.nodes if isinstance(n, ast.ClassDef))]
    for node in (node for scope in scopes for node in _public(scope)):
        if isinstance(node, ast.AsyncFunctionDef) and any(_own_yields(node)):
            if not {last(d) for d in node.decorator_list} & {"step", "asynccontextmanager"}:
                yield node.lineno, f"{node.name} is a public async generator; give batches"


def _own_yields(node: ast.AST) -> Iterator[ast.Yield]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Yield):
            yield child
        if not isinstance(child, (*FUNCTION, ast.Lambda, ast.ClassDef)):
            yield from _own_yields(child)


def anys(source: Source) -> Iterator[Finding]:
    """The pure floors know what they hold: no `Any` in an annotation, unless listed in `ANY`."""
    for definition in source.tree.body:
        name = getattr(definition, "name", "") or dotted(getattr(definition, "target", definition))
        if f"{source.path}:{name}" in ANY:
            continue
        for annotation in _annotations(definition):
            if any(_says_any(annotation)):
                yield annotation.lineno, f"`Any` in {name or 'an annotation'}"


def _annotations(definition: ast.AST) -> Iterator[ast.expr]:
    for node in ast.walk(definition):
        if isinstance(node, FUNCTION) and node.returns and not _settles_overloads(node):
            yield node.returns
        elif isinstance(node, ast.arg) and node.annotation:
            yield node.annotation
        elif isinstance(node, ast.AnnAssign):
            alias = last(node.annotation) == "TypeAlias" and node.value
            yield alias or node.annotation


def _settles_overloads(node: Function) -> bool:
    """Whether it is `def f(...) -> Any` behind its overloads, which speak for it."""
    return isinstance(node.returns, ast.Name) and ast.unparse(node.args).startswith("function:")


def _says_any(node: ast.AST) -> Iterator[ast.AST]:
    if last(node) == "Any" and not isinstance(node, ast.Subscript):
        yield node
    if not _any_shape(node):
        for child in ast.iter_child_nodes(node):
            yield from _says_any(child)


def _any_shape(node: ast.AST) -> bool:
    """`X[..., Any]` takes functions of any shape; the other two leave no choice."""
    text = ast.unparse(node)
    return bool(re.fullmatch(r"[\w.]+\[\.\.\., Any\]|Coroutine\[Any, Any, .*\]|Attribute\[Any\]", text))


def _in(*folders: str) -> Callable[[str], bool]:
    return lambda path: path.startswith(folders)


PURE = ("graph/", "codecs/", "protocols.py", "events.py", "values.py", "errors.py")
OURS = _in("orchestra/", "pipelines/")
PRINTS = ("orchestra/cli", "benchmarks/", "tests/")

RULES: Mapping[Rule, Callable[[str], bool]] = {
    file_length: OURS,
    function_length: OURS,
    folders: OURS,
    docstrings: OURS,
    raises: OURS,
    channels: OURS,
    generators: OURS,
    prints: lambda path: OURS(path) and not path.startswith(PRINTS),
    anys: _in(*(f"orchestra/{floor}" for floor in PURE)),
    sleeps: _in("tests/"),
}


def findings(source: Source) -> list[str]:
    """Everything wrong with a file, as an editor opens it; what `BREAKS` lists is left out."""
    return [
        f"{source.path}:{line}: {what}"
        for rule, applies in RULES.items()
        if applies(source.path) and f"{source.path}: {rule.__name__}" not in BREAKS
        for line, what in rule(source)
    ]


def project() -> list[Source]:
    """Every Python file that has a rule, in order."""
    paths = [p for top in ("orchestra", "pipelines", "tests") for p in sorted((ROOT / top).rglob("*.py"))]
    texts = {path.relative_to(ROOT).as_posix(): path.read_text("utf-8") for path in paths}
    classes = {
        node.name: node
        for path, text in texts.items()
        if path.startswith("orchestra/")
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.ClassDef)
    }
    return [Source(path, text, classes) for path, text in texts.items()]
