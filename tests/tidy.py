"""The part of the house style that a machine can check, as rules over one parsed file.

A rule takes a `Source` and yields (line, what is wrong). `RULES` says where each applies,
`ANY` and `BREAKS` what is excused and why. tests/test_tidy.py applies them to every file,
and shows of each that it bites.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache, cached_property
from pathlib import Path
from typing import TypeAlias

import attrs

ROOT = Path(__file__).parent.parent
FILE_LINES_MAX = 400
FILE_LINES_MEDIAN = 150
FUNCTION_LINES_MAX = 60
FOLDERS_MAX = 3

ANY: Mapping[str, str] = {
    "orchestra/values.py:Json": "what json.loads gives",
    "orchestra/events.py:Delta": "a chunk is whatever the pipeline's last step yields",
    "orchestra/events.py:StepTold": "what a step tells is any JSON",
    "orchestra/events.py:Snapshot": "chunks, put together",
    "orchestra/events.py:RunFailed": "a problem is any JSON; a schema has no exceptions",
    "orchestra/events.py:RunFinished": "a result is whatever the pipeline's last step returns",
    "orchestra/graph/control/constructs.py:route": "a Mapping is invariant in its keys, and labels vary",
    "orchestra/graph/control/constructs.py:_NONE": "stands in a parameter of any type for: not given",
}
"""Where the pure floors may say `Any`, as `file:definition`, and why."""

BREAKS: Mapping[str, str] = {
    "tests/engine/steps.py: sleeps": "steps for tests that run on a virtual clock",
    "tests/testing/sketches/polls.py: sleeps": "as in tests/engine/steps.py",
    "tests/testing/sketches/sketches.py: sleeps": "as in tests/engine/steps.py",
    "tests/testing/test_simulate.py: sleeps": "stands for blocking work in a thread",
    "tests/server/processes/test_blocking_steps.py: sleeps": "that a step sleeps is what is told",
    "tests/patience.py: sleeps": "a pause between two looks at what another process does",
}
"""What in our own code breaks the house style, as `file: rule`, and why. Do not copy it."""

Finding: TypeAlias = tuple[int, str]
Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef
Scope: TypeAlias = ast.Module | ast.ClassDef
FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)


@attrs.frozen(slots=False)
class Source:
    """A file as the rules see it; `path` is relative to the project, with slashes."""

    path: str
    text: str
    classes: Callable[[], Mapping[str, ast.ClassDef]] = dict
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
    """`Step` for `Step`, `steps.Step`, `Step[P, T]` and `Step(...)`."""
    return dotted(node.func if isinstance(node, ast.Call) else node).rpartition(".")[2]


def decorators(node: Function | ast.ClassDef) -> set[str]:
    """The last names of its decorators."""
    return {last(decorator) for decorator in node.decorator_list}


def file_length(source: Source) -> Iterator[Finding]:
    """A file is one idea."""
    lines = len(source.text.splitlines())
    if lines > FILE_LINES_MAX:
        yield lines, f"the file has {lines} lines, over {FILE_LINES_MAX}: split it"


def function_length(source: Source) -> Iterator[Finding]:
    """A function fits a glance."""
    for node in source.nodes:
        if isinstance(node, FUNCTION):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > FUNCTION_LINES_MAX:
                yield (
                    node.lineno,
                    f"{node.name} has {lines} lines, over {FUNCTION_LINES_MAX}: split it",
                )


def folders(source: Source) -> Iterator[Finding]:
    """Three folder levels, the package being the first."""
    if source.path.count("/") > FOLDERS_MAX:
        yield 1, f"the file is more than {FOLDERS_MAX} folders deep"


def docstrings(source: Source) -> Iterator[Finding]:
    """Every public name says what you get; an override may leave that to what it overrides."""
    if source.tree.body and not ast.get_docstring(source.tree):
        yield 1, "the module has no docstring"
    yield from _undocumented(source, source.tree, "")


def _undocumented(source: Source, scope: Scope, prefix: str) -> Iterator[Finding]:
    for node in _public(scope):
        if not ast.get_docstring(node) and not _inherited(source, scope, node.name):
            yield node.lineno, f"{prefix}{node.name} has no docstring"
        if isinstance(node, ast.ClassDef):
            yield from _undocumented(source, node, f"{prefix}{node.name}.")


def _public(scope: Scope) -> Iterator[Function | ast.ClassDef]:
    for node in scope.body:
        if isinstance(node, (*FUNCTION, ast.ClassDef)):
            spoken_for = decorators(node) & {"overload", "setter", "deleter"}
            if not node.name.startswith("_") and not spoken_for:
                yield node


def _inherited(source: Source, scope: Scope, name: str) -> bool:
    bases = [source.classes().get(last(base)) for base in getattr(scope, "bases", ())]
    return any(
        any(member.name == name and ast.get_docstring(member) for member in _public(base))
        or _inherited(source, base, name)
        for base in bases
        if base is not None
    )


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
            yield (
                node.lineno,
                f"`raise {name}` has no message: say what is wrong, and what to write",
            )


BOUND = re.compile(r"[A-Z_]+|.*(limit|bound|max|window|buffer|capacity)")


def channels(source: Source) -> Iterator[Finding]:
    """Every memory channel is bounded, visibly: by a number, or a name that says it is a bound."""
    for call, name in source.calls:
        if name.endswith("open_memory_channel"):
            size = [*call.args, *(keyword.value for keyword in call.keywords)][0]
            number = isinstance(size, ast.Constant) and type(size.value) is int
            if not number and not BOUND.fullmatch(last(size)):
                told = f"`{ast.unparse(size)}` may have no bound: write a number, or a name such as"
                yield call.lineno, f"{told} `chunks_max`, which matches {BOUND.pattern}"


def prints(source: Source) -> Iterator[Finding]:
    """Only the command line prints."""
    for call, name in source.calls:
        if name == "print":
            yield call.lineno, "`print` outside orchestra/cli: log it, or return it"


def sleeps(source: Source) -> Iterator[Finding]:
    """No test waits for real: `trio.sleep` only on a virtual clock."""
    names = {n.id for n in source.nodes if isinstance(n, ast.Name)}
    names |= {n.attr for n in source.nodes if isinstance(n, ast.Attribute)}
    virtual = names & {"MockClock", "simulate", "virtual"}
    for call, name in source.calls:
        if name == "time.sleep" or (name == "trio.sleep" and not virtual):
            yield call.lineno, f"`{name}` in real time; wait for what you wait for, or simulate"


def generators(source: Source) -> Iterator[Finding]:
    """No public async generator: it stays suspended when its reader goes away."""
    scopes: list[Scope] = [source.tree]
    scopes += [node for node in _public(source.tree) if isinstance(node, ast.ClassDef)]
    for node in (node for scope in scopes for node in _public(scope)):
        excused = decorators(node) & {"step", "asynccontextmanager"}
        if isinstance(node, ast.AsyncFunctionDef) and any(_own_yields(node)) and not excused:
            told = (
                f"{node.name} is a public async generator: return batches, as `Journal.after` does"
            )
            yield node.lineno, told


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
        if f"{source.path}:{name}" not in ANY:
            for annotation in _annotations(definition, _overloaded(source)):
                if _says_any(annotation):
                    told = f"`Any` in {name}: `{ast.unparse(annotation)}`; write what it holds, or list"
                    yield (
                        annotation.lineno,
                        f"{told} {source.path}:{name} in `ANY`, with the reason",
                    )


def _overloaded(source: Source) -> set[str]:
    functions = (node for node in source.nodes if isinstance(node, FUNCTION))
    return {node.name for node in functions if "overload" in decorators(node)}


def _annotations(node: ast.AST, overloaded: set[str]) -> Iterator[ast.expr]:
    if isinstance(node, FUNCTION):
        if node.name in overloaded and "overload" not in decorators(node):
            return  # the overloads speak for the function behind them
        if node.returns:
            yield node.returns
    elif isinstance(node, ast.arg) and node.annotation:
        yield node.annotation
    elif isinstance(node, ast.AnnAssign):
        alias = node.value if last(node.annotation) == "TypeAlias" else None
        yield alias or node.annotation
    for child in ast.iter_child_nodes(node):
        yield from _annotations(child, overloaded)


NO_CHOICE = re.compile(
    r"[\w.]+\[(?:\.\.\.|P), Any\]|Coroutine\[Any, Any, (?!Any)\w+\]|Attribute\[Any\]"
)
"""A function of any shape; what an `async def` returns; attrs' own words for a field."""


def _says_any(annotation: ast.expr) -> bool:
    return bool(re.search(r"\bAny\b", NO_CHOICE.sub("", ast.unparse(annotation))))


def _in(*folders: str) -> Callable[[str], bool]:
    return lambda path: path.startswith(folders)


PURE = (
    "access/",
    "compiler/",
    "graph/",
    "codecs/",
    "protocols.py",
    "events.py",
    "values.py",
    "errors.py",
)
OURS = _in("orchestra/", "pipelines/")

RULES: Mapping[Rule, Callable[[str], bool]] = {
    file_length: OURS,
    function_length: OURS,
    folders: OURS,
    docstrings: OURS,
    raises: OURS,
    channels: OURS,
    generators: OURS,
    prints: lambda path: OURS(path) and not path.startswith("orchestra/cli/"),
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
    tops = ("orchestra", "pipelines", "tests")
    paths = [path for top in tops for path in sorted((ROOT / top).rglob("*.py"))]

    @cache
    def classes() -> Mapping[str, ast.ClassDef]:
        ours = (source for source in found if source.path.startswith("orchestra/"))
        return {n.name: n for each in ours for n in each.nodes if isinstance(n, ast.ClassDef)}

    texts = {path.relative_to(ROOT).as_posix(): path.read_text("utf-8") for path in paths}
    found = [Source(path, text, classes) for path, text in texts.items()]
    return found
