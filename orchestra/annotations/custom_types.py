"""Custom types for msgspec: for classes whose values it cannot make, as it calls no `__init__`.

msgspec sets the members of an attrs class directly. So it skips converters and everything else
that `__init__` does, uses wrong names for members with an alias, and has no value for a default
that reads other members. Defaults of a dataclass it leaves in the class, and when it writes the
instance as JSON, they are missing. It also cannot read a union of two classes. `for_msgspec`
replaces each of these, and every class that contains one, with a `CustomType`. msgspec then reads
the members as those of a TypedDict, and the class is called with them. A Pydantic model is read and
described by Pydantic, and `object` is read as `Any`. Any other annotation stays as it is.
"""

from __future__ import annotations

import operator
from collections import abc
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from enum import Enum
from functools import cached_property, lru_cache, reduce
from types import NoneType
from typing import (
    Annotated,
    Any,
    Literal,
    NotRequired,
    Required,
    TypeAlias,
    TypedDict,
    cast,
    get_args,
    get_origin,
    is_typeddict,
)

import msgspec

from orchestra.annotations.acceptance import Known, is_among, once
from orchestra.annotations.complaints import complaint_of, refuse_unknown_class
from orchestra.annotations.deferred import signature
from orchestra.annotations.facts import spell
from orchestra.annotations.places import with_place
from orchestra.annotations.pydantic_models import (
    PydanticCheck,
    PydanticModel,
    faults_in,
    is_checked,
    is_model,
)
from orchestra.annotations.records import Member, has_members, is_made, is_record, members_of
from orchestra.annotations.shapes import (
    ALIASES_MAX,
    alternatives,
    arguments,
    class_of,
    fields,
    is_alias,
    is_union,
    layers,
    parts,
    plain,
    unwrapped,
)
from orchestra.eventclass import frozen
from orchestra.values import Json

UNTOLD = (
    "a union of classes needs a member that tells the classes apart; give each class its own "
    '`kind: Literal["..."]`, or write one class with members that may be None'
)
_KINDS_MAX = 1_024
"""The size of the cache of converted annotations."""


class _EveryInstance(type):
    """The metaclass of custom types: every value counts as an instance."""

    def __instancecheck__(cls, instance: object) -> bool:
        return True


class CustomType(metaclass=_EveryInstance):
    """Replaces an annotation whose values `custom_dec_hook` makes by a `recipe`."""

    recipe: Recipe


@frozen(slots=False)
class Record:
    """A recipe for a class, which is called with its members."""

    kind: object

    @property
    def _class(self) -> type:
        return cast("type", class_of(self.kind))

    @cached_property
    def members(self) -> Mapping[str, Member]:
        """The arguments of the call, by their names in JSON.

        Raises:
            TypeError: the class's own `__init__` does not accept them, or requires others.
        """
        found, cls = members_of(self.kind), self._class
        if not is_typeddict(cls):
            try:
                signature(cls).bind(**found)
            except TypeError as error:
                problem = f"{spell(cls)}.__init__ cannot be called with its members"
                raise TypeError(f"{problem} ({', '.join(found)}): {error}") from error
        return found

    @cached_property
    def read_as(self) -> Any:
        """The TypedDict that msgspec reads the members as."""
        kinds = {
            name: (Required if each.required else NotRequired)[for_msgspec(each.kind)]
            for name, each in self.members.items()
        }
        name, doc = self._class.__name__, self._class.__doc__ or ""
        made = TypedDict(name, kinds)  # type: ignore[misc]
        generated = is_dataclass(self._class) and doc.startswith(f"{name}(")
        made.__doc__ = None if generated else doc
        return made

    @property
    def parts(self) -> tuple[Any, ...]:
        """The annotations from whose schemas `schema_from` builds the schema."""
        return (self.read_as,)

    def schema_from(self, schemas: Sequence[Json], components: dict[str, Json]) -> Json:
        """The schema, built from the schemas of the `parts`."""
        del components
        (schema,) = schemas
        return schema

    def make(self, value: object, *, strict: bool) -> object:
        """Make an instance of the class from a value in JSON.

        Raises:
            ValueError: the value does not fit; the message says where, in msgspec's notation.
        """
        found = _converted(value, self.read_as, strict=strict)
        if is_typeddict(self._class):
            return found
        try:
            return self._class(**cast("dict[str, object]", found))
        except Exception as error:
            if (faults := faults_in(error, value)) is not None:  # a dataclass of Pydantic
                raise faults from error
            what, path = complaint_of(error)
            raise ValueError(with_place(what, path)) from error


@frozen(slots=False)
class TaggedUnion:
    """A recipe for a union of classes, each with its own `Literal`s for one member, the tag."""

    records: tuple[object, ...]
    others: tuple[object, ...]
    """The members of the union that are not objects in JSON, such as None or str."""

    @cached_property
    def tag(self) -> str:
        """The name of the tag, which distinguishes the classes; empty if there is none."""
        return tag_of(self.records)

    @cached_property
    def tags(self) -> tuple[tuple[object, ...], ...]:
        """The values of the tag, for each of the records."""
        return tuple(_literals_of(each).get(self.tag, ()) for each in self.records)

    @property
    def parts(self) -> tuple[Any, ...]:
        """The annotations from whose schemas `schema_from` builds the schema."""
        return (*map(for_msgspec, self.records), *self.others)

    def schema_from(self, schemas: Sequence[Json], components: dict[str, Json]) -> Json:
        """The schema, built from the schemas of the `parts`."""
        del components
        return {"anyOf": list(schemas)}

    def record_of(self, value: object) -> object | None:
        """The class of an object in JSON, by its tag; None if no class has this tag."""
        if not isinstance(value, Mapping):
            return None
        if len(self.records) == 1:
            return self.records[0]
        tag, listed = value.get(self.tag), zip(self.records, self.tags, strict=True)
        return next((each for each, tags in listed if is_among(tag, tags)), None)

    def make(self, value: object, *, strict: bool) -> object:
        """Make a member of the union from a value in JSON.

        Raises:
            ValueError: the value does not fit; the message says where, in msgspec's notation.
        """
        kind = self.record_of(value)
        if kind is not None:
            return _converted(value, for_msgspec(kind), strict=strict)
        if self.others and not isinstance(value, Mapping):
            return _converted(value, reduce(operator.or_, self.others), strict=strict)
        raise ValueError(self._wrong(value))

    def _wrong(self, value: object) -> str:
        """The message about a value that belongs to none of the classes."""
        if not isinstance(value, Mapping):
            return f"Expected `object`, got `{type(value).__name__}`"
        if self.tag not in value:
            return f"Object missing required field `{self.tag}`"
        tags = [repr(tag) for listed in self.tags for tag in listed]
        return with_place(f"{value[self.tag]!r:.100} is none of {', '.join(tags)}", f".{self.tag}")


Recipe: TypeAlias = Record | TaggedUnion | PydanticModel | PydanticCheck


def for_msgspec(kind: object) -> Any:
    """The annotation as msgspec can read it with `custom_dec_hook`; mostly the same object.

    The result is cached.

    Raises:
        TypeError: it contains a recursive alias, or a union whose classes cannot be told apart.
    """
    if kind is object:
        return Any
    try:
        return _cached(kind)
    except TypeError:  # not hashable: Annotated with a dict
        return _with_custom_types(kind)


def forget_annotations() -> None:
    """Clear the cache, so that unused classes and their modules can be garbage-collected."""
    _cached.cache_clear()


def custom_dec_hook(
    *, strict: bool = True, otherwise: Callable[[type, object], object] = refuse_unknown_class
) -> Callable[[type, object], object]:
    """A `dec_hook` for msgspec that makes the values of `CustomType`s.

    Other classes are left to the hook `otherwise`.
    """

    def make(kind: type, value: object) -> object:
        if issubclass(kind, CustomType):
            return kind.recipe.make(value, strict=strict)
        if is_model(kind):  # in a Struct of msgspec or a NamedTuple
            return PydanticModel(kind).make(value, strict=strict)
        return otherwise(kind, value)

    return make


def record_at(kind: object, value: object, known: Known) -> object | None:
    """The class that an object in JSON would be read as; None if it is unknown."""
    found = once(known, _records_in, kind)
    return found.record_of(value) if isinstance(found, TaggedUnion) else found


def _records_in(kind: object) -> object | None:
    """The classes of an annotation that its objects in JSON may be read as, or the only one."""
    found = for_msgspec(kind)
    recipe = found.recipe if isinstance(found, type) and issubclass(found, CustomType) else None
    if isinstance(recipe, TaggedUnion):
        return recipe
    return next((each for each in alternatives(plain(kind)) if has_members(each)), None)


def tag_of(records: tuple[object, ...]) -> str:
    """The member whose `Literal`s distinguish the classes; empty if there is none."""
    listed = [_literals_of(each) for each in records]
    for name in listed[0] if listed else ():
        values = [tag for tags in listed for tag in tags.get(name, ())]
        if all(name in tags for tags in listed) and len(set(values)) == len(values):
            return name
    return ""


def _with_custom_types(kind: object) -> Any:
    reached = tuple(_kinds_in(kind, set()))  # raises if endless, so the recursion below ends, too
    if not any(map(_needs_help, reached)):
        return kind
    origin, given = get_origin(kind), get_args(kind)
    if is_checked(kind):
        return _checked(kind, given[0])
    if origin is Annotated:
        return Annotated[(for_msgspec(given[0]), *given[1:])]
    bare = plain(kind)
    if origin in (Required, NotRequired) or is_alias(kind) or hasattr(kind, "__supertype__"):
        return for_msgspec(getattr(kind, "__supertype__", unwrapped(kind)))
    if is_union(bare):
        return _union(alternatives(bare))
    if is_record(bare):
        return _custom_type(PydanticModel(class_of(bare)) if is_model(bare) else Record(kind))
    return cast("Any", origin)[tuple(each if each is ... else for_msgspec(each) for each in given)]


_cached = lru_cache(_KINDS_MAX)(_with_custom_types)


def _checked(kind: object, bare: object) -> Any:
    has_model = any(is_model(class_of(each)) for each in _kinds_in(bare, set()))
    return _custom_type(PydanticCheck(kind, for_msgspec(bare), not has_model))


def _union(members: tuple[object, ...]) -> Any:
    if any(is_checked(layer) for each in members for layer in layers(each)):
        bare = reduce(operator.or_, map(plain, members))
        return _checked(reduce(operator.or_, members), bare)
    records = tuple(each for each in members if is_record(each))
    others = tuple(each for each in members if not is_record(each))
    if (len(records) == 1 and others in ((), (NoneType,))) or not records:
        return reduce(operator.or_, map(for_msgspec, members))
    if not all(map(has_members, records)):
        raise TypeError("a RootModel cannot be in a union, except with None; write a BaseModel")
    if any(map(_is_object, others)) or (len(records) > 1 and not tag_of(records)):
        raise TypeError(UNTOLD)
    return _custom_type(TaggedUnion(records, tuple(map(for_msgspec, others))))


def _is_object(kind: object) -> bool:
    """Whether values are objects in JSON, which could not be distinguished from a record."""
    return has_members(kind) or arguments(kind, abc.Mapping) is not None


def _custom_type(recipe: Recipe) -> type[CustomType]:
    made = _EveryInstance(CustomType.__name__, (CustomType,), {"recipe": recipe})
    return cast("type[CustomType]", made)


def _needs_help(kind: object) -> bool:
    if is_checked(kind) or kind is object:
        return True
    if is_union(kind):
        records = tuple(each for each in alternatives(kind) if is_record(each))
        return len(records) > 1 and bool(tag_of(records))
    return is_made(kind)


def _kinds_in(
    kind: object, seen: set[object], aliases: tuple[object, ...] = ()
) -> Iterator[object]:
    """Every class and union in an annotation, and `object`; each class once.

    `aliases` are the aliases that contain `kind`, up to the nearest class.

    Raises:
        TypeError: an alias contains itself, which msgspec cannot read. A class may contain itself.
    """
    if is_alias(kind):
        if kind in aliases or len(aliases) == ALIASES_MAX:
            raise TypeError(
                f"`{spell(kind)}` is a recursive alias, whose values cannot be read from JSON; "
                "make it a class that has members of the class itself, or use `object`"
            )
        aliases = (*aliases, kind)
    yield from filter(is_checked, layers(kind))
    bare = plain(kind)
    bare = getattr(bare, "__supertype__", bare)
    if is_union(bare):
        yield bare
    for member in alternatives(bare):
        yield from filter(is_checked, layers(member))
        origin, given = parts(plain(member))
        if origin is object:  # for msgspec, it is a class without a form in JSON
            yield origin
        for inner in () if origin is Literal else given:
            yield from _kinds_in(inner, seen, aliases)
        if isinstance(origin, type) and is_record(origin) and origin not in seen:
            seen.add(origin)
            yield member
            if is_model(origin):
                continue  # Pydantic reads what it contains
            for hint in fields(member).values():
                yield from _kinds_in(hint, seen)


def _literals_of(record: object) -> Mapping[str, tuple[object, ...]]:
    """The members of a record that are `Literal`s, with their values in JSON."""
    kinds = {name: plain(each.kind) for name, each in members_of(record).items()}
    return {
        name: tuple(each.value if isinstance(each, Enum) else each for each in get_args(kind))
        for name, kind in kinds.items()
        if get_origin(kind) is Literal
    }


def _converted(value: object, kind: Any, *, strict: bool) -> object:
    """Convert as msgspec does, but raise ValueError: a nested `ValidationError` loses its place."""
    try:
        return msgspec.convert(
            value, kind, strict=strict, str_keys=True, dec_hook=custom_dec_hook(strict=strict)
        )
    except msgspec.ValidationError as error:
        raise ValueError(with_place(*complaint_of(error))) from error
