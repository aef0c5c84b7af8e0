"""The bounds and habits of a server, as one frozen value."""

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
    """The limits of a server's clients, and the settings of its shutdown."""

    debug: bool = False
    """Tell clients the messages of foreign exceptions, and source lines. For a desk only."""
    metrics: bool = True
    """Count runs, calls and requests, and tell it at `/metrics`: needs prometheus-client."""
    usage_log: bool = False
    """Log for each run who has asked what, and what it has consumed, as `orchestra.usage`."""
    connections_max: int = 10_000
    """Connections open at once; those beyond it wait in the backlog."""
    connections_per_address_max: int | None = None
    """Those of one address; None: nine tenths of all, and from this machine itself all."""
    backlog: int = 2048
    """Connections that the kernel holds until they are accepted."""
    header_limit_bytes: int = 16 * 1024
    """Size of a request's line and headers while they are incomplete; beyond it, 431."""
    headers_max: int = 100
    """Headers of a request; beyond it, 431."""
    target_limit_bytes: int = 8 * 1024
    """Length of a request's path and query; beyond it, 414."""
    body_limit_bytes: int = 1024 * 1024
    """Size of a request's body; beyond it, 413."""
    body_timeout_s: float = 15
    """Time that a body may take to arrive; beyond it, 408."""
    upload_limit_bytes: int = 32 * 1024 * 1024
    """Size of a form (`multipart/form-data`), all together; beyond it, 413."""
    file_limit_bytes: int = 16 * 1024 * 1024
    """Size of a file in a form; its other parts may have `body_limit_bytes` each."""
    parts_max: int = 64
    """Parts of a form; beyond it, 413."""
    upload_timeout_s: float = 120
    """Time that a form may take to arrive; beyond it, 408."""
    uploads_limit_bytes: int = 256 * 1024 * 1024
    """Sizes of all forms that are arriving, all together; beyond it, 503."""
    runs_max: int | None = None
    """Runs in flight in one process, beyond which it is 503; None: as `Limits.runs` has it."""
    deadline_s: float | None = None
    """How long a run may take whose pipeline does not say; None: as `Limits.deadline_s` has it."""
    socket_runs_max: int = 16
    """Runs that may go on over one WebSocket."""
    socket_idle_s: float = 300
    """How long a WebSocket stays open on which nothing goes on."""
    keep_alive_s: float = 7
    """How long a connection without a request stays open. Longer than clients keep one: httpx, and
    OpenAI's clients with it, use one again for 5 s, and would now and then meet its end."""
    heartbeat_s: float = 12
    """Silence after which a stream is sent a comment: under every proxy's usual timeout."""
    stall_s: float = 30
    """How long a client may accept no byte, or acknowledge none, before it counts as gone."""
    shutdown_delay_s: float = 0
    """How long a server that was asked to stop still lets clients in, while `/readyz` says 503:
    what a load balancer takes to notice."""
    drain_s: float = 20
    """How long runs may go on after the server was asked to stop."""
    farewell_s: float = 2
    """How long after that the last events may take to be written."""
    flush_s: float = 5
    """How long after that what is still to be written down may take."""
    retire_s: float = 600
    """How long runs may go on after what they run in was replaced by a reload."""
    allowed: Allowlist = USUAL_ALLOWLIST
    """The guarded fields of requests to OpenAI's API that are passed on to providers."""
    store_answers: bool = True
    """Whether answers over OpenAI's API are kept for clients that want it (`store`)."""
    runs: RunsSettings = USUAL_RUNS
    """How long runs are kept that have ended, and how much of them."""
    on_leave: OnLeave = CANCEL
    """The rule for a run whose last client has left."""
    on_leave_of: Mapping[str, OnLeave] = MappingProxyType({})
    """The same of pipelines that have a policy of their own."""

    def __attrs_post_init__(self) -> None:
        check_bounds(self, besides=("shutdown_delay_s",))
        if not self.shutdown_delay_s >= 0:
            raise ValueError(
                f"Settings(shutdown_delay_s={self.shutdown_delay_s!r}): a delay cannot be "
                "negative; 0 is none"
            )

    @property
    def stop_s(self) -> float:
        """The longest that stopping takes, from the signal to the end."""
        return self.shutdown_delay_s + self.drain_s + self.farewell_s + self.flush_s

    def limits(self, others: Limits | None) -> Limits:
        """The bounds of all runs: what is said here, and else what the others are."""
        limits = others or Limits()
        runs = limits.runs if self.runs_max is None else self.runs_max
        deadline_s = limits.deadline_s if self.deadline_s is None else self.deadline_s
        return attrs.evolve(limits, runs=runs, deadline_s=deadline_s)

    def leaving(self, pipeline: str) -> OnLeave:
        """The rule for a run of this pipeline whose last client has left."""
        return self.on_leave_of.get(pipeline, self.on_leave)

    def limit_of(self, content_type: str) -> int:
        """How many bytes a body of this type may have."""
        return self.upload_limit_bytes if is_form(content_type) else self.body_limit_bytes

    def kept_until_restart(self, new: Settings) -> list[str]:
        """The names of what `new` says differently, and only a new start can obey."""
        return [each for each in _OF_THE_DOOR if getattr(self, each) != getattr(new, each)]


def is_form(content_type: str) -> bool:
    """Whether a body of this type is a form with parts."""
    return media_type(content_type) == FORM


def media_type(content_type: str) -> str:
    """The media type in a header `Content-Type`, in lower case and without parameters."""
    return content_type.partition(";")[0].strip().lower()


USUAL_SETTINGS = Settings()
_OF_THE_DOOR = (
    *("backlog", "connections_max", "connections_per_address_max"),
    *("header_limit_bytes", "keep_alive_s", "stall_s"),
)


def said(rules: ServerRules) -> dict[str, Any]:
    """The settings that a deployment says of its server, by name."""
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
