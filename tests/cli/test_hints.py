"""What was meant, where a module cannot be imported for a name or a keyword that is not there."""

from __future__ import annotations

import pytest

from orchestra.cli.failures import CommandError
from orchestra.cli.hints import hint_for
from orchestra.cli.loading import load_all
from tests.cli.conftest import Project

HEAD = """\
import orchestra
from orchestra import Policy, Retry, pipeline, race, step
from orchestra.testing.world import World
@step
def upper(text: str) -> str:
    return text
"""


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("Policy(timeout=3)", "Policy(...) has no parameter 'timeout'; did you mean 'timeout_s'?"),
        ("Policy(retry=Retry(attempts=3))", "'attempts'; did you mean 'attempts_max'?"),
        ("race('a', stager_s=3)", "'stager_s'; did you mean 'stagger_s'?"),
        ("orchestra.race('a', stager_s=3)", "'stager_s'; did you mean 'stagger_s'?"),
        ("World(modles={})", "'modles'; did you mean 'models'?"),
        ("@pipeline(deadline=3)\ndef p(q): return q", "'deadline'; did you mean 'deadline_s'?"),
        ("@step(xyz=3)\ndef p(q): return q", "'xyz'; it is `step(thread=..., policy=..., n"),
        ("@pipeline\ndef p(q): return uper(q)", "'uper' is not defined; did you mean 'upper'?"),
        ("@pipeline\ndef p(q): return generate(q)", "write `from orchestra.steps import generate`"),
        ("from orchestra import generate", "; write `from orchestra.steps import generate`\nat"),
        ("from orchestra.values import Document", "`from orchestra.documents import Document`\nat"),
        ("from orchestra.errors import TimeoutError", "/errors.py)\nat"),
        ("from trio import generate", "/trio/__init__.py)\nat"),
        ("xyzzy", "name 'xyzzy' is not defined\nat"),
        ("print(1, xyz=2)", "keyword argument"),
        ("(lambda: 1)(xyz=2)", "unexpected keyword argument 'xyz'\nat"),
        ("dict.fromkeys(**{'xyz': 2})", "\nat"),
        ("def low(text): ...\nlow(tex=2)", "keyword argument 'tex'; did you mean 'text'?"),
        ("(lambda text: 1)(**{'xyz': 2})", "unexpected keyword argument 'xyz'\nat"),
        ("Policy(**{'timeout': 2})", "Policy(...) has no parameter 'timeout'; did you mean"),
        ("World(**{'modles': 2})", "no parameter 'modles'; did you mean 'models'?"),
        ("World(seed=3)", "no parameter 'seed'; did you mean 'schedule'?"),
        ("World(scripts={})", "no parameter 'scripts'; did you mean 'steps'?"),
        ("World(cancel_at=3)", "no parameter 'cancel_at'; did you mean 'cancel_at_s'?"),
        ("1 + ''", "'int' and 'str'\nat"),
    ],
)
def test_what_was_meant_is_asked(project: Project, line: str, told: str) -> None:
    project.write("mine.py", f"{HEAD}{line}\n")
    with pytest.raises(CommandError) as caught:
        load_all("mine")
    said = str(caught.value).replace(". Did you mean", "; did you mean")  # as Python 3.13 has it
    assert told in said
    assert said.count("did you mean") <= 1


def test_an_error_that_went_by_nobodys_code_is_left_alone() -> None:
    assert hint_for(NameError("name 'x' is not defined", name="x")) == ""
    assert hint_for(TypeError("f() got an unexpected keyword argument 'x'")) == ""


def test_modules_that_import_each_other_are_told_to_share_a_third(project: Project) -> None:
    project.write("one.py", "from other import b\na = 1\n")
    project.write("other.py", "from one import a\nb = 1\n")
    with pytest.raises(CommandError, match="import each other: move what both need into a third"):
        load_all("one")
