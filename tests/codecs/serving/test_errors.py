"""Whose fault an error is, in the words that OpenAI's clients know."""

from __future__ import annotations

import pytest

from orchestra.codecs.anthropic.request import anthropic_body
from orchestra.codecs.anthropic_serving.errors import anthropic_error
from orchestra.codecs.openai_serving.errors import OF_RESPONSES, openai_error
from orchestra.codecs.serving.errors import HIDDEN, error_reply
from orchestra.errors import (
    ArmsFailedError,
    AuthenticationError,
    BindingError,
    BreakerOpenError,
    BudgetExceededError,
    BudgetHeldError,
    CapabilityError,
    DeadlineError,
    InputError,
    InvalidRequestError,
    LimitReachedError,
    ModelsFailedError,
    ProviderServerError,
    QuotaError,
    RateLimitError,
    RunCancelledError,
    StateError,
    StepFailedError,
    UnknownPriceError,
)
from orchestra.policies.requests.extras import cache_mode_in, check_words
from orchestra.values import ChatRequest, Message


def told(error: BaseException) -> tuple[int, str | None, str | None]:
    reply = error_reply(error)
    return reply.status, reply.code, reply.param


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (LimitReachedError("slow"), 429, "rate_limit_exceeded"),
        (RateLimitError("slow"), 429, "provider_rate_limited"),
        (BudgetExceededError("spent"), 429, "insufficient_quota"),
        (BudgetHeldError("held"), 429, "budget_held"),
        (QuotaError("spent"), 429, "provider_quota"),
        (AuthenticationError("who?"), 502, "provider_key"),
        (BreakerOpenError("later"), 503, "model_unavailable"),
        (UnknownPriceError("how much?"), 500, "unknown_price"),
        (BindingError("model 'x' has no key"), 500, "not_configured"),
        (DeadlineError("late", limit="deadline_s"), 504, "deadline_exceeded"),
        (RunCancelledError("stopped"), 503, "run_cancelled"),
        (InvalidRequestError("no", code="odd"), 400, "odd"),
    ],
)
def test_the_code_says_whose_fault_it_is(error: BaseException, status: int, code: str) -> None:
    assert told(error) == (status, code, None)


def test_a_client_is_told_not_to_send_again_what_will_not_succeed() -> None:
    def retried(error: BaseException) -> bool:
        return ("x-should-retry", "false") not in error_reply(error).headers

    assert [retried(RateLimitError("slow")), retried(BreakerOpenError("later"))] == [True, True]
    assert [retried(BudgetHeldError("held")), retried(BudgetExceededError("spent"))] == [
        True,
        False,
    ]
    assert [retried(QuotaError("spent")), retried(AuthenticationError("who?"))] == [False, False]
    assert not retried(KeyError("x"))


def test_an_outage_is_not_told_as_a_fault_of_the_client() -> None:
    """The model behind it in the route could not do what was asked, or refused our key."""
    broken, full = ProviderServerError("500"), RateLimitError("slow", retry_after_s=7)
    cannot, key = CapabilityError("seed=3 cannot be sent to it"), AuthenticationError("who?")
    assert told(ModelsFailedError("all", {"a": broken, "b": cannot})) == (500, "server_error", None)
    reply = error_reply(ModelsFailedError("all", {"a": full, "b": key}))
    assert (reply.status, dict(reply.headers)) == (429, {"retry-after": "7"})
    within = ModelsFailedError("all", {"a": full, "b": key})
    arms = ArmsFailedError("all", {"x": within, "y": cannot})
    assert error_reply(arms).headers == reply.headers
    late = ArmsFailedError("all", {"x": DeadlineError("late", limit="deadline_s"), "y": cannot})
    assert told(late)[1] == "deadline_exceeded"


def test_a_state_that_is_away_is_told_with_what_to_do() -> None:
    reply = error_reply(StateError("/srv/state.sqlite: the disk is full"))
    assert (reply.status, dict(reply.headers)) == (503, {"retry-after": "1"})
    assert "try again later" in reply.message
    assert "/srv" not in reply.message


def test_of_several_errors_that_stay_the_last_decides() -> None:
    both = {"a": AuthenticationError("who?"), "b": QuotaError("spent")}
    assert told(ModelsFailedError("all", both))[1] == "provider_quota"
    assert told(ArmsFailedError("all", {"a": KeyError("x"), **both}))[1] == "provider_quota"


def test_of_several_errors_the_last_that_may_be_retried_decides() -> None:
    both = {"a": QuotaError("spent"), "b": RateLimitError("slow")}
    assert told(ModelsFailedError("all", both))[1] == "provider_rate_limited"
    assert told(ArmsFailedError("all", both))[1] == "provider_rate_limited"
    within = StepFailedError("all", [ModelsFailedError("all", both)])
    assert told(ArmsFailedError("all", {"x": within, "y": KeyError("x")}))[1] == (
        "provider_rate_limited"
    )
    assert told(StepFailedError("all", [QuotaError("spent")]))[1] == "provider_quota"


def test_an_input_that_a_step_refuses_is_a_parameter() -> None:
    error = InputError("it is too short", field="question")
    assert told(error) == (400, "invalid_value", "question")


def test_what_is_no_error_of_ours_is_not_told() -> None:
    reply = error_reply(KeyError("sk-123"))
    assert reply.status == 500
    assert reply.message == HIDDEN


def test_a_word_for_our_own_policies_is_told_by_the_name_that_clients_give_it() -> None:
    """They have sent a field `orchestra`, and know of no extras."""
    with pytest.raises(InvalidRequestError) as unknown:
        check_words({"orchestra": {"cash": "off"}})
    with pytest.raises(InvalidRequestError) as unread:
        cache_mode_in({"orchestra": {"cache": "of"}})
    for caught, begins in ((unknown, "orchestra has no 'cash'"), (unread, "orchestra.cache is")):
        assert told(caught.value) == (400, "invalid_value", "orchestra")
        assert error_reply(caught.value).message.startswith(begins)


def test_what_a_model_cannot_do_is_told_with_the_field_that_asks_for_it() -> None:
    assert told(CapabilityError("seed=3 cannot be sent to it"))[2] == "seed"
    assert (
        told(CapabilityError("it has no word for output='a JSON schema'"))[2] == "response_format"
    )
    assert told(CapabilityError("tool_choice='seed=3' cannot be asked"))[2] == "tool_choice"
    assert told(CapabilityError("messages=... with an image cannot be asked"))[2] == "messages"
    assert told(CapabilityError("extras={...} unknown"))[2] is None
    assert told(CapabilityError("it cannot"))[2] is None
    assert told(CapabilityError("tools[0].name: no"))[2] == "tools[0].name"
    assert told(InvalidRequestError("temperature=3 is too hot"))[2] is None


ASKED = {
    "output=... cannot be asked": ("response_format", "output_config.format", "text.format"),
    "output_tokens_max=9 is little": ("max_completion_tokens", "max_tokens", "max_output_tokens"),
    "reasoning_effort='max' is much": (
        *("reasoning_effort", "thinking or output_config.effort", "reasoning.effort"),
    ),
    "messages=... with a file cannot be asked": ("messages", "messages", "input"),
    "logprobs=0 cannot be asked": ("logprobs", "logprobs", "top_logprobs"),
}


@pytest.mark.parametrize(("text", "names"), ASKED.items())
def test_a_field_has_the_name_that_its_client_knows(text: str, names: tuple[str, ...]) -> None:
    """Each client reads of the fields that it has sent, not of ours, nor of another dialect's."""
    reply = error_reply(CapabilityError(text))
    _, equals, rest = text.partition("=")
    chat, messages, response = (f"{name}{equals}{rest}" for name in names)
    assert (reply.message, reply.param) == (chat, names[0])
    assert anthropic_error(reply)["error"]["message"] == messages
    told = openai_error(reply.worded(OF_RESPONSES))
    assert (told["message"], told["param"]) == (response, names[2])


def test_a_field_in_front_of_a_message_is_named_for_its_client_and_a_word_in_it_is_not() -> None:
    reply = error_reply(InvalidRequestError("response_format: it is no stop: leave messages out"))
    said = anthropic_error(reply)["error"]["message"]
    assert said == "output_config.format: it is no stop: leave messages out"
    said = openai_error(reply.worded(OF_RESPONSES))["message"]
    assert said == "text.format: it is no stop: leave messages out"


def test_what_to_do_about_a_field_is_not_told_in_our_words() -> None:
    """Only a name before a `=` is translated: what stands elsewhere has to be no name of ours."""
    asked = ChatRequest((Message("user", "Hi"),), output_tokens_max=100, reasoning_effort="high")
    with pytest.raises(CapabilityError) as caught:
        anthropic_body("claude-haiku-4-5", asked, stream=False)
    said = anthropic_error(error_reply(caught.value))["error"]["message"]
    assert said.startswith("max_tokens=100 leaves no room for thinking or output_config.effort=")
    assert "output_tokens_max" not in said
    assert "reasoning_effort" not in said


@pytest.mark.parametrize("kind", [CapabilityError, InvalidRequestError])
def test_what_a_provider_has_said_is_quoted(kind: type[InvalidRequestError]) -> None:
    """It has a status or a code; a codec of ours that refuses for a provider has neither."""
    words = "messages: stop=1 and parallel_tool_calls=False are wrong"
    for where in ({"status": 400}, {"code": "bad"}):
        reply = error_reply(kind(words, provider="anthropic", **where))
        assert anthropic_error(reply)["error"]["message"] == words
        told = openai_error(reply.worded(OF_RESPONSES))
        assert (told["message"], told["param"]) == (words, "input")
    ours = error_reply(kind(words, provider="anthropic"))
    assert anthropic_error(ours)["error"]["message"] != words


def test_anthropics_word_for_calls_at_once_is_the_opposite() -> None:
    reply = error_reply(CapabilityError("parallel_tool_calls=False cannot be asked of it"))
    said = anthropic_error(reply)["error"]["message"]
    assert said == "tool_choice.disable_parallel_tool_use=True cannot be asked of it"


def test_what_a_pipeline_refuses_is_named_in_the_message_where_errors_have_no_field() -> None:
    said = anthropic_error(error_reply(InputError("it is too short", field="question")))
    assert said["error"]["message"] == "question: it is too short"
