"""Decorators for value classes: `frozen`, and `event` for classes with many instances per run.

attrs sets each field of a frozen class with a separate call, which was 5 % of the cost of a step.
So events, and values between the server and the provider of which each relayed request makes some,
are frozen only for type checkers: mypy refuses an assignment to a field. All classes share one
`__repr__`, since compiling one for each took a thirtieth of the start-up time; `not_default` is for
a class with a shorter one of its own.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from attrs import frozen
    from attrs import frozen as event
else:

    def frozen(cls: type | None = None, /, made: Any = attrs.frozen, **options: Any) -> Any:
        """Like `attrs.frozen`, with the shared `__repr__`."""
        if cls is None:
            return partial(frozen, made=made, **options)
        if "__repr__" not in vars(cls):
            cls.__repr__ = _shown
        return made(cls, **options)

    event = partial(frozen, made=attrs.define, unsafe_hash=True)

__all__ = ["event", "frozen", "not_default"]


def not_default(value: attrs.AttrsInstance, *names: str) -> list[str]:
    """Those of these fields that do not have their default value, as in source code: `key='k1'`."""
    fields = attrs.fields_dict(type(value))
    found = {name: getattr(value, name) for name in names}
    return [f"{name}={each!r}" for name, each in found.items() if each != fields[name].default]


def _shown(self: attrs.AttrsInstance) -> str:
    """The same text as the `__repr__` that attrs would generate."""
    fields = (
        f"{each.name}={(repr if each.repr is True else each.repr)(getattr(self, each.name))}"
        for each in attrs.fields(type(self))
        if each.repr
    )
    return f"{type(self).__qualname__.rpartition('>.')[2]}({', '.join(fields)})"
