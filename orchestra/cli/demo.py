"""`orchestra demo`: shows the main features, without a key, and without a network.

Ingests a folder, serves the example pipeline, calls it over HTTP, and shows the events.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from functools import partial
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from cyclopts import Parameter

from orchestra.cli import terminal
from orchestra.cli.failures import MISUSED, CommandError
from orchestra.cli.loading import AnyPipeline, extra, load
from orchestra.cli.run_views import duration

if TYPE_CHECKING:
    from orchestra.cli.terminal import Colour
    from orchestra.config import LocalBindings

PIPELINE = "pipelines/answer.py"
STORE = "docs"
CHUNK_CHARS = 60
"""The most characters of the answer in one line of the demo."""
QUOTED = (
    "The built-in model is extractive: it only quotes sentences of the sources. For written "
    "answers, name a model in orchestra.toml, and add --config orchestra.toml."
)
OwnConfig: TypeAlias = Annotated[Path | None, Parameter(show_default=False)]
"""`Config`, without its default: the demo looks for no file."""


def demo(
    question: str = "What happens when the client leaves?",
    /,
    *,
    docs: Path = Path("docs"),
    config: OwnConfig = None,
) -> int:
    """Index a folder of documents, serve it, and ask a question over HTTP.

    Parameters
    ----------
    question
        What to ask.
    docs
        The folder to answer from.
    config
        The configuration; by default none, so that built-in models answer, at no cost, even if
        the environment has a provider's key.
    """
    import trio

    from orchestra.config import LocalBindings, default_bindings

    for path in (docs, Path(PIPELINE)):
        if not path.exists():
            raise CommandError(
                f"there is no {str(path)!r} in {Path.cwd()}; run the demo in a checkout of "
                "orchestra (--docs names another folder to answer from)",
                code=MISUSED,
            )
    pipeline = load(PIPELINE)
    with (
        TemporaryDirectory(prefix="orchestra-demo-") as data,
        (
            default_bindings(Path(data), config=config)
            if config
            else LocalBindings(Path(data), environ={})
        ) as bindings,
    ):
        trio.run(_demo, question, docs, pipeline, bindings)
    return 0


async def _demo(question: str, docs: Path, pipeline: AnyPipeline, bindings: LocalBindings) -> None:
    import trio

    from orchestra.cli.ingest import ingest_shown, summary
    from orchestra.cli.stopping import until_signal

    with extra("server"):
        from orchestra.server.processes.serve import serve
        from orchestra.server.settings import Settings

    async def show() -> None:
        report = await ingest_shown(docs, STORE, bindings)
        _step("ingest", f"{docs}/: {summary(report)}")
        async with trio.open_nursery() as nursery:
            settings = Settings(debug=True)
            served = {pipeline.name: pipeline}
            url = await nursery.start(partial(serve, served, bindings, port=0, settings=settings))
            await until_signal(partial(_ask, url, pipeline.name, question))
            fast = bindings.deployment.models.get("fast")  # it may be a route
            if fast is not None and fast.provider == "extractive":
                terminal.say("\n" + terminal.paint(QUOTED, "dim", sys.stdout))
            nursery.cancel_scope.cancel()

    await until_signal(show)


async def _ask(url: str, pipeline: str, question: str) -> None:
    """Ask the server, and show its events as they arrive, then the answer."""
    from orchestra.cli.client import ask

    _step("serve", url)
    _step("ask", f"POST /v1/pipelines/{pipeline}/runs  {question!r}")
    last: Mapping[str, Any] = {}
    async with ask(url, pipeline, {"question": question}) as answer:
        while batch := await answer.receive():
            last = batch[-1]
            for line, colour in lines(batch):
                terminal.say(terminal.paint(line, colour, sys.stdout))
    if last.get("type") != "run.finished":
        raise CommandError(f"the run did not finish: {last.get('message', last)}")
    terminal.say("\n" + terminal.visible(str(last["result"]).strip()))


def lines(batch: Iterable[Mapping[str, Any]]) -> list[tuple[str, Colour]]:
    """Events as short coloured lines; text of one batch is one line."""
    found: list[tuple[str, Colour]] = []
    for kind, group in groupby(batch, key=lambda event: str(event["type"])):
        events = list(group)
        if kind == "delta":
            text = "".join(str(event["chunk"]) for event in events)
            found.append((_line(events[-1], _shortened(text)), "green"))
            continue
        colour: Colour = "red" if kind.endswith(("failed", "cancelled")) else "dim"
        found += [(_line(event, _detail(event)), colour) for event in events]
    return found


def _line(event: Mapping[str, Any], detail: str) -> str:
    line = f"  {event['at_s'] * 1000:8.1f} ms  {event['type']:<14} {detail}"
    return terminal.visible(line.rstrip())


def _detail(event: Mapping[str, Any]) -> str:
    """The details of an event: its step, its duration, and its reason."""
    took = event.get("duration_s")
    details = [
        event.get("pipeline") or event.get("step"),
        event.get("arm"),
        None if took is None else duration(took),
        event.get("chunks") and f"{event['chunks']} chunks",
        event.get("reason") or event.get("error"),
        event.get("message"),
    ]
    return "  ".join(each for each in details if each)


def _shortened(text: str) -> str:
    return repr(text if len(text) <= CHUNK_CHARS else text[: CHUNK_CHARS - 1] + "…")


def _step(verb: str, detail: str) -> None:
    terminal.say(f"{terminal.paint(f'{verb:<7}', 'bold', sys.stdout)} {detail}")
