"""Nothing that a request has is left out without a word: images and files in system messages."""

from __future__ import annotations

import pytest

from orchestra.codecs.anthropic.dialect import AnthropicDialect
from orchestra.codecs.bedrock.converse import BedrockDialect
from orchestra.codecs.bedrock.invoke import BedrockInvokeDialect
from orchestra.codecs.dialect import Dialect
from orchestra.codecs.gemini.dialect import GeminiDialect
from orchestra.errors import CapabilityError
from orchestra.values import ChatRequest, FilePart, ImagePart, ImageUrlPart, Message, Part

CLAUDE = "anthropic.claude-sonnet-4-6"


@pytest.mark.parametrize(
    ("dialect", "model"),
    [
        (AnthropicDialect(), "claude-haiku-4-5"),
        (GeminiDialect(), "gemini-3-flash"),
        (BedrockDialect(), CLAUDE),
        (BedrockInvokeDialect(), CLAUDE),
        (BedrockInvokeDialect(), "amazon.nova-2-lite-v1:0"),
        (BedrockInvokeDialect(), "meta.llama3-8b-instruct-v1:0"),
    ],
)
@pytest.mark.parametrize(
    "part",
    [ImagePart(b"x"), ImageUrlPart("data:image/png;base64,eA=="), FilePart(b"x", name="a.pdf")],
)
def test_an_image_or_a_file_in_a_system_message_is_refused(
    dialect: Dialect, model: str, part: Part
) -> None:
    request = ChatRequest((Message("system", (part,)), Message("user", "Hi")))
    told = f"has a part {type(part).__name__}, and .* takes only text there"
    with pytest.raises(CapabilityError, match=told):
        dialect.ask(model, request, stream=False)
