"""What the compiler reads from annotations: their text, parts of values, chunks of streams.

`fits` decides whether one annotation fits another, and `acceptance` whether a value fits. Their
functions are exported here, too, so that callers import only one module. `member`, `item` and
`element` have three possible answers about a part of a value:

* an annotation: if the value has the part, the part is of this type;
* `Any`: there may be such a part;
* `MISSING`: there is certainly no such part.

For a union, only the members that have the part count: the value's type is checked during the run.
"""

from __future__ import annotations

import enum
import inspect
import json
import operator
import typing
from collections import abc
from functools import cached_property
from types import NoneType
from typing import Any, ForwardRef, Literal, NewType, SupportsIndex, TypeVar, get_origin

from orchestra.annotations import classes
from orchestra.annotations.acceptance import accepts
from orchestra.annotations.builtin_bases import generic
from orchestra.annotations.fits import Fit, compare
from orchestra.annotations.shapes import (
    MISSING,
    alternatives,
    arguments,
    callable_of,
    fields,
    is_alias,
    is_union,
    parts,
    plain,
    returned,
    tuple_items,
    union,
)
from orchestra.errors import DefinitionError
from orchestra.protocols import Stream

__all__ = [
    "MISSING",
    "Fit",
    "accepts",
    "chunk_of",
    "compare",
    "element",
    "hints",
    "item",
    "member",
    "spell",
    "writes_its_repr",
    "yielded",
]


def spell(annotation: object) -> str:
    """The annotation as source code, without modules: `list[Passage]`, `str | None`.

    The metadata of `Annotated` is left out. A missing annotation is written as `Any`.
    """
    annotation = _without_notes(annotation)
    origin, given = parts(annotation)
    if is_union(annotation):
        members = sorted(_members(given), key=lambda each: each is NoneType)
        return " | ".join(dict.fromkeys(spell(each) for each in members))  # with None last
    if origin is Literal:
        return f"Literal[{', '.join(_spell_value(each) for each in given)}]"
    if isinstance(annotation, list):  # the parameters of a Callable
        return f"[{', '.join(spell(each) for each in annotation)}]"
    if get_origin(annotation) is None:
        return _spell_name(annotation)
    star = "*" if getattr(annotation, "__unpacked__", False) else ""
    return f"{star}{_spell_name(origin)}[{', '.join(spell(each) for each in given) or '()'}]"


def member(annotation: object, name: str) -> object:
    """The annotation of the attribute `name` of values of this type.

    For a property, it is the type that the property returns; for a method, a Callable that returns
    the method's type. MISSING if the class declares all its attributes (attrs, dataclass,
    NamedTuple, `str`, ...), and this is not among them.
    """
    return _part(annotation, lambda each: _member(each, name))


def item(annotation: object, key: object) -> object:
    """The annotation of `value[key]`; MISSING if no value can have this key or index.

    A slice of a list has the list's type; a slice of a tuple of fixed length is such a tuple.
    """
    return _part(annotation, lambda each: _item(each, key))


def element(annotation: object) -> object:
    """The annotation of the elements when iterating over a value; for a mapping, of its keys."""
    return _part(annotation, _element)


def writes_its_repr(annotation: object) -> bool:
    """Whether formatting a value of this type into a text certainly writes its `repr`.

    True for lists, mappings and records. False for numbers, enums, classes with a `__str__`,
    `None`, and annotations whose values may be of other types.
    """
    members = [parts(each)[0] for each in alternatives(plain(annotation))]
    classes_of = [each for each in members if each is not NoneType]
    return bool(classes_of) and all(
        isinstance(each, type) and classes.writes_its_repr(each) for each in classes_of
    )


def chunk_of(annotation: object) -> object | None:
    """C for `Stream[C]`, Any for a bare `Stream`; None for every other annotation.

    If C is an alias of str or bytes, the result is str or bytes, as such a stream is one text.
    """
    found = _first_argument(annotation, (Stream,))
    meant = plain(found)
    return meant if meant is str or meant is bytes else found


def yielded(annotation: object) -> object | None:
    """C for `AsyncIterator[C]`, `AsyncIterable[C]`, `AsyncGenerator[C, S]`; otherwise None."""
    return _first_argument(annotation, (abc.AsyncIterator, abc.AsyncIterable, abc.AsyncGenerator))


def hints(function: abc.Callable[..., object]) -> dict[str, object]:
    """The function's annotations by parameter, and `return`; names and strings are resolved.

    Raises:
        DefinitionError: an annotation cannot be evaluated. The message names the function.
    """
    try:
        return dict(typing.get_type_hints(function, include_extras=True))
    except NameError as error:
        raise DefinitionError(
            f"{_where(function)}: {_name(function)}() is annotated with {error.name!r}, which has "
            "no value at run time; import it at the top of the module and not under "
            "`if TYPE_CHECKING:`, or define it further up (a class of a function's own must move "
            "to the module)"
        ) from error
    except Exception as error:
        raise DefinitionError(
            f"{_where(function)}: an annotation of {_name(function)}() cannot be evaluated "
            f"({type(error).__name__}: {error}); write a type that Python can evaluate, such as "
            "`list[str] | None`"
        ) from error


# --- the parts of one type ---------------------------------------------------------------------


def _part(annotation: object, of: abc.Callable[[object], object]) -> object:
    """The part that `of` finds; for a union, of all members that have it."""
    annotation = plain(annotation)
    if isinstance(annotation, NewType):
        return _part(annotation.__supertype__, of)
    if isinstance(annotation, TypeVar) and annotation.__bound__ is not None:
        return _part(annotation.__bound__, of)
    members = alternatives(annotation)
    if len(members) > 1:
        held = [part for part in (_part(each, of) for each in members) if part is not MISSING]
        return union(held) if held else MISSING
    if annotation is Any or annotation is object:
        return Any
    origin, given = parts(annotation)
    found = of(type(given[0]) if origin is Literal else annotation)
    return NoneType if found is None else found


def _member(annotation: object, name: str) -> object:
    cls = parts(annotation)[0]
    if not isinstance(cls, type):
        return Any
    if typing.is_typeddict(cls):
        return _member(dict, name)  # its keys are items, not attributes
    known = fields(annotation)
    if name in known:
        return known[name]
    if not classes.has_member(cls, name):
        return MISSING if classes.is_closed(cls) else Any
    found = inspect.getattr_static(cls, name, None)
    if isinstance(found, property | cached_property):
        return returned(annotation, name)
    return callable_of(returned(annotation, name)) if inspect.isroutine(found) else Any


def _item(annotation: object, key: object) -> object:
    cls = parts(annotation)[0]
    items = tuple_items(annotation)
    if items is not None:
        return _tuple_item(items, key)
    if typing.is_typeddict(cls):
        return fields(annotation).get(key, MISSING) if isinstance(key, str) else MISSING
    pair = arguments(annotation, abc.Mapping)
    if pair is not None:
        given = pair or (Any, Any)
        return given[1] if accepts(given[0], key) else MISSING
    sequence = arguments(annotation, abc.Sequence)
    if sequence is None:
        return _by_getitem(annotation)
    held = sequence[0] if sequence else Any
    if isinstance(key, slice):
        return annotation if cls in _SLICED_ALIKE else generic(abc.Sequence, held)
    return held if isinstance(key, SupportsIndex) else MISSING


_SLICED_ALIKE = (str, bytes, bytearray, range, list, tuple, abc.Sequence, abc.MutableSequence)


def _tuple_item(items: tuple[object, ...], key: object) -> object:
    if isinstance(key, slice):
        return generic(tuple, *items[key])
    try:
        return items[operator.index(key)] if isinstance(key, SupportsIndex) else MISSING
    except IndexError:
        return MISSING


def _element(annotation: object) -> object:
    given = arguments(annotation, abc.Iterable)
    if given is not None:
        return given[0] if given else Any
    return Any if _by_getitem(annotation) is not MISSING else MISSING


def _by_getitem(annotation: object) -> object:
    """The result of `__getitem__`, which Python looks up on the class, not on the instance."""
    cls = parts(annotation)[0]
    if not isinstance(cls, type):
        return Any
    found = returned(annotation, "__getitem__")
    return Any if found is MISSING and classes.is_loose(cls) else found


def _first_argument(annotation: object, origins: tuple[object, ...]) -> object | None:
    origin, given = parts(plain(annotation))
    if not any(origin is each for each in origins):
        return None
    found = given[0] if given else Any
    return NoneType if found is None else found


# --- words -------------------------------------------------------------------------------------


def _without_notes(annotation: object) -> object:
    """The plain annotation; but an alias is kept, as its name is clearer than its value."""
    return annotation if is_alias(annotation) else plain(annotation)


def _members(given: abc.Iterable[object]) -> list[object]:
    """The members of a union; nested unions are flattened."""
    found: list[object] = []
    for each in map(_without_notes, given):
        found.extend(_members(parts(each)[1]) if is_union(each) else [each])
    return found


def _spell_name(annotation: object) -> str:
    if annotation is NoneType:
        return "None"
    if annotation is ...:
        return "..."
    if isinstance(annotation, str | ForwardRef):
        return getattr(annotation, "__forward_arg__", str(annotation))
    name = getattr(annotation, "__qualname__", None) or getattr(annotation, "__name__", None)
    return name.rpartition("<locals>.")[2] if isinstance(name, str) else repr(annotation)


def _spell_value(value: object) -> str:
    """The value of a Literal as source code; strings in double quotes, enum members by name."""
    if isinstance(value, enum.Enum):
        return f"{type(value).__name__}.{value.name}"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


def _name(function: object) -> str:
    return str(getattr(function, "__qualname__", None) or repr(function))


def _where(function: abc.Callable[..., object]) -> str:
    """`file:line`, as an editor opens it; the module's name if there is no source."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    if code is None:
        return str(getattr(function, "__module__", "?"))
    return f"{code.co_filename}:{code.co_firstlineno}"
