"""Calling tools: one result for each call, in order, within the bounds, whatever goes wrong."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable, Mapping
from types import MappingProxyType
from typing import Annotated, Any, cast

import attrs
import pytest
import trio
from hypothesis import given as drawn
from hypothesis import strategies as st
from pydantic import BaseModel

from orchestra import Context, Stream, injected, pipeline, step
from orchestra.errors import DefinitionError
from orchestra.events import ToolFailed, ToolFinished, ToolStarted
from orchestra.steps import generate
from orchestra.steps.conversation.calling import Progress, answer, answer_all
from orchestra.steps.conversation.tools import as_tools, tool
from orchestra.testing.simulate import simulate
from orchestra.testing.turns import ScriptedTurns
from orchestra.testing.virtual import virtual
from orchestra.testing.world import World
from orchestra.values import FilePart, ImagePart, Message, TextPart, ToolCall, ToolResult

CONTEXT = cast("Context", "the context")


def answers(
    functions: list[Any],
    *calls: tuple[str, str],
    at_once: int = 2,
    timeout_s: float | None = None,
    schedule: int = 0,
) -> list[ToolResult]:
    """The results of these calls, by name and arguments."""
    tools = {each.declaration.name: each for each in as_tools(functions)}
    asked = [ToolCall(str(n), *call) for n, call in enumerate(calls)]

    async def main() -> list[ToolResult]:
        found = await answer_all(
            tools, asked, CONTEXT, Progress(), at_once=at_once, timeout_s=timeout_s
        )
        return [part for part in found if isinstance(part, ToolResult)]

    results = virtual(main, schedule=schedule)
    assert [result.call_id for result in results] == [call.id for call in asked]
    assert [result.name for result in results] == [call.name for call in asked]
    return results


@attrs.define
class Counter:
    """How many of its calls run at the same time."""

    now: int = 0
    most: int = 0

    async def wait(self, s: float, fails: bool = False) -> float:
        """Wait for s seconds."""
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await trio.sleep(s)
        finally:
            self.now -= 1
        if fails:
            raise ValueError(f"{s:g}")
        return s


waits = st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=12)


@drawn(waits, st.integers(1, 4), st.integers(0, 2**32))
def test_results_come_in_order_and_no_more_run_than_may(
    calls: list[tuple[int, bool]], at_once: int, schedule: int
) -> None:
    counter = Counter()
    said = [("wait", f'{{"s": {s}, "fails": {str(fails).lower()}}}') for s, fails in calls]
    results = answers([counter.wait], *said, at_once=at_once, schedule=schedule)
    assert [(result.content, result.is_error) for result in results] == [
        (f"ValueError: {s}" if fails else f"{s}.0", fails) for s, fails in calls
    ]
    assert counter.most <= at_once
    assert counter.most == min(at_once, len(calls)) or any(s == 0 for s, _ in calls)


@drawn(waits, st.floats(0, 10), st.integers(0, 2**32))
def test_cancelled_at_any_moment_nothing_is_left(
    calls: list[tuple[int, bool]], at_s: float, schedule: int
) -> None:
    counter = Counter()
    tools = {"wait": as_tools([counter.wait])[0]}
    asked = [ToolCall("", "wait", f'{{"s": {s}}}') for s, _ in calls]

    async def main() -> bool:
        with trio.move_on_after(at_s) as scope:
            await answer_all(tools, asked, CONTEXT, Progress(), at_once=3, timeout_s=None)
        return scope.cancelled_caught

    virtual(main, schedule=schedule)
    assert counter.now == 0


def test_a_cancellation_goes_through_and_is_never_a_result() -> None:
    (found,) = as_tools([Counter().wait])
    results: list[object] = []

    async def main() -> bool:
        with trio.move_on_after(1) as scope:
            call = ToolCall("1", "wait", '{"s": 5}')
            results.append(await answer(found, call, CONTEXT, timeout_s=3))
        return scope.cancelled_caught

    assert virtual(main)
    assert results == []


def add(a: int, b: int = 1) -> int:
    """Add."""
    return a + b


def serve() -> str:
    """Serve."""
    return "served"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            '{"a": "1", "c": 2}',
            "the arguments of add do not fit: `a`: expected `int`, got `str`; `c`: is unknown; there is a, b",
        ),
        ("{}", "the arguments of add do not fit: `a`: is missing"),
        ("[1]", "the arguments of add are one JSON object, not [1]"),
    ],
)
def test_arguments_that_do_not_fit_go_back_with_each_field(arguments: str, message: str) -> None:
    assert answers([add], ("add", arguments)) == [ToolResult("0", "add", message, is_error=True)]


def test_arguments_that_are_no_json_go_back() -> None:
    (result,) = answers([add], ("add", '{"a": 1'))
    assert result.is_error
    assert result.content.startswith("the arguments of add are wrong: this is not JSON: ")


def test_a_tool_that_nobody_has_goes_back_with_the_nearest_name() -> None:
    near, far = answers([add, serve], ("ad", "{}"), ("zzzzz", "{}"))
    assert near.content == "there is no tool 'ad'; did you mean 'add'? The tools are: add, serve"
    assert far.content == "there is no tool 'zzzzz'; The tools are: add, serve"
    assert near.is_error
    assert far.is_error


async def group(only: bool) -> None:
    """Fail in several ways."""
    if only:
        raise ValueError
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, int, "x")
        raise KeyError("y")


def test_errors_are_told_by_type_and_message_and_never_with_a_traceback() -> None:
    alone, several = answers([group], ("group", '{"only": true}'), ("group", '{"only": false}'))
    assert alone.content == "ValueError"
    assert "KeyError: 'y'" in several.content
    assert "Traceback" not in several.content


class Speechless(Exception):  # noqa: N818
    """An error that cannot say what it is."""

    def __str__(self) -> str:
        raise LookupError


def speechless() -> None:
    """Fail without a word."""
    raise Speechless


def test_an_error_that_cannot_speak_is_told_by_its_type() -> None:
    (result,) = answers([speechless], ("speechless", "{}"))
    assert result.content == "Speechless: (LookupError while it was asked for its message)"


async def slow(s: float = 100) -> str:
    """Wait."""
    await trio.sleep(s)
    return "done"


def test_what_is_too_slow_is_stopped_and_goes_back() -> None:
    quick = tool(name="quick", timeout_s=1)(slow)
    results = answers(
        [slow, quick], ("slow", '{"s": 2}'), ("slow", "{}"), ("quick", '{"s": 2}'), timeout_s=3
    )
    assert [result.content for result in results] == [
        "done",
        "slow was not done within 3 s, and was stopped",
        "quick was not done within 1 s, and was stopped",
    ]
    assert [result.is_error for result in results] == [False, True, True]


def blocked(call: str) -> str:
    """Say in which thread."""
    trio.from_thread.check_cancelled()
    return call


def test_a_thread_runs_what_blocks() -> None:
    """Without virtual time, of which a thread knows nothing."""
    (in_thread,) = as_tools([tool(thread=True)(blocked)])
    call = ToolCall("1", "blocked", '{"call": "x"}')
    assert trio.run(answer, in_thread, call, CONTEXT) == (ToolResult("1", "blocked", "x"),)
    (on_the_spot,) = trio.run(answer, as_tools([blocked])[0], call, CONTEXT)
    assert isinstance(on_the_spot, ToolResult)
    assert on_the_spot.is_error  # in no thread


def told(context: Context = injected) -> Mapping[str, object]:
    """What it is given, and other values than text."""
    return MappingProxyType({"context": context, "none": None, "list": [1, 2.5]})


def test_a_context_is_filled_in_and_values_go_back_as_json() -> None:
    (result,) = answers([told], ("told", "{}"))
    assert result.content == '{"context":"the context","none":null,"list":[1,2.5]}'
    (wrong,) = answers([told], ("told", '{"context": "mine"}'))
    assert wrong.content == "the arguments of told do not fit: `context`: is unknown; there is none"


def given(what: str) -> object:
    """What tools give that is no list, and reads like one."""
    found: dict[str, Callable[[], object]] = {
        "generator": lambda: (n * n for n in range(3)),
        "nested": lambda: {"map": map(str, [1]), "items": {"a": 1}.items(), "set": {5}},
        "endless": itertools.count,
        "object": object,
        "in a list": lambda: [object()],
        "stream": generator,
    }
    return found[what]()


async def generator() -> AsyncIterator[int]:
    """Never asked for."""
    yield 1


@pytest.mark.parametrize(
    ("what", "content"),
    [
        ("generator", "[0,1,4]"),
        ("nested", '{"map":["1"],"items":[["a",1]],"set":[5]}'),
        (
            "endless",
            "EdgeTypeError: it gave a count of more than 10000 items, which no model reads",
        ),
        ("object", "EdgeTypeError: it gave <object object at "),
        ("in a list", "EdgeTypeError: it gave <object object at "),
        ("stream", "EdgeTypeError: it gave <async_generator object generator at "),
    ],
)
def test_what_is_gone_through_is_a_list_and_what_has_no_form_an_error(
    what: str, content: str
) -> None:
    (result,) = answers([given_by_name], ("given_by_name", f'{{"what": "{what}"}}'))
    assert result.content.startswith(content)
    assert result.is_error == content.startswith("EdgeTypeError")


given_by_name = tool(name="given_by_name")(given)


@drawn(st.text(st.characters(categories=["Cs", "Ll"]), max_size=4), st.integers(0, 2))
def test_whatever_a_tool_gives_or_raises_can_be_sent(text: str, how: int) -> None:
    """Names of files have half characters in them, and it ended the run."""

    def files() -> object:
        """Files."""
        if how == 0:
            return text
        if how == 1:
            return (each for each in [text])
        raise FileNotFoundError(text)

    (result,) = answers([files], ("files", "{}"))
    sound = text.encode(errors="replace").decode()
    said = [sound, None, f"FileNotFoundError: {sound}".removesuffix(": ")][how]
    assert isinstance(result.content.encode(), bytes)  # and no UnicodeEncodeError
    if said is None:  # two halves that meet are one character in JSON
        assert json.loads(result.content) == json.loads(json.dumps([text]))
    else:
        assert result.content == said
    assert result.is_error == (how == 2)


def test_no_arguments_may_be_written_as_null() -> None:
    """So some models do where a tool takes none; of others they are missing."""
    nothing, one = answers([serve, add], ("serve", "null"), ("add", "null"))
    assert nothing == ToolResult("0", "serve", "served")
    assert one.content == "the arguments of add do not fit: `a`: is missing"


def find(word: str, most: Annotated[int, "at the most"] = None) -> int:  # type: ignore[assignment]  # noqa: RUF013
    """Find it."""
    return most or len(word)


def test_a_default_of_none_may_be_passed_whatever_the_annotation() -> None:
    """The schema tells the model of it."""
    (schema,) = [each.declaration.parameters["properties"]["most"] for each in as_tools([find])]
    assert schema == {
        "description": "at the most",
        "anyOf": [{"type": "integer"}, {"type": "null"}],
        "default": None,
    }
    (null,) = answers([find], ("find", '{"word": "abc", "most": null}'))
    assert null == ToolResult("0", "find", "3")


# --- what the run hears ------------------------------------------------------------------------


def fails(word: str) -> str:
    """Fail."""
    raise KeyError(word)


async def late() -> None:
    """Wait."""
    await trio.sleep(9)


@step
async def whole(text: str) -> str:
    """A step, which no tool can call."""
    return text


async def steps(text: str) -> str:
    """Call a step as if it were a function."""
    return await whole(text)  # type: ignore[misc, no-any-return]


async def others() -> None:
    """Await what is asyncio's."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(asyncio.sleep, 1)


def run_with(*functions: Any, calls: list[tuple[str, str]], **options: Any) -> Any:
    """A run whose model asks for these calls, and then says a word."""
    asked = [ToolCall(str(n), *call) for n, call in enumerate(calls)]

    def agent(question: str) -> Stream[str]:
        answer: Stream[str] = generate(question, tools=list(functions), **options)
        return answer

    model = ScriptedTurns.saying(asked, "done")
    return simulate(pipeline(agent), World(models={"default": model}), question="?")


PICTURE, REPORT = ImagePart(b"PNG"), FilePart(b"%PDF", name="report.pdf")


def label() -> ImagePart:
    """A picture."""
    return PICTURE


def papers() -> list[object]:
    """A text, a file and a picture."""
    return ["Two \ud800papers", {"pages": 3}, REPORT, PICTURE, TextPart("signed")]


class Invoice(BaseModel):
    number: int


def invoices() -> list[Invoice]:
    """Invoices."""
    return [Invoice(number=7)]


def test_a_pydantic_model_is_an_object_and_no_list_of_pairs() -> None:
    (result,) = answers([invoices], ("invoices", "{}"))
    assert result.content == '[{"number":7}]'


def booked(invoice: Invoice, others: list[Invoice | None] = []) -> Invoice:  # noqa: B006
    """Book an invoice."""
    return Invoice(number=invoice.number + sum(each.number for each in others if each))


def test_a_tool_takes_pydantic_models() -> None:
    given = '{"invoice": {"number": 1}, "others": [{"number": 2}, null]}'
    right, wrong = answers(
        [booked],
        ("booked", given),
        ("booked", '{"invoice": {"number": "x"}, "others": [{}, 3]}'),
    )
    assert right.content == '{"number":3}'
    assert wrong.is_error
    assert "`invoice.number`: input should be a valid integer" in wrong.content
    assert "`others[0].number`: is missing" in wrong.content
    assert "`others[1]`: input should be an object" in wrong.content


def test_images_and_files_of_tools_are_shown_after_all_results() -> None:
    calls = [ToolCall("1", "label"), ToolCall("2", "add", '{"a": 1}'), ToolCall("3", "papers")]
    model = ScriptedTurns.saying(calls, "done")

    @pipeline
    def agent(question: str) -> Stream[str]:
        return generate(question, tools=(label, add, papers))

    run = simulate(agent, World(models={"default": model}), question="?")
    assert run.value == "done"
    results, shown = model.asked[1].messages[-2:]
    below = "(shown in the next message)"
    assert results == Message(
        "tool",
        (
            ToolResult("1", "label", below),
            ToolResult("2", "add", "2"),
            ToolResult("3", "papers", f'Two ?papers\n{{"pages":3}}\nsigned\n{below}'),
        ),
    )
    assert shown.role == "user"
    assert "'label', call '1'" in shown.text
    pictures = [part for part in shown.parts if not isinstance(part, TextPart)]
    assert pictures == [PICTURE, REPORT, PICTURE]


def test_text_parts_are_text() -> None:
    def parts() -> list[TextPart | str]:
        return [TextPart("one"), "two"]

    def part() -> TextPart:
        return TextPart("one")

    found = [result.content for result in answers([parts, part], ("parts", "{}"), ("part", "{}"))]
    assert found == ["one\ntwo", "one"]


def test_a_tool_that_fails_is_heard_of_by_the_run_and_its_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    calls = [("fails", '{"word": "x"}'), ("late", "{}"), ("fails", "{}"), ("nobody", "{}")]
    run = run_with(fails, late, calls=calls, tool_timeout_s=2, tools_at_once=1)
    assert run.value == "done"
    heard = [event for event in run.events if isinstance(event, ToolFailed)]
    assert [(each.step, each.tool, each.error, each.message) for each in heard] == [
        ("generate", "fails", "KeyError", "'x'"),
        ("generate", "late", "DeadlineError", "late was not done within 2 s, and was stopped"),
    ]
    began = [event for event in run.events if isinstance(event, ToolStarted)]
    assert [each.call for each in heard] == [each.call for each in began]
    assert not [event for event in run.events if isinstance(event, ToolFinished)]
    assert "tool 'fails' failed in run" in caplog.text
    assert "raise KeyError(word)" in caplog.text


def test_what_no_model_can_mend_fails_the_run() -> None:
    of_step = run_with(steps, calls=[("steps", '{"text": "x"}')])
    assert isinstance(of_step.error, DefinitionError)
    assert "step 'whole' was called outside a pipeline" in str(of_step.error)
    of_asyncio = run_with(others, calls=[("others", "{}")])
    assert isinstance(of_asyncio.error, RuntimeError)
    assert not [event for event in of_asyncio.events if isinstance(event, ToolFailed)]
