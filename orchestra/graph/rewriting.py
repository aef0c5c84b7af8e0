"""Rewriting: Python that needs values now, as what takes them later.

A loop becomes an `each`, and what is unpacked is named part by part. Each
gives None where the user's code has another shape.
"""

from __future__ import annotations

import ast
from typing import TypeAlias

from orchestra.annotations.facts import MISSING
from orchestra.graph.lifting import LONG, Advice, lift, makes_graph, wired
from orchestra.graph.site import Site
from orchestra.graph.steps import Step

Comprehension: TypeAlias = ast.ListComp | ast.SetComp | ast.GeneratorExp


def each_of_loop(site: Site, node: ast.For | Comprehension) -> Advice | None:
    """An each whose body is what the loop does with its item."""
    if isinstance(node, ast.For):
        items, step = _items(site, node.iter)
        return Advice(_each_of_for(site, node, items), step)
    loop = node.generators[0]
    items, step = _items(site, loop.iter)
    if len(node.generators) > 1 or loop.ifs or not isinstance(loop.target, ast.Name):
        return None
    each = f"each({items}, {_body(site, loop.target.id, node.elt)}, at_once=8)"
    # A generator's own parentheses may be those of a call.
    each = f"({each})" if isinstance(node, ast.GeneratorExp) else each
    return Advice(site.replaced(node, each), step)


def loop_in_a_step(site: Site, node: ast.While) -> Advice | None:
    """A step that has the whole loop in it, and gives what the loop is about."""
    lifted = lift(site, node.test, decides=True)
    if lifted is None:
        return None
    value = lifted.parameters[0]
    takes = ", ".join(map(str, lifted.parameters))
    given = ", ".join(each.argument for each in lifted.parameters)
    arrow = f" -> {value.annotation}" if value.annotation else ""
    body = f"    while {site.text(node.test)}:\n        {LONG}\n    return {value.name}"
    return Advice(
        f"{value.name} = some_step({given})  # the loop over values is the step's own",
        f"@step\ndef some_step({takes}){arrow}:\n{body}",
    )


def _items(site: Site, iterated: ast.expr) -> tuple[str, str]:
    if wired(site, iterated) is not None:  # a stream stays one
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
                        func=ast.Attribute(value=ast.Name(id=results), attr="append"),
                        args=[value],
                    )
                )
            ],
        ):
            return f"{results} = each({items}, {_body(site, target, value)}, at_once=8)"
        case ast.For(target=ast.Name(id=target)):
            return f"each({items}, lambda {target}: {LONG}, at_once=8)"
    return f"each({items}, lambda item: {LONG}, at_once=8)"


def _body(site: Site, target: str, value: ast.expr) -> str:
    match value:
        case ast.Call(func=function, args=[ast.Name(id=name)], keywords=[]) if (
            name == target and makes_graph(site, value)
        ):
            return site.text(function)
    return f"lambda {target}: {site.text(value)}"


def parts_of_unpacking(site: Site, node: ast.Assign) -> Advice | None:
    """`a, b = pair` with the parts named one by one."""
    (target, *others), source = node.targets, wired(site, node.value)
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
    """The parameters that a call of a step, or of a pipeline, has to give."""
    if isinstance(meaning, Step):
        return list(meaning.required)
    inputs = getattr(meaning, "inputs", {})
    return [name for name, node in inputs.items() if node.default is MISSING]
