"""The settings of the proxies in docs/deploy, each read by the proxy itself, in front of a server.

Only paths, ports and times are replaced, so that a silence is short: the times of streams in
proportion; that the others are long enough is in `test_deploy`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import attrs
import httpx
import pytest
from websockets.sync.client import connect

from tests.patience import PATIENCE_S, eventually, line_with
from tests.ports import reserved_port
from tests.servers.processes import ending_with_us

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "docs/deploy"
FASTER = 30
"""How much shorter the times are: 60 s become 2 s, and the 12 s of a heartbeat 0.4 s."""
STREAM = {"Accept": "text/event-stream", "Accept-Encoding": "gzip"}
COUNT = "/v1/pipelines/count/runs"


@attrs.frozen
class Proxy:
    """A proxy: its page, its command, and what is replaced in the page, each exactly once.

    In the replacements and around the page, `{port}`, `{server}`, `{gone}` and `{folder}` are
    filled in: nobody listens on the port `{gone}`.
    """

    page: str
    command: str
    replaced: Mapping[str, str]
    around: str = "{page}"


NGINX = Proxy(
    "nginx.conf",
    "nginx -e {folder}/errors -c {config}",
    {
        "listen 80;": "listen 127.0.0.1:{port};",
        "server 127.0.0.1:8000;": (
            "server 127.0.0.1:{gone} max_fails=0; server 127.0.0.1:{server} max_fails=0;"
        ),
        "/var/log/nginx/orchestra.log": "/dev/stdout",
        "allow 127.0.0.1;": "",
        "proxy_read_timeout 610s;": "proxy_read_timeout 2s;",
        "proxy_send_timeout 60s;": "proxy_send_timeout 2s;",
    },
    """
    daemon off; master_process off; pid {folder}/pid;
    events {{ }}
    http {{
        client_body_temp_path {folder}/1; proxy_temp_path {folder}/2; fastcgi_temp_path {folder}/3;
        uwsgi_temp_path {folder}/4; scgi_temp_path {folder}/5;
        gzip on; gzip_types *; gzip_min_length 0; gzip_proxied any;
        {page}
    }}
    """,
)
CADDY = Proxy(
    "Caddyfile",
    "caddy run --config {config} --adapter caddyfile",
    {
        "orchestra.example {": "http://127.0.0.1:{port} {",
        "127.0.0.1:8000": "127.0.0.1:{server}",
    },
    "{{\nadmin off\n}}\n{page}",
)
HAPROXY = Proxy(
    "haproxy.cfg",
    "haproxy -db -f {config}",
    {
        "log stderr": "log stdout",
        "bind :80": "bind 127.0.0.1:{port}",
        "server a 127.0.0.1:8000": "server a 127.0.0.1:{gone}",
        "server b 127.0.0.1:8001": "server b 127.0.0.1:{server}",
        "timeout client 60s": "timeout client 2s",
        "timeout server 610s": "timeout server 2s",
        "timeout tunnel 60s": "timeout tunnel 2s",
    },
)


@attrs.frozen
class Proxied:
    """A server behind a proxy: their URLs, and the log of the proxy."""

    through: str
    direct: str
    log: Path

    def status(self, run_id: str) -> str:
        """The status of a run."""
        return str(httpx.get(f"{self.direct}/v1/runs/{run_id}").json()["status"])


def settings_of(proxy: Proxy, **places: object) -> str:
    """The page's settings, with these places."""
    text = (DEPLOY / proxy.page).read_text()
    for old, new in proxy.replaced.items():
        assert text.count(old) == 1, f"{old!r} is not in {proxy.page}, or not once"
        for name, place in places.items():
            new = new.replace("{" + name + "}", str(place))  # noqa: PLW2901 - filled in
        text = text.replace(old, new)
    return proxy.around.format(page=text, **places)


def answers(port: int) -> bool:
    """Whether somebody listens there."""
    with socket.socket() as asked:
        return asked.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def server() -> Iterator[str]:
    """The URL of a server in a process of its own."""
    settings = json.dumps({"heartbeat_s": 12 / FASTER, "drain_s": 1})
    command = [sys.executable, "-m", "tests.server.served", settings]
    with subprocess.Popen(
        ending_with_us(*command), cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
    ) as process:
        assert process.stdout is not None
        try:
            yield line_with(process.stdout, "http://").strip()
        finally:
            process.kill()


@pytest.fixture(scope="module", params=[NGINX, CADDY, HAPROXY], ids=["nginx", "caddy", "haproxy"])
def proxied(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proxied]:
    """A server behind each proxy that is installed."""
    proxy: Proxy = request.param
    program, *words = proxy.command.split()
    found = shutil.which(program, path="/usr/sbin:/usr/local/sbin") or shutil.which(program)
    if found is None:
        pytest.skip(f"there is no {program}: apt-get install {program}")
    folder = tmp_path_factory.mktemp(program)
    config, log = folder / proxy.page, folder / "output"
    with (
        reserved_port() as port,
        reserved_port() as gone,
        server() as direct,
        log.open("wb") as out,
    ):
        places = {"port": port, "gone": gone, "server": httpx.URL(direct).port, "folder": folder}
        config.write_text(settings_of(proxy, **places))
        process = subprocess.Popen(
            ending_with_us(found, *(word.format(config=config, folder=folder) for word in words)),
            env={**os.environ, "HOME": str(folder)},  # Caddy writes there
            stdout=out,
            stderr=subprocess.STDOUT,
        )
        try:
            eventually(f"{program} listens", lambda: answers(port) or process.poll() is not None)
            assert process.poll() is None, log.read_text()
            yield Proxied(f"http://127.0.0.1:{port}", direct, log)
        finally:
            process.kill()
            process.wait()


def test_streams_are_passed_on_at_once_and_silence_does_not_end_them(proxied: Proxied) -> None:
    """Pings arrive for longer than the proxy waits for a byte, over SSE as over a WebSocket; and
    the run of a client that leaves is cancelled."""
    url = proxied.through.replace("http", "ws", 1) + "/v1/pipelines/count/ws"
    with ExitStack() as clients:
        opened = clients.enter_context(connect(url, proxy=None, ping_interval=None))
        start = {"type": "start", "id": "a", "inputs": {"count": 2, "hold": True}}
        opened.send(json.dumps(start))
        while '"chunk":"1 "' not in str(opened.recv(timeout=PATIENCE_S)):
            pass
        query = httpx.QueryParams(count=2, hold=True)
        stream = clients.enter_context(
            httpx.stream(
                "GET", f"{proxied.through}{COUNT}?{query}", headers=STREAM, timeout=PATIENCE_S
            )
        )
        assert stream.status_code == 200
        assert "content-encoding" not in stream.headers
        lines = stream.iter_lines()
        started = next(json.loads(line[6:]) for line in lines if line.startswith("data: "))
        assert any('"chunk":"1 "' in line for line in lines)
        for _ in range(60 // 12 + 1):
            assert any(line.startswith(":") for line in lines), "the stream was cut"
        opened.send(json.dumps({"type": "cancel", "id": "a"}))
        while "run.cancelled" not in str(opened.recv(timeout=PATIENCE_S)):
            pass
    run_id = started["run_id"]
    assert eventually("its end", lambda: proxied.status(run_id), "running".__ne__) == "cancelled"


def test_a_client_that_leaves_before_the_response_cancels_its_run(proxied: Proxied) -> None:
    """No byte comes from this run, so that the proxy cannot notice it by a failed write."""
    body = b'{"inputs": {"count": 2, "hold": true}}'
    head = f"POST {COUNT} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    before = runs_of(proxied)
    with socket.create_connection(("127.0.0.1", httpx.URL(proxied.through).port)) as asking:
        asking.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        (run_id,) = eventually("its run", lambda: runs_of(proxied) - before)
    assert eventually("its end", lambda: proxied.status(run_id), "running".__ne__) == "cancelled"


def runs_of(proxied: Proxied) -> set[str]:
    """The ids of the newest runs."""
    return {each["id"] for each in httpx.get(f"{proxied.direct}/v1/runs").json()["runs"]}


def test_the_request_id_is_in_the_log_of_the_proxy_with_the_address(proxied: Proxied) -> None:
    asked = {"X-Request-ID": "of-the-client"}
    reply = httpx.get(f"{proxied.through}/v1/pipelines", headers=asked)
    (known,) = reply.headers.get_list("x-request-id")
    assert known != "of-the-client"
    entries = eventually(
        "the entry", lambda: [e for e in proxied.log.read_text().splitlines() if known in e]
    )
    assert re.search(r"\b127\.0\.0\.1\b", entries[0])


WRITTEN = ["/readyz", "/readyz?", "//readyz", "/%72eadyz", "/%2Freadyz", "http://127.0.0.1//readyz"]


@pytest.mark.parametrize("target", WRITTEN)
def test_the_probes_are_hidden_however_they_are_written(proxied: Proxied, target: str) -> None:
    head = f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", httpx.URL(proxied.through).port)) as asking:
        asking.sendall(head.encode())
        with asking.makefile("rb") as reply:
            told = reply.read()
    assert re.match(rb"HTTP/1.1 40[34] ", told), told


def test_a_refused_body_does_not_fail_the_next_request(proxied: Proxied) -> None:
    """The server closes the connection of a body that it has not read."""
    with httpx.Client(base_url=proxied.through, timeout=PATIENCE_S) as client:
        for _ in range(10):
            refused = client.post(COUNT, content=b" " * 1_200_000)
            assert (refused.status_code, refused.headers["content-type"]) == (
                413,
                "application/problem+json",
            )
            body = json.dumps({"inputs": {"count": 1}}).encode() + b" " * 900_000
            kind = {"Content-Type": "application/json"}
            assert client.post(COUNT, content=body, headers=kind).status_code == 200
