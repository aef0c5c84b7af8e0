"""Images that stand in their own address: sent as what they are."""

from __future__ import annotations

import json
from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.codecs.anthropic.dialect import AnthropicDialect
from orchestra.codecs.bedrock.converse import BedrockDialect
from orchestra.codecs.bedrock.invoke import BedrockInvokeDialect
from orchestra.codecs.data_urls import data_image
from orchestra.codecs.dialect import Dialect
from orchestra.codecs.gemini.dialect import GeminiDialect
from orchestra.errors import CapabilityError
from orchestra.values import ChatRequest, ImagePart, ImageUrlPart, Message

DIALECTS: list[tuple[Dialect, str]] = [
    (AnthropicDialect(), "claude-sonnet-5"),
    (BedrockDialect(), "anthropic.claude-sonnet-4-6"),
    (BedrockInvokeDialect(), "anthropic.claude-sonnet-4-6"),
    (GeminiDialect(), "gemini-3-flash"),
]


def sent(dialect: Dialect, model: str, part: ImagePart | ImageUrlPart) -> object:
    request = ChatRequest((Message("user", (part,)),))
    return json.loads(dialect.ask(model, request, stream=False).body)


@pytest.mark.parametrize(("dialect", "model"), DIALECTS)
@pytest.mark.parametrize("media_type", ["image/png", "image/jpg", "image/webp"])
def test_a_data_url_is_sent_as_the_image_that_it_is(
    dialect: Dialect, model: str, media_type: str
) -> None:
    part = ImageUrlPart(f"data:{media_type};base64,{b64encode(b'bytes').decode()}")
    assert sent(dialect, model, part) == sent(dialect, model, ImagePart(b"bytes", media_type))


@pytest.mark.parametrize(("dialect", "model"), DIALECTS)
@pytest.mark.parametrize("url", ["data:image/png,bytes", "data:image/png;base64,????", "data:"])
def test_a_data_url_that_cannot_be_read_is_refused(dialect: Dialect, model: str, url: str) -> None:
    with pytest.raises(CapabilityError, match="give the image's bytes as an ImagePart"):
        sent(dialect, model, ImageUrlPart(url))


@given(st.binary(max_size=9))
def test_what_is_written_into_an_address_is_read_from_it(data: bytes) -> None:
    url = f"data:image/gif;base64,{b64encode(data).decode()}"
    assert data_image(url, "low") == ImagePart(data, "image/gif", "low")
    assert data_image("https://u/cat.gif") is None


def test_jpeg_has_one_name() -> None:
    assert ImagePart(b"", "image/jpg") == ImagePart(b"", "image/jpeg")
    assert ImagePart(b"", "image/heic").media_type == "image/heic"
