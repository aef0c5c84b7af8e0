"""What is done of a batch is what its file says, wherever a crash has cut it."""

from __future__ import annotations

import json

import attrs
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, SecretStr

from orchestra.accounts import Usage
from orchestra.batch.ledger import Ended, digest_of, finished_rows, line_of
from orchestra.documents import Document

ENDED = Ended(run_id="r", attempts=1, duration_s=0.5, usage=None, result=1)
LINES = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("12"), st.booleans()))


def line(row_id: str, digest: str, *, failed: bool) -> bytes:
    error = ValueError("no") if failed else None
    return line_of(row_id, digest, attrs.evolve(ENDED, error=error))


@given(LINES)
def test_the_last_line_of_a_row_counts(told: list[tuple[str, str, bool]]) -> None:
    finished = finished_rows([line(name, digest, failed=failed) for name, digest, failed in told])
    last = {name: (digest, failed) for name, digest, failed in told}
    assert finished == {name: digest for name, (digest, failed) in last.items() if not failed}


@given(LINES, st.data())
def test_a_file_that_was_cut_says_what_its_whole_lines_say(
    told: list[tuple[str, str, bool]], data: st.DataObject
) -> None:
    """A line that has lost its line feed only is whole."""
    lines = [line(name, digest, failed=failed) for name, digest, failed in told]
    rest = b"".join(lines)[: data.draw(st.integers(0, len(b"".join(lines))))]
    whole = rest.count(b"\n")
    if whole < len(lines) and rest.endswith(lines[whole].rstrip()):
        whole += 1
    assert finished_rows(rest.splitlines(keepends=True)) == finished_rows(lines[:whole])


@given(st.lists(st.binary()))
def test_whatever_else_stands_there_is_no_row(lines: list[bytes]) -> None:
    assert not finished_rows([each for each in lines if b"finished" not in each])


def test_a_line_says_how_a_row_has_ended() -> None:
    usage = Usage(3, 4, cost_nanodollars=5)
    paid = attrs.evolve(ENDED, usage=usage, usage_by_model={"fast": usage}, result={"x": [1]})
    told = json.loads(line_of("a", "d", paid))
    assert told["usage"]["cost_nanodollars"] == 5
    assert told.pop("usage_by_model") == {"fast": told.pop("usage")}
    assert told == {
        "id": "a",
        "digest": "d",
        "status": "finished",
        "result": {"x": [1]},
        "cut": False,
        "run_id": "r",
        "attempts": 1,
        "duration_s": 0.5,
    }
    failed = json.loads(line_of("a", "d", attrs.evolve(ENDED, error=ValueError("no\nway"))))
    assert (failed["status"], failed["error"], failed["message"]) == (
        "failed",
        "ValueError",
        "no\nway",
    )
    assert "result" not in failed


class Odd:
    def __repr__(self) -> str:
        raise ValueError("no")


def test_a_line_is_written_whatever_a_row_has_given() -> None:
    for odd in (Odd(), "\ud800", float("nan"), {1: object()}):
        data = line_of("a", "d", attrs.evolve(ENDED, result=odd))
        assert data.count(b"\n") == 1
        assert finished_rows([data]) == {"a": "d"}


def test_inputs_have_a_digest_of_their_own() -> None:
    inputs: list[dict[str, object]] = [
        {},
        {"a": 1},
        {"b": 1},
        {"a": "1"},
        {"a": 1, "b": 2},
        {"a": Document("x.txt", b"1")},
        {"a": Document("x.txt", b"2")},
    ]
    assert len({digest_of("p", each) for each in inputs} | {digest_of("q", {})}) == 8
    assert digest_of("p", {"a": 1, "b": 2}) == digest_of("p", {"b": 2, "a": 1})


class Account(BaseModel):
    secret: SecretStr = SecretStr("")
    tenant: str = Field(default="", exclude=True)
    data: bytes = b""


def test_what_a_model_does_not_write_counts_in_the_digest() -> None:
    accounts = (
        Account(),
        Account(secret=SecretStr("a")),
        Account(secret=SecretStr("b")),
        Account(tenant="a"),
        Account(tenant="b"),
        Account(data=b"\xff"),  # `model_dump` raises
        Account(data=b"\xfe"),
    )
    assert len({digest_of("p", {"a": [each]}) for each in accounts}) == 7
    made = Account.__new__(Account)  # its `__init__` has not been called
    assert digest_of("p", {"a": made}) == digest_of("p", {"a": {}})
