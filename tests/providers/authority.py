from __future__ import annotations

import ssl
from functools import cached_property
from pathlib import Path

import attrs
import trustme

from orchestra.providers.connections.line import tls_context


@attrs.frozen(slots=False)
class Authority:
    """One that signs certificates for servers, and the file by which clients trust it."""

    ca: trustme.CA
    file: Path

    @classmethod
    def of(cls, folder: Path) -> Authority:
        ca = trustme.CA()
        ca.cert_pem.write_to_path(str(folder / "ca.pem"))
        return cls(ca, folder / "ca.pem")

    @cached_property
    def client(self) -> ssl.SSLContext:
        return tls_context(str(self.file))

    @cached_property
    def loopback(self) -> ssl.SSLContext:
        return self.server("127.0.0.1")

    def server(self, *names: str, version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_alpn_protocols(["h2", "http/1.1"])
        if version is not None:
            context.maximum_version = version
        self.ca.issue_cert(*names).configure_cert(context)
        return context
