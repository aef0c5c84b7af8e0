"""Refusals show a line that is right: following them gives what the wrong line was meant to give."""

from __future__ import annotations

import linecache

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from orchestra.compiler.check import check
from orchestra.errors import DefinitionError
from orchestra.graph.source.site import _path
from tests.graph.mending import (
    GENERATE,
    STEPS,
    function,
    meant,
    mended,
    refusal,
    result,
    taken_apart,
)
from tests.graph.written import Written

BODIES = [
    # choices
    "if flag:\n    return shout(q)\nreturn q",
    "if not flag:\n    return shout(q)\nelse:\n    return q",
    "x = q\nif flag:\n    x = shout(q)\nreturn x",
    "if flag:\n    x = q\nelse:\n    x = shout(q)\nreturn pair_up(x, q)",
    "if q:\n    return shout(q)\nreturn q",
    'if q == "why not":\n    return shout(q)\nreturn q',
    'if q != "why not":\n    return shout(q)\nreturn q',
    'if "why not" == q:\n    return shout(q)\nreturn q',
    'if n == 1:\n    return q\nelif n == 3:\n    return shout(q)\nelse:\n    return "none"',
    "if n < m and len(q) > 3:\n    return shout(q)\nreturn q",
    'if q.startswith("why"):\n    return shout(q)\nreturn q',
    'return shout(q) if flag else "no"',
    'return shout("x" if n > 2 else q)',
    "return n + 1 if flag else m",
    'match n:\n    case 1:\n        return q\n    case 3 | 4:\n        return shout(q)\n    case _:\n        return "none"',
    "if n == 1:\n    return q\nelif n == 3:\n    return shout(q)\nelse:\n    raise ValueError(n)",
    "if n == 3:\n    x = shout(q)\nelse:\n    raise ValueError(n)\nreturn x",
    "match n:\n    case 1:\n        return q\n    case 3 | 4:\n        return shout(q)\n    case _:\n        raise ValueError(n)",
    'match q:\n    case "why not":\n        x = shout(q)\n    case _:\n        x = q\nreturn x',
    "return {3: shout(q), 4: q}[n]",
    "return {4: shout(q)}.get(n, q)",
    "table = {3: shout(q), 4: q}\nreturn table[n]",
    'return {"a": 1}.get(q)',
    'match n:\n    case 3:\n        return q\n    case 2 | 3:\n        return shout(q)\n    case _:\n        return "none"',
    "match n:\n    case 1:\n        return q\n    case 2:\n        return 'two'\nreturn shout(q)",
    "x = 'none'\nmatch n:\n    case 1:\n        x = shout(q)\nreturn x",
    "return (lambda text: text)(q) if any(len(text) > 1 for text in texts) else (lambda: q)()",
    'return q or "none"',
    "return flag and not n",
    "if shout(q):\n    return shout(q)\nreturn q",
    "if words(q) and len(words(q)) > 1:\n    return q\nreturn shout(q)",
    "return (q, n) if not flag else (n, q)",
    "if flag == True:\n    return q\nreturn shout(q)",
    "if n == m:\n    return q\nreturn shout(q)",
    # repetition
    "out = []\nfor text in texts:\n    out.append(shout(text))\nreturn out",
    "return [shout(text) for text in texts]",
    "return [pair_up(text, q) for text in texts]",
    "return [shout(text) for text in sorted(texts)]",
    "return [text.upper() for text in texts]",
    "return [passage.text for passage in passages if passage.score > 0.3]",
    "return sum(passage.score for passage in passages)",
    "return [shout(text) for text in texts] + [shout(text) for text in words(q)]",
    "return list({text: shout(text) for text in texts}) or [q]",
    "return {text: len(text) for text in texts}",
    "return {text: shout(text) for text in texts}",
    "return {text[0]: pair_up(text, q) for text in texts}",
    "found = {value: shout(value) for value in words(q)}\nreturn pair_up(q, found['why'])",
    "return many([*(texts or []), q])",
    "return [*(texts or words(q)), shout(q)]",
    "return [*passages, Passage('0', q, 'new.md')]",
    "return list(map(shout, texts))",
    "return list(map(lambda text: pair_up(text, q), words(q)))",
    "return max(map(shout, texts))",
    "return list(shout(text) for text in texts)",
    'return "+".join([shout(q), shout(q)])',
    'return f"{shout(q)}, {shout(q)}"',
    "return many([shout(text) for text in texts])",
    "return many(shout(text) for text in texts)",
    "return list(texts)",
    "return max(texts)",
    "return sorted(passages, key=lambda each: each.score)[0].text",
    "a, b = pair\nreturn pair_up(b, a)",
    "first, *rest = texts\nreturn pair_up(first, many(rest))",
    "first, second = words(q)\nreturn pair_up(second, first)",
    "return pair_up(*pair)",
    "return pair_up(q, *texts[:1])",
    "return pair_up(**opts)",
    "return pair_up(*texts[:1], second=q)",
    "return [*texts, q]",
    "return {**opts, 'third': q}",
    "return dict(opts)",
    "q.strip()\nreturn q",
    # text
    'return f"{q} and {shout(q)!r:>12} {passages[0].text} {VERSION} {{}}"',
    'return shout(\n    f"{q} "\n    f"and {n:03}"\n)',
    'return f"{len(q)} characters"',
    'return f"{n:{m}}"',
    'return "{a} and {b}".format(a=q, b=shout(q))',
    'return "{} and {}".format(q, n)',
    'return "%s and %d" % (q, n)',
    'return "a" + q + "b"',
    'return "a {" + q + f" {n}" + shout(q)',
    'return "%s, 100%% and %s {}" % (q, shout(q))',
    'return "all of %s" % q',
    'return "%s" % (q,)',
    'return prompt(f"{q} and {{n}}, {{texts[0]}}", n=n, texts=texts)',
    'return prompt("{n} and " + q + f" {shout(q)}", n=n)',
    'return prompt("%s and {q}" % q, q=n)',
    'return prompt("{{n}} {}".format(q), n=n)',
    'return prompt(f"{q} and {shout(q)} {{shout}}", shout=n, q=q)',
    'return prompt(f"{q} and {{q}}", **opts, q=n)',
    'return "%d of %s" % (n, q)',
    'return "{0} and {1!r:>12} {0} {{}} {a}".format(q, shout(q), a=n)',
    'return "{0.text} and {1[0].text}".format(passages[0], passages)',
    'return "{}{}".format(*pair)',
    'return "{:{}}".format(q, n)',
    'return ", ".join([q, shout(q)])',
    'parts = [q, shout(q)]\nreturn shout(", ".join(parts))',
    'return ", ".join(texts)',
    "return str(n)",
    "return q.upper().strip()",
    "return json.dumps(texts)",
    "return repr(n * 2)",
    "return f\"{q} {shout(q)} {shout(q)!s} {VERSION + 1} {opts['first']} {opts['second']}\"",
    "return statistics.fmean(float(word) for word in [opts['first'], '2'])",
    'return ", ".join([word.upper() for word in [q, opts["first"]]])',
    'return q + ", ".join([shout(word) for word in [q, opts["first"]]])',
    'return ", ".join([word.upper() for word in words(q)])',
    # numbers
    "total = n * 2 + m\nreturn total",
    "total = 1\ntotal += n\nreturn double(total)",
    "return n < m",
    "return 1 < n < m",
    "return -n",
    "return n / m",
    "return double(n) + double(m)",
    "return double(n + m)",
    "return max(n, m, 4)",
    "return int(q[:0] + '12')",
    "return float(n)",
    "return round(n / m, 2)",
    "return math.floor(n / m)",
    "return sum([n, m])",
    "return divmod(m, n)",
    "return [1, 2, 3, 4][n]",
    "return len(texts)",
    "assert n < m\nreturn n + m",
    "assert flag\nreturn flag",
    "assert q, 'nothing'\nreturn q",
    "x = shout(q)\nassert x, f'nothing {n}'\nreturn x",
    "x = shout(q)\nassert x == 'why not!'\nreturn x",
    "assert q != pair_up(q, shout(q)), shout(q)\nreturn q",
    "if not flag:\n    raise ValueError('it is down')\nreturn flag",
    "if shout(q) == n:\n    raise ValueError(f'{n} for {q}', 1)\nreturn double(n)",
    # looking
    'return "why" in q',
    'return q in {"why not", "b"}',
    'return q in ("why not", "b")',
    "return texts[n - 1]",
    "return texts[:n]",
    "return passages[n - 2].text",
    "assert n > 2, 'too small'\nreturn double(n)",
    "local = 7\nreturn n + local",
]


@pytest.mark.parametrize("body", BODIES)
def test_following_a_refusal_gives_what_was_meant(body: str) -> None:
    refusal(body)
    assert result(mended(body)) == meant(body)


def _written(template: str, *parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Expressions of this form, with a part at each `{}`."""
    return st.tuples(*parts).map(lambda found: "(" + template.format(*found) + ")")


numbers: st.SearchStrategy[str] = st.deferred(
    lambda: (
        st.sampled_from(["n", "m", "7", "n", "m"])
        | _written("{} + {}", numbers, numbers)
        | _written("{} * {}", numbers, numbers)
        | _written("-{}", numbers)
        | _written("abs({})", numbers)
        | _written("max({}, {})", numbers, numbers)
        | _written("len({})", strings | lists)
        | _written("double({})", numbers)
        | _written("{} if {} else {}", numbers, truths, numbers)
    )
)
strings: st.SearchStrategy[str] = st.deferred(
    lambda: (
        st.sampled_from(["q", "q", "texts[0]", "pair[1]", "passages[0].text", "'plain'"])
        | _written("{} + {}", strings, strings)
        | _written("{}.upper()", strings)
        | _written("str({})", numbers)
        | _written("f'<{{{}}} {{{}:>4}}>'", st.just("q"), st.just("n"))
        | _written('", ".join({})', lists)
        | _written("shout({})", strings)
        | _written("pair_up({}, {})", strings, strings)
        | _written("{} or {}", strings, strings)
    )
)
lists: st.SearchStrategy[str] = st.deferred(
    lambda: (
        st.just("texts")
        | _written("[{}, {}]", strings, strings)
        | _written("sorted({})", lists)
        | _written("[word.upper() for word in {}]", lists)
        | _written("[shout(word) for word in {}]", lists)
        | _written("words({})", strings)
    )
)
truths: st.SearchStrategy[str] = st.deferred(
    lambda: (
        st.just("flag")
        | _written("{} < {}", numbers, numbers)
        | _written("{} == 'why not'", strings)
        | _written("{} in {}", strings, lists)
        | _written("not {}", truths)
        | _written("{} and {}", truths, truths)
    )
)
EXPRESSIONS = numbers | strings | lists | truths


@settings(max_examples=150)
@given(EXPRESSIONS)
def test_whatever_is_calculated_from_wires_can_be_mended(expression: str) -> None:
    """No chain of refusals ends in an error of ours, or in another result."""
    body = f"return {expression}"
    pipeline = mended(body)
    # `7 or q` never looks at q, `len([shout(q)])` not at its item, and neither does a pipeline.
    assume(all(not problem.code.startswith("unused-") for problem in check(pipeline)))
    assert result(pipeline) == meant(body)


@pytest.mark.parametrize(
    ("body", "right"),
    [
        ("while flag:\n    q = shout(q)\nreturn q", "flag = some_step(flag)  # the loop runs"),
        ("while (x := flag): pass", "route(flag, {...: ..., ...: ...})"),
        ("return '{} {'.format(q)", "return format_it(q)"),
        ("if (x := flag):\n    return x\nreturn q", "route(flag, {...: ..., ...: ...})"),
        ("return q if (x := flag) else x", "route(flag, {...: ..., ...: ...})"),
        ("if flag:\n    print('x')\nreturn q", "route(flag, {True: ..., False: ...})"),
        (
            "if flag:\n    q = shout(q)\nelse:\n    return q\nreturn q",
            "route(flag, {True: ..., False: ...})",
        ),
        ("if flag:\n    new = shout(q)\nreturn q", "route(flag, {True: ..., False: ...})"),
        (
            "for text in texts:\n    print(text)\n    q = text",
            "each(texts, lambda text: ..., at_on",
        ),
        ("for a, b in texts:\n    print(a)", "each(texts, lambda item: ..., at_once=8)"),
        ("return [shout(text) for text in texts if flag]", "each(texts, some_step, at_once=8)"),
        ("return [shout(a) for a in ['x'] if flag]", "route(flag, {...: ..., ...: ...})"),
        ("*a, b = texts\nreturn b", "each(texts, some_step, at_once=8)"),
        ("return sorted([q, 'a'], key=lambda a: shout(a))", "route(shout(...), {...: ..., "),
        ("return race(*texts)", "each(texts, some_step, at_once=8)"),
        ("a = b = c, d = texts\nreturn a", "each(texts, some_step, at_once=8)"),
        ("match shout(q), n:\n    case 'a', 1:\n        return q", "route(shout(...), {...: ..., "),
        (
            "if n == 3:\n    return q\nelif q:\n    return 'x'\nelse:\n    return shout(q)",
            "route(n, {3: ...}, default=...)",
        ),
        (
            "match n:\n    case 1:\n        return q\n    case None | 3:\n        return m",
            "return route(n, {1: q, None: m, 3: m})",
        ),
        (
            "match n:\n    case 1:\n        return q\n    case int():\n        return m",
            "route(n, {...: ..., ...: ...})",
        ),
        (
            "match n:\n    case 1 if flag:\n        return q\n    case _:\n        return m",
            "route(n, {...: ..., ...: ...})",
        ),
        (
            "match n:\n    case 1 | int():\n        return q\n    case other:\n        return other",
            "route(n, {...: ..., ...: ...})",
        ),
        ("with q:\n    return q", "some_step(q)  # with a step that enters it, and leaves it"),
        ("q.text = 'x'\nreturn q", "some_step(q)  # with a step that returns a changed copy"),
        ("del texts[0]\nreturn q", "some_step(texts)  # with a step that returns a changed copy"),
        ("assert (x := flag)\nreturn q", "route(flag, {...: ..., ...: ...})"),
    ],
)
def test_where_nothing_fits_the_advice_is_a_general_one(body: str, right: str) -> None:
    assert refusal(body).right.startswith(right)


def test_a_case_is_shown_below_the_head_of_its_match() -> None:
    """What is to be written instead stands in place of both."""
    told = refusal("match n:\n    case 1:\n        return q\n    case _:\n        return m")
    assert told.wrong == "match n:\n    case 1:"


@pytest.mark.parametrize(
    "body", ['return "+".join([shout(q), shout(q)])', 'return f"{shout(q)} {shout(q)}"']
)
def test_a_step_that_is_called_twice_is_called_twice_as_advised(body: str) -> None:
    """Two calls of a model are two answers."""
    nodes = mended(body).nodes
    assert [node.label for node in nodes].count("shout") == 2


@pytest.mark.parametrize(("kind", "awaits"), [("def", ""), ("async def", "await ")])
def test_a_loop_is_a_steps_own_with_the_steps_that_it_asks(kind: str, awaits: str) -> None:
    steps = f"@step\n{kind} size(text: str) -> int:\n    return len(text)\n"
    loop = "    while size(text) < 5:\n        text = text + '!'\n    return text"
    with pytest.raises(DefinitionError) as caught:
        Written(f"{steps}@pipeline\ndef p(text: str) -> str:\n{loop}").run()
    told = taken_apart(str(caught.value))
    assert told.right == "text = some_step(text)  # the loop runs inside the step"
    assert told.step == (
        f"@step\n{kind} some_step(text: str) -> str:\n"
        f"    while {awaits}size.call(text) < 5:\n        ...\n    return text"
    )
    step = told.step.replace("...", "text += '!'")
    followed = (
        f"{steps}{step}\n@pipeline\ndef p(text: str) -> str:\n    {told.right}\n    return text"
    )
    assert result(Written(followed).run()["p"], {"text": "a"}) == "a!!!!"


@pytest.mark.parametrize("head", ["while True", "for _ in range(9)"])
@pytest.mark.parametrize("leaves", ["break", "return text"])
def test_a_loop_that_a_wire_ends_is_a_steps_own(head: str, leaves: str) -> None:
    test = "        if size.call(text) > 4:\n            "
    body = (
        f"    {head}:\n        text = text + '!'\n        if size(text) > 4:\n            {leaves}"
    )
    steps = "@step\ndef size(text: str) -> int:\n    return len(text)\n"
    steps += "@step\ndef more(text: str) -> str:\n    return text + '!'\n"
    body = body.replace("text + '!'", "more(text)")
    with pytest.raises(DefinitionError) as caught:
        Written(f"{steps}@pipeline\ndef p(text: str) -> str:\n{body}\n    return text").run()
    told = taken_apart(str(caught.value))
    assert told.right == "text = some_step(text)  # the loop runs inside the step"
    assert told.step == (
        "@step\ndef some_step(text: str) -> str:\n"
        f"    {head}:\n        ...\n{test}break\n    return text"
    )
    step = told.step.replace("...", "text += '!'")
    followed = (
        f"{steps}{step}\n@pipeline\ndef p(text: str) -> str:\n    {told.right}\n    return text"
    )
    assert result(Written(followed).run()["p"], {"text": "a"}) == "a!!!!"


def test_a_loop_that_looks_for_one_of_its_own_items_is_a_route() -> None:
    body = "for name in ('a', 'b'):\n    if q == name:\n        break\nreturn q"
    assert "some_step" not in refusal(body).right


def test_a_loop_over_a_stream_or_a_pipeline_is_advised_on_in_general() -> None:
    assert refusal("while inner(q):\n    q = shout(q)\nreturn q").right.startswith("route(shout(")


def test_what_the_library_refuses_by_itself_is_told_as_a_wires() -> None:
    source = "import dataclasses\n@dataclasses.dataclass\nclass Thing:\n    name: str\n@step\n"
    source += "def make(q: str) -> Thing:\n    return Thing(q)\n@pipeline\ndef p(q: str):\n"
    with pytest.raises(DefinitionError) as caught:
        Written(f"{source}    return dataclasses.replace(make(q), name='x')\n").run()
    assert taken_apart(str(caught.value)).right == "return replace(make(q))"
    with pytest.raises(TypeError, match="dataclass instances"):
        Written(f"{source}    return [q, dataclasses.asdict(3)]\n").run()


def test_what_asyncio_gathers_is_side_by_side_here() -> None:
    written = "from asyncio import gather\n" + STEPS
    body = "@pipeline\ndef p(q: str) -> Any:\n    return gather(shout(q), words(q))"
    with pytest.raises(DefinitionError) as caught:
        Written(written + body).run()
    right = taken_apart(str(caught.value)).right
    assert right == "return [shout(q), words(q)]  # steps run at once unless one reads another"
    followed = body.replace("return gather(shout(q), words(q))", right)
    assert result(Written(written + followed).run()["p"]) == ["why not!", ["why", "not"]]


STREAMS = """
@step
async def talk(text: str) -> AsyncIterator[str]: yield text
@step
async def up(chunks: Stream[str]) -> AsyncIterator[str]: yield ""
@pipeline
def pair(first: str, second: str, third: str = "") -> str: return first
@pipeline
def p(q: str, both: tuple[str, str]) -> Any:
    said = talk(q)
    """


@pytest.mark.parametrize(
    ("line", "right"),
    [
        (
            "return [talk(q).using(Policy(idle_s=1)), 3]",
            "return [talk.using(Policy(idle_s=1))(q), 3]",
        ),
        ("return talk(q).using(some=3)[0]", "return talk.using(some=3)(q)[0]"),
        ("return len(said)", "return len_of(collect(said))"),
        ('return f"{said}"', 'return prompt("{said}", said=collect(said))'),
        ('return f"{talk(q)} {said:{q}}"', "return text(collect(talk(q)), collect(said), q)"),
        ("return [up(chunk) for chunk in said]", "return each(said, up, at_once=8)"),
        ("return 'a' + q + said", 'return prompt("a{q}{said}", q=q, said=collect(said))'),
        ("return 'a%%%s' % q", 'return prompt("a%{q}", q=q)'),
        ("return 'a{}'.format(q)", 'return prompt("a{q}", q=q)'),
        ("print(q)\n    return q", "q = print_of(q)  # the step with this effect runs only if"),
        (
            "print(talk(q), 3)\n    return q",
            "value = print_of(collect(talk(q)))  # the step with this",
        ),
        ("assert talk(q)\n    return q", "value = checked(collect(talk(q)))  # the step with this"),
        ("print((x := q))\n    return q", 'prompt("... {name} ...", name=q)'),
        ("return 'a' in said", "return decide(collect(said))"),
        ("return pair(*both)", "return pair(both[0], both[1])"),
        ("return pair(first=q, **both)", 'return pair(first=q, second=both["second"])'),
        ("return pair(q, **both)", 'return pair(q, second=both["second"])'),
        ('return f"{q} {(q)}{both[0]} {both[1]}"', 'return prompt("{q} {q}{both} {both_}", q=q, '),
        ("return f'{1 + 1} {q}'", 'return prompt("{part} {q}", part=1 + 1, q=q)'),
    ],
)
def test_streams_and_pipelines_are_advised_on_as_well(line: str, right: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        Written(STREAMS + line).run()
    assert taken_apart(str(caught.value)).right.startswith(right)


@pytest.mark.parametrize("sum_", [" + n" * 400, ".a" * 400 + " + n"])
def test_what_is_nested_too_deep_to_be_rewritten_is_advised_on_in_general(sum_: str) -> None:
    assert refusal(f"return n{sum_}").right.startswith("some_step(")


def test_lines_are_counted_as_python_counts_them() -> None:
    """Not at a form feed, nor at a separator inside a text."""
    assert refusal('\x0cx = "a\u2028\x85b"\nreturn q + "x"').wrong == 'return q + "x"'


def test_an_object_of_a_model_is_no_stream() -> None:
    body = 'return f"{generate(q, returns=Found)} and {generate(q)}"'
    with pytest.raises(DefinitionError) as caught:
        Written(GENERATE + STEPS + function(body)).run()
    right = 'prompt("{generate} and {generate_}", generate=generate(q, returns=Found), '
    assert right in str(caught.value)


def test_a_file_that_was_changed_since_has_no_line_to_show() -> None:
    module = Written("@pipeline\ndef p(q: str): return q + 'x'")
    for line in ("def (\n", "\0\n"):
        linecache.cache[module.filename] = (1, None, [line] * 50, module.filename)
        with pytest.raises(DefinitionError, match=r"right: some_step\(q\)"):
            module.run()


def test_code_that_has_lost_its_columns_has_no_site() -> None:
    assert _path("1", (1, 1, None, None)) == ()


def test_a_wire_that_is_refused_outside_any_function_is_told_by_its_line() -> None:
    module = Written(
        """
        kept = []
        @pipeline
        def p(q: str):
            kept.append(q)
            return q
        if kept[0]: pass  # HERE
        """
    )
    with pytest.raises(DefinitionError) as caught:
        module.run()
    assert str(caught.value).startswith(module.where("HERE"))
