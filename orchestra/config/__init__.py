"""Bindings of the names in pipelines, from `orchestra.toml` and the environment."""

from __future__ import annotations

from orchestra.config.bindings import LocalBindings
from orchestra.config.defaults import default_bindings
from orchestra.config.finding import read_deployment

__all__ = ["LocalBindings", "default_bindings", "read_deployment"]
