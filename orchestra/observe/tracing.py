"""Turns tracing on or off, as OpenTelemetry's environment variables say.

Rules of the file: OpenTelemetry is imported only if tracing is on.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from orchestra.errors import ServeError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

    from orchestra.observe.otel import Tracing

EXPORTER_ENV = "OTEL_TRACES_EXPORTER"
PROTOCOL_ENVS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
ENDPOINT_ENVS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
OFF_ENV = "OTEL_SDK_DISABLED"
HEADERS_ENVS = ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS")
HTTP = "http/protobuf"


def tracing(environ: Mapping[str, str] = os.environ) -> Tracing | None:
    """The tracing of this process; None if the environment does not ask for it.

    Raises:
        ServeError: the environment asks for something unknown or not installed, or a value in it
            is wrong.
    """
    make = _exporter(environ)
    if make is None:
        return None
    try:
        from orchestra.observe.otel import Tracing

        return Tracing(make(), environ)
    except ValueError as error:  # for a wrong number, such as OTEL_BSP_SCHEDULE_DELAY=0
        raise ServeError(
            "an environment variable whose name begins with OTEL_ has a value that OpenTelemetry "
            f"refuses: {error}"
        ) from error
    except ImportError as error:
        raise ServeError(
            f"the environment asks for traces ({', '.join(_asked(environ))}), and {error.name} is "
            "not installed: pip install 'orchestra[traces]', or set OTEL_TRACES_EXPORTER=none"
        ) from error


def _asked(environ: Mapping[str, str]) -> list[str]:
    return [each for each in (EXPORTER_ENV, *ENDPOINT_ENVS) if environ.get(each)]


def _exporter(environ: Mapping[str, str]) -> Callable[[], SpanExporter] | None:
    """A function that makes the exporter that the environment asks for; None if it asks for none.

    Raises:
        ServeError: the exporter or its protocol is unknown, or its settings are wrong.
    """
    asked = environ.get(EXPORTER_ENV, "").strip().lower()
    off = environ.get(OFF_ENV, "").strip().lower() == "true"
    if off or asked == "none" or not _asked(environ):
        return None
    if asked == "console":
        return _console
    if asked not in {"", "otlp"}:
        raise ServeError(
            f"{EXPORTER_ENV}={asked!r}: traces are sent by `otlp`, or written by `console`; `none` "
            "turns them off"
        )
    for name in PROTOCOL_ENVS:
        protocol = environ.get(name) or HTTP
        if protocol != HTTP:
            raise ServeError(
                f"{name}={protocol!r}: traces are sent as {HTTP}, which collectors take at port "
                f"4318; write {name}={HTTP}"
            )
    _check_sendable(environ)
    return _otlp


def _check_sendable(environ: Mapping[str, str]) -> None:
    """Check the settings at the start; later, OpenTelemetry would only log each failure.

    It would also log the headers, which may be secret.

    Raises:
        ServeError: an endpoint is not a URL, or the headers are not a list of `name=value`.
    """
    for name in ENDPOINT_ENVS:
        endpoint = environ.get(name) or "http://"
        if not endpoint.strip().lower().startswith(("http://", "https://")):
            raise ServeError(
                f"{name}={endpoint!r} is not a URL; write {name}=http://{endpoint}, or https:// "
                "if the collector has a certificate"
            )
    for name in HEADERS_ENVS:
        headers = filter(str.strip, environ.get(name, "").split(","))
        if any("=" not in each for each in headers):
            raise ServeError(
                f"{name} is not `name=value`, or several of them separated by commas (it is not "
                f"shown, since it may be secret); write {name}='authorization=Bearer ...'"
            )


def _console() -> SpanExporter:
    import sys

    from opentelemetry.sdk.trace.export import ConsoleSpanExporter

    return ConsoleSpanExporter(out=sys.stderr)


def _otlp() -> SpanExporter:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter()
