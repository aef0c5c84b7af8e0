"""The entry point: runs a command line, and always returns an exit code."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from cyclopts import App, CycloptsError, MissingArgumentError, Parameter
from cyclopts.exceptions import UnusedCliTokensError

from orchestra.cli import terminal
from orchestra.cli.failures import MISUSED, CommandError, explain
from orchestra.cli.models import models, ping
from orchestra.nearest import did_you_mean

TRACEBACK = "--traceback"
Commands: TypeAlias = Mapping[str, tuple[str, str]]
COMMANDS: Commands = {
    "running.run:run": (
        "run MODULE[:PIPELINE] [--INPUT VALUE ...] [OPTIONS]",
        "Run a pipeline once, and print its output as it comes.",
    ),
    "serving.serve:serve": (
        "serve [MODULE[:PIPELINE] ...] [OPTIONS]",
        "Serve pipelines over HTTP; runs are streamed as Server-Sent Events.",
    ),
    "running.batch:batch": (
        "batch MODULE[:PIPELINE] ROWS [OPTIONS]",
        "Run a pipeline for each row of a file, and write a line of JSON for each result.",
    ),
    "check:check": (
        "check [MODULE[:PIPELINE] ...] [OPTIONS]",
        "Report every problem of the configuration and of every pipeline; exit with 1 if any.",
    ),
    "draw:draw": ("draw MODULE[:PIPELINE] [OPTIONS]", "Print a pipeline's graph."),
    "ingest:ingest": (
        "ingest FOLDER --store NAME [OPTIONS]",
        "Read the documents in a folder (Markdown, text, HTML, PDF) into a store.",
    ),
    "demo:demo": (
        "demo [QUESTION] [OPTIONS]",
        "Index a folder of documents, serve it, and ask a question over HTTP.",
    ),
}
"""Each command: `module:function`, imported when it is called; how it is called; and its summary,
which is the first line of the function's docstring."""
KEYS: Commands = {
    "callers.keys:create": (
        "create --organisation NAME --pipelines NAMES [OPTIONS]",
        "Make a key, and print it; it is shown only this once.",
    ),
    "callers.keys:list_keys": (
        "list [OPTIONS]",
        "List all keys that were ever made, oldest first; secrets are never stored.",
    ),
    "callers.keys:change": (
        "change ID [OPTIONS]",
        "Change a key, from its next request on; what you leave out stays as it is.",
    ),
    "callers.keys:rotate": (
        "rotate ID [OPTIONS]",
        "Give a key a new secret, and print it; the old is refused at once, or after `--grace`.",
    ),
    "callers.keys:revoke": (
        "revoke ID [OPTIONS]",
        "Refuse a key from now on, in every process, for ever.",
    ),
}
BUDGETS: Commands = {
    "callers.budgets:list_budgets": (
        "list [OPTIONS]",
        "List what each key, its user and its organisation have spent, and what is left.",
    ),
    "callers.budgets:reset": (
        "reset --organisation NAME|--user NAME|--key ID [OPTIONS]",
        "Set what one organisation, user or key has spent back to zero.",
    ),
}
STORES: Commands = {
    "stores:list_stores": (
        "list [OPTIONS]",
        "List all stores, with how many documents and passages each holds.",
    ),
    "stores:delete": (
        "delete NAME [OPTIONS]",
        "Delete a store with all its passages.",
    ),
}
GROUPS: Mapping[str, tuple[Commands, str]] = {
    "keys": (KEYS, "API keys: who may call the server, what they may call, and how much."),
    "stores": (STORES, "Stores: what `orchestra ingest` has filled, and how to delete one."),
    "budgets": (BUDGETS, "Budgets of a day and a month: who has spent what, and what is left."),
}
"""Commands with subcommands, and the summaries of these groups."""
LISTS = ("--pipelines", "--models", "--routes")
"""Options that take several names."""
MODELS = "models [ping [NAME ...]] [OPTIONS]"
PING = "models ping [NAME ...] [OPTIONS]"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that the arguments name, by default those of this process.

    Returns the exit code: 0; 1 if something failed; 2 if the command was called wrongly; 130
    after Ctrl-C. An error is printed as one block on standard error, after its traceback if
    `--traceback` is among the arguments.
    """
    _open_closed()
    if not os.environ.get("COLUMNS", "1").strip("0"):  # 0 columns: not known, but Rich refuses it
        del os.environ["COLUMNS"]
    words = list(sys.argv[1:] if arguments is None else arguments)
    with_traceback = TRACEBACK in words
    try:
        code = _call([word for word in words if word != TRACEBACK])
        with terminal.naming(terminal.OUT):
            sys.stdout.flush()  # the output of steps: an error of writing can be reported here
    except BaseException as error:  # noqa: ASYNC103, BLE001 - outermost; `explain` handles every exception
        if with_traceback:
            traceback.print_exception(_cause(error))
        message, code = explain(error)
        if message:
            terminal.complain(message)
        terminal.forget_unwritable()
    return code


def _call(words: list[str]) -> int:
    try:
        code = _app(words)(words, exit_on_error=False, print_error=False)
    except CycloptsError as error:
        raise CommandError(_misuse(error, words), code=MISUSED) from error
    except OSError as error:
        *_, (innermost, _) = traceback.walk_tb(error.__traceback__)
        if innermost.f_globals.get("__name__") == "rich.console":  # it writes help and versions
            error.filename = "standard output"
        raise
    return code if isinstance(code, int) else 0


def _misuse(error: CycloptsError, words: Sequence[str]) -> str:
    """The error of a wrong call, with the usage if a word is missing or unexpected."""
    if isinstance(error, UnusedCliTokensError):
        unused = list(error.unused_tokens or ())
        message = f"{' '.join(unused)!r} is not expected{_instead(unused, words)}"
    elif isinstance(error, MissingArgumentError):
        message = str(error)
    else:
        return str(error)
    usage = _usages().get(" ".join(error.command_chain or ()), "orchestra COMMAND")
    return f"{message}\nusage: {usage}"


def _instead(unused: Sequence[str], words: Sequence[str]) -> str:
    """What to write instead of surplus words: names with commas, or another command."""
    before = list(words[: words.index(unused[0])]) if unused and unused[0] in words else []
    options = [n for n, word in enumerate(before) if word.startswith("--")]
    if before[:1] == ["keys"] and options and before[options[-1]] in LISTS:
        option, *given = before[options[-1] :]
        return f"; write names with commas between: {option} {','.join([*given, *unused])}"
    return did_you_mean(unused[0], ["ping"], before="; ") if before == ["models"] else ""


def _usages() -> Mapping[str, str]:
    """The usage of each command, by its words."""
    found = {usage.split()[0]: usage for usage, _ in COMMANDS.values()}
    for group, (commands, _) in GROUPS.items():
        found |= {
            f"{group} {usage.split()[0]}": f"{group} {usage}" for usage, _ in commands.values()
        }
    found |= {"models": MODELS, "models ping": PING}
    return {name: f"orchestra {usage}" for name, usage in found.items()}


def _app(words: Sequence[str]) -> App:
    """The application; only the called command shows all the help of its function."""
    app = App(
        name="orchestra",
        help="Pipelines for real-time AI: run them, serve them, check them.",
        help_epilogue=f"After an error, {TRACEBACK} shows where in the code it was raised.",
        help_format="markdown",
        result_action="return_value",
        default_parameter=Parameter(negative=""),
    )
    _add(app, COMMANDS, "orchestra", words[:1])
    listed = App(name="models", usage=f"Usage: orchestra {MODELS}", help=models.__doc__)
    listed.default(models)
    listed.command(ping, usage=f"Usage: orchestra {PING}")
    app.command(listed)
    for group, (commands, about) in GROUPS.items():
        names = "|".join(usage.split()[0] for usage, _ in commands.values())
        below = App(name=group, usage=f"Usage: orchestra {group} {names} [OPTIONS]", help=about)
        _add(below, commands, f"orchestra {group}", words[1:2])
        app.command(below)
    return app


def _add(app: App, commands: Commands, program: str, called: Sequence[str]) -> None:
    for function, (usage, summary) in commands.items():
        name = usage.split()[0]
        app.command(
            f"orchestra.cli.{function}",
            name=name,
            usage=f"Usage: {program} {usage}",
            # With a summary, the rest of the called command's own help would be hidden.
            help=None if called == [name] else summary,
        )


def _cause(error: BaseException) -> BaseException:
    return error.__cause__ if isinstance(error, CommandError) and error.__cause__ else error


def _open_closed() -> None:
    """Open `/dev/null` for each standard stream that the caller closed.

    Otherwise the next opened file, such as a database, would get its descriptor, and standard
    output would be written into it.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115, PTH123
