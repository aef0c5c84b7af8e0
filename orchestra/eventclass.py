"""Event classes: values of which every run makes many, one for each step or token.

attrs sets each field of a frozen class by a call of its own, which was 5 % of all that a step
costs. So these are frozen for type checkers alone: nobody changes an event, and mypy holds
everybody to it.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from attrs import frozen as event
else:
    event = partial(attrs.define, unsafe_hash=True)

__all__ = ["event"]
