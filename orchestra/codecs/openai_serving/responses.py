"""Writes an answer as a stream of OpenAI's responses API: typed events, item by item.

The last event has the complete response, equal to an unstreamed one. If the answer failed, the last
events are `response.failed` and `error`, and there is no `response.completed`.

Rules of the file: the parts that all pieces of a text have in common are encoded once.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator

from orchestra.accounts import Usage
from orchestra.citations import Citation, Cited
from orchestra.codecs.openai.logprobs import logprobs_record
from orchestra.codecs.openai_serving.answers import summed
from orchestra.codecs.openai_serving.errors import OF_RESPONSES, openai_error
from orchestra.codecs.openai_serving.responses_record import (
    Item,
    ResponseHead,
    item_status,
    text_end,
)
from orchestra.codecs.raw_json import encode
from orchestra.codecs.serving.errors import error_reply, not_stopped
from orchestra.logprobs import Logprobs
from orchestra.values import (
    NO_DETAILS,
    Began,
    Details,
    Json,
    ModelEvent,
    ReasoningDelta,
    RefusalDelta,
    Stopped,
    TextDelta,
    ToolCallDelta,
    UsageReport,
)


class ResponseWriter:
    """Writes an answer as Server-Sent Events while it arrives."""

    __slots__ = (
        *("record", "_calls", "_cited", "_details", "_head", "_items", "_likely", "_seq"),
        *("_stopped", "_text", "_usage"),
    )

    def __init__(self, head: ResponseHead) -> None:
        self.record: Json | None = None
        """The complete response, after `close`."""
        self._head = head
        self._seq = 0
        self._items: list[Item] = []
        self._calls: dict[int, Item] = {}
        self._text = b""
        """The bytes before the sequence number of a text delta; b"" if no text is growing."""
        self._likely: Logprobs | None = None
        self._cited: list[Citation] = []
        """Citations that wait for the next text."""
        self._details: Details = NO_DETAILS
        self._stopped: Stopped | None = None
        self._usage: Usage | None = None

    def write(self, events: Iterable[ModelEvent], choice: int = 0) -> bytes:
        """The frames for these events; `choice` is ignored, since there is only one answer."""
        del choice
        frames: list[bytes] = []
        for event in events:
            if type(event) is TextDelta and self._text and self._likely is None:  # nearly all
                self._items[-1].texts.append(event.text)
                piece = encode(event.text)
                frames.append(b'%b%d,"delta":%b}\n\n' % (self._text, self._seq, piece))
                self._seq += 1
            else:
                frames += self._event(event)
        return frames[0] if len(frames) == 1 else b"".join(frames)

    def close(self, usage: Json | None = None) -> bytes:
        """The last event, with the complete response; `usage` is that of `response_record`.

        Raises:
            TruncatedStreamError: the answer has no stop reason; write `failed` instead.
        """
        if self._stopped is None:
            raise not_stopped()
        counted = usage or summed([self._usage])
        output = self._output(item_status(self._stopped))
        self.record = self._head.ended(self._stopped, output, counted, self._details)
        begun = b"".join(self._begin())
        return begun + self._frame(f"response.{self.record['status']}", response=self.record)

    def failed(self, error: BaseException) -> bytes:
        """The error, as the last events of the stream."""
        whole = openai_error(error_reply(error).worded(OF_RESPONSES))
        shown = {"code": whole["code"] or whole["type"], "message": whole["message"]}
        record = self._head.record("failed", self._output("incomplete"), error=shown)
        beside = {"param": whole["param"], "error": whole}
        frames = [*self._begin(), self._frame("response.failed", response=record)]
        return b"".join((*frames, self._frame("error", **shown, **beside)))

    def _event(self, event: ModelEvent) -> Iterator[bytes]:
        match event:
            case TextDelta(text="") | RefusalDelta(text="") | ReasoningDelta(text="", signature=""):
                return
            case TextDelta(text=text):
                yield from self._text_frames(text)
            case RefusalDelta(text=text):
                item = yield from self._growing("message", refuses=True)
                item.texts.append(text)
                yield self._of("response.refusal.delta", item, content_index=0, delta=text)
            case ReasoningDelta(text=text, signature=signature):
                item = yield from self._growing("reasoning")
                item.seals += [signature] if signature else []
                if text:
                    yield from self._thought_frames(text, item)
            case ToolCallDelta():
                yield from self._call_frames(event)
            case Logprobs():
                self._likely = event if self._likely is None else self._likely + event
            case Cited(citations=citations):
                yield from self._citation_frames(citations)
            case UsageReport(usage=usage):
                self._usage = usage
            case Began(details=details):
                self._details = details
            case Stopped():
                yield from self._stop(event)

    def _stop(self, stopped: Stopped) -> Iterator[bytes]:
        self._stopped = stopped
        for item in self._items:
            last = stopped if item is self._items[-1] else None
            yield from self._done(item, item_status(last))

    def _text_frames(self, text: str) -> Iterator[bytes]:
        item = yield from self._growing("message")
        if self._cited:
            yield from self._citation_frames(())
        item.texts.append(text)
        likely, self._likely = self._likely, None
        tokens = [] if likely is None else logprobs_record(likely)["content"]
        if likely is not None:
            item.likely = likely if item.likely is None else item.likely + likely
        name, beside = "response.output_text.delta", {"content_index": 0, "delta": text}
        yield self._of(name, item, logprobs=tokens, **beside)
        if not self._text:
            plain = {"content_index": 0, "logprobs": [], "sequence_number": 0}
            body = encode({"type": name, **self._place(item), **plain})
            self._text = b"event: %b\ndata: %b" % (name.encode(), body.removesuffix(b"0}"))

    def _citation_frames(self, citations: tuple[Citation, ...]) -> Iterator[bytes]:
        """The frames of the text's citations; without an open text, they wait for the next one."""
        self._cited += citations
        item = self._items[-1] if self._items else None
        if item is None or item.kind != "message" or item.refuses:
            return
        cited, self._cited = self._cited, []
        for record in item.cites(cited):
            at = {"content_index": 0, "annotation_index": len(item.annotations)}
            item.annotations.append(record)
            yield self._of("response.output_text.annotation.added", item, **at, annotation=record)

    def _thought_frames(self, text: str, item: Item) -> Iterator[bytes]:
        if not item.texts:
            part = item.part("")
            yield self._of(
                "response.reasoning_summary_part.added", item, summary_index=0, part=part
            )
        item.texts.append(text)
        yield self._of("response.reasoning_summary_text.delta", item, summary_index=0, delta=text)

    def _call_frames(self, event: ToolCallDelta) -> Iterator[bytes]:
        item = self._calls.get(event.index)
        if item is None:
            item = Item("function_call", len(self._items), call_id=event.id, name=event.name)
            self._calls[event.index] = item
            yield from self._added(item)
        item.call_id, item.name = item.call_id or event.id, item.name or event.name
        item.seals.append(event.signature)
        if event.arguments:
            item.texts.append(event.arguments)
            name = "response.function_call_arguments.delta"
            yield self._of(name, item, delta=event.arguments)

    def _growing(self, kind: str, *, refuses: bool = False) -> Generator[bytes, None, Item]:
        """The last item, if it is of this kind; else a new one, yielding its frames."""
        last = self._items[-1] if self._items else None
        same = last is not None and (last.kind, last.refuses) == (kind, refuses)
        if last is not None and same and not (last.kind == "reasoning" and last.seals):
            return last
        item = Item(kind, len(self._items), refuses=refuses, begin=text_end(self._items))
        yield from self._added(item)
        if kind == "message":
            part = item.part("")
            yield self._of("response.content_part.added", item, content_index=0, part=part)
        return item

    def _added(self, item: Item) -> Iterator[bytes]:
        """The frames of a new item, after those that end the one before, unless that is a call."""
        yield from self._begin()
        if self._items and self._items[-1].kind != "function_call":
            yield from self._done(self._items[-1], "completed")
        self._items.append(item)
        record = item.record(self._head, "in_progress")
        yield self._frame("response.output_item.added", output_index=item.index, item=record)

    def _done(self, item: Item, status: str) -> Iterator[bytes]:
        if item.done:
            return
        item.done, self._text = True, b""
        text, part = item.text, item.part(item.text)
        match item.kind:
            case "function_call":
                name = "response.function_call_arguments.done"
                yield self._of(name, item, name=item.name, arguments=text)
            case "reasoning" if text:
                at = {"summary_index": 0}
                yield self._of("response.reasoning_summary_text.done", item, **at, text=text)
                yield self._of("response.reasoning_summary_part.done", item, **at, part=part)
            case "message":
                name = "response.refusal.done" if item.refuses else "response.output_text.done"
                content = {key: part[key] for key in part.keys() & {"text", "refusal", "logprobs"}}
                yield self._of(name, item, content_index=0, **content)
                yield self._of("response.content_part.done", item, content_index=0, part=part)
        record = item.record(self._head, status)
        yield self._frame("response.output_item.done", output_index=item.index, item=record)

    def _begin(self) -> Iterator[bytes]:
        """The first events of the response; none if they have been written."""
        if self._seq:
            return
        record = self._head.record("in_progress")
        yield self._frame("response.created", response=record)
        yield self._frame("response.in_progress", response=record)

    def _output(self, last: str) -> list[Json]:
        """The items so far; `last` is the status of the last one."""
        statuses = ["completed"] * (len(self._items) - 1) + [last]
        pairs = zip(self._items, statuses, strict=False)
        return [item.record(self._head, status) for item, status in pairs]

    def _place(self, item: Item) -> Json:
        return {"item_id": self._head.item_id(item.kind, item.index), "output_index": item.index}

    def _of(self, kind: str, item: Item, **fields: object) -> bytes:
        return self._frame(kind, **self._place(item), **fields)

    def _frame(self, kind: str, **fields: object) -> bytes:
        event = {"type": kind, **fields, "sequence_number": self._seq}
        self._seq += 1
        return b"event: %b\ndata: %b\n\n" % (kind.encode(), encode(event))
