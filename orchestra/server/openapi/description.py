"""The OpenAPI 3.1 document of a server, made from its routes and pipelines. Pure.

Each pipeline has its own path in the document, with its inputs; the path with `{name}` describes
them all. Every possible status and content type is described, and the `type` of every problem.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from importlib.metadata import version
from itertools import product
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote

import msgspec

from orchestra.server.front.access import public
from orchestra.server.front.arrival import MESSAGES
from orchestra.server.front.layers import OPEN, Admission
from orchestra.server.inputs.reading import fits_query, form_schema
from orchestra.server.inputs.reading import schema as json_schema
from orchestra.server.models.paths import shaped_at
from orchestra.server.openapi.anthropic import ERROR as ANTHROPIC_ERROR
from orchestra.server.openapi.events import PROBLEM, event_schemas, reference
from orchestra.server.openapi.events import SCHEMAS as AT
from orchestra.server.openapi.openai import ERROR
from orchestra.server.openapi.operations import (
    OPERATIONS,
    SCHEMAS,
    problems_of_all,
    problems_of_callers,
)
from orchestra.server.openapi.runs import run_result
from orchestra.server.openapi.words import (
    COUNT,
    NUMBER,
    OF_ANTHROPIC,
    OF_END_USER,
    TEXT,
    Answer,
    Operation,
    Refusal,
    json,
    or_null,
)
from orchestra.server.responses import caller_problems
from orchestra.server.runs import results
from orchestra.server.settings import FORM, Settings
from orchestra.values import Json

if TYPE_CHECKING:
    from orchestra.graph.pipelines import Pipeline
    from orchestra.server.front.routes import Route

STARTS = "start-run"
"""The route that is described again for each pipeline."""
_KEY, _OTHER_KEY = "key", "anthropicKey"
_NOT_HTTP = "What was sent is not a valid HTTP request; the response has no body."
_PROBLEM: Json = {
    "title": PROBLEM,
    "description": "Why the request failed (RFC 9457). `type` is stable: programs can rely on it.",
    "type": "object",
    "properties": {
        "type": TEXT,
        "title": TEXT,
        "status": {"type": "integer"},
        "detail": TEXT,
        "field": {**TEXT, "description": "The first wrong field."},
        "run_id": {**TEXT, "description": "The run that failed."},
        "error": {**TEXT, "description": "The class of its error."},
        "step": {**TEXT, "description": "The step that failed."},
        "where": {**TEXT, "description": "Its source line, if the server runs with `--debug`."},
        "limit": {**TEXT, "description": "The limit that was reached."},
        "budget": {**TEXT, "description": "The budget: its owner and period."},
        "spent_nanodollars": COUNT,
        "limit_nanodollars": COUNT,
        "resets_at_s": or_null({**NUMBER, "description": "In seconds since 1970."}),
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"pointer": TEXT, "detail": TEXT},
                "required": ["pointer", "detail"],
            },
        },
    },
    "required": ["type", "title", "status", "detail"],
}


def document(
    routes: Iterable[Route],
    pipelines: Mapping[str, Pipeline[..., Any]],
    settings: Settings,
    admission: Admission = OPEN,
) -> Json:
    """The OpenAPI document of `routes`, for a caller who may run `pipelines`."""
    writer = _Writer(settings, admission)
    paths: dict[str, Json] = {}
    for route in routes:
        path = route.template
        paths.setdefault(path, {}).update(writer.methods(route, path))
        if route.name == STARTS:
            for name, pipeline in pipelines.items():
                own = path.replace("{name}", quote(name, safe=""))
                paths[own] = writer.methods(route, own, pipeline, name)
    return {
        "openapi": "3.1.1",
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "info": {"title": "orchestra", "version": version("orchestra"), "description": _ABOUT},
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": writer.components(),
        "security": [],  # where there are keys, each operation has its own
    }


_ABOUT = "Runs pipelines on request, and responds with the result or with server-sent events."


class _Writer:
    """Writes the operations of one document, and collects the components that they share."""

    def __init__(self, settings: Settings, admission: Admission) -> None:
        self._keyed = admission.keyring is not None and admission.unlocked is None
        self._common = (*problems_of_all(settings), *problems_of_callers(admission))
        self._refusals: dict[str, Json] = {}
        self._owners: dict[str, str] = {}
        self._schemas: dict[str, Json] = {**event_schemas(), **SCHEMAS, PROBLEM: _PROBLEM}

    def components(self) -> Json:
        """The schemas, responses, headers and security schemes that operations refer to."""
        found: Json = {
            "schemas": self._schemas,
            "responses": self._refusals,
            "headers": {
                "X-Request-Id": {
                    "description": "The request's own id if it was well-formed, else a new one.",
                    "schema": TEXT,
                }
            },
        }
        if self._keyed:
            about = "An API key that was created with `orchestra keys create`."
            beside = f"{about} This header is read only if there is no `Authorization`."
            found["securitySchemes"] = {
                _KEY: {"type": "http", "scheme": "bearer", "description": about},
                _OTHER_KEY: {
                    "type": "apiKey",
                    "in": "header",
                    "name": "x-api-key",
                    "description": beside,
                },
            }
        return found

    def methods(
        self, route: Route, path: str, pipeline: Pipeline[..., Any] | None = None, name: str = ""
    ) -> Json:
        """The operations of a route by method; if `pipeline` is given, those of this pipeline."""
        found = {}
        for method in route.methods or ("GET",):  # a WebSocket is opened with GET
            operation = OPERATIONS.get((route.name, method), _UNKNOWN)
            described = self._operation(route, path, operation)
            several = len(route.methods) > 1
            described["operationId"] = f"{route.name}-{method.lower()}" if several else route.name
            if pipeline is not None:
                self._narrow(described, pipeline, name)
            found[method.lower()] = described
        return found

    def _operation(self, route: Route, path: str, operation: Operation) -> Json:
        free = route.access == public
        values = [_path_value(each) for each in route.values if f"{{{each}}}" in path]
        described: Json = {
            "tags": [operation.tag],
            "summary": route.summary,
            "parameters": [*values, *operation.parameters],
            "responses": self._responses(path, operation, free=free),
        }
        if operation.body:
            described["requestBody"] = {"required": True, "content": dict(operation.body)}
        described.update(operation.extensions)
        if self._keyed:
            keys = (_KEY, _OTHER_KEY) if OF_ANTHROPIC in operation.parameters else (_KEY,)
            described["parameters"] += [] if free else [OF_END_USER]
            described["security"] = [{}] if free else [{each: []} for each in keys]
        return described

    def _narrow(self, described: Json, pipeline: Pipeline[..., Any], name: str) -> None:
        """Narrow an operation of all pipelines to one of them: its texts, inputs and result."""
        first, _, more = pipeline.doc.partition("\n")
        described["tags"] = ["pipelines served here"]
        described["summary"] = first or f"Run {name}."
        if more.strip():
            described["description"] = more.strip()
        described["operationId"] += f".{name}"
        if returned := results.schema(pipeline.returns):
            result = self._owned(returned, f"{name}.result")["properties"]["result"]
            described["responses"]["200"]["content"] |= json(run_result(result))
        given = json_schema(pipeline.inputs)
        inputs = self._owned(given, name)
        if "requestBody" in described:
            body = {
                "type": "object",
                "properties": {"inputs": inputs},
                "required": ["inputs"] if inputs["required"] else [],
                "additionalProperties": False,
            }
            form = form_schema(pipeline.inputs)
            alike = form.get("$defs") == given.get("$defs")
            form = self._owned(form, name if alike else f"{name}.form")
            content = {**json(body), FORM: {"schema": form}}
            described["requestBody"] = {"required": True, "content": content}
        else:
            described["parameters"] += [
                {"name": each, "in": "query", "required": each in inputs["required"], "schema": one}
                for each, one in inputs["properties"].items()
                if fits_query(one, lambda ref: self._schemas[ref.removeprefix(AT)])
            ]

    def _owned(self, schema: Json, name: str) -> Json:
        """The schema of a pipeline's inputs or result; moves its definitions to the components."""
        schema.pop("$schema", None)
        prefix = re.sub(r"[^A-Za-z0-9._-]", "_", name)
        while self._owners.setdefault(prefix, name) != name:  # another name with this prefix
            prefix += "_"
        schema = cast("Json", _moved(schema, f"{AT}{prefix}."))
        for own, each in schema.pop("$defs", {}).items():
            each.pop("title", None)  # the bare name, by which some generators name their classes
            self._schemas[f"{prefix}.{own}"] = each
        return schema

    def _responses(self, path: str, operation: Operation, *, free: bool) -> Json:
        found: dict[str, Json] = {}
        for answer in operation.answers:
            found[str(answer.status)] = _answer(answer)
        refusals: list[Refusal] = [*operation.problems, *self._common]
        if self._keyed and not free:
            refusals += [caller_problems.key_missing(), caller_problems.not_allowed("", "")]
        by_status: dict[int, list[Any]] = {}
        forms = (path, MESSAGES) if OF_ANTHROPIC in operation.parameters else (path,)
        for problem, at in product(refusals, forms):
            encoded = shaped_at(at, problem)
            by_status.setdefault(encoded.status, []).append((problem, encoded))
        for status, each in sorted(by_status.items()):
            found[str(status)] = self._shared(status, self._refusal(status, each))
        if "400" not in found:
            found["400"] = self._shared(400, {"description": _NOT_HTTP})
        return found

    def _shared(self, status: int, refusal: Json) -> Json:
        """A reference to this response among the components, where equal ones are shared."""
        return {
            "$ref": f"#/components/responses/{_named(f'Error{status}', refusal, self._refusals)}"
        }

    def _refusal(self, status: int, refusals: Sequence[tuple[Refusal, Any]]) -> Json:
        """The description of all refusals with the same status, as one response."""
        codes: dict[tuple[str, str], dict[str | None, None]] = {}
        headers = dict[str, Json]()
        titles = dict[str, None]()
        for refusal, encoded in refusals:
            form, code = _form(msgspec.json.decode(encoded.encode()))
            codes.setdefault((encoded.media_type, form), {})[code] = None
            headers |= {name: {"schema": TEXT} for name, _ in encoded.headers}
            titles[getattr(refusal, "title", None) or _phrase(encoded.status)] = None
        schemas: dict[str, list[Json]] = {}
        for (media_type, form), found in codes.items():
            of_types = self._of_types(status, form, list(found))
            schemas.setdefault(media_type, []).append(of_types)
        return {
            "description": " ".join(titles),
            "headers": {**headers, **_ID},
            "content": {
                media_type: {"schema": each[0] if len(each) == 1 else {"anyOf": each}}
                for media_type, each in schemas.items()
            },
        }

    def _of_types(self, status: int, form: str, codes: Sequence[str | None]) -> Json:
        """The schema of problems with these types; other formats' codes are no enum: they grow."""
        if form != PROBLEM:
            return {**reference(form), "x-codes": [code for code in codes if code]}
        narrow = {"properties": {"type": {"enum": codes}}, "required": ["type"]}
        schema = {"allOf": [reference(PROBLEM), {"type": "object", **narrow}]}
        return reference(_named(f"{PROBLEM}{status}", schema, self._schemas))


_UNKNOWN = Operation("others")


def _path_value(name: str) -> Json:
    return {"name": name, "in": "path", "required": True, "schema": TEXT}


def _answer(answer: Answer) -> Json:
    headers = {name: {"schema": TEXT} for name in answer.headers}
    response: Json = {"description": answer.summary, "headers": {**headers, **_ID}}
    if answer.contents:
        response["content"] = dict(answer.contents)
    return response


def _phrase(status: int) -> str:
    known = {each.value: each.phrase for each in HTTPStatus}
    return known.get(status, "Overloaded")  # Anthropic's 529 is not a standard status


def _form(body: Json) -> tuple[str, str | None]:
    """The schema of a problem's body, and its type or code."""
    if "status" in body:
        return PROBLEM, body["type"]
    error = body["error"]
    if "type" in body:
        return ANTHROPIC_ERROR, error.get("details", {}).get("error_code")
    return ERROR, error["code"]


def _named(stem: str, described: Json, known: dict[str, Json]) -> str:
    """The name of the equal one among those that are known under this stem, or a new name."""
    number = 1
    while known.setdefault(name := f"{stem}_{number}", described) != described:
        number += 1
    return name


_ID: Json = {"X-Request-Id": {"$ref": "#/components/headers/X-Request-Id"}}


def _moved(schema: Any, at: str) -> Any:
    """A copy of a schema whose references to its own definitions point to `at` instead."""
    if isinstance(schema, dict):
        return {
            key: each.replace("#/$defs/", at)
            if key == "$ref" and isinstance(each, str)  # a property may be named `$ref`
            else _moved_mapping(each, at)
            if key == "discriminator" and _has_mapping(each)
            else _moved(each, at)
            for key, each in schema.items()
            # Some generators fail at `"items": false`, which `maxItems` says, too.
            if key != "items" or each is not False or "maxItems" not in schema
        }
    return [_moved(each, at) for each in schema] if isinstance(schema, list) else schema


def _has_mapping(value: Any) -> bool:
    """Whether it is a discriminator with a mapping: a default may have a member of this name."""
    mapping = value.get("mapping") if isinstance(value, dict) else None
    return isinstance(mapping, dict) and all(isinstance(each, str) for each in mapping.values())


def _moved_mapping(discriminator: Json, at: str) -> Json:
    """A copy of a discriminator whose mapping from tags to references is moved, too."""
    mapping = {tag: each.replace("#/$defs/", at) for tag, each in discriminator["mapping"].items()}
    return discriminator | {"mapping": mapping}
