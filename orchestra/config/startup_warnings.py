"""Warnings at start-up: no model is configured, or a model lacks something, such as its key."""

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
    """Warn, once per process, that the built-in model is used.

    There is no warning if the caller passed its own `environ`: then this is intended.
    """
    from orchestra.config.deployment.deployment import BUILT_IN

    if environ is os.environ and getattr(settings, "origin", "") == BUILT_IN:
        _warn()


def make_all_or_warn(makers: Iterable[Callable[[], object]]) -> None:
    """Make models and embedders; if some cannot be made, warn once for each reason."""
    reasons = set[str]()
    for make in makers:
        try:
            make()
        except BindingError as error:
            if str(error) not in reasons:
                reasons.add(str(error))
                log.warning(
                    "%s; until then requests for this model are refused, and a route with it goes "
                    "on to its other models, if it has any",
                    error,
                )


@cache
def _warn() -> None:
    from orchestra.config.deployment.environment import half_configured

    halves = "; ".join(half_configured(os.environ))
    log.warning(
        "no model is configured, so the built-in one answers, which only quotes its prompt: there "
        "is no %s in %s, and %s in the environment. Start where the file is, name it in "
        "ORCHESTRA_CONFIG, or set %s; `orchestra models` lists the models",
        FILE,
        Path.cwd(),
        halves or "no key of a provider",
        "what is missing" if halves else "a key, such as OPENAI_API_KEY",
    )
