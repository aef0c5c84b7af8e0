"""A key goes into a request's header, and is shown nowhere else."""

from __future__ import annotations

import copy
import pickle

import attrs
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.protocols import HttpRequest
from orchestra.providers.credentials import (
    AwsKeys,
    Credentials,
    HeaderKey,
    NoCredentials,
    bearer,
)
from orchestra.secret import REDACTED, Secret

REQUEST = HttpRequest(
    "https://example.test/v1/chat", b"{}", (("content-type", "application/json"),)
)
plain = st.characters(codec="ascii", exclude_categories=["C", "Z"])
keys = st.text(plain, min_size=8).map("sk-".__add__)  # without it, a piece of any repr is one


def credentials(key: str) -> list[Credentials]:
    secret = Secret(key)
    return [
        HeaderKey("x-api-key", secret),
        bearer(secret),
        AwsKeys(region="eu-west-1", access_key_id="AKIA", secret=secret),
        AwsKeys(
            region="eu-west-1", access_key_id="AKIA", secret=Secret("other"), session_token=secret
        ),
    ]


@given(keys)
def test_no_way_of_looking_shows_a_key(key: str) -> None:
    for each in [Secret(key), *credentials(key)]:
        for shown in (repr(each), str(each), f"{each}", f"{each!r:>200}"):
            assert key not in shown.replace(REDACTED, "")
    for each in credentials(key):
        signed = each.sign(REQUEST, 0.0)
        assert key not in repr(signed)


@given(keys, st.text(), st.text())
def test_what_a_provider_repeats_is_redacted(key: str, before: str, after: str) -> None:
    for each in credentials(key):
        assert key not in each.redact(f"{before}{key}{after}").replace(REDACTED, "")


@given(
    st.text(plain, min_size=1, max_size=7), st.sampled_from([" ", ": ", "'", '"', "=", "\n", ""])
)
def test_a_short_key_is_redacted_where_it_stands_by_itself(key: str, mark: str) -> None:
    said = f"it is not{mark or ' '}{key}{mark}"
    for each in credentials(key):
        assert each.redact(said).count(REDACTED) >= 1
        assert each.redact(f"Incorrect API key provided: {key}.").endswith(f": {REDACTED}.")


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("k", "Too many tokens, please wait before you ask again."),
        ("ollama", "registry.ollama.ai/library/x does not support tools"),
        ("ollama", "no model ollama/x on ollama.internal, only /ollama and all-ollama"),
        ("none", "nonetheless, anyone may do without"),
        ("", "no key, nothing to redact"),
    ],
)
def test_a_key_that_is_a_word_leaves_longer_words_alone(key: str, said: str) -> None:
    assert Secret(key).redact(said) == said


def test_a_key_of_eight_characters_is_redacted_anywhere() -> None:
    """As short as a provider's may be, and too long to be a part of words by chance."""
    assert Secret("abcdefgh").redact("xabcdefghx/abcdefgh.y") == f"x{REDACTED}x/{REDACTED}.y"
    assert Secret("abcdefg").redact("xabcdefgx 'abcdefg'") == f"xabcdefgx '{REDACTED}'"


def test_a_secret_cannot_be_pickled_copied_or_encoded() -> None:
    secret = Secret("sk-12345678")
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(secret)
    with pytest.raises(TypeError, match="cannot be pickled"):
        copy.copy(secret)
    with pytest.raises(TypeError):
        msgspec.json.encode(secret)


def test_keys_go_where_the_provider_looks_for_them() -> None:
    secret = Secret("sk-1")
    assert bearer(secret).sign(REQUEST, 0).headers[-1] == ("authorization", "Bearer sk-1")
    assert HeaderKey("x-api-key", secret).sign(REQUEST, 0).headers[-1] == ("x-api-key", "sk-1")
    assert NoCredentials().sign(REQUEST, 0) == REQUEST
    assert NoCredentials().redact("sk-1") == "sk-1"


def test_aws_keys_sign_each_request_with_its_time_and_token() -> None:
    aws = AwsKeys(
        region="us-east-1",
        access_key_id="AKIDEXAMPLE",
        secret=Secret("secret"),
        session_token=Secret("token"),
    )
    headers = dict(aws.sign(REQUEST, 1_700_000_000.0).headers)
    assert headers["x-amz-date"] == "20231114T221320Z"
    assert headers["x-amz-security-token"] == "token"
    assert (
        "Credential=AKIDEXAMPLE/20231114/us-east-1/bedrock/aws4_request" in headers["authorization"]
    )
    assert dict(aws.sign(attrs.evolve(REQUEST, body=b"{ }"), 1_700_000_000.0).headers) != headers
