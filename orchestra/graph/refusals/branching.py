"""Advice for code that branches on a wire: `if`, `match` and dicts become a `route`.

Each function returns None where the user's code cannot be written as a route.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Sequence
from itertools import chain

import attrs

from orchestra.graph.parts import is_wired
from orchestra.graph.refusals.lifting import ELLIPSIS, Advice, in_a_step, lift, wire_text
from orchestra.graph.source.site import Site


@attrs.frozen
class _Condition:
    """The condition `on == key`; with `negated`, `on != key`."""

    on: str
    key: str
    negated: bool
    step: str


def route_of_condition(site: Site, node: ast.If | ast.IfExp) -> Advice | None:
    """A route with one arm for each branch of an `if`."""
    test = _test(site, node.test)
    if test is None:
        return None
    if isinstance(node, ast.IfExp):
        if _calculates(site, node.body) or _calculates(site, node.orelse):
            return in_a_step(site, node)
        arms = _arms(test, {test.key: site.text(node.body)}, site.text(node.orelse))
        return Advice(site.replaced(node, f"route({test.on}, {arms})"), test.step)
    bodies, rest = _chain(site, node, test)
    if _raises(rest) and test.key != "True" and not test.negated:
        prefix, texts = _results(site, [*bodies.values()])
        return Advice(f"{prefix}route({test.on}, {_dict(bodies, texts)}){_OR_FAILS}", test.step)
    prefix, texts = _results(site, [*bodies.values(), rest or _otherwise(site, node)])
    arms = _arms(test, dict(zip(bodies, texts, strict=False)), texts[-1])
    return Advice(f"{prefix}route({test.on}, {arms})", test.step)


_OR_FAILS = "  # any other label fails the run, with a RouteError"


def _raises(body: Sequence[ast.stmt]) -> bool:
    """Whether the body is a single `raise`."""
    return len(body) == 1 and isinstance(body[0], ast.Raise)


def _dict(keys: Iterable[str], values: Iterable[str]) -> str:
    return f"{{{', '.join(f'{key}: {value}' for key, value in zip(keys, values, strict=True))}}}"


def _calculates(site: Site, arm: ast.expr) -> bool:
    """Whether a branch does more with a wire than pass it on, so it would be refused as well."""
    wires = any(is_wired(site.meaning(node)) for node in ast.walk(arm))
    return wires and wire_text(site, arm) is None


def _test(site: Site, test: ast.expr) -> _Condition | None:
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        inner = _test(site, test.operand)
        return inner and attrs.evolve(inner, negated=not inner.negated)
    match test:
        case ast.Compare(left=left, ops=[ast.Eq() | ast.NotEq() as op], comparators=[right]):
            on, key = (left, right) if isinstance(right, ast.Constant) else (right, left)
            wire = wire_text(site, on)
            if wire is not None and isinstance(key, ast.Constant):
                return _Condition(wire[0], site.text(key), isinstance(op, ast.NotEq), "")
    wire = wire_text(site, test)
    if wire is not None and wire[1] is bool:
        return _Condition(wire[0], "True", negated=False, step="")
    lifted = lift(site, test, decides=True)
    if lifted is None:
        return None
    return _Condition(lifted.call, "True", negated=False, step=lifted.step)


def _chain(
    site: Site, node: ast.If, test: _Condition
) -> tuple[dict[str, Sequence[ast.stmt]], Sequence[ast.stmt]]:
    """The bodies of an `if` and its `elif`s that test the same value, by key; and the `else`."""
    bodies: dict[str, Sequence[ast.stmt]] = {test.key: node.body}
    rest: Sequence[ast.stmt] = node.orelse
    while not test.negated and len(rest) == 1 and isinstance(rest[0], ast.If):
        following = _test(site, rest[0].test)
        if following is None or following.on != test.on or following.negated or test.step:
            break
        bodies.setdefault(following.key, rest[0].body)
        rest = rest[0].orelse
    return bodies, rest


def _otherwise(site: Site, node: ast.If | ast.Match) -> Sequence[ast.stmt]:
    """The statements that run when no branch of an `if` or `match` is taken."""
    match node.body if isinstance(node, ast.If) else node.cases[0].body:
        case [ast.Assign(targets=[ast.Name(id=name)])] if name in site.names:
            return [ast.Assign([ast.Name(name, ast.Store())], ast.Name(name, ast.Load()))]
    holder = next(each for each in site.path if node in getattr(each, "body", ()))
    statements: Sequence[ast.stmt] = getattr(holder, "body", ())
    following = statements[statements.index(node) + 1 :]
    return following if following and isinstance(following[0], ast.Return) else []


def _results(site: Site, bodies: Sequence[Sequence[ast.stmt]]) -> tuple[str, list[str]]:
    """`return ` or `name = `, whichever all bodies begin with, and the value of each body."""
    found = [_result(site, body) for body in bodies]
    prefix = found[0][0]
    if prefix and all(each == prefix for each, _ in found):
        return prefix, [text for _, text in found]
    return "", [ELLIPSIS] * len(found)


def _result(site: Site, body: Sequence[ast.stmt]) -> tuple[str, str]:
    match body:
        case [ast.Return(value=ast.expr() as value), *_]:
            return "return ", site.text(value)
        case [ast.Assign(targets=[ast.Name(id=name)], value=value)]:
            return f"{name} = ", site.text(value)
    return "", ELLIPSIS


def _arms(test: _Condition, bodies: dict[str, str], other: str) -> str:
    arms = dict(bodies)
    if test.negated:
        arms[test.key], other = other, arms[test.key]
    if test.key == "True":
        arms = {"True": arms["True"], "False": other}
    written = _dict(arms, arms.values())
    return written if test.key == "True" else f"{written}, default={other}"


def route_of_match(site: Site, node: ast.Match) -> Advice | None:
    """A route with one arm for each `case` that is a plain value or a class."""
    on = wire_text(site, node.subject)
    if on is None:
        return None
    of_classes, step = _of_classes(site, node)
    if of_classes:
        on = f"kind_of({on[0]})", str
    keys = of_classes or _of_values(site, node)
    if not any(keys):
        return None
    bodies: list[Sequence[ast.stmt]] = [case.body for case in node.cases]
    fails = not keys[-1] and _raises(bodies[-1])
    rest = _otherwise(site, node)
    if keys[-1] and _result(site, rest)[0] == _result(site, bodies[0])[0] != "":
        keys, bodies = [*keys, []], [*bodies, rest]
    prefix, texts = _results(site, bodies[:-1] if fails else bodies)
    arms: dict[str, str] = {}
    for of_case, text in zip(keys, texts, strict=False):
        for key in of_case:
            arms.setdefault(key, text)  # of two cases with one key, Python takes the first
    default = f", default={texts[-1]}" if not keys[-1] and not fails else ""
    written = f"{prefix}route({on[0]}, {_dict(arms, arms.values())}{default})"
    return Advice(f"{written}{_OR_FAILS if fails else ''}", step)


def _of_classes(site: Site, node: ast.Match) -> tuple[list[list[str]], str]:
    """The class names of each case, and a step that returns a value's class name; else empty."""
    keys: list[list[str]] = []
    for case in node.cases:
        match case.pattern:
            case ast.MatchClass(cls=kind, patterns=[], kwd_patterns=[]) if case.guard is None:
                keys.append([repr(site.text(kind).rpartition(".")[2])])
            case ast.MatchSingleton(value=None) if case.guard is None:
                keys.append([repr("NoneType")])
            case ast.MatchAs(pattern=None) if case is node.cases[-1] and case.guard is None:
                keys.append([])
            case _:
                return [], ""
    lifted = lift(site, ast.Call(ast.Name("type", ast.Load()), [node.subject], []))
    if lifted is None or not any("NoneType" not in each[0] for each in keys if each):
        return [], ""
    return keys, f"@step\ndef kind_of({lifted.takes}) -> str:\n    return {lifted.body}.__name__"


def _of_values(site: Site, node: ast.Match) -> list[list[str]]:
    """The keys of each case, none for a last `case _`; empty if a case is not a plain value."""
    found: list[list[str]] = []
    for case in node.cases:
        keys = _keys(site, case.pattern)
        other = isinstance(case.pattern, ast.MatchAs) and case.pattern.name is None
        if case.guard is not None or not (keys or (other and case is node.cases[-1])):
            return []
        found.append(keys)
    return found


def _keys(site: Site, pattern: ast.pattern) -> list[str]:
    """The values that a pattern matches; empty if it matches others too."""
    match pattern:
        case ast.MatchValue(value=value):
            return [site.text(value)]
        case ast.MatchSingleton(value=single):
            return [repr(single)]
        case ast.MatchOr(patterns=patterns):
            keys = [_keys(site, each) for each in patterns]
            return list(chain(*keys)) if all(keys) else []
    return []


def route_of_table(site: Site, node: ast.expr) -> Advice | None:
    """A route whose arms are the items of a dict: `{...}[wire]`, `table.get(wire, other)`."""
    match node:
        case ast.Subscript(value=table, slice=key):
            other = None
        case ast.Call(func=ast.Attribute(value=table, attr="get"), args=[key, *others]):
            other = others[0] if others else ast.Constant(None)
        case _:
            return None
    on = wire_text(site, key)
    holds = isinstance(table, ast.Dict) or isinstance(site.meaning(table), dict)
    if on is None or not holds:
        return None
    default = "" if other is None else f", default={site.text(other)}"
    return Advice(site.replaced(node, f"route({on[0]}, {site.text(table)}{default})"))
