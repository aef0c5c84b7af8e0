"""`orchestra check` and `orchestra draw`: what they print, and how they end."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

from orchestra.cli.failures import FAILED, MISUSED
from orchestra.cli.loading import AnyPipeline, load
from orchestra.compiler import draw
from orchestra.observe import counting
from orchestra.providers import wordllama
from orchestra.steps.texts import pdf
from orchestra.stores.state import settings as state_settings
from tests.cli.conftest import SAY, Project

BAD = """\
    from orchestra import Stream, pipeline
    from orchestra.steps.embed import embed
    from orchestra.steps.generate import generate
    from orchestra.steps.retrieve import retrieve
    from orchestra.values import Passage


    @pipeline
    def first(text: str, unused: int = 0) -> Stream[str]:
        return generate(text, model="smrt")


    @pipeline
    def second(text: str) -> list[Passage]:
        return retrieve(embed(text), store="docs")
"""


def test_pipelines_without_problems_pass(say: Project) -> None:
    assert say.orchestra("check") == (0, "2 pipelines, no problems\n", "")
    assert say.orchestra("check", "pipelines.say:count") == (0, "1 pipeline, no problems\n", "")


def test_every_problem_of_every_pipeline_is_told(say: Project) -> None:
    """Also of those behind a module that cannot even be imported."""
    say.write("pipelines/a.py", "1 / 0\n")
    say.write("pipelines/helpers.py", "x = 'a module may have no pipeline at all'\n")
    say.write("pipelines/bad.py", BAD)
    code, out, err = say.orchestra("check")
    assert (code, err) == (FAILED, "")
    assert out.endswith("\n4 pipelines, 4 problems\n")
    places = ("pipelines/a.py cannot", "bad.py:9: ", "bad.py:10: ", "bad.py:15: ")
    found = [out.index(place) for place in places]
    assert found == sorted(found)
    assert "at pipelines/a.py:1    1 / 0" in out
    assert "did you mean 'smart'?" in out
    assert "orchestra ingest FOLDER --store docs" in out


CALLED = """

    @pipeline
    def outer(text: str) -> list[Passage]:
        return second(text)
"""


def test_a_problem_of_a_pipeline_that_others_call_is_reported_once(say: Project) -> None:
    say.write("pipelines/bad.py", BAD + CALLED)
    code, out, _ = say.orchestra("check", "pipelines.bad:second", "pipelines.bad:outer")
    assert code == FAILED
    assert out.count("bad.py:15: ") == 1
    assert out.endswith("\n2 pipelines, 1 problem\n")


NAMED = """\
    from orchestra import Stream, pipeline
    from orchestra.steps.generate import generate


    @pipeline
    def default(question: str) -> Stream[str]:
        return generate(question)
"""


def test_two_pipelines_of_one_name_are_a_problem_as_they_cannot_be_served(say: Project) -> None:
    say.write("pipelines/tell.py", SAY)
    code, out, _ = say.orchestra("check")
    assert code == FAILED
    assert out.startswith("two pipelines are named 'say', at pipelines/say.py:")
    assert "and pipelines/tell.py:" in out
    assert out.endswith("4 pipelines, 2 problems\n")


def test_a_pipeline_named_like_a_model_is_told_of(say: Project) -> None:
    say.write("pipelines/default.py", NAMED)
    code, _, err = say.orchestra("check", "pipelines.default")
    assert code == 0
    assert err.startswith("pipelines/default.py:6: pipeline 'default' is not offered as a model")
    assert "a model has that name" in err


def test_names_are_those_of_the_data_folder(project: Project) -> None:
    project.write("bad.py", BAD)
    project.write("texts/a.md", "# Title\n\nSome words to be found.\n")
    assert project.orchestra("ingest", "texts", "--store", "docs", "--data", "d")[0] == 0
    assert project.orchestra("check", "bad:second", "--data", "d")[0] == 0
    assert project.orchestra("check", "bad:second")[0] == FAILED


def test_a_package_that_the_deployment_needs_is_missed(
    say: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    say.write("orchestra.toml", '[state]\nurl = "redis://127.0.0.1/0"\n')
    assert say.orchestra("check")[0] == 0
    monkeypatch.setattr(state_settings, "find_spec", lambda _: None)
    code, out, _ = say.orchestra("check")
    assert code == FAILED
    assert out.startswith("orchestra.toml:2: state.url: redis://127.0.0.1/0 needs coredis")
    assert "pip install 'orchestra[redis]'" in out


def test_metrics_that_are_asked_for_and_cannot_be_told_are_missed(
    say: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody who says nothing of them misses them."""
    say.write("orchestra.toml", "[server]\nmetrics = true\n")
    assert say.orchestra("check")[0] == 0
    monkeypatch.setattr(counting, "find_spec", lambda _: None)
    for said in ("", "[server]\nmetrics = false\n"):
        say.write("orchestra.toml", said)
        assert say.orchestra("check")[0] == 0
    say.write("orchestra.toml", "[server]\nmetrics = true\n")
    code, out, _ = say.orchestra("check")
    assert code == FAILED
    assert out.startswith("orchestra.toml:2: server.metrics: /metrics needs prometheus-client, wh")
    assert "pip install 'orchestra[metrics]' [not-installed]" in out


def test_what_is_said_of_a_pipeline_that_is_not_there_is_told(say: Project) -> None:
    say.write(
        "orchestra.toml", '[server.pipelines.say]\n[server.pipelines.sya]\ndisconnect = "linger"\n'
    )
    code, out, _ = say.orchestra("check")
    assert code == FAILED
    assert out == (
        "orchestra.toml:2: server.pipelines.sya: there is no pipeline 'sya' [unknown-name]\n"
        "    fix: did you mean 'say'?\n"
        "2 pipelines, 1 problem\n"
    )
    assert say.orchestra("check", "pipelines.say")[0] == 0, "others may be served elsewhere"
    say.write("pipelines/broken.py", "nonsense")
    assert "'sya'" not in say.orchestra("check")[1], "it may be there"


READS = """\
    from orchestra import pipeline
    from orchestra.documents import Document
    from orchestra.steps.embed import embed
    from orchestra.steps.generate import generate
    from orchestra.steps.read import text_of
    from orchestra.values import Vector


    @pipeline
    def meaning(document: Document) -> Vector:
        return embed(
            text_of(document)
        )


    @pipeline
    def answer(text: str) -> str:
        return collect(generate(text, model="smart"))


    @pipeline
    def ask(text: str, model: str) -> str:
        return collect(generate(text, model=model))
"""


def test_of_packages_each_step_misses_its_own(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write(
        "pipelines/reads.py", READS.replace("import pipeline", "import collect, pipeline")
    )
    assert project.orchestra("check")[0] == 0
    monkeypatch.setattr(pdf, "find_spec", lambda _: None)
    code, out, err = project.orchestra("check")
    assert "reads.py:12: text_of: it is given documents, which may be PDFs, and pypdf" in err
    assert "pip install 'orchestra[documents]'" in err
    assert (code, out) == (0, "3 pipelines, no problems\n"), "it is given text, perhaps"
    monkeypatch.setattr(wordllama, "find_spec", lambda _: None)
    code, out, _ = project.orchestra("check", "--explain")
    assert code == FAILED
    says = "the built-in model and embedder need the package wordllama, which is not installed"
    assert f"reads.py:11: embed: {says}; run `pip install 'orchestra[local]'`, or configure" in out
    assert f"reads.py:18: generate: {says}" in out, "the model that quotes"
    code, out, err = project.orchestra("run", "pipelines.reads:answer", "--text", "What is a run?")
    assert (code, out) == (FAILED, "")
    assert f"BindingError: {says}" in err, "as the check said, though there is nothing to quote"
    remote = '[models.m]\nprovider = "openai"\nmodel = "m"\n[routes.smart]\nmodels = ["m"]\n'
    project.write("orchestra.toml", remote)
    assert project.orchestra("check")[1].count("wordllama, which is not installed") == 1


PRICED = """\
    [budgets]
    unknown_price = "refuse"

    [models.known]
    provider = "openai"
    model = "m-of-mine"
    prices = { input = 1, output = 2 }

    [models.unknown]
    provider = "openai"
    model = "m-of-mine"
"""


def test_a_model_that_would_be_refused_for_its_price_is_told(say: Project) -> None:
    say.write("orchestra.toml", PRICED)
    code, out, _ = say.orchestra("check")
    assert code == FAILED
    assert out.startswith("orchestra.toml:9: unknown: its price is unknown")
    assert out.endswith("1 problem\n")
    say.write("orchestra.toml", PRICED.replace("refuse", "flag"))
    assert say.orchestra("check")[0] == 0


SHELF = """\
    class Shelf:
        async def search(self, vector, *, top, where=None):
            return []


    class Worded(Shelf):
        async def search_keywords(self, query, *, top, where=None):
            return []
"""
WORDED = """\
    from orchestra import pipeline
    from orchestra.steps import embed, retrieve
    from orchestra.values import Passage


    @pipeline
    def near(text: str) -> list[Passage]:
        return retrieve(embed(text), store="mine")


    @pipeline
    def worded(text: str) -> list[Passage]:
        return retrieve(embed(text), store="mine", keywords=text)
"""


def test_a_store_of_an_own_class_that_has_no_words_is_told_where_they_are_asked_for(
    project: Project,
) -> None:
    project.write("shelves.py", SHELF)
    project.write("pipelines/search.py", WORDED)
    project.write("orchestra.toml", '[stores.mine]\nclass = "shelves:Worded"\n')
    assert project.orchestra("check")[:2] == (0, "2 pipelines, no problems\n")
    project.write("orchestra.toml", '[stores.mine]\nclass = "shelves:Shelf"\n')
    code, out, _ = project.orchestra("check")
    assert code == FAILED
    assert out.startswith("pipelines/search.py:13: retrieve: the store 'mine', a Shelf, has no ")
    assert out.endswith("[store-unfit]\n2 pipelines, 1 problem\n")


NAMED_OWNERS = """\
    [limits.users.ada]
    runs = 2

    [budgets.organisations.acmee]
    month = 100
    [budgets.organisations.acme]
    month = 100
"""


def test_an_organisation_or_user_that_no_key_belongs_to_is_a_note(say: Project) -> None:
    """Not an error: its first key may be made later, and so may the first key of all."""
    say.write("orchestra.toml", NAMED_OWNERS)
    nothing_wrong = (0, "2 pipelines, no problems\n", "")
    assert say.orchestra("check") == nothing_wrong
    assert not (say.folder / ".orchestra").exists(), "it only looks"
    key = ("keys", "create", "--pipelines", "*", "--organisation")
    assert say.orchestra(*key, "acme", "--user", "eve")[0] == 0
    code, out, err = say.orchestra("check")
    assert (code, out) == nothing_wrong[:2]
    assert err == (
        "orchestra.toml:1: limits.users.ada: no key belongs to user 'ada'; `orchestra keys list` "
        "shows the owners of keys\n"
        "orchestra.toml:4: budgets.organisations.acmee: no key belongs to organisation 'acmee'; "
        "did you mean 'acme'?\n"
    )
    assert say.orchestra(*key, "acmee", "--end-users")[0] == 0, "its requests may name any user"
    assert say.orchestra("check") == nothing_wrong


@pytest.mark.parametrize("url", ["sqlite:state.sqlite", "redis://127.0.0.1:1/0"])
def test_keys_that_cannot_be_read_are_nobodys_mistake(say: Project, url: str) -> None:
    say.write("orchestra.toml", f'[state]\nurl = "{url}"\n{dedent(NAMED_OWNERS)}')
    assert say.orchestra("check") == (0, "2 pipelines, no problems\n", "")
    assert not [*say.folder.glob(".orchestra/*")]


ROUTED = """\
    [models.first]
    provider = "openai"
    model = "m"

    [models.second]
    provider = "openai"
    model = "n"

    [routes.smart]
    models = ["first", "second"]
"""
IMPATIENT = """\
    from orchestra import Policy, Stream, pipeline
    from orchestra.steps.generate import generate


    @pipeline
    def asked(question: str) -> Stream[str]:
        return generate(question, model="smart", policy=Policy(first_chunk_s=3))
"""


def test_a_step_that_ends_before_a_stalled_model_of_its_route_is_left_is_told_of(
    project: Project,
) -> None:
    project.write("pipelines/asked.py", IMPATIENT)
    project.write("orchestra.toml", ROUTED)
    code, out, err = project.orchestra("check")
    assert (code, out) == (0, "1 pipeline, no problems\n")
    assert err == (
        "pipelines/asked.py:7: generate: first_chunk_s=3 bounds all models of route 'smart' "
        "together: if 'first' stalls, the step fails before the next model is called; write "
        "timeouts = { first_byte_s = 1.5 } in [models.first], or any number below 3\n"
    )
    project.write("orchestra.toml", f'{dedent(ROUTED)}by = "weight"\n')
    err = project.orchestra("check")[2]
    assert "if 'first' or 'second' stalls" in err, "either may be asked first"
    assert err.endswith("any number below 3, and so for the others\n")


@pytest.mark.parametrize(
    ("written", "instead"),
    [
        ('model = "m"', 'model = "m"\n    timeouts = { first_byte_s = 2.9 }'),
        ('models = ["first", "second"]', 'models = ["first"]\n    by = "weight"'),
        ('"second"]', '"second"]\n    fallback = false'),
        ("first_chunk_s=3", "first_chunk_s=61"),
        ("first_chunk_s=3", "timeout_s=3"),
        ('provider = "openai"\n    model = "m"', 'provider = "extractive"'),
    ],
)
def test_no_other_step_is(project: Project, written: str, instead: str) -> None:
    assert written in ROUTED + IMPATIENT, "or nothing is tried"
    project.write("pipelines/asked.py", IMPATIENT.replace(written, instead))
    project.write("orchestra.toml", ROUTED.replace(written, instead))
    assert project.orchestra("check") == (0, "1 pipeline, no problems\n", "")


def test_explain_prints_what_streams(say: Project) -> None:
    code, out, _ = say.orchestra("check", "pipelines.say:say", "--explain")
    assert code == 0
    assert out.startswith("say: the output streams, chunks of str\n")
    assert "\n  streams  words" in out


def test_a_module_that_is_named_must_have_a_pipeline(say: Project) -> None:
    say.write("pipelines/helpers.py", "")
    code, out, _ = say.orchestra("check", "pipelines.helpers", "pipelines.say")
    assert code == FAILED
    assert out.startswith("pipelines.helpers has no pipeline")


def test_nothing_to_check_is_a_mistake(project: Project) -> None:
    code, out, err = project.orchestra("check")
    assert (code, out) == (MISUSED, "")
    assert "name one" in err


@pytest.mark.parametrize(
    ("form", "drawn"), [([], draw.as_text), (["--format", "mermaid"], draw.as_mermaid)]
)
def test_a_graph_is_drawn_for_people(
    say: Project, form: list[str], drawn: Callable[[AnyPipeline], str]
) -> None:
    code, out, err = say.orchestra("draw", "pipelines.say:say", *form)
    assert (code, err) == (0, "")
    assert out == drawn(load("pipelines.say:say")) + "\n"


def test_a_graph_is_drawn_for_programs(say: Project) -> None:
    code, out, err = say.orchestra("draw", "pipelines.say:say", "--format", "json")
    assert (code, err) == (0, "")
    assert json.loads(out)["name"] == "say"


MISSPELT = """\
    [models.default]
    provider = "opnai"

    [sever]
    runs_max = 5
"""
LOUD = """\
    from orchestra import collect, pipeline, step
    from orchestra.steps import generate


    @step
    def shout(text: str) -> str:
        return text.upper()


    @pipeline
    def loud(question: str) -> str:
        return shout(collect(generate(question)))
"""


@pytest.mark.parametrize(
    ("path", "text", "words"),
    [
        ("orchestra.toml", MISSPELT, ["check"]),
        ("pipelines/loud.py", LOUD, ["check", "--explain"]),
    ],
)
def test_what_the_docs_show_is_what_is_printed(
    project: Project, path: str, text: str, words: list[str]
) -> None:
    page = (Path(__file__).parents[2] / "docs/troubleshooting.md").read_text("utf-8")
    project.write(path, text)
    _, out, _ = project.orchestra(*words)
    assert f"```\n$ orchestra {' '.join(words)}\n{out}```" in page
