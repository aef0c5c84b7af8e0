"""What `/metrics` says of the models and routes that clients call by their names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext

import msgspec
import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families as parsed

from orchestra.errors import (
    InvalidRequestError,
    ModelsFailedError,
    OverloadedError,
    RateLimitError,
)
from orchestra.observe import names
from orchestra.observe.counting import Counting
from orchestra.observe.metrics import Metrics
from orchestra.server.processes.serving import House, Loaded, Serving
from orchestra.server.settings import Settings
from orchestra.testing.world import ScriptedModel, World
from orchestra.values import Purpose, TextDelta, Vector
from tests.server.openai.test_chat import PIPELINES
from tests.server.wire import open_house

CHATS = "POST /v1/chat/completions HTTP/1.1\nContent-Type: application/json"
EMBEDS = "POST /v1/embeddings HTTP/1.1\nContent-Type: application/json"
ROUTE = ModelsFailedError(
    "all models of route 'smart' failed:",
    {"a": OverloadedError("no room"), "b": InvalidRequestError("it has no eyes")},
)


class Lengths:
    """An embedder whose vectors tell how long their texts are."""

    dimensions = 1

    async def embed(self, texts: Sequence[str], *, purpose: Purpose | None = None) -> list[Vector]:
        del purpose
        return [Vector.of([float(len(each))]) for each in texts]


WORLD = World(
    models={
        "fast": ScriptedModel.saying("one ", "two"),
        "smart": ScriptedModel((), ROUTE),
        "cut": ScriptedModel(((0.0, TextDelta("one")),), RateLimitError("slow down")),
    },
    embedders={"lengths": Lengths()},
)


def chat(model: str, *, stream: bool = False) -> tuple[str, bytes]:
    messages = [{"role": "user", "content": "Hi"}]
    return CHATS, msgspec.json.encode({"model": model, "messages": messages, "stream": stream})


ASKED = [
    *[chat("fast")] * 3,
    *[chat("fast", stream=True)] * 2,
    *[chat("smart")] * 2,
    chat("cut", stream=True),
    chat("chat"),
    chat("nobody's " * 20),
    (EMBEDS, msgspec.json.encode({"model": "lengths", "input": "four"})),
]


@pytest.mark.parametrize("counted", [True, False])
def test_each_run_of_a_model_is_counted_by_the_name_that_its_client_called(counted: bool) -> None:
    """With the error that the client got, though another model of the route had another."""
    settings = Settings(metrics=counted)

    async def main() -> bytes:
        loaded = Loaded(PIPELINES, WORLD, settings)
        async with trio.open_nursery() as nursery:
            counting = Counting(Metrics({}))
            serving = Serving(lambda: nullcontext(loaded), nursery, House(counting=counting))
            await serving.begin()
            async with open_house(serving, settings) as house:
                for head, body in ASKED:
                    await (await house.connect()).ask(head, body)
                told = await (await house.connect()).ask("GET /metrics HTTP/1.1")
            assert counted or not counting.metrics.tally.histograms
            nursery.cancel_scope.cancel()
        return told.body

    text = trio.run(main).decode()
    if not counted:
        return
    found: Counter[tuple[str, ...]] = Counter()
    for family in parsed(text):
        for sample in family.samples:
            if sample.name.startswith("gen_ai_server") and sample.name.endswith("_count"):
                labels = map(sample.labels.get, names.SERVED_DURATION.labels)
                found[family.name, *filter(None, labels)] += int(sample.value)
    whole, first = names.SERVED_DURATION.name, names.SERVED_FIRST_TOKEN.name
    assert found == {
        (whole, "chat", "fast"): 5,
        (first, "chat", "fast"): 2,
        (whole, "chat", "smart", "OverloadedError"): 2,
        (whole, "chat", "cut", "RateLimitError"): 1,
        (whole, "embeddings", "lengths"): 1,
    }
