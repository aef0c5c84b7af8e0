"""The table `[server]` as rules. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from orchestra.config.deployment.server_rules import (
    CANCELS,
    USUAL_RULES,
    DisconnectRule,
    ServerRules,
)
from orchestra.config.toml import spec
from orchestra.config.toml.checking import Table, check, named
from orchestra.config.toml.complaints import Complaints, shown
from orchestra.hosts import DEFAULT_PORTS

ON_THE_COMMAND_LINE = ("host", "port", "workers", "reload", "debug")
"""Options of `orchestra serve` that other servers have in their configuration file."""


def read_server(table: Table, complaints: Complaints) -> ServerRules:
    """The rules of the table; meaningless after a complaint."""
    known = {**spec.SERVER, "pipelines": named(table.get("pipelines"), spec.DISCONNECT)}
    for key in table.keys() & set(ON_THE_COMMAND_LINE):
        message, fix = "it is an option of the command line", f"orchestra serve --{key} ..."
        complaints.add("unknown-key", ("server", key), message, fix)
    rest = {key: value for key, value in table.items() if key not in ON_THE_COMMAND_LINE}
    right = check(rest, ("server",), known, complaints)
    cors = right.get("cors", {})
    _check_origins(cors.get("origins", ()), complaints)
    everyone = _disconnect(right, CANCELS)
    return ServerRules(
        keys=right.get("keys", USUAL_RULES.keys),
        cors_origins=frozenset(cors.get("origins", ())),
        cors_max_age_s=cors.get("max_age_s", USUAL_RULES.cors_max_age_s),
        pass_fields=frozenset(right.get("pass_fields", ())),
        image_schemes=frozenset(right.get("image_schemes", USUAL_RULES.image_schemes)),
        disconnect=everyone,
        pipelines={
            name: _disconnect(own, everyone) for name, own in right.get("pipelines", {}).items()
        },
        runs=right.get("runs", {}),
        settings={key: value for key, value in right.items() if key in spec.SERVER_SETTINGS},
    )


def _check_origins(origins: Iterable[str], complaints: Complaints) -> None:
    """Complain of origins that browsers send in another form: they are compared exactly."""
    for index, origin in enumerate(origins):
        port = DEFAULT_PORTS.get(origin.lower().partition(":")[0])
        sent = origin.lower().removesuffix(f":{port}")
        if sent != origin:
            at = ("server", "cors", "origins", index)
            message = f"a browser sends it as {shown(sent)}"
            complaints.add("wrong-value", at, message, f"write {shown(sent)}")


def _disconnect(table: Table, others: DisconnectRule) -> DisconnectRule:
    return replace(others, **{key: table[key] for key in spec.DISCONNECT if key in table})
