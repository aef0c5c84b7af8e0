"""Validators of scripts and worlds, which are checked when they are made, before any run.

If a wrong script were found only when it is played, that would be a failure of the step, which a
fallback catches: a test of the fallback would pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any, TypeAlias, cast

import attrs

from orchestra.accounts import Caller
from orchestra.graph.rules.policy import Limits, is_number
from orchestra.graph.wrapping import refuse_others

Field: TypeAlias = "attrs.Attribute[Any]"


def _shown(instance: object, field: Field, value: object) -> str:
    return f"{type(instance).__name__}({field.name}={value!r:.80})"


def wait(instance: object, field: Field, value: object) -> None:
    """Refuse everything but a number of seconds, 0 or more."""
    shown = _shown(instance, field, value)
    if not is_number(value) or value < 0:
        raise ValueError(
            f"{shown}: it must be a number of seconds, 0 or more; write {field.name}=0.5"
        )
    if not isfinite(value):
        raise ValueError(f"{shown}: it would never end; for a step that never ends, write Hangs()")


def maybe_moment(instance: object, field: Field, value: object) -> None:
    """Refuse everything but None and a time in a run."""
    if value is not None and not (is_number(value) and value >= 0 and isfinite(value)):
        raise ValueError(
            f"{_shown(instance, field, value)}: it must be a time in seconds from the start "
            "of the run, 0 or more; leave it out for never"
        )


def maybe_share(instance: object, field: Field, value: object) -> None:
    """Refuse everything but None and a number from 0 to 1."""
    if value is not None and not (is_number(value) and 0 <= value <= 1):
        raise ValueError(f"{_shown(instance, field, value)}: it must be a number from 0 to 1")


def whole(instance: object, field: Field, value: object) -> None:
    """Refuse everything but an integer."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{_shown(instance, field, value)}: it must be an integer")


def count(call: str, value: object) -> None:
    """Refuse everything but an integer of 0 or more."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{call}({value!r:.80}, ...): it must be an integer, 0 or more")


def error(instance: object, field: Field, value: object) -> None:
    """Refuse everything but an error that a step can raise."""
    if isinstance(value, Exception):
        return
    if isinstance(value, type) and issubclass(value, Exception):
        name = value.__name__
        problem = f"it is a class, not an instance; write {field.name}={name}('why')"
    elif isinstance(value, BaseException):
        problem = "it is not an Exception, and would end more than the step; use an Exception"
    else:
        problem = f"it is not an exception; write {field.name}=ValueError({value!r:.80})"
    raise TypeError(f"{_shown(instance, field, value)}: {problem}")


def maybe_error(instance: object, field: Field, value: object) -> None:
    """Refuse everything but None and an error that a step can raise."""
    if value is not None:
        error(instance, field, value)


def timed(instance: object, field: Field, value: object) -> None:
    """Refuse everything but a sequence of pairs: a wait in seconds, and what comes after it."""
    shown = f"{type(instance).__name__}({value!r:.80})"
    if not isinstance(value, tuple | list):
        raise TypeError(
            f"{shown}: `{field.name}` must be pairs, each a wait in seconds and what comes then; "
            f"write {type(instance).__name__}(((0.5, {value!r:.80}),))"
        )
    for each in value:
        if not isinstance(each, tuple | list) or len(each) != 2:  # noqa: PLR2004 - a pair
            right = f"({value!r:.80},)" if _is_pair(value) else f"((0.0, {each!r:.80}), ...)"
            raise TypeError(
                f"{shown}: `{field.name}` must be pairs, each a wait in seconds and what comes "
                f"then, not {each!r:.80}; write {type(instance).__name__}({right})"
            )
        after_s = each[0]
        if not is_number(after_s) or not after_s >= 0 or not isfinite(after_s):
            raise ValueError(
                f"{shown}: {each!r:.80} must begin with a number of seconds, 0 or more"
            )


def _is_pair(value: Any) -> bool:
    return len(value) == 2 and is_number(value[0])  # noqa: PLR2004 - a pair


def by_name(instance: object, field: Field, value: object) -> None:
    """Refuse everything but a mapping with names as keys."""
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise TypeError(
            f"{_shown(instance, field, value)}: it must be a dict with names as keys; write "
            f"{field.name}={{'name': ...}}"
        )


def openers(instance: object, field: Field, value: object) -> None:
    """Refuse everything but a mapping of functions to functions."""
    each = [*value, *value.values()] if isinstance(value, Mapping) else [None]
    if not all(map(callable, each)):
        raise TypeError(
            f"{_shown(instance, field, value)}: it must be a dict of functions that open a client "
            f"and those to call instead; write {field.name}={{shop: fake_shop}}"
        )


def pipelines(instance: object, field: Field, value: object) -> None:
    """Refuse everything but a list or tuple of pipelines."""
    if not isinstance(value, tuple | list):
        raise TypeError(f"{_shown(instance, field, value)}: write {field.name}=[some_pipeline]")
    for each in value:
        refuse_others(each)


def _of_class(kind: type, right: str) -> Any:
    """A validator for instances of a class; `right` is an example, as source code."""

    def of_class(instance: object, field: Field, value: object) -> None:
        if not isinstance(value, kind):
            raise TypeError(f"{_shown(instance, field, value)}: write {right}")

    return of_class


limits = _of_class(Limits, "Limits(lane_chunks=1)")
caller = _of_class(Caller, "Caller('organisation', 'user')")


def keeping(method: str, right: str) -> Any:
    """A validator for a dict with names as keys, whose values have this method or are None."""

    def bound(instance: object, field: Field, value: object) -> None:
        by_name(instance, field, value)
        for name, each in cast("Mapping[str, object]", value).items():
            has = callable(getattr(each, method, None)) and not isinstance(each, type)
            if each is not None and not has:
                raise TypeError(
                    f"{type(instance).__name__}({field.name}={{{name!r}: {each!r:.80}}}): it has "
                    f"no `{method}`, or is a class; write {right}, or None if no step calls it"
                )

    return bound
