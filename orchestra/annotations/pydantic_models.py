"""Pydantic models: told apart, described and made by Pydantic itself, which we never import.

A model exists only where its author has imported Pydantic. So a class is a model if it inherits
from the `BaseModel` in `sys.modules`, and all else is asked of the class.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from types import NoneType
from typing import Annotated, Any, TypeGuard, cast, get_args, get_origin

import msgspec

from orchestra.annotations.places import with_place
from orchestra.event_lines import by_alias
from orchestra.eventclass import frozen
from orchestra.values import Json

REFERENCE = "#/$defs/"
"""Begins the `$ref` of a component in a JSON Schema."""
FAULTS_MAX = 20
"""The most faults that are reported for one model: each item of a long list may have some."""
_LISTED_MAX = 10_000
"""From more faults, Pydantic is asked for none: it lists all, which takes 1 KB and 2 us for each.
"""
_MESSAGE_MAX = 1_000
"""The most characters of a message. Some of Pydantic's quote the value, such as a wrong tag."""
_TEMPLATE = REFERENCE + "{model}"
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,99}")
"""Keys that a path may contain. Others are hidden, as msgspec hides the keys of a dict."""
_VALIDATION_ERROR = ("pydantic_core._pydantic_core", "ValidationError")
_LIBRARIES = ("pydantic", "annotated_types")
"""Whose objects in an `Annotated` are for Pydantic. The second has no reader of its own."""
_PREFIXES = ("Value error, ", "Assertion failed, ")
"""What Pydantic writes before the message of a validator."""


class ModelFaults(ValueError):  # noqa: N818 - read where it is raised
    """A value does not fit a model: `faults` has the message and the path of each fault."""

    def __init__(self, faults: tuple[tuple[str, str], ...]) -> None:
        super().__init__(with_place(*faults[0]))
        self.faults = faults


@frozen(slots=False)
class PydanticModel:
    """A recipe for a `CustomType`: the model is made by its own `model_validate_json`."""

    kind: Any

    @property
    def parts(self) -> tuple[Any, ...]:
        """No annotations: Pydantic makes the whole schema."""
        return ()

    def schema_from(self, schemas: Sequence[Json], components: dict[str, Json]) -> Json:
        """A reference to the model's schema, which is added to the components.

        A component of the same name, but of another class, stays; the model's is numbered.

        Raises:
            TypeError: a field has no form in JSON, or the model is not complete.
        """
        del schemas
        root, found = _components_of(self.kind)
        names = _added(found, components)
        return {"$ref": REFERENCE + names[root]}

    def make(self, value: object, *, strict: bool) -> object:
        """The model of a value in JSON, by the model's own rules; an instance stays as it is.

        Pydantic reads JSON, and not the value, as a strict model takes a date from a text only
        there.

        Raises:
            ModelFaults: the value does not fit.
            ValueError: a validator raised another error, or the value cannot be written as JSON.
        """
        del strict  # whether "5" is an int is the model's to say
        return (
            value if isinstance(value, self.kind) else _made(self.kind.model_validate_json, value)
        )


@frozen(slots=False)
class PydanticCheck:
    """A recipe for an annotation that only Pydantic reads as it is meant: see `is_checked`."""

    kind: Any
    bare: Any
    """The annotation as msgspec reads it, without what Pydantic checks: it has to be readable."""
    is_strict: bool
    """Whether `"5"` is no int, as everywhere but in Pydantic models."""

    @cached_property
    def adapter(self) -> Any:
        """Pydantic's own reader of the annotation.

        Raises:
            TypeError: it contains a class that Pydantic does not know, such as an attrs class.
        """
        try:
            return sys.modules["pydantic"].TypeAdapter(self.kind)
        except Exception as error:
            raise TypeError(_unchecked(error)) from error

    @property
    def parts(self) -> tuple[Any, ...]:
        """The annotation without what Pydantic checks."""
        return (self.bare,)

    def schema_from(self, schemas: Sequence[Json], components: dict[str, Json]) -> Json:
        """Pydantic's schema; those of the models in it are added to the components.

        Raises:
            TypeError: Pydantic has no schema for it.
        """
        del schemas
        adapter = self.adapter
        try:
            schema = adapter.json_schema(ref_template=_TEMPLATE)
        except Exception as error:
            raise TypeError(_unchecked(error)) from error
        found = schema.pop("$defs", {})
        return cast("Json", _renamed(schema, _added(found, components)))

    def make(self, value: object, *, strict: bool) -> object:
        """The value as Pydantic reads it from JSON. Raises what `PydanticModel.make` raises."""
        if not strict and isinstance(value, str) and value.lower() == "null":  # as for msgspec
            value = None if NoneType in get_args(self.bare) else value
        reads = self.adapter.validate_json
        return _made(lambda text: reads(text, strict=(strict and self.is_strict) or None), value)


def _unchecked(error: Exception) -> str:
    what = _first_line(error).partition(". Set `arbitrary_types")[0]  # which only a model can set
    return f"Pydantic cannot check it: {what}; leave `Field(...)` out, and check it in a step"


def _made(read: Callable[[bytes], object], value: object) -> object:
    """What Pydantic makes of the JSON of a value."""
    text = msgspec.json.encode(value)
    try:
        return read(text)
    except ValueError as error:
        if (faults := faults_in(error, value)) is None:
            raise
        raise faults from error


def is_checked(kind: object) -> bool:
    """Whether it is an `Annotated` with something for Pydantic, such as `Field(ge=0)`."""
    if get_origin(kind) is not Annotated or "pydantic" not in sys.modules:
        return False
    return any(map(_is_for_pydantic, get_args(kind)[1:]))


def note_of(given: object) -> str:
    """The description that an object in an `Annotated` gives: a text, or a `Field`'s."""
    found = given.description if is_field(given) else given
    return found if isinstance(found, str) else ""


def _is_for_pydantic(given: Any) -> bool:
    if is_field(given):  # a description alone is read here, too
        return bool(given.metadata or given.discriminator)
    library = type(given).__module__.partition(".")[0]
    return library in _LIBRARIES or hasattr(given, "__get_pydantic_core_schema__")


def faults_in(error: Exception, value: object) -> ModelFaults | None:
    """The faults that a `ValidationError` of Pydantic lists; None for any other error."""
    if (type(error).__module__, type(error).__name__) != _VALIDATION_ERROR:
        return None
    found = cast("Any", error)
    if (count := found.error_count()) > _LISTED_MAX:
        return ModelFaults(((f"{count} parts of the value do not fit: too many to list", ""),))
    told = found.errors(include_url=False, include_context=False, include_input=False)
    return ModelFaults(tuple(_fault(each, value) for each in told[:FAULTS_MAX]))


def is_model(cls: object) -> bool:
    """Whether a class is a model of Pydantic 2."""
    found = base()
    return isinstance(cls, type) and found in cls.__mro__ and hasattr(found, "model_validate_json")


def base() -> type | None:
    """Pydantic's `BaseModel`; None if nobody has imported it.

    Its own module is asked, as `pydantic.BaseModel` imports it.
    """
    found = getattr(sys.modules.get("pydantic.main"), "BaseModel", None)
    return found if isinstance(found, type) else None


def is_root_model(cls: Any) -> bool:
    """Whether the model's JSON is not an object with its fields, but the value of its only one."""
    return bool(getattr(cls, "__pydantic_root_model__", False))


def model_fields(cls: Any) -> dict[str, object]:
    """The annotations of a model's fields, by their names in Python."""
    return {name: each.annotation for name, each in cls.model_fields.items()}


def members_in_json(cls: Any) -> Iterator[tuple[str, str, object, bool]]:
    """Each field's name in JSON, its name in Python, its annotation, and whether it is required."""
    for name, each in cls.model_fields.items():
        choices = getattr(each.validation_alias, "choices", [each.validation_alias])
        in_json = next((alias for alias in choices if isinstance(alias, str)), name)
        yield in_json, name, each.annotation, each.is_required()


def is_field(value: object) -> TypeGuard[Any]:
    """Whether it is what `Field(...)` returns."""
    found = getattr(sys.modules.get("pydantic.fields"), "FieldInfo", None)
    return isinstance(found, type) and isinstance(value, found)


def values_in(model: Any) -> dict[str, object]:
    """All that an instance holds, by name: also fields that are never written, and extra ones."""
    extra = getattr(model, "__pydantic_extra__", None)  # missing if `__init__` was not called
    return {**vars(model), **(extra or {})}


def allows_others(cls: Any) -> bool:
    """Whether instances may have attributes that the model does not declare."""
    own_getattr = "__getattr__" in vars(cls) and not cls.__module__.startswith("pydantic.")
    return own_getattr or cls.model_config.get("extra") == "allow"


def is_written_alike(cls: Any) -> bool:
    """Whether `model_dump` writes a model in the form in which it is read."""
    try:
        read = cls.model_json_schema()
    except Exception:  # noqa: BLE001 - a field without a schema, and a user's hooks
        return False
    return bool(_without_required(read) == _without_required(written_schema(cls)))


def written_schema(cls: Any) -> Json:
    """The schema of a model as `model_dump` writes it, with its `$defs`; `{}` if it has none."""
    if any(map(_is_untold, _models_in(cls, set()))):
        return {}
    try:
        schema: Json = cls.model_json_schema(by_alias=by_alias(cls), mode="serialization")
    except Exception:  # noqa: BLE001 - as above
        return {}
    return schema


def writes_all(cls: Any) -> bool:
    """Whether a model has nothing that leaves a field out when it is written.

    A `model_dump` of its own may, with `exclude_none` for example, also in what the model contains.
    """
    excluding = (getattr(each, "exclude_if", None) for each in cls.model_fields.values())
    return cls.model_dump is getattr(base(), "model_dump", None) and not any(excluding)


def _models_in(kind: Any, seen: set[object]) -> Iterator[Any]:
    """The models in an annotation, and in their fields."""
    if is_model(kind) and kind not in seen:
        seen.add(kind)
        yield kind
        for each in model_fields(kind).values():
            yield from _models_in(each, seen)
    for each in get_args(kind):
        yield from _models_in(each, seen)


def _is_untold(cls: Any) -> bool:
    """Whether a serializer of the model does not say what it writes: Pydantic's schema is wrong."""
    own = cls.__pydantic_decorators__
    found = (*own.field_serializers.values(), *own.model_serializers.values())
    return any(
        type(each.info.return_type).__name__ == "PydanticUndefinedType"
        and "return" not in getattr(each.func, "__annotations__", {})
        for each in found
    )


def _components_of(cls: Any) -> tuple[str, dict[str, Json]]:
    """The name of the model's schema among the components, and all components that it needs."""
    try:
        schema = cls.model_json_schema(ref_template=_TEMPLATE)
    except Exception as error:
        raise TypeError(f"the Pydantic model {cls.__name__}: {_first_line(error)}") from error
    components = schema.pop("$defs", {})
    whole = schema.get("allOf", [schema])[0]  # before Pydantic 2.9, a `$ref` is in an `allOf`
    if "$ref" in whole:  # the model contains itself
        return whole["$ref"].removeprefix(REFERENCE), components
    name = re.sub(r"[^a-zA-Z0-9.\-_]", "_", cls.__name__)  # as Pydantic names components
    while name in components:  # another class of this name is in a field
        name += "_"
    return name, components | {name: schema}


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def _added(found: Mapping[str, Json], components: dict[str, Json]) -> dict[str, str]:
    """Add what is found to the components; return the new names, as `_free_names` does."""
    names = _free_names(found, components)
    for name, each in found.items():
        components[names[name]] = _renamed(each, names)
    return names


def _free_names(found: Mapping[str, Json], taken: Mapping[str, Json]) -> dict[str, str]:
    """The new name of each component: its own, with a number if another schema has this name.

    Two equal schemas are the same only if what they refer to is the same, too.
    """
    names, numbers = {name: name for name in found}, dict.fromkeys(found, 1)

    def is_free(name: str) -> bool:
        renamed, new = _renamed(found[name], names), names[name]
        return [*names.values()].count(new) == 1 and taken.get(new, renamed) == renamed

    while wrong := next((name for name in found if not is_free(name)), None):
        numbers[wrong] += 1
        names[wrong] = f"{wrong}_{numbers[wrong]}"
    return names


def _renamed(schema: Any, names: Mapping[str, str]) -> Any:
    """The schema with the components' new names, in each `$ref` and in a discriminator's mapping.

    A text that only looks like a reference, as in a default, is changed only if its component is.
    """
    if isinstance(schema, list):
        return [_renamed(each, names) for each in schema]
    if isinstance(schema, dict):
        return {key: _renamed(each, names) for key, each in schema.items()}
    if isinstance(schema, str) and schema.startswith(REFERENCE):
        name = schema.removeprefix(REFERENCE)
        return REFERENCE + names.get(name, name)
    return schema


def _without_required(schema: Any) -> Any:
    """The schema without `required`: a field with a default is always written."""
    if isinstance(schema, list):
        return [_without_required(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    lists = isinstance(schema.get("required"), list)  # not a field of this name
    return {k: _without_required(v) for k, v in schema.items() if not (lists and k == "required")}


def _fault(error: Mapping[str, Any], value: object) -> tuple[str, str]:
    what: str = error["msg"][:_MESSAGE_MAX]
    for prefix in _PREFIXES:
        what = what.removeprefix(prefix) or what.rstrip(", ")  # of `assert x` alone
    what = what[:1].lower() + what[1:] if error["msg"].startswith(what) else what
    if error["type"] == "json_invalid":  # a text of ours is valid otherwise
        return "is nested too deeply for Pydantic", ""
    if error["type"] != "missing":
        return what, "".join(_path(error["loc"], value))
    *outer, last = error["loc"]
    path = "".join(_path(outer, value))
    if _WORD.fullmatch(str(last)):
        return "is missing", f"{path}.{last}"
    name = last if isinstance(last, str) else ".".join(map(str, error["loc"][-2:]))
    return f"{name!r:.{_MESSAGE_MAX}} is missing", path  # an alias such as "@type", or a path


def _path(loc: Iterable[str | int], value: Any) -> Iterator[str]:
    """The places in a value, in msgspec's notation, without the members of unions between them."""
    for each in loc:
        if isinstance(value, dict) and each in value:
            yield f".{each}" if _WORD.fullmatch(str(each)) else "[...]"
            value = value[each]
        elif isinstance(value, list) and isinstance(each, int) and each < len(value):
            yield f"[{each}]"
            value = value[each]
