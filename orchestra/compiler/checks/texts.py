"""Checks of texts: templates that cannot be filled, and wires formatted into a text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from orchestra.annotations.facts import spell, writes_its_repr
from orchestra.compiler.checks.arguments import values_held
from orchestra.compiler.checks.uncalled import uncalled_in
from orchestra.graph.nodes import Call, Constant, Node, type_of
from orchestra.graph.source.templates import BRACES, FilledIn, Place, places_of
from orchestra.graph.wires import Wire
from orchestra.nearest import did_you_mean, nearest_name
from orchestra.problem import Problem


def template_problems(node: Call) -> Iterator[Problem]:
    """The problems of a call's templates, as far as they are known before a run."""
    for name, kind in node.step.expects.items():
        if FilledIn() not in getattr(kind, "__metadata__", ()):
            continue
        template = node.arguments.get(name)
        if isinstance(template, str):
            given = [(part, argument) for part, argument, _ in node.places]
            given.remove((name, template))  # the template itself; a part may have the same name
            yield from _template(node, template, dict(given))


def _template(node: Call, template: str, parts: Mapping[str, object]) -> Iterator[Problem]:
    where = node.origin.where
    try:
        places = places_of(template)
    except ValueError as error:
        message, _, fix = str(error).rpartition("; ")
        yield Problem("bad-template", where, f"{node.spelled}: {message}", fix)
        return
    wanted = dict.fromkeys(place.name for place in places if place.named)
    surplus = [part for part in parts if part not in wanted]
    for place in dict.fromkeys(places):
        if not place.named:
            message = f"{node.spelled}: `{place.written}` in the template names no part"
            written = f"{{{place.written}}}" if place.name else "{question}"
            fix = f"{BRACES}: `{written}`" if place.name else f"name it: `{written}`"
            yield Problem("bad-template", where, message, fix)
        elif place.calls:
            message = f"{node.spelled}: `{place.written}` in the template calls a method"
            fix = f"call it in a step, and pass the result: {{{place.name}}}"
            yield Problem("bad-template", where, message, fix)
        elif place.hidden:
            message, fix = place.refusal
            yield Problem("bad-template", where, f"{node.spelled}: {message}", fix)
    for name in (each for each in wanted if each not in parts):
        meant = did_you_mean(name, surplus, after=" ", written="`{{{}}}`".format)
        near = nearest_name(name, surplus)
        surplus = [each for each in surplus if each != near]  # one fault, reported once
        message = f"{node.spelled}: the template names {name!r}, which is not given"
        fix = f"{meant}pass {name}=..., or {BRACES}"
        yield Problem("missing-part", where, message, fix)
    for name in surplus:
        message = f"{node.spelled} is given {name!r}, which the template does not name"
        fix = f"write `{{{name}}}` where it belongs, or leave {name}=... out"
        yield Problem("unused-part", where, message, fix)
    yield from _reprs(node, places, parts)


def _reprs(node: Call, places: Iterable[Place], parts: Mapping[str, object]) -> Iterator[Problem]:
    """Parts that a model would read as a Python repr: lists, mappings, records."""
    for place in dict.fromkeys(places):
        part = parts.get(place.name)
        kind = type_of(part) if isinstance(part, Wire) else type(part)
        if place.plain and writes_its_repr(kind) and not any(uncalled_in(part)):
            message = (
                f"{node.spelled}: {place.name!r} is {spell(kind)}, and a model would read its repr"
            )
            fix = f"turn it into text in a step, or write `{{{place.name}!r}}` to keep the repr"
            yield Problem("repr-in-text", node.origin.where, message, fix)


def written_wires(nodes: Sequence[Node]) -> Iterator[tuple[Node, str, Problem]]:
    """Texts with the repr of a wire: the reading node, the wire's node as spelled, the problem."""
    texts = [(node, into, text) for node in nodes for into, text in _texts(node) if _REPR in text]
    if not texts:
        return
    spelled = sorted({re.escape(node.spelled) for node in nodes}, key=len, reverse=True)
    pattern = re.compile(rf"{_REPR}(({'|'.join(spelled)})(?:[.\[][^>]*)?)>")
    for node, into, text in texts:
        for found in pattern.finditer(text):
            message = f"{into} is given a text that contains {found[0]!r}, and not its value"
            fix = f'prompt("... {{name}} ...", name={found[1]}), with `{{name!r}}` for its repr'
            yield node, found[2], Problem("wire-in-text", node.origin.where, message, fix)


_REPR = "<wire "


def _texts(node: Node) -> Iterator[tuple[str, str]]:
    """The texts among a node's arguments, each with its place."""
    match node:
        case Call():
            held = [(node.into(name), argument) for name, argument, _ in node.places]
        case Constant(value=value):
            held = [("the pipeline", value)]
        case _:
            held = []
    for into, value in held:
        yield from ((into, each) for each in values_held(value) if isinstance(each, str))
