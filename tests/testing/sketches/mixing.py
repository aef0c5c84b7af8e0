"""The small numbers that the steps of a sketch compute, and its oracle predicts."""

from __future__ import annotations

from typing import cast

MODULUS = 997


def mix(*values: object) -> int:
    """A small number that depends on every value and on their order."""
    total = len(values)
    for value in values:
        number = sum(map(ord, value)) if isinstance(value, str) else value
        total = (
            total * 31 + (sum(number) if isinstance(number, list) else cast("int", number))
        ) % MODULUS
    return total


def is_accepted(said: object) -> bool:
    """Whether a picky race accepts a value: two of three are accepted."""
    return mix(said) % 3 > 0


def chunk_of_source(value: int, index: int) -> str:
    """The chunk with this index of a source with this input."""
    return chr(ord("a") + (value + index) % 26)
