"""Steps: what may be one, how it is called, and what is said of a wrong call."""

from __future__ import annotations

import functools
import inspect
import pydoc
import re
from collections.abc import Iterator
from typing import Any, cast

import attrs
import pytest
from hypothesis import assume, given, reject
from hypothesis import strategies as st

from orchestra.compiler.check import check
from orchestra.errors import DefinitionError
from orchestra.events import RunStarted
from orchestra.graph.calls.binding import Bound, bind, signature_text
from orchestra.graph.rules.policy import Limits, Policy
from orchestra.graph.steps import Kind, Step, step
from orchestra.protocols import Stream
from orchestra.testing.simulate import simulate
from tests.graph.mending import result
from tests.graph.written import Written, written

# --- what may be a step ------------------------------------------------------------------------


def test_the_kind_is_read_from_the_function() -> None:
    module = written(
        """
        @step
        async def value(n: int) -> str: return str(n)
        @step
        async def stream(n: int) -> AsyncIterator[str]: yield str(n)
        @step
        def plain(n: int) -> str: return str(n)
        @step(thread=True, name="slow", policy=Policy(timeout_s=3))
        def thread(n: int) -> str: return str(n)
        """
    )
    kinds = {name: module[name].kind for name in ("value", "stream", "plain", "thread")}
    assert kinds == {
        "value": Kind.ASYNC,
        "stream": Kind.STREAM,
        "plain": Kind.PLAIN,
        "thread": Kind.THREAD,
    }
    assert module["stream"].returns == Stream[str]
    assert module["value"].returns is str
    assert (module["thread"].name, module["thread"].policy.timeout_s) == ("slow", 3)


def test_a_step_without_annotations_takes_and_gives_anything() -> None:
    module = written(
        """
        @step
        async def value(n): return n
        @step
        async def stream(n): yield n
        @pipeline
        def p(n): return value(collect(stream(n)))
        """
    )
    assert module["value"].returns is Any
    assert module["stream"].returns == Stream[Any]
    assert check(module["p"]) == ()


def test_a_transparent_decorator_below_does_not_change_the_kind() -> None:
    def counted(function: Any) -> Any:
        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return function(*args, **kwargs)

        return wrapper

    async def stream(n: int) -> Any:
        yield n

    async def value(n: int) -> int:
        return n

    assert step(counted(stream)).kind is Kind.STREAM
    assert step(counted(value)).kind is Kind.ASYNC


def test_a_step_knows_the_line_of_its_def() -> None:
    module = written(
        """
        @step(
            name="renamed",
        )
        async def value(n: int) -> int:  # HERE
            return n
        """
    )
    assert module["value"].where == module.where("HERE")


def test_a_lambda_can_be_a_step() -> None:
    module = written(
        """
        twice = step(lambda n: n * 2, )  # HERE
        @pipeline
        def p(n: int): return twice(n)
        """
    )
    assert result(module["p"], {"n": 4}) == 8
    assert module["twice"].where == module.where("HERE")


def test_the_bound_method_of_an_object_can_be_a_step() -> None:
    module = written(
        """
        class Counter:
            def __init__(self, by): self.by = by
            async def count(self, n: int) -> int: return n + self.by
        count = step(Counter(3).count)
        @pipeline
        def p(n: int) -> int: return count(n)
        """
    )
    assert result(module["p"], {"n": 4}) == 7


def test_a_static_method_can_be_a_step() -> None:
    module = written(
        """
        class Tools:
            @staticmethod
            @step
            def twice(n: int) -> int: return n * 2
        @pipeline
        def p(n: int) -> int: return Tools.twice(n)
        """
    )
    assert result(module["p"], {"n": 4}) == 8


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("step(Passage)  # HERE", "@step on 'Passage', which is a class; a step is a function"),
        ("step(len)  # HERE", "@step on 'len', which is a builtin_function_or_method"),
        (
            "import functools\nstep(functools.partial(int, base=2))  # HERE",
            "@step on a partial of int; make the partial of the step: `int = step(int)`, and `funct",
        ),
        (
            "class A:\n    def __call__(self, n: int) -> int: ...\nstep(A())  # HERE",
            "@step on an object of the class A; decorate its `__call__`: "
            '`step(name="...")(thing.__call__)`',
        ),
        ("step(3)  # HERE", "@step on '3', which is a int; a step is a function: write one that"),
        ("step('a')  # HERE", "@step on the text 'a'; pass a name by keyword: @step(name='a')"),
        ("pipeline('a')  # HERE", "pass a name by keyword: @pipeline(name='a')"),
        (
            "def f(): ...\nstep(name=5)(f)  # HERE",
            "@step(name=5): a name must be one line of text, which events and",
        ),
        (
            "def f(): ...\npipeline(name='a\\nb')(f)  # HERE",
            "write @pipeline(name='f'), or leave it out",
        ),
        (
            "def f(): ...\npipeline(name=' ')(f)  # HERE",
            "@pipeline(name=' '): a name must be one line of text",
        ),
        (
            "class A:\n    @step\n    def act(self, n: int) -> int: ...  # HERE",
            "@step on the method A.act, which has no `self` yet; decorate the method of an object, "
            "`act = step(thing.act)`, or write a function",
        ),
        (
            "class A:\n    @pipeline\n    def act(self, n: int) -> int: ...  # HERE",
            "@pipeline on the method A.act, which has no `self` yet",
        ),
        ("pipeline(Passage)  # HERE", "@pipeline on 'Passage', which is a class; a pipeline is"),
        (
            "@step\ndef parts(n: int):  # HERE\n    yield n",
            "step 'parts' is a generator that is not async; write `async def parts` to give a "
            "stream of chunks, or return a list",
        ),
        (
            "@step(thread=True)\nasync def slow(n: int) -> int:  # HERE\n    return n",
            "@step(thread=True) on `async def slow`: a thread runs a plain function; write "
            "`def slow`, or leave `thread=True` out",
        ),
        (
            "@step\nasync def one(n: int) -> int: return n\none(3)  # HERE",
            "step 'one' was called outside a pipeline; write `await one.call(...)` to call its "
            "function, or call it in a function decorated with @pipeline and run that with "
            "orchestra.run",
        ),
        (
            "@step\nasync def one(n: int) -> AsyncIterator[int]: yield n\none(3)  # HERE",
            "write `async for chunk in one.call(...)` to call",
        ),
        (
            "@step\ndef one(n: int) -> int: return n\none(3)  # HERE",
            "write `one.call(...)` to call",
        ),
        (
            "@step(thread=True)\ndef one(n: int) -> int: return n\none(3)  # HERE",
            "write `one.call(...)` (in async code, `await trio.to_thread.run_sync(one.call, ...)`)",
        ),
    ],
)
def test_what_cannot_be_a_step_is_told_at_its_line(source: str, says: str) -> None:
    module = Written(source)
    with pytest.raises(DefinitionError) as caught:
        module.run()
    assert str(caught.value).startswith(module.where("HERE") + ": ")
    assert says in str(caught.value)


def test_using_gives_the_same_step_under_another_policy() -> None:
    module = written(
        """
        @step
        async def one(n: int) -> int: return n
        quick = one.using(Policy(timeout_s=1))
        """
    )
    assert module["one"].policy.timeout_s is None
    assert module["quick"].policy.timeout_s == 1
    assert module["quick"].call is module["one"].call


def test_a_policy_can_be_given_in_the_call_where_the_step_takes_one() -> None:
    module = written(
        """
        @step(policy=Policy(timeout_s=9))
        async def ask(text: str, *, policy: Policy | None = None) -> str: return text
        @pipeline
        def p(text: str) -> list[str]:
            return [ask(text), ask(text, policy=Policy(timeout_s=1)), ask(text, policy=None)]
        """
    )
    calls = [node for node in module["p"].nodes if node.label == "ask"]
    assert [call.policy.timeout_s for call in calls] == [9, 1, 9]
    assert all("policy" not in call.arguments for call in calls)
    assert check(module["p"]) == ()


def test_what_can_only_be_passed_by_position_is() -> None:
    module = written(
        """
        @step
        def mixed(first, /, *rest, last, **more): return [first, rest, last, more]
        @pipeline
        def p(n: int): return mixed(n, 2, 3, last=n, other=4)
        """
    )
    assert result(module["p"], {"n": 1}) == [1, (2, 3), 1, {"other": 4}]


@pytest.mark.parametrize("limit", ["timeout_s", "first_chunk_s", "idle_s"])
def test_a_limit_that_is_not_positive_is_refused_by_name(limit: str) -> None:
    with pytest.raises(ValueError, match=rf"Policy\({limit}=0\): {limit} must be more than 0"):
        Policy(**{limit: 0})  # type: ignore[arg-type]


@pytest.mark.parametrize("limit", ["timeout_s", "first_chunk_s", "idle_s"])
@pytest.mark.parametrize("value", ["5", True, float("nan"), (5,), pytest.param(10**400, id="huge")])
def test_a_limit_that_is_no_number_is_refused_by_name(limit: str, value: object) -> None:
    says = rf"Policy\({limit}=.*\): {limit} must be a number"
    with pytest.raises(ValueError, match=says):
        Policy(**{limit: value})  # type: ignore[arg-type]


COUNTS = [field.name for field in attrs.fields(Limits) if isinstance(field.default, int)]


@pytest.mark.parametrize("name", COUNTS)
@given(value=st.one_of(st.integers(), st.floats(), st.booleans(), st.text(), st.none()))
def test_a_count_is_a_whole_number_from_1_on(name: str, value: object) -> None:
    if type(value) is int and value > 0:
        assert getattr(Limits(**{name: value}), name) == value
    else:
        says = rf"Limits\({name}=.*\): {name} must be a whole number, 1 or more"
        with pytest.raises(ValueError, match=re.compile(says, re.DOTALL)):
            Limits(**{name: value})  # type: ignore[arg-type]


def test_no_policy_is_a_policy_without_limits() -> None:
    module = written("@step(policy=None)\ndef s(a: int) -> int: return a")
    made = module["s"]
    assert made.policy == Policy()
    assert made.using(Policy(timeout_s=1)).using(None).policy == Policy()


def test_tools_take_a_step_for_its_function() -> None:
    @step(name="named", policy=Policy(timeout_s=1))
    async def added(a: int, *, b: int = 1) -> int:
        """The sum."""
        return a + b

    for made in (added, added.using(None)):
        assert str(inspect.signature(made)) == "(a: 'int', *, b: 'int' = 1) -> 'int'"
        assert (made.__doc__, inspect.getdoc(made)) == ("The sum.", "The sum.")
        assert made.__name__ == "added"  # type: ignore[attr-defined]
        assert made.__module__ == __name__
        assert repr(made) == f"<step 'named' at {made.where}>"
        assert "The sum." in pydoc.render_doc(made)
        assert not inspect.iscoroutinefunction(made), "it is called in a pipeline, and not awaited"
    assert "function as a step" in str(Step.__doc__)
    assert "call" in inspect.signature(Step).parameters


def test_a_step_is_not_unwrapped_to_its_function() -> None:
    @step
    def plain(a: int) -> int:
        return a

    assert inspect.unwrap(plain) is plain
    with pytest.raises(DefinitionError, match="@step on 'plain', which is a Step"):
        step(plain)


def test_what_is_no_policy_is_refused_at_its_line() -> None:
    with pytest.raises(DefinitionError, match=r"step 's' is given policy=3; write it as policy="):
        written("@step(policy=3)\ndef s(a: int) -> int: return a")
    made = written("@step\ndef s(a: int) -> int: return a")["s"]
    with pytest.raises(DefinitionError, match=r"test_steps.py:\d+: step 's' is given policy=3"):
        made.using(3)


# --- the call ----------------------------------------------------------------------------------

PARAMETERS = st.lists(
    st.tuples(
        st.sampled_from("abcdef"),
        st.sampled_from(list(inspect._ParameterKind)),
        st.booleans(),
    ),
    unique_by=lambda each: each[0],
    max_size=5,
).map(lambda found: sorted(found, key=lambda each: (each[1], each[2])))


def _signature(parameters: list[tuple[str, Any, bool]]) -> inspect.Signature:
    """A signature with these parameters, True standing for a default."""
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    found = [kind for _, kind, _ in parameters if kind in kinds]
    assume(len(found) == len(set(found)))
    made = [
        inspect.Parameter(
            name,
            kind,
            default=0 if has_default and kind not in kinds else inspect.Parameter.empty,
        )
        for name, kind, has_default in parameters
    ]
    try:
        return inspect.Signature(made)
    except ValueError:  # a parameter without a default behind one that has it
        reject()


@given(
    PARAMETERS,
    st.lists(st.integers(), max_size=4),
    st.dictionaries(st.sampled_from("abcdefg"), st.integers(), max_size=4),
)
def test_a_call_is_bound_as_python_binds_it(
    parameters: list[tuple[str, Any, bool]], args: list[int], kwargs: dict[str, int]
) -> None:
    """What Python refuses has faults; the rest has none, and the function gets the same."""
    signature = _signature(parameters)
    names: dict[str, Any] = {}
    exec(f"def f{signature}: return locals()", names)
    made = step(names["f"])
    bound = bind(made, args, kwargs, "here")
    try:
        expected = names["f"](*args, **kwargs)
    except TypeError:
        assert bound.faults
    else:
        assert not bound.faults
        assert not bound.stray
        named = dict(bound.arguments)
        assert made.call(*made.positional(named), **named) == expected
    assert sorted(_kept(bound, signature)) == sorted([*args, *kwargs.values()]), "nothing is lost"


def test_what_stands_behind_a_default_is_passed_by_name() -> None:
    @step
    def f(a: int = 0, /, c: int = 0, **b: int) -> tuple[int, int, dict[str, int]]:
        return a, c, b

    named: dict[str, Any] = dict(bind(f, [], {"c": 1, "a": 2}, "here").arguments)
    positional: list[Any] = f.positional(named)
    assert f.call(*positional, **named) == (0, 1, {"a": 2})


def _kept(bound: Bound, signature: inspect.Signature) -> Iterator[Any]:
    """Every value that was passed, wherever it was put."""
    yield from bound.stray
    for name, value in bound.arguments.items():
        kind: Any = signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_POSITIONAL:
            yield from cast("tuple[int, ...]", value)
        elif kind is inspect.Parameter.VAR_KEYWORD:
            yield from cast("dict[str, int]", value).values()
        else:
            yield value


def _bound(head: str, call: str) -> Any:
    """The faults of a call, each as its code, message and fix."""
    module = written(
        f"""
        @step
        async def cite{head}: ...
        @pipeline
        def p(x: Any, y: Any) -> Any:
            return cite{call}  # HERE
        """
    )
    (node,) = [node for node in module["p"].nodes if node.label == "cite"]
    assert all(fault.where == module.where("HERE") for fault in node.faults)
    return [(fault.code, fault.message, fault.fix) for fault in node.faults], module["cite"].where


@pytest.mark.parametrize(
    ("head", "call", "code", "message", "fix"),
    [
        (
            "(text: str, *, most: int = 3) -> str",
            "(x, y)",
            "bad-call",
            "cite(...) takes 1 argument by position, and is given 2",
            "the step is `cite(text: str, *, most: int = 3) -> str`, at {where}",
        ),
        (
            "(text: str) -> str",
            "(x, text=y)",
            "bad-call",
            "cite(...) is given 'text' twice, by position and by name",
            "the step is `cite(text: str) -> str`, at {where}",
        ),
        (
            "(text: str) -> str",
            "()",
            "missing-argument",
            "cite(...) is called without 'text'",
            "pass it; the step is `cite(text: str) -> str`, at {where}",
        ),
        (
            "(text: str) -> str",
            "(txet=x)",
            "unknown-argument",
            "cite(...) has no parameter 'txet'",
            "did you mean 'text'? the step is `cite(text: str) -> str`, at {where}",
        ),
        (
            "(text: str, /) -> str",
            "(x, text=y)",
            "unknown-argument",
            "cite(...) has no parameter 'text'",
            "pass 'text' by position; the step is `cite(text: str, /) -> str`, at {where}",
        ),
        (
            "(text: str, context: Context = injected) -> str",
            "(x, context=y)",
            "unknown-argument",
            "cite(...) has no parameter 'context'",
            "leave 'context' out: the engine fills it in",
        ),
    ],
)
def test_a_wrong_call_is_told_with_the_steps_signature(
    head: str, call: str, code: str, message: str, fix: str
) -> None:
    faults, where = _bound(head, call)
    assert faults == [(code, message, fix.format(where=where))]


def test_a_misspelt_parameter_is_one_fault_and_not_two() -> None:
    faults, _ = _bound("(passages: str, most: int) -> str", "(pasages=x)")
    assert [code for code, *_ in faults] == ["unknown-argument", "missing-argument"]
    assert "'most'" in faults[1][1], "the other one is missing all the same"


def test_a_signature_is_written_without_modules_and_without_the_context() -> None:
    module = written(
        """
        @step
        async def up(chunks: Stream[str], *rest: int, most: int = 3,
                     context: Context = injected, **more: list[Passage]) -> AsyncIterator[str]:
            yield ""
        @step
        def bare(a, b=2): ...
        """
    )
    assert signature_text(module["up"]) == (
        "up(chunks: Stream[str], *rest: int, most: int = 3, **more: list[Passage]) -> Stream[str]"
    )
    assert signature_text(module["bare"]) == "bare(a, b=2) -> Any"
    assert module["up"].required == ("chunks",)
    assert module["up"].injected == "context"


@pytest.mark.parametrize("kind", ["Context", "'Context'", "Context | None", "'Context | None'"])
def test_a_context_is_filled_in_by_its_annotation(kind: str) -> None:
    source = f"""
        @step
        async def told(q: str, *, given: {kind} = injected) -> str: return given.run_id
        @pipeline
        def p(q: str) -> str: return told(q)
        """
    simulation = simulate(written(source)["p"], q="a")
    (started,) = (event for event in simulation.events if isinstance(event, RunStarted))
    assert simulation.value == started.run_id


@pytest.mark.parametrize(
    ("parameter", "what"),
    [
        ("ctx=injected", "has no annotation"),
        ("ctx: str = injected", "is annotated `str`"),
        ("c: 'Any' = injected", "is annotated `Any`"),
    ],
)
def test_what_is_injected_and_no_context_is_refused(parameter: str, what: str) -> None:
    source = f"""
        @step
        async def told(q: str, {parameter}) -> str: return q  # HERE
        @pipeline
        def p(q: str) -> str: return told(q)
        """
    module = Written(source)
    name = parameter.partition("=")[0].partition(":")[0]
    with pytest.raises(DefinitionError) as caught:
        module.run()
    assert str(caught.value) == (
        f"{module.where('HERE')}: parameter {name!r} of step 'told' has the default `injected`, but "
        f"{what}; the engine injects by annotation: write `{name}: Context = injected`"
    )


def test_an_input_of_a_pipeline_is_not_injected() -> None:
    module = Written("""
        @step
        async def told(q: str, context: Context = injected) -> str: return q
        @pipeline
        def p(q: str, context: Context = injected) -> str: return told(q)  # HERE
        """)
    with pytest.raises(DefinitionError) as caught:
        module.run()
    assert str(caught.value) == (
        f"{module.where('HERE')}: input 'context' of pipeline 'p' has the default `injected`, but the "
        "engine injects a context only into steps; remove it from `def p(...)`, and write `context: "
        "Context = injected` in the step that uses it"
    )
