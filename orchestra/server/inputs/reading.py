"""A run's inputs, from JSON or from a query, checked against the pipeline's annotations.

Pure. All faults are reported at once, each with the field's name and a pointer to its place. The
checks are the same as in the inputs' JSON Schema.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterable, Mapping
from functools import partial
from itertools import islice, takewhile
from typing import TYPE_CHECKING, Any

import msgspec

from orchestra.annotations import documents, stand_ins
from orchestra.annotations.complaints import complaints_of
from orchestra.annotations.custom_types import custom_dec_hook, for_msgspec
from orchestra.annotations.documents import JsonDocument
from orchestra.annotations.facts import MISSING, spell
from orchestra.annotations.places import spelled
from orchestra.annotations.reading import Misfit, misfits_of, read
from orchestra.annotations.schemas import object_schema
from orchestra.annotations.turns import JsonTurn
from orchestra.engine.inputs import FitInputs
from orchestra.errors import ServeError
from orchestra.nearest import did_you_mean
from orchestra.server.responses.problems import Fault
from orchestra.values import Json

if TYPE_CHECKING:
    from orchestra.graph.nodes import Input
    from orchestra.graph.pipelines import Pipeline

_TEXT_DEC_HOOK = custom_dec_hook(strict=False, otherwise=stand_ins.read)

FAULTS_MAX = 20
"""The most faults that are reported for one request: its body may have 100,000 wrong names."""
NAME_MAX = 100
"""The most characters of a wrong name that are quoted."""

INSTEAD = (
    "take a str, a number, a bool, a list, a dict, a Document, or a dataclass, attrs class or "
    "Pydantic model of those"
)
"""What to annotate an input with if its type cannot be represented in JSON."""

_ALONE = {"string", "integer", "number", "boolean", "null"}
_IN_QUERY = {*_ALONE, "array"}
_AS_JSON = {
    "?": '; it does not fit into a query: send a POST with {"inputs": {...}} as JSON',
    "part:": "; to send JSON, give this part `Content-Type: application/json`",
}
"""What to do about an input of objects that came as text, by the prefix of the pointer."""


def from_json(
    inputs: Mapping[str, Input], given: Mapping[str, object]
) -> tuple[FitInputs, list[Fault]]:
    """The run's inputs, and their faults; without faults the inputs are complete.

    Strict: `"5"` is not an int, as in the schema; but Pydantic models decide for themselves.
    """
    return _read(inputs, {name: [value] for name, value in given.items()}, "#/inputs/", strict=True)


def from_query(
    inputs: Mapping[str, Input], given: Iterable[tuple[str, str]]
) -> tuple[FitInputs, list[Fault]]:
    """As `from_json`, from the pairs of a query string.

    A query contains only text, so it is converted to the input's type: `5`, `true` and `null` can
    be a number, a boolean and None. A name that is given several times is a list, and so is a name
    that is given once if its input takes a list.
    """
    return from_pairs(inputs, given, "?")


def from_pairs(
    inputs: Mapping[str, Input], given: Iterable[tuple[str, object]], at: str
) -> tuple[FitInputs, list[Fault]]:
    """As `from_query`; a value may also be a document, or a value that was decoded from JSON.

    `at` is the prefix of names in the pointers of faults.
    """
    values: dict[str, list[object]] = {}
    for name, value in given:
        values.setdefault(name, []).append(value)
    return _read(inputs, values, at, strict=False)


def schema(inputs: Mapping[str, Input]) -> dict[str, Any]:
    """A JSON Schema (2020-12) of the object `inputs` in a request.

    Raises:
        TypeError: an annotation cannot be represented in JSON.
    """
    return _schema(inputs, stand_ins.schema)


def form_schema(inputs: Mapping[str, Input]) -> dict[str, Any]:
    """A JSON Schema of a form (`multipart/form-data`) with these inputs, as OpenAPI has forms.

    A document is a file. An array may be sent as one part, or with a part for each item.

    Raises:
        TypeError: an annotation cannot be represented in JSON.
    """
    return _schema(inputs, documents.form_schema)


def _schema(inputs: Mapping[str, Input], hook: Callable[[type], Json]) -> dict[str, Any]:
    types = {name: for_msgspec(_annotation(each)) for name, each in inputs.items()}
    defaults = {n: each.default for n, each in inputs.items() if each.default is not MISSING}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
    } | object_schema(types, defaults, hook)


def fits_query(
    schema: Json, resolve: Callable[[str], Json], kinds: Container[str] = _IN_QUERY
) -> bool:
    """Whether text in a query can be such a value: a text, a number, an enum, or a list of those.

    An optional object does not fit: only its null could be sent. `resolve` returns the schema that
    a `$ref` names.
    """
    if "$ref" in schema:
        schema = resolve(schema["$ref"])
    if "anyOf" in schema:
        others = [each for each in schema["anyOf"] if each != {"type": "null"}]
        return any(fits_query(each, resolve, kinds) for each in others)
    kind = schema.get("type", "string" if "enum" in schema else "object")
    if kind not in kinds or kind != "array":
        return kind in kinds
    held = (*schema.get("prefixItems", ()), schema.get("items"))
    return all(fits_query(each, resolve, _ALONE) for each in held if isinstance(each, dict))


def check_servable(pipeline: str, inputs: Mapping[str, Input]) -> None:
    """Check that a path can contain the pipeline's name, and that JSON can represent every input.

    Raises:
        ServeError: one of them cannot; the error names the pipeline, the input and its annotation.
    """
    if "/" in pipeline:
        raise ServeError(
            f"pipeline {pipeline!r} cannot be served: its name is one part of a path, in which / "
            f"begins another part; write @pipeline(name={pipeline.replace('/', '-')!r})"
        )
    for name, each in inputs.items():
        try:
            schema({name: each})
        except TypeError as error:
            raise ServeError(
                f"pipeline {pipeline!r} cannot be served: its input `{name}: "
                f"{spell(each.annotation)}` has no form in JSON; {INSTEAD} "
                f"({error})"
            ) from error


RELAY = "relay"
"""The name of the pipelines in `orchestra.server.runs.relay`, which all runs of models have."""


def by_json(pipelines: Mapping[str, Pipeline[..., Any]]) -> dict[str, Pipeline[..., Any]]:
    """The pipelines whose inputs can be sent as JSON; others are used like models.

    Raises:
        ServeError: a pipeline can be used in neither way.
    """
    found, refused = sorted_out(pipelines)
    for error in refused.values():
        raise error
    return found


def sorted_out(
    pipelines: Mapping[str, Pipeline[..., Any]],
) -> tuple[dict[str, Pipeline[..., Any]], dict[str, ServeError]]:
    """The pipelines whose inputs can be sent as JSON, and the errors of those usable in no way."""
    found: dict[str, Pipeline[..., Any]] = {}
    refused: dict[str, ServeError] = {}
    for name, pipeline in pipelines.items():
        if name == RELAY:  # a key for it would show all that the organisation asks models
            refused[name] = ServeError(
                f"pipeline {name!r} has the name of all runs of models, so its keys would see "
                "those, too; rename it with @pipeline(name=...)"
            )
            continue
        try:
            check_servable(name, pipeline.inputs)
        except ServeError as error:
            from orchestra.server.inputs.chat_shapes import shape_of

            if shape_of(pipeline) is None:
                refused[name] = error
        else:
            found[name] = pipeline
    return found, refused


def is_readable(each: Input) -> bool:
    """Whether an input can be read from JSON."""
    try:
        schema({each.name: each})
    except TypeError:
        return False
    return True


def _read(
    inputs: Mapping[str, Input], given: Mapping[str, list[object]], at: str, *, strict: bool
) -> tuple[FitInputs, list[Fault]]:
    fit = FitInputs()
    unknown = islice((name for name in given if name not in inputs), FAULTS_MAX)
    faults = [_unknown(name[:NAME_MAX], inputs, at) for name in unknown]
    for name, each in inputs.items():
        if name in given:
            kind, values = _annotation(each), given[name]
            found, misfits = read(kind, values[0]) if strict else _read_text(kind, values)
            if misfits:
                instead = _instead(each, values[0], at)
                faults += (_fault(name, misfit, at, instead) for misfit in misfits)
            else:
                fit[name] = found
        elif each.default is MISSING:
            faults.append(Fault(name, pointer(at, name), f"input {name!r} is missing"))
    return fit, faults[:FAULTS_MAX]


def _read_text(kind: Any, values: list[object]) -> tuple[object, tuple[Misfit, ...]]:
    """As `read`, from the values of one name in a query or form."""
    try:
        return _convert(values, for_msgspec(kind)), ()
    except Exception as error:  # noqa: BLE001 - validators of a class may raise anything
        return None, tuple(misfits_of(kind, complaints_of(error)))


def _convert(values: list[object], type_: Any) -> object:
    """The values as the input's type; one value may also be a list."""
    from_text = partial(_convert_text, type_)
    if len(values) > 1:
        return from_text(values)
    try:
        return from_text(values[0])
    except msgspec.ValidationError:
        try:
            return from_text(values)
        except msgspec.ValidationError as error:
            if "$[0]" in str(error) and not isinstance(values[0], list):
                raise  # it is an item of a list: what is wrong with it, not that it is no list
        raise


def _convert_text(type_: Any, value: object) -> object:
    """Convert a value in which numbers may be text; refuse numbers that JSON does not have."""
    read: object = msgspec.convert(
        value, type_, strict=False, str_keys=True, dec_hook=_TEXT_DEC_HOOK
    )
    for each in read if isinstance(read, list | tuple | set | frozenset) else (read,):
        if isinstance(each, float) and not math.isfinite(each):
            raise msgspec.ValidationError(f"Expected a finite number, got `{each}`")
    return read


def _unknown(name: str, inputs: Mapping[str, Input], at: str) -> Fault:
    hint = did_you_mean(name, inputs) or f"the inputs are: {', '.join(inputs) or 'none'}"
    return Fault(name, pointer(at, name), f"there is no input {name!r}; {hint}")


def _instead(given: Input, value: object, at: str) -> str:
    """What to do about an input of objects that came as text."""
    return _AS_JSON[at] if isinstance(value, str) and at in _AS_JSON and _needs_json(given) else ""


def _fault(name: str, misfit: Misfit, at: str, instead: str) -> Fault:
    known = takewhile(lambda part: part is not ..., misfit.place if at.startswith("#") else ())
    where = pointer(at, name, *map(str, known))
    return Fault(name, where, f"input `{spelled((name, *misfit.place))}`: {misfit.what}{instead}")


def _needs_json(given: Input) -> bool:
    """Whether no text in a query or form can be a value of this input."""
    of = schema({given.name: given})
    defs = of.get("$defs", {})
    return not fits_query(
        of["properties"][given.name], lambda ref: defs[ref.removeprefix("#/$defs/")]
    )


def pointer(at: str, *parts: str) -> str:
    """A JSON pointer (RFC 6901) as a fragment; for a query, the parameter's name."""
    return at + "/".join(part.replace("~", "~0").replace("/", "~1") for part in parts)


def _annotation(each: Input) -> Any:
    """The input's annotation, if any, with what stands in JSON for a document or a message."""
    return stand_ins.with_stand_ins(each.annotation, JsonDocument, JsonTurn)
