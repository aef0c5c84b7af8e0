"""What Python tests without asking a wire is refused, where it is a wire that is tested."""

from __future__ import annotations

import linecache

import pytest

from orchestra.errors import DefinitionError
from tests.graph.mending import GENERATE, STEPS, function, meant, mended, refusal, result
from tests.graph.written import Written

REFUSED = [
    'if q is None:\n    return "none"\nreturn shout(q)',
    "if maybe is None:\n    return shout(q)\nreturn maybe",
    'if maybe is None:\n    maybe = "none"\nreturn pair_up(q, maybe)',
    'if q is not None:\n    return shout(q)\nreturn "none"',
    'if q is None:\n    q = "none"\nreturn shout(q)',
    'if q is None and not flag:\n    return "none"\nreturn shout(q)',
    'return shout(q if q is not None else "none")',
    'return shout(q) if flag is True else "no"',
    'return shout(q) if None is q else "no"',
    'return shout(q) if pair[0] is None else "no"',
    'return shout(q) if label.name is None else "no"',
    'found = words(q)\nif found is None:\n    return "none"\nreturn many(found)',
    'return "none" if words(q) is None else shout(q)',
    'found: list[str] = words(q)\nreturn "none" if found is None else many(found)',
    'a = b = words(q)\nreturn "none" if b is None else many(a)',
    'same = q\nreturn "none" if same is None else shout(same)',
    'x: str = pair[0]\nreturn "none" if x is None else shout(x)',
    'x = label.name\ny = x\nreturn "none" if y is None else shout(y)',
    'x = inner(q)\nreturn "none" if x is None or inner(x) is None else shout(x)',
    'y = 2\ndef more(t):\n    return shout(t)\nreturn q if q is None or more(q) == y else "x"',
    "if isinstance(q, str):\n    return shout(q)\nreturn q",
    "assert isinstance(q, str)\nreturn shout(q)",
    "return shout(q) if type(n) is int else q",
    'return "no" if hasattr(q, "gone") else shout(q)',
    'return "no" if callable(q) else shout(q)',
    "match maybe:\n    case None:\n        return shout(q)\n    case _:\n        return maybe",
    "match q:\n    case str():\n        return shout(q)\n    case int():\n        return shout('n')",
    'match q:\n    case int():\n        x = "n"\n    case None:\n        x = "none"\n    case _:\n        x = q\nreturn x',
]


@pytest.mark.parametrize("body", REFUSED)
def test_following_the_refusal_gives_what_was_meant(body: str) -> None:
    assert result(mended(body)) == meant(body)


OF_ITEMS = {
    'return each(texts, lambda t: shout("a") if t is None else shout(t), at_once=8)': "b! a! c!",
    "x = each(texts, lambda t: t, at_once=8) if q is None else texts\n"
    'return each(x, lambda t: shout("none") if t is None else shout(t), at_once=8)': "b! a! c!",
    'return each(texts, lambda t: pair_up(t, "n" if q is None else "m"), at_once=8)': "bm am cm",
    "def one(t):\n    if isinstance(t, str):\n        return shout(t)\n    return shout('x')\n"
    "return each(texts, one, at_once=8)": "b! a! c!",
    "def one(t):\n    loud = shout(t)\n    return 'x' if loud is None else loud\n"
    "return each(texts, one, at_once=8)": "b! a! c!",
    'return each(texts, lambda t: pair_up(*[shout("a") if t is None else t for _ in (1, 2)]), '
    "at_once=8)": "bb aa cc",
}


@pytest.mark.parametrize(("body", "gives"), OF_ITEMS.items())
def test_the_body_of_an_each_is_read_as_well(body: str, gives: str) -> None:
    assert refusal(body).right
    assert result(mended(body)) == gives.split()


@pytest.mark.parametrize("brackets", ["[]", "()", "{}"])
@pytest.mark.parametrize("test", ["t is None", "isinstance(t, str)"])
def test_the_filter_of_a_comprehension_is_read_as_well(brackets: str, test: str) -> None:
    """Which Python 3.11 compiles apart, and later ones still do so for generators."""
    made = f"{brackets[0]}x for x in 'ab' if {test}{brackets[1]}"
    told = refusal(f"return each(texts, lambda t: pair_up(*{made}), at_once=8)")
    assert told.says.startswith("`t` cannot be tested with ")


@pytest.mark.parametrize(
    "body",
    [
        "return each(texts, lambda *t: shout('a') if t is None else shout(t[0]), at_once=8)",
        "return each(texts, lambda t=None: shout(t), at_once=8)",
        "x = None\nreturn each(texts, lambda t: shout(t) if x is None else t, at_once=8)",
        "return each(texts, lambda t: (lambda u: shout(t) if u is None else t)(None), at_once=8)",
        "return each(texts, any_text, at_once=8)",
    ],
)
def test_a_body_may_test_what_is_no_wire(body: str) -> None:
    around = "def any_text(t):\n    return 'none' if t is None else shout(t)\n"
    assert Written(STEPS + around + function(body)).run()["refused"].name == "refused"


@pytest.mark.parametrize(
    "body",
    [
        "match texts:\n    case []:\n        return q\n    case [x, *_]:\n        return shout(x)",
        'match opts:\n    case {"first": x}:\n        return shout(x)\nreturn q',
        "match q:\n    case str(x):\n        return shout(x)\nreturn q",
        "match q:\n    case (str() | None) as x:\n        return shout(x)\nreturn q",
    ],
)
def test_a_pattern_that_takes_a_value_apart_is_refused_in_general(body: str) -> None:
    told = refusal(body)
    assert "cannot be matched" in told.says
    assert told.right.endswith("{...: ..., ...: ...})  # each arm runs only if it is taken")


@pytest.mark.parametrize(
    "body",
    [
        "assert q is not None\nreturn shout(q)",  # for the type checker
        "x = None\nfor _ in range(2):\n    x = shout(q) if x is None else shout(x)\nreturn x",
        "q = None\nif q is None:\n    return shout('x')",
        "def aside(q):\n    return q is None\nreturn shout(q) if not aside(3) else q",
        "return [shout(q) for q in ('a', None) if q is not None]",
        "for n in (1, None):\n    if n is not None:\n        q = shout(q)\nreturn q",
        "style = 'x'\nmatch style:\n    case None:\n        return q\n    case str():\n        return shout(q)",
        "try:\n    int('x')\nexcept ValueError as n:\n    q = shout(q) if isinstance(n, ValueError) else q\nreturn q",
        "x = None\ndef aside(q):\n    return q is None\nreturn shout(q) if x is None and not aside(3) else q",
        "t = q\ndef q():\n    return 1\nreturn shout('x') if q is None else shout(t)",
        "isinstance = lambda *_: True\nreturn shout(q) if isinstance(q, str) else q",
        "same = q\nreturn shout(q) if same is q else q",
        "x = q\nfor _ in range(2):\n    y = x\n    if y is not None:\n        q = shout(q)\n    x = None\nreturn q",
        "match 3:\n    case n:\n        return shout(q) if isinstance(n, int) else q",
    ],
)
def test_what_is_no_wire_may_be_tested(body: str) -> None:
    assert Written(STEPS + function(body)).run()["refused"].name == "refused"


def test_what_a_race_gives_is_a_wire_as_well() -> None:
    told = refusal("text = race(shout(q), shout(q))\nif text is None:\n    return q\nreturn text")
    assert told.right == "return route(decide(text), {True: q, False: text})"
    assert "decide(text: str)" in told.step


def test_an_object_of_a_model_is_a_wire_as_well() -> None:
    body = "found = generate(q, returns=Found)\nmatch found:\n    case Found():\n        "
    body += "return q\n    case _:\n        return shout(q)"
    with pytest.raises(DefinitionError, match="`found` cannot be matched"):
        Written(GENERATE + STEPS + function(body)).run()


def test_a_name_from_around_the_function_means_what_it_means_there() -> None:
    around = "def make(extra, isinstance):\n    @pipeline\n    def p(q: str):\n        "
    around += "if isinstance(q, str) and extra is None:\n            return shout(q)\n        "
    around += "return q\n    return p\n    late = 1\n"
    module = Written(STEPS + around + "made = make(None, lambda *_: True)\n").run()
    assert result(module["made"]) == "why not!"


def test_a_failure_that_follows_the_wrong_branch_is_told_by_its_cause() -> None:
    told = refusal("if q is None:\n    text = shout('x')\nreturn text")
    assert told.wrong == "if q is None:"


@pytest.mark.parametrize("source", ["def (", "def other(): ...", ""])
def test_where_the_source_is_another_nothing_is_read(source: str) -> None:
    module = Written(STEPS + function("return shout(q) if q is None else q"))
    lines = [f"{source}\n"] * 50
    linecache.cache[module.filename] = (1, None, lines, module.filename)
    assert result(module.run()["refused"]) == "why not"
