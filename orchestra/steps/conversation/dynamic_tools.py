"""Tools whose JSON Schema comes from elsewhere, as from an MCP server. Pure.

Their function takes what the model gives as `**arguments`. A model may give any names, also those
of the function's own parameters and of bound arguments: these are hidden from it, and refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from inspect import Parameter
from typing import cast

import msgspec

from orchestra.annotations.facts import hints
from orchestra.errors import DefinitionError
from orchestra.graph.source.functions import underlying
from orchestra.protocols import Context
from orchestra.values import Json

_SHAPE = "`async def call_shop(client, name, /, **arguments)`"


def checked_schema(parameters: object, where: str) -> Json:
    """The schema, if it is one of an object and can be sent to a model.

    Raises:
        DefinitionError: it is not.
    """
    if isinstance(parameters, Mapping) and parameters.get("type") == "object":
        try:
            return cast("Json", msgspec.json.decode(msgspec.json.encode(parameters)))
        except (TypeError, ValueError) as error:
            raise DefinitionError(
                f"{where}: its parameters={parameters!r:.100} cannot be sent as JSON ({error})"
            ) from error
    raise DefinitionError(
        f"{where}: its parameters={parameters!r:.100} are not the JSON Schema of an object; write "
        'parameters={"type": "object", "properties": {...}}'
    )


def parameters_beside(
    function: Callable[..., object], open_parameters: Sequence[Parameter], schema: Json, where: str
) -> tuple[frozenset[str], str | None]:
    """The names that a model may not use as arguments, and the name of the context's parameter.

    `open_parameters` are those of the function that no partial fills in.

    Raises:
        DefinitionError: the function does not take `**arguments`; it has another parameter that
            would remain without a value; or the schema has one of the names.
    """
    kinds = hints(underlying(function))
    contexts = [each.name for each in open_parameters if kinds.get(each.name) is Context]
    rest = [each for each in open_parameters if each.name not in contexts]
    if [each.kind for each in rest] != [Parameter.VAR_KEYWORD]:
        spelled = ", ".join(str(each.replace(annotation=each.empty)) for each in rest)
        raise DefinitionError(
            f"{where} has parameters=, so its function gets all arguments of the model as "
            f"`**arguments`, and this one takes ({spelled}); write {_SHAPE}, and fill in the rest "
            "with functools.partial; or leave parameters= out"
        )
    bound = function.keywords if isinstance(function, partial) else {}
    hidden = frozenset([*contexts, *bound])
    if taken := sorted(hidden & schema.get("properties", {}).keys()):
        raise DefinitionError(
            f"{where}: its parameters= have a property {taken[0]!r}, and its function has a "
            f"parameter of this name; make that positional-only, as in {_SHAPE}"
        )
    return hidden, contexts[0] if contexts else None
