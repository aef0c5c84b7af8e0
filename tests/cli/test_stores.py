"""`orchestra stores`: what there is, and how one goes; and `ingest` says when it makes another."""

from __future__ import annotations

import json

import pytest

from orchestra.cli.failures import FAILED
from orchestra.cli.ingest import NAMED_MAX, note_if_new
from tests.cli.conftest import Project

IN = ("--data", "d")


@pytest.fixture
def filled(project: Project) -> Project:
    """A project with two stores."""
    project.write("texts/a.md", "# Apples\n\nApples are red.\n\n# Pears\n\nPears are green.\n")
    project.write("texts/b.txt", "Bees make honey, and live in a hive.\n")
    project.write("empty/none.png", "")
    for folder, store in (("texts", "articles"), ("empty", "nothing")):
        assert project.orchestra("ingest", folder, "--store", store, *IN)[0] == 0
    return project


def test_all_stores_are_listed_with_what_they_hold(filled: Project) -> None:
    code, out, _ = filled.orchestra("stores", "list", *IN)
    assert code == 0
    assert [line.split() for line in out.splitlines()] == [
        ["STORE", "DOCUMENTS", "PASSAGES", "DIMENSIONS"],
        ["articles", "2", "3", "256"],
        ["nothing", "0", "0", "-"],
    ]
    assert json.loads(filled.orchestra("stores", "list", "--json", *IN)[1]) == [
        {"name": "articles", "passages": 3, "sources": 2, "dimensions": 256},
        {"name": "nothing", "passages": 0, "sources": 0, "dimensions": None},
    ]


def test_without_stores_the_list_says_how_to_make_one(project: Project) -> None:
    code, out, err = project.orchestra("stores", "list", *IN)
    assert (code, out) == (0, "")
    assert "there are no stores in d/" in err
    assert "orchestra ingest FOLDER --store NAME" in err
    assert not (project.folder / "d").exists()


def test_a_deleted_store_is_gone_and_no_pipeline_may_name_it(filled: Project) -> None:
    filled.write(
        "asks.py",
        """
        from orchestra import pipeline
        from orchestra.steps import embed, retrieve
        from orchestra.values import Passage

        @pipeline
        def asks(question: str) -> list[Passage]:
            return retrieve(embed(question), store="articles")
        """,
    )
    assert filled.orchestra("check", "asks.py", *IN)[0] == 0
    code, out, _ = filled.orchestra("stores", "delete", "articles", *IN)
    assert (code, out) == (0, "d/store.sqlite: deleted articles, with 3 passages\n")
    assert "articles" not in filled.orchestra("stores", "list", *IN)[1]
    code, out, _ = filled.orchestra("check", "asks.py", *IN)
    assert code == FAILED
    assert "'articles'" in out


def test_a_store_that_is_not_there_is_not_deleted(filled: Project) -> None:
    code, _, err = filled.orchestra("stores", "delete", "article", *IN)
    assert code == FAILED
    assert "there is no store in d/store.sqlite named 'article' (known: 'articles', 'noth" in err
    assert "did you mean 'articles'?" in err
    assert "articles" in filled.orchestra("stores", "list", *IN)[1]


def test_a_store_of_an_own_class_is_listed_and_not_deleted(filled: Project) -> None:
    filled.write("own.py", "from orchestra.stores.memory import MemoryStore as Mine\n")
    filled.write("orchestra.toml", '[stores]\ndata = "d"\n[stores.mine]\nclass = "own:Mine"\n')
    listed = filled.orchestra("stores", "list")[1].splitlines()
    assert [line.split() for line in listed[1:3]] == [
        ["mine", "0", "0", "-"],
        ["articles", "2", "3", "256"],
    ]
    code, _, err = filled.orchestra("stores", "delete", "mine")
    assert code == FAILED
    assert "store 'mine' is of the class own:Mine, which alone can remove what it holds" in err


def test_a_misspelt_store_is_said_to_be_new_before_anything_is_embedded(filled: Project) -> None:
    """Else all texts are embedded again, which may cost money, and nothing tells."""
    words = ("ingest", "texts", *IN, "--store")
    told = (
        "store 'article' is new (others: 'articles', 'nothing'); did you mean 'articles'? Then "
        "stop this, and run `orchestra stores delete article`"
    )
    assert told in filled.orchestra(*words, "article")[2].splitlines()
    assert "is new" not in filled.orchestra(*words, "article")[2], "now it is there"
    assert "is new" not in filled.orchestra("ingest", "texts", "--data", "e", "--store", "a")[2]


def test_a_store_of_an_own_class_is_filled_whatever_is_wrong_with_the_others(
    project: Project,
) -> None:
    project.write("own.py", "from orchestra.stores.memory import MemoryStore as Mine\n")
    project.write("orchestra.toml", '[stores]\ndata = "d"\n[stores.mine]\nclass = "own:Mine"\n')
    project.write("texts/a.md", "# Apples\n\nApples are red.\n")
    project.write("d/store.sqlite", "not a file of stores\n" * 99)
    code, out, _ = project.orchestra("ingest", "texts", "--store", "mine")
    assert (code, "1 added" in out) == (0, True)
    assert project.orchestra("ingest", "texts", "--store", "other")[0] == FAILED


def test_of_many_stores_some_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    note_if_new("new", [str(number) for number in range(NAMED_MAX + 1)])
    assert capsys.readouterr().err.endswith("'8', '9', ...)\n")
