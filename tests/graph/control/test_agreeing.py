"""Quorums and judged answers: what they make of their arguments, say of themselves, and refuse."""

from __future__ import annotations

import pytest

from orchestra.annotations.facts import spell
from orchestra.compiler.check import check
from orchestra.compiler.draw import as_json, as_mermaid, as_text
from orchestra.compiler.plan import plan
from orchestra.errors import DefinitionError
from orchestra.graph.nodes import type_of
from orchestra.testing.simulate import simulate
from tests.graph.control.test_constructs import HEAD, STEPS
from tests.graph.written import Written, written

JUDGES = f"""{STEPS}
from functools import partial
from orchestra import best_of, quorum
def longest(answers: list[str]) -> int: return 0
def same(one: int, other: str) -> bool: return True
def worst(answers: list[str]) -> str: return ""
async def slow(answers: list[str]) -> int: return 0
@step
async def expert(answers: list[str], question: str) -> int: return 0
@step
async def speaker(answers: list[str]) -> AsyncIterator[str]: yield ""
"""


def polled(body: str) -> str:
    return f"{JUDGES}\n{HEAD}return {body}  # HERE"


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ("quorum(2, text(n), text(n))", "str"),
        ("quorum(1, n, text(n), agree=same)", "int | str"),
        ("quorum(1, n.nope, n)", "Any"),
        ("quorum(1, count(n), n)", "Any"),
        ("best_of(text(n), text(n), judge=longest)", "str"),
        ("best_of(text(n), words[0], judge=partial(expert, question=text(n)))", "str"),
        ("best_of(n, 'a', judge=lambda answers: 0)", "int | str"),
    ],
)
def test_the_type_of_a_poll_is_that_of_its_arms(body: str, kind: str) -> None:
    assert spell(type_of(written(polled(body))["p"].output)) == kind


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("quorum(0, text(n), n)", "1 to the number of arms|wrong: quorum(0, text(...), n)|right: quorum(2, text(...), n)"),
        ("quorum(3, n, n)", "quorum(3, ...) of 2 arms|wrong: quorum(3, n, n)|right: quorum(2, n, n)"),
        ("quorum(True, n)", "wrong: quorum(True, n)|right: quorum(1, n)"),
        ("quorum(n, n, n)", "wrong: quorum(<wire n>, n, n)|right: quorum(2, n, n, n)"),
        ("quorum(2)", "wrong: quorum(2)|right: quorum(1, one, two, three)"),
        ("quorum(1, n, agree=text)", "quorum(agree=<step 'text' at"),
        ("quorum(1, n, stagger_s=-1)", "quorum(stagger_s=-1): stagger_s must be the number of seconds"),
        ("quorum(1, n, stagger_s=n)", "quorum(stagger_s=<wire n>): stagger_s must be the number"),
        ("quorum(1, n, agree=3)", "quorum(agree=3): agree must be a plain function"),
        ("best_of(judge=longest)", "best_of() has no arms; give it at least one"),
        ("best_of(n, judge=longest, least=2)", "best_of(least=2) of 1 arms: the number of arms that must"),
        ("best_of(n, judge=longest, least=n)", "best_of(least=<wire n>) of 1 arms"),
        ("best_of(n, judge=3)", "best_of(judge=3): judge must be a plain function"),
        ("best_of(n, judge=slow)", "best_of(judge=<function slow"),
        ("quorum(2, slow([]), slow([]))", "slow is not a step, so slow(...) is a coroutine here"),
        ("best_of(slow([]), slow([]), judge=longest)", "slow is not a step, so slow(...)"),
    ],
)  # fmt: skip
def test_what_cannot_be_built_is_told_at_its_line(body: str, says: str) -> None:
    module = Written(polled(body))
    with pytest.raises(DefinitionError) as caught:
        module.run()
    assert str(caught.value).startswith(module.where("HERE") + ": ")
    assert all(each in str(caught.value) for each in says.split("|"))


@pytest.mark.parametrize(
    ("body", "code", "says"),
    [
        (
            "quorum(1, count(n), text(n))",
            "stream-into-value",
            "quorum(arm 1:count) is Stream[str], but whole answers are compared",
        ),
        (
            "best_of(text(n), count(n), judge=longest)",
            "stream-into-value",
            "best_of(arm 2:count) is Stream[str], but whole answers are compared",
        ),
        (
            "quorum(2, n, text(n))",
            "type-clash",
            "quorum: arm 1:n is int and arm 2:text is str, which are never equal",
        ),
        ("best_of(n, n, judge=longest)", "type-clash", "but longest(answers=...) takes list[str]"),
        ("best_of(text(n), judge=worst)", "type-clash", "but pick(index=...) takes int"),
        ("best_of(text(n), judge=speaker)", "stream-into-value", "but pick(index=...) takes int"),
        ("quorum(2, text(n), n.nope)", "unknown-part", "n is int, without `.nope`"),
        ("best_of(text(n), judge=expert)", "missing-argument", "question"),
    ],
)
def test_what_does_not_fit_is_a_problem_and_one_only(body: str, code: str, says: str) -> None:
    problems = [p for p in check(written(polled(body))["p"]) if p.code != "unused-input"]
    (problem,) = problems
    assert problem.code == code
    assert says in problem.message


def test_the_fix_of_an_arm_that_streams_is_to_collect_it() -> None:
    problem = check(written(polled("quorum(1, count(n))"))["p"])[-1]
    assert problem.fix == "collect(count(...))"


def test_they_are_drawn_with_what_is_not_by_default() -> None:
    drawn = written(polled("quorum(2, text(n), text(n), agree=same)"))["p"]
    assert "quorum(count=2, agree=same)  ──> str" in as_text(drawn)
    assert '{{"quorum<br/>count=2<br/>agree=same<br/>str"}}' in as_mermaid(drawn)
    staggered = written(polled("quorum(1, text(n), text(n), stagger_s=2)"))["p"]
    assert "quorum(count=1, stagger_s=2.0)  ──> str" in as_text(staggered)
    (node,) = [each for each in as_json(drawn)["nodes"] if each["kind"] == "quorum"]
    assert node["options"] == {"count": 2, "agree": "same"}
    judged = "best_of(text(n), text(n), judge=longest{})"
    assert "best_of()" in as_text(written(polled(judged.format("")))["p"])
    assert "best_of(least=2)" in as_text(written(polled(judged.format(", least=2")))["p"])


def test_the_report_says_when_their_value_is_there() -> None:
    head = f"{JUDGES}\n@pipeline\ndef p(n: int):\n    return "
    explained = plan(written(head + "quorum(2, text(n), text(n), text(n))")["p"]).explain()
    assert explained.startswith("p: one value, str, available when 2 of 3 arms agree\n")
    judged = plan(written(head + "best_of(text(n), text(n), judge=longest)")["p"]).explain()
    assert "one value, list[str], available when each of 2 arms has given its value" in judged


@pytest.mark.parametrize("call", ["quorum(1, 1)", "best_of(1, judge=len)"])
def test_they_stand_in_pipelines_only(call: str) -> None:
    name = call.partition("(")[0]
    with pytest.raises(DefinitionError, match=rf"{name}\(...\) was called outside a pipeline"):
        written(f"from orchestra import best_of, quorum\n{call}")


def test_a_plain_judge_is_given_wires_by_partial() -> None:
    made = written(
        f"{JUDGES}\ndef nearest(texts: list[str], wanted: str) -> int: return texts.index(wanted)\n"
        "@pipeline\n"
        "def p(a: str, b: str) -> str: return best_of(a, b, judge=partial(nearest, wanted=b))"
    )["p"]
    assert check(made) == ()
    assert simulate(made, a="x", b="y").value == "y"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            "best_of(a, b, judge=lambda texts: texts.index(a))",
            r"best_of\(judge=\.\.\.\) holds the wire a, .*judge=partial\(best, a=a\)",
        ),
        (
            "quorum(1, a, b, agree=lambda one, other: one == a)",
            r"quorum\(agree=\.\.\.\) holds the wire a, .*comparable\(answer, a\)",
        ),
        (
            "quorum(1, a, b, agree=partial(lambda a, one, other: one == a, b.x))",
            r"quorum\(agree=\.\.\.\) holds the wire b\.x, .*comparable\(answer, b\.x\), .*value: str",
        ),
        (
            "fallback(a, b, validate=lambda text: a in text)",
            r"fallback\(validate=\.\.\.\) holds the wire a, .*checked\(answer, a\)",
        ),
        (
            "step(lambda text: text + a)(b)",
            r"step '<lambda>' holds the wire a, .*pass a in the call",
        ),
    ],
)
def test_a_wire_in_a_function_that_is_called_later_is_refused(body: str, message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        written(f"{JUDGES}\n@pipeline\ndef p(a: str, b: str) -> str: return {body}")
