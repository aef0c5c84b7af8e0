"""The JSON Schemas of a run's events, made from their classes. Pure.

The schema of a class has its fields, and the first line of its docstring as the description.
"""

from __future__ import annotations

from typing import Any, get_args

import msgspec

from orchestra.accounts import Usage
from orchestra.events import UNWRITTEN, Event, RunFailed
from orchestra.values import Json

EVENT, USAGE, PROBLEM = "Event", "Usage", "Problem"
"""The names of the schemas of an event of any class, of a usage record, and of a problem."""
WAIT: Json = {
    "type": "integer",
    "minimum": 1,
    "description": "Seconds to wait before another attempt; as the header `Retry-After`.",
}
SCHEMAS = "#/components/schemas/"
_OF_REQUEST: Json = {"request_id": {"type": "string"}}


def event_schemas() -> dict[str, Json]:
    """The schemas by name: of each event class, of the classes of its fields, and of `EVENT`."""
    kinds: tuple[Any, ...] = get_args(Event)
    _, found = msgspec.json.schema_components((*kinds, Usage), ref_template=SCHEMAS + "{name}")
    described = {name: _event_schema(schema) for name, schema in found.items()}
    for kind in kinds:
        schema = described[kind.__name__]
        schema["properties"] = {"type": {"const": kind.type}, **_OF_REQUEST, **schema["properties"]}
        schema["required"] = list(schema["properties"])
    described[RunFailed.__name__]["properties"] |= failure()
    names = {kind.type: reference(kind.__name__) for kind in kinds}
    described[EVENT] = {
        "title": EVENT,
        "description": "An event of a run: the `data` of a server-sent event.",
        "oneOf": list(names.values()),
        "discriminator": {
            "propertyName": "type",
            "mapping": {type_: each["$ref"] for type_, each in names.items()},
        },
    }
    return described


def failure() -> Json:
    """The schemas of what a run that failed has of the answer to a request for it, by name."""
    return {"problem": reference(PROBLEM), "retry_after_s": {"anyOf": [WAIT, {"type": "null"}]}}


def reference(name: str) -> Json:
    """A `$ref` to the schema of this name."""
    return {"$ref": SCHEMAS + name}


BY_MODEL: Json = {"type": "object", "additionalProperties": reference(USAGE)}
"""The schema of `usage_by_model`."""


def _event_schema(schema: Json) -> Json:
    """The schema of an event as it is sent: its public fields, all required, without defaults."""
    described: Json = {**schema, "description": schema.get("description", "").partition("\n")[0]}
    if "properties" in schema:
        described["properties"] = {
            name: {key: value for key, value in each.items() if key != "default"}
            for name, each in schema["properties"].items()
            if not name.startswith("_") and name not in UNWRITTEN
        }
        described["required"] = list(described["properties"])
    return described
