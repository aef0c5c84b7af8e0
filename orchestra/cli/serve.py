"""`orchestra serve`: pipelines behind HTTP, until Ctrl-C or SIGTERM."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterable
from functools import partial
from itertools import chain

from orchestra.cli import terminal
from orchestra.cli.admission import admission_of
from orchestra.cli.failures import MISUSED, CommandError
from orchestra.cli.loading import AnyPipeline, chosen, extra, load_all
from orchestra.cli.parameters import Config, Data, Flag, Port, Seconds

YOUNG_OBJECTS = 50_000
"""New objects between two searches for garbage while it serves: some thousand events."""
LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s%(request)s: %(message)s"


def serve(
    *targets: str,
    host: str = "127.0.0.1",
    port: Port = 8000,
    drain_s: Seconds | None = None,
    data: Data = None,
    config: Config = None,
    debug: Flag = False,
) -> int:
    """Serve pipelines over HTTP; runs are streamed as Server-Sent Events.

    The first Ctrl-C lets runs end within the drain time, the second stops them.

    Parameters
    ----------
    targets
        MODULE[:PIPELINE], ...; by default all pipelines in `pipelines/`.
    host
        The address to listen on; 0.0.0.0 is every one of this machine.
    port
        The port to listen on; 0 takes a free one.
    drain_s
        Seconds that runs may go on after the server was asked to stop; by default what `[server]`
        says, else 20.
    data
        Where ingested stores are; by default what `[stores]` in the configuration says,
        else `.orchestra`.
    config
        The configuration; by default $ORCHESTRA_CONFIG, else `orchestra.toml` if it is there.
    debug
        Tell clients what exceptions say, and source lines.
    """
    import trio

    from orchestra.config import default_bindings

    found = [load_all(each, needed=bool(targets)) for each in chosen(targets)]
    pipelines = by_name(chain.from_iterable(found))
    with extra("server"):
        from orchestra.server.serve import serve as serve_http
        from orchestra.server.settings import Settings
    _begin_log()
    told = partial(_tell, pipelines)
    with default_bindings(data, config=config) as bindings:
        drains = {} if drain_s is None else {"drain_s": drain_s}
        settings = Settings(debug=debug, **{**bindings.rules.bounds, **drains})
        trio.run(
            partial(
                serve_http,
                pipelines,
                bindings,
                host=host,
                port=port,
                settings=settings,
                admit=partial(admission_of, bindings, host),
                on_ready=told,
            )
        )
    terminal.note("orchestra has stopped")
    return 0


def _begin_log() -> None:
    logging.basicConfig(level=logging.INFO, format=LOG_FORMAT)
    for handler in logging.getLogger().handlers:
        handler.addFilter(with_request_id)


def with_request_id(record: logging.LogRecord) -> bool:
    """True; a line of the log gets the id of the request that its task serves."""
    from orchestra.server.arrival import REQUEST_ID

    found = REQUEST_ID.get()
    record.request = f" [{found}]" if found else ""
    return True


def _tell(pipelines: Iterable[str], url: str) -> None:
    gc.freeze()  # what a start has made stays: no search for garbage goes through it again
    gc.set_threshold(YOUNG_OBJECTS, *gc.get_threshold()[1:])
    for name in pipelines:
        terminal.note(f"  {name}: {url}/v1/pipelines/{name}/runs")
    terminal.say(f"orchestra is listening on {url}")


def by_name(pipelines: Iterable[AnyPipeline]) -> dict[str, AnyPipeline]:
    """The pipelines, each under its name.

    Raises:
        CommandError: two have the same name.
    """
    named: dict[str, AnyPipeline] = {}
    for pipeline in pipelines:
        other = named.setdefault(pipeline.name, pipeline)
        if other is not pipeline:
            raise CommandError(
                f"two pipelines are named {pipeline.name!r}, at {other.where} and "
                f"{pipeline.where}; rename one with @pipeline(name=...), or name those to serve",
                code=MISUSED,
            )
    return named
