"""Names of users and organisations that have a table of their own. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from orchestra.access.wanted import wrong_name
from orchestra.config.toml.complaints import Complaints
from orchestra.config.toml.places import Path as Place


def check_names(names: Iterable[str], at: Place, complaints: Complaints) -> None:
    """Complain of names that no key has: what is said of them would hold for nobody."""
    one = str(at[-1]).removesuffix("s")
    for name in names:
        for why in wrong_name(one, name):
            fix = f"write it as `orchestra keys list` does, the {one} alone"
            complaints.add("wrong-value", (*at, name), f"no key has this name: {why}", fix)
