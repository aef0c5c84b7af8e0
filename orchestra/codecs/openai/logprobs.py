"""Reads and writes log probabilities of tokens in OpenAI's format."""

from __future__ import annotations

import msgspec

from orchestra.logprobs import Logprobs, TokenLogprob
from orchestra.values import Json


class _Token(msgspec.Struct, gc=False):
    token: str
    logprob: float
    bytes: list[int] | None = None
    top_logprobs: list[_Token] | None = None


class _Record(msgspec.Struct, gc=False):
    content: list[_Token] | None = None
    refusal: list[_Token] | None = None


def logprobs_of(record: object) -> Logprobs | None:
    """The `logprobs` of a choice; None if they are missing, or in another format.

    Another format is not an error: some servers send their own format without being asked.
    """
    try:
        found = msgspec.convert(record, _Record)
    except msgspec.ValidationError:
        return None
    if not found.content and not found.refusal:
        return None
    return Logprobs(_tokens(found.content), _tokens(found.refusal))


def logprobs_record(likely: Logprobs) -> Json:
    """The log probabilities in OpenAI's format, which `logprobs_of` reads."""
    return {
        "content": [_written(each) for each in likely.content],
        "refusal": [_written(each) for each in likely.refusal] or None,
    }


def _tokens(tokens: list[_Token] | None) -> tuple[TokenLogprob, ...]:
    return tuple(
        TokenLogprob(
            each.token,
            each.logprob,
            None if each.bytes is None else tuple(each.bytes),
            _tokens(each.top_logprobs),
        )
        for each in tokens or ()
    )


def _written(each: TokenLogprob) -> Json:
    top = [{"token": t.token, "logprob": t.logprob, "bytes": t.data} for t in each.top]
    return {"token": each.token, "logprob": each.logprob, "bytes": each.data, "top_logprobs": top}
