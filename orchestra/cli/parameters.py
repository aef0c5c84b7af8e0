"""How the options of commands are declared, where several have the same."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

from cyclopts import Parameter
from cyclopts.validators import Number

Flag: TypeAlias = Annotated[bool, Parameter(show_default=False)]
"""Off, unless it is said: which its help need not mention."""

Port: TypeAlias = Annotated[int, Parameter(validator=Number(gte=0, lt=2**16))]
Count: TypeAlias = Annotated[int, Parameter(validator=Number(gte=1))]
Delay: TypeAlias = Annotated[float, Parameter(validator=Number(gte=0))]
Seconds: TypeAlias = Annotated[float, Parameter(validator=Number(gt=0))]

Data: TypeAlias = Annotated[Path | None, Parameter(show_default=False)]
"""The folder of the stores; None is what the configuration says."""

Config: TypeAlias = Annotated[Path | None, Parameter(show_default=False)]
"""The file of the configuration; None looks for it."""

Inherited: TypeAlias = Annotated[tuple[int, int, int] | None, Parameter(show=False)]
"""What a supervisor tells a worker: its number, and the descriptors of two sockets."""
