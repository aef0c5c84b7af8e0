"""Embeddings without a download: the vectors that ship in wordllama's wheel.

A text's embedding is the mean of its tokens' vectors. We read two files of the installed
package and compute the mean ourselves, because of wordllama's own code:

- importing it calls `logging.basicConfig` and brings pydantic and requests: 0.25 s;
- it pads each batch to its longest text, so 64 texts with a long one among them take
  655 MB, and a text's vector depends in its last digits on its neighbours.

Rules of the file: a process loads them once, since the tokenizer takes 20 MB that are not given
back; and the vectors stay in their file, which all processes share.
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
from orchestra.values import Purpose, Vector

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from tokenizers import Tokenizer

DIMENSIONS = 256
_WEIGHTS = "weights/l2_supercat_256.safetensors"
_TOKENIZER = "tokenizers/l2_supercat_tokenizer_config.json"
_TENSOR = "embedding.weight"
_NOTHING = " "  # what a text without any tokens is embedded as
_LOADING = threading.Lock()


class WordLlamaEmbedder(Embedder):
    """An `Embedder` that runs here: 256 dimensions, English mostly, no network.

    About 60 µs for a text of 50 tokens, in a worker thread. The first use in a process takes
    about 0.2 s, once however many ask at the same time. Equal texts have equal vectors,
    whatever they are embedded together with.
    """

    identity = "wordllama l2_supercat"

    @property
    def dimensions(self) -> int:
        """256; known without loading."""
        return DIMENSIONS

    async def embed(self, texts: Sequence[str], *, purpose: Purpose | None = None) -> list[Vector]:
        """The empty text is embedded as if it were a space; the purpose makes no difference.

        A cancelled call returns when its thread is done. Raises BindingError where wordllama is
        not installed, or is not the version we know.
        """
        del purpose
        return await trio.to_thread.run_sync(self._embed, list(texts))

    def load(self) -> None:
        """Load the vectors now, unless they are: 0.2 s, in which it blocks. Raises BindingError."""
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


@lru_cache(maxsize=1)
def _load(home: Path) -> _Weights:
    from tokenizers import Tokenizer  # heavy

    for name in (_WEIGHTS, _TOKENIZER):
        if not (home / name).is_file():
            raise _unknown(home, f"no {name}")
    return _Weights(_vectors(home), Tokenizer.from_file(str(home / _TOKENIZER)))


class _Tensor(msgspec.Struct, frozen=True):
    """What a file of safetensors says of one, in its head: JSON, behind its length."""

    dtype: str
    shape: tuple[int, int]
    data_offsets: tuple[int, int]


def _vectors(home: Path) -> NDArray[np.float16]:
    """The vectors, of which the kernel reads what is looked up: safetensors' own would copy all."""
    import numpy as np  # heavy

    with (home / _WEIGHTS).open("rb") as file:
        try:
            head = file.read(int.from_bytes(file.read(8), "little"))
            said = msgspec.json.decode(head, type=dict[str, msgspec.Raw])[_TENSOR]
            found = msgspec.json.decode(said, type=_Tensor)
            if found.dtype != "F16":
                raise _unknown(home, f"vectors of {found.dtype}, not of F16")
            begin = file.tell() + found.data_offsets[0]
            return np.asarray(np.memmap(file, "<f2", "r", begin, found.shape))
        except (KeyError, ValueError, msgspec.DecodeError) as error:
            raise _unknown(home, "vectors that cannot be read") from error


def _unknown(home: Path, what: str) -> BindingError:
    return BindingError(
        f"{home}: this version of wordllama has {what}; run `pip install 'wordllama>=0.4,<0.5'`"
    )
