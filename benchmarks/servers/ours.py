"""orchestra's server with the pipeline of the benchmarks, without the command line."""

from __future__ import annotations

from functools import partial

import trio

from benchmarks.servers.pipelines import ticks
from orchestra.server.serve import serve

if __name__ == "__main__":
    trio.run(partial(serve, {"ticks": ticks}, port=0, on_ready=partial(print, flush=True)))
