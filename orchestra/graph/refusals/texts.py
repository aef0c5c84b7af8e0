"""Advice for texts that are built from wires: a `prompt` with one part for each wire.

Handles f-strings, `"..." + wire`, `"... %s" % wire` and `"... {}".format(wire)`. Where such a text
is itself the template of a `prompt`, its parts become parts of that one: `prompt(f"{q} {{docs}}",
docs=docs)` becomes `prompt("{q} {docs}", docs=docs, q=q)`.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Sequence
from string import Formatter

from orchestra.annotations.facts import Fit, compare
from orchestra.graph.parts import is_wired
from orchestra.graph.refusals.lifting import Advice, makes_graph, wire_text
from orchestra.graph.source.site import Site
from orchestra.graph.source.templates import FilledIn, format_suffix, split_field
from orchestra.graph.steps import Step


def prompt_of_text(site: Site, node: ast.expr) -> Advice | None:
    """The statement around a text, with a `prompt` in its place; None for other expressions."""
    around = _prompt_around(site, node)
    prompt = _Prompt(site, around)
    match node:
        case ast.JoinedStr(values=values):
            template: str | None = "".join(prompt.template(value) for value in values)
        case ast.Call(func=ast.Attribute(value=ast.Constant(value=str(text)), attr="format")):
            template = prompt.formatted(text, node)
        case ast.BinOp(left=ast.Constant(value=str(text)), op=ast.Mod(), right=right):
            template = prompt.filled(text, right.elts if isinstance(right, ast.Tuple) else [right])
        case ast.BinOp(op=ast.Add()):
            template = prompt.joined(node) if _has_text(site, node) else None
        case _:
            return None
    if prompt.calculates or template is None:
        return None
    parts = [f"{name}={argument}" for name, argument in prompt.parts.items()]
    given = ", ".join([json.dumps(template, ensure_ascii=False), *parts])
    name = site.text(around.func) if around else "prompt"
    return Advice(site.replaced(around or node, f"{name}({given})"))


def _prompt_around(site: Site, node: ast.expr) -> ast.Call | None:
    """The call whose template is this text, such as a call of `prompt`."""
    for each in site.path:
        if isinstance(each, ast.Call) and each.args == [node]:
            step = site.meaning(each.func)
            if isinstance(step, Step) and all(keyword.arg for keyword in each.keywords):
                first = next(iter(step.expects.values()), None)
                return each if FilledIn() in getattr(first, "__metadata__", ()) else None
    return None


class _Prompt:
    """Collects the parts of a prompt while the template is built."""

    def __init__(self, site: Site, around: ast.Call | None) -> None:
        self.site = site
        self.around = around
        there = around.keywords if around else ()
        self.parts = {str(keyword.arg): site.text(keyword.value) for keyword in there}
        self.calculates = False
        """Whether a part computes something: it is neither a wire nor a known value."""

    def template(self, value: ast.expr) -> str:
        """The template of one piece of an f-string."""
        match value:
            case ast.FormattedValue(value=inner, conversion=conversion, format_spec=spec):
                name = self.add(_last_name(inner), inner)
                written = "" if conversion < 0 else f"!{chr(conversion)}"
                return f"{{{name}{written}{self._width(spec)}}}"
        assert isinstance(value, ast.Constant), "an f-string has only these two kinds of parts"
        return self._literally(str(value.value))

    def formatted(self, text: str, call: ast.Call) -> str | None:
        """The template of `text.format(...)`; numbered places get names."""
        given = {str(number): each for number, each in enumerate(call.args)}
        given |= {keyword.arg or "*": keyword.value for keyword in call.keywords}
        starred = "*" in given or any(isinstance(each, ast.Starred) for each in call.args)
        pieces = None if starred else _pieces(text)
        if pieces is None:
            return None
        numbers = iter(map(str, range(len(call.args))))
        template = ""
        for before, field, form, conversion in pieces:
            template += self._literally(before)
            if field is None:
                continue
            head, rest = split_field(field)
            place = head or next(numbers, "")
            if place not in given or "{" in (form or ""):
                return None
            value = given[place]
            name = self.add(_last_name(value) if place.isdecimal() else place, value)
            template += f"{{{name}{rest}{format_suffix(form, conversion)}}}"
        return template

    def filled(self, text: str, values: Sequence[ast.expr]) -> str | None:
        """The template of `text % values`; None unless every place is `%s`."""
        left = iter(values)
        first, *rest = re.split(r"%(.)", text, flags=re.DOTALL)
        template = self._literally(first)
        for mark, after in zip(rest[::2], rest[1::2], strict=True):
            value = next(left, None) if mark == "s" else None
            if value is None and mark != "%":
                return None
            place = "%" if value is None else f"{{{self.add(_last_name(value), value)}}}"
            template += place + self._literally(after)
        return template if next(left, None) is None else None

    def joined(self, node: ast.expr) -> str | None:
        """The template of `"..." + wire + ...`; None unless all wires are texts."""
        match node:
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                first, second = self.joined(left), self.joined(right)
                return None if first is None or second is None else first + second
            case ast.Constant(value=str(text)):
                return self._literally(text)
            case ast.JoinedStr(values=values):
                return "".join(map(self.template, values))
        wire = wire_text(self.site, node)
        if wire is None or compare(wire[1], str) is Fit.CANNOT:
            return None
        return f"{{{self.add(_last_name(node), node)}}}"

    def _width(self, spec: ast.expr | None) -> str:
        match spec:
            case None:
                return ""
            case ast.JoinedStr(values=[ast.Constant(value=str(width))]):
                return f":{width}"
        self.calculates = True
        return ""

    def _literally(self, text: str) -> str:
        """The text with its braces escaped for a template, unless it already is one."""
        return text if self.around else text.replace("{", "{{").replace("}", "}}")

    def add(self, name: str, expression: ast.expr) -> str:
        """Add a part and return its name."""
        wire = wire_text(self.site, expression)
        if wire is None:
            self.calculates |= any(
                is_wired(self.site.meaning(each)) or isinstance(each, ast.Call)
                for each in ast.walk(expression)
            )
        argument = wire[0] if wire else self.site.text(expression)
        calls = (each for each in ast.walk(expression) if isinstance(each, ast.Call))
        anew = any(makes_graph(self.site, call) for call in calls)  # their results may differ
        while name in self.parts and (anew or self.parts[name] != argument):
            name += "_"
        self.parts[name] = argument
        return name


def _has_text(site: Site, node: ast.expr) -> bool:
    """Whether a piece of a sum is certainly a text, so that the sum is one."""
    match node:
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _has_text(site, left) or _has_text(site, right)
        case ast.JoinedStr() | ast.Constant(value=str()):
            return True
    wire = wire_text(site, node)
    return wire is not None and compare(wire[1], str) is Fit.MUST


def _last_name(expression: ast.expr) -> str:
    match expression:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case ast.Call(func=inner) | ast.Subscript(value=inner):
            return _last_name(inner)
    return "part"


def _pieces(text: str) -> list[tuple[str, str | None, str | None, str | None]] | None:
    """The pieces of a format string; None if it is invalid, which Python reports itself."""
    try:
        return list(Formatter().parse(text))
    except ValueError:
        return None
