"""`orchestra models` and `ping`: what is configured, and whether it answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread

import pytest
import trio
from trio.testing import MockClock

from orchestra.cli.failures import FAILED, MISUSED
from orchestra.cli.model_views import as_json, as_text
from orchestra.cli.pinging import Target, ping_all
from orchestra.config import LocalBindings
from orchestra.config.deployment.environment import from_environment
from orchestra.config.reading import read
from tests.cli.conftest import Project
from tests.config.variables import configuring, keys

SECRET = "sk-proj-Zq3x9Lw7Tb2Vn8Rk5Yd1Hc6M"


class Provider(ThreadingHTTPServer):
    """A server that speaks OpenAI's dialect: it answers, refuses a wrong key, or says nothing."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answering)
        self.stopped = Event()
        self.asked: list[dict[str, object]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class Answering(BaseHTTPRequestHandler):
    server: Provider
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.asked.append({**asked, "path": self.path})
        if asked["model"] == "silent":
            self.server.stopped.wait()
            return
        if not self.path.startswith("/v1/"):
            self._send(404, {"detail": "Not Found"})
        elif self.headers["authorization"] != f"Bearer {SECRET}":
            said = f"Incorrect API key provided: {self.headers['authorization']}"
            self._send(401, {"error": {"message": said, "code": "invalid_api_key"}})
        elif self.path.endswith("/embeddings"):
            vectors = [{"index": i, "embedding": [0.6, 0.8]} for i in range(len(asked["input"]))]
            self._send(200, {"data": vectors, "usage": {"prompt_tokens": 1, "total_tokens": 1}})
        else:
            message = {"role": "assistant", "content": "hello"}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            self._send(200, {"id": "1", "model": "tiny-2026", "choices": [choice]})

    def _send(self, status: int, body: object) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
        """Nothing."""


@contextmanager
def serving() -> Iterator[Provider]:
    with Provider() as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.stopped.set()
            server.shutdown()
            thread.join()


@pytest.fixture
def provider() -> Iterator[Provider]:
    with serving() as server:
        yield server


@pytest.fixture
def configured(project: Project, provider: Provider, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project with a model that answers, and ways in which others do not."""
    monkeypatch.setenv("GOOD", SECRET)
    monkeypatch.setenv("BAD", "wrong-key-0123456789")
    table = f'provider = "openai-compatible"\nbase_url = "{provider.url}"\n'
    project.write(
        "orchestra.toml",
        f"""
[models.good]
model = "tiny"
key_env = "GOOD"
limits = {{ concurrency = 3 }}
prices = {{ input = 0.25 }}
headers = {{ "X-Team" = "a private word" }}
extras = {{ user = "another private word" }}
{table}
[models.refused]
model = "tiny"
key_env = "BAD"
breaker = {{ enabled = false }}
{table}
[models.keyless]
model = "tiny"
key_env = "MISSING"
{table}
[models.vectors]
model = "text-embedding-3-small"
key_env = "GOOD"
{table}
[embedders.small]
model = "vectors"
dimensions = 2
""",
    )
    return project


def test_what_is_configured_is_listed(configured: Project) -> None:
    code, out, err = configured.orchestra("models")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "configured in orchestra.toml"
    rows = {line.split("  ")[0]: line for line in lines}
    assert "openai-compatible" in rows["good"]
    assert "http://127.0.0.1:" in rows["good"]
    assert "GOOD" in rows["good"]
    assert "MISSING: MISSING" in rows["keyless"]
    assert "8.19k tokens, embeddings" in rows["vectors"]
    assert rows["fast (= good)"]
    assert rows["small"].endswith(" 2")
    assert SECRET not in out


def test_a_program_is_told_everything_but_secrets(configured: Project) -> None:
    code, out, _ = configured.orchestra("models", "--json")
    assert code == 0
    listed = json.loads(out)
    models = {each["name"]: each for each in listed["models"]}
    assert list(models) == ["default", "fast", "smart", "good", "refused", "keyless", "vectors"]
    good = models["good"]
    assert good["key"] == {"needed": True, "present": True, "source": "GOOD"}
    assert good["limits"]["concurrency"] == 3
    assert good["limits"]["wait_max_s"] == 30
    assert good["breaker"]["failure_rate"] == 0.5
    assert good["prices"]["input"] == 0.25
    assert good["prices"]["output"] is good["prices"]["cached_input"] is None
    assert good["headers"] == ["X-Team"]
    assert good["extras"] == ["user"]
    assert good["from"] == "orchestra.toml:2"
    assert models["keyless"]["key"]["present"] is False
    assert models["refused"]["breaker"] is None
    embedders = {each["name"]: each for each in listed["embedders"]}
    assert embedders["default"]["limits"] is embedders["default"]["breaker"] is None
    assert embedders["small"]["dimensions"] == 2
    assert embedders["default"]["dimensions"] == 256
    for private in (SECRET, "wrong-key", "private word"):
        assert private not in out


def test_an_embedder_over_a_route_is_listed_with_it() -> None:
    model = 'provider = "vllm"\nmodel = "m"\nbase_url = "http://a/v1"\n'
    text = (
        f'[models.m]\n{model}[routes.r]\nmodels = ["m"]\n[embedders.e]\nmodel = "r"\ndimensions = 7'
    )
    found = read(text, Path("orchestra.toml"))
    (row,) = (line for line in as_text(found, {}).splitlines() if line.startswith("e "))
    assert row.split("  ")[0] == "e"
    assert row.split()[1:4] == ["a", "route", "r"]
    assert row.endswith(" 7")
    assert [each["route"] for each in as_json(found, {})["embedders"]] == [None, "r"]


def test_no_key_of_the_environment_is_ever_listed() -> None:
    address = f"https://name:{SECRET}@host/v1?key={SECRET}"
    environ = dict.fromkeys(configuring(), address) | dict.fromkeys(keys(), SECRET)
    environ |= {"AWS_REGION": "r", "GOOGLE_CLOUD_PROJECT": "p", "GOOGLE_CLOUD_LOCATION": "l"}
    found = from_environment(environ)
    assert len(found.models) > 10
    assert "OPENAI_BASE_URL is not a valid address of openai: it must not contain" in as_text(
        found, environ
    )
    assert SECRET not in as_text(found, environ)
    assert SECRET not in json.dumps(as_json(found, environ))


def test_without_anything_the_embedded_is_listed(project: Project) -> None:
    code, out, _ = project.orchestra("models")
    assert code == 0
    assert out.startswith("no configuration file\n")
    assert "extractive" in out
    assert "wordllama" in out


def test_each_is_asked_once_and_what_fails_says_why(
    configured: Project, provider: Provider
) -> None:
    code, out, err = configured.orchestra("models", "ping")
    assert (code, err) == (FAILED, "")
    told = {line.split("  ")[0].strip(): line for line in out.splitlines()}
    assert list(told) == [
        "default (= good)",
        "refused",
        "keyless",
        "vectors",
        "default (embedder)",
        "small (embedder)",
    ]
    assert told["default (= good)"].endswith("answered by tiny-2026")
    assert "AuthenticationError: openai-compatible tiny: HTTP 401" in told["refused"]
    assert "BindingError: model 'keyless' (orchestra.toml:" in told["keyless"]
    assert told["vectors"].endswith("a vector of 2 numbers")
    assert told["small (embedder)"].endswith("a vector of 2 numbers")
    assert SECRET not in out
    assert "wrong-key" not in out
    assert len(provider.asked) == 4
    (chat,) = [each for each in provider.asked if each.get("user")]
    assert chat["max_tokens"] == 256
    assert [each.get("dimensions") for each in provider.asked if "input" in each].count(2) == 1


def test_a_wrong_address_is_thought_of(project: Project, provider: Provider) -> None:
    """A server that knows nothing there says only that it is not found, as of a model."""
    address = provider.url.removesuffix("/v1")
    table = '[models.default]\nprovider = "openai-compatible"\nmodel = "tiny"\n'
    project.write("orchestra.toml", f'{table}base_url = "{address}"\n')
    code, out, _ = project.orchestra("models", "ping", "default")
    assert code == FAILED
    assert "HTTP 404: Not Found; is the model's name right, and the address?" in out


def test_only_those_that_are_named_are_asked(configured: Project, provider: Provider) -> None:
    code, out, _ = configured.orchestra("models", "ping", "good", "fast")
    assert code == 0
    assert len(out.splitlines()) == 1
    assert len(provider.asked) == 1
    code, _, err = configured.orchestra("models", "ping", "god")
    assert code == MISUSED
    assert "there is no model, route or embedder 'god'; did you mean 'good'?" in err


def test_no_cache_answers_in_place_of_a_provider(
    project: Project, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOD", SECRET)
    reached = f'base_url = "{provider.url}"\nkey_env = "GOOD"\ncache = {{}}\nprovider = '
    project.write(
        "orchestra.toml",
        f"""
[models.chat]
model = "tiny"
{reached} "openai-compatible"
[models.vectors]
model = "text-embedding-3-small"
{reached} "openai"
[embedders.small]
model = "tiny"
dimensions = 2
{reached} "openai"
[routes.near]
models = ["chat"]
cache = {{}}
[state]
url = "sqlite:state.sqlite"
""",
    )
    names = ("chat", "vectors", "small", "near")
    for asked in (4, 8):
        assert project.orchestra("models", "ping", *names)[0] == 0
        assert len(provider.asked) == asked


def test_ten_silent_ones_five_at_a_time_are_two_waits_long() -> None:
    async def silent(bindings: LocalBindings) -> str:
        await trio.sleep_forever()
        raise AssertionError

    async def main() -> float:
        asked = [Target(f"m{i}", silent) for i in range(10)]
        with LocalBindings() as bindings:
            found = await ping_all(asked, bindings, timeout_s=30, at_once=5)
        assert [each.name for each in found] == [each.name for each in asked]
        assert {each.text for each in found} == {"no answer within 30 s"}
        return trio.current_time()

    clock = MockClock(autojump_threshold=0)
    began_s = clock.current_time()
    assert trio.run(main, clock=clock) - began_s == pytest.approx(60)


def test_a_class_that_fails_in_its_own_way_hides_no_other(project: Project) -> None:
    """What a class of the project's own raises is anything."""
    project.write(
        "local.py",
        """
        from orchestra.protocols import Model
        from orchestra.values import Capabilities

        class Broken(Model):
            capabilities = Capabilities()

            def stream(self, request):
                raise KeyError("weights")
        """,
    )
    config = '[models.a]\nclass = "local:Broken"\n[models.b]\nprovider = "extractive"\n'
    project.write("orchestra.toml", config)
    code, out, err = project.orchestra("models", "ping", "a", "b")
    assert (code, err) == (FAILED, "")
    broken, good = out.splitlines()
    assert broken.split() == ["a", "KeyError:", "'weights'"]
    assert good.startswith("b  ")


def test_who_says_nothing_is_not_waited_for(project: Project, provider: Provider) -> None:
    tables = "".join(
        f'[models.m{i}]\nprovider = "vllm"\nmodel = "silent"\nbase_url = "{provider.url}"\n'
        for i in range(10)
    )
    project.write("other.toml", tables)
    words = ("--config", "other.toml", "--timeout-s", "0.05", "--at-once", "5")
    names = [f"m{i}" for i in range(10)]
    code, out, _ = project.orchestra("models", "ping", *names, *words)
    assert code == FAILED
    assert [line.split()[0] for line in out.splitlines()] == names
    assert out.count("no answer within 0.05 s") == 10


def test_a_wrong_configuration_is_told_by_every_command(say: Project) -> None:
    say.write("orchestra.toml", '[models.default]\nprovider = "opnai"\nmodel = "m"\n')
    problem = 'orchestra.toml:2: models.default.provider: there is no provider "opnai"'
    for words in (
        ["models"],
        ["models", "ping"],
        ["run", "pipelines.say:say", "--text", "hi"],
        ["ingest", ".", "--store", "s"],
        ["serve", "--port", "0"],
    ):
        code, out, err = say.orchestra(*words)
        assert (code, out) == (FAILED, ""), words
        assert problem in err
        assert "did you mean 'openai'?" in err


def test_check_tells_of_the_configuration_too(say: Project) -> None:
    say.write("mine.toml", "[models.default]\nprovidr = 'openai'\n\n[store]\n")
    code, out, err = say.orchestra("check", "--config", "mine.toml")
    assert (code, err) == (FAILED, "")
    assert "mine.toml:2: models.default.providr: there is no such key" in out
    assert "mine.toml:4: store: there is no such table" in out
    assert out.endswith("2 pipelines, 2 problems\n")
    code, out, _ = say.orchestra("check", "--config", "missing.toml")
    assert code == FAILED
    assert out.startswith("missing.toml: there is no such file")


def test_an_address_of_the_environment_that_is_none_is_told(
    say: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once, however many models are there."""
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    monkeypatch.setenv("OPENAI_BASE_URL", "foo")
    problem = (
        "OPENAI_BASE_URL is not a valid address of openai: it must begin with http:// or https://"
    )
    code, out, _ = say.orchestra("check")
    assert code == FAILED
    assert out.count(problem) == 1
    assert say.orchestra("models")[1].count(problem) == 1


@pytest.mark.parametrize(
    ("provider", "lacks", "elsewhere"),
    [
        ("azure", "no address: write resource", "AZURE_OPENAI_ENDPOINT=https://r.openai.azure.com"),
        ("bedrock", "no region: write region", "AWS_DEFAULT_REGION=eu-west-1"),
        ("vertex", "no project: write project", "GOOGLE_CLOUD_PROJECT=p"),
    ],
)
def test_what_a_model_lacks_to_be_reached_is_told_before_it_is_called(
    provider: str, lacks: str, elsewhere: str, say: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a note of `check`, since the environment of another machine may have it, like the key."""
    variable, _, value = elsewhere.partition("=")
    say.write("orchestra.toml", f'\n[models.a]\nprovider = "{provider}"\nmodel = "m"\n')
    told = f"model 'a' (orchestra.toml:2) has {lacks} into the model's table, or set "
    code, _, err = say.orchestra("check")
    assert (code, err.count(told)) == (0, 1)
    assert variable in err
    assert say.orchestra("models")[1].count(told) == 1
    monkeypatch.setenv(variable, value)
    assert told not in say.orchestra("check")[2]
    assert told not in say.orchestra("models")[1]


def test_a_model_of_the_file_answers_a_pipeline(configured: Project) -> None:
    configured.write(
        "ask.py",
        """\
        from orchestra import pipeline
        from orchestra.steps.embed import embed
        from orchestra.values import Vector

        @pipeline
        def ask(text: str) -> Vector:
            return embed(text, model="small")
        """,
    )
    code, out, err = configured.orchestra("run", "ask", "--text", "hi", "--quiet")
    assert (code, err) == (0, ""), err
    assert out


@pytest.fixture
def routed(configured: Project) -> Project:
    file = configured.folder / "orchestra.toml"
    file.write_text(
        file.read_text()
        + """
[routes.safe]
models = ["refused", "good"]
[routes.shared]
models = ["good", "keyless"]
by = "weight"
weights = { good = 3 }
sticky = true
fallback = ["RateLimitError"]
[routes.near]
models = ["vectors"]
fallback = false
"""
    )
    return configured


def test_routes_are_listed(routed: Project) -> None:
    code, out, err = routed.orchestra("models")
    assert (code, err) == (0, "")
    rows = {line.split("  ")[0]: " ".join(line.split()) for line in out.splitlines()}
    assert rows["ROUTE"] == "ROUTE BY MODELS FALLBACK"
    assert rows["safe"] == "safe order refused, good usual"
    assert rows["shared"] == "shared weight, sticky good x3, keyless RateLimitError"
    assert rows["near"] == "near order vectors none"
    listed = json.loads(routed.orchestra("models", "--json")[1])
    shared = next(each for each in listed["routes"] if each["name"] == "shared")
    del shared["from"]
    assert shared == {
        "name": "shared",
        "by": "weight",
        "sticky": True,
        "models": ["good", "keyless"],
        "weights": {"good": 3.0},
        "fallback": ["RateLimitError"],
        "cache": None,
    }


def test_a_route_is_asked_only_by_its_name(routed: Project, provider: Provider) -> None:
    """And then it falls back over real connections: the first of its models is refused."""
    code, out, _ = routed.orchestra("models", "ping", "safe", "near")
    assert code == 0
    safe, near = out.splitlines()
    assert safe.startswith("safe (route)")
    assert safe.endswith("answered by tiny-2026")
    assert near.endswith("a vector of 2 numbers")
    assert [each["path"] for each in provider.asked].count("/v1/chat/completions") == 2
    assert "(route)" not in routed.orchestra("models", "ping")[1]


def test_check_knows_routes_by_their_names(routed: Project) -> None:
    routed.write(
        "ask.py",
        """\
        from orchestra import Stream, pipeline
        from orchestra.steps.generate import generate

        @pipeline
        def right(text: str) -> Stream[str]:
            return generate(text, model="safe")

        @pipeline
        def wrong(text: str) -> Stream[str]:
            return generate(text, model="saf")
        """,
    )
    code, out, _ = routed.orchestra("check", "ask:right")
    assert code == 0, out
    code, out, _ = routed.orchestra("check", "ask:wrong")
    assert code == FAILED
    assert "safe" in out
