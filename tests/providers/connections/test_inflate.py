from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.providers.connections.inflate import Inflater
from tests.providers.connections.test_bodies import PLACES, cut


def raw_deflate(data: bytes) -> bytes:
    made = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return made.compress(data) + made.flush()


CODINGS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "two members": ("x-gzip", lambda data: gzip.compress(data[:3]) + gzip.compress(data[3:])),
    "deflate": ("deflate", zlib.compress),
    "deflate without a header": ("deflate", raw_deflate),
}
CODING = st.sampled_from(sorted(CODINGS))


@given(CODING, st.binary(max_size=200), PLACES)
def test_what_was_compressed_comes_back(name: str, data: bytes, places: list[int]) -> None:
    coding, compress = CODINGS[name]
    undone = Inflater(coding, 200)
    assert b"".join(map(undone.feed, cut(compress(data), places))) == data
    assert undone.end()


@given(st.sampled_from(["gzip", "deflate"]), st.binary(max_size=200), st.data())
def test_a_cut_body_never_looks_complete(name: str, data: bytes, draw: st.DataObject) -> None:
    coding, compress = CODINGS[name]
    raw = compress(data)
    undone = Inflater(coding, 200)
    undone.feed(raw[: draw.draw(st.integers(1, len(raw) - 1))])
    assert not undone.end()


def test_a_bomb_is_not_set_off() -> None:
    """A hundred megabytes in a hundred kilobytes: at the limit it stops."""
    raw = gzip.compress(bytes(100_000_000), compresslevel=1)
    undone = Inflater("gzip", 1_000)
    for _ in range(3):  # nor does it go off behind the error
        with pytest.raises(ValueError, match="longer than 1000 bytes"):
            undone.feed(raw)


def test_many_bombs_one_behind_the_other_are_one_bomb() -> None:
    undone = Inflater("gzip", 1_000)
    with pytest.raises(ValueError, match="longer than 1000 bytes"):
        undone.feed(gzip.compress(bytes(600)) * 2)


def test_what_is_not_compressed_is_an_error() -> None:
    undone = Inflater("gzip", 1_000)
    with pytest.raises(ValueError, match="is not valid"):
        undone.feed(b"plain text")


def test_an_empty_body_is_whole() -> None:
    undone = Inflater("gzip", 1_000)
    assert undone.end()


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, gzip"])
def test_what_cannot_be_undone_is_refused(coding: str) -> None:
    with pytest.raises(ValueError, match="accepts only `identity`"):
        Inflater(coding, 1_000).feed(b"a")
