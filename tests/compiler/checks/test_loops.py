"""Steps that are made in a loop: told where they would read what only the loop's end leaves."""

from __future__ import annotations

import linecache

import pytest

from orchestra.compiler.check import check
from orchestra.testing.simulate import simulate
from tests.graph.written import Written, written

LATE = {
    "in a pipeline": """
@pipeline
def p(q: str) -> list[str]:
    out = []
    for n in range(3):
        @step
        def said(q: str) -> str: return q + str(n)  # HERE
        out.append(said(q))
    return out
""",
    "in a module": """
made = {}
for n, (m, _) in [("0", "ab"), ("1", "cd")]:
    @step(name=n)
    async def said(q: str) -> str:  # HERE
        return "".join([q for _ in n])
    made[n] = said
@pipeline
def p(q: str) -> list[str]: return [made["0"](q), made["1"](q)]
""",
    "in a loop in a loop": """
def made():
    for n in "ab":
        for m in "cd":
            if m:
                @step
                def said(q: str) -> str: return (lambda: q + n)()  # HERE
                yield said
@pipeline
def p(q: str) -> list[str]: return [each(q) for each in made()]
""",
}
FINE = {
    "a parameter": """
        @step
        def said(q: str, n: int = n) -> str: return q + str(n)
        out.append(said(q))
""",
    "a factory": """
        def made(n):
            @step
            def said(q: str) -> str: return q + str(n)
            return said
        out.append(made(n)(q))
""",
    "a variable of its own": """
        @step(name=f"said_{n}")
        def said(q: str, m: int) -> str:
            for n in range(m + 1): last = q + str(n)
            return last
        out.append(said(q, n))
""",
    "a variable of no loop": """
        @step
        def said(q: str, m: int) -> str: return q + str(m) + more.n
        out.append(said(q, n))
""",
    "a step above it": "        out.append(above(q, n))\n",
}


@pytest.mark.parametrize("name", LATE)
def test_a_step_that_reads_the_variable_of_its_loop_is_told_once(name: str) -> None:
    module = written(LATE[name])
    (problem,) = check(module["p"])
    assert (problem.code, problem.where) == ("late-value", module.where("HERE"))
    assert "is created for each `n`, but reads it when it runs" in problem.message
    assert "with a parameter 'n', and pass it: `" in problem.fix


@pytest.mark.parametrize("name", FINE)
def test_who_gives_it_the_value_gets_each_of_them(name: str) -> None:
    above = "@step\ndef above(q: str, n: int) -> str: return q + str(n)\n"
    body = f"    out = []\n    for n in range(3):{FINE[name]}    return out\n".replace(
        ":  ", ":\n  "
    )
    module = written(
        f"class More: n = ''\nmore = More()\n{above}@pipeline\ndef p(q: str) -> list[str]:\n{body}"
    )
    assert check(module["p"]) == ()
    assert simulate(module["p"], q="q").value == ["q0", "q1", "q2"]


@pytest.mark.parametrize("source", ["", "def ("], ids=["none", "changed since"])
def test_a_loop_without_its_source_is_let_through(source: str) -> None:
    module = Written(LATE["in a pipeline"])
    module.run()
    linecache.cache[module.filename] = (len(source), None, [source], module.filename)
    assert check(module["p"]) == ()
