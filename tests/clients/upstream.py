"""OpenAI's servers, played on the loopback: what is asked of them is what the question says.

    fail 429        an error with this status, before anything is said; what follows is its message
    break           an error in the middle of a stream
    cut             a stream that ends without saying why
    hang            a first word, and then nothing until the client leaves
    weather         a call of the first tool, where there are tools
    cite            each word is cited from a page of the web

All else is said back, word by word; a schema is answered by an object that fits it. So does
Anthropic's server, in one piece; and if it is to cite a document, it says so of every word.
"""

from __future__ import annotations

import json
import re
import struct
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

DIMENSIONS = 4
PERSON = '{"name": "Ada", "age": 36}'


class Upstream(ThreadingHTTPServer):
    """The server; `seen` holds the bodies that it was sent."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.seen: list[dict[str, Any]] = []
        self.left = threading.Event()
        """Whether a client has left an answer that hangs."""
        self.on_seed: Callable[[], object] = lambda: None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


@contextmanager
def playing() -> Iterator[Upstream]:
    """The server, for as long as the context lasts."""
    with Upstream() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Upstream

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name
        pass

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path.endswith("/seed"):
            self.server.on_seed()
            self._json(200, {})
            return
        self.server.seen.append(body)
        if self.path.endswith("/embeddings"):
            self._json(200, _embeddings(body))
            return
        said = _text(body["messages"][-1].get("content"))
        failing = re.search(r"fail (\d+) ?(.*)", said)
        if failing:
            message = failing[2] or "no luck"
            error = {"message": message, "type": "server_error", "code": "bad_luck"}
            self._json(int(failing[1]), {"error": error})
        elif self.path.endswith("/messages"):
            self._message(body, _message(body, said))
        elif body.get("stream"):
            with suppress(OSError):
                self._stream(body, said)
        else:
            self._json(200, _whole(body, said))

    def _json(self, status: int, value: object) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _stream(self, body: dict[str, Any], said: str) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        self.close_connection = True
        self._chunk(body, {"role": "assistant", "content": ""})
        deltas, finish = _deltas(body, said)
        for delta in deltas:
            self._chunk(body, delta)
            if said in ("break", "cut", "hang"):
                break
        if said == "break":
            self._frame({"error": {"message": "it broke", "type": "server_error", "code": None}})
        elif said == "hang":
            self.rfile.read(1)  # the end of it: the client has closed
            self.server.left.set()
        elif said != "cut":
            self._chunk(body, {}, finish)
            self._frame({**_head(body, "chat.completion.chunk"), "choices": [], "usage": _usage()})
            self.wfile.write(b"data: [DONE]\n\n")

    def _message(self, body: dict[str, Any], message: dict[str, Any]) -> None:
        """Anthropic's answer: of a stream, a block's citations come before its text."""
        if not body.get("stream"):
            self._json(200, message)
            return
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        self.close_connection = True
        self._frame({"type": "message_start", "message": {**message, "content": []}})
        for index, block in enumerate(message["content"]):
            begun = {"type": "content_block_start", "content_block": {"type": "text", "text": ""}}
            deltas: list[dict[str, Any]] = [
                {"type": "citations_delta", "citation": each} for each in block.get("citations", ())
            ]
            deltas.append({"type": "text_delta", "text": block["text"]})
            self._frame({**begun, "index": index})
            for each in deltas:
                self._frame({"type": "content_block_delta", "index": index, "delta": each})
            self._frame({"type": "content_block_stop", "index": index})
        ending = {"delta": {"stop_reason": "end_turn"}, "usage": message["usage"]}
        self._frame({"type": "message_delta", **ending})
        self._frame({"type": "message_stop"})

    def _chunk(self, body: dict[str, Any], delta: object, finish: str | None = None) -> None:
        choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
        text = delta.get("content") if isinstance(delta, dict) else None
        if body.get("logprobs") and text:
            choice["logprobs"] = {"content": [_likely(text, body)], "refusal": None}
        self._frame({**_head(body, "chat.completion.chunk"), "choices": [choice]})

    def _frame(self, value: object) -> None:
        self.wfile.write(b"data: " + json.dumps(value).encode() + b"\n\n")


def _head(body: dict[str, Any], kind: str) -> dict[str, Any]:
    who = {"id": "up-1", "object": kind, "created": 1, "model": body["model"] + "-2026"}
    tier = body.get("service_tier", "default")
    return {**who, "service_tier": tier, "system_fingerprint": "fp_1"}


def _message(body: dict[str, Any], said: str) -> dict[str, Any]:
    """What Anthropic's server answers."""
    who = {"id": "up-1", "type": "message", "role": "assistant", "model": body["model"]}
    usage = {"input_tokens": 5, "output_tokens": 2}
    content = [{"type": "text", "text": said}, *_words_cited(body, said)]
    return {**who, "content": content, "stop_reason": "end_turn", "usage": usage}


def _words_cited(body: dict[str, Any], said: str) -> list[dict[str, Any]]:
    """Each word once more, and that the last document has it, or the last result of a search."""
    shown = [each for turn in body["messages"] for each in turn["content"] if "citations" in each]
    if not shown:
        return []
    last = shown[-1]
    place = {"cited_text": "cited", "title": last["title"], "source": last.get("source")}
    place |= {"search_result_index": 0, "start_block_index": 0, "end_block_index": 1}
    place["type"] = "search_result_location"
    if last["type"] == "document":
        document = {"document_index": 0, "document_title": last["title"], "cited_text": "cited"}
        place = {"type": "char_location", "start_char_index": 0, "end_char_index": 5, **document}
    return [{"type": "text", "text": each, "citations": [place]} for each in said.split()]


def _usage() -> dict[str, int]:
    return {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}


def _text(content: Any) -> str:
    if isinstance(content, list):
        return "".join(part.get("text", "") for part in content)
    return content or ""


def _deltas(body: dict[str, Any], said: str) -> tuple[list[dict[str, Any]], str]:
    if "weather" in said and body.get("tools") and body.get("tool_choice") != "none":
        name = body["tools"][0]["function"]["name"]
        call = {"id": "call_1", "type": "function", "function": {"name": name, "arguments": ""}}
        pieces = [
            {"index": 0, "function": {"arguments": each}} for each in ('{"city": ', '"Paris"}')
        ]
        return [{"tool_calls": [each]} for each in ({"index": 0, **call}, *pieces)], "tool_calls"
    answer = PERSON if body.get("response_format", {}).get("type") == "json_schema" else said
    deltas = [{"content": each} for each in re.findall(r"\S+\s*", answer or "nothing")]
    cited = [{"annotations": [each]} for each in _pages(said)] if said.startswith("cite") else []
    return [*deltas, *cited], "stop"


def _pages(said: str) -> list[dict[str, Any]]:
    places = [(each.start(), each.end()) for each in re.finditer(r"\S+", said)]
    pages = [
        {"url": f"https://{at}.test/", "title": "", "start_index": at, "end_index": to}
        for at, to in places
    ]
    return [{"type": "url_citation", "url_citation": each} for each in pages]


def _whole(body: dict[str, Any], said: str) -> dict[str, Any]:
    deltas, finish = _deltas(body, said)
    words = [delta["content"] for delta in deltas if "content" in delta]
    message: dict[str, Any] = {"role": "assistant", "content": "".join(words) or None}
    if cited := [each for delta in deltas for each in delta.get("annotations", ())]:
        message["annotations"] = cited
    if finish == "tool_calls":
        call = deltas[0]["tool_calls"][0]
        call["function"]["arguments"] = '{"city": "Paris"}'
        message["tool_calls"] = [call]
    choice: dict[str, Any] = {"index": 0, "message": message, "finish_reason": finish}
    if body.get("logprobs"):
        choice["logprobs"] = {"content": [_likely(word, body) for word in words], "refusal": None}
    return {**_head(body, "chat.completion"), "choices": [choice], "usage": _usage()}


def _likely(word: str, body: dict[str, Any]) -> dict[str, Any]:
    told = {"token": word, "logprob": -0.5, "bytes": list(word.encode())}
    return {**told, "top_logprobs": [told] * body.get("top_logprobs", 0)}


def _embeddings(body: dict[str, Any]) -> dict[str, Any]:
    size = body.get("dimensions", DIMENSIONS)
    texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
    data = []
    for index, text in enumerate(texts):
        vector: Any = [float(len(text))] * size
        if body.get("encoding_format") == "base64":
            vector = b64encode(struct.pack(f"<{size}f", *vector)).decode()
        data.append({"object": "embedding", "index": index, "embedding": vector})
    usage = {"prompt_tokens": 3, "total_tokens": 3}
    return {"object": "list", "data": data, "model": body["model"], "usage": usage}
