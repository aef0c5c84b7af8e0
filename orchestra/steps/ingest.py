"""A folder of texts into a store, so that doing it again does only what has changed.

Rules of the file:

1. A file's passages are written in one upsert, so a kill leaves a file done or not done.
2. New passages are written before old ones are removed: a reader never misses a file.
   Cut short in between, the file has two digests, and the next ingestion does it again.
3. A passage is in the store under its file's digest, which also covers how it was cut.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum
from itertools import batched
from pathlib import Path, PurePosixPath
