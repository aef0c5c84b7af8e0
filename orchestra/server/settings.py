"""The settings of a server, as one frozen value."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import attrs

from orchestra.codecs.serving.allowlist import USUAL_ALLOWLIST, Allowlist
from orchestra.config.deployment.server_rules import DisconnectRule, ServerRules
from orchestra.eventclass import frozen
from orchestra.graph.rules.policy import Limits
from orchestra.runs.disconnect import CANCEL, OnLeave, on_leave
from orchestra.runs.settings import RunsSettings, check_bounds

FORM = "multipart/form-data"
USUAL_RUNS = RunsSettings()


@frozen(kw_only=True)
class Settings:
    """The limits of a server, its timeouts, and what it serves.

    Where a limit names a status code, requests over the limit are answered with it.
    """

    debug: bool = False
    """Show clients source lines and the messages of foreign exceptions; for development only."""
    metrics: bool = True
    """Count runs, calls and requests, and serve the counts at `/metrics`; needs
    prometheus-client."""
    usage_log: bool = False
    """Log who started each run and what it consumed, with the logger `orchestra.usage`."""
    connections_max: int = 10_000
    """The most open connections; further ones wait in the backlog."""
    connections_per_address_max: int | None = None
    """The most open connections of one address; None for nine tenths of all, or all of them from
    this machine itself."""
    backlog: int = 2048
    """The most connections that wait in the kernel until they are accepted."""
    header_limit_bytes: int = 16 * 1024
    """The most bytes of a request line and headers that are not complete yet; beyond it, 431."""
    headers_max: int = 100
    """The most headers of a request; beyond it, 431."""
    target_limit_bytes: int = 8 * 1024
    """The most bytes of a request's path and query; beyond it, 414."""
    body_limit_bytes: int = 1024 * 1024
    """The most bytes of a request's body; beyond it, 413."""
    body_timeout_s: float = 15
    """How long a body may take to arrive; beyond it, 408."""
    upload_limit_bytes: int = 32 * 1024 * 1024
    """The most bytes of a whole form (`multipart/form-data`); beyond it, 413."""
    file_limit_bytes: int = 16 * 1024 * 1024
    """The most bytes of a file in a form; other parts may have `body_limit_bytes` each."""
    parts_max: int = 64
    """The most parts of a form; beyond it, 413."""
    upload_timeout_s: float = 120
    """How long a form may take to arrive; beyond it, 408."""
    uploads_limit_bytes: int = 256 * 1024 * 1024
    """The most bytes of all forms that are in memory at once; beyond it, 503."""
    runs_max: int | None = None
    """The most runs in progress in one process; beyond it, 503. None for that of `Limits.runs`."""
    deadline_s: float | None = None
    """The deadline of runs whose pipeline has none; None for that of `Limits.deadline_s`."""
    socket_runs_max: int = 16
    """The most runs in progress over one WebSocket."""
    socket_idle_s: float = 300
    """How long an idle WebSocket stays open."""
    keep_alive_s: float = 7
    """How long an idle connection stays open. It must be longer than clients reuse a connection:
    httpx, and OpenAI's clients with it, reuse one for 5 s, and would sometimes get a closed one."""
    heartbeat_s: float = 12
    """After how long without an event a stream sends a heartbeat; less than the usual timeouts of
    proxies."""
    stall_s: float = 30
    """How long a client may accept or acknowledge no byte before it counts as gone."""
    shutdown_delay_s: float = 0
    """How long a server that was asked to stop still accepts requests while `/readyz` answers 503,
    so that load balancers notice."""
    drain_s: float = 20
    """How long runs may go on after the server was asked to stop."""
    farewell_s: float = 2
    """How long, after `drain_s`, writing the last events to clients may take."""
    flush_s: float = 5
    """How long, after `farewell_s`, writing records that are not written yet may take."""
    retire_s: float = 600
    """How long runs may go on after a reload has replaced the engine that they run in."""
    allowed: Allowlist = USUAL_ALLOWLIST
    """The guarded fields of requests to OpenAI's API that are passed on to providers."""
    store_answers: bool = True
    """Whether answers over OpenAI's API are stored for clients that ask for it (`store`)."""
    runs: RunsSettings = USUAL_RUNS
    """How long ended runs are kept, and how much of them."""
    on_leave: OnLeave = CANCEL
    """The disconnect policy: what happens to a run when its last client has left."""
    on_leave_of: Mapping[str, OnLeave] = MappingProxyType({})
    """The disconnect policies of pipelines that have their own, by name."""

    def __attrs_post_init__(self) -> None:
        check_bounds(self, besides=("shutdown_delay_s",))
        if not self.shutdown_delay_s >= 0:
            raise ValueError(
                f"Settings(shutdown_delay_s={self.shutdown_delay_s!r}): a delay cannot be "
                "negative; write 0 for none"
            )

    @property
    def stop_s(self) -> float:
        """The longest time that stopping takes, from the signal to the end of the process."""
        return self.shutdown_delay_s + self.drain_s + self.farewell_s + self.flush_s

    def limits(self, others: Limits | None) -> Limits:
        """The limits of all runs: those of these settings, otherwise those of `others`."""
        limits = others or Limits()
        runs = limits.runs if self.runs_max is None else self.runs_max
        deadline_s = limits.deadline_s if self.deadline_s is None else self.deadline_s
        return attrs.evolve(limits, runs=runs, deadline_s=deadline_s)

    def leaving(self, pipeline: str) -> OnLeave:
        """The disconnect policy of a pipeline."""
        return self.on_leave_of.get(pipeline, self.on_leave)

    def limit_of(self, content_type: str) -> int:
        """The most bytes of a body with this content type."""
        return self.upload_limit_bytes if is_form(content_type) else self.body_limit_bytes

    def kept_until_restart(self, new: Settings) -> list[str]:
        """The names of the settings that differ in `new` and take effect only after a restart."""
        return [each for each in _OF_THE_DOOR if getattr(self, each) != getattr(new, each)]


def is_form(content_type: str) -> bool:
    """Whether a body with this content type is a form with parts."""
    return media_type(content_type) == FORM


def media_type(content_type: str) -> str:
    """The media type of a `Content-Type` header, in lower case and without parameters."""
    return content_type.partition(";")[0].strip().lower()


USUAL_SETTINGS = Settings()
_OF_THE_DOOR = (
    *("backlog", "connections_max", "connections_per_address_max"),
    *("header_limit_bytes", "keep_alive_s", "stall_s"),
)


def said(rules: ServerRules) -> dict[str, Any]:
    """The settings that a deployment's configuration gives for its server, by name."""
    return {
        **rules.bounds,
        "allowed": Allowlist(fields=rules.pass_fields, image_schemes=rules.image_schemes),
        "store_answers": rules.store_answers,
        "runs": RunsSettings(**rules.runs),
        "on_leave": _policy(rules.disconnect),
        "on_leave_of": {name: _policy(rule) for name, rule in rules.pipelines.items()},
    }


def _policy(rule: DisconnectRule) -> OnLeave:
    return on_leave(rule.disconnect, rule.linger_s)
