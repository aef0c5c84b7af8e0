"""Pipelines, from what was typed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from orchestra.cli.failures import FAILED, MISUSED, CommandError
from orchestra.cli.loading import chosen, extra, load, load_all
from tests.cli.conftest import Project


def refused(target: str) -> tuple[str, int]:
    with pytest.raises(CommandError) as caught:
        load(target)
    return str(caught.value), caught.value.code


def test_a_module_and_its_file_are_the_same(say: Project) -> None:
    spellings = ["pipelines.say:say", "pipelines/say.py:say", "./pipelines/say.py:say"]
    spellings.append(f"{say.folder / 'pipelines' / 'say.py'}:say")
    assert len({id(load(each)) for each in spellings}) == 1


def test_all_pipelines_of_a_module_are_in_the_order_of_the_source(say: Project) -> None:
    assert [each.name for each in load_all("pipelines.say")] == ["say", "count"]
    assert [each.name for each in load_all("pipelines.say:count")] == ["count"]


def test_a_pipeline_of_two_names_is_one(say: Project) -> None:
    (say.folder / "one.py").write_text(
        "from orchestra import pipeline, step\n"
        "@step\ndef f(x: int) -> int:\n    return x\n"
        "@pipeline\ndef one(x: int) -> int:\n    return f(x)\n"
        "also = one\n"
    )
    assert load("one").name == "one"


def test_one_has_to_be_named_where_there_are_several(say: Project) -> None:
    message, code = refused("pipelines.say")
    assert message.endswith("name one:\npipelines.say:say\npipelines.say:count")
    assert code == MISUSED


def test_the_only_pipeline_needs_no_name(say: Project) -> None:
    """Those that it imports do not count, but may be named."""
    say.write(
        "pipelines/loud.py",
        """\
        from orchestra import Stream, pipeline
        from pipelines.say import say

        @pipeline
        def loud(text: str) -> Stream[str]:
            return say(text, 2)
        """,
    )
    assert load("pipelines/loud.py").name == "loud"
    assert load("pipelines/loud.py:say").name == "say"


@pytest.mark.parametrize(
    ("target", "meant"),
    [
        ("pipelines.sya", "pipelines.say"),
        ("say", "pipelines.say"),
        ("pipelines/sya.py", "pipelines/say.py"),
        ("pipelines.say:sya", "say"),
        ("shout_loudly", "pipelines.other:shout_loudly"),
        ("others", "pipelines.other:others"),  # not the module, whose name is near
    ],
)
def test_a_wrong_name_is_answered_with_the_right_one(say: Project, target: str, meant: str) -> None:
    text = "@pipeline\ndef shout_loudly(a: str) -> str: ...\n\n@pipeline\ndef others(a: str): ..."
    Path("pipelines", "other.py").write_text(f"from orchestra import pipeline\n{text}", "utf-8")
    message, code = refused(target)
    assert message.endswith(f"; did you mean {meant!r}?")
    assert code == MISUSED


@pytest.mark.parametrize("target", ["", ".", "..", ".say", "a b", "/", "xyz.py", "pipelines/", ":"])
def test_nonsense_names_no_module(say: Project, target: str) -> None:
    message, code = refused(target)
    assert message.startswith("there is no ")
    assert code == MISUSED


@pytest.mark.parametrize("beside", [".#say.py", "say.old.py", "pipelines/gone.py"])
def test_a_file_that_is_no_module_or_cannot_be_read_is_not_what_is_told(
    say: Project, beside: str
) -> None:
    """Such as the lock that Emacs keeps beside a file: a link that leads nowhere."""
    Path(beside).symlink_to("nowhere")
    assert refused("shout_loudly")[0] == (
        "there is no module 'shout_loudly' here or in the environment"
    )


@pytest.mark.parametrize("target", ["pipelines/xyz.py", "pipelines.xyz", "pipelines.say:xyz"])
def test_a_name_that_is_near_to_none_is_not_guessed_at(say: Project, target: str) -> None:
    assert "did you mean" not in refused(target)[0]


def test_a_pipeline_that_is_not_there_shows_which_are(say: Project) -> None:
    assert refused("pipelines.say:x")[0] == "pipelines.say has no pipeline 'x'; it has: say, count"


DECORATED = """
from functools import wraps
from orchestra import pipeline, step
def timed(function):
    @wraps(function)
    def inner(*args): return function(*args)
    return inner
@step
def loud(text: str) -> str: return text.upper()
@timed
@pipeline
def shouted(text: str) -> str: return loud(text)
@pipeline
def other(text: str) -> str: return loud(text)
"""


@pytest.mark.parametrize("needed", [True, False])
def test_a_pipeline_below_another_decorator_is_not_passed_over(
    project: Project, *, needed: bool
) -> None:
    project.write("decorated.py", DECORATED)
    with pytest.raises(CommandError, match="has made a plain function of pipeline 'shouted', at d"):
        load_all("decorated", needed=needed)
    project.write("kept.py", f"{DECORATED}\nkept, made = other, timed(other)\ndel shouted\n")
    assert [each.name for each in load_all("kept")] == ["other"]


def test_a_module_without_pipelines_says_how_to_make_one(project: Project) -> None:
    project.write("empty.py", "x = 1\n")
    assert refused("empty")[0] == "empty has no pipeline; decorate a function with @pipeline"
    assert refused("empty:x")[0] == "empty has no pipeline 'x'; it has: none"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("import nowhere_at_all\n", "No module named 'nowhere_at_all'\nat bad.py:1    import"),
        ("x = = 1\n", "SyntaxError: invalid syntax\nat bad.py:1    x = = 1"),
        ("\n1 / 0\n", "ZeroDivisionError: division by zero\nat bad.py:2    1 / 0"),
        ("import sys\nsys.exit(3)\n", "SystemExit: 3\nat bad.py:2    sys.exit(3)"),
    ],
)
def test_a_module_that_cannot_be_imported_shows_its_line(
    project: Project, text: str, complaint: str
) -> None:
    project.write("bad.py", text)
    for target in ("bad", "bad.py"):
        message, code = refused(target)
        assert message.startswith(f"{target} cannot be imported: ")
        assert complaint in message
        assert code == FAILED


def test_a_definition_error_speaks_for_itself(project: Project) -> None:
    project.write(
        "bad.py",
        """\
        from orchestra import pipeline

        @pipeline
        def p(text: str) -> str:
            if text:
                return text
            return "x"
        """,
    )
    message, code = refused("bad")
    assert message.startswith("bad.py:5")
    assert "route" in message
    assert code == FAILED


def test_a_file_from_elsewhere_is_imported_once(project: Project, tmp_path: Path) -> None:
    """And can import its neighbours, as a script can."""
    elsewhere = tmp_path / "some-where"
    elsewhere.mkdir()
    (elsewhere / "neighbour.py").write_text("TIMES = 2\n")
    (elsewhere / "other.py").write_text(
        "from neighbour import TIMES\nfrom orchestra import pipeline, step\n"
        "@step\ndef double(x: int) -> int:\n    return TIMES * x\n"
        "@pipeline\ndef p(x: int) -> int:\n    return double(x)\n"
    )
    first = load(str(elsewhere / "other.py"))
    assert load("../some-where/other.py:p") is first


def test_a_file_that_failed_is_not_left_half_imported(project: Project, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("1 / 0\n")
    for _ in range(2):
        assert "ZeroDivisionError" in refused("../broken.py")[0]
    assert "broken" not in sys.modules


def test_a_file_that_is_no_python_is_refused(project: Project, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    assert refused("../notes.txt")[0].endswith("is not a Python file; its name must end in .py")


def test_the_file_of_a_folder_that_no_import_can_name_is_found(project: Project) -> None:
    project.write(
        "my-pipelines/p.py",
        """\
        from orchestra import pipeline, step

        @step
        def same(x: int) -> int:
            return x

        @pipeline
        def p(x: int) -> int:
            return same(x)
        """,
    )
    assert load("my-pipelines/p.py").name == "p"


def test_all_modules_of_the_folder_are_chosen_where_none_is_named(say: Project) -> None:
    say.write("pipelines/deeper/b.py", "")
    say.write("pipelines/_private.py", "")
    say.write("pipelines/notes.txt", "")
    say.write("pipelines/.ipynb_checkpoints/say-checkpoint.py", "")
    (say.folder / "pipelines" / ".#say.py").symlink_to("ada@laptop.1234")  # Emacs, while one edits
    assert chosen([]) == ("pipelines/deeper/b.py", "pipelines/say.py")
    assert chosen(["x"]) == ("x",)


def test_a_folder_that_is_named_is_every_module_in_it(say: Project) -> None:
    say.write("my-own/b.py", "")
    say.write("my-own/a/c.py", "")
    say.write("package/__init__.py", "")
    assert chosen(["my-own", "package", "x"]) == ("my-own/a/c.py", "my-own/b.py", "package", "x")
    assert chosen(["pipelines/"]) == ("pipelines/say.py",)
    (say.folder / "empty").mkdir()
    assert chosen(["empty", "..", "."]) == ("empty", "..", ".")


def test_a_module_goes_before_a_folder_of_its_name(say: Project) -> None:
    say.write("beside.py", "x = 1\n")
    say.write("beside/a.py", "x = 1\n")
    say.write("attrs/a.py", "x = 1\n")
    assert chosen(["beside", "attrs", "beside/"]) == ("beside", "attrs", "beside/a.py")
    assert refused("beside")[0] == "beside has no pipeline; decorate a function with @pipeline"


def test_the_modules_of_a_folder_need_no_pipelines(say: Project) -> None:
    say.write("pipelines/helper.py", "")
    assert say.orchestra("check", "pipelines")[:2] == (0, "2 pipelines, no problems\n")


def test_a_folder_is_not_one_pipeline(say: Project) -> None:
    (say.folder / "empty").mkdir()
    told = "there is no file 'pipelines': it is a folder; name a module in it"
    assert refused("pipelines") == (f"{told}, such as 'pipelines/say.py'", MISUSED)
    assert refused("empty")[0].endswith("name a module in it, and there is none yet")


@pytest.mark.parametrize("target", ["json.py", "json", "my-own/json.py", "sys.py", "sys"])
def test_a_file_that_is_named_like_a_module_of_pythons_is_not_mixed_up(
    project: Project, target: str
) -> None:
    project.write("json.py", "x = 1\n")
    project.write("my-own/json.py", "x = 1\n")
    project.write("sys.py", "x = 1\n")
    message, code = refused(target)
    assert "is a module of Python's own; give the file another name" in message
    assert code == MISUSED
    assert hasattr(sys.modules["json"], "loads")


def test_a_file_that_is_named_like_another_module_is_not_mixed_up(project: Project) -> None:
    project.write("attrs.py", "x = 1\n")
    told = "attrs.py cannot be imported: 'attrs' is another module, "
    assert refused("attrs.py")[0].startswith(told)


def test_no_modules_at_all_is_an_error(project: Project) -> None:
    with pytest.raises(CommandError, match=r"there are no modules in .*pipelines; name one"):
        chosen([])
    assert chosen([], needed=False) == ()


def test_a_missing_extra_says_what_to_install() -> None:
    def serve() -> None:
        import hypercorn_of_another_name  # type: ignore[import-not-found] # noqa: F401

    with pytest.raises(CommandError, match=r"pip install 'orchestra\[server\]'"), extra("server"):
        serve()
