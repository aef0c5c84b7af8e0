"""Tables for the project's own classes: `class`, and its `options`. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from orchestra.config.toml import spec
from orchestra.config.toml.checking import NO_SECRETS, Table, missing
from orchestra.config.toml.complaints import Complaints, names_a_secret
from orchestra.config.toml.places import Path as Place
from orchestra.providers.known.settings import OwnClass

_SEAMS: Mapping[object, Literal["store", "model", "embedder"]] = MappingProxyType(
    {"stores": "store", "models": "model", "embedders": "embedder"}
)


def read_own_class(
    table: Table, right: Table, at: Place, complaints: Complaints
) -> OwnClass | None:
    """The class that a table names; `right` has the values of the table that fit its spec."""
    if "class" not in table:
        missing("class", spec.CLASS, at, complaints)
    options = right.get("options", {})
    for key in filter(names_a_secret, options):
        fix = "have the class read it from os.environ, or from a file that an option names"
        complaints.add("secret-in-file", (*at, "options", key), NO_SECRETS, fix)
    if "class" not in right:
        return None
    return OwnClass(seam=_SEAMS[at[0]], target=right["class"], options=options)


def refuse_of_providers(table: Table, at: Place, complaints: Complaints) -> Table:
    """The table without keys that only providers have; a complaint is added for each."""
    of_providers = {"model", *spec.REMOTE} - {"dimensions", *spec.OWN_MODEL}
    for key in table:
        if key not in of_providers:
            continue
        message = "it is for providers, and a class of your own has none"
        complaints.add("unknown-key", (*at, key), message, _INSTEAD.get(key, _OPTIONS))
    return {key: value for key, value in table.items() if key not in of_providers}


_OPTIONS = "leave it out, or put it into `options`, the arguments of the class"
_INSTEAD = {
    "timeouts": "leave it out; bound the step: generate(..., policy=Policy(timeout_s=30))",
    **dict.fromkeys(
        ("key_env", "key_file"), "have the class read it from os.environ, or from a file"
    ),
}
