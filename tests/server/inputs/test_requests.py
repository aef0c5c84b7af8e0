"""What a request asks for is decided in one pure function, and every answer has a reason."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.graph.pipelines import pipeline
from orchestra.graph.steps import step
from orchestra.server.inputs.requests import Asked, Request, read, sent
from orchestra.server.responses.problems import HttpProblem


@step
def repeat(text: str, *, times: int) -> str:
    return text * times


@pipeline
def echo(text: str, times: int = 1) -> str:
    return repeat(text, times=times)


JSON = "application/json"


def posted(
    body: bytes, content_type: str = JSON, *, accept: str | None = None
) -> Asked | HttpProblem:
    return read(Request(accept, content_type=content_type, body=body), echo)


def refused(asked: Asked | HttpProblem) -> tuple[int, str]:
    assert isinstance(asked, HttpProblem)
    return asked.status, asked.detail


def test_a_post_gives_the_inputs_in_its_body() -> None:
    asked = posted(b'{"inputs": {"text": "a", "times": 2}}')
    assert asked == Asked(echo, {"text": "a", "times": 2}, streams=False)


def test_a_get_gives_them_in_its_query() -> None:
    request = Request("text/event-stream", [("text", "a"), ("times", "2")])
    assert read(request, echo) == Asked(echo, {"text": "a", "times": 2}, streams=True)


@given(st.text(), st.integers(-(2**53), 2**53))
def test_both_ways_of_asking_ask_the_same(text: str, times: int) -> None:
    body = msgspec.json.encode({"inputs": {"text": text, "times": times}})
    query = [("text", text), ("times", str(times))]
    assert posted(body) == read(Request(query=query), echo)


@given(st.binary() | st.from_regex(rb'\{("inputs": ?[\[{"0-9a-z]*)+').map(bytes))
def test_no_body_is_too_strange_to_be_answered(body: bytes) -> None:
    asked = posted(body)
    assert isinstance(asked, Asked) or 400 <= asked.status < 500


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        (b"", 400, "the body is not JSON: Input data was truncated"),
        (b"{'inputs'", 400, "the body is not JSON: "),
        (
            b'{"inputs": {"question": "\\ud83e"}}',
            400,
            "the body is not JSON: \\ud83e is half of a character; send both halves",
        ),
        (b"\xff", 400, "the body is not JSON: "),
        (b'"\xed\xa0\x80"', 400, "the body is not JSON: "),
        (b"[" * 100_000, 400, "the body is nested too deeply"),
        (b'{"inputs": {"text": 1e400}}', 400, "the body has a number that is out of range; "),
        (b"[1]", 400, 'the body is an array; send {"inputs": {...}}'),
        (b"5", 400, 'the body is a number; send {"inputs": {...}}'),
        (b'"text"', 400, 'the body is a string; send {"inputs": {...}}'),
        (b"true", 400, 'the body is a boolean; send {"inputs": {...}}'),
        (b"null", 400, 'the body is null; send {"inputs": {...}}'),
        (b"{}", 422, "input 'text' is missing"),
        (b'{"inputs": [1]}', 422, '`inputs` is an array; send {"inputs": {...}}'),
        (b'{"text": "a"}', 422, "there is no field 'text'; send {\"inputs\": {...}}"),
        (b'{"inputs": {"text": 5}}', 422, "input `text`: expected `str`, got `int`"),
    ],
)
def test_a_body_that_does_not_fit_is_told_why(body: bytes, status: int, detail: str) -> None:
    found = refused(posted(body))
    assert found[0] == status
    assert found[1].startswith(detail)


def test_the_name_of_a_field_that_there_is_not_is_escaped_in_its_pointer() -> None:
    found = posted(b'{"a/b~": 1}')
    assert isinstance(found, HttpProblem)
    assert found.faults[0].pointer == "#/a~1b~0"


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/x-www-form-urlencoded"])
def test_a_body_of_another_type_is_not_read(content_type: str) -> None:
    assert refused(posted(b"{}", content_type))[0] == 415


def test_a_charset_is_no_other_type() -> None:
    assert isinstance(
        posted(b'{"inputs": {"text": "a"}}', "Application/JSON; charset=utf-8"), Asked
    )


def test_a_form_that_cannot_be_given_is_refused_before_anything_runs() -> None:
    assert refused(posted(b"{}", accept="text/html")) == (
        406,
        "`Accept: text/html` allows none of application/json, text/event-stream",
    )


def same(one: bytes, other: bytes) -> bool:
    return sent(Request(body=one)) == sent(Request(body=other))


@given(st.integers(-(2**53) + 1, 2**53 - 1), st.sampled_from(("%d.0", "%d.00", "%de0", "%d")))
def test_a_whole_number_is_the_same_however_it_is_written(number: int, form: str) -> None:
    written = (form % number).encode()
    bodies = [b'{"inputs": {"x": [%b]}}' % each for each in (b"%d" % number, written)]
    assert same(*bodies)
    assert not same(bodies[0], b'{"inputs": {"x": [%d]}}' % (number + 1))


@pytest.mark.parametrize("pair", [("1.5", "1"), ("1e300", "1e301"), ("true", "1"), ('"1"', "1.0")])
def test_other_numbers_are_others(pair: tuple[str, str]) -> None:
    assert not same(*(b'{"inputs": {"x": %b}}' % each.encode() for each in pair))


def test_whatever_can_be_read_can_be_compared() -> None:
    """Where a text is nested so deeply that it could be read only just, its bytes are compared."""
    for depth in range(900, 1100):
        body = b'{"inputs": {"x": %b%b}}' % (b"[" * depth, b"]" * depth)
        try:
            msgspec.json.decode(body)
        except RecursionError:
            break
        assert same(body, body)
