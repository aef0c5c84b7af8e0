from __future__ import annotations

from datetime import UTC, datetime
from unittest import mock
from urllib.parse import quote

import attrs
import botocore.auth  # type: ignore[import-untyped]
from botocore.awsrequest import AWSRequest  # type: ignore[import-untyped]
from botocore.credentials import Credentials  # type: ignore[import-untyped]
from hypothesis import assume, example, given
from hypothesis import strategies as st

from orchestra.codecs.sigv4 import AwsCredentials, signature

Header = tuple[str, str]
ASCII = st.characters(min_codepoint=33, max_codepoint=126)
SEGMENTS = st.one_of(
    st.text(max_size=12).map(lambda text: quote(text, safe="-._~")),
    st.sampled_from(("", ".", "..", "anthropic.claude-v2%3A1", "arn%3Aaws%3Abedrock%2Fx", "a:b")),
)
PATHS = st.lists(SEGMENTS, max_size=6).map(lambda found: "/" + "/".join(found))
QUERIES = st.lists(
    st.tuples(st.text(max_size=6).map(quote), st.none() | st.text(max_size=6).map(quote)),
    max_size=4,
).map(lambda found: "&".join(key if value is None else f"{key}={value}" for key, value in found))
NAMES = st.one_of(
    st.text(st.sampled_from("abcXYZ-09"), min_size=1, max_size=12),
    st.sampled_from(
        (
            "Content-Type",
            "User-Agent",
            "X-Amzn-Trace-Id",
            "Connection",
            "Expect",
            "transfer-encoding",
            "Host",
            "traceparent",
            "X-Amz-Date",
            "X-Amz-Security-Token",
            "Authorization",
        )
    ),
)
VALUES = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30) | st.sampled_from(
    ("a   b", "  a  ")
)
HEADERS = st.lists(st.tuples(NAMES, VALUES), max_size=5)
HOSTS = st.sampled_from(
    (
        "https://bedrock-runtime.us-east-1.amazonaws.com",
        "https://Bedrock.Example:443",
        "https://bedrock.example:8443",
        "http://127.0.0.1:80",
        "http://127.0.0.1:4321",
        "http://[::1]:4321",
        "http://user:word@proxy.example",
    )
)
CREDENTIALS = st.builds(
    AwsCredentials, st.text(ASCII, min_size=1), st.text(min_size=1), st.text(ASCII, max_size=30)
)


@attrs.frozen
class Asked:
    method: str
    url: str
    headers: list[Header]
    body: bytes
    region: str = "us-east-1"
    now_s: int = 0


ASKED = st.builds(
    Asked,
    st.sampled_from(("POST", "GET", "post")),
    st.builds(
        lambda host, path, query: f"{host}{path}" + (f"?{query}" if query else ""),
        HOSTS,
        PATHS,
        QUERIES,
    ),
    HEADERS,
    st.binary(max_size=60),
    st.sampled_from(("us-east-1", "eu-central-2")),
    st.integers(0, 4_000_000_000),
)
BY_PROFILE = Asked(
    "POST",
    "https://bedrock-runtime.us-east-1.amazonaws.com"
    "/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A1%3Ainference-profile%2Fa.b-v1%3A0/converse",
    [("content-type", "application/json")],
    b"{}",
)


def ours(asked: Asked, who: AwsCredentials) -> dict[str, str]:
    return dict(
        signature(
            asked.method,
            asked.url,
            asked.headers,
            asked.body,
            who,
            region=asked.region,
            now_s=asked.now_s,
        )
    )


def by_botocore(asked: Asked, who: AwsCredentials) -> dict[str, str]:
    request = AWSRequest(asked.method, asked.url, data=asked.body)
    for name, value in asked.headers:
        request.headers.add_header(name, value)
    known = Credentials(who.access_key, who.secret_key, who.session_token or None)
    now = datetime.fromtimestamp(asked.now_s, UTC)
    with mock.patch.object(botocore.auth, "get_current_datetime", return_value=now):
        botocore.auth.SigV4Auth(known, "bedrock", asked.region).add_auth(request)
    wanted = ("x-amz-date", "x-amz-security-token", "authorization")
    return {name: request.headers[name] for name in wanted if name in request.headers}


@given(ASKED, CREDENTIALS)
@example(BY_PROFILE, AwsCredentials("AKID", "secret", "token"))
def test_a_signature_is_botocores_byte_for_byte(asked: Asked, who: AwsCredentials) -> None:
    tokens = [name.lower() == "x-amz-security-token" for name, _ in asked.headers]
    assume(who.session_token or not any(tokens))  # botocore signs one that it was given
    assert ours(asked, who) == by_botocore(asked, who)


def test_credentials_do_not_show_their_secrets() -> None:
    assert "SECRET" not in repr(AwsCredentials("AKID", "SECRET", "SECRET"))


def test_the_token_is_there_only_with_credentials_that_expire() -> None:
    told = signature(
        "POST", "https://a.b/c", [], b"", AwsCredentials("A", "B"), region="r", now_s=0
    )
    assert [name for name, _ in told] == ["x-amz-date", "authorization"]
    assert told[0][1] == "19700101T000000Z"


def test_the_service_is_part_of_the_scope() -> None:
    who = AwsCredentials("A", "B")
    told = signature("GET", "https://a.b", [], b"", who, region="r", now_s=0, service="sts")
    assert "Credential=A/19700101/r/sts/aws4_request" in told[-1][1]
