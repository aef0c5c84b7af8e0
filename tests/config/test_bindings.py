"""Bindings: nothing before it is needed, and errors that know a way on."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import trio

from orchestra.access.wanted import NewKey
from orchestra.config import LocalBindings, default_bindings
from orchestra.config import bindings as bindings_of_files
from orchestra.config.reading import read
from orchestra.errors import (
    BindingError,
    BreakerOpenError,
    LimitReachedError,
    ModelConnectionError,
    ProviderServerError,
    StateError,
    StoreError,
)
from orchestra.policies.gate import GuardState
from orchestra.policies.health.breaker import Open
from orchestra.policies.limits.limit import Load
from orchestra.protocols import Bindings
from orchestra.providers import wordllama
from orchestra.stores.state.memory import MemoryState
from orchestra.stores.state.outage import LASTS_S
from orchestra.testing.virtual import virtual
from orchestra.values import ChatRequest, Message, Passage, Vector

ROOT = Path(__file__).parents[2]


async def make(bindings: LocalBindings, name: str) -> None:
    await bindings.stores.collection(name).upsert([Passage("1", "")], [Vector.of([1.0])])


def test_the_defaults_are_there_and_nothing_is_made(tmp_path: Path) -> None:
    with default_bindings(tmp_path / "data", environ={}) as local:
        bindings: Bindings = local
        assert bindings.names("model") == ["default", "fast", "smart"]
        assert bindings.names("embedder") == ["default"]
        assert bindings.names("store") == []
        assert bindings.model("fast") is bindings.model("default")
        assert bindings.embedder("default").dimensions == 256
    assert list(tmp_path.iterdir()) == []


MODELS = """
[models.keyed]
provider = "openai"
model = "m"
key_env = "KEY"

[models.keyless]
provider = "openai"
model = "m"
key_env = "NO_KEY"

[routes.either]
models = ["keyed", "keyless"]

[embedders.vectors]
provider = "openai"
model = "text-embedding-3-small"
key_env = "KEY"
"""


def test_what_is_reached_over_the_network_is_made_before_it_is_asked_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As far as its keys are there: what has none is an error when it is asked for, as ever.

    Before that the log says so: once, also of a model that is in a route.
    """
    deployment = read(MODELS, tmp_path / "orchestra.toml")
    with LocalBindings(tmp_path, deployment, {"KEY": "k"}) as bindings:
        assert bindings.prepare()
        assert bindings.states().keys() == {"keyed", "vectors"}
        (told,) = caplog.messages
        assert (
            "has no key: set NO_KEY; until then requests for this model are refused, and a route "
            "with it goes on to its other models, if it has any"
        ) in told
        with pytest.raises(BindingError, match="NO_KEY"):
            bindings.model("keyless")


def test_where_all_is_built_in_nothing_has_to_be_made(tmp_path: Path) -> None:
    for deployment in (None, read("[server]\n", tmp_path / "orchestra.toml")):
        with LocalBindings(tmp_path, deployment, {}) as bindings:
            assert not bindings.prepare()
            assert not bindings._models


BEHIND = """
[models.remote]
provider = "openai"
model = "m"
key_env = "KEY"

[models.similar]
provider = "openai"
model = "m"
key_env = "KEY"
cache.semantic.embedder = "here"

[models.shared]
provider = "openai"
model = "m"
key_env = "KEY"
coalesce = { similarity = 0.9, embedder = "here" }

[models.quotes]
provider = "extractive"

[routes.either]
models = ["remote", "quotes"]

[routes.far]
models = ["remote"]

[embedders.here]
provider = "wordllama"

[embedders.there]
provider = "openai"
model = "text-embedding-3-small"
key_env = "KEY"
"""


@pytest.mark.parametrize(
    ("seam", "name", "loaded"),
    [
        ("embedder", "here", True),
        ("embedder", "there", False),
        ("model", "remote", False),
        ("model", "similar", True),
        ("model", "shared", True),
        ("model", "quotes", True),
        ("model", "either", True),
        ("model", "far", False),
        ("store", "here", False),
    ],
)
def test_what_is_built_in_is_loaded_where_a_name_stands_for_it(
    seam: str, name: str, loaded: bool, tmp_path: Path
) -> None:
    deployment = read(BEHIND, tmp_path / "orchestra.toml")
    with LocalBindings(tmp_path, deployment, {"KEY": "k"}) as bindings:
        wordllama._load.cache_clear()
        bindings.load([(seam, name)])
        assert wordllama._load.cache_info().currsize == loaded


@pytest.mark.parametrize("seam", ["model", "embedder", "store"])
def test_without_a_configuration_all_but_stores_is_built_in(seam: str, tmp_path: Path) -> None:
    with LocalBindings(tmp_path, None, {}) as bindings:
        wordllama._load.cache_clear()
        bindings.load([(seam, "default")])
        assert wordllama._load.cache_info().currsize == (seam != "store")


def test_a_collection_is_a_store_as_soon_as_it_exists(tmp_path: Path) -> None:
    with default_bindings(tmp_path, environ={}) as bindings:
        with pytest.raises(BindingError, match=r"`bindings\.stores\.collection\('handbook'\)`"):
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


REMOTE = """
[models.default]
provider = "openai"
model = "gpt-5.4-mini"
key_env = "KEY"
[models.keyless]
provider = "anthropic"
model = "claude-haiku-4-5"
[models.vectors]
provider = "openai"
model = "text-embedding-3-small"
key_env = "KEY"
[embedders.short]
model = "vectors"
dimensions = 256
[embedders.whole]
model = "vectors"
[embedders.local]
provider = "wordllama"
"""


@pytest.fixture
def remote(tmp_path: Path) -> Iterator[LocalBindings]:
    file = tmp_path / "c.toml"
    file.write_text(REMOTE)
    environ = {"KEY": "a-key-that-is-not-shown"}
    with default_bindings(tmp_path, config=file, environ=environ) as bindings:
        yield bindings


def test_a_model_of_the_file_is_made_once_for_all_of_its_names(remote: LocalBindings) -> None:
    model = remote.model("default")
    assert model is remote.model("fast") is remote.model("smart")
    assert model is not remote.model("vectors")
    assert model.capabilities.context_tokens == 400_000
    assert "a-key-that-is-not-shown" not in repr(vars(model))


def test_a_missing_key_is_an_error_when_its_model_is_asked_for(remote: LocalBindings) -> None:
    assert "keyless" in remote.names("model")
    with pytest.raises(BindingError, match=r"'keyless' \(.*c.toml:6\) has no key: set ANTHROPIC"):
        remote.model("keyless")


def test_an_embedder_is_as_long_as_it_was_said(remote: LocalBindings) -> None:
    assert remote.names("embedder") == ["default", "short", "whole", "local"]
    assert remote.embedder("short").dimensions == 256
    assert remote.embedder("whole").dimensions == 1536
    assert remote.embedder("whole") is remote.embedder("whole")
    assert remote.embedder("local") is remote.embedder("default")


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ('base_url = "http://moved:9/v1"', True),
        ('headers = { x-tenant = "b" }', True),
        ('model = "other"', False),
        ("dimensions = 3", False),
        ('extras = { input_type = "passage" }', False),
    ],
)
def test_an_embedder_tells_which_vectors_it_makes(
    tmp_path: Path, change: str, *, same: bool
) -> None:
    """And not where they are made, or ingesting would embed all again for a server that moved."""
    usual = {"provider": '"vllm"', "base_url": '"http://a:1/v1"', "model": '"m"', "dimensions": "2"}
    key, _, value = change.partition(" = ")
    assert (_identity(tmp_path, usual) == _identity(tmp_path, {**usual, key: value})) is same


def _identity(folder: Path, lines: Mapping[str, str]) -> object:
    file = folder / "c.toml"
    dimensions = lines["dimensions"]
    written = "\n".join(f"{key} = {value}" for key, value in lines.items() if key != "dimensions")
    file.write_text(
        f'[models.v]\n{written}\n[embedders.e]\nmodel = "v"\ndimensions = {dimensions}\n'
    )
    with default_bindings(folder, config=file, environ={}) as bindings:
        return bindings.embedder("e").identity  # type: ignore[attr-defined]


GUARDED = """
[models.default]
provider = "vllm"
model = "nobody"
base_url = "http://127.0.0.1:1/v1"
breaker = { calls_min = 2 }

[models.rare]
provider = "vllm"
model = "nobody"
base_url = "http://127.0.0.1:1/v1"
limits = { requests_per_minute = 1, wait_max_s = 0.01 }
breaker = { enabled = false }
"""


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[LocalBindings]:
    file = tmp_path / "c.toml"
    file.write_text(GUARDED)
    with default_bindings(tmp_path, config=file, environ={}) as bindings:
        yield bindings


async def ask(bindings: LocalBindings, name: str) -> None:
    await bindings.model(name).complete(ChatRequest((Message("user", "hello"),)))


def test_all_runs_share_one_breaker(guarded: LocalBindings) -> None:
    """Also runs one after the other, whose clocks begin at random times, and by other names."""
    assert guarded.states() == {}
    for name in ("default", "fast"):
        with pytest.raises(ModelConnectionError):
            trio.run(ask, guarded, name)
    for name in ("default", "smart"):
        with pytest.raises(BreakerOpenError, match="default: the model's breaker is open"):
            trio.run(ask, guarded, name)
    assert isinstance(guarded.states()["default"].breaker, Open)


def test_limits_of_the_file_are_obeyed(tmp_path: Path) -> None:
    """The provider refuses every method: a call that never reached it would be in no limit."""
    file = tmp_path / "c.toml"
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        Thread(target=server.serve_forever).start()
        try:
            file.write_text(GUARDED.replace("127.0.0.1:1/", f"127.0.0.1:{server.server_port}/"))
            with default_bindings(tmp_path, config=file, environ={}) as bindings:
                with pytest.raises(ProviderServerError):
                    trio.run(ask, bindings, "rare")
                with pytest.raises(LimitReachedError, match="rare: refused by our own limit requ"):
                    trio.run(ask, bindings, "rare")
                assert bindings.states() == {"rare": GuardState(None, Load(0, 0))}
        finally:
            server.shutdown()


def test_a_call_that_never_reached_its_provider_is_in_no_limit_of_the_file(
    guarded: LocalBindings,
) -> None:
    for _ in range(2):
        with pytest.raises(ModelConnectionError):
            trio.run(ask, guarded, "rare")
    assert guarded.states() == {"rare": GuardState(None, Load(0, 0))}


QUIET = """
import sys
from pathlib import Path
from orchestra.config import default_bindings
with default_bindings(Path("nowhere"), environ={}) as bindings:
    bindings.names("model"), bindings.model("default"), bindings.embedder("default")
print(*sys.modules)
"""


def test_the_embedded_default_imports_no_provider() -> None:
    """Whoever has configured nothing does not pay for HTTP and for dialects."""
    done = subprocess.run(
        [sys.executable, "-c", QUIET], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    assert "orchestra.config" in loaded
    unwanted = {"httpx", "h11", "numpy", "quart", "orchestra.codecs.openai.dialect"}
    unwanted |= {"orchestra.providers.network", "orchestra.providers.remote"}
    assert loaded & unwanted == set()


@pytest.mark.parametrize(("written", "patient_s"), [("", 5.0), ("timeout_s = 10", 10.0)])
def test_where_nobody_waits_a_state_has_more_time(
    tmp_path: Path, written: str, patient_s: float
) -> None:
    """As in `orchestra batch`; for a longer timeout in the file, nothing changes."""
    found = read(f'[state]\nurl = "sqlite:s.sqlite"\n{written}', tmp_path / "orchestra.toml")
    with LocalBindings(tmp_path, found, {}, patient=True) as bindings:
        assert bindings.state_settings.timeout_s == patient_s
        assert bindings.state.timeout_s == patient_s
    with LocalBindings(tmp_path, found, {}) as bindings:
        assert bindings.state.timeout_s == (10.0 if written else 0.05)


def test_keys_are_in_what_outlives_the_process_and_asking_makes_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bindings_of_files, "KEYS_TIMEOUT_S", 30.0)  # a test machine is busy

    async def main() -> None:
        given = MemoryState()
        with LocalBindings(tmp_path, state=given) as bindings:
            assert bindings.keys is given
        with LocalBindings(tmp_path) as bindings:
            assert bindings.keys is bindings.keys
            assert not await bindings.keys_made()
            assert bindings.keys_at == str(tmp_path / "keys.sqlite")
            assert not any(tmp_path.iterdir())  # noqa: ASYNC240 - a test
            await bindings.keyring.create(NewKey(user="ada", models=("*",)))
        with LocalBindings(tmp_path) as bindings:
            assert await bindings.keys_made()
        shared = read(
            '[state]\nurl = "sqlite:state.sqlite"\ntimeout_s = 10', tmp_path / "orchestra.toml"
        )
        with LocalBindings(tmp_path, shared) as bindings:
            assert bindings.keys_at == str(tmp_path / "state.sqlite")
            assert not await bindings.keys_made()

    trio.run(main)


def test_one_outage_of_a_state_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is open twice, with a longer timeout for keys and runs: these log it themselves."""
    deployment = read('[state]\nurl = "sqlite:missing/no.sqlite"\n', tmp_path / "orchestra.toml")
    (tmp_path / "missing").write_bytes(b"")  # a file, where a folder ought to be

    async def main() -> None:
        with LocalBindings(tmp_path, deployment, {}) as bindings:
            shared = bindings.shared_state
            assert shared is not None
            for pause_s in (LASTS_S, 0):
                for state in (bindings.state, shared):
                    with pytest.raises(StateError):
                        await state.recall("a")
                await trio.sleep(pause_s)

    virtual(main)
    (told,) = caplog.messages
    assert "until it answers, limits let calls pass" in told
