"""Warnings of what is missing: a configuration at all, or what one model needs for itself."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from orchestra.config.finding import FILE
from orchestra.errors import BindingError

if TYPE_CHECKING:
    from orchestra.providers.known.settings import ModelSettings, RouteSettings

log = logging.getLogger("orchestra.config")


def warn_built_in(
    settings: ModelSettings | RouteSettings, environ: Mapping[str, str] = os.environ
) -> None:
    """Warn, once in a process, that a model is the built-in one.

    Who has given an environment of their own has not forgotten anything, and is told nothing.
    """
    from orchestra.config.deployment.deployment import BUILT_IN

    if environ is os.environ and getattr(settings, "origin", "") == BUILT_IN:
        _warn()


def make_all_or_warn(makers: Iterable[Callable[[], object]]) -> None:
    """Make models and embedders; of those that cannot be made, warn once for each reason."""
    told = set[str]()
    for make in makers:
        try:
            make()
        except BindingError as error:
            if str(error) not in told:
                told.add(str(error))
                log.warning(
                    "%s; until then requests for this model, or for a route with it, are refused",
                    error,
                )


@cache
def _warn() -> None:
    from orchestra.config.deployment.environment import half_told

    halves = "; ".join(half_told(os.environ))
    log.warning(
        "no model is configured, so the built-in one answers, which only quotes its prompt: there "
        "is no %s in %s, and %s in the environment. Start where the file is, name it in "
        "ORCHESTRA_CONFIG, or set %s; `orchestra models` lists what there is",
        FILE,
        Path.cwd(),
        halves or "no key of a provider",
        "what is missing" if halves else "a key, such as OPENAI_API_KEY",
    )
