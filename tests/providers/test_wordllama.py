"""The default embedder: unit vectors, the same for the same text, from the wheel alone."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestra.errors import BindingError
from orchestra.providers import wordllama
from orchestra.providers.wordllama import WordLlamaEmbedder
from orchestra.values import Vector

EMBEDDER = WordLlamaEmbedder()


def embed(*texts: str) -> list[Vector]:
    return trio.run(EMBEDDER.embed, texts)


def cosine(one: str, other: str) -> float:
    return math.fsum(a * b for a, b in zip(*embed(one, other), strict=True))


@given(st.lists(st.text(), max_size=5))
@settings(deadline=None)
def test_every_text_has_a_unit_vector_that_is_its_own(texts: list[str]) -> None:
    """Whatever it is embedded together with."""
    vectors = embed(*texts)
    assert vectors == [embed(text)[0] for text in texts]
    for vector in vectors:
        assert len(vector) == EMBEDDER.dimensions == 256
        assert math.hypot(*vector) == pytest.approx(1, abs=1e-6)


def test_the_empty_text_is_as_a_space() -> None:
    assert embed("") == embed(" ")


def test_half_a_surrogate_pair_is_as_a_question_mark() -> None:
    assert embed("a\ud800") == embed("a?")


def test_what_means_the_same_is_nearer() -> None:
    near = cosine("The client has left.", "The user disconnected.")
    far = cosine("The client has left.", "Bread is baked in an oven.")
    assert near > far + 0.1


def test_dimensions_are_known_without_loading(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wordllama, "_load", None)
    assert WordLlamaEmbedder().dimensions == 256


def test_many_that_ask_first_load_once(monkeypatch: pytest.MonkeyPatch) -> None:
    loads = []
    load = wordllama._load

    def counted(home: Path) -> wordllama._Weights:
        loads.append(home)
        return load(home)

    async def main() -> None:
        embedder = WordLlamaEmbedder()
        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(embedder.embed, ["text"])

    monkeypatch.setattr(wordllama, "_load", counted)
    trio.run(main)
    assert len(loads) == 1


def test_a_process_loads_once_however_often_its_deployment_is_loaded_anew() -> None:
    """A tokenizer takes 20 MB, of which freeing it gives nothing back to the system."""
    first, second = WordLlamaEmbedder(), WordLlamaEmbedder()
    assert trio.run(first.embed, ["text"]) == trio.run(second.embed, ["text"])
    assert first._weights is second._weights


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what is shared")
def test_the_vectors_are_shared_with_other_processes() -> None:
    def private_kb() -> int:
        rollup = Path("/proc/self/smaps_rollup").read_text()
        return sum(map(int, re.findall(r"^Private_Dirty: +(\d+)", rollup, re.MULTILINE)))

    pytest.importorskip("numpy")
    before_kb = private_kb()
    vectors = wordllama._vectors(wordllama.home())
    assert vectors.astype("f8").any()
    assert vectors.nbytes == 16_384_000
    assert private_kb() - before_kb < 8_000


def test_a_first_use_that_was_cancelled_leaves_it_usable() -> None:
    embedder = WordLlamaEmbedder()

    async def main() -> list[Vector]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(embedder.embed, ["text"])
            await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        return await embedder.embed(["text"])

    assert trio.run(main) == embed("text")


def test_it_opens_no_socket_warns_of_nothing_and_leaves_logging_alone() -> None:
    """In a fresh process: importing wordllama itself would do all three or more."""
    code = """if True:
        import logging, socket, sys

        class NoSocket(socket.socket):
            def connect(self, *address): sys.exit(f"connects to {address}")
            def bind(self, *address): sys.exit(f"binds {address}")

        import trio
        from orchestra.providers.wordllama import WordLlamaEmbedder
        heavy = {"numpy", "tokenizers"} & sys.modules.keys()
        if heavy:
            sys.exit(f"imported early: {heavy}")

        async def main():
            socket.socket = NoSocket
            await WordLlamaEmbedder().embed(["text"])

        trio.run(main)
        unwanted = {"wordllama", "requests", "pydantic"} & sys.modules.keys()
        if unwanted or logging.getLogger().handlers:
            sys.exit(f"{unwanted} {logging.getLogger().handlers}")
    """
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


def refused(embedder: WordLlamaEmbedder) -> str:
    with pytest.raises(BindingError) as caught:
        trio.run(embedder.embed, ["text"])
    return str(caught.value)


@pytest.mark.parametrize("find_spec", [lambda name: None])
def test_without_the_package_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, find_spec: Callable[[str], None]
) -> None:
    monkeypatch.setattr(wordllama, "find_spec", find_spec)
    assert "pip install 'orchestra[local]'" in refused(WordLlamaEmbedder())


def test_a_version_with_other_files_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(wordllama, "home", lambda: tmp_path)
    message = refused(WordLlamaEmbedder())
    assert str(tmp_path) in message
    assert "has no weights/l2_supercat_256.safetensors" in message


def test_a_version_with_other_vectors_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(wordllama, "home", lambda: tmp_path)
    head = b'{"embedding.weight": {"dtype": "F32", "shape": [1, 1], "data_offsets": [0, 4]}}'
    for name in (wordllama._WEIGHTS, wordllama._TOKENIZER):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(len(head).to_bytes(8, "little") + head + bytes(4))
    assert "has vectors of F32, not of F16" in refused(WordLlamaEmbedder())
