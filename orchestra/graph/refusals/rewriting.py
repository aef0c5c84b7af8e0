"""Advice for loops, unpacking and the like: code that works on wires instead of values.

A loop becomes an `each`; unpacking becomes one index per part. Each function returns None
where the user's code has another shape.
"""

from __future__ import annotations

import ast
from typing import TypeAlias

from orchestra.annotations.facts import MISSING, spell
from orchestra.graph.parts import is_wired
from orchestra.graph.refusals.lifting import (
    ELLIPSIS,
    Advice,
    lift,
    makes_graph,
    wire_text,
)
from orchestra.graph.source.decorated import Decorated
from orchestra.graph.source.site import Site, is_library
from orchestra.graph.steps import Step

Comprehension: TypeAlias = ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp


def each_of_loop(
    site: Site, node: ast.For | Comprehension, holder: ast.AST | None = None
) -> Advice | None:
    """An `each` with the loop's body; `holder` is the syntax around the loop."""
    if isinstance(node, ast.For):
        items, step = _items(site, node.iter)
        return Advice(_each_of_for(site, node, items), step)
    loop = node.generators[0]
    if len(node.generators) > 1 or loop.ifs or not isinstance(loop.target, ast.Name):
        return None
    if isinstance(node, ast.DictComp):
        return _dict_of_each(site, node, loop.target.id)
    items, step = _items(site, loop.iter)
    each = f"each({items}, {_body(site, loop.target.id, node.elt)}, at_once=8)"
    if isinstance(node, ast.GeneratorExp):
        match holder:
            case ast.Call(func=ast.Name(id="list"), args=[only], keywords=[]) if only is node:
                return Advice(site.replaced(holder, each), step)
    return Advice(site.replaced(node, each), step)


def each_of_map(site: Site, node: ast.expr) -> Advice | None:
    """`map(step, items)` or `list(map(step, items))` as an `each`."""
    match node:
        case ast.Call(func=ast.Name(id="list"), args=[inner], keywords=[]):
            mapped = inner
        case _:
            mapped = node
    match mapped:
        case ast.Call(func=ast.Name(id="map"), args=[body, iterated], keywords=[]) if _makes_nodes(
            site, body
        ):
            items, step = _items(site, iterated)
            each = f"each({items}, {site.text(body)}, at_once=8)"
            return Advice(site.replaced(node, each), step)
    return None


def side_by_side(site: Site, node: ast.expr) -> Advice | None:
    """`asyncio.gather(...)` as a list of its arguments: steps run at the same time anyway."""
    if not isinstance(node, ast.Call) or node.keywords:
        return None
    gather = site.meaning(node.func)
    if getattr(gather, "__name__", "") != "gather" or not is_library(gather):
        return None
    parts = ", ".join(map(site.text, node.args))
    return Advice(
        f"{site.replaced(node, f'[{parts}]')}  # steps run at once unless one reads another"
    )


def _makes_nodes(site: Site, body: ast.expr) -> bool:
    """Whether the function of a `map` is a step, a pipeline, or a lambda that calls one."""
    if isinstance(body, ast.Lambda):
        calls = (each for each in ast.walk(body) if isinstance(each, ast.Call))
        return any(makes_graph(site, call) for call in calls)
    return isinstance(site.meaning(body), Decorated)


def _dict_of_each(site: Site, node: ast.DictComp, target: str) -> Advice | None:
    """A dict made by a step, from the items and from the results of an `each`."""
    iterated = node.generators[0].iter
    wire = wire_text(site, iterated)
    read = [each for each in ast.walk(node.key) if isinstance(each, ast.Name | ast.Call)]
    needs_wires = any(
        is_wired(site.meaning(each)) or (isinstance(each, ast.Call) and makes_graph(site, each))
        for each in read
        if not (isinstance(each, ast.Name) and each.id == target)
    )
    if wire is None or needs_wires or wire[0] != site.text(iterated):
        return None
    items = wire[0]
    made = "value" if target != "value" else "made"
    name = "keyed" if "keyed" not in site.names else "keyed_it"
    each = f"each({items}, {_body(site, target, node.value)}, at_once=8)"
    pairs = f"{target}, {made} in zip(items, values, strict=True)"
    return Advice(
        site.replaced(node, f"{name}({items}, {each})"),
        f"@step\ndef {name}(items: {spell(wire[1])}, values: list) -> dict:\n"
        f"    return {{{site.text(node.key)}: {made} for {pairs}}}",
    )


def loop_in_a_step(site: Site, node: ast.While) -> Advice | None:
    """A step that contains the whole loop and returns the first value that its test reads."""
    return _in_one_step(site, node.test, "    while {test}:\n        {rest}\n")


def left_in_a_step(site: Site, node: ast.If) -> Advice | None:
    """The same for an `if` that leaves its loop; None if its test reads the loop's variable."""
    loops = [each for each in site.path if isinstance(each, ast.While | ast.For)]
    if not loops or not isinstance(node.body[-1], ast.Break | ast.Return):
        return None
    loop = loops[-1]
    if isinstance(loop, ast.While):
        head = f"while {site.text(loop.test)}"
    elif _names(loop.target) & _names(node.test):
        return None
    else:
        head = f"for {site.text(loop.target)} in {site.text(loop.iter)}"
    body = "        {rest}\n        if {test}:\n            break\n"
    return _in_one_step(site, node.test, f"    {head}:\n{body}")


def _names(node: ast.expr) -> set[str]:
    return {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}


def _in_one_step(site: Site, test: ast.expr, loop: str) -> Advice | None:
    """A step with this loop around its test."""
    lifted = lift(site, test, decides=True, calls=True)
    if lifted is None:
        return None
    value = lifted.parameters[0]
    body = loop.replace("{test}", lifted.body).replace("{rest}", ELLIPSIS)
    head = "async def" if "await " in lifted.body else "def"
    return Advice(
        f"{value.name} = some_step({lifted.given})  # the loop runs inside the step",
        f"@step\n{head} some_step({lifted.takes}){value.arrow}:\n{body}    return {value.name}",
    )


def _items(site: Site, iterated: ast.expr) -> tuple[str, str]:
    if wire_text(site, iterated) is not None:  # a stream stays a stream
        return site.text(iterated), ""
    lifted = lift(site, iterated)
    return (lifted.call, lifted.step) if lifted else (site.text(iterated), "")


def _each_of_for(site: Site, node: ast.For, items: str) -> str:
    match node:
        case ast.For(
            target=ast.Name(id=target),
            body=[
                ast.Expr(
                    ast.Call(
                        func=ast.Attribute(value=ast.Name(id=results), attr="append"), args=[value]
                    )
                )
            ],
        ):
            return f"{results} = each({items}, {_body(site, target, value)}, at_once=8)"
        case ast.For(target=ast.Name(id=target)):
            return f"each({items}, lambda {target}: {ELLIPSIS}, at_once=8)"
    return f"each({items}, lambda item: {ELLIPSIS}, at_once=8)"


def _body(site: Site, target: str, value: ast.expr) -> str:
    match value:
        case ast.Call(func=function, args=[ast.Name(id=name)], keywords=[]) if (
            name == target and makes_graph(site, value)
        ):
            return site.text(function)
    return f"lambda {target}: {site.text(value)}"


def parts_of_unpacking(site: Site, node: ast.Assign) -> Advice | None:
    """`a, b = pair` with the parts named one by one."""
    (target, *others), source = node.targets, wire_text(site, node.value)
    if others or not isinstance(target, ast.Tuple | ast.List) or source is None:
        return None
    name, before = site.text(node.value), ""
    if isinstance(node.value, ast.Call):
        name, before = "parts", f"parts = {source[0]}\n"
    last = len(target.elts) - 1
    parts = []
    for index, part in enumerate(target.elts):
        if isinstance(part, ast.Starred) and index != last:
            return None
        parts.append(f"{name}[{index}:]" if isinstance(part, ast.Starred) else f"{name}[{index}]")
    names = ", ".join(ast.unparse(each).removeprefix("*") for each in target.elts)
    return Advice(f"{before}{names} = {', '.join(parts)}")


def parts_of_spreading(site: Site, call: ast.Call) -> Advice | None:
    """`f(*pair)` and `f(**options)` with the parts named one by one."""
    left = _required(site.meaning(call.func))
    given = []
    for argument in call.args:
        if isinstance(argument, ast.Starred):
            named = {keyword.arg for keyword in call.keywords}
            spread = [name for name in left if name not in named]
            given += [f"{site.text(argument.value)}[{n}]" for n in range(len(spread))]
            left = [name for name in left if name in named]
        else:
            given.append(site.text(argument))
            left = left[1:]
    for keyword in call.keywords:
        if keyword.arg is None:
            given += [f'{name}={site.text(keyword.value)}["{name}"]' for name in left]
        else:
            given.append(f"{keyword.arg}={site.text(keyword.value)}")
            left = [name for name in left if name != keyword.arg]
    if not _required(site.meaning(call.func)):
        return None
    return Advice(site.replaced(call, f"{site.text(call.func)}({', '.join(given)})"))


def _required(meaning: object) -> list[str]:
    """The parameters of a step or pipeline that every call has to pass."""
    if isinstance(meaning, Step):
        return list(meaning.required)
    inputs = getattr(meaning, "inputs", {})
    return [name for name, node in inputs.items() if node.default is MISSING]


def policy_before_call(site: Site, node: ast.expr) -> Advice | None:
    """`step(...).using(policy)` as `step.using(policy)(...)`."""
    match node:
        case ast.Call(func=ast.Attribute(value=ast.Call(func=function) as call, attr="using")):
            if isinstance(site.meaning(function), Step):
                name, policy = (
                    site.text(function),
                    site.text(node).removeprefix(site.text(node.func)),
                )
                given = site.text(call).removeprefix(name)
                return Advice(site.replaced(node, f"{name}.using{policy}{given}"))
    return None
