"""Read `orchestra.toml` into a deployment, or report all of its problems at once.

`tomllib` reads the file, and msgspec checks each value by itself: given the whole file, msgspec
would report only the first mistake.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from orchestra.config.deployment.deployment import (
    EMBEDDED,
    Deployment,
    with_usual,
    with_usual_routes,
)
from orchestra.config.tables.budgets import read_budgets
from orchestra.config.tables.caches import check_semantics
from orchestra.config.tables.coalescing import check_circles, check_embedders
from orchestra.config.tables.limits import read_limits
from orchestra.config.tables.models import read_embedders, read_models
from orchestra.config.tables.routes import read_routes
from orchestra.config.tables.server import read_server
from orchestra.config.tables.state import read_state
from orchestra.config.tables.stores import read_stores
from orchestra.config.toml import spec
from orchestra.config.toml.checking import unknown
from orchestra.config.toml.complaints import Complaints
from orchestra.config.toml.places import Path as Place
from orchestra.config.toml.places import line_of, places
from orchestra.errors import ConfigError
from orchestra.problem import Problem
from orchestra.providers.known.settings import ModelSettings

FILE_BYTES_MAX = 1024 * 1024
"""A configuration is written by hand; a larger file is the wrong file."""
LEVELS_MAX = 100
"""The most levels of nested tables and lists: reading is recursive. Only own classes need many."""
_AT = re.compile(r" \(at line (\d+), column (\d+)\)$")
_SYNTAX = {
    "Invalid value": 'write texts in straight quotes, as in "text", and true and false in small '
    "letters; ",
    "Expected '='": "write KEY = VALUE, or [TABLE], on a line of its own; ",
    "Expected newline": 'put texts that begin with a digit, such as "30s", in quotes, and each key '
    "on a line of its own; ",
    "Cannot declare": "write this table once, with all its keys; ",
    "Cannot overwrite": "write this key once; ",
}
"""What to write instead, by the beginning of Python's message."""


def read_file(file: Path, otherwise: Deployment = EMBEDDED) -> Deployment:
    """The deployment that a file describes; see `read`.

    Raises:
        ConfigError: the file cannot be read, or has problems.
    """
    try:
        with file.open("rb") as opened:
            data = opened.read(FILE_BYTES_MAX + 1)
    except FileNotFoundError as error:
        fix = "write it, or name another with --config or ORCHESTRA_CONFIG"
        raise _unreadable(file, "there is no such file", fix=fix) from error
    except (OSError, ValueError) as error:  # ValueError: no file can have such a name
        why = getattr(error, "strerror", None) or error
        raise _unreadable(file, f"it cannot be read: {why}") from error
    if len(data) > FILE_BYTES_MAX:
        raise _unreadable(file, f"it has over {FILE_BYTES_MAX} bytes")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        message = f"it is not UTF-8, from byte {error.start} on"
        raise _unreadable(file, message, line, "save it as UTF-8") from error
    return read(text, file, otherwise)


def read(text: str, file: Path, otherwise: Deployment = EMBEDDED) -> Deployment:
    """The deployment that the text of a file describes.

    If the file has models, the deployment has no others; if not, it has those of `otherwise`, and a
    route may take the name of one. The embedder `default` is the embedded one, unless the file
    defines another.

    Raises:
        ConfigError: the file has problems; the error lists all of them, in the order of the file.
    """
    parsed, lines = _parsed(text, file)
    complaints = Complaints(str(file), lines)
    tables = {name: value for name, value in parsed.items() if _is_table(name, value, complaints)}
    here = file.parent
    models = read_models(tables.get("models", {}), here, complaints)
    all_models = models if tables.get("models") else otherwise.models
    routes = read_routes(tables.get("routes", {}), tables.get("models", {}), all_models, complaints)
    embedders = read_embedders(tables.get("embedders", {}), models, routes, here, complaints)
    embedder_names = {**EMBEDDED.embedders, **tables.get("embedders", {})}
    shared = [*models.values(), *all_models.values()]
    own = {name: e.model for name, e in embedders.items() if e.model not in shared}
    check_embedders(tables, embedder_names, complaints)
    check_circles(embedders, complaints)
    check_semantics(
        {"models": models, "routes": routes, "embedders": own}, embedder_names, complaints
    )
    stores = read_stores(tables.get("stores", {}), here, complaints)
    limits = read_limits(tables.get("limits", {}), complaints)
    state = read_state(tables.get("state"), here, complaints)
    budgets = read_budgets(tables.get("budgets", {}), complaints)
    server = read_server(tables.get("server", {}), complaints)
    if complaints.problems:
        raise ConfigError(_in_order(complaints.problems))
    return Deployment(
        models=with_usual(models, routes) if models else _without(otherwise.models, routes),
        routes=with_usual_routes(routes, all_models),
        embedders=MappingProxyType({**EMBEDDED.embedders, **embedders}),
        stores=MappingProxyType(dict(stores.own)),
        data=None if stores.data is None else here / stores.data,
        database=stores.database,
        limits=limits,
        budgets=budgets,
        file=file,
        state=state,
        lines=lines,
        server=server,
    )


def _without(
    models: Mapping[str, ModelSettings], routes: Collection[str]
) -> Mapping[str, ModelSettings]:
    left = {name: each for name, each in models.items() if name not in routes}
    return MappingProxyType(left)


def _parsed(text: str, file: Path) -> tuple[dict[str, Any], Mapping[Place, int]]:
    try:
        found, lines = tomllib.loads(text), places(text)
    except tomllib.TOMLDecodeError as error:
        at = _AT.search(str(error))
        line = int(at[1]) if at else text.count("\n") + 1
        why = _AT.sub("", str(error))
        message = f"it is not TOML: {why}" + (f", in column {at[2]}" if at else "")
        advice = next((each for start, each in _SYNTAX.items() if why.startswith(start)), "")
        fix = f"{advice}see https://toml.io"
        raise _unreadable(file, message, line, fix, "syntax") from error
    except ValueError as error:  # from Python, for a huge integer
        message = "it has a number with too many digits"
        raise _unreadable(file, message, 1, "no number in it needs more than twenty") from error
    except RecursionError as error:
        raise _too_deep(file, 1) from error
    deepest = max(lines, key=len, default=())
    if len(deepest) > LEVELS_MAX:  # dotted keys nest without recursion
        raise _too_deep(file, line_of(deepest, lines))
    return found, lines


def _too_deep(file: Path, line: int) -> ConfigError:
    fix = f"nest at most {LEVELS_MAX} tables and lists"
    return _unreadable(file, "it is nested too deeply", line, fix)


def _is_table(name: str, value: object, complaints: Complaints) -> bool:
    """Whether it is a known table; if not, add a complaint."""
    if name not in spec.TABLES:
        unknown(name, (), spec.TABLES, complaints)
    elif not isinstance(value, dict):
        complaints.not_a_table((name,), value, f"write it as a table: {spec.TABLES[name]}")
    return name in spec.TABLES and isinstance(value, dict)


def _unreadable(
    file: Path,
    message: str,
    line: int | None = None,
    fix: str = "see docs/settings.md for its format",
    code: str = "unreadable",
) -> ConfigError:
    where = str(file) if line is None else f"{file}:{line}"  # an unread file has no lines
    return ConfigError([Problem(code, where, message, fix)])


def _in_order(problems: Sequence[Problem]) -> list[Problem]:
    return sorted(problems, key=lambda problem: int(problem.where.rpartition(":")[2]))
