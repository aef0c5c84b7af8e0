"""The types of options that several commands have."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, TypeAlias

from cyclopts import Parameter
from cyclopts.validators import Number

_DATA = (
    "Where stores are kept; by default what `[stores]` in the configuration says, else "
    "`.orchestra`."
)
_CONFIG = "The configuration; by default $ORCHESTRA_CONFIG, else `orchestra.toml` if there is one."
Flag: TypeAlias = Annotated[bool, Parameter(show_default=False)]
"""A flag, off by default; its help does not show the default."""

Word: TypeAlias = Annotated[str, Parameter(show_default=False)]
"""A name; "" if it is not given."""


def _host(kind: object, host: str) -> None:
    """Check that it can be an address or a name. Raises ValueError if it cannot."""
    del kind
    try:
        ip_address(host)
    except ValueError:
        if not host or any(mark in host for mark in ":/*[ "):
            raise ValueError(
                f"{host!r} is not a host; write an address or a name without brackets, such as "
                "127.0.0.1, ::1 or 0.0.0.0, and the port as --port; UNIX sockets are not served"
            ) from None


Host: TypeAlias = Annotated[str, Parameter(validator=_host)]
Organisation: TypeAlias = Annotated[
    str, Parameter(show_default=False, help="The organisation whose budgets and limits count.")
]
User: TypeAlias = Annotated[
    str, Parameter(show_default=False, help="The user whose budgets and limits count.")
]
"""The caller, which on a server comes from the key; "" if they are not given."""

TagOptions: TypeAlias = Annotated[
    list[str] | None,
    Parameter(
        name="--tag",
        show_default=False,
        negative="",
        help="A tag of the run, such as team=search, for its traces; may be given several times.",
    ),
]

Port: TypeAlias = Annotated[int, Parameter(validator=Number(gte=0, lt=2**16))]
Count: TypeAlias = Annotated[int, Parameter(validator=Number(gte=1))]
Workers: TypeAlias = Annotated[int, Parameter(validator=Number(gte=1, lte=256))]
Delay: TypeAlias = Annotated[float, Parameter(validator=Number(gte=0))]
Seconds: TypeAlias = Annotated[float, Parameter(validator=Number(gt=0))]

Data: TypeAlias = Annotated[Path | None, Parameter(show_default=False, help=_DATA)]
"""The folder of the stores; None for the configured one."""

Config: TypeAlias = Annotated[Path | None, Parameter(show_default=False, help=_CONFIG)]
"""The file of the configuration; None looks for it."""

WORKER = "--as-worker"
Inherited: TypeAlias = Annotated[
    tuple[int, int, int, int] | None, Parameter(name=WORKER, show=False)
]
"""A supervisor's settings for a worker: see `WorkerPlace.take`."""
