"""LangChain's ChatOpenAI against a server: `python langchain_asks.py BASE_URL` prints what it got."""

from __future__ import annotations

import json
import sys

from langchain_core.messages import HumanMessage
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel


class Person(BaseModel):
    """A person."""

    name: str
    age: int


def weather(city: str) -> str:
    """The weather of a city."""
    return f"sunny in {city}"


def main(base_url: str) -> None:
    model = ChatOpenAI(model="gpt-4o", base_url=base_url, api_key="any", stream_usage=True)
    shout = ChatOpenAI(model="shout", base_url=base_url, api_key="any")
    whole = model.invoke("one two three")
    chunks = list(model.stream("one two three"))
    called = model.bind_tools([weather]).invoke([HumanMessage("weather?")])
    embeddings = OpenAIEmbeddings(
        model="text-embedding-3-small",
        base_url=base_url,
        api_key="any",
        check_embedding_ctx_length=False,
    )
    found = {
        "whole": whole.content,
        "tokens": whole.usage_metadata["input_tokens"],
        "streamed": [each.content for each in chunks if each.content],
        "streamed_tokens": sum((c.usage_metadata or {}).get("input_tokens", 0) for c in chunks),
        "calls": [(call["name"], call["args"]) for call in called.tool_calls],
        "person": model.with_structured_output(Person).invoke("who?").model_dump(),
        "pipeline": shout.invoke("by the pipeline").content,
        "vectors": embeddings.embed_documents(["a", "bcd"]),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])
