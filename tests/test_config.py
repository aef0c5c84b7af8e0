"""The default bindings: nothing before it is needed, and errors that know a way on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from orchestra.config import LocalBindings, default_bindings
from orchestra.errors import BindingError, StoreError
from orchestra.protocols import Bindings
from orchestra.values import Passage, Vector


async def make(bindings: LocalBindings, name: str) -> None:
    await bindings.stores.collection(name).upsert([Passage("1", "")], [Vector.of([1.0])])


def test_the_defaults_are_there_and_nothing_is_made(tmp_path: Path) -> None:
    with default_bindings(tmp_path / "data") as local:
        bindings: Bindings = local
        assert bindings.names("model") == ["default", "fast", "smart"]
        assert bindings.names("embedder") == ["default"]
        assert bindings.names("store") == []
        assert bindings.model("fast") is bindings.model("default")
        assert bindings.embedder("default").dimensions == 256
    assert list(tmp_path.iterdir()) == []


def test_a_collection_is_a_store_as_soon_as_it_exists(tmp_path: Path) -> None:
    with default_bindings(tmp_path) as bindings:
        with pytest.raises(BindingError):
            bindings.store("handbook")
        trio.run(make, bindings, "handbook")
        assert bindings.names("store") == ["handbook"]
        assert trio.run(bindings.store("handbook").count) == 1
        assert bindings.store("handbook") is bindings.store("handbook")


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda b: b.model("smrt"), "no model named 'smrt' (known: 'default', 'fast', 'smart')"),
        (lambda b: b.model("smrt"), "did you mean 'smart'?"),
        (lambda b: b.embedder("x"), "no embedder named 'x' (known: 'default')"),
        (lambda b: b.store("handbok"), "store.sqlite named 'handbok' (known: 'handbook')"),
        (lambda b: b.store("handbok"), "did you mean 'handbook'?"),
        (lambda b: b.store("handbok"), "`orchestra ingest FOLDER --store handbok`"),
        (lambda b: b.names("modell"), "no seam named 'modell'"),
    ],
)
def test_an_unknown_name_is_an_error_with_what_there_is(
    tmp_path: Path, ask: Callable[[Bindings], object], says: str
) -> None:
    with LocalBindings(tmp_path) as bindings:
        trio.run(make, bindings, "handbook")
        with pytest.raises(BindingError) as caught:
            ask(bindings)
    assert says in str(caught.value)


def test_a_file_that_is_no_store_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "store.sqlite").write_text("not a database" * 99)
    with LocalBindings(tmp_path) as bindings, pytest.raises(StoreError, match="another kind"):
        bindings.names("store")
