"""Stand-ins: classes of ours whose values clients write in JSON in another form than msgspec's.

msgspec would read a `Document` as an object with three members. So `with_stand_ins` replaces it in
an annotation by `JsonDocument`, which `read` reads and `schema` describes. Inside a user's class it
has msgspec's form: a name and base64.
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
    """Stands in an annotation for a class, which is registered with it: msgspec checks that."""

    stands_for: ClassVar[type]
    schema: ClassVar[Json]

    @staticmethod
    @abstractmethod
    def read(value: object) -> object:
        """The object of a value in JSON.

        Raises:
            TypeError, ValueError: it is none; msgspec adds its place.
        """


def with_stand_ins(
    kind: object, *stand_ins: type[StandIn], within: frozenset[object] = frozenset()
) -> Any:
    """The annotation with these in place of the classes they stand for; unchanged without any.

    `within` are the aliases around it: one that contains itself is not opened again.
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
    """A `dec_hook` for msgspec: what a stand-in reads. Raises NotImplementedError for others."""
    if StandIn not in kind.__mro__:
        refuse_unknown_class(kind)
    stand_in = cast("type[StandIn]", kind)
    return value if isinstance(value, stand_in.stands_for) else stand_in.read(value)


def schema(kind: type) -> Json:
    """A `schema_hook` for msgspec: that of a stand-in. Raises NotImplementedError for others."""
    if StandIn not in kind.__mro__:
        refuse_unknown_class(kind)
    return cast("type[StandIn]", kind).schema
