"""Classes of values: `frozen`, and `event` for those of which every run makes many.

attrs sets each field of a frozen class by a call of its own, which was 5 % of all that a step
costs. So events are frozen for type checkers alone: nobody changes one, and mypy holds everybody
to it. All share one `__repr__`: to compile one for each class took a thirtieth of a start.
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
        """As `attrs.frozen`."""
        if cls is None:
            return partial(frozen, made=made, **options)
        if "__repr__" not in vars(cls):
            cls.__repr__ = _shown
        return made(cls, **options)

    event = partial(frozen, made=attrs.define, unsafe_hash=True)

__all__ = ["event", "frozen"]


def _shown(self: attrs.AttrsInstance) -> str:
    """What attrs would show."""
    told = (
        f"{each.name}={(repr if each.repr is True else each.repr)(getattr(self, each.name))}"
        for each in attrs.fields(type(self))
        if each.repr
    )
    return f"{type(self).__qualname__.rpartition('>.')[2]}({', '.join(told)})"
