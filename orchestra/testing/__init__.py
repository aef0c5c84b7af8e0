"""The testing kit. Import its names from its modules; `docs/api.md` lists them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if not TYPE_CHECKING:  # otherwise a type checker would assume that every name exists

    def __getattr__(name: str) -> object:
        from orchestra.homes import missing

        raise missing(__name__, name)
