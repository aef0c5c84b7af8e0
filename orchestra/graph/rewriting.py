"""Rewriting: Python that needs values now, as what takes them later.

A loop becomes an `each`, an f-string a `prompt`, and what is unpacked is named part by
part. Each gives None where the user's code has another shape.
"""

from __future__ import annotations

import ast
import json
from typing import TypeAlias

from orchestra.annotations.facts import MISSING
from orchestra.graph.lifting import LONG, Advice, is_wired, lift, makes_graph, wired
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


def prompt_of_text(site: Site, node: ast.expr) -> Advice | None:
    """A prompt with a part for each place of an f-string, or of a `"...".format(...)`."""
    prompt = _Prompt(site)
    match node:
        case ast.JoinedStr(values=values):
            template = "".join(prompt.template(value) for value in values)
        case ast.Call(
            func=ast.Attribute(value=ast.Constant(value=str(template)), attr="format"), args=[]
        ):
            for keyword in node.keywords:
                prompt.add(keyword.arg or "", keyword.value)
        case _:
            return None
    if prompt.calculates:
        return None
    parts = [f"{name}={argument}" for name, argument in prompt.parts.items()]
    given = ", ".join([json.dumps(template, ensure_ascii=False), *parts])
    return Advice(site.replaced(node, f"prompt({given})"))


class _Prompt:
    """The parts of a prompt, as the template comes to them."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.parts: dict[str, str] = {}
        self.calculates = False
        """Whether a part is more than a wire, or what is known already."""

    def template(self, value: ast.expr) -> str:
        """A piece of the template."""
        match value:
            case ast.FormattedValue(value=inner, conversion=conversion, format_spec=spec):
                name = self.add(_last_name(inner), inner)
                how = "" if conversion < 0 else f"!{chr(conversion)}"
                return f"{{{name}{how}{self._width(spec)}}}"
        assert isinstance(value, ast.Constant), "an f-string is made of these two"
        return str(value.value).replace("{", "{{").replace("}", "}}")

    def _width(self, spec: ast.expr | None) -> str:
        match spec:
            case None:
                return ""
            case ast.JoinedStr(values=[ast.Constant(value=str(width))]):
                return f":{width}"
        self.calculates = True
        return ""

    def add(self, name: str, expression: ast.expr) -> str:
        """The name of a part."""
        wire = wired(self.site, expression)
        if wire is None:
            self.calculates |= any(
                is_wired(self.site.meaning(each)) or isinstance(each, ast.Call)
                for each in ast.walk(expression)
            )
        argument = wire[0] if wire else self.site.text(expression)
        while self.parts.get(name, argument) != argument:
            name += "_"
        self.parts[name] = argument
        return name


def _last_name(expression: ast.expr) -> str:
    match expression:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case ast.Call(func=inner) | ast.Subscript(value=inner):
            return _last_name(inner)
    return "part"
