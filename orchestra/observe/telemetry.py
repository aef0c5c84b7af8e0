"""Spans and metrics of a program's runs, as a server has, in the program's own telemetry.

The program sets up OpenTelemetry, and serves the registry of prometheus-client, as for its other
libraries. It needs neither for the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from orchestra.observe.exposition import families
from orchestra.observe.metrics import Metrics
from orchestra.observe.observers import Observers
from orchestra.observe.tally import decode

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider
    from prometheus_client import Metric


class Telemetry(Observers):
    """Observes the runs of one engine or portal, and their calls: pass it as `observe=`.

    The span of a run is a child of the span that is current where the run starts; its tracer is of
    `tracer_provider`, by default of the program's global one. Without the extra `traces`, there are
    no spans. For metrics, register this object: `prometheus_client.REGISTRY.register(telemetry)`.
    There are those of runs, steps, tools and calls of models; not those of a server's requests and
    processes, and no gauges. They may be collected in any thread.
    """

    def __init__(self, tracer_provider: TracerProvider | None = None) -> None:
        self._metrics = Metrics()
        try:
            from orchestra.observe.otel import program_traces
        except ImportError:
            super().__init__(self._metrics)
        else:
            super().__init__(self._metrics, program_traces(tracer_provider))

    def collect(self) -> Iterator[Metric]:
        """The metrics so far, for a registry of prometheus-client."""
        return families(decode(self._metrics.tally.encode()))  # a copy: Trio's thread goes on
