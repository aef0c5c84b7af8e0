"""Hosts and ports, as written in URLs and in the `Host` header. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

DEFAULT_PORTS: Mapping[str, int] = MappingProxyType({"http": 80, "https": 443})
"""The default port by the scheme of the URL."""
_IPV6, _NAME = r"[0-9A-Fa-f]{0,4}:[^\[\]]{1,248}", r"[^\[\]:]{1,253}"
_HOST = re.compile(rf"(?:\[(?P<ipv6>{_IPV6})\]|(?P<name>{_NAME}))(?::(?P<port>[0-9]{{1,5}}))?")


def bracketed(host: str) -> str:
    """A host as written before a port: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host else host


def authority(scheme: str, host: str, port: int | None) -> str:
    """A host and port as in the `Host` header: the default port of the scheme is left out."""
    written = bracketed(host)
    return written if port in (None, DEFAULT_PORTS.get(scheme)) else f"{written}:{port}"


def host_and_port(header: str) -> tuple[str, int | None] | None:
    """The host (without brackets) and port in a `Host` header; None if the header is invalid."""
    found = _HOST.fullmatch(header)
    if found is None:
        return None
    return found["ipv6"] or found["name"], int(found["port"]) if found["port"] else None
