"""OpenAI's embeddings: vectors in order, however they are written."""

from __future__ import annotations

import json
import struct
from base64 import b64encode
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.accounts import Usage
from orchestra.codecs.openai.dialect import OpenAiDialect
from orchestra.codecs.openai.quirks import ALIBABA, AZURE, GENERIC, OPENAI, PERPLEXITY, VLLM, Quirks
from orchestra.errors import (
    CapabilityError,
    MalformedStreamError,
    RateLimitError,
)
from orchestra.values import EmbedRequest, Json, Vector

floats = st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=5)


@given(st.lists(floats, max_size=5), st.booleans(), st.randoms())
def test_vectors_come_in_the_order_of_the_texts_however_they_are_written(
    numbers: list[list[float]], encoded: bool, random: Any
) -> None:
    vectors = [Vector.of(each) for each in numbers]
    data = [
        {
            "index": index,
            "embedding": b64encode(vector.data).decode() if encoded else list(vector),
        }
        for index, vector in enumerate(vectors)
    ]
    random.shuffle(data)
    body = {"data": data, "model": "m", "usage": {"prompt_tokens": 3, "total_tokens": 3}}
    found = OpenAiDialect().decode_embeddings(json.dumps(body).encode())
    assert list(found.vectors) == vectors
    assert (found.usage, found.model) == (Usage(3), "m")


def answer(*vectors: object) -> bytes:
    data = [{"index": index, "embedding": each} for index, each in enumerate(vectors)]
    return json.dumps({"object": "list", "data": data, "model": "m"}).encode()


@pytest.mark.parametrize(
    ("record", "usage"),
    [
        ({"total_tokens": 3}, Usage(3)),
        ({"prompt_tokens": 0, "total_tokens": 3}, Usage(0)),
        ({"total_tokens": None}, None),
        (None, None),
    ],
)
def test_where_only_the_total_is_told_it_is_the_input(
    record: Json | None, usage: Usage | None
) -> None:
    """Voyage's record is that."""
    body = {"data": [{"index": 0, "embedding": [0.5]}], "model": "m", "usage": record}
    assert OpenAiDialect().decode_embeddings(json.dumps(body).encode()).usage == usage


@given(st.lists(st.lists(st.integers(-128, 127), max_size=9), max_size=3))
def test_perplexitys_base64_is_of_signed_bytes(numbers: list[list[int]]) -> None:
    """As its SDK's documentation and langchain-perplexity say; they have no unit length."""
    body = answer(*(b64encode(struct.pack(f"{len(each)}b", *each)).decode() for each in numbers))
    found = OpenAiDialect(PERPLEXITY).decode_embeddings(body).vectors
    assert [list(each) for each in found] == numbers


@pytest.mark.parametrize("quirks", [GENERIC, ALIBABA])
@pytest.mark.parametrize("text", ["", "AAAA", b64encode(bytes(1024)).decode()])
def test_base64_that_nobody_asked_for_is_never_taken_for_float32(quirks: Quirks, text: str) -> None:
    """1,024 numbers of int8 would be 256 of no meaning."""
    assert b"encoding_format" not in OpenAiDialect(quirks).ask_embeddings("m", ASKED).body
    with pytest.raises(MalformedStreamError, match=r"index 0 is base64 of .* not requested"):
        OpenAiDialect(quirks).decode_embeddings(answer(text))


@pytest.mark.parametrize("quirks", [OPENAI, VLLM, PERPLEXITY, GENERIC])
def test_numbers_are_read_whatever_was_asked_for(quirks: Quirks) -> None:
    found = OpenAiDialect(quirks).decode_embeddings(answer([1, 0.5]))
    assert found.vectors == (Vector.of([1, 0.5]),)


ASKED = EmbedRequest(("a",), dimensions=256)


def test_perplexity_is_asked_for_vectors_below_v1() -> None:
    call = OpenAiDialect(PERPLEXITY).ask_embeddings("pplx-embed-v1-4b", ASKED)
    assert call.path == "/v1/embeddings"
    assert json.loads(call.body) == {
        "model": "pplx-embed-v1-4b",
        "input": ["a"],
        "encoding_format": "base64_int8",
        "dimensions": 256,
    }


def test_extras_ask_for_no_format_that_would_be_read_as_another() -> None:
    def asked(quirks: Quirks, format_: str) -> bytes:
        extras = {quirks.name: {"encoding_format": format_}}
        return OpenAiDialect(quirks).ask_embeddings("m", EmbedRequest(("a",), extras=extras)).body

    for quirks, format_ in ((PERPLEXITY, "base64_binary"), (GENERIC, "base64")):
        with pytest.raises(CapabilityError, match=f"encoding_format='{format_}'"):
            asked(quirks, format_)
    for quirks, format_ in ((OPENAI, "float"), (OPENAI, "base64"), (GENERIC, "float")):
        assert json.loads(asked(quirks, format_))["encoding_format"] == format_


def test_vectors_without_an_index_stand_in_order() -> None:
    body = b'{"data":[{"embedding":[1]},{"embedding":[2]}]}'
    assert OpenAiDialect().decode_embeddings(body).vectors == (Vector.of([1]), Vector.of([2]))


def test_an_index_may_be_digits_and_a_model_a_number() -> None:
    body = b'{"model":3,"data":[{"index":"1","embedding":[1]},{"index":0.0,"embedding":[2]}]}'
    found = OpenAiDialect().decode_embeddings(body)
    assert (found.vectors, found.model) == ((Vector.of([2]), Vector.of([1])), "3")


@pytest.mark.parametrize(
    "data",
    [
        [{"index": 1, "embedding": [1]}],
        [{"index": 1, "embedding": [1]}, {"index": 1, "embedding": [2]}],
        [{"index": 0, "embedding": "AAAA"}],
        [{"index": 0, "embedding": "AAAAAA"}],
        [{"index": 0, "embedding": "AAAA!AA=="}],
        [{"index": 0, "embedding": "\u00e4"}],
        [{"index": 0, "embedding": [1e300]}],
        [{"index": 0, "embedding": [None]}],
        None,
    ],
)
def test_vectors_that_are_none_are_an_error(data: object) -> None:
    with pytest.raises(MalformedStreamError):
        OpenAiDialect().decode_embeddings(json.dumps({"data": data}).encode())


@pytest.mark.parametrize("index", [{}, {"index": 0}, {"index": None}])
def test_vectors_that_are_all_counted_0_are_in_order(index: dict[str, int | None]) -> None:
    data = [{"embedding": [number, -number]} | index for number in range(3)]
    found = OpenAiDialect().decode_embeddings(json.dumps({"data": data}).encode())
    assert [list(each) for each in found.vectors] == [[0, 0], [1, -1], [2, -2]]


def test_an_error_in_place_of_vectors_is_an_error() -> None:
    body = json.dumps({"error": {"message": "slow down", "code": "rate_limit_exceeded"}})
    with pytest.raises(RateLimitError, match="slow down"):
        OpenAiDialect().decode_embeddings(body.encode())


def test_how_many_texts_go_into_one_call_is_the_servers_say() -> None:
    assert OpenAiDialect().texts_max == 2048
    assert OpenAiDialect(attrs.evolve(OPENAI, texts_max=10)).texts_max == 10
    assert OpenAiDialect().texts_tokens_max == OpenAiDialect(AZURE).texts_tokens_max == 250_000
    assert OpenAiDialect(GENERIC).texts_tokens_max is None
