"""Error messages for failed connections: the reason, and what to do. Pure."""

from __future__ import annotations

import errno
import os
import ssl

from orchestra.errors import ModelConnectionError

_IS_THERE = "is the base URL right, and the server up?"
_NO_MORE = (
    "raise this process's limit (ulimit -n, LimitNOFILE), or set connections_max well below it"
)
_NO_TLS = "it does not speak TLS there: does the base URL have to begin with http://?"
_FULL = frozenset((errno.EMFILE, errno.ENFILE))
_OF_NAME = frozenset((62, 64))  # X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH
_OF_TIME = frozenset((9, 10))  # X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED


def unreached(where: str, error: Exception, advice: str = _IS_THERE) -> ModelConnectionError:
    """The error for a failed connection, with the root cause of `error` as its reason."""
    root = _root(error)
    if isinstance(root, ssl.SSLCertVerificationError):
        return ModelConnectionError(
            f"the certificate of {where} is refused: {root.verify_message.rstrip('.')}; "
            + _mended(root.verify_code),
            retryable=False,
            code="connect",
        )
    if isinstance(root, ssl.SSLError) and root.reason == "WRONG_VERSION_NUMBER":
        advice = _NO_TLS
    if any(isinstance(each, OSError) and each.errno in _FULL for each in _causes(root)):
        advice = _NO_MORE
    return ModelConnectionError(
        f"{where} could not be reached: {reason(root)}; {advice}", code="connect"
    )


def reason(error: BaseException) -> str:
    """The root cause of a connection error as text; if there are several causes, all of them."""
    return ", ".join(dict.fromkeys(map(_in_words, _causes(error))))


def _causes(error: BaseException) -> tuple[BaseException, ...]:
    root = _root(error)
    return root.exceptions if isinstance(root, ExceptionGroup) else (root,)


def _root(error: BaseException) -> BaseException:
    """The root cause of an error; an ExceptionGroup of Trio's if several addresses failed.

    The text of httpcore's own error does not include the cause, and httpcore hides the cause with
    `raise error from None`; it is still in `__context__`.
    """
    while cause := error.__cause__ or (error.__context__ if error.__suppress_context__ else None):
        error = cause
    return error


def _mended(code: int) -> str:
    if code in _OF_NAME:
        return "is the base URL right?"
    if code in _OF_TIME:
        return "is the clock of this machine right?"
    return (
        "if it was signed by an authority of your own, put the path of that authority's file into "
        "SSL_CERT_FILE, or pass it to `open_transport` as `ca_file`"
    )


def _in_words(error: BaseException) -> str:
    """The system's text for an error, without Trio's prefix, which repeats the address."""
    if type(error) is OSError or isinstance(error, ConnectionError | TimeoutError):
        return os.strerror(error.errno) if error.errno else str(error)
    return str(error) or type(error).__name__
