"""Models and embedders of a project's own classes: under all policies, as those of providers."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from orchestra import Stream, open_engine, pipeline
from orchestra.accounts import Caller, Certainty
from orchestra.cli.deployment_checks import missing_for
from orchestra.cli.model_views import as_json, as_text
from orchestra.config import LocalBindings
from orchestra.config.reading import read
from orchestra.errors import (
    BindingError,
    BudgetExceededError,
    CapabilityError,
    ConfigError,
    MalformedStreamError,
    OverloadedError,
)
from orchestra.events import RunFinished
from orchestra.policies.observed import CallEnded
from orchestra.providers.embedding import EmbedderModel
from orchestra.providers.known.addresses import candidate
from orchestra.providers.known.identities import identity_of
from orchestra.steps import embed, generate
from orchestra.testing.contracts import check_embedder, check_model
from orchestra.testing.deployed import deployed as behind_policies
from orchestra.testing.turns import ScriptedTurns
from orchestra.values import Capabilities, ChatRequest, EmbedRequest, Message, Tool, Vector

LOCAL = """
from contextlib import asynccontextmanager

import trio

from orchestra.accounts import Usage
from orchestra.errors import OverloadedError
from orchestra.protocols import Model
from orchestra.values import *

made, closed, asked = [], [], []

class Said:
    def __init__(self, *events):
        self.left = [(each,) for each in reversed(events)]

    async def receive(self):
        await trio.lowlevel.checkpoint()
        return self.left.pop() if self.left else ()

class Echo(Model):
    capabilities = Capabilities(tools=False, context_tokens=8192, embeddings=True)

    def __init__(self, words=("hello",)):
        self.words = words
        made.append(self)

    def close(self):
        closed.append(self)

    @asynccontextmanager
    async def stream(self, request):
        asked.append(request)
        usage = UsageReport(Usage(input_tokens=1000, output_tokens=500))
        texts = [TextDelta(each) for each in self.words]
        yield Said(Began("1", "echo-1"), *texts, Stopped(StopReason.END), usage)

    async def embed(self, request):
        await trio.lowlevel.checkpoint()
        return Embeddings(tuple(Vector.of([3.0, 4.0]) for _ in request.texts))

class Busy(Echo):
    def stream(self, request):
        raise OverloadedError("busy")

class Halves(Echo):
    @asynccontextmanager
    async def stream(self, request):
        tokens = 0.5 if request.messages[0].text == "half" else 1
        usage = UsageReport(Usage(tokens))
        yield Said(TextDelta("hello"), Stopped(StopReason.END), usage)

class Stuck(Echo):
    def close(self):
        super().close()
        raise OSError("it is stuck")

class Letters:
    dimensions = 3
    identity = "letters-2"

    async def embed(self, texts, *, purpose=None):
        await trio.lowlevel.checkpoint()
        return [Vector.of([0.0, 3.0, 4.0]) for _ in texts]

    def close(self):
        closed.append(self)

class Unnamed(Letters):
    identity = ""

class Odd(Echo):
    capabilities = {"tools": True}

class Asks(Echo):
    @property
    def capabilities(self):
        raise ConnectionError("nobody is there")

class Breaks:
    def __init__(self):
        raise OSError("no such weights")

class Exits:
    def __init__(self):
        raise SystemExit("no licence")
"""
FILE = '[models.mine]\nclass = "own_local:Echo"\n'
ASKED = ChatRequest((Message("user", "hi"),), output_tokens_max=500)


@pytest.fixture(autouse=True, scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("project")
    (folder / "own_local.py").write_text(LOCAL)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "path", [*sys.path])
        yield folder
    sys.modules.pop("own_local", None)


@pytest.fixture(autouse=True)
def _anew(project: Path) -> None:
    del project
    sys.modules.pop("own_local", None)


def bindings(text: str = FILE) -> LocalBindings:
    return LocalBindings(Path("data"), read(text, Path("orchestra.toml")), {})


def told(name: str) -> list[object]:
    found: list[object] = getattr(sys.modules["own_local"], name)
    return found


@pipeline
def said(text: str) -> Stream[str]:
    return generate(text, model="mine")


@given(st.lists(st.text("ab ", min_size=1), min_size=1, max_size=4), st.integers(0, 9))
def test_it_says_what_it_says_and_costs_what_the_file_says(words: list[str], dollars: int) -> None:
    """However it is asked, under a name of its own or over a route."""
    options = "[" + ", ".join(f'"{each}"' for each in words) + "]"
    text = (
        f"{FILE}options = {{ words = {options} }}\nprices = {{ input = {dollars}, output = 2 }}\n"
    )
    text += '[routes.way]\nmodels = ["mine"]\n'

    async def main() -> None:
        with bindings(text) as deployed:
            for name in ("mine", "way"):
                answer = await deployed.model(name).complete(ASKED)
                assert answer.text == "".join(words)
                assert answer.usage is not None
                assert answer.usage.certainty is Certainty.EXACT
                assert answer.usage.cost_nanodollars == 1000 * dollars * 1000 + 500 * 2000

    trio.run(main)


def test_it_keeps_its_promises_under_the_policies() -> None:
    text = f'{FILE}[embedders.default]\nclass = "own_local:Letters"\n'

    async def main() -> None:
        with bindings(text) as deployed:
            await check_model(deployed.model("mine"))
            await check_embedder(deployed.embedder("default"))

    trio.run(main)


def test_it_is_made_when_it_is_asked_for_once_for_all_names_and_closed() -> None:
    with bindings(f'{FILE}[routes.way]\nmodels = ["mine"]\n[embedders.by]\nmodel = "mine"\n') as it:
        assert it.names("model") == ["default", "fast", "smart", "mine", "way"]
        assert "own_local" not in sys.modules
        for name in it.names("model"):
            assert it.model(name).capabilities.context_tokens == 8192
        it.embedder("by")
        assert len(told("made")) == 1
        assert told("closed") == []
    assert told("closed") == told("made")


def test_all_are_closed_where_one_cannot_be() -> None:
    text = FILE + FILE.replace("mine", "a").replace("Echo", "Stuck") + FILE.replace("mine", "b")
    deployed = bindings(text)
    for name in ("mine", "a", "b"):
        deployed.model(name)
    with pytest.raises(OSError, match="stuck"):
        deployed.close()
    deployed.close()
    assert len(told("closed")) == 3


def test_what_a_caller_may_spend_holds_for_it() -> None:
    text = f'{FILE}prices = {{ input = 1, output = 2 }}\n[budgets.users.ada]\nday = "0.003"\n'

    async def main() -> None:
        with bindings(text) as deployed:
            async with open_engine(deployed) as engine:
                for user in ("ada", "bob"):
                    run = engine.start(said, {"text": "hi"}, caller=Caller(user=user))
                    assert await run.result() == "hello"
                    end = run.journal.last
                    assert isinstance(end, RunFinished)
                    assert end.usage is not None
                    assert end.usage.cost_nanodollars == 2_000_000
                run = engine.start(said, {"text": "hi"}, caller=Caller(user="ada"))
                with pytest.raises(BudgetExceededError):
                    await run.result()

    trio.run(main)


def test_a_count_that_cannot_be_kept_fails_its_own_run_and_not_those_behind_it(
    tmp_path: Path,
) -> None:
    """What was kept of half a token nobody could read: its caller was refused until a reset."""
    text = (
        f"{FILE.replace('Echo', 'Halves')}prices = {{ input = 1, output = 2 }}\n"
        '[budgets.user]\nday = "1"\n[state]\nurl = "sqlite:state.sqlite"\ntimeout_s = 10\n'
    )

    async def main() -> None:
        deployed = LocalBindings(tmp_path, read(text, Path("orchestra.toml")), {})
        with deployed:
            async with open_engine(deployed) as engine:
                caller = Caller(user="ada")
                with pytest.raises(
                    ValueError, match=r"Usage\(input_tokens=0\.5\): write an integer"
                ):
                    await engine.start(said, {"text": "half"}, caller=caller).result()
                run = engine.start(said, {"text": "hi"}, caller=caller)
                assert await run.result() == "hello"

    trio.run(main)


def test_without_a_price_nobody_knows_it() -> None:
    async def main() -> None:
        with bindings() as deployed:
            answer = await deployed.model("mine").complete(ASKED)
        assert answer.usage is not None
        assert answer.usage.unpriced_calls == 1

    trio.run(main)
    refusing = '[budgets]\nunknown_price = "refuse"\n'
    (problem,) = missing_for(read(FILE + refusing, Path("orchestra.toml")))
    assert problem.startswith("orchestra.toml:1: ")
    assert problem.endswith("[unknown-price]")


def test_equal_questions_are_answered_by_its_cache() -> None:
    async def main() -> None:
        with bindings(f"{FILE}cache = {{ ttl_s = 60 }}\n") as deployed:
            for _ in range(3):
                assert (await deployed.model("mine").complete(ASKED)).text == "hello"
        assert len(told("asked")) == 1

    trio.run(main)


def test_a_route_goes_on_to_the_next_and_its_calls_are_told() -> None:
    text = (
        f'[models.busy]\nclass = "own_local:Busy"\n{FILE}[routes.way]\nmodels = ["busy", "mine"]\n'
    )
    ended: list[CallEnded] = []

    async def main() -> None:
        with bindings(text) as deployed:
            deployed.on_call = ended.append
            assert (await deployed.model("way").complete(ASKED)).text == "hello"

    trio.run(main)
    assert [(each.model, each.provider, each.request_model, each.error) for each in ended] == [
        ("busy", "class", "own_local:Busy", OverloadedError.__name__),
        ("mine", "class", "own_local:Echo", ""),
    ]


def test_it_says_what_it_can_do_unless_the_file_does() -> None:
    text = f'{FILE}capabilities = {{ context_tokens = 9 }}\n[routes.way]\nmodels = ["mine"]\n'
    with_tools = ChatRequest((Message("user", "hi"),), tools=(Tool("look", "", {}),))
    with bindings(text) as deployed:
        for name in ("mine", "way"):
            found = deployed.model(name).capabilities
            assert (found.tools, found.context_tokens) == (False, 9)
        with pytest.raises(CapabilityError):
            trio.run(deployed.model("way").complete, with_tools)


@pipeline
def vector(text: str) -> Vector:
    return embed(text)


@pytest.mark.parametrize(
    ("table", "numbers"),
    [
        ('class = "own_local:Letters"', [0.0, 0.6, 0.8]),
        ('model = "mine"', [0.6, 0.8]),
        ('model = "mine"\ndimensions = 2', [0.6, 0.8]),
    ],
)
def test_an_embedder_is_a_class_or_a_model_that_makes_vectors(
    table: str, numbers: list[float]
) -> None:
    async def main() -> Vector:
        with bindings(f"{FILE}[embedders.default]\n{table}\n") as deployed:
            if "dimensions" in table or "class" in table:
                assert deployed.embedder("default").dimensions == len(numbers)
            async with open_engine(deployed) as engine:
                return await engine.run(vector, text="hi")

    assert [*trio.run(main)] == pytest.approx(numbers)


def test_which_vectors_they_are_it_may_say_itself() -> None:
    def identity(name: str, options: str = "") -> str:
        table = f'[embedders.default]\nclass = "own_local:{name}"\n{options}'
        with bindings(table) as deployed:
            return str(getattr(deployed.embedder("default"), "identity", ""))

    assert identity("Letters") == "letters-2"
    assert identity("Unnamed") == identity("Unnamed")
    assert identity("Unnamed") != identity("Unnamed", "dimensions = 3")


def test_caches_and_routes_tell_two_of_a_class_apart_by_their_options() -> None:
    def of(options: str) -> tuple[str, str]:
        found = read(f"{FILE}options = {options}\n", Path("orchestra.toml")).models["mine"]
        return identity_of(found, {}), candidate("mine", found).vectors

    same, other = of("{ a = 1, b = 2 }"), of("{ a = 1, b = 3 }")
    assert same == of("{ b = 2, a = 1 }")
    assert same[0] != other[0]
    assert same[1] != other[1]


def test_an_embedder_as_a_model_makes_vectors_only() -> None:
    class Short:
        dimensions = 2

        async def embed(self, texts: object, *, purpose: object = None) -> list[Vector]:
            await trio.lowlevel.checkpoint()
            return []

    model = EmbedderModel(Short())
    with pytest.raises(CapabilityError, match="Short makes embeddings and cannot generate text"):
        model.stream(ASKED)
    with pytest.raises(CapabilityError, match="of 2 dimensions, not of 3; leave `dimensions` out"):
        trio.run(model.embed, EmbedRequest(("a",), dimensions=3))
    with pytest.raises(MalformedStreamError, match="the answer has 0 vectors for 1 texts"):
        trio.run(model.embed, EmbedRequest(("a",)))


def test_in_a_simulation_it_can_be_stood_for() -> None:
    found = read(FILE, Path("orchestra.toml"))
    world = behind_policies(found, {"mine": ScriptedTurns.saying("scripted")})
    assert [*world] == ["default", "fast", "smart", "mine"]
    assert [*behind_policies(found, {})] == []
    assert "own_local" not in sys.modules


def test_it_is_listed_with_its_class() -> None:
    found = read(f'{FILE}[embedders.e]\nclass = "own_local:Letters"\n', Path("orchestra.toml"))
    assert "mine              class     own_local:Echo" in as_text(found, {})
    listed = as_json(found, {})
    assert listed["models"][-1]["model"] == "own_local:Echo"
    assert listed["models"][-1]["limits"] is not None
    assert set(listed["models"][-1]["timeouts"].values()) == {None}
    assert listed["embedders"][-1]["dimensions"] is None
    assert "own_local" not in sys.modules


@pytest.mark.parametrize(
    ("table", "told_of_it"),
    [
        ('models.mine]\nclass = "own_locl:Echo"', "model 'mine': own_locl:Echo does not exist"),
        ('models.mine]\nclass = "own_local:Ecko"', "there is no 'Ecko'; did you mean 'Echo'?"),
        ('models.mine]\nclass = "own_local:Breaks"', "cannot be made: OSError: no such weights"),
        ('models.mine]\nclass = "own_local:Exits"', "cannot be made: SystemExit: no licence"),
        ('models.mine]\nclass = "own_local:Letters"', "`stream`; inherit from orchestra.protocols"),
        ('models.mine]\nclass = "own_local:Asks"', "ConnectionError: nobody is there"),
        ('models.mine]\nclass = "own_local:Odd"', "{'tools': True}, not a `Capabilities`"),
        ('embedders.mine]\nclass = "own_local:Echo"', "which has no `dimensions`; write a class"),
    ],
)
def test_what_cannot_be_made_is_told_with_its_line(table: str, told_of_it: str) -> None:
    seam = table.partition("s.")[0]
    with bindings(f"[{table}\n") as deployed, pytest.raises(BindingError) as caught:
        getattr(deployed, seam)("mine")
    assert str(caught.value).startswith(f"orchestra.toml:1: {seam} 'mine': ")
    assert told_of_it in str(caught.value)
    assert [*missing_for(deployed.deployment)] == [f"{caught.value} [{seam}-unfit]"]


@pytest.mark.parametrize(
    ("table", "told_of_it"),
    [
        ('class = "local"', "is not a module, a colon and a class in it"),
        (
            'class = "a:B"\nprovider = "openai"\nmodel = "m"',
            "a provider or a class of your own, not",
        ),
        ('class = "a:B"\nmodel = "m"', "models.mine.model: it is for providers"),
        ('class = "a:B"\ntimeouts = { idle_s = 3 }', "policy=Policy(timeout_s=30)"),
        ('class = "a:B"\nkey_env = "KEY"', "have the class read it from os.environ"),
        ('class = "a:B"\noption = {}', "did you mean 'options'?"),
        ('class = "a:B"\noptions = { api_key = "x" }', "a secret must not stand in this file"),
        ('class = "a:B"\nlimits = { shared = true }', "it has nothing to share"),
        ("limits = { concurrency = 3 }", '; or class = "local:Llama", for a class of your own'),
    ],
)
def test_what_is_wrong_in_the_file_is_told(table: str, told_of_it: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(f"[models.mine]\n{table}\n", Path("orchestra.toml"))
    assert told_of_it in str(caught.value)
    assert len(caught.value.problems) == 1


def test_options_may_have_tables_of_any_name() -> None:
    text = f'{FILE}[models.mine.options.inner]\nprovider = "p"\nclass = "c"\n'
    own = read(text, Path("orchestra.toml")).models["mine"].own
    assert own is not None
    assert own.options == {"inner": {"provider": "p", "class": "c"}}
    with pytest.raises(ConfigError, match=r'write \[models."a.b"\]'):
        read('[models.a.b]\nclass = "x:Y"\n', Path("orchestra.toml"))
    assert Capabilities() == read(FILE, Path("orchestra.toml")).models["mine"].capabilities
