"""A route over models that fail, stall and are cut: one model's answer, or all of the errors."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from random import Random
from typing import Any

import attrs
import pytest
import trio
from hypothesis import example, given
from hypothesis import strategies as st

from orchestra.accounts import Certainty, Usage
from orchestra.answers import Completion
from orchestra.errors import (
    CapabilityError,
    ContentFilterError,
    InvalidRequestError,
    MalformedStreamError,
    ModelError,
    ModelsFailedError,
    OverloadedError,
    ProviderServerError,
    RateLimitError,
    TruncatedStreamError,
)
from orchestra.policies.account import PRESENT, NoAccount
from orchestra.policies.health.latency import FAILED_S
from orchestra.policies.routing import FALLBACK, By, ByLatency, ByOrder, ByWeight, Candidate, Route
from orchestra.protocols import Model, ModelReply
from orchestra.providers.opening import BATCHES_MAX, says
from orchestra.providers.routing import RoutedModel
from orchestra.testing.virtual import virtual
from orchestra.testing.world import ScriptedModel
from orchestra.values import (
    Began,
    Capabilities,
    ChatRequest,
    Embeddings,
    EmbedRequest,
    Message,
    ModelEvent,
    ReasoningDelta,
    RefusalDelta,
    Stopped,
    StopReason,
    TextDelta,
    Tool,
    ToolCallDelta,
    UsageReport,
    Vector,
)

HELLO = ChatRequest((Message("user", "hello"),))
END = Stopped(StopReason.END)


@attrs.define(eq=False)
class Watched(Model):
    """A scripted model that counts how often it was asked, and who is still in its answer.

    A nursery of its own is open while it answers, as a real one may have: Trio notices when it
    is not left in the reverse order of its entry.
    """

    script: ScriptedModel
    refuses: ModelError | None = None
    """On entry, as a provider that does not answer with 200."""
    vectors: tuple[Vector, ...] | None = None
    grouped: bool = False
    """Whether its nursery raises its error in a group, as Trio's do."""
    asked: int = 0
    open: int = 0

    @asynccontextmanager
    async def stream(self, request: ChatRequest) -> AsyncIterator[ModelReply]:
        self.asked += 1
        if self.refuses is not None:
            await trio.lowlevel.checkpoint()
            raise self.refuses.with_traceback(None)
        self.open += 1
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep_forever)
                failed = None
                try:
                    async with self.script.stream(request) as reply:
                        yield reply
                except ModelError as error:
                    if self.grouped:
                        raise
                    failed = error
                nursery.cancel_scope.cancel()
            if failed is not None:
                raise failed
        finally:
            self.open -= 1

    async def embed(self, request: EmbedRequest) -> Embeddings:
        self.asked += 1
        await trio.lowlevel.checkpoint()
        if self.vectors is None:
            raise OverloadedError("no room")
        return Embeddings(self.vectors)


def saying(
    *events: ModelEvent | str, every_s: float = 0, error: Exception | None = None
) -> Watched:
    said = [TextDelta(each) if isinstance(each, str) else each for each in events]
    return Watched(ScriptedModel(tuple((every_s, each) for each in said), error))


def refusing(error: ModelError) -> Watched:
    return Watched(ScriptedModel(()), error)


def route(models: dict[str, Watched], by: By = ByOrder(), **more: Any) -> RoutedModel:  # noqa: B008
    candidates = tuple(Candidate(name=name) for name in models)
    return RoutedModel(
        Route(name="r", candidates=candidates, by=by, **more), models, Random(0).random
    )


async def heard(model: Model, request: ChatRequest = HELLO) -> list[ModelEvent]:
    found: list[ModelEvent] = []
    async with model.stream(request) as reply:
        while True:  # each under a scope that is left before the answer is
            with trio.move_on_after(1000):
                batch = await reply.receive()
            if not batch:
                return found
            found += batch


ERRORS = st.sampled_from(
    [
        RateLimitError("slow down", retry_after_s=3),
        OverloadedError("no room"),
        ProviderServerError("broken"),
        TruncatedStreamError("cut"),
        InvalidRequestError("nonsense"),
        ContentFilterError("rude"),
    ]
)
SILENT: list[ModelEvent] = [
    TextDelta(""),
    ReasoningDelta(""),
    Began("1", "m"),
    UsageReport(Usage(5, 1)),
]


@st.composite
def watched(draw: st.DrawFn, name: str) -> Watched:
    """A model that says nothing, then something marked with its name, then ends, or fails."""
    if draw(st.booleans()):
        return refusing(draw(ERRORS))
    silent = draw(st.lists(st.sampled_from(SILENT), max_size=3))
    texts = [f"{name}{i} " for i in range(draw(st.integers(0, 3)))]
    error = draw(st.none() | ERRORS)
    end = [] if error else draw(st.sampled_from([[END], []]))
    said = saying(*silent, *texts, *end, every_s=draw(st.sampled_from([0, 1])), error=error)
    said.grouped = not texts and draw(st.booleans())
    return said


MODELS = st.fixed_dictionaries({name: watched(name) for name in "abc"})
SCHEDULES = st.integers(0, 2**32)


def fault(model: Watched) -> ModelError | None:
    """How a model fails, simply told; None where it answers well."""
    if model.refuses:
        return model.refuses
    if model.script.error:
        assert isinstance(model.script.error, ModelError)
        return model.script.error
    whole = any(isinstance(event, Stopped) for _, event in model.script.says)
    return None if whole else TruncatedStreamError("cut")


def spoke(model: Watched) -> bool:
    return not model.refuses and any(says(event) for _, event in model.script.says)


@given(MODELS, SCHEDULES)
def test_an_answer_is_one_models_answer_under_any_faults(
    models: dict[str, Watched], schedule: int
) -> None:
    """Held against a reading of the scripts: who has to be asked, and what must come of it."""
    asked: list[str] = []
    for name, each in models.items():
        asked.append(name)
        error = fault(each)
        if spoke(each) or error is None or isinstance(error, NEVER):
            break

    async def main() -> tuple[str, ModelError | None]:
        said = ""
        try:
            async with route(models).stream(HELLO) as reply:
                while batch := await reply.receive():
                    said += "".join(each.text for each in batch if isinstance(each, TextDelta))
        except ModelError as error:
            return said, error
        return said, None

    said, error = virtual(main, schedule=schedule)
    last = models[asked[-1]]
    texts = [each.text for _, each in last.script.says if isinstance(each, TextDelta)]
    assert said == "".join(texts)
    assert [name for name, each in models.items() if each.asked] == asked
    assert all(each.asked <= 1 and each.open == 0 for each in models.values())
    if spoke(last) or len(asked) == 1:
        assert type(error) is type(fault(last))
    elif fault(last) is not None:
        assert isinstance(error, ModelsFailedError)
        assert {n: type(e) for n, e in error.errors.items()} == {
            n: type(fault(models[n])) for n in asked
        }
        assert all(f"\n  {name}: " in str(error) for name in asked)


NEVER = (InvalidRequestError, ContentFilterError)


@given(MODELS, SCHEDULES)
def test_a_whole_answer_falls_back_wherever_it_broke(
    models: dict[str, Watched], schedule: int
) -> None:
    """`complete` has handed out nothing, so that a cut in the middle falls back too."""
    expected: str | None = None
    for each in models.values():
        error = fault(each)
        if error is None:
            texts = [e.text for _, e in each.script.says if isinstance(e, TextDelta)]
            expected = "".join(texts)
        if error is None or isinstance(error, NEVER):
            break

    async def main() -> Completion | ModelError:
        try:
            return await route(models).complete(HELLO)
        except ModelError as error:
            return error

    found = virtual(main, schedule=schedule)
    assert (found.text if isinstance(found, Completion) else None) == expected
    assert all(each.open == 0 for each in models.values())


@given(MODELS, st.floats(0, 8), SCHEDULES, st.sampled_from(["stream", "complete"]))
def test_a_cancelled_call_counts_for_as_long_as_it_was_waited_for(
    models: dict[str, Watched], cancel_at_s: float, schedule: int, kind: str
) -> None:
    """At whatever moment: nothing is left open, nobody is waited for, and no load is more than the
    time that was waited, but for those of calls that failed by themselves."""
    routed = route(models, ByLatency())

    async def main() -> dict[str, float]:
        with trio.move_on_after(cancel_at_s) as scope:
            with suppress(ModelError):
                await (heard(routed) if kind == "stream" else routed.complete(HELLO))
        asked = [name for name, each in models.items() if each.asked]
        loads = routed._desk._latencies[kind].loads(trio.current_time())  # type: ignore[index]
        if scope.cancelled_caught and len(asked) == 1 and not spoke(models[asked[0]]):
            assert loads[asked[0]] <= cancel_at_s + 1e-9
        for name in set(models) - set(asked):
            assert loads[name] == 0
        measures = routed._desk._latencies[kind]._measures.values()  # type: ignore[index]
        assert [each.in_flight for each in measures] == [0, 0, 0]
        return dict(loads)

    virtual(main, schedule=schedule)
    assert all(each.open == 0 for each in models.values())


def test_a_model_whose_callers_give_up_is_as_slow_as_they_were_patient() -> None:
    models = {"slow": saying("late", END, every_s=5)}
    routed = route(models, ByLatency())

    async def main() -> None:
        with trio.move_on_after(1):
            await heard(routed)
        with trio.move_on_after(1):
            await routed.complete(HELLO)
        for kind in ("stream", "complete"):
            latencies = routed._desk._latencies[kind]
            assert latencies._measures["slow"].average_s == 1
        assert routed._desk._latencies["embed"].loads(trio.current_time()) == {"slow": 0}

    virtual(main)
    assert models["slow"].asked == 2


def test_a_model_that_hangs_is_left_alone_before_its_own_timeout() -> None:
    hangs, good = saying("h", END, every_s=0.2), saying("g", END, every_s=0.5)
    routed = route({"hangs": hangs, "good": good}, ByLatency())

    async def main() -> int:
        for _ in range(5):
            await heard(routed)
        hangs.script = saying("h", END, every_s=1e6).script
        cut = 0
        for _ in range(40):
            with trio.move_on_after(10) as patience:
                await heard(routed)
            cut += patience.cancelled_caught
            await trio.sleep(1)
        return cut

    assert virtual(main) <= 12


def test_a_reader_that_leaves_in_the_middle_closes_the_model() -> None:
    models = {"a": saying("one", "two", END, every_s=1)}

    async def main() -> None:
        async with route(models).stream(HELLO) as reply:
            assert await reply.receive() == (TextDelta("one"),)
            assert models["a"].open == 1
        assert models["a"].open == 0
        assert await reply.receive() == ()

    virtual(main)


def test_the_faster_model_gets_the_calls_and_the_slower_is_tried_again() -> None:
    models = {"slow": saying("s", END, every_s=4), "fast": saying("f", END, every_s=0.5)}
    routed = route(models, ByLatency())

    async def main() -> None:
        for _ in range(60):
            await heard(routed)

    virtual(main)
    assert models["fast"].asked > 5 * models["slow"].asked
    assert models["slow"].asked > 1


def test_a_model_that_fails_at_once_is_left_alone_for_a_while() -> None:
    models = {"bad": refusing(OverloadedError("no room")), "good": saying("g", END, every_s=0.5)}
    routed = route(models, ByLatency())

    async def main() -> None:
        for _ in range(20):  # ten seconds
            assert await heard(routed) == [TextDelta("g"), END]

    virtual(main)
    assert models["bad"].asked == 1
    assert FAILED_S >= 10


def test_an_error_behind_the_first_content_counts_against_the_model() -> None:
    models = {"a": saying("one", error=OverloadedError("no room")), "b": saying("two", END)}
    routed = route(models, ByLatency())

    async def main() -> None:
        for _ in range(10):
            try:
                await heard(routed)
            except OverloadedError:
                assert routed._desk._latencies["stream"].loads(trio.current_time())["a"] == FAILED_S

    virtual(main)
    assert models["a"].asked == 1


def test_calls_in_flight_are_spread() -> None:
    models = {name: saying("x", END, every_s=1) for name in "ab"}
    routed = route(models, ByLatency())

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(heard, routed)

    virtual(main)
    assert abs(models["a"].asked - models["b"].asked) <= 2


def test_a_request_is_not_blamed_on_the_model() -> None:
    models = {"a": refusing(InvalidRequestError("nonsense")), "b": saying("x", END)}
    learns = route({"a": models["a"]}, ByLatency())

    async def main() -> None:
        for routed in (route(models), learns):
            with pytest.raises(InvalidRequestError, match="nonsense"):
                await heard(routed)
        assert learns._desk._latencies["stream"].loads(0) == {"a": 0}

    virtual(main)
    assert models["b"].asked == 0


def test_a_conversation_stays_with_its_model() -> None:
    """And one with another key may have another: over many keys, each model is used."""
    models = {name: saying("x", END) for name in "abc"}
    routed = route(models, ByWeight(sticky=True))

    async def main() -> None:
        for i in range(30):
            before = Counter({name: each.asked for name, each in models.items()})
            request = attrs.evolve(HELLO, extras={"orchestra": {"conversation": str(i)}})
            for turn in range(4):
                more = (*request.messages, Message("user", f"turn {turn}"))
                await heard(routed, attrs.evolve(request, messages=more))
            after = Counter({name: each.asked for name, each in models.items()})
            assert list((after - before).values()) == [4]

    virtual(main)
    assert all(each.asked for each in models.values())


def test_without_fallback_one_model_is_asked_and_its_error_is_told() -> None:
    models = {"a": refusing(OverloadedError("no room")), "b": saying("x", END)}

    async def main() -> None:
        with pytest.raises(OverloadedError, match="no room"):
            await heard(route(models, falls_back_on=()))

    virtual(main)
    assert models["b"].asked == 0


def test_only_the_errors_that_were_named_fall_back() -> None:
    models = {
        "a": refusing(RateLimitError("slow down", retry_after_s=9)),
        "b": refusing(OverloadedError("no room")),
        "c": saying("x", END),
    }

    async def main() -> ModelsFailedError:
        with pytest.raises(ModelsFailedError) as caught:
            await heard(route(models, falls_back_on=(RateLimitError,)))
        return caught.value

    error = virtual(main)
    assert str(error) == (
        "r: 2 models of route 'r' failed, one after the other:\n"
        "  a: RateLimitError: slow down (retry after 9 s)\n"
        "  b: OverloadedError: no room"
    )
    assert error.retryable
    assert error.retry_after_s is None
    assert error.__cause__ is models["b"].refuses
    assert models["c"].asked == 0


FILTERED = Stopped(StopReason.CONTENT_FILTER, "SAFETY")
REFUSALS = st.sampled_from(
    [[RefusalDelta("I "), RefusalDelta("cannot"), END], [FILTERED], [RefusalDelta("no"), FILTERED]]
)


@given(
    st.lists(st.sampled_from(SILENT), max_size=3),
    REFUSALS,
    st.sampled_from([(ContentFilterError,), (ModelError,), FALLBACK, ()]),
    st.sampled_from(["stream", "complete"]),
    SCHEDULES,
)
@example([UsageReport(Usage(5, 1))], [FILTERED], (ContentFilterError,), "complete", 0)
@example([UsageReport(Usage(5, 1))], [FILTERED], (ContentFilterError,), "stream", 0)
def test_an_answer_that_begins_with_a_refusal_falls_back_where_the_route_says_so(
    silent: list[ModelEvent],
    refusal: list[ModelEvent],
    falls_back_on: tuple[type[ModelError], ...],
    kind: str,
    schedule: int,
) -> None:
    """Elsewhere it is the answer; what it cost is in the account, beside the next one's usage."""
    models = {"a": saying(*silent, *refusal), "b": saying("x", UsageReport(Usage(2, 2)), END)}
    routed = route(models, falls_back_on=falls_back_on)

    account = Heard()

    async def main() -> Completion:
        PRESENT.set(account)
        if kind == "complete":
            return await routed.complete(HELLO)
        return Completion.of(await heard(routed))

    found = virtual(main, schedule=schedule)
    goes_on = issubclass(ContentFilterError, falls_back_on)
    assert models["b"].asked == goes_on
    assert found.text == ("x" if goes_on else "")
    assert models["a"].open == models["b"].open == 0
    if goes_on:
        assert found.usage == Usage(2, 2)
        spent = [Usage(5, 1)] if UsageReport(Usage(5, 1)) in silent else []
        assert [attrs.evolve(each, certainty=Certainty.EXACT) for each in account.told] == spent
        assert found.refusal == ""


def test_where_all_refuse_each_of_them_is_told() -> None:
    models = {"a": saying(RefusalDelta("I cannot"), END), "b": saying(FILTERED)}

    async def main() -> ModelsFailedError:
        with pytest.raises(ModelsFailedError) as caught:
            await heard(route(models, falls_back_on=(ContentFilterError,)))
        return caught.value

    assert str(virtual(main)) == (
        "r: 2 models of route 'r' failed, one after the other:\n"
        "  a: ContentFilterError: a: model 'a' refused to answer: I cannot\n"
        "  b: ContentFilterError: b: model 'b' refused to answer: it stopped for 'SAFETY'"
    )


def test_a_route_falls_back_where_a_task_of_the_model_failed() -> None:
    """Its body then sees `Cancelled`, and the error comes when it is left."""

    class Beside(Watched):
        @asynccontextmanager
        async def stream(self, request: ChatRequest) -> AsyncIterator[ModelReply]:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._fail)
                async with self.script.stream(request) as reply:
                    yield reply

        async def _fail(self) -> None:
            await trio.sleep(1)
            raise OverloadedError("no room")

    async def main() -> list[ModelEvent]:
        slow = Beside(ScriptedModel(((5, TextDelta("a")), (0, END))))
        return await heard(route({"a": slow, "b": saying("b", END)}))

    assert virtual(main) == [TextDelta("b"), END]


def test_a_refusal_behind_the_first_word_is_never_replaced() -> None:
    models = {"a": saying("x", RefusalDelta("no"), END), "b": saying("y", END)}
    routed = route(models, falls_back_on=(ContentFilterError,))
    events = virtual(lambda: heard(routed))
    assert events == [TextDelta("x"), RefusalDelta("no"), END]
    assert models["b"].asked == 0
    whole = virtual(lambda: routed.complete(HELLO))
    assert whole.text == "y", "of a whole answer nothing was handed out yet"


def test_the_shortest_wait_is_told_where_each_tells_one() -> None:
    soon, late = RateLimitError("", retry_after_s=1), RateLimitError("", retry_after_s=5)
    never = ContentFilterError("rude")
    assert ModelsFailedError("x", {"a": late, "b": soon, "c": never}).retry_after_s == 1
    assert not ModelsFailedError("x", {"c": never}).retryable


def test_nobody_is_asked_for_what_nobody_can() -> None:
    models = {"a": saying("x", END), "b": saying("x", END)}
    candidates = (
        Candidate(name="a", capabilities=Capabilities(tools=False)),
        Candidate(name="b", capabilities=Capabilities(context_tokens=1)),
    )
    routed = RoutedModel(Route(name="r", candidates=candidates), models)
    request = ChatRequest((Message("user", "hello, hello"),), tools=(Tool("t", "", {}),))

    async def main() -> CapabilityError:
        with pytest.raises(CapabilityError) as caught:
            await heard(routed, request)
        return caught.value

    told = str(virtual(main))
    assert "no model of route 'r' can do what is asked" in told
    assert "\n  a: it has no tools" in told
    assert "\n  b: it has 1 tokens of context, not about " in told
    assert routed.capabilities == Capabilities(context_tokens=None)
    assert not any(each.asked for each in models.values())


def test_what_was_spent_before_the_answer_is_in_the_account_and_not_in_its_usage() -> None:
    """Told once: also where all of them fail, and not at all where a guard has told it."""
    failing = saying(Began("1", "a"), UsageReport(Usage(100, 1)), error=OverloadedError("no room"))
    guarded = saying(UsageReport(Usage(7, settled=True)), error=OverloadedError("no room"))
    models = {
        "a": failing,
        "b": guarded,
        "c": saying(Began("2", "b"), UsageReport(Usage(10)), "hi", UsageReport(Usage(10, 5)), END),
    }
    account = Heard()
    failing.grouped = True

    async def main() -> list[ModelEvent]:
        PRESENT.set(account)
        said = await heard(route(models))
        with pytest.raises(OverloadedError):
            await heard(route({"a": failing}))
        return said

    said = virtual(main)
    assert [each for each in said if isinstance(each, Began)] == [Began("2", "b")]
    assert [each.usage for each in said if isinstance(each, UsageReport)][-1] == Usage(10, 5)
    assert account.told == [Usage(100, 1, Certainty.PARTIAL)] * 2


class Heard(NoAccount):
    def __init__(self) -> None:
        self.told: list[Usage] = []

    def used(self, usage: Usage, model: str = "") -> None:
        if not usage.settled:
            self.told.append(usage)


SAYS = [
    (TextDelta("x"), True),
    (TextDelta(""), False),
    (ReasoningDelta("x"), True),
    (ReasoningDelta("", "sealed"), True),
    (ReasoningDelta(""), False),
    (ToolCallDelta(0), True),
    (Began("1", "m"), False),
    (UsageReport(Usage(1)), False),
    (END, True),
]


@pytest.mark.parametrize(("event", "content"), SAYS)
def test_content_is_what_cannot_be_taken_back(event: ModelEvent, *, content: bool) -> None:
    assert says(event) == content
    models = {
        "a": saying(event, error=OverloadedError("no room")),
        "b": saying("b", END),
    }

    async def main() -> None:
        if content:
            with pytest.raises(OverloadedError):
                await heard(route(models))
        else:
            assert TextDelta("b") in await heard(route(models))

    virtual(main)


def test_an_answer_that_only_pings_is_none() -> None:
    pings: Sequence[ModelEvent] = [TextDelta("")] * BATCHES_MAX
    models = {"a": saying(*pings, "late", END), "b": saying("b", END)}

    async def main() -> None:
        assert await heard(route(models)) == [TextDelta("b"), END]
        with pytest.raises(
            MalformedStreamError, match="first 10000 batches of the answer had no content"
        ):
            await heard(route({"a": models["a"]}))

    virtual(main)


def test_vectors_come_from_models_of_one_kind() -> None:
    """One that could not be compared with the others is not asked, even if all others fail."""
    one = (Vector.of([1.0]),)
    models = {
        "chat": saying("x", END),
        "here": saying(),
        "large": attrs.evolve(saying(), vectors=one),
        "there": attrs.evolve(saying(), vectors=one),
    }
    candidates = [
        Candidate(name="chat", capabilities=Capabilities(embeddings=False)),
        Candidate(name="here", vectors="small"),
        Candidate(name="large", vectors="large"),
        Candidate(name="there", vectors="small"),
    ]

    async def main() -> None:
        routed = RoutedModel(Route(name="r", candidates=tuple(candidates)), models)
        assert (await routed.embed(EmbedRequest(("a",)))).vectors == one
        routed = RoutedModel(Route(name="r", candidates=tuple(candidates[:3])), models)
        with pytest.raises(OverloadedError):
            await routed.embed(EmbedRequest(("a",)))
        routed = RoutedModel(Route(name="r", candidates=tuple(candidates[:1])), models)
        with pytest.raises(CapabilityError, match="chat: it has no embeddings"):
            await routed.embed(EmbedRequest(("a",)))

    virtual(main)
    assert [each.asked for each in models.values()] == [0, 2, 0, 1]
