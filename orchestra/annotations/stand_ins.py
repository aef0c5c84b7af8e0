"""Stand-ins for those of our classes whose form in JSON is not the one that msgspec would use.

msgspec would read a `Document` as an object with three members. So `with_stand_ins` replaces it in
an annotation with `JsonDocument`, which `read` reads and `schema` describes. Inside a user's class,
it has msgspec's form: a name and base64.
"""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from functools import reduce
from typing import Any, ClassVar, Literal, NewType, cast, get_args, get_origin

from orchestra.annotations.complaints import refuse_unknown_class
from orchestra.annotations.shapes import is_alias, is_union, unwrapped
from orchestra.values import Json


class StandIn(ABC):
    """Replaces the class `stands_for` in an annotation.

    The class has to be registered as its virtual subclass, since msgspec checks `isinstance`.
    """

    stands_for: ClassVar[type]
    schema: ClassVar[Json]

    @staticmethod
    @abstractmethod
    def read(value: object) -> object:
        """The object for a value in JSON.

        Raises:
            TypeError, ValueError: the value has another form; msgspec adds its place.
        """


def with_stand_ins(
    kind: object, *stand_ins: type[StandIn], within: frozenset[object] = frozenset()
) -> Any:
    """The annotation with these stand-ins in place of their classes; the same object without any.

    `within` are the aliases that contain `kind`: one that contains itself is not opened again.
    """
    for each in stand_ins:
        if kind is each.stands_for:
            return each
    if get_origin(kind) is Literal:
        return kind
    named = get_origin(kind) or kind
    if (is_alias(kind) or isinstance(kind, NewType)) and named not in within:
        meant = kind.__supertype__ if isinstance(kind, NewType) else unwrapped(kind)
        opened = with_stand_ins(meant, *stand_ins, within=within | {named})
        return kind if opened is meant else opened
    given = get_args(kind)
    made = tuple(with_stand_ins(each, *stand_ins, within=within) for each in given)
    if all(new is old for new, old in zip(made, given, strict=True)):
        return kind
    return reduce(operator.or_, made) if is_union(kind) else cast("Any", get_origin(kind))[made]


def read(kind: type, value: object) -> object:
    """A `dec_hook` for msgspec that reads stand-ins. Raises NotImplementedError for others."""
    if StandIn not in kind.__mro__:
        refuse_unknown_class(kind)
    stand_in = cast("type[StandIn]", kind)
    return value if isinstance(value, stand_in.stands_for) else stand_in.read(value)


def schema(kind: type) -> Json:
    """A `schema_hook` for msgspec: a stand-in's schema. Raises NotImplementedError for others."""
    if StandIn not in kind.__mro__:
        refuse_unknown_class(kind)
    return cast("type[StandIn]", kind).schema
