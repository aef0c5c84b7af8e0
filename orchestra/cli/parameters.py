"""How the options of commands are declared, where several have the same."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

from cyclopts import Parameter

Flag: TypeAlias = Annotated[bool, Parameter(show_default=False)]
"""Off, unless it is said: which its help need not mention."""

DATA = Path(".orchestra")
"""Where a deployment without a configuration keeps its stores."""
