"""A supervisor of workers that do nothing: `python -m tests.server.supervised OPTIONS SCRIPT`.

A worker runs SCRIPT, with `number`, `line` and `listener` in its hands, `ready()` to say so, and
`tell(...)` to write a line to standard output. The supervisor writes `ready` there.
"""

from __future__ import annotations

import logging
import sys
from functools import partial
from logging.handlers import MemoryHandler

import msgspec
import trio

from orchestra.server.connections.sockets import bind
from orchestra.server.processes.heartbeats import START_S
from orchestra.server.processes.restarts import RestartRule
from orchestra.server.processes.supervisor import Supervisor
from orchestra.server.settings import Settings

WORKER = """
import os, signal, socket, sys, time
number, listener, line = int(sys.argv[1]), *(socket.socket(fileno=int(a)) for a in sys.argv[2:4])
def tell(*words): os.write(1, (" ".join(map(str, words)) + "\\n").encode())
def ready(): line.send(b"+")
def on(name, act): signal.signal(getattr(signal, name), lambda *_: act())
"""

if __name__ == "__main__":
    options = msgspec.json.decode(sys.argv[1])
    if options.pop("logs_late", False):  # when it is asked to, or at the end
        late = MemoryHandler(1_000, logging.CRITICAL + 1, logging.StreamHandler())
        logging.basicConfig(handlers=[late])
    command = [sys.executable, "-S", "-E", "-c", WORKER + sys.argv[2]]
    rule = RestartRule(**options.pop("rule", {}))
    supervisor = Supervisor(
        command=command,
        listener=bind("127.0.0.1", 0, Settings()),
        count=options.pop("count", 2),
        stop_s=options.pop("stop_s", 10),
        timeout_s=options.pop("timeout_s", 0),
        start_s=options.pop("start_s", START_S),
        on_ready=partial(print, "ready", flush=True),
        rule=rule,
        jitter=lambda: 0,
    )
    sys.exit(trio.run(supervisor.run))
