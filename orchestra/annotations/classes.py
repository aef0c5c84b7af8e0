"""Relations between classes: whether an object can be of both, and what is certain about one.

Two unrelated classes are assumed to have no common instance. A class could inherit from both, but
type checkers report an error, too, and it is the mistake worth catching. The exceptions are
classes whose instances are defined by their methods: a `Protocol`, or an ABC such as `Iterable`.
"""

from __future__ import annotations

import inspect
from abc import ABC
from collections import abc
from types import NoneType
from typing import Generic, Protocol, is_typeddict

from orchestra.annotations import pydantic_models
from orchestra.annotations.deferred import written
from orchestra.annotations.pydantic_models import is_model
from orchestra.annotations.shapes import MISSING


def inherits(cls: type, base: type) -> bool:
    """Whether every `cls` is a `base`: by inheritance, registration or numeric promotion.

    The members of a Protocol do not count: equal names do not mean that the members fit.
    """
    if any(each in cls.__mro__ for each in (base, *_PROMOTED.get(base, ()))):
        return True
    if is_protocol(base) or (base is abc.Hashable and inspect.isabstract(cls)):
        return False  # a Sequence looks hashable, but a list is not hashable
    try:
        return issubclass(cls, base)
    except TypeError:  # the metaclass raises
        return False


def may_meet(one: type, other: type) -> bool:
    """Whether some object may be an instance of both classes."""
    if inherits(one, other) or inherits(other, one):
        return True
    if is_protocol(one) or is_protocol(other):
        return not (_lacks(one, other) or _lacks(other, one))
    if _is_structural(one):
        return is_loose(other)
    return _is_structural(other) and is_loose(one)


def is_instance(value: object, cls: type) -> bool:
    """`isinstance`, with numeric promotion, and for a Protocol by the names of its members.

    Raises:
        Exception: whatever the class's own `__instancecheck__` raises.
    """
    if is_protocol(cls) and cls not in type(value).__mro__:
        return all(_has(value, name) for name in _members(cls))
    return isinstance(value, (cls, *_PROMOTED.get(cls, ())))


def is_protocol(cls: type) -> bool:
    """Whether the class itself is a `Protocol`, not only an implementation of one."""
    return bool(vars(cls).get("_is_protocol"))


def is_closed(cls: type) -> bool:
    """Whether instances certainly have only the attributes that the class declares."""
    return all(base in _PLAIN or _is_record(base) for base in cls.__mro__)


def writes_its_repr(cls: type) -> bool:
    """Whether instances are certainly formatted by `repr`: no custom `__str__` or `__format__`."""
    if cls in (bytes, bytearray) or is_typeddict(cls):
        return True
    usual = pydantic_models.base() if is_model(cls) else object
    inherited = all(
        getattr(cls, each) is getattr(usual, each) for each in ("__str__", "__format__")
    )
    return inherited and cls is not object and is_closed(cls)


def is_loose(cls: type) -> bool:
    """Whether instances may have special methods that the class does not declare."""
    return inspect.isabstract(cls) or is_protocol(cls) or cls in (object, type)


def has_member(cls: type, name: str) -> bool:
    """Whether the class declares an attribute of this name, by a value or an annotation."""
    return _has(cls, name) or any(name in written(b) for b in cls.__mro__)


def _lacks(cls: type, protocol: type) -> bool:
    """Whether `cls` certainly lacks a member of the protocol."""
    if not (is_protocol(protocol) and is_closed(cls)):
        return False
    return not all(has_member(cls, name) for name in _members(protocol))


def _members(protocol: type) -> frozenset[str]:
    """The members of a Protocol, including those of its bases."""
    bases = [base for base in protocol.__mro__ if is_protocol(base) and base is not Protocol]
    names = {name for base in bases for name in (*vars(base), *written(base))}
    return frozenset(names - _BOOKKEEPING)


def _has(thing: object, name: str) -> bool:
    """Whether an object has the attribute; properties are not called."""
    if hasattr(type(thing), "__getattr__"):
        cls = thing if isinstance(thing, type) else type(thing)
        if not (is_model(cls) and is_closed(cls)):  # a closed model's finds only private ones
            return True
    found = inspect.getattr_static(thing, name, MISSING)
    removed = found is None and name.startswith("__")  # as by `__hash__ = None`
    return found is not MISSING and not removed


def _is_structural(cls: type) -> bool:
    """Whether the class is an ABC that accepts classes by their methods, such as `Iterable`."""
    return "__subclasshook__" in vars(cls) and cls is not object


def _is_record(cls: type) -> bool:
    """Whether the class declares all its attributes, and none can be added."""
    own = vars(cls)
    if is_model(cls):
        return not pydantic_models.allows_others(cls)
    if "__getattr__" in own or "__getattribute__" in own:
        return False
    props = own.get("__attrs_props__")
    sealed = getattr(props, "is_frozen", False) or getattr(props, "is_slotted", False)
    return sealed or "__dataclass_fields__" in own or (tuple in cls.__bases__ and "_fields" in own)


_PROMOTED: dict[type, tuple[type, ...]] = {float: (int,), complex: (int, float)}

# Most of these can have subclasses with more attributes; a value annotated `str` is a plain str.
_PLAIN = frozenset(
    {object, Generic, Protocol, ABC, NoneType, int, float, complex, bool, str, bytes, bytearray}
    | {list, tuple, dict, set, frozenset, range, slice, memoryview}
)

_BOOKKEEPING = frozenset(
    """
    __abstractmethods__ __annotate__ __annotate_func__ __annotations__ __annotations_cache__
    __callable_proto_members_only__ __class_getitem__ __dict__ __doc__ __firstlineno__ __hash__
    __init__ __match_args__ __module__ __new__ __non_callable_proto_members__ __orig_bases__
    __parameters__ __protocol_attrs__ __qualname__ __slots__ __static_attributes__
    __subclasshook__ __type_params__ __weakref__ _abc_impl _is_protocol _is_runtime_protocol
    """.split()  # noqa: SIM905 - a list of these would be thirty lines
)
