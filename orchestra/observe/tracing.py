"""Whether runs are traced: as everywhere, environment variables of OpenTelemetry's ask for it.

Rules of the file: what tracing needs is imported only where they do.
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
HTTP = "http/protobuf"


def tracing(environ: Mapping[str, str] = os.environ) -> Tracing | None:
    """What traces this process; None where the environment does not ask for it.

    Raises:
        ServeError: it asks for what is not installed, or not known.
    """
    make = _exporter(environ)
    if make is None:
        return None
    try:
        from orchestra.observe.otel import Tracing

        return Tracing(make(), environ)
    except ImportError as error:
        raise ServeError(
            f"the environment asks for traces ({', '.join(_asked(environ))}), and {error.name} is "
            "not installed: pip install 'orchestra[traces]', or set OTEL_TRACES_EXPORTER=none"
        ) from error


def _asked(environ: Mapping[str, str]) -> list[str]:
    return [each for each in (EXPORTER_ENV, *ENDPOINT_ENVS) if environ.get(each)]


def _exporter(environ: Mapping[str, str]) -> Callable[[], SpanExporter] | None:
    """How to make the exporter that the environment asks for.

    Raises:
        ServeError: nobody knows it.
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
    return _otlp


def _console() -> SpanExporter:
    import sys

    from opentelemetry.sdk.trace.export import ConsoleSpanExporter

    return ConsoleSpanExporter(out=sys.stderr)


def _otlp() -> SpanExporter:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter()
