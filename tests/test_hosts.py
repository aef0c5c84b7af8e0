"""Hosts and ports are read as they are written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.hosts import DEFAULT_PORTS, authority, bracketed, host_and_port

hosts = st.sampled_from(["example.com", "127.0.0.1", "::1", "fe80::1%eth0", "localhost."])
ports = st.none() | st.integers(1, 65_535)


@given(st.sampled_from(["http", "https", "ws"]), hosts, ports)
def test_what_is_written_is_read(scheme: str, host: str, port: int | None) -> None:
    told = None if port == DEFAULT_PORTS.get(scheme) else port
    assert host_and_port(authority(scheme, host, port)) == (host, told)
    assert host_and_port(f"{bracketed(host)}:{port or 80}") == (host, port or 80)


@pytest.mark.parametrize("header", ["", ":80", "::1", "a:b", "a:", "a:1:2", "[::1", "[]", "[a]"])
def test_what_is_no_host_is_none(header: str) -> None:
    assert host_and_port(header) is None
