"""The files of docs/deploy: read as orchestra reads them, and with times that fit each other."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import attrs
import httpx

from orchestra.config.reading import read_file
from orchestra.protocols import Timeouts
from orchestra.server.processes.supervisor import MARGIN_S
from orchestra.server.settings import Settings

DEPLOY = Path(__file__).parents[2] / "docs/deploy"
CONFIG = DEPLOY / "orchestra.toml"


def number(file: str, name: str) -> int:
    """What a file sets this to."""
    found = re.search(rf"{name}[:= ]+(\d+)", (DEPLOY / file).read_text())
    assert found, f"{name} is not in {file}"
    return int(found[1])


def test_nobody_is_killed_before_his_time_is_over() -> None:
    configured = Settings(**read_file(CONFIG).server.settings)
    assert number("kubernetes.yaml", "terminationGracePeriodSeconds") > configured.stop_s + MARGIN_S
    assert number("orchestra.service", "TimeoutStopSec") > Settings().stop_s + MARGIN_S


def test_proxies_and_clients_give_up_idle_connections_first_and_silent_ones_never() -> None:
    usual = Settings()
    assert number("nginx.conf", "keepalive_timeout") < usual.keep_alive_s
    assert number("Caddyfile", "keepalive") < usual.keep_alive_s
    clients = httpx.Limits().keepalive_expiry  # also of OpenAI's and Anthropic's clients
    assert clients is not None
    assert clients + 1 < usual.keep_alive_s
    assert number("nginx.conf", "proxy_read_timeout") > 2 * usual.heartbeat_s
    for side in ("client", "server", "tunnel"):
        assert number("haproxy.cfg", f"timeout {side}") > 2 * usual.heartbeat_s


def test_proxies_wait_longer_than_a_model_may_take() -> None:
    """Else their clients get the proxy's own 504 in place of the server's problem."""
    usual = Timeouts()
    slowest_s = max(filter(None, (usual.total_s, usual.first_byte_s, usual.idle_s)))
    assert number("nginx.conf", "proxy_read_timeout") > slowest_s
    assert number("haproxy.cfg", "timeout server") > slowest_s
    assert "response_header_timeout" not in (DEPLOY / "Caddyfile").read_text()  # unbounded
    assert "read_timeout" not in (DEPLOY / "Caddyfile").read_text()


def test_a_host_that_stops_accepts_clients_until_proxies_have_left_it() -> None:
    """nginx has then closed what it kept idle, and HAProxy has seen what `/readyz` says."""
    delay_s = Settings(**read_file(CONFIG).server.settings).shutdown_delay_s
    assert delay_s > number("nginx.conf", "keepalive_timeout")
    assert delay_s > number("haproxy.cfg", "inter") * number("haproxy.cfg", "fall") + 1


def test_several_hosts_ask_for_keys_and_share_a_state() -> None:
    found = read_file(CONFIG)
    assert found.server.keys == "required"
    assert found.state is not None
    assert found.state.url.startswith("redis://")


def test_the_page_names_what_only_a_restart_changes() -> None:
    page = (DEPLOY.parent / "deployment.md").read_text()
    told = page.partition("Until a restart these stay as they were:")[2].partition("the times")[0]
    bounds: Any = {
        each.name: 1
        for each in attrs.fields(Settings)
        if each.default is None or type(each.default) in {int, float}
    }
    changed = attrs.evolve(Settings(), **bounds)
    assert sorted(re.findall(r"`(\w+)`", told)) == sorted(Settings().kept_until_restart(changed))
