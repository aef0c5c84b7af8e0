"""OpenAI's embeddings, both ways: what we write of a request and its answer, we read as the same."""

from __future__ import annotations

import json
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.accounts import Usage
from orchestra.codecs.openai.dialect import OpenAiDialect
from orchestra.codecs.openai.quirks import OPENAI
from orchestra.codecs.openai_serving.embeddings import embeddings_body, served_embeddings
from orchestra.errors import InvalidRequestError
from orchestra.values import Embeddings, EmbedRequest, Vector

numbers = st.lists(
    st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=3
)
requests = st.builds(
    EmbedRequest,
    st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=3).map(tuple),
    dimensions=st.none() | st.integers(1, 9),
    extras=st.sampled_from([{}, {"openai": {"user": "ada"}}, {"openai-dialect": {"x": 1}}]),
)


@given(requests, st.booleans())
def test_what_is_written_of_a_request_is_read_as_the_same(
    request: EmbedRequest, base64: bool
) -> None:
    quirks = attrs.evolve(OPENAI, embeddings_format="base64" if base64 else "float")
    served = served_embeddings(OpenAiDialect(quirks).ask_embeddings("m", request).body)
    assert (served.request, served.model, served.base64) == (request, "m", base64)


@given(st.lists(numbers, max_size=3), st.booleans())
def test_what_is_written_of_vectors_is_read_as_the_same(
    several: list[list[float]], base64: bool
) -> None:
    found = Embeddings(tuple(map(Vector.of, several)), Usage(3), "m")
    usage = {"prompt_tokens": 3, "total_tokens": 3}
    body = embeddings_body(found, model="m", usage=usage, base64=base64)
    assert OpenAiDialect().decode_embeddings(body) == found
    assert isinstance(json.loads(body)["data"], list)


def read(**fields: Any) -> EmbedRequest:
    return served_embeddings(json.dumps({"model": "m", **fields}).encode()).request


def test_what_is_said_to_our_policies_is_kept_apart_from_what_a_provider_is_told() -> None:
    found = read(input="a", orchestra={"coalesce": False}, user="me", other=1).extras
    assert found == {
        "orchestra": {"coalesce": False},
        "openai": {"user": "me"},
        "openai-dialect": {"other": 1},
    }


def test_one_text_is_a_list_of_one() -> None:
    assert read(input="a") == read(input=["a"]) == EmbedRequest(("a",))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "input: it is missing"),
        ({"input": []}, "input: it is empty"),
        ({"input": [1, 2]}, "input: it is a list of tokens"),
        ({"input": [[1], [2]]}, "input: it is a list of tokens"),
        ({"input": ["a", ""]}, "input[1]: it is empty"),
        ({"input": ["a"] * 2049}, "input: it has 2049 texts"),
        ({"input": "a", "dimensions": 0}, "dimensions: Expected `int` >= 1"),
        ({"input": "a", "encoding_format": "hex"}, "encoding_format: "),
    ],
)
def test_what_is_wrong_is_told_with_its_path(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        read(**fields)
    assert caught.value.message.startswith(message)
