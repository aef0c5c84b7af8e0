"""The settings of a server: its limits and times, as one frozen value."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from orchestra.codecs.serving.allowlist import USUAL_ALLOWLIST, Allowlist
from orchestra.config.deployment.server_rules import DisconnectRule, ServerRules
from orchestra.eventclass import frozen
from orchestra.graph.rules.policy import Limits
from orchestra.runs.local import CANCEL, CONTINUE
from orchestra.runs.settings import RunsSettings, check_bounds

FORM = "multipart/form-data"
_DELAYS = ("shutdown_delay_s", "linger_s", "worker_timeout_s")
"""Settings that may be 0."""
USUAL_RUNS = RunsSettings()


@frozen(kw_only=True)
class Settings:
    """The limits for a server's clients, and the times of its connections, runs and shutdown."""

    debug: bool = False
    """Send clients the messages of foreign exceptions, and source lines. For development only."""
    metrics: bool = True
    """Count runs, calls and requests, and serve `/metrics`: needs prometheus-client."""
    usage_log: bool = False
    """Log for each run its caller, its pipeline and its usage, to the logger `orchestra.usage`."""
    connections_max: int = 10_000
    """Connections open at once; further ones wait in the backlog."""
    connections_per_address_max: int | None = None
    """Connections of one address; None: nine tenths of all, and all for this machine itself."""
    backlog: int = 2048
    """Connections that the kernel holds until they are accepted."""
    header_limit_bytes: int = 16 * 1024
    """Size of a request line with its headers while they are incomplete; above it, 431."""
    headers_max: int = 100
    """Headers of a request; above it, 431."""
    target_limit_bytes: int = 8 * 1024
    """Length of a request's path and query; above it, 414."""
    body_limit_bytes: int = 1024 * 1024
    """Size of a request's body, or of a WebSocket's message; above it, 413, or close code 1009."""
    body_timeout_s: float = 15
    """How long a body may take to arrive; after that, 408."""
    upload_limit_bytes: int = 32 * 1024 * 1024
    """Size of a form (`multipart/form-data`), with all of its parts; above it, 413."""
    file_limit_bytes: int = 16 * 1024 * 1024
    """Size of each file in a form; each other part may have `body_limit_bytes`, and so may all JSON
    in it together. Above it, 413."""
    parts_max: int = 64
    """Parts of a form; above it, 413."""
    upload_timeout_s: float = 120
    """How long a form may take to arrive; after that, 408."""
    uploads_limit_bytes: int = 256 * 1024 * 1024
    """Size of all forms together that are arriving, or whose runs go on; above it, 503."""
    runs_max: int | None = None
    """Runs in flight in one process; above it, 503. None: `Limits.runs`."""
    deadline_s: float | None = None
    """How long a run may take if its pipeline sets no deadline. None: `Limits.deadline_s`."""
    socket_runs_max: int = 16
    """Runs in flight over one WebSocket."""
    socket_idle_s: float = 300
    """How long a WebSocket without a run or a message stays open."""
    keep_alive_s: float = 7
    """How long a connection without a request stays open. It is longer than clients keep one: httpx
    and OpenAI's clients reuse a connection for 5 s, and would sometimes find it just closed."""
    heartbeat_s: float = 12
    """Silence after which a stream is sent a comment: below the usual timeout of every proxy."""
    stall_s: float = 30
    """How long a client may accept no byte, or acknowledge none, before it counts as gone."""
    shutdown_delay_s: float = 0
    """How long a server that was asked to stop still accepts clients, while `/readyz` says 503: as
    long as a load balancer takes to notice."""
    drain_s: float = 20
    """How long, after that delay, runs may go on."""
    farewell_s: float = 2
    """How long, after that, the last events may take to be written to clients."""
    flush_s: float = 5
    """How long, after that, records may take to be written, such as traces."""
    retire_s: float = 600
    """How long runs may go on after a reload has replaced the version that they run in."""
    worker_timeout_s: float = 60
    """How long the event loop of one of several workers may stand still before the supervisor kills
    the worker; 0: for ever. Less than 3 counts as 3; a reload may take 120 in any case."""
    allowed: Allowlist = USUAL_ALLOWLIST
    """The guarded fields of requests to OpenAI's API that are passed on to providers."""
    store_answers: bool = True
    """Whether answers over OpenAI's API are kept if the client wants it (`store`)."""
    runs: RunsSettings = USUAL_RUNS
    """How long ended runs are kept, and how much of them."""
    linger_s: float = CANCEL
    """How long a run goes on after its last client has left, in case one comes back: 0 cancels it
    at once, and infinity lets it go on to its end."""
    linger_s_of: Mapping[str, float] = MappingProxyType({})
    """The same for pipelines that have their own, by the pipeline's name."""

    def __attrs_post_init__(self) -> None:
        check_bounds(self, besides=_DELAYS)
        delays = {each: getattr(self, each) for each in _DELAYS}
        delays |= {f"linger_s_of[{name!r}]": each for name, each in self.linger_s_of.items()}
        for name, delay_s in delays.items():
            if not delay_s >= 0:
                raise ValueError(
                    f"Settings({name}={delay_s!r}): a delay cannot be negative; write 0 for no "
                    "delay"
                )

    @property
    def stop_s(self) -> float:
        """The longest time that stopping takes, from the signal to the end."""
        return self.shutdown_delay_s + self.drain_s + self.farewell_s + self.flush_s

    @property
    def limits(self) -> Limits:
        """The limits of all runs: those set here, and otherwise the usual ones."""
        usual = Limits()
        runs, deadline_s = self.runs_max or usual.runs, self.deadline_s or usual.deadline_s
        return Limits(runs=runs, deadline_s=deadline_s)

    def linger_of(self, pipeline: str) -> float:
        """How long a run of this pipeline goes on after its last client has left: `linger_s`."""
        return self.linger_s_of.get(pipeline, self.linger_s)

    def limit_of(self, content_type: str) -> int:
        """The most bytes that a body of this `Content-Type` may have."""
        return self.upload_limit_bytes if is_form(content_type) else self.body_limit_bytes

    def kept_until_restart(self, new: Settings) -> list[str]:
        """The names of settings that differ in `new`, and take effect only after a restart."""
        return [each for each in _AT_START if getattr(self, each) != getattr(new, each)]


def is_form(content_type: str) -> bool:
    """Whether a body of this `Content-Type` is a form with parts."""
    return media_type(content_type) == FORM


def media_type(content_type: str) -> str:
    """The media type in a `Content-Type` header, in lower case and without parameters."""
    return content_type.partition(";")[0].strip().lower()


USUAL_SETTINGS = Settings()
_AT_START = (
    *("backlog", "connections_max", "connections_per_address_max"),
    *("header_limit_bytes", "keep_alive_s", "stall_s", "worker_timeout_s"),
)


def arguments_of(rules: ServerRules) -> dict[str, Any]:
    """The arguments of `Settings` from the `[server]` table of a deployment."""
    return {
        **rules.settings,
        "allowed": Allowlist(fields=rules.pass_fields, image_schemes=rules.image_schemes),
        "runs": RunsSettings(**rules.runs),
        "linger_s": _linger_s(rules.disconnect),
        "linger_s_of": {name: _linger_s(rule) for name, rule in rules.pipelines.items()},
    }


def _linger_s(rule: DisconnectRule) -> float:
    return {"cancel": CANCEL, "continue": CONTINUE, "linger": rule.linger_s}[rule.disconnect]
