"""Amazon's Signature Version 4: the headers that authenticate a request.

Pure: the time and the credentials are arguments. As for all services except S3, the signature
covers the path with its dot segments resolved, and percent-encoded a second time.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from datetime import UTC, datetime
from hashlib import sha256
from urllib.parse import quote, urlsplit

import attrs

from orchestra.hosts import authority

_ALGORITHM = "AWS4-HMAC-SHA256"
_UNSIGNED = frozenset(
    (
        *("authorization", "date", "user-agent", "x-amz-date", "x-amz-security-token"),
        *("connection", "expect", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"),
        *("proxy-authenticate", "proxy-authorization"),
        *("baggage", "traceparent", "tracestate", "x-amzn-trace-id"),
    )
)
"""Headers that proxies change, or that we set ourselves."""


@attrs.frozen
class AwsCredentials:
    """A key of an AWS account; `session_token` is "" if the key does not expire."""

    access_key: str
    secret_key: str = attrs.field(repr=False)
    session_token: str = attrs.field(default="", repr=False)


def signature(
    method: str,
    url: str,
    headers: Iterable[tuple[str, str]],
    body: bytes,
    credentials: AwsCredentials,
    *,
    region: str,
    now_s: float,
    service: str = "bedrock",
) -> tuple[tuple[str, str], ...]:
    """The headers that sign a request: `x-amz-date`, `authorization`, and that of a session token.

    The path in `url` is percent-encoded. `headers` are the request's other headers, which must not
    change afterwards. `now_s` is seconds since 1970: the service refuses a signature whose time is
    off by five minutes.
    """
    stamp = datetime.fromtimestamp(now_s, UTC).strftime("%Y%m%dT%H%M%SZ")
    added = [("x-amz-date", stamp)]
    if credentials.session_token:
        added.append(("x-amz-security-token", credentials.session_token))
    kept = [each for each in headers if each[0].lower() not in _UNSIGNED]
    signed = _signed_headers(url, [*kept, *added])
    names = ";".join(signed)
    scope = f"{stamp[:8]}/{region}/{service}/aws4_request"
    request = _canonical_request(method, url, signed, sha256(body).hexdigest())
    to_sign = "\n".join((_ALGORITHM, stamp, scope, sha256(request.encode()).hexdigest()))
    key = f"AWS4{credentials.secret_key}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    signed_hex = hmac.digest(key, to_sign.encode(), "sha256").hex()
    credential = f"Credential={credentials.access_key}/{scope}"
    value = f"{_ALGORITHM} {credential}, SignedHeaders={names}, Signature={signed_hex}"
    return (*added, ("authorization", value))


def _canonical_request(method: str, url: str, signed: dict[str, str], digest: str) -> str:
    parts = urlsplit(url)
    lines = "".join(f"{name}:{value}\n" for name, value in signed.items())
    pairs = sorted(pair.partition("=")[::2] for pair in parts.query.split("&"))
    query = "&".join(f"{key}={value}" for key, value in pairs) if parts.query else ""
    return "\n".join((method.upper(), _path(parts.path), query, lines, ";".join(signed), digest))


def _signed_headers(url: str, headers: list[tuple[str, str]]) -> dict[str, str]:
    """The signed headers, sorted by name; values of a repeated header are joined by commas."""
    found: dict[str, list[str]] = {}
    for name, value in headers:
        found.setdefault(name.lower(), []).append(" ".join(value.split()))
    parts = urlsplit(url)
    found.setdefault("host", [authority(parts.scheme, parts.hostname or "", parts.port)])
    return {name: ",".join(found[name]) for name in sorted(found)}


def _path(path: str) -> str:
    kept: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            del kept[-1:]
        elif segment not in ("", "."):
            kept.append(segment)
    slash = "/" if path.endswith("/") and kept else ""
    return quote("/" + "/".join(kept) + slash, safe="/~")
