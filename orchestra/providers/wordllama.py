"""Embeddings without a download: uses the token vectors that ship in wordllama's wheel.

The embedding of a text is the mean of its tokens' vectors, scaled to unit length. We read two files
of the installed package and compute the mean ourselves, because wordllama's own code has drawbacks:

- importing it calls `logging.basicConfig`, and imports pydantic and requests: 0.25 s;
- it pads each batch to its longest text: 64 texts with a long one among them take 655 MB, and the
  last digits of a text's vector depend on the other texts.

Rules of the file: a process loads the tokenizer once, since its 20 MB are never freed. The vectors
are mapped from their file, so all processes share the memory.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import cached_property, lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import msgspec
import trio

from orchestra.errors import BindingError
from orchestra.protocols import Embedder
from orchestra.surrogates import replaced
from orchestra.values import Purpose, Vector

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from tokenizers import Tokenizer

DIMENSIONS = 256
_WEIGHTS = "weights/l2_supercat_256.safetensors"
_TOKENIZER = "tokenizers/l2_supercat_tokenizer_config.json"
_TENSOR = "embedding.weight"
_NOTHING = " "  # embedded in place of an empty text, which has no tokens
_LOADING = threading.Lock()


class WordLlamaEmbedder(Embedder):
    """An `Embedder` that runs in this process: 256 dimensions, mostly English, no network.

    A text of 50 tokens takes about 60 µs, in a worker thread. The first use in a process takes
    about 0.2 s more, once, however many calls wait for it. Equal texts have equal vectors, whatever
    other texts are in the same call.
    """

    identity = "wordllama l2_supercat"

    @property
    def dimensions(self) -> int:
        """Always 256; known without loading."""
        return DIMENSIONS

    async def embed(self, texts: Sequence[str], *, purpose: Purpose | None = None) -> list[Vector]:
        """One unit vector for each text, in order, computed in a worker thread.

        The empty text is embedded like a space; `purpose` makes no difference. A cancelled call
        returns only when its thread is done.

        Raises:
            BindingError: wordllama is not installed, or its version is not supported.
        """
        del purpose
        return await trio.to_thread.run_sync(self._embed, list(texts))

    def load(self) -> None:
        """Load the vectors, unless they are loaded. Blocks for about 0.2 s. Raises BindingError."""
        with _LOADING:
            _ = self._weights

    def _embed(self, texts: list[str]) -> list[Vector]:
        self.load()
        return [self._weights.embed(text) for text in texts]

    @cached_property
    def _weights(self) -> _Weights:
        return _load(home())


@attrs.frozen(eq=False)
class _Weights:
    """The vectors of all tokens, and the tokenizer."""

    vectors: NDArray[np.float16]
    tokenizer: Tokenizer

    def embed(self, text: str) -> Vector:
        """The unit vector in the direction of the sum of the tokens' vectors.

        Each distinct token is looked up once, so that even a long text needs no more memory than
        the vocabulary.
        """
        import numpy as np  # heavy

        valid = replaced(text)
        ids = self.tokenizer.encode_batch_fast([valid or _NOTHING], add_special_tokens=False)[0].ids
        tokens, counts = np.unique(ids, return_counts=True)
        total = counts.astype(np.float64) @ self.vectors[tokens].astype(np.float64)
        return Vector((total / np.linalg.norm(total)).astype("<f4").tobytes())


def home() -> Path:
    """The folder of the installed package, found without importing it.

    Raises:
        BindingError: it is not installed.
    """
    spec = find_spec("wordllama")
    if spec is None or spec.origin is None:
        raise BindingError(
            "the built-in model and embedder need the package wordllama, which is not installed; "
            "run `pip install 'orchestra[local]'`, or configure others in orchestra.toml"
        )
    return Path(spec.origin).parent


@lru_cache(maxsize=1)
def _load(home: Path) -> _Weights:
    from tokenizers import Tokenizer  # heavy

    for name in (_WEIGHTS, _TOKENIZER):
        if not (home / name).is_file():
            raise _unknown(home, f"no {name}")
    return _Weights(_vectors(home), Tokenizer.from_file(str(home / _TOKENIZER)))


class _Tensor(msgspec.Struct, frozen=True):
    """The description of one tensor in the JSON header of a safetensors file."""

    dtype: str
    shape: tuple[int, int]
    data_offsets: tuple[int, int]


def _vectors(home: Path) -> NDArray[np.float16]:
    """The vectors, memory-mapped, so that the kernel reads only those that are looked up.

    The safetensors library would copy all of them. The file begins with the length of its JSON
    header, then the header.
    """
    import numpy as np  # heavy

    with (home / _WEIGHTS).open("rb") as file:
        try:
            head = file.read(int.from_bytes(file.read(8), "little"))
            tensor = msgspec.json.decode(head, type=dict[str, msgspec.Raw])[_TENSOR]
            found = msgspec.json.decode(tensor, type=_Tensor)
            if found.dtype != "F16":
                raise _unknown(home, f"vectors of {found.dtype}, not of F16")
            begin = file.tell() + found.data_offsets[0]
            return np.asarray(np.memmap(file, "<f2", "r", begin, found.shape))
        except (KeyError, ValueError, msgspec.DecodeError) as error:
            raise _unknown(home, "vectors that cannot be read") from error


def _unknown(home: Path, what: str) -> BindingError:
    return BindingError(
        f"{home}: this version of wordllama is not supported: it has {what}; run "
        "`pip install 'wordllama>=0.4,<0.5'`"
    )
