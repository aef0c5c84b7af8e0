"""Credentials for providers: keys that are never shown, and the headers made from them.

Keys are removed from providers' error messages, since some repeat the received key.
"""

from __future__ import annotations

from typing import Protocol

import attrs

from orchestra.codecs.sigv4 import AwsCredentials, signature
from orchestra.protocols import HttpRequest
from orchestra.secret import Secret


class Credentials(Protocol):
    """Credentials that authenticate requests."""

    def sign(self, request: HttpRequest, now_s: float) -> HttpRequest:
        """The request with authentication headers; `now_s` is seconds since 1970."""

    def redact(self, text: str) -> str:
        """The text with these secrets removed."""


@attrs.frozen
class NoCredentials(Credentials):
    """For a server without authentication."""

    def sign(self, request: HttpRequest, now_s: float) -> HttpRequest:
        del now_s
        return request

    def redact(self, text: str) -> str:
        return text


@attrs.frozen
class HeaderKey(Credentials):
    """A key in a header of its own: `x-api-key`, `api-key`, `x-goog-api-key`."""

    name: str
    secret: Secret
    prefix: str = ""

    def sign(self, request: HttpRequest, now_s: float) -> HttpRequest:
        del now_s
        header = (self.name, self.prefix + self.secret.reveal())
        return _with(request, header)

    def redact(self, text: str) -> str:
        return self.secret.redact(text)


def _with(request: HttpRequest, *headers: tuple[str, str]) -> HttpRequest:
    """The request with these headers added."""
    both = (*request.headers, *headers)
    return HttpRequest(request.url, request.body, both, request.method, request.timeouts)


def bearer(secret: Secret) -> HeaderKey:
    """A key in `Authorization: Bearer ...` (RFC 6750 2.1)."""
    return HeaderKey("authorization", secret, "Bearer ")


@attrs.frozen(kw_only=True)
class AwsKeys(Credentials):
    """AWS access keys, which sign each request (Signature Version 4)."""

    region: str
    access_key_id: str
    secret: Secret
    session_token: Secret | None = None
    service: str = "bedrock"

    def sign(self, request: HttpRequest, now_s: float) -> HttpRequest:
        """The request with its signature, which is valid for five minutes."""
        token = self.session_token.reveal() if self.session_token else ""
        added = signature(
            request.method,
            request.url,
            request.headers,
            request.body,
            AwsCredentials(self.access_key_id, self.secret.reveal(), token),
            region=self.region,
            now_s=now_s,
            service=self.service,
        )
        return _with(request, *added)

    def redact(self, text: str) -> str:
        text = self.secret.redact(text)
        return self.session_token.redact(text) if self.session_token else text
