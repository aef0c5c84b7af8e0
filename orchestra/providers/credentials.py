"""Credentials for providers: reads the keys of models, and adds them to requests.

Keys come only from the environment or from a file. They are removed from providers' error
messages, since some providers repeat the key that they received. Rules of the file: no message
contains a key or a part of one; it names the variable or the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import attrs

from orchestra.codecs.sigv4 import AwsCredentials, signature
from orchestra.errors import BindingError
from orchestra.protocols import HttpRequest
from orchestra.providers.known.catalog import PROVIDERS
from orchestra.providers.known.keys import (
    AWS_ID,
    AWS_SECRET,
    AWS_SESSION,
    Environ,
    KeyState,
    aws_source,
    key_state,
)
from orchestra.providers.known.provider import AwsScheme
from orchestra.providers.known.settings import ModelSettings
from orchestra.secret import Secret, one_line, read_secret


class Credentials(Protocol):
    """Credentials that authenticate requests."""

    def sign(self, request: HttpRequest, now_s: float) -> HttpRequest:
        """The request with authentication headers added; `now_s` is in seconds since 1970."""

    def redact(self, text: str) -> str:
        """The text with these credentials' secrets removed."""


@attrs.frozen
class NoCredentials(Credentials):
    """No credentials, for a server without authentication."""

    def sign(self, request: HttpRequest, now_s: float) -> HttpRequest:
        del now_s
        return request

    def redact(self, text: str) -> str:
        return text


@attrs.frozen
class HeaderKey(Credentials):
    """A key in the header `name`, such as `x-api-key`, with an optional prefix."""

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
    """AWS access keys, with which each request is signed (Signature Version 4)."""

    region: str
    access_key_id: str
    secret: Secret
    session_token: Secret | None = None

    def sign(self, request: HttpRequest, now_s: float) -> HttpRequest:
        """The request with a signature added, which is valid for five minutes."""
        token = self.session_token.reveal() if self.session_token else ""
        added = signature(
            request.method,
            request.url,
            request.headers,
            request.body,
            AwsCredentials(self.access_key_id, self.secret.reveal(), token),
            region=self.region,
            now_s=now_s,
        )
        return _with(request, *added)

    def redact(self, text: str) -> str:
        text = self.secret.redact(text)
        return self.session_token.redact(text) if self.session_token else text


class FileKey:
    """A key in a file that is read again when it has changed, as for tokens that expire.

    If the changed file cannot be read, or has no valid key, the last key stays in use.
    """

    def __init__(self, path: Path, header: str, prefix: str = "") -> None:
        """Read the key. Raises BindingError if the file cannot be read, or has no valid key."""
        self.path = path
        self._header, self._prefix = header, prefix
        self._changed_ns = self._stat_ns()
        self._secret = self._before = read_key(path)

    def __repr__(self) -> str:
        return f"FileKey({str(self.path)!r})"

    def sign(self, request: HttpRequest, now_s: float) -> HttpRequest:
        """The request with the header added, after reading the file again if it has changed."""
        changed_ns = self._stat_ns()
        if changed_ns not in (None, self._changed_ns):
            self._renew(changed_ns)
        return HeaderKey(self._header, self._secret, self._prefix).sign(request, now_s)

    def redact(self, text: str) -> str:
        """The text with the key and the previous key removed."""
        return self._before.redact(self._secret.redact(text))

    def _renew(self, changed_ns: int | None) -> None:
        try:
            secret = read_key(self.path)
        except BindingError:  # the file is probably being written
            return
        self._before, self._secret = self._secret, secret
        self._changed_ns = changed_ns

    def _stat_ns(self) -> int | None:
        try:
            return self.path.stat().st_mtime_ns
        except OSError:
            return None


def credentials(
    settings: ModelSettings, options: Mapping[str, str], environ: Environ
) -> Credentials:
    """The credentials for a model's requests.

    Raises:
        BindingError: the key is missing or invalid; the message says where it was expected.
    """
    state, scheme = key_state(settings, environ), PROVIDERS[settings.provider].scheme
    if state.missing:
        raise BindingError(
            f"model {settings.name!r} ({settings.origin}) has no key: {_where(settings, state)}"
        )
    if scheme is None or not state.present:
        return NoCredentials()
    if isinstance(scheme, AwsScheme):
        return _aws(settings, options, environ)
    header, prefix = scheme.header, scheme.prefix
    if chosen := options.get("key_header", "").lower():
        header, prefix = chosen, "Bearer " if chosen == "authorization" else ""
    if settings.key_file is not None:
        return FileKey(settings.key_file, header, prefix)
    return HeaderKey(header, _secret(environ[state.source], state.source), prefix)


def read_key(path: Path) -> Secret:
    """Read the key in a file, without white space around it.

    Raises:
        BindingError: the file cannot be read, or has no valid key.
    """
    return _for_header(read_secret(path, "key"), f"the key file {str(path)!r}")


def _secret(text: str, source: str) -> Secret:
    """Check that a text is a key that can be sent in a header, and wrap it as a `Secret`."""
    return _for_header(one_line(text, source, "key"), source)


def _for_header(secret: Secret, source: str) -> Secret:
    if not secret.reveal().isascii():
        raise BindingError(
            f"{source} does not hold a valid key: it has characters that are not allowed in a "
            "header; it must hold the key and nothing else"
        )
    return secret


def _where(settings: ModelSettings, state: KeyState) -> str:
    if settings.key_file is not None:
        return f"{state.source} does not exist; write the key into it"
    if settings.key_env is not None:
        return f"set {state.source}"
    return f"set {state.source}, or name another variable or a file with key_env or key_file"


def _aws(settings: ModelSettings, options: Mapping[str, str], environ: Environ) -> Credentials:
    if settings.key_file is not None:
        return FileKey(settings.key_file, "authorization", "Bearer ")
    name = settings.key_env or aws_source(environ)
    if name != AWS_ID:
        return bearer(_secret(environ[name], name))
    session = environ.get(AWS_SESSION, "").strip()
    return AwsKeys(
        region=options["region"],
        access_key_id=_secret(environ[AWS_ID], AWS_ID).reveal(),
        secret=_secret(environ[AWS_SECRET], AWS_SECRET),
        session_token=_secret(session, AWS_SESSION) if session else None,
    )
