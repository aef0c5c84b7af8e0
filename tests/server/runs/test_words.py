"""What the log calls a run that failed: what was asked, for whom, and the model by our name."""

from __future__ import annotations

import pytest

from orchestra.accounts import Caller
from orchestra.errors import AuthenticationError, ModelsFailedError, RunError
from orchestra.server.runs.words import failed_at, whose
from tests.server.asking import ASK, CHAT, Failing, asking


@pytest.mark.parametrize(("head", "what"), [(ASK, "pipeline 'ask'"), (CHAT, "model 'smart'")])
def test_a_line_about_a_failed_call_has_the_configured_name_and_the_caller(
    head: str, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    error = AuthenticationError("who are you?", provider="openai", model="gpt-5.4-mini")
    reply = asking(head, Failing(error))
    assert reply.status == 502
    (record,) = caplog.records
    assert record.message.startswith("run ")
    assert record.message.endswith(
        f" of {what} for acme/ada (key k1) failed at model 'smart': AuthenticationError: openai "
        "gpt-5.4-mini: who are you?"
    )
    assert b"gpt-5.4-mini" not in reply.body


def test_of_several_models_each_is_named_once() -> None:
    errors = [AuthenticationError("no"), AuthenticationError("no"), AuthenticationError("no")]
    for error, name in zip(errors, ("fast", "smart", "fast"), strict=True):
        error.name = name
    both = ModelsFailedError("all failed", dict(zip("abc", errors, strict=True)))
    assert failed_at(both) == " at model 'fast', 'smart'"
    assert failed_at(AuthenticationError("no")) == ""
    assert failed_at(RunError("no")) == ""


def test_a_caller_is_called_by_as_much_as_is_known() -> None:
    callers = [Caller(), Caller(user="ada"), Caller("acme", key="k"), Caller("acme", "ada", "k")]
    assert [*map(whose, callers)] == ["", "ada", "acme (key k)", "acme/ada (key k)"]
