"""Recorded traffic of providers, in a folder beside the project.

Tests that need it are skipped if the folder is missing.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import attrs
import pytest

FOLDER = Path(__file__).parents[2] / "shared" / "recordings"
needed = pytest.mark.skipif(
    not FOLDER.is_dir(), reason=f"the recorded traffic is not there: {FOLDER}"
)


@attrs.frozen
class Recording:
    """One recorded exchange. `kind` is `stream`, `json` or `error`."""

    cid: str
    provider: str
    surface: str
    kind: str
    status: int
    headers: dict[str, str]
    request: dict[str, Any]
    body: bytes = attrs.field(repr=False)
    golden: dict[str, Any] | None = attrs.field(repr=False)
    content_type: str

    def pieces(self, size: int) -> list[bytes]:
        """The body cut into pieces of this many bytes."""
        return [self.body[at : at + size] for at in range(0, len(self.body), size)]


@cache
def _all() -> tuple[Recording, ...]:
    found = []
    for path in sorted(FOLDER.glob("*.jsonl.gz")):
        for line in gzip.decompress(path.read_bytes()).splitlines():
            case = json.loads(line)
            found.append(
                Recording(
                    case["cid"],
                    case["provider"],
                    case["surface"],
                    case["kind"],
                    case["status"],
                    {name.lower(): value for name, value in case["resp_headers"].items()},
                    case["req_json"] or {},
                    base64.b64decode(case["resp_b64"]),
                    case["golden"],
                    case["content_type"] or "",
                )
            )
    return tuple(found)


def recordings(wanted: Callable[[Recording], bool] = lambda _: True) -> list[Recording]:
    """The recordings for which `wanted` is true; none if the folder is missing."""
    return [each for each in _all() if wanted(each)]
