"""Embeddings without a download: the vectors that ship in wordllama's wheel.

A text's embedding is the mean of its tokens' vectors. We read two files of the installed
package and compute the mean ourselves, because of wordllama's own code:

- importing it calls `logging.basicConfig`, and imports pydantic and requests: 0.25 s;
- it pads each batch to its longest text, so 64 texts with one long text take 655 MB, and the
  last digits of a text's vector depend on the other texts.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import trio

from orchestra.errors import BindingError
from orchestra.values import Purpose, Vector

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from tokenizers import Tokenizer

DIMENSIONS = 256
_WEIGHTS = "weights/l2_supercat_256.safetensors"
_TOKENIZER = "tokenizers/l2_supercat_tokenizer_config.json"
_NOTHING = " "  # embedded in place of a text without tokens


class WordLlamaEmbedder:
    """An `Embedder` in this process: 256 dimensions, mostly for English, without network.

    About 60 µs for a text of 50 tokens, in a worker thread. The first use loads 16 MB from disk in
    about 0.2 s, only once even with concurrent callers. Equal texts have equal vectors, in any
    batch.
    """

    identity = "wordllama l2_supercat"

    def __init__(self) -> None:
        self._loading = threading.Lock()

    @property
    def dimensions(self) -> int:
        """256; known without loading."""
        return DIMENSIONS

    async def embed(self, texts: Sequence[str], *, purpose: Purpose | None = None) -> list[Vector]:
        """One vector of unit length for each text, in order.

        The empty text is embedded like a space, and the purpose is ignored. A cancelled call
        returns when its thread is done.

        Raises:
            BindingError: wordllama is not installed, or has an unknown version.
        """
        del purpose
        return await trio.to_thread.run_sync(self._embed, list(texts))

    def _embed(self, texts: list[str]) -> list[Vector]:
        with self._loading:
            weights = self._weights
        return [weights.embed(text) for text in texts]

    @cached_property
    def _weights(self) -> _Weights:
        return _load(home())


@attrs.frozen(eq=False)
class _Weights:
    """The vectors of all tokens, and the tokenizer."""

    vectors: NDArray[np.float32]
    tokenizer: Tokenizer

    def embed(self, text: str) -> Vector:
        """The direction of the sum of the tokens' vectors.

        Each distinct token is looked up once, so that even a long text takes no more memory than
        the vocabulary.
        """
        import numpy as np  # heavy

        sound = text.encode("utf-8", "replace").decode()  # half a surrogate pair becomes "?"
        ids = self.tokenizer.encode_batch_fast([sound or _NOTHING], add_special_tokens=False)[0].ids
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
            "run `pip install 'orchestra[local]'`, or name others in orchestra.toml"
        )
    return Path(spec.origin).parent


def _load(home: Path) -> _Weights:
    from safetensors import safe_open  # heavy
    from tokenizers import Tokenizer  # heavy

    for name in (_WEIGHTS, _TOKENIZER):
        if not (home / name).is_file():
            raise BindingError(
                f"{home}: this version of wordllama has no {name}; "
                "run `pip install 'wordllama>=0.4,<0.5'`"
            )
    with safe_open(home / _WEIGHTS, framework="np") as file:
        vectors = file.get_tensor("embedding.weight").astype("float32")
    return _Weights(vectors, Tokenizer.from_file(str(home / _TOKENIZER)))
