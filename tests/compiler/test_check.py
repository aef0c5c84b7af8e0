"""Check tells everything that is wrong with a pipeline: where, both ends, and what to write."""

from __future__ import annotations

import ast
import re
import textwrap
from itertools import islice
from pathlib import Path
from typing import Any

import attrs
import pytest

import orchestra
from orchestra.compiler.check import check
from orchestra.compiler.checks.arguments import values_held, wires_held
from orchestra.compiler.plan import plan
from orchestra.errors import CheckError
from tests.graph.written import written

STEPS = """
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import TypedDict
from orchestra import chars, chunks
from orchestra.steps import classify, generate
@step
async def one(x: int) -> int: return x
@step
async def many(x: int) -> list[int]: return [x]
@step
async def text(x: int) -> str: return str(x)
@step
async def both(xs: list[int]) -> int: return sum(xs)
@step
async def pair(xs: tuple[int, int]) -> int: return sum(xs)
@step
async def loose(x): return x
@step
async def gen(n: int) -> AsyncIterator[str]: yield str(n)
@step
async def said(n: int): yield str(n)
@step
async def up(chunks: Stream[str]) -> AsyncIterator[str]:
    async for chunk in chunks: yield chunk
@step
async def mix(chunks: Stream[str], whole: str) -> AsyncIterator[str]: yield whole
@step
async def find(n: int) -> Passage: ...
@step
async def labelled(n: int) -> Label: ...
@step
async def named(n: int, *rest: int, **more: int) -> int: return n
@step
async def ask(asked: str | Message, *, policy: Policy | None = None) -> AsyncIterator[str]: yield ""
@step
def quick(n: int, *, policy: Policy | None = None) -> int: return n
@step
async def slow(n: int, *, policy: Policy | None = None) -> int: return n
@step
def text_of(texts: list[str]) -> str: return "".join(texts)
@dataclass
class Box:
    held: Any
class Keyed(TypedDict):
    title: str
class Color(Enum):
    RED = "red"
    BLUE = "blue"
class Size(StrEnum):
    S = "s"
    M = "m"
"""  # fmt: skip
TAKES = {
    "n": "int",
    "q": "str",
    "flag": "bool",
    "ns": "list[int]",
    "pick": "Literal['a', 'b']",
    "color": "Color",
    "size": "Size",
    "crate": "Box",
    "keyed": "Keyed",
}


def problems_of(source: str) -> tuple[list[tuple[str, ...]], Any]:
    """Code, line, message and fix of every problem of a pipeline, and its module."""
    if "def p(" not in source:
        used = {node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)}
        takes = ", ".join(f"{name}: {kind}" for name, kind in TAKES.items() if name in used)
        source = f"@pipeline\ndef p({takes}) -> Any:\n{textwrap.indent(source, '    ')}"
    module = written(STEPS + source)
    found = check(module["p"])
    return [(each.code, each.where, each.message, each.fix) for each in found], module


CASES: list[tuple[str, str, str, str]] = [
    # --- calls
    (
        "return one(n, n)  # HERE",
        "bad-call",
        "one(...) takes 1 argument by position, and is given 2",
        "the step is `one(x: int) -> int`, at ",
    ),
    (
        "return one()  # HERE",
        "missing-argument",
        "one(...) is called without 'x'",
        "pass it; the step is `one(x: int) -> int`, at ",
    ),
    (
        "return one(y=n)  # HERE",
        "unknown-argument",
        "one(...) has no parameter 'y'",
        "did you mean 'x'? the step is `one(x: int) -> int`, at ",
    ),
    (
        "return generate(q, retuns=int)  # HERE",
        "unknown-argument",
        "generate(...) has no parameter 'retuns'",
        "did you mean 'returns'? it takes: asked, returns, model, policy, system, temperature, "
        "top_p, output_tokens_max, stop, seed, reasoning_effort, extras, tools, tool_choice, "
        "parallel_tool_calls, tool_rounds_max, tools_at_once, tool_timeout_s, approved, citations, reasoning; "
        "the step is at ",
    ),
    # --- types
    (
        "return one(q)  # HERE",
        "type-clash",
        "q is str, but one(x=...) takes int",
        "convert it in a step between them; q is defined at ",
    ),
    (
        "return ask(collect(said(n)))  # HERE",
        "type-clash",
        "collect(...) is list[Any], but ask(asked=...) takes str | Message",
        "annotate what said(...) yields: `-> AsyncIterator[str]` is joined, Any is not",
    ),
    (
        "@pipeline\ndef p(n: int) -> bytes: return collect(said(n))  # HERE",
        "type-clash",
        "pipeline 'p' returns collect(...), which is list[Any], but is annotated `-> bytes`",
        "annotate what said(...) yields: `-> AsyncIterator[bytes]` is joined, Any is not",
    ),
    (
        "return one(collect(said(n)))  # HERE",
        "type-clash",
        "collect(...) is list[Any], but one(x=...) takes int",
        "convert it in a step between them; collect(...) is defined at ",
    ),
    (
        "return one(text(n))  # HERE",
        "type-clash",
        "text(...) is str, but one(x=...) takes int",
        "convert it in a step between them; text(...) is defined at ",
    ),
    (
        "return one('x')  # HERE",
        "type-clash",
        "one(x=...) takes int, and is given 'x'",
        "pass int; the step is defined at ",
    ),
    (
        "return both([n, q])  # HERE",
        "type-clash",
        "q is str, but both(xs=...) takes int",
        "convert it in a step between them; q is defined at ",
    ),
    (
        "return both([n, 'x'])  # HERE",
        "type-clash",
        "both(xs=...) takes int, and is given 'x'",
        "pass int; the step is defined at ",
    ),
    (
        "return both({'a': n})  # HERE",
        "type-clash",
        "both(xs=...) takes list[int], and is given a dict",
        "pass list[int]; the step is defined at ",
    ),
    (
        "return pair((n, n, n))  # HERE",
        "type-clash",
        "pair(xs=...) takes tuple[int, int], and is given a tuple",
        "pass tuple[int, int]; the step is defined at ",
    ),
    (
        "return named(n, q, more=3)  # HERE",
        "type-clash",
        "q is str, but named(rest=...) takes int",
        "convert it in a step between them; q is defined at ",
    ),
    (
        "return named(n, more=q)  # HERE",
        "type-clash",
        "q is str, but named(more=...) takes int",
        "convert it in a step between them; q is defined at ",
    ),
    (
        "return ask(q, policy=3)  # HERE",
        "type-clash",
        "ask(policy=...) takes Policy | None, and is given 3",
        "pass Policy | None; the step is defined at ",
    ),
    (
        "return ask(Message('user', q))  # HERE",
        "wire-in-value",
        "ask(asked=...) is given a Message that holds the wire q, which would never be filled",
        "make the Message in a step that takes q",
    ),
    (
        "return loose([{'a': (Box([q]), 3)}])  # HERE",
        "wire-in-value",
        "loose(x=...) is given a list that holds the wire q, which would never be filled",
        "make the list in a step that takes q",
    ),
    (
        "return ask([Message('system', 'x'), Message('user', q)])  # HERE",
        "wire-in-value",
        "ask(asked=...) is given a Message that holds the wire q, which would never be filled",
        "make the Message in a step that takes q",
    ),
    (
        "return loose(lambda text: text == q)  # HERE",
        "wire-in-value",
        "loose(x=...) is given a function that holds the wire q, which would never be filled",
        "make the function in a step that takes q",
    ),
    (
        "return race(Message('user', q))  # HERE",
        "wire-in-value",
        "the pipeline is given a Message that holds the wire q, which would never be filled",
        "make the Message in a step that takes q",
    ),
    # --- texts
    (
        "return prompt('{q} {ctx}', q=q)  # HERE",
        "missing-part",
        "prompt(...): the template names 'ctx', which is not given",
        "pass ctx=..., or write `{{` and `}}` for braces that are text",
    ),
    (
        "return prompt('{q:{width}} {ctx.text}', q=q, width=n, ctxt=q)  # HERE",
        "missing-part",
        "prompt(...): the template names 'ctx', which is not given",
        "did you mean `{ctxt}`? pass ctx=..., or write `{{` and `}}` for braces that are text",
    ),
    (
        "return prompt('Reply like {\"a\": 1}: {q}', q=q)  # HERE",
        "bad-template",
        'prompt(...): `{"a": 1}` in the template names no part',
        'write `{{` and `}}` for braces that are text: `{{"a": 1}}`',
    ),
    (
        "return prompt('{} and {{}} {q}', q=q)  # HERE",
        "bad-template",
        "prompt(...): `{}` in the template names no part",
        "name it: `{question}`",
    ),
    (
        "return prompt('{q!r} {q!x}', q=q)  # HERE",
        "bad-template",
        "prompt(...): the template is invalid: `{q!x}` has an unknown conversion, `!x`",
        "write `{{` and `}}` for braces that are text",
    ),
    (
        "return prompt('{q} in {[', q=q)  # HERE",
        "bad-template",
        "prompt(...): the template is invalid: expected '}' before end of string",
        "write `{{` and `}}` for braces that are text",
    ),
    (
        "return prompt('{q}', q=q, other=n)  # HERE",
        "unused-part",
        "prompt(...) is given 'other', which the template does not name",
        "write `{other}` where it belongs, or leave other=... out",
    ),
    (
        "return prompt('{q}: {found} {n!r}', q=q, n=n, found=find(n))  # HERE",
        "repr-in-text",
        "prompt(...): 'found' is Passage, and a model would read its repr",
        "turn it into text in a step, or write `{found!r}` to keep the repr",
    ),
    (
        "return prompt('{qs}', qs=[q])  # HERE",
        "repr-in-text",
        "prompt(...): 'qs' is list, and a model would read its repr",
        "turn it into text in a step, or write `{qs!r}` to keep the repr",
    ),
    (
        "return text_of([f'about {q!r}'])  # HERE",
        "wire-in-text",
        "text_of(texts=...) is given a text that contains '<wire q>', and not its value",
        'prompt("... {name} ...", name=q), with `{name!r}` for its repr',
    ),
    (
        "return race('%r' % (find(n).text,), 'x')  # HERE",
        "wire-in-text",
        "the pipeline is given a text that contains '<wire find(...).text>', and not its value",
        'prompt("... {name} ...", name=find(...).text), with `{name!r}` for its repr',
    ),
    # --- parts
    (
        "return one(find(n).socre)  # HERE",
        "unknown-part",
        "find(...).socre: find(...) is Passage, without `.socre`",
        "did you mean `.score`? Passage has: id, text, source, score, metadata",
    ),
    (
        "return crate['held']  # HERE",
        "unknown-part",
        "crate['held']: crate is Box, without `['held']`",
        "did you mean `.held`? Box has: held",
    ),
    (
        "return keyed.titel  # HERE",
        "unknown-part",
        "keyed.titel: keyed is Keyed, without `.titel`",
        "did you mean `['title']`? Keyed has: title",
    ),
    (
        "return keyed[0]  # HERE",
        "unknown-part",
        "keyed[0]: keyed is Keyed, without `[0]`",
        "name a part that Keyed has",
    ),
    (
        "return one(find(n).text.nope.more)  # HERE",
        "unknown-part",
        "find(...).text.nope: find(...).text is str, without `.nope`",
        "name a part that str has",
    ),
    (
        "return race(n, n.nope)  # HERE",
        "unknown-part",
        "n.nope: n is int, without `.nope`",
        "name a part that int has",
    ),
    (
        "return each(ns.nope, one, at_once=1)  # HERE",
        "unknown-part",
        "ns.nope: ns is list[int], without `.nope`",
        "name a part that list[int] has",
    ),
    (
        "return route(n.nope, {1: n})  # HERE",
        "unknown-part",
        "n.nope: n is int, without `.nope`",
        "name a part that int has",
    ),
    (
        "return n.nope  # HERE",
        "unknown-part",
        "n.nope: n is int, without `.nope`",
        "name a part that int has",
    ),
    (
        "return text(gen(n).length)  # HERE",
        "part-of-stream",
        "gen(...).length: gen(...) is Stream[str], and a stream has no parts",
        "collect(gen(...)) first, or take the part in a step that reads the stream",
    ),
    (
        "return gen(n)[0]  # HERE",
        "part-of-stream",
        "gen(...)[0]: gen(...) is Stream[str], and a stream has no parts",
        "collect(gen(...)) first, or take the part in a step that reads the stream",
    ),
    # --- streams and values
    (
        "return ask(gen(n))  # HERE",
        "stream-into-value",
        "gen(...) is Stream[str], but ask(asked=...) takes str | Message, which is the whole value",
        "collect(gen(...)), or annotate the parameter `Stream[...]` to read its chunks",
    ),
    (
        "return [max, n]  # HERE",
        "uncalled",
        "the result of pipeline 'p' is the function 'max' itself, which nothing calls",
        "call it: `max(...)`",
    ),
    (
        "return [collect(gen), n]  # HERE",
        "uncalled",
        "the argument of collect(...) is the step 'gen' itself, which nothing calls",
        "call it: `gen(n)`",
    ),
    (
        "return race(lambda: one(n), n)  # HERE",
        "uncalled",
        "arm 1 of race(...) is a lambda, which nothing calls",
        "write its expression, without `lambda`",
    ),
    (
        "return prompt('{n.bit_length()} {n.real:>{n}}', n=n)  # HERE",
        "bad-template",
        "prompt(...): `{n.bit_length()}` in the template calls a method",
        "call it in a step, and pass the result: {n}",
    ),
    (
        "return prompt('{n.__class__} {n.real}', n=n)  # HERE",
        "bad-template",
        "prompt(...): `{n.__class__}` in the template reads an attribute that begins with `_`",
        "read it in a step, and pass the result: {n}",
    ),
    (
        "return [gen(n)]  # HERE",
        "stream-into-value",
        "gen(...) is Stream[str], but an item of [...] takes Any, which is the whole value",
        "collect(gen(...)), or annotate the parameter `Stream[...]` to read its chunks",
    ),
    (
        "return route(gen(n), {1: n})  # HERE",
        "stream-into-value",
        "gen(...) is Stream[str], but route(label) takes Hashable, which is the whole value",
        "collect(gen(...)), or annotate the parameter `Stream[...]` to read its chunks",
    ),
    (
        "return up(q)  # HERE",
        "value-into-stream",
        "q is str, but up(chunks=...) takes Stream[str], which are chunks",
        "pass the result of a step that is an async generator, or take the value whole",
    ),
    (
        "return up('abc')  # HERE",
        "value-into-stream",
        "up(chunks=...) takes Stream[str], and is given 'abc'",
        "pass the result of a step that is an async generator",
    ),
    (
        "return up(collect(gen(n)))  # HERE",
        "value-into-stream",
        "collect(...) is str, but up(chunks=...) takes Stream[str], which are chunks",
        "pass gen(...) itself, not collected",
    ),
    (
        "return collect(q)  # HERE",
        "value-into-stream",
        "collect(q): q is str, which is a value already",
        "pass q as it is",
    ),
    (
        "return race(text(n), text(n), commit=chunks(3))  # HERE",
        "commit-unfit",
        "race(commit=chunks(3)): arm 1:text is str, one value",
        "leave out commit=..., or use complete()",
    ),
    (
        "return fallback(each(gen(n), lambda s: 1, at_once=1), commit=chars(3))  # HERE",
        "commit-unfit",
        "fallback(commit=chars(3)): chunks of int are not text",
        "count them whole: commit=chunks(3)",
    ),
    (
        "return up(fallback(gen(n), gen(n), restart=True))  # HERE",
        "restart-unfit",
        "fallback(restart=True) is for the stream that is the pipeline's result: up(chunks=...) "
        "reads it, and what was read cannot be taken back",
        "leave out restart=True; commit=complete() waits for the whole answer",
    ),
    (
        "return fallback(text(n), text(n), restart=True)  # HERE",
        "restart-unfit",
        "fallback(restart=True) is for the stream that is the pipeline's result: it gives one "
        "value, and only a stream can restart",
        "leave out restart=True; commit=complete() waits for the whole answer",
    ),
    (
        "return fallback(gen(n), 'sorry')  # HERE",
        "mixed-arms",
        "some arms of fallback stream, and others do not: 1:gen is Stream[str]; 2:'sorry' is str",
        "collect(...) the arms that stream, so that all of them are values; or yield the plain "
        "value from a step, so that all of them stream",
    ),
    (
        "return race(gen(n), text(n))  # HERE",
        "mixed-arms",
        "some arms of race stream, and others do not: 1:gen is Stream[str]; 2:text is str",
        "collect(...) the arms that stream, so that all of them are values",
    ),
    (
        "said = gen(n)\nreturn mix(said, collect(said))  # HERE",
        "stream-waits-for-its-end",
        "mix(chunks=...) reads the stream gen(...), but can start only when that stream has "
        "ended; its chunks would wait for ever",
        "let it take the whole value, collect(gen(...)), or make a second gen(...) for it",
    ),
    (
        "said = gen(n)\nreturn each(ns, lambda m: collect(mix(said, text(m))), at_once=2)  # HERE",
        "stream-into-body",
        "mix(chunks=...) reads the stream gen(...) once for each item",
        "collect(gen(...)) outside the body",
    ),
    # --- each
    (
        "return each(ns, one)  # HERE",
        "missing-bound",
        "each(...) is called without `at_once`",
        "say how many may run at once: each(items, body, at_once=8)",
    ),
    (
        "return each(ns, one, at_once=0)  # HERE",
        "bad-bound",
        "each(at_once=0): at_once must be a number of items, 1 or more",
        "write it as a number: each(items, body, at_once=8)",
    ),
    (
        "return each(ns, one, at_once=True)  # HERE",
        "bad-bound",
        "each(at_once=True): at_once must be a number of items, 1 or more",
        "write it as a number: each(items, body, at_once=8)",
    ),
    (
        "return each(ns, one, at_once=n)  # HERE",
        "bad-bound",
        "each(at_once=<wire n>): at_once must be a number of items, 1 or more",
        "write it as a number: each(items, body, at_once=8)",
    ),
    (
        "return each(n, text, at_once=2)  # HERE",
        "not-iterable",
        "each(items): n is int, which has no items",
        "pass a list or a stream",
    ),
    (
        "return each(q, loose, at_once=2)  # HERE",
        "not-iterable",
        "each(items): q is str, and its items would be its characters",
        "pass a list, made by a step that splits it, as by `text.splitlines()`",
    ),
    (
        "return each(b'ab', loose, at_once=2)  # HERE",
        "not-iterable",
        "each(items): b'ab' is bytes, and its items would be its bytes, as numbers",
        "pass a list, made by a step that splits it, as by `text.splitlines()`",
    ),
    (
        "return route(color, {'red': n}, default=n)  # HERE",
        "unreachable-arm",
        "route: color is Color, and can never be 'red'",
        "write Color.RED: ...",
    ),
    (
        "return each(ns, gen, at_once=2)  # HERE",
        "stream-in-each",
        "the body of each gives a stream, Stream[str]",
        "collect(...) it in the body: one value for each item",
    ),
    (
        "kept = []\n"
        "made = each(ns, lambda m: kept.append(m) or m, at_once=2)\n"
        "return [made, one(kept[0])]  # HERE",
        "item-escapes",
        "one(...) needs an item of an `each`, but is outside its body",
        "call it in the body: each(items, lambda item: ...)",
    ),
    (  # what is made of that is not told again, an item of it neither
        "kept = []\n"
        "made = each(ns, lambda m: kept.append(m) or m, at_once=2)\n"
        "late = many(kept[0])  # HERE\n"
        "return [made, each(late, one, at_once=2)]",
        "item-escapes",
        "many(...) needs an item of an `each`, but is outside its body",
        "call it in the body: each(items, lambda item: ...)",
    ),
    # --- route
    (
        "return route(flag, {True: n, 'yes': n}, default=n)  # HERE",
        "unreachable-arm",
        "route: flag is bool, and can never be 'yes'",
        "remove the arm 'yes'",
    ),
    (
        "return route(labelled(n), {'a': n, 3: n})  # HERE",
        "unreachable-arm",
        "route: a label's name is a string, and can never be 3",
        "use the label's name as key",
    ),
    (
        "return route(pick, {'a': n})  # HERE",
        "missing-arm",
        "route: pick can be 'b', and there is no arm for that",
        "add arms for them, or default=...",
    ),
    (
        "return route(color, {Color.RED: n})  # HERE",
        "missing-arm",
        "route: color can be Color.BLUE, and there is no arm for that",
        "add arms for them, or default=...",
    ),
    (
        "return route(flag, {True: n})  # HERE",
        "missing-arm",
        "route: flag can be False, and there is no arm for that",
        "add arms for them, or default=...",
    ),
    (
        "label = classify(q, labels=('bug', 'refund', 'other'))\n"
        "return route(label, {'bug': n, 'refunds': n}, default=n)  # HERE",
        "unreachable-arm",
        "route: classify(...) is 'bug' or 'refund' or 'other', and can never be 'refunds'",
        "write 'refund': ...",
    ),
    (
        "label = classify(q, labels={'bug': 'broken', 'other': ''})\n"
        "return route(label.name, {'bug': n, 'Payment': n}, default=n)  # HERE",
        "unreachable-arm",
        "route: classify(...).name is 'bug' or 'other', and can never be 'Payment'",
        "remove the arm 'Payment', or add it to the labels",
    ),
    (
        "label = classify(q, labels=['bug', 'refund', 'other'])\n"
        "return route(label, {'bug': n})  # HERE",
        "missing-arm",
        "route: classify(...) can be 'refund', 'other', and there is no arm for that",
        "add arms for them, or default=...",
    ),
    # --- policies
    (
        "return slow(n, policy=Policy(first_chunk_s=1))  # HERE",
        "policy-unfit",
        "slow(...) has a policy with first_chunk_s, but gives one value",
        "use timeout_s; first_chunk_s and idle_s are for streams",
    ),
    (
        "return quick(n, policy=Policy(timeout_s=1))  # HERE",
        "policy-unfit",
        "quick(...) has timeout_s, but a plain function cannot be interrupted",
        "make it `async def`, or set deadline_s on the pipeline",
    ),
    (
        "return quick(n, policy=Policy(retry=Retry(attempts_max=2)))  # HERE",
        "policy-unfit",
        "quick(...) has a retry, but a plain function cannot wait between two attempts: it "
        "would fail again",
        "make it `async def`, or @step(thread=True), if a later call may succeed; "
        "else leave retry out",
    ),
    (
        "return up.using(Policy(retry=Retry(attempts_max=2)))(gen(n))  # HERE",
        "policy-unfit",
        "up(...) has a retry, but reads the stream gen(...): what a failed attempt has read is gone",
        "pass it collect(gen(...)), or give the retry to the stream's step",
    ),
    # --- what is named and not called
    (
        "return route(n, {1: one(n), 2: one})  # HERE",
        "uncalled",
        "arm 2 of route(...) is the step 'one' itself, which nothing calls",
        "call it: `one(x)`",
    ),
    (
        "return route(q, {'a': n}, default=[n, named])  # HERE",
        "uncalled",
        "arm default of route(...) is the step 'named' itself, which nothing calls",
        "call it: `named(n)`",
    ),
    (
        "@pipeline\ndef inner(n: int, q: str): return [n, q]\n"
        "@pipeline\ndef p(n: int) -> int: return fallback(one(n), inner)  # HERE",
        "uncalled",
        "arm 2 of fallback(...) is the pipeline 'inner' itself, which nothing calls",
        "call it: `inner(n, q)`",
    ),
    (
        "import functools\ndef plain(a, b): return a\n@pipeline\ndef p(n: int) -> int: "
        "return race(one(n), functools.partial(plain, b=1))  # HERE",
        "uncalled",
        "arm 2 of race(...) is the function 'plain' itself, which nothing calls",
        "call it: `plain(a, b)`",
    ),
    (
        "@pipeline\ndef p() -> str: return one  # HERE",
        "uncalled",
        "the result of pipeline 'p' is the step 'one' itself, which nothing calls",
        "call it: `one(x)`",
    ),
    (
        "return {'a': one(n), 'b': (len, n)}  # HERE",
        "uncalled",
        "the result of pipeline 'p' is the function 'len' itself, which nothing calls",
        "call it: `len(obj)`",
    ),
    (
        "return [one(n), {'b': [dict.fromkeys]}]  # HERE",
        "uncalled",
        "the result of pipeline 'p' is the function 'fromkeys' itself, which nothing calls",
        "call it: `fromkeys(iterable, value)`",
    ),
    (
        "return route(labelled, {'a': n}, default=n)  # HERE",
        "uncalled",
        "the label of route(...) is the step 'labelled' itself, which nothing calls",
        "call it: `labelled(n)`",
    ),
    (
        "return [each(find, loose, at_once=2), n]  # HERE",
        "uncalled",
        "the argument of each(...) is the step 'find' itself, which nothing calls",
        "call it: `find(n)`",
    ),
    *(
        (
            f"return prompt('{{a}}', a={given})  # HERE",
            "uncalled",
            "the argument of prompt(a=...) is the step 'one' itself, which nothing calls",
            "call it: `one(x)`",
        )
        for given in ("one", "[one]", "{'x': [1, (one, 2)]}")
    ),
    (
        "@pipeline\ndef inner(n: int): return n\n@pipeline\n"
        "def p(n: int): return loose([inner, n])  # HERE",
        "uncalled",
        "the argument of loose(x=...) is the pipeline 'inner' itself, which nothing calls",
        "call it: `inner(n)`",
    ),
    (
        "return one(one)  # HERE",
        "type-clash",
        "one(x=...) takes int, and is given 'one' itself, uncalled",
        "call it: `one(x)`",
    ),
    (
        "@pipeline\ndef inner(n: int): return n\n@pipeline\ndef p(): return one(inner)  # HERE",
        "type-clash",
        "one(x=...) takes int, and is given 'inner' itself, uncalled",
        "call it: `inner(n)`",
    ),
    # --- what is not used
    (
        "one(n)  # HERE\nreturn n",
        "unused-step",
        "the result of one(...) is not used, so it would never run",
        "pass it to a step that the returned wire needs, or remove the call",
    ),
    (
        "@step\nasync def save(n: int) -> None: ...\n"
        "@pipeline\ndef p(n: int): \n    save(n)  # HERE\n    return n",
        "unused-step",
        "the result of save(...) is not used, so it would never run",
        "return its argument from it, and use the result: `x = save(x)`",
    ),
    (
        "out = []\nfor i in range(2):\n    @step\n    def late(x: int) -> int: return x + i  # HERE\n"
        "    out.append(late(n))\nreturn out",
        "late-value",
        "step 'late' is created for each `i`, but reads it when it runs, after the loop: all of "
        "them read its last value",
        "make the step once, above the loop, with a parameter 'i', and pass it: `late(..., i=i)`",
    ),
    # --- definitions
    (
        "@step\nasync def made(n: int) -> str:  # HERE\n    yield 'x'\n"
        "@pipeline\ndef p(n: int): return [collect(made(n)), collect(made(n))]",
        "generator-annotation",
        "step 'made' yields chunks, but is annotated `-> str`",
        "annotate it `-> AsyncIterator[str]`",
    ),
    (
        "@step\nasync def made(n: int) -> Stream[str]:  # HERE\n    yield 'x'\n"
        "@pipeline\ndef p(n: int): return made(n)",
        "generator-annotation",
        "step 'made' yields chunks, but is annotated `-> Stream[str]`",
        "annotate it `-> AsyncIterator[str]`",
    ),
    (
        "@step\nasync def made(n: int) -> AsyncIterator[str]:  # HERE\n    return None\n"
        "@pipeline\ndef p(n: int): return [made(n), made(n)]",
        "no-yield",
        "step 'made' is annotated `-> AsyncIterator[str]`, but has no `yield`",
        "write `async def made(...) -> AsyncIterator[str]` and yield its chunks (those of a "
        "stream it reads: `async for chunk in stream: yield chunk`), or annotate the value that "
        "it returns",
    ),
    *(
        (
            f"@step\n{made}(chunks: Stream[bytes]) -> Stream[str]:  # HERE\n    return chunks\n"
            "@step\nasync def raw(n: int) -> AsyncIterator[bytes]:\n    yield b'x'\n"
            "@pipeline\ndef p(n: int): return made(raw(n))",
            "no-yield",
            "step 'made' is annotated `-> Stream[str]`, but has no `yield`",
            "write `async def made(...) -> AsyncIterator[str]` and yield its chunks (those of a "
            "stream it reads: `async for chunk in stream: yield chunk`), or annotate the value that "
            "it returns",
        )
        for made in ("def made", "async def made")
    ),
    (
        "@pipeline\ndef p(\n    n: int = 'x',\n): return n",
        "type-clash",
        "input 'n' is int, but its default is 'x'",
        "change the default, or widen the annotation",
    ),
    (
        "@pipeline\ndef p(n: int) -> str: return one(n)  # HERE",
        "type-clash",
        "pipeline 'p' returns one(...), which is int, but is annotated `-> str`",
        "annotate it `-> int`",
    ),
    (
        "@pipeline\ndef p(n: int) -> str: return gen(n)  # HERE",
        "type-clash",
        "pipeline 'p' returns gen(...), which is Stream[str], but is annotated `-> str`",
        "annotate it `-> Stream[str]`, or return collect(gen(...))",
    ),
]


@pytest.mark.parametrize(("source", "code", "message", "fix"), CASES)
def test_a_problem_names_its_line_both_ends_and_the_fix(
    source: str, code: str, message: str, fix: str
) -> None:
    found, module = problems_of(source)
    ((found_code, where, found_message, found_fix),) = found
    assert (found_code, found_message) == (code, message)
    assert found_fix.startswith(fix)
    assert fix.endswith((" at ", found_fix[-1])), "the whole fix, but for where it points"
    if "HERE" in source:
        assert where == module.where("HERE")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def p(n: int = Mute()): return one(n)", "input 'n' is int, but its default is "),
        ("def p(n: int): return first(n, Mute())", "first(y=...) takes int, and is given "),
    ],
)
def test_a_value_whose_repr_fails_is_told_all_the_same(code: str, message: str) -> None:
    module = written(
        f"{STEPS}@step\ndef first(x: int, y: int) -> int: return x\n"
        f"class Mute:\n    def __repr__(self): raise RuntimeError\n@pipeline\n{code}"
    )
    (problem,) = check(module["p"])
    assert problem.code == "type-clash"
    assert problem.message.startswith(message)
    assert "Mute object at 0x" in problem.message


def test_the_value_of_a_text_enum_is_its_member() -> None:
    assert problems_of("return route(size, {Size.S: n, 'm': n})")[0] == []


def test_an_unused_input_is_told_at_the_def() -> None:
    module = written("@pipeline(\n    name='answer',\n)\ndef p(n: int, m: int): return n  # HERE")
    (problem,) = check(module["p"])
    assert str(problem) == (
        f"{module.where('HERE')}: input 'm' of pipeline 'answer' is not used [unused-input]\n"
        "    fix: use it, or remove it from `def p(...)`"
    )


def test_an_item_cannot_be_returned() -> None:
    found, module = problems_of(
        "kept = []\nmade = each(ns, lambda m: kept.append(m) or m, at_once=2)\nreturn kept[0]  # HERE"
    )
    assert [code for code, *_ in found] == ["unused-step", "item-escapes"]
    assert found[1][1:] == (
        module.where("HERE"),
        "the item of ns has a value only in the body of its `each`",
        "return the result of the `each`",
    )


def test_every_code_has_its_case() -> None:
    folder = Path(orchestra.__file__).parent
    files = [*folder.glob("compiler/**/*.py"), folder / "graph/calls/binding.py"]
    # those of the function itself, in `graph`, have theirs in tests/graph/source/test_handlers.py
    texts = "".join(path.read_text() for path in files)
    codes = set(re.findall(r'(?:Problem|_fault)\(\s*"([a-z-]+)"', texts))
    assert codes == {code for _, code, *_ in CASES} | {
        "unused-input",
        "unknown-name",
        "unable-model",
    }


# --- many at once ------------------------------------------------------------------------------


def test_all_problems_are_told_at_once_in_the_order_of_the_source() -> None:
    found, module = problems_of(
        """
        said = gen(q)          # 1
        one("x")               # 2
        a = both(n)            # 3
        b = find(n).nope       # not read here
        c = each(ns, text)     # 4
        d = ask(asekd=b)       # 5
        return [a, c, up(collect(said), said).foo, d]  # 6
        """.replace("\n        ", "\n")
    )
    lines = [int(where.rpartition(":")[2]) for _, where, *_ in found]
    first = int(module.where("# 1").rpartition(":")[2])
    told = [(line - first + 1, code) for line, (code, *_) in zip(lines, found, strict=True)]
    assert told == [
        (1, "type-clash"),
        (2, "type-clash"),
        (2, "unused-step"),
        (3, "type-clash"),
        (5, "missing-bound"),
        (6, "unknown-argument"),
        (7, "bad-call"),
        (7, "value-into-stream"),
        (7, "part-of-stream"),
        (7, "stream-into-value"),
    ]
    assert len(set(found)) == len(found)
    with pytest.raises(CheckError) as caught:
        plan(module["p"])
    assert str(caught.value).count("fix: ") == len(caught.value.problems)


@pytest.mark.parametrize(
    "source",
    [
        "return one(n, collect(gen(n)))",  # what was passed wrongly is not unused as well
        "return one(x=n, z=[text(n), q])",
        "return both(race(n, n).nope)",  # what is read from a wrong part is anything
        "return one(each(n, lambda m: one(m), at_once=1))",
        "return one(collect(q))",
        "return text(one(q))",
        "return one(find(n).nope)",
        "one(text(one(n)))\nreturn n",
    ],
)
def test_one_fault_is_told_once(source: str) -> None:
    found, _ = problems_of(source)
    codes = [code for code, *_ in found]
    assert len([code for code in codes if not code.startswith("type-clash")]) <= 1
    assert len(codes) <= 2, codes
    assert not (len(codes) == 2 and codes[0] == codes[1]), codes


def test_a_fault_in_a_pipeline_that_is_inlined_twice_is_told_once() -> None:
    module = written(
        STEPS
        + "@pipeline\ndef inner(q: str): return one(q)  # HERE\n"
        + "@pipeline\ndef p(q: str): return [inner(q), inner(q)]"
    )
    (problem,) = check(module["p"])
    assert problem.where == module.where("HERE")


@pytest.mark.parametrize(
    "source",
    [
        "return loose(n)",
        "return one(loose(n))",
        "return route(n, {1: one(n)}, default=text(n))",
        "return route(pick, {'a': n, 'b': q})",
        "return route(pick, {'a': n}, default=q)",
        "return route(labelled(n), {'a': n})",
        "return each(gen(n), lambda chunk: (chunk, q), at_once=2)",
        "return each(each(ns, one, at_once=1), lambda m: both([m, n]), at_once=2)",
        "return race(gen(n), up(gen(n)), stagger_s=1)",
        "return fallback(collect(gen(n)), None)",
        "return ask(find(n).text)",
        "return pair((n, 3))",
        "said = gen(n)\nreturn each(ns, lambda m: (m, collect(up(said))), at_once=2)",
        "return slow(n, policy=Policy(timeout_s=3))",
        "return ask(q, policy=Policy(first_chunk_s=3, idle_s=2, timeout_s=9))",
        "return {'a': [n, (q, 3)], 'b': flag}",
        "return loose(Box([3]))",
        "return prompt('{q!r:>{n}} {template} {ns[0]} {{}}', q=q, n=n, template=q, ns=ns)",
        "return prompt(q, n=n)",
        "return classify(q, labels=['a', 'b'])",
        "return route(classify(q, labels=('a', 'b')), {'a': n, 'b': n})",
        "return route(classify(q, labels={'a': '', 'b': ''}), {'a': n}, default=n)",
        "return route(classify(q, labels=['a', q]), {'a': n, 'c': n})",
        "return route(classify(q, labels=loose(q)), {'a': n, 'c': n})",
        "return route(classify(q, labels=('a', 'b')).confidence, {1.0: n}, default=n)",
        "return generate(q, returns=None)",
        "return prompt('<wire x> {q} <wires q>', q=q)",
        "box = Box(3)\nfor _ in range(30): box = Box(box)\nreturn loose([n, box])",
    ],
)
def test_what_is_right_has_no_problems(source: str) -> None:
    found, _ = problems_of(source)
    assert found == []


@attrs.frozen(eq=False)
class Known:
    """One of several who know each other."""

    others: list[object] = attrs.field(repr=False)


def test_objects_that_know_each_other_are_looked_through_once() -> None:
    """Back-references lead from each of them to all the others, and from there again."""
    people: list[object] = []
    people += [Known(people) for _ in range(50)]
    assert sum(1 for _ in islice(values_held(people), 10_000)) == 101
    assert [*wires_held([people, people])] == []


def test_an_object_that_is_reached_too_deep_is_looked_into_where_it_is_less_deep() -> None:
    wire = written("@step\ndef a(n): ...\n@pipeline\ndef p(n): return a(n)")["p"].output
    held = Known([Known([wire])])
    deep: object = held
    for _ in range(18):
        deep = [deep]
    assert [*wires_held([deep, held])] == [*wires_held([held, deep])] == [wire]
