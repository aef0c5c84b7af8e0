"""`generate(..., returns=...)`: a value that fits, after one repair at most, or a clear error."""

from __future__ import annotations

import dataclasses
import enum
import json
import re
from typing import Annotated, Any, Literal, TypedDict

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, field_validator

from orchestra import Policy, Retry, Stream, collect, pipeline, step
from orchestra.accounts import Usage
from orchestra.annotations.facts import spell
from orchestra.annotations.reading import Misfit
from orchestra.compiler.check import check
from orchestra.errors import (
    CapabilityError,
    ContentFilterError,
    ContextLengthError,
    DefinitionError,
    LimitExceededError,
    OutputError,
)
from orchestra.events import RunFinished, StepFinished
from orchestra.policies.caching.cache import CacheRule
from orchestra.policies.caching.cached import CachedModel
from orchestra.protocols import Model
from orchestra.steps import generate
from orchestra.steps.conversation import objects
from orchestra.stores.state.memory import MemoryState
from orchestra.testing.laws import check_laws
from orchestra.testing.simulate import Simulation, simulate
from orchestra.testing.turns import ScriptedTurns
from orchestra.testing.world import ScriptedModel, World
from orchestra.values import (
    Capabilities,
    ChatRequest,
    ImageUrlPart,
    JsonOutput,
    Message,
    ModelEvent,
    ReasoningDelta,
    RefusalDelta,
    Stopped,
    StopReason,
    TextPart,
    ToolCall,
    UsageReport,
)


@attrs.frozen
class Line:
    """One line of a bill."""

    name: str
    price: float = attrs.field(validator=attrs.validators.ge(0))


@attrs.frozen
class Bill:
    """A bill."""

    lines: list[Line]
    note: str | None = None


class Pair(TypedDict):
    """A pair."""

    a: int
    b: int


@dataclasses.dataclass
class Stock:
    """How much there is."""

    amounts: dict[str, int]


BILL = Bill([Line("tea", 2.5)])
TEXT = '{"lines": [{"name": "tea", "price": 2.5}], "note": null}'
UNFIT = '{"lines": [{"name": 3, "price": -1}, {}]}'


@pipeline
def read_bill(question: str) -> Bill:
    return generate(question, returns=Bill)


async def price(name: str) -> float:
    """What a thing costs."""
    return float(len(name))


@pipeline
def priced(question: str) -> Bill:
    return generate(question, returns=Bill, tools=[price], tool_rounds_max=2, output_tokens_max=99)


def run(asking: Any, model: Model, question: object = "why?", **world: Any) -> Simulation:
    simulation = simulate(asking, World(models={"default": model}, **world), question=question)
    check_laws(simulation)
    return simulation


def test_an_answer_that_fits_is_a_value_of_the_class() -> None:
    model = ScriptedTurns.saying([TEXT, UsageReport(Usage(5, 6))])
    done = run(read_bill, model)
    assert done.value == BILL
    (request,) = model.asked
    assert request.messages == (Message("user", "why?"),)
    assert request.output is not None
    assert (request.output.name, request.output.strict) == ("Bill", True)
    assert request.output.schema is not None
    assert request.output.schema["required"] == ["lines", "note"]
    assert [event.step for event in done.events if isinstance(event, StepFinished)] == ["generate"]
    last = done.events[-1]
    assert isinstance(last, RunFinished)
    assert last.usage == Usage(5, 6)


prose = st.text(st.characters(exclude_characters="{}`"), max_size=20)


@given(prose, prose, st.booleans())
@example("", "</think> as asked", False)
def test_words_and_fences_around_the_object_do_not_matter(
    before: str, after: str, fenced: bool
) -> None:
    text = f"```json\n{TEXT}\n```" if fenced else TEXT
    model = ScriptedTurns.saying(f"{before}\n{text}\n{after}")
    assert run(read_bill, model).value == BILL


@given(st.text('{}[]`":, ab\n', max_size=30), st.booleans())
def test_what_a_model_thinks_aloud_is_no_part_of_its_answer(thought: str, fenced: bool) -> None:
    """Servers that do not tell thoughts apart leave them in the text, with drafts of the object."""
    text = f"```json\n{TEXT}\n```" if fenced else TEXT
    model = ScriptedTurns.saying(f"<think>\n{thought}{{}}\n</think>\n{text}")
    assert run(read_bill, model).value == BILL
    assert len(model.asked) == 1


def test_an_answer_that_does_not_fit_is_sent_back_once_with_everything_that_is_wrong() -> None:
    model = ScriptedTurns.saying(
        [ReasoningDelta("hm", "seal"), UNFIT, UsageReport(Usage(1, 1))],
        [TEXT, UsageReport(Usage(2, 2))],
    )
    done = run(read_bill, model)
    assert done.value == BILL
    first, second = model.asked
    assert second.output == first.output
    turn, complaint = second.messages[1:]
    assert turn.role == "assistant"
    assert turn.text == UNFIT
    assert len(turn.parts) == 2  # its reasoning goes back too
    assert complaint.role == "user"
    assert complaint.text == (
        "That answer does not fit what was asked for:\n"
        "- `lines[0].name`: expected `str`, got `int`\n"
        "- `lines[1].name`: is missing\n"
        "- `lines[1].price`: is missing\n"
        "Give the whole JSON object again, with this corrected, and nothing else."
    )
    last = done.events[-1]
    assert isinstance(last, RunFinished)
    assert last.usage == Usage(3, 3)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (UNFIT, "`lines[0].name`: expected `str`, got `int`"),
        ("I will not.", "this is not JSON: "),
        ("", "this is not JSON: it is empty"),
        ("[1]", "this is JSON, but not an object"),
        ('{"lines": []', "this is not JSON: "),
        ('{"lines": [{"name": "a", "price": -1}]}', "`lines[0]`: 'price' must be >= 0: -1.0"),
    ],
)
def test_an_answer_that_never_fits_is_an_error_with_the_answer_in_it(
    text: str, problem: str
) -> None:
    error = run(read_bill, ScriptedTurns.saying("{}", text)).error
    assert isinstance(error, OutputError)
    assert error.raw == text
    assert error.problems[0].startswith(problem)
    assert "model 'default' was asked for Bill twice, and its answer does not fit" in str(error)
    assert problem in str(error)
    assert not error.retryable


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.sampled_from(["lines", "name", "note"]), inner)
    ),
    max_leaves=8,
)


@given(st.text() | json_values.map(json.dumps), st.integers(0, 2**32), st.none() | st.floats(0, 3))
def test_whatever_is_answered_is_a_value_of_the_class_or_one_clear_error(
    text: str, schedule: int, cancel_at_s: float | None
) -> None:
    model = ScriptedTurns.saying(text, text, every_s=1)
    done = run(read_bill, model, schedule=schedule, cancel_at_s=cancel_at_s)
    assert done.tasks_left == 0
    if done.error is None:
        assert isinstance(done.value, Bill)
    elif cancel_at_s is None:
        assert isinstance(done.error, OutputError)
        assert done.error.problems


NO_SCHEMA = Capabilities(json_schema=False)


def test_a_model_that_takes_no_schema_is_asked_in_the_prompt() -> None:
    model = ScriptedTurns.saying("no", f"Here:\n```\n{TEXT}\n```", capabilities=NO_SCHEMA)
    assert run(read_bill, model).value == BILL
    first, second = model.asked
    assert (first.output, second.output) == (None, None)
    (message,) = first.messages
    assert message.text.startswith("why?\n\nAnswer with one JSON object and nothing else")
    assert '"required":["lines","note"]' in message.text
    assert second.messages[0] == message


@attrs.frozen
class Unable:
    """A model whose dialect has no words for a schema, and which did not say so before."""

    turns: ScriptedTurns

    @property
    def capabilities(self) -> Capabilities:
        return self.turns.capabilities

    def stream(self, request: ChatRequest) -> Any:
        if request.output is not None:
            raise CapabilityError("this model has no JSON output; ask in the prompt")
        return self.turns.stream(request)


@pytest.mark.parametrize("known", [None, True])
def test_a_model_that_turns_out_to_take_no_schema_is_asked_in_the_prompt(
    known: bool | None,
) -> None:
    model = ScriptedTurns.saying(TEXT, capabilities=Capabilities(json_schema=known))
    done = run(read_bill, Unable(model))  # type: ignore[arg-type]
    assert done.value == BILL
    assert "Answer with one JSON object" in model.asked[0].messages[0].text


def test_an_instruction_is_part_of_the_users_last_turn() -> None:
    @pipeline
    def asked(question: object) -> Bill:
        return generate(question, returns=Bill)  # type: ignore[call-overload, no-any-return]

    picture = ImageUrlPart("http://a/b.png")
    questions: list[tuple[object, int]] = [
        ([Message("user", (picture, TextPart("Read")))], 1),
        ([Message("user", "Read"), Message("assistant", "Done.")], 3),
        (ChatRequest(()), 1),
    ]
    for question, count in questions:
        model = ScriptedTurns.saying(TEXT, capabilities=NO_SCHEMA)
        assert run(asked, model, question).value == BILL
        messages = model.asked[0].messages
        assert len(messages) == count
        assert messages[-1].role == "user"
        last = messages[-1].parts[-1]
        assert isinstance(last, TextPart)
        assert last.text.startswith("Answer with one JSON object")
        assert (picture in messages[-1].parts) == (question is questions[0][0])


def test_tools_come_first_and_then_the_object_without_them() -> None:
    """Many providers take no schema beside tools, so the last call has words only."""
    call = ToolCall("c1", "price", '{"name": "tea"}', "seal")
    model = ScriptedTurns.saying(
        [ReasoningDelta("hm", "seal"), "Let me see.", call], "Tea is 3.", TEXT
    )
    assert run(priced, model).value == BILL
    assert [each.output is None for each in model.asked] == [True, True, False]
    assert [len(each.tools) for each in model.asked] == [1, 1, 0]
    assert model.asked[1].messages[1].parts[-1] == call
    last = model.asked[2]
    assert last.output_tokens_max == 99
    assert [(each.role, each.text) for each in last.messages] == [
        ("user", "why?"),
        ("assistant", 'Let me see.\n[called price with {"name": "tea"}]\n'),
        ("user", "[price gave: 3.0]\n"),
        ("assistant", "Tea is 3."),
        ("user", "Now give this answer as one JSON object."),
    ]
    assert all(isinstance(part, TextPart) for each in last.messages for part in each.parts)


def test_a_tool_that_is_called_where_the_object_is_asked_for_is_not_run() -> None:
    ran: list[str] = []

    async def book(name: str) -> str:
        """Book a thing."""
        ran.append(name)
        return "booked"

    @pipeline
    def booked(question: str) -> Bill:
        return generate(question, returns=Bill, tools=[book])

    call = ToolCall("c1", "book", '{"name": "tea"}')
    model = ScriptedTurns.saying(call, "Booked.", call, TEXT)
    with pytest.raises(OutputError, match=r"but was given none: book\("):
        raise run(booked, model).error or AssertionError("it was run")
    assert ran == ["tea"]
    assert model.asked[-1].tools == ()


def test_a_turn_of_thoughts_alone_is_left_out_where_tools_become_words() -> None:
    """Some providers refuse a turn without content."""
    thought = [ReasoningDelta("hm", "seal")]
    model = ScriptedTurns.saying(ToolCall("c1", "price", '{"name": "tea"}'), thought, TEXT)
    assert run(priced, model).value == BILL
    assert all(each.parts for each in model.asked[-1].messages)
    assert [each.role for each in model.asked[-1].messages] == ["user", "assistant", "user", "user"]


def test_tools_and_then_a_prompt_where_there_is_no_schema() -> None:
    model = ScriptedTurns.saying(
        ToolCall("c1", "price", "{}"), "3.", "nope", TEXT, capabilities=NO_SCHEMA
    )
    assert run(priced, model).value == BILL
    asked = model.asked[2].messages
    assert "[price failed: the arguments of price do not fit: `name`: is missing]" in asked[2].text
    assert asked[-1].text.startswith("Now give this answer as one JSON object.\n\nAnswer with one")


def test_the_rounds_of_a_loop_before_an_object_are_bounded() -> None:
    error = run(priced, ScriptedTurns.saying(*[ToolCall("c", "price", "{}")] * 3)).error
    assert isinstance(error, LimitExceededError)


CUT = Stopped(StopReason.LENGTH)


def test_an_object_that_is_cut_or_refused_is_an_error_at_once() -> None:
    cut = run(priced, ScriptedTurns.saying("Tea.", ['{"lines": [', CUT])).error
    assert isinstance(cut, OutputError)
    assert cut.raw == '{"lines": ['
    assert "the Bill of model 'default' was cut after output_tokens_max=99 tokens" in str(cut)
    assert isinstance(run(priced, ScriptedTurns.saying(["Te", CUT])).error, OutputError)
    assert isinstance(run(read_bill, ScriptedTurns.saying([TEXT, CUT])).error, ContextLengthError)
    refused: list[ModelEvent] = [RefusalDelta("No."), Stopped(StopReason.END)]
    assert isinstance(run(read_bill, ScriptedTurns.saying(refused)).error, ContentFilterError)


def test_other_classes_with_members_will_do() -> None:
    @pipeline
    def pair(question: str) -> Pair:
        return generate(question, returns=Pair)

    @pipeline
    def stock(question: str) -> Stock:
        return generate(question, returns=Stock)

    assert run(pair, ScriptedTurns.saying('{"a": 1, "b": 2}')).value == {"a": 1, "b": 2}
    model = ScriptedTurns.saying('{"amounts": {"tea": 1}}')
    assert run(stock, model).value == Stock({"tea": 1})
    assert isinstance(model.asked[0].output, JsonOutput)
    assert not model.asked[0].output.strict


class Mood(enum.Enum):
    """How it sounds."""

    GLAD = "glad"
    SAD = "sad"


@pytest.mark.parametrize(
    ("kind", "answer", "value", "strict"),
    [
        (bool, "true", True, True),
        (int, "3", 3, True),
        (str, '"tea"', "tea", True),
        (list[Line], '[{"name": "tea", "price": 2.5}]', [Line("tea", 2.5)], True),
        (Literal["good", "bad"], '"bad"', "bad", True),
        (Mood, '"sad"', Mood.SAD, True),
        (Line | None, "null", None, True),
        (Annotated[float, "in metres"], "1.5", 1.5, True),
        (dict[str, int], '{"tea": 1}', {"tea": 1}, False),
        (set[int], "[1, 2]", {1, 2}, False),
    ],
    ids=spell,
)
def test_a_value_of_another_type_is_asked_for_as_the_member_of_an_object(
    kind: Any, answer: str, value: object, strict: bool
) -> None:
    """Providers require the schema of an object."""

    @pipeline
    def asked(question: str) -> object:
        return generate(question, returns=kind)

    model = ScriptedTurns.saying('{"answer": [[]]}', f'{{"answer": {answer}}}')
    done = run(asked, model).value
    assert (done, type(done)) == (value, type(value))
    output = model.asked[0].output
    assert isinstance(output, JsonOutput)
    assert output.schema is not None
    assert list(output.schema["properties"]) == output.schema["required"] == ["answer"]
    assert output.strict is strict
    assert re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9_]*", output.name)
    assert "- `answer" in model.asked[1].messages[-1].text


@attrs.frozen
class Answer:
    """A class with the name of the member."""

    answer: str


def test_an_object_around_a_value_takes_no_name_from_the_classes_in_it() -> None:
    schema = objects.form_of(list[Answer]).output.schema
    assert schema is not None
    assert list(schema["$defs"]) == ["Answer"]


def test_a_model_without_schemas_is_asked_for_the_object_in_words() -> None:
    @pipeline
    def asked(question: str) -> list[str]:
        return generate(question, returns=list[str])

    model = ScriptedTurns.saying(
        '["tea"]', '{"answer": ["tea"]}', capabilities=Capabilities(json_schema=False)
    )
    assert run(asked, model).value == ["tea"]
    assert '"required":["answer"]' in model.asked[0].messages[-1].text


def test_what_a_model_cannot_fill_in_is_refused_where_it_is_written() -> None:
    class Opaque:
        """It has no members."""

    @attrs.frozen
    class Holding:
        """It has one of those."""

        held: Opaque

    kinds: list[Any] = [Opaque, Holding, list[Opaque], Stream[str], "Bill", 3]
    for kind in kinds:

        def wrong(question: str) -> object:
            found: object = generate(question, returns=kind)
            return found

        with pytest.raises(
            DefinitionError, match=r"test_objects.py:\d+: generate\(returns="
        ) as caught:
            pipeline(wrong)
        assert "pass a class or another type that has a form in JSON" in str(caught.value)


@step
def total(bill: Bill) -> float:
    """The sum."""
    return sum(line.price for line in bill.lines)


@step
def shout(text: str) -> str:
    """Loud."""
    return text.upper()


def test_the_edge_has_the_type_of_the_class() -> None:
    @pipeline
    def summed(question: str) -> float:
        return total(generate(question, returns=Bill))

    @pipeline
    def part(question: str) -> list[Line]:
        return generate(question, returns=Bill).lines

    assert run(summed, ScriptedTurns.saying(TEXT)).value == 2.5
    assert run(part, ScriptedTurns.saying(TEXT)).value == [Line("tea", 2.5)]

    @pipeline
    def wrong(question: str) -> str:
        return shout(generate(question, returns=Bill))  # type: ignore[arg-type]

    @pipeline
    def gathered(question: str) -> Bill:
        return collect(generate(question, returns=Bill))  # type: ignore[call-overload, no-any-return]

    @pipeline
    def impatient(question: str) -> Bill:
        return generate(question, returns=Bill, policy=Policy(idle_s=1))

    @pipeline
    def missing(question: str) -> str:
        return generate(question, returns=Bill).total  # type: ignore[attr-defined, no-any-return]

    @pipeline
    def listed(question: str) -> float:
        return total(generate(question, returns=list[Bill]))  # type: ignore[arg-type]

    @pipeline
    def text(question: str) -> Stream[str]:
        return generate(question, returns=None)

    all_wrong = (wrong, gathered, impatient, missing, listed)
    assert [[each.code for each in check(each)] for each in all_wrong] == [
        ["type-clash"],
        ["value-into-stream"],
        ["policy-unfit"],
        ["unknown-part"],
        ["type-clash"],
    ]
    assert run(text, ScriptedTurns.saying("a")).value == "a"


def test_a_policy_bounds_the_whole() -> None:
    @pipeline
    def bounded(question: str) -> Bill:
        return generate.using(Policy(timeout_s=3))(question, returns=Bill)

    slow = ScriptedTurns.saying("{}", TEXT, every_s=2)
    assert isinstance(run(bounded, slow).error, TimeoutError)
    quick = ScriptedModel.saying(TEXT, every_s=2)
    assert simulate(bounded, World(models={"default": quick}), question="why?").value == BILL
    assert spell(Bill) == "Bill"


@given(st.text("`a\n \x1f", max_size=20))
def test_what_is_in_fences_is_what_their_pattern_says(text: str) -> None:
    """A simpler model, which may take longer; JSON begins with no blank."""
    pattern = re.compile(r"```[a-zA-Z]*\s*\n(.*?)```", re.DOTALL)
    found = [inside.lstrip() for inside in objects._fenced(text)]
    assert found == [match[1].lstrip() for match in pattern.finditer(text)]


@pytest.mark.parametrize("answer", ["```json" + "\n" * 300_000 + "x", "```\n" * 100_000 + "`x"])
def test_a_hostile_answer_is_read_as_any_other(answer: str) -> None:
    """Where the work grows with the square of the answer, it is never read."""
    assert isinstance(objects._object_in(answer), Misfit)


@pytest.mark.parametrize("attempts_max", [1, 2])
def test_what_does_not_fit_is_not_mended_by_what_is_kept(attempts_max: int) -> None:
    """One bad sample, kept, is no error of all who ask the same; a retry asks for new ones."""
    retry = Retry(attempts_max=attempts_max, delay_s=1, on=(OutputError,))
    patient = generate.using(Policy(retry=retry))

    @pipeline
    def patiently(question: str) -> Bill:
        return patient(question, returns=Bill)

    turns = ScriptedTurns.saying([UNFIT], ["{}"], [TEXT])
    kept = CachedModel(turns, MemoryState(), CacheRule(), name="m", identity="m")
    first = run(patiently, kept)
    assert (first.value == BILL) is (attempts_max == 2)
    assert run(patiently, kept).value == BILL
    assert len(turns.asked) == 3


class Ticket(BaseModel):
    """A ticket."""

    title: str = Field(min_length=3)
    urgency: int = Field(alias="howUrgent", ge=1, le=5)

    @field_validator("title")
    @classmethod
    def _spoken(cls, value: str) -> str:
        if value.isupper():
            raise ValueError("do not shout")
        return value.strip()


TICKET = Ticket(title="No light", howUrgent=3)


@pipeline
def read_ticket(question: str) -> Ticket:
    return generate(question, returns=Ticket)


@pipeline
def read_tickets(question: str) -> list[Ticket]:
    return generate(question, returns=list[Ticket])


def test_a_pydantic_model_is_asked_for_by_its_schema_and_made_by_its_validators() -> None:
    model = ScriptedTurns.saying('{"title": " No light ", "howUrgent": 3}')
    assert run(read_ticket, model).value == TICKET
    assert model.asked[0].output == JsonOutput(
        {
            "description": "A ticket.",
            "type": "object",
            "properties": {
                "title": {"type": "string", "minLength": 3},
                "howUrgent": {"type": "integer", "minimum": 1, "maximum": 5},
            },
            "required": ["title", "howUrgent"],
            "additionalProperties": False,
        },
        name="Ticket",
        strict=True,
    )


def test_what_pydantic_finds_wrong_is_repaired_and_else_told() -> None:
    wrong = '{"answer": [{"title": "NO LIGHT", "howUrgent": 9}, {"title": "Hi"}]}'
    right = '{"answer": [{"title": "No light", "howUrgent": 3}]}'
    told = [
        "`answer[0].title`: do not shout",
        "`answer[0].howUrgent`: input should be less than or equal to 5",
        "`answer[1].title`: string should have at least 3 characters",
        "`answer[1].howUrgent`: is missing",
    ]
    model = ScriptedTurns.saying(wrong, right)
    assert run(read_tickets, model).value == [TICKET]
    assert all(f"- {each}" in model.asked[1].messages[-1].text for each in told)
    error = run(read_tickets, ScriptedTurns.saying(wrong, wrong)).error
    assert isinstance(error, OutputError)
    assert error.problems == tuple(told)


def test_a_pydantic_model_without_a_schema_is_refused_with_the_reason() -> None:
    class Holder(BaseModel):
        model_config = ConfigDict(arbitrary_types_allowed=True)

        line: Line

    def wrong(question: str) -> object:
        found: object = generate(question, returns=Holder)
        return found

    with pytest.raises(DefinitionError, match=r"the Pydantic model Holder: Cannot generate a Json"):
        pipeline(wrong)
