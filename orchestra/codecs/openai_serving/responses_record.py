"""Complete answers in the format of OpenAI's responses API: a list of items.

The items are thoughts, texts and tool calls, in the order in which they began.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import attrs

from orchestra.answers import Completion
from orchestra.citations import Citation, passages
from orchestra.codecs.openai.annotations import page_records
from orchestra.codecs.openai.logprobs import logprobs_record
from orchestra.codecs.openai_serving.answers import summed
from orchestra.codecs.seals import google_content
from orchestra.logprobs import Logprobs
from orchestra.values import (
    Details,
    Json,
    ReasoningPart,
    Stopped,
    StopReason,
    TextPart,
)

_INCOMPLETE = {
    StopReason.LENGTH: "max_output_tokens",
    StopReason.PAUSED: "max_output_tokens",
    StopReason.OTHER: "max_output_tokens",
    StopReason.CONTENT_FILTER: "content_filter",
}
"""OpenAI's reasons for an answer that is, or may be, incomplete; with any other, it is complete."""
_PREFIXES = {"message": "msg", "reasoning": "rs", "function_call": "fc"}


@attrs.frozen
class ResponseHead:
    """The fields of a response other than its answer; its ids are made from `run`.

    `echo` is the part of the request that the response repeats; `created_s` is seconds since 1970.
    """

    run: str
    model: str
    created_s: int
    echo: Json
    metadata: Json

    @property
    def id(self) -> str:
        """The id of the response."""
        return f"resp_{self.run}"

    def item_id(self, kind: str, index: int) -> str:
        """The id of an item of the response."""
        return f"{_PREFIXES[kind]}_{self.run}_{index}"

    def namespace(self, function: str) -> Json:
        """The field with the namespace of a called function; no field if it is in none."""
        for tool in self.echo["tools"]:
            inner = (tool.get("tools") or ()) if tool["type"] == "namespace" else ()
            if any(each.get("name") == function for each in inner):
                return {"namespace": tool.get("name")}
        return {}

    def record(self, status: str, output: Sequence[Json] = (), **more: object) -> Json:
        """The response so far."""
        return {
            "id": self.id,
            "object": "response",
            "created_at": self.created_s,
            "status": status,
            "background": False,
            "error": None,
            "incomplete_details": None,
            "model": self.model,
            "output": list(output),
            "usage": None,
            "metadata": self.metadata,
            **self.echo,
            **more,
        }

    def ended(
        self, stopped: Stopped, output: Sequence[Json], usage: Json | None, details: Details
    ) -> Json:
        """The response after the end of its answer."""
        why = _INCOMPLETE.get(stopped.reason)
        tier = {"service_tier": details["service_tier"]} if "service_tier" in details else {}
        return self.record(
            "completed" if why is None else "incomplete",
            output,
            incomplete_details=None if why is None else {"reason": why},
            usage=None if usage is None else response_usage(usage),
            **tier,
        )


def response_record(answer: Completion, head: ResponseHead, usage: Json | None = None) -> Json:
    """The body of a response with a complete answer.

    `usage` is the record of the usage of the whole request; without it, the answer's own is used.
    """
    counted = usage or summed([answer.usage])
    return head.ended(answer.stopped, [*_items(answer, head)], counted, answer.details)


def response_usage(record: Json) -> Json:
    """A usage record of a chat completion, with the field names of a response."""
    words = {"prompt_tokens": "input_tokens", "completion_tokens": "output_tokens"}
    words |= {f"{old}_details": f"{new}_details" for old, new in words.items()}
    return {words.get(key, key): value for key, value in record.items()}


def _items(answer: Completion, head: ResponseHead) -> Iterator[Json]:
    grown = list[Item]()
    texts = (part.text for part in answer.parts if isinstance(part, TextPart))
    cut = passages(texts, answer.citations)
    for part in answer.parts:
        if isinstance(part, TextPart):
            item = Item("message", len(grown), [part.text], begin=text_end(grown))
            if not any(each.kind == "message" for each in grown):
                item.likely = answer.logprobs
            for _, cited in next(cut):
                item.annotations += item.cites(cited)
        elif isinstance(part, ReasoningPart):
            item = Item("reasoning", len(grown), [part.text], seals=[part.signature])
        else:
            item = Item("function_call", len(grown), [part.arguments], call_id=part.id)
            item.name, item.seals = part.name, [part.signature]
        grown.append(item)
    if answer.refusal:
        grown.append(Item("message", len(grown), [answer.refusal], refuses=True))
    for item in grown:
        last = item is grown[-1]
        yield item.record(head, item_status(answer.stopped if last else None))


def text_end(items: Sequence[Item]) -> int:
    """The offset in the answer's text at which the next text begins."""
    texts = (each for each in reversed(items) if each.kind == "message" and not each.refuses)
    return next((each.begin + len(each.text) for each in texts), 0)


def item_status(stopped: Stopped | None) -> str:
    """The status of the last item of an ended answer; pass None for the items before it."""
    return "incomplete" if stopped is not None and stopped.reason in _INCOMPLETE else "completed"


@attrs.define(eq=False)
class Item:
    """An item of an answer, which may still be growing."""

    kind: str
    index: int
    texts: list[str] = attrs.field(factory=list)
    refuses: bool = False
    seals: list[str] = attrs.field(factory=list)
    call_id: str = ""
    name: str = ""
    likely: Logprobs | None = None
    done: bool = False
    begin: int = 0
    """The offset of its text in the answer's text."""
    annotations: list[Json] = attrs.field(factory=list)

    @property
    def text(self) -> str:
        """The text so far; for a call, its arguments."""
        found = "".join(self.texts)
        return found if self.kind != "function_call" or found.strip() else "{}"

    def cites(self, citations: Iterable[Citation]) -> list[Json]:
        """The annotations for these citations of its text; only web pages have one."""
        return [{"type": "url_citation", **page} for page in page_records(citations, self.begin)]

    def part(self, text: str) -> Json:
        """The content part with this text."""
        if self.kind == "reasoning":
            return {"type": "summary_text", "text": text}
        if self.refuses:
            return {"type": "refusal", "refusal": text}
        likely = logprobs_record(self.likely)["content"] if self.likely and text else []
        annotations = list(self.annotations) if text else []
        return {"type": "output_text", "annotations": annotations, "logprobs": likely, "text": text}

    def record(self, head: ResponseHead, status: str) -> Json:
        """The item so far."""
        id_, begun = head.item_id(self.kind, self.index), status != "in_progress"
        fields: Json = {"id": id_, "type": self.kind, "status": status}
        seal = "".join(self.seals)
        if self.kind == "function_call":
            arguments = self.text if begun else ""
            call = {"call_id": self.call_id, "name": self.name, "arguments": arguments}
            call |= head.namespace(self.name)
            return {**fields, **call, **(google_content(seal) if seal else {})}
        content = [self.part(self.text)] if begun and self.text else []
        if self.kind == "reasoning":
            return {**fields, "summary": content, **({"encrypted_content": seal} if seal else {})}
        return {**fields, "role": "assistant", "content": content}
