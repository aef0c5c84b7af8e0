"""The entry point: from the words of a command line to an exit code, whatever happens."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence

from cyclopts import App, CycloptsError, Parameter

from orchestra.cli import terminal
from orchestra.cli.failures import MISUSED, CommandError, explain
from orchestra.cli.models import models, ping

TRACEBACK = "--traceback"
COMMANDS = (
    ("run", "run MODULE[:PIPELINE] [--INPUT VALUE ...] [OPTIONS]"),
    ("serve", "serve [MODULE[:PIPELINE] ...] [OPTIONS]"),
    ("check", "check [MODULE[:PIPELINE] ...] [OPTIONS]"),
    ("draw", "draw MODULE[:PIPELINE] [OPTIONS]"),
    ("ingest", "ingest FOLDER --store NAME [OPTIONS]"),
    ("demo", "demo [QUESTION] [OPTIONS]"),
)
"""Each is a function in a module of its name, which is imported when it is called for."""
KEYS = (
    ("create", "create", "create --organisation NAME --pipelines NAMES [OPTIONS]"),
    ("list_keys", "list", "list [OPTIONS]"),
    ("rotate", "rotate", "rotate ID [OPTIONS]"),
    ("revoke", "revoke", "revoke ID [OPTIONS]"),
)
KEYS_HELP = "API keys: who may call the server, what they may ask for, and how much of it."
KEYS_USAGE = "Usage: orchestra keys create|list|rotate|revoke [OPTIONS]"
MODELS_USAGE = "Usage: orchestra models [ping [NAME ...]] [OPTIONS]"
PING_USAGE = "Usage: orchestra models ping [NAME ...] [OPTIONS]"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that the arguments (by default those of this process) name.

    Gives the exit code: 0; 1 where something failed; 2 where the command was called
    wrongly; 130 after Ctrl-C. An error is told in one block on standard error; with
    `--traceback` anywhere, the traceback goes before it.
    """
    _open_closed()
    words = list(sys.argv[1:] if arguments is None else arguments)
    with_traceback = TRACEBACK in words
    try:
        code = _call([word for word in words if word != TRACEBACK])
        sys.stdout.flush()  # what steps have printed: here its failure can be told
    except BaseException as error:  # noqa: ASYNC103, BLE001 - nothing is above it; `explain` knows all of it
        if with_traceback:
            traceback.print_exception(_cause(error))
        message, code = explain(error)
        if message:
            terminal.complain(message)
        _forget_unwritable()
    return code


def _call(words: list[str]) -> int:
    try:
        code = _app()(words, exit_on_error=False, print_error=False)
    except CycloptsError as error:
        raise CommandError(str(error), code=MISUSED) from error
    return code if isinstance(code, int) else 0


def _app() -> App:
    app = App(
        name="orchestra",
        help="Pipelines for real-time AI: run them, serve them, check them.",
        help_epilogue=f"After an error, {TRACEBACK} shows where in the code it was raised.",
        help_format="plaintext",
        result_action="return_value",
        default_parameter=Parameter(negative=""),
    )
    for command, usage in COMMANDS:
        app.command(f"orchestra.cli.{command}:{command}", usage=f"Usage: orchestra {usage}")
    listed = App(name="models", usage=MODELS_USAGE, help=models.__doc__)
    listed.default(models)
    listed.command(ping, usage=PING_USAGE)
    app.command(listed)
    keys = App(name="keys", usage=KEYS_USAGE, help=KEYS_HELP)
    for act, name, usage in KEYS:
        keys.command(f"orchestra.cli.keys:{act}", name=name, usage=f"Usage: orchestra keys {usage}")
    app.command(keys)
    return app


def _cause(error: BaseException) -> BaseException:
    return error.__cause__ if isinstance(error, CommandError) and error.__cause__ else error


def _open_closed() -> None:
    """Put something where the caller closed standard input, output or error.

    Otherwise the next file that is opened, such as a database, would take its number, and
    with it what is meant for standard output.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115, PTH123


def _forget_unwritable() -> None:
    """Let Python end without a complaint about output that can no longer be written."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), terminal.OUT)
