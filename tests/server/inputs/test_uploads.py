"""Files over HTTP: as curl and httpx send them, and as nobody should."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestra.documents import Document
from orchestra.engine.engine import Engine, open_engine
from orchestra.graph.pipelines import pipeline
from orchestra.graph.steps import step
from orchestra.server.app import create_app
from orchestra.server.inputs.uploads import Upload, Uploads
from orchestra.server.responses.problems import HttpProblem
from orchestra.server.settings import Settings
from orchestra.steps.read import text_of
from tests.pdfs import pdf
from tests.server.wire import House, Reply, open_house

TYPE = "multipart/form-data; boundary=B"


@step
def told(document: Document, question: str, others: list[Document]) -> dict[str, object]:
    also = [other.name for other in others]
    return {
        "name": document.name,
        "kind": document.media_type,
        "size": len(document.data),
        "question": question,
        "also": also,
    }


@pipeline
def look(document: Document, question: str = "", others: list[Document] = []) -> dict[str, object]:  # noqa: B006 - a default is told
    """Tell what came."""
    return told(document, question, others)


@pipeline
def text(document: Document) -> str:
    """Tell what it says."""
    return text_of(document)


@step
async def waits(document: Document) -> str:
    while True:
        await trio.sleep_forever()


@pipeline
def wait(document: Document) -> str:
    """Hold it."""
    return waits(document)


@asynccontextmanager
async def served(settings: Settings | None = None) -> AsyncIterator[tuple[House, Engine]]:
    settings = settings or Settings()
    async with open_engine() as engine:
        app = create_app(engine, {"look": look, "text": text, "wait": wait}, settings)
        async with open_house(app, settings) as house:
            yield house, engine


def post(pipeline: str, body: bytes, *headers: str, settings: Settings | None = None) -> Reply:
    async def main() -> Reply:
        async with served(settings) as (house, _):
            head = [f"POST /v1/pipelines/{pipeline}/runs HTTP/1.1", *headers]
            return await (await house.connect()).ask("\n".join(head), body)

    return trio.run(main)


def form(*parts: bytes) -> bytes:
    return (
        b"".join(b"--B\r\nContent-Disposition: form-data; " + part for part in parts) + b"--B--\r\n"
    )


FILE = b'name="document"; filename="a.md"\r\n\r\n# A\r\n'


def test_what_httpx_sends_arrives(tmp_path: Path) -> None:
    content = bytes(range(256)) * 2000 + b"\r\n--"

    async def main() -> Any:
        async with served() as (house, _), httpx.AsyncClient() as client:
            answered = await client.post(
                f"http://127.0.0.1:{house.port}/v1/pipelines/look/runs",
                data={"question": "why é?"},
                files=[
                    ("document", ('a "b" é.bin', content)),
                    ("others", ("1.md", b"1")),
                    ("others", ("2.md", b"2", "text/x")),
                ],
            )
            return answered.json()["result"]

    assert trio.run(main) == {
        "name": 'a "b" é.bin',
        "kind": "application/octet-stream",
        "size": len(content),
        "question": "why é?",
        "also": ["1.md", "2.md"],
    }


@pytest.mark.may_skip("not every machine has curl")
@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl here")
def test_what_curl_sends_arrives(tmp_path: Path) -> None:
    file = tmp_path / "report.pdf"
    file.write_bytes(pdf("Bees make honey."))

    async def main() -> Any:
        async with served() as (house, _):
            url = f"http://127.0.0.1:{house.port}/v1/pipelines/text/runs"
            ended = await trio.run_process(
                ["curl", "-sS", url, "-F", f"document=@{file}"], capture_stdout=True
            )
            return msgspec.json.decode(ended.stdout)["result"]

    assert trio.run(main) == "Bees make honey."


def test_a_document_may_come_as_json() -> None:
    for content in ({"text": "# A"}, {"data": "IyBB"}):
        body = msgspec.json.encode({"inputs": {"document": {"name": "a.md", **content}}})
        reply = post("text", body, "Content-Type: application/json")
        assert reply.json["result"] == "# A"


@pytest.mark.parametrize(
    ("body", "type_", "status", "code", "detail"),
    [
        (form(FILE), "multipart/form-data", 400, "bad-body", "names no boundary"),
        (form(FILE)[:-9], TYPE, 400, "bad-body", "it was cut"),
        (form(b"x\r\n\r\n\r\n"), TYPE, 400, "bad-body", "part 1 of the form has no name"),
        (form(), TYPE, 422, "bad-inputs", "input 'document' is missing"),
        (
            form(b'name="document"\r\n\r\na\xff\r\n'),
            TYPE,
            422,
            "unreadable-document",
            "is not utf-8",
        ),
        (form(FILE), "text/plain", 415, "bad-media-type", "send application/json or multipart"),
    ],
)
def test_what_is_wrong_with_a_form_is_a_problem(
    body: bytes, type_: str, status: int, code: str, detail: str
) -> None:
    reply = post("text", body, f"Content-Type: {type_}")
    assert reply.status == status
    assert reply.json["type"] == f"urn:problem-type:orchestra:{code}"
    assert detail in str(reply.json["detail"])


JSON = b'name="%b"%b\r\nContent-Type: application/json\r\n\r\n%b[]\r\n'
SMALL = Settings(upload_limit_bytes=5000, file_limit_bytes=3000, body_limit_bytes=1000, parts_max=3)


@pytest.mark.parametrize(
    ("parts", "detail"),
    [
        (
            [b'name="document"; filename="a"\r\n\r\n%s\r\n' % (b"x" * 3001)],
            "part 'document' is larger than 3000",
        ),
        ([b'name="question"\r\n\r\n%s\r\n' % (b"x" * 1001)], "part 'question' is larger than 1000"),
        (
            [b'name="document"; filename="a"\r\n\r\n%s\r\n' % (b"x" * 6000)],
            "larger than 5000 bytes",
        ),
        ([FILE] * 4, "the form is larger than 3 parts"),
        (
            [FILE, JSON % (b"question", b'; filename="a"', b" " * 999)],
            "the JSON in the form is larger than 1000 bytes",
        ),
        (
            [FILE, *[JSON % (b"others", b"", b" " * 500)] * 2],
            "the JSON in the form is larger than 1000 bytes",
        ),
    ],
)
def test_a_form_is_bounded(parts: list[bytes], detail: str) -> None:
    reply = post("look", form(*parts), f"Content-Type: {TYPE}", settings=SMALL)
    assert reply.status == 413
    assert detail in str(reply.json["detail"])


def test_a_file_of_json_for_an_input_that_takes_documents_may_be_as_large_as_any() -> None:
    file = JSON % (b"document", b'; filename="a.json"', b" " * 2000)
    told: Any = post("look", form(file), f"Content-Type: {TYPE}", settings=SMALL).json["result"]
    assert told["size"] == 2002


def test_a_form_of_unknown_length_is_bounded_as_it_comes() -> None:
    async def main() -> Reply:
        async with served(SMALL) as (house, _):
            client = await house.connect()
            await client.send(
                f"POST /v1/pipelines/look/runs HTTP/1.1\nContent-Type: {TYPE}\n"
                "Transfer-Encoding: chunked"
            )
            chunk = form(FILE)[:-5] + b"x" * 2000
            for _ in range(3):
                await client.stream.send_all(b"%x\r\n%s\r\n" % (len(chunk), chunk))
            return await client.reply()

    reply = trio.run(main)
    assert reply.status == 413


class Arriving:
    """A request's body: these chunks, and then its end, or nothing any more."""

    def __init__(self, chunks: list[bytes], *, stalls: bool = False) -> None:
        self._chunks = list(chunks)
        self._stalls = stalls

    def __aiter__(self) -> Arriving:
        return self

    async def __anext__(self) -> bytes:
        await trio.lowlevel.checkpoint()
        if self._chunks:
            return self._chunks.pop(0)
        if self._stalls:
            await trio.sleep_forever()
        raise StopAsyncIteration


@settings(max_examples=50)
@given(st.lists(st.binary()), st.none() | st.integers(0, 200), st.booleans())
def test_what_arrives_is_counted_and_given_back(
    chunks: list[bytes], length: int | None, stalls: bool
) -> None:
    """However a form ends, and whether it says how long it is."""
    uploads = Uploads(SMALL)

    async def main() -> None:
        with trio.move_on_after(1):
            found = await uploads.read(Arriving(chunks, stalls=stalls), TYPE, length, "t")
            assert isinstance(found, HttpProblem)
        assert not uploads._held_bytes

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_a_slow_form_is_given_up() -> None:
    async def main() -> Any:
        return await Uploads(Settings()).read(Arriving([], stalls=True), TYPE, 100, "")

    found = trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert (found.status, found.code) == (408, "request-timeout")


def test_what_is_announced_takes_no_place_from_others() -> None:
    """Nor what a tenant holds: it is at most half of all."""
    uploads = Uploads(Settings(upload_limit_bytes=1000, uploads_limit_bytes=400))
    some = b"--B\r\nContent-Disposition: form-data; name=x\r\n\r\n" + b"x" * 103
    rest = b"\r\n--B--\r\n"

    async def main() -> None:
        async def upload(tenant: str) -> Upload | HttpProblem:
            return await uploads.read(Arriving([some, rest]), TYPE, None, tenant)

        async with trio.open_nursery() as nursery:
            for _ in range(9):
                silent = partial(uploads.read, Arriving([], stalls=True), TYPE, 1000, "evil")
                nursery.start_soon(silent)
            nursery.start_soon(uploads.read, Arriving([some], stalls=True), TYPE, 1000, "evil")
            await trio.testing.wait_all_tasks_blocked()
            refused = await upload("evil")
            assert isinstance(refused, HttpProblem)
            assert (refused.status, refused.code) == (503, "too-busy")
            assert "when one of those runs has ended" in refused.detail
            held = await upload("good")
            assert isinstance(held, Upload)
            full = await upload("other")
            assert isinstance(full, HttpProblem)
            assert full.status == 503
            held.give_back()
            held.give_back()
            assert isinstance(await upload("other"), Upload)
            nursery.cancel_scope.cancel()
        assert [*uploads._held_bytes] == ["other"]

    trio.run(main)


@pytest.mark.parametrize("wish", ["", "\nPrefer: respond-async", "\nIdempotency-Key: k"])
def test_a_form_is_held_until_its_run_has_ended(wish: str) -> None:
    """However it was started; one that starts no run is given back at once."""
    small = Settings(uploads_limit_bytes=500)
    head = f"POST /v1/pipelines/%s/runs HTTP/1.1\nContent-Type: {TYPE}"

    async def main() -> None:
        async with served(small) as (house, engine):
            client, other = await house.connect(), await house.connect()
            body = form(b'name="document"; filename="a"\r\n\r\n%s\r\n' % (b"x" * 300))
            for _ in range(3):
                assert (await other.ask(head % "look", body)).status == 200
                wrong = body.replace(b"document", b"documint")
                assert (await other.ask(head % "look", wrong)).status == 422
            await client.send(head % "wait" + wish, body)
            while not engine.runs:
                await trio.lowlevel.checkpoint()
            assert (await other.ask(head % "look", body)).status == 503
            engine.cancel_all("enough")
            await engine.wait_idle()
            assert (await other.ask(head % "look", body)).status == 200

    trio.run(main)


def test_a_form_larger_than_it_says_is_refused() -> None:
    async def main() -> Any:
        return await Uploads(Settings()).read(Arriving([b"x" * 11]), TYPE, 10, "")

    assert trio.run(main).status == 413
