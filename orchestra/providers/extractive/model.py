"""A model that needs no key and no network: it quotes the best sentences of the prompt's sources.

It parses the prompt, chooses sentences, and streams them word by word with the marks of their
sources. The answer contains only text from the prompt, and a note that says so.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Self

import trio

from orchestra.accounts import Certainty, Usage
from orchestra.codecs.dialect import refuse
from orchestra.errors import ModelError
from orchestra.protocols import Embedder, Model
from orchestra.providers.extractive.choosing import Candidate, candidates, choose, say
from orchestra.providers.extractive.parsed_prompt import ParsedPrompt, read
from orchestra.values import ChatRequest, ModelEvent, Stopped, StopReason, TextDelta, UsageReport

PROMPT_CHARS_MAX = 400_000
"""The most characters of a prompt: about 100,000 tokens. Other models have such limits, too."""
BYTES_PER_TOKEN = 4
"""The rule of thumb for English text in OpenAI's documentation."""
_SOURCE_CHARS_MAX = 2000  # the part of a source that is embedded for its similarity
_WORDS_AT_ONCE = 8


class ExtractiveModel(Model):
    """A `Model` that quotes up to four sentences from the sources in its prompt.

    Sources begin with `[1]`, `[2]` and so on, as described in `parsed_prompt`; without these marks,
    each paragraph of the prompt is a source. The answer ends with a note that it is a quotation,
    and with the names of the cited sources. If no source is related to the question, the answer
    says so.

    The same request always gets the same answer: `temperature` and `seed` are ignored.
    `output_tokens_max` and the usage count four bytes as one token; the usage is reported as an
    estimate. `stop` is obeyed.
    """

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder

    def stream(self, request: ChatRequest) -> ExtractiveAnswer:
        """Answer a request; the sentences are chosen on entry, in a few milliseconds.

        Raises:
            ModelError: on entry, if the prompt is longer than `PROMPT_CHARS_MAX` characters, or
                logprobs are requested.
            BindingError: on entry, if the embedder needs a package that is not installed.
        """
        return ExtractiveAnswer(self._embedder, request)


class ExtractiveAnswer:
    """An answer of the extractive model: a context manager that returns itself as the reply."""

    def __init__(self, embedder: Embedder, request: ChatRequest) -> None:
        self._embedder = embedder
        self._request = request
        self._events: list[ModelEvent] = []

    async def __aenter__(self) -> Self:
        answer = await _answer(self._embedder, self._request)
        self._events = events(self._request, answer)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._events = []

    async def receive(self) -> tuple[ModelEvent, ...]:
        """The next events, at most eight: words, then the usage and the stop reason; then empty.

        Never waits, but is a checkpoint.
        """
        await trio.lowlevel.checkpoint()
        batch = tuple(self._events[:_WORDS_AT_ONCE])
        del self._events[:_WORDS_AT_ONCE]
        return batch


def events(request: ChatRequest, answer: str) -> list[ModelEvent]:
    """The model events of an answer: its words, the usage, and the stop reason."""
    text, reason = ended(answer, request.stop, request.output_tokens_max)
    words: list[ModelEvent] = [TextDelta(word) for word in re.findall(r"\s*\S+|\s+", text)]
    usage = Usage(
        sum(tokens(message.text) for message in request.messages),
        tokens(text),
        Certainty.ESTIMATED,
    )
    return [*words, UsageReport(usage), Stopped(reason)]


def ended(answer: str, stop: Sequence[str], tokens_max: int | None) -> tuple[str, StopReason]:
    """The answer, cut at the first stop sequence and at the token limit; and the stop reason."""
    ends = [at for mark in stop if mark and (at := answer.find(mark)) >= 0]
    text = answer[: min(ends)] if ends else answer
    if tokens_max is not None and tokens(text) > tokens_max:
        room = max(0, tokens_max) * BYTES_PER_TOKEN
        return text.encode()[:room].decode("utf-8", "ignore"), StopReason.LENGTH
    return text, StopReason.STOP_SEQUENCE if ends else StopReason.END


def tokens(text: str) -> int:
    """The estimated number of tokens in a text: a quarter of its bytes, rounded up."""
    return -(-len(text.encode("utf-8", "replace")) // BYTES_PER_TOKEN)


async def _answer(embedder: Embedder, request: ChatRequest) -> str:
    refuse(request, "the extractive model", "logprobs")
    chars = sum(len(message.text) for message in request.messages)
    if chars > PROMPT_CHARS_MAX:
        raise ModelError(
            f"the prompt has {chars} characters, but the extractive model reads at most "
            f"{PROMPT_CHARS_MAX}; give it fewer or shorter sources"
        )
    prompt, found = await trio.to_thread.run_sync(_read, request)
    return say(await _chosen(embedder, prompt, found), prompt.sources)


def _read(request: ChatRequest) -> tuple[ParsedPrompt, list[Candidate]]:
    prompt = read(request.messages)
    return prompt, candidates(prompt)


async def _chosen(
    embedder: Embedder, prompt: ParsedPrompt, found: Sequence[Candidate]
) -> list[Candidate]:
    """The sentences to quote. The embedder is called even if there is nothing to quote.

    Otherwise, a missing package would be reported only by the first prompt with sources.
    """
    about = [source.text[:_SOURCE_CHARS_MAX] for source in prompt.sources]
    question = prompt.question or " ".join(about)  # without a question: the most central sentences
    vectors = await embedder.embed([question, *about, *(one.text for one in found)])
    sources, sentences = vectors[1 : 1 + len(about)], vectors[1 + len(about) :]
    return choose(prompt.question, found, asked=vectors[0], sentences=sentences, sources=sources)
