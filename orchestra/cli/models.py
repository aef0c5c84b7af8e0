"""`orchestra models`: lists the configured models, and tests whether they answer; shows no keys."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from orchestra.cli import terminal
from orchestra.cli.failures import FAILED, MISUSED, CommandError
from orchestra.cli.parameters import Config, Count, Flag, Seconds

if TYPE_CHECKING:
    from orchestra.config.deployment.deployment import Deployment


def models(*, config: Config = None, json: Flag = False) -> int:
    """List what pipelines can name (models, routes, embedders), and whether their keys are set.

    Parameters
    ----------
    json
        Print the models, routes and embedders as one JSON object; never a key.
    """
    from orchestra.cli.model_views import as_json, as_text
    from orchestra.config import read_deployment

    deployment = read_deployment(config)
    if json:
        terminal.say_json(as_json(deployment, os.environ))
    else:
        terminal.say(as_text(deployment, os.environ, terminal.width()))
    return 0


def ping(*names: str, config: Config = None, timeout_s: Seconds = 30, at_once: Count = 8) -> int:
    """Send each model and embedder a short request; exit with 1 if one does not answer.

    Parameters
    ----------
    names
        Which to call; by default all models and embedders. A model with several names is called
        once; a route calls one of its models.
    timeout_s
        Seconds that each may take.
    at_once
        How many are called at the same time.
    """
    import trio

    from orchestra.cli.pinging import ping_all, targets
    from orchestra.cli.stopping import until_signal
    from orchestra.config import default_bindings

    with default_bindings(config=config) as bindings:
        chosen = targets(bindings.deployment, _known(names, bindings.deployment))
        ask = partial(ping_all, chosen, bindings, timeout_s=timeout_s, at_once=at_once)
        pinged = trio.run(until_signal, ask)
    width = max((len(each.name) for each in pinged), default=0)
    for each in pinged:
        terminal.show(f"{each.name:<{width}}  {each.text}")
    return FAILED if any(not each.answered for each in pinged) else 0


def _known(names: Sequence[str], deployment: Deployment) -> Sequence[str]:
    """Check that each name exists, and return the names."""
    from orchestra.config.toml.complaints import nearest

    known = [*dict.fromkeys((*deployment.models, *deployment.routes, *deployment.embedders))]
    for name in names:
        if name not in known:
            raise CommandError(
                f"there is no model, route or embedder {name!r}; {nearest(name, known)}",
                code=MISUSED,
            )
    return names
