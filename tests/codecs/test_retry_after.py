from __future__ import annotations

import time
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from orchestra.codecs.retry_after import (
    WAIT_MAX_S,
    reset_s,
    retry_after_s,
    seconds,
    their_now_s,
    wait_in_text_s,
)

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
NOW_S = NOW.timestamp()
NAMES = st.sampled_from(
    (
        "retry-after",
        "retry-after-ms",
        "x-ms-retry-after-ms",
        "x-ratelimit-reset-requests",
        "x-ratelimit-remaining-requests",
        "x-ratelimit-reset",
        "x-ratelimit-remaining",
        "anthropic-ratelimit-tokens-remaining",
        "anthropic-ratelimit-tokens-reset",
        "date",
    )
)
ODD = st.one_of(
    st.text(max_size=20),
    st.sampled_from(("0", "1", "-1", "1e9", "999999999", "inf", "nan", "6m0s", "Mon, 99 Foo 0000")),
    st.datetimes().map(str),
    st.text(st.sampled_from("MonJanGMT 0123456789:,-+"), max_size=30),
)


@given(st.integers(0, 7200))
def test_a_date_is_read_as_the_seconds_until_it(ahead_s: int) -> None:
    at = datetime.fromtimestamp(NOW_S + ahead_s, UTC)
    forms = (
        format_datetime(at, usegmt=True),
        at.strftime("%A, %d-%b-%y %H:%M:%S GMT"),
        at.strftime("%a %b %e %H:%M:%S %Y"),
    )
    for form in forms:
        assert retry_after_s({"retry-after": form}, NOW_S) == min(ahead_s, WAIT_MAX_S)


def test_a_date_without_a_zone_is_in_that_of_http(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setenv("TZ", "Asia/Kolkata")
        time.tzset()
        wait_s = retry_after_s({"retry-after": "Sun Mar  1 12:00:09 2026"}, NOW_S)
    time.tzset()
    assert wait_s == 9


@given(st.floats(1e-4, 1e9, exclude_max=True))
@example(0.30000000000000004)
@example(5e8)
def test_a_number_is_read_with_all_of_its_digits(wait_s: float) -> None:
    """Frameworks write a float as it is; a wait that is not read would be no wait at all."""
    expected = min(wait_s, WAIT_MAX_S)
    assert retry_after_s({"retry-after": str(wait_s)}, NOW_S) == expected
    assert retry_after_s({"retry-after-ms": str(wait_s)}, NOW_S) == min(wait_s / 1000, WAIT_MAX_S)
    assert wait_in_text_s(f"Please try again in {wait_s}s.") == expected


@given(st.dictionaries(NAMES, ODD, max_size=4), st.floats(0, 4e9))
@example({"retry-after": " "}, 0.0)
@example({"retry-after": "Mon, 01 Jan 0001 00:00:00 +9999"}, 0.0)
def test_any_headers_ask_for_at_most_an_hour_or_for_nothing(
    headers: dict[str, str], now_s: float
) -> None:
    for at_s in (now_s, their_now_s(headers, now_s)):
        for wait_s in (retry_after_s(headers, at_s), reset_s(headers, at_s)):
            assert wait_s is None or 0 <= wait_s <= WAIT_MAX_S


@given(st.text(max_size=60) | st.builds("try again in {}".format, ODD))
def test_any_sentence_asks_for_at_most_an_hour_or_for_nothing(message: str) -> None:
    wait_s = wait_in_text_s(message)
    assert wait_s is None or 0 <= wait_s <= WAIT_MAX_S


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": " 1.5 "}, 1.5),
        ({"retry-after": "34s"}, 34.0),
        ({"retry-after": "86400"}, WAIT_MAX_S),
        ({"retry-after": "9" * 20}, WAIT_MAX_S),
        ({"retry-after": str(int(NOW_S + 7))}, 7.0),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
        ({"x-ms-retry-after-ms": "250", "retry-after": "1"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "1"}, 1.0),
        ({"retry-after": "Sun, 01 Mar 2026 11:59:00 GMT"}, 0.0),
        ({"retry-after": "Sun, 01 Mar 2026 12:00:09 GMT"}, 9.0),
    ],
)
def test_the_forms_of_retry_after(headers: dict[str, str], expected: float | None) -> None:
    assert retry_after_s(headers, NOW_S) == expected


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("Please try again in 20s.", 20.0),
        ("Please try again in 1m30.5s. Visit https://platform.openai.com", 90.5),
        ("Please try again in 6ms.", 0.006),
        ("Please try again in 7.66s", 7.66),
        ("Please try again in 2h3m.", WAIT_MAX_S),
        ("Please retry after 26 seconds.", 26.0),
        ("Please retry in 34.074824224s.", 34.074824224),
        ("Try again in about 1 minute", 60.0),
        ("please wait 500 milliseconds", 0.5),
        ("wait 1 minute 30 seconds", 90.0),
        ("Please try again later.", None),
        ("Retry with at most 4096 tokens", None),
        ("Used 30s. Limit 20s", None),
        ("", None),
    ],
)
def test_the_sentences_that_ask_to_wait(message: str, expected: float | None) -> None:
    assert wait_in_text_s(message) == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "6m0s"}, 360.0),
        ({"x-ratelimit-remaining-requests": "1", "x-ratelimit-reset-requests": "6m0s"}, None),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "12ms"}, 0.012),
        ({"x-ratelimit-remaining-tokens": "0"}, None),
        (
            {
                "x-ratelimit-remaining-tokens-minute": "0",
                "x-ratelimit-reset-tokens-minute": "11.382867097854614",
                "x-ratelimit-remaining-requests-day": "9",
                "x-ratelimit-reset-requests-day": "33011.382867097855",
            },
            11.382867097854614,
        ),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": f"{int(NOW_S + 7)}000"}, 7.0),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(int(NOW_S + 7))}, 7.0),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(int(NOW_S - 7))}, 0.0),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "tomorrow"}, None),
        (
            {
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-reset-requests": "1s",
                "x-ratelimit-remaining-tokens": "0",
                "x-ratelimit-reset-tokens": "2s",
            },
            2.0,
        ),
        (
            {
                "anthropic-ratelimit-input-tokens-remaining": "0",
                "anthropic-ratelimit-input-tokens-reset": "2026-03-01T12:00:30Z",
            },
            30.0,
        ),
        (
            {
                "anthropic-ratelimit-requests-remaining": "0",
                "anthropic-ratelimit-requests-reset": "soon",
            },
            None,
        ),
        ({"ratelimit-remaining": "0", "ratelimit-reset": "12"}, 12.0),  # IETF's draft, and Kong
        ({"ratelimitbysize-remaining": "0", "ratelimitbysize-reset": "36"}, 36.0),  # Mistral
    ],
)
def test_a_limit_that_is_used_up_says_when_it_is_reset(
    headers: dict[str, str], expected: float | None
) -> None:
    assert reset_s(headers, NOW_S) == expected


@pytest.mark.parametrize(
    ("text", "expected"), [("34s", 34.0), ("0", 0.0), ("1m", None), ("", None)]
)
def test_seconds_are_a_number_with_or_without_their_unit(text: str, expected: float | None) -> None:
    assert seconds(text) == expected


def test_a_hostile_wait_is_read_as_any_other() -> None:
    """Where the work grows with the square of its blanks, it is never read."""
    assert seconds("1" + " " * 500_000 + "x") is None
    assert seconds(" 1 s ") == 1


@pytest.mark.parametrize("of", ["requests", "tokens"])
@pytest.mark.parametrize("window", ["minute", "hour", "day"])
def test_a_limit_may_be_of_any_window(of: str, window: str) -> None:
    """Cerebras' are."""
    limit = f"{of}-{window}"
    headers = {f"x-ratelimit-remaining-{limit}": "0", f"x-ratelimit-reset-{limit}": "12.5"}
    assert reset_s(headers, NOW_S) == 12.5
