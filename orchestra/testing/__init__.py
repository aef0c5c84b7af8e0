"""The testing kit: each of its names is imported from the module that it lives in."""

from __future__ import annotations

from typing import TYPE_CHECKING

if not TYPE_CHECKING:  # or a type checker would take it that there is every name

    def __getattr__(name: str) -> object:
        from orchestra.homes import missing

        raise missing(__name__, name)
