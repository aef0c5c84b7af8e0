"""Lifting: an expression that needs values is moved into a step, where wires have values.

`total = price * 2 + tax` becomes `total = calculate(price, tax)`, and the expression becomes
the body of the step `calculate`. This works for nearly every expression.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from types import ModuleType
from typing import Any, cast

import attrs

from orchestra.annotations.facts import MISSING, chunk_of, item, member, spell
from orchestra.graph.nodes import collected, type_of
from orchestra.graph.parts import is_wired
from orchestra.graph.source.decorated import Decorated
from orchestra.graph.source.site import UNKNOWN, Site, is_library
from orchestra.graph.steps import Kind, Step
from orchestra.graph.wires import Wire

_NEVER_LIFTED = (ast.NamedExpr, ast.Await, ast.Yield, ast.YieldFrom)
_ARITHMETIC = (ast.BinOp, ast.Add, ast.Sub, ast.Mult, ast.Name, ast.Load)
_CLOSED = {"int", "float", "str"}
"""With operands of one of these types, `_ARITHMETIC` gives a result of the same type."""


ELLIPSIS = "..."
"""Stands for code that is too long to show."""


@attrs.frozen
class Advice:
    """The code to write instead, and the definition of the step it calls, if it needs one."""

    right: str
    step: str = ""


@attrs.frozen
class Parameter:
    """A value that a lifted expression reads: a parameter of the new step."""

    name: str
    argument: str
    """The argument that the pipeline passes for it."""
    annotation: str
    """Empty where the type is unknown."""

    def __str__(self) -> str:
        return f"{self.name}: {self.annotation}" if self.annotation else self.name

    @property
    def arrow(self) -> str:
        """The return annotation of a function that returns this value: ` -> int`."""
        return f" -> {self.annotation}" if self.annotation else ""


@attrs.frozen
class Lifted:
    """An expression moved into a step: the call in the pipeline, and the step's definition."""

    call: str
    step: str
    parameters: tuple[Parameter, ...]
    body: str
    """The expression as the step's body has it."""

    @property
    def takes(self) -> str:
        """The parameters, as the step's `def` lists them."""
        return ", ".join(map(str, self.parameters))

    @property
    def given(self) -> str:
        """The arguments, as the call lists them."""
        return ", ".join(each.argument for each in self.parameters)


def lift(
    site: Site, expression: ast.expr, *, decides: bool = False, calls: bool = False
) -> Lifted | None:
    """The expression as a step; None where it cannot be lifted, or reads no value of the pipeline.

    With `decides` the step returns a bool. With `calls` the new step itself calls the steps in the
    expression, each time it runs; otherwise it is given their results.
    """
    if any(isinstance(node, _NEVER_LIFTED) for node in ast.walk(expression)):
        return None
    lifter = _Lifter(site, expression, calls=calls)
    body = lifter.visit(copy.deepcopy(expression))
    parameters = list(lifter.parameters.values())
    if lifter.impossible or not parameters or (isinstance(body, ast.Name) and not decides):
        return None
    written = inner = ast.unparse(body) if lifter.replaces else site.text(expression)
    result = _result(site, expression, parameters)
    if decides and result != "bool":
        written, result = f"bool({written})", "bool"
    taken = {parameter.name for parameter in parameters}
    name = _free(_name(expression, decides=decides), taken, site)
    arrow = f" -> {result}" if result else ""
    takes = ", ".join(map(str, parameters))
    return Lifted(
        f"{name}({', '.join(parameter.argument for parameter in parameters)})",
        f"@step\ndef {name}({takes}){arrow}:\n    return {written}",
        tuple(parameters),
        inner,
    )


def in_a_step(site: Site, expression: ast.expr) -> Advice | None:
    """The statement around an expression, with a call of a new step in the expression's place."""
    lifted = lift(site, expression)
    if lifted is None:
        return None
    return Advice(site.replaced(expression, lifted.call), lifted.step)


def makes_graph(site: Site, call: ast.Call) -> bool:
    """Whether a call may make nodes: it calls a step, a pipeline, or a user's function."""
    meaning = site.meaning(call.func)
    return not (meaning is UNKNOWN or isinstance(meaning, Wire | type) or is_library(meaning))


COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def makes_nodes_per_item(site: Site, node: ast.AST) -> bool:
    """Whether a comprehension makes nodes for each of its items."""
    if not isinstance(node, COMPREHENSIONS):
        return False
    once = set(ast.walk(node.generators[0].iter))
    calls = (each for each in ast.walk(node) if isinstance(each, ast.Call) and each not in once)
    return any(makes_graph(site, call) for call in calls)


def wire_text(site: Site, expression: ast.expr) -> tuple[str, object] | None:
    """The text and annotation of an expression that is a wire, or a part of one; else None.

    A stream is wrapped in `collect(...)`.
    """
    kind = _wire_kind(site, expression)
    if kind is None:
        return None
    if chunk_of(kind) is None:
        return site.text(expression), kind
    return f"collect({site.text(expression)})", collected(kind)


def _wire_kind(site: Site, expression: ast.expr) -> object | None:
    match expression:
        case ast.Name():
            value = site.meaning(expression)
            return type_of(value) if isinstance(value, Wire) else None
        case ast.Attribute(value=holder, attr=name):
            kind = _wire_kind(site, holder)
            return None if kind is None else member(kind, name)
        case ast.Subscript(value=holder, slice=ast.Constant(value=key)):
            kind = _wire_kind(site, holder)
            return None if kind is None else item(kind, key)
        case ast.Call() if makes_graph(site, expression):
            of_class = [each.value for each in expression.keywords if each.arg == "returns"]
            if of_class:  # as in `generate(..., returns=Invoice)`
                kind = site.meaning(of_class[0])
                return kind if isinstance(kind, type) else Any
            return getattr(site.meaning(expression.func), "returns", Any)
    return None


class _Lifter(ast.NodeTransformer):
    """Collects what an expression reads, and replaces each call that makes a node by a name."""

    def __init__(self, site: Site, expression: ast.expr, *, calls: bool) -> None:
        self.site = site
        self.calls = calls
        self.parameters: dict[str, Parameter] = {}
        self.replaces = False
        self.impossible = False
        """Whether the expression cannot be lifted, as when a call in it reads a name it binds."""
        self._bound = set(_bound_in(site, expression))

    def visit_Name(self, node: ast.Name) -> ast.Name:
        """A wire, or another local of the pipeline's function, becomes a parameter."""
        value = self.site.names.get(node.id, UNKNOWN)
        uncalled = isinstance(value, Decorated)  # the step itself, and not the result of a call
        self.impossible |= uncalled and node.id not in self._bound
        tool = callable(value) or isinstance(value, ModuleType)
        known = is_wired(value) or (node.id in self.site.locals and not tool)
        if known and node.id not in self._bound:
            self._add(node.id, node.id, _kind(value))
        return node

    def visit_Call(self, node: ast.Call) -> ast.expr:
        """The result of a step becomes a parameter."""
        if not makes_graph(self.site, node):
            return cast("ast.expr", self.generic_visit(node))
        self.replaces = True
        if self.calls:
            return self._called(node)
        self.impossible |= not self._bound.isdisjoint(free_in(node))
        name = ast.unparse(node.func).rpartition(".")[2]
        kind = _wire_kind(self.site, node)
        return ast.Name(self._add(name, self.site.text(node), kind, anew=True), ast.Load())

    def _called(self, node: ast.Call) -> ast.expr:
        """The call of a step, as the body of another step writes it: `step.call(...)`."""
        step = self.site.meaning(node.func)
        if not isinstance(step, Step) or step.kind is Kind.STREAM:
            self.impossible = True
            return node
        node.args = [self.visit(each) for each in node.args]
        node.keywords = [self.visit(each) for each in node.keywords]
        node.func = ast.Attribute(node.func, "call", ast.Load())
        return ast.Await(node) if step.kind is Kind.ASYNC else node

    def visit_ListComp(self, node: ast.ListComp) -> ast.expr:
        """A comprehension that makes nodes becomes a parameter: a list of wires."""
        return self._comprehended(node, node)

    def visit_GeneratorExp(self, node: ast.GeneratorExp) -> ast.expr:
        """As `visit_ListComp`; the argument is a list."""
        return self._comprehended(node, ast.ListComp(node.elt, node.generators))

    def _comprehended(self, node: ast.expr, as_list: ast.ListComp) -> ast.expr:
        if not makes_nodes_per_item(self.site, node):
            return cast("ast.expr", self.generic_visit(node))
        self.replaces = True
        argument = self.site.text(as_list)
        return ast.Name(self._add("parts", argument, MISSING, anew=True), ast.Load())

    def _add(self, name: str, argument: str, kind: object, *, anew: bool = False) -> str:
        """Add a parameter and return its name; with `anew`, a second one for an equal argument."""
        if chunk_of(kind) is not None:
            argument, kind = f"collect({argument})", collected(kind)
        key = f"{argument} {len(self.parameters)}" if anew else argument
        taken = {each.name for other, each in self.parameters.items() if other != key}
        while name in taken:
            name += "_"
        known = spell(kind) if kind not in (MISSING, Any, object) else ""
        self.parameters[key] = Parameter(name, argument, known)
        return name


def free_in(node: ast.AST) -> set[str]:
    """The names that a piece of code reads and does not bind itself."""
    names = [each for each in ast.walk(node) if isinstance(each, ast.Name)]
    bound = {each.arg for each in ast.walk(node) if isinstance(each, ast.arg)}
    bound |= {each.id for each in names if not isinstance(each.ctx, ast.Load)}
    return {each.id for each in names} - bound


def _bound_in(site: Site, node: ast.AST) -> Iterator[str]:
    """The names that an expression itself binds, in comprehensions and lambdas.

    Names bound inside a call that makes a node are left out: they stay in that call.
    """
    if isinstance(node, ast.Call) and makes_graph(site, node):
        return
    if isinstance(node, ast.ListComp | ast.GeneratorExp) and makes_nodes_per_item(site, node):
        return
    if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
        yield node.id
    elif isinstance(node, ast.arg):
        yield node.arg
    for child in ast.iter_child_nodes(node):
        yield from _bound_in(site, child)


def _kind(value: object) -> object:
    """The annotation that the value of a name will have at run time."""
    if isinstance(value, Wire):
        return type_of(value)
    if isinstance(value, list):
        kinds = {_kind(each) for each in value}
        return list[kinds.pop()] if len(kinds) == 1 else list  # type: ignore[misc]
    return type(value)


def _result(site: Site, expression: ast.expr, parameters: list[Parameter]) -> str:
    """The type of an expression where it is obvious, else empty."""
    match expression:
        case ast.Compare() | ast.UnaryOp(op=ast.Not()):
            return "bool"
        case ast.JoinedStr():
            return "str"
        case ast.Call(func=ast.Name(id="len")):
            return "int"
        case ast.Call(func=ast.Name(id="isinstance" | "hasattr" | "callable")):
            return "bool"
        case ast.Call(func=ast.Name()) if isinstance(site.meaning(expression.func), type):
            return ast.unparse(expression.func)
    kinds = {parameter.annotation for parameter in parameters}
    for node in ast.walk(expression):
        if isinstance(node, ast.Constant):
            kinds.add(type(node.value).__name__)
        elif not isinstance(node, _ARITHMETIC):
            return ""
    return kinds.pop() if len(kinds) == 1 and kinds <= _CLOSED else ""


def _name(expression: ast.expr, *, decides: bool) -> str:
    """A name for the step that computes the expression."""
    match expression:
        case ast.Call(func=ast.Name(id="isinstance" | "hasattr" | "callable")):
            return "decide"
        case ast.Call(func=ast.Name(id=name)):
            return f"{name}_of"
        case ast.Call(func=ast.Attribute(attr=name)):
            return name
        case ast.Compare() | ast.UnaryOp(op=ast.Not()):
            return "decide"
        case ast.BoolOp():
            return "decide" if decides else "either"
        case ast.JoinedStr():
            return "text"
        case ast.Subscript():
            return "look_up"
        case ast.BinOp() | ast.UnaryOp():
            return "calculate"
    return "decide" if decides else "make"


def _free(name: str, taken: set[str], site: Site) -> str:
    while name in taken or name in site.names:
        name += "_it"
    return name
