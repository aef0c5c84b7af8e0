"""Whether a value with one annotation may be passed to a parameter with another annotation.

`compare` decides before a run, with three possible answers. If the answer is MAY, `acceptance`
checks the value during the run.

Type arguments are compared covariantly: `list[bool]` fits `list[int]`. A type checker must forbid
this, because the reader could append an `int`. A value on a wire is never mutated, so it is safe.

The law: `target` accepts every value of `source` if `compare` says MUST, and no value if it says
CANNOT. What a type checker calls an error is CANNOT, even if some values would fit:

* an empty container (`[]` is both a `list[int]` and a `list[str]`);
* two `NewType`s of the same class;
* an argument that leaves no trace in the value, such as an iterator's element;
* an instance of a class that inherits from two unrelated ones.
"""

from __future__ import annotations

import typing
from collections import abc
from enum import Enum, Flag
from typing import Any, Literal, NewType, TypeAlias, TypeVar, get_origin

from orchestra.annotations import classes
from orchestra.annotations.acceptance import accepts, bound, is_among, is_anything, is_nothing
from orchestra.annotations.shapes import (
    alternatives,
    arguments,
    fields,
    literal,
    parts,
    plain,
    required_keys,
    same,
    tuple_items,
)

# Deeper than any annotation that people write; the comparison of an endlessly growing type ends.
_DEPTH_MAX = 40

_CALLABLE: object = abc.Callable

_Pairs: TypeAlias = tuple[tuple[object, object], ...]


class Fit(Enum):
    """Whether a value with one annotation may be passed to a parameter with another."""

    MUST = "must"
    """Every value fits."""
    MAY = "may"
    """It depends on the value, which is checked during the run."""
    CANNOT = "cannot"
    """No value fits."""


def compare(source: object, target: object) -> Fit:
    """Whether a value annotated `source` fits a parameter annotated `target`.

    A missing annotation is Any: it accepts everything, and its value may be anything. For an
    annotation that is not understood (a forward reference, a `ParamSpec`), the answer is MAY.
    Never raises.
    """
    return _compare(source, target, ())


def _compare(source: object, target: object, pending: _Pairs) -> Fit:
    """Compare two annotations; `pending` has the comparisons that this one is a part of.

    A recursive type leads to one of these again. Nothing on the way contradicted it, so the answer
    is MUST.
    """
    source, target = plain(source), plain(target)
    if same(source, target):
        return Fit.MUST
    if any(same(source, one) and same(target, other) for one, other in pending):
        return Fit.MUST
    if len(pending) < _DEPTH_MAX:
        for rule in _RULES:
            fit = rule(source, target, (*pending, (source, target)))
            if fit is not None:
                return fit
    return Fit.MAY


# --- the rules of `compare`, in order; a rule that returns None leaves the answer to the next --


def _tops_and_bottoms(source: object, target: object, _: _Pairs) -> Fit | None:
    if is_anything(target) or is_nothing(source):
        return Fit.MUST
    if is_anything(source) and len(alternatives(target)) == 1:
        return Fit.MAY
    return Fit.CANNOT if is_nothing(target) else None


def _source_alternatives(source: object, target: object, pending: _Pairs) -> Fit | None:
    """A value of a union is of one member's type, and it is unknown of which."""
    members = alternatives(source)
    if any(parts(each)[0] is Literal for each in alternatives(target)):
        members = enumerated(source) or members
    if len(members) == 1:
        return None
    fits = {_compare(member, target, pending) for member in members}
    return fits.pop() if len(fits) == 1 else Fit.MAY


def _target_alternatives(source: object, target: object, pending: _Pairs) -> Fit | None:
    members = alternatives(target)
    if len(members) == 1:
        return None
    return max((_compare(source, member, pending) for member in members), key=_strength)


def _type_variables(source: object, target: object, pending: _Pairs) -> Fit | None:
    """A type variable without a bound accepts everything, and its value may be anything."""
    if isinstance(source, TypeVar):
        return _compare(bound(source), target, pending)
    return _compare(source, bound(target), pending) if isinstance(target, TypeVar) else None


def _new_types(source: object, target: object, pending: _Pairs) -> Fit | None:
    """For a type checker, a `NewType` is a subclass; but values do not show it."""
    if isinstance(source, NewType) and isinstance(target, NewType):
        if target in _lineage(source):
            return Fit.MUST
        return Fit.MAY if source in _lineage(target) else Fit.CANNOT
    if isinstance(source, NewType):
        return _compare(source.__supertype__, target, pending)
    if isinstance(target, NewType):
        return _weakest(Fit.MAY, _compare(source, target.__supertype__, pending))
    return None


def _literals(source: object, target: object, pending: _Pairs) -> Fit | None:
    """The values of a Literal are known, so they are checked now."""
    (source_origin, of_source), (target_origin, of_target) = parts(source), parts(target)
    if source_origin is Literal and target_origin is Literal:
        return Fit.MUST if is_among(of_source[0], of_target) else Fit.CANNOT
    if source_origin is Literal:
        fit = _compare(type(of_source[0]), target, pending)
        return fit if accepts(target, of_source[0]) else Fit.CANNOT
    if target_origin is Literal:
        return Fit.MAY if accepts(source, of_target[0]) else Fit.CANNOT
    return None


def _typed_dicts(source: object, target: object, pending: _Pairs) -> Fit | None:
    """A TypedDict is a dict; a dict may be a TypedDict if its keys and values may fit."""
    of_source, of_target = parts(source)[0], parts(target)[0]
    if not typing.is_typeddict(of_target):
        known = typing.is_typeddict(of_source)
        return _compare(dict[str, object], target, pending) if known else None
    if typing.is_typeddict(of_source):
        return _typed_dict_keys(source, target, pending)
    held = arguments(source, abc.Mapping)
    hints = fields(target)
    values = (
        [_compare(held[1], hints[k], pending) for k in required_keys(of_target)] if held else []
    )
    keys = [_compare(held[0], str, pending)] if held else []
    return _weakest(Fit.MAY, _compare(parts(source)[0], dict, pending), *keys, *values)


def _classes(source: object, target: object, pending: _Pairs) -> Fit | None:
    of_source, of_target = parts(source)[0], parts(target)[0]
    if not (isinstance(of_source, type) and isinstance(of_target, type)):
        return None
    if not classes.may_meet(of_source, of_target):
        return Fit.CANNOT
    nominal = Fit.MUST if classes.inherits(of_source, of_target) else Fit.MAY
    if get_origin(target) is None:
        return nominal
    if of_target is _CALLABLE:
        return nominal if parts(target)[1] == (..., Any) else Fit.MAY
    if of_target is tuple:
        return _weakest(nominal, _tuple_items(source, target, pending))
    return _weakest(nominal, _arguments(source, target, pending))


_RULES = (
    _tops_and_bottoms,
    _source_alternatives,
    _target_alternatives,
    _type_variables,
    _new_types,
    _literals,
    _typed_dicts,
    _classes,
)


# --- what the rules are made of ----------------------------------------------------------------


def _arguments(source: object, target: object, pending: _Pairs) -> Fit:
    """Compare the type arguments of both, for their first common base."""
    for base in (parts(target)[0], parts(source)[0], abc.Iterable):
        of_source, of_target = arguments(source, base), arguments(target, base)
        if of_source is not None and of_target is not None:
            of_source = (*of_source, *(Any,) * (len(of_target) - len(of_source)))
            variables = getattr(base, "__parameters__", ()) or (None,) * len(of_target)
            return _weakest(
                *(
                    _compare(right, left, pending)
                    if getattr(variable, "__contravariant__", False)
                    else _compare(left, right, pending)
                    for left, right, variable in zip(of_source, of_target, variables, strict=False)
                )
            )
    return Fit.MAY


def _tuple_items(source: object, target: object, pending: _Pairs) -> Fit:
    of_source, of_target = tuple_items(source), tuple_items(target)
    held = (arguments(source, abc.Iterable) or (Any,))[0]
    if of_target is None:
        wanted, *rest = parts(target)[1]
        if rest != [...]:
            return Fit.MAY  # `tuple[int, *tuple[str, ...]]`
        items = (held,) if of_source is None else of_source
        return _weakest(*(_compare(each, wanted, pending) for each in items))
    if of_source is None:
        return _weakest(Fit.MAY, *(_compare(held, item, pending) for item in of_target))
    if len(of_source) != len(of_target):
        return Fit.CANNOT
    return _weakest(*(_compare(*pair, pending) for pair in zip(of_source, of_target, strict=True)))


def _typed_dict_keys(source: object, target: object, pending: _Pairs) -> Fit:
    """Compare the keys of two TypedDicts.

    A key that the source does not declare may still exist, so it is MAY.
    """
    of_source, of_target = fields(source), fields(target)
    needed, promised = required_keys(parts(target)[0]), required_keys(parts(source)[0])
    fit = Fit.MUST
    for key, hint in of_target.items():
        found = _compare(of_source[key], hint, pending) if key in of_source else Fit.MAY
        if found is Fit.CANNOT and not (key in needed or key in promised):
            found = Fit.MAY  # the value fits if the key is absent
        missing_allowed = key in promised or key not in needed
        fit = _weakest(fit, found if missing_allowed else _weakest(found, Fit.MAY))
    return fit


def enumerated(annotation: object) -> tuple[object, ...]:
    """All values of a bool or an enum, each as a Literal; empty for other annotations."""
    if annotation is bool:
        return literal(True), literal(False)
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return () if issubclass(annotation, Flag) else tuple(map(literal, annotation))
    return ()


def _lineage(new_type: object) -> list[object]:
    """The NewType, its base NewType, and so on."""
    found: list[object] = []
    while isinstance(new_type, NewType):
        found.append(new_type)
        new_type = new_type.__supertype__
    return found


def _strength(fit: Fit) -> int:
    return (Fit.CANNOT, Fit.MAY, Fit.MUST).index(fit)


def _weakest(*fits: Fit) -> Fit:
    return min(fits, key=_strength, default=Fit.MUST)
