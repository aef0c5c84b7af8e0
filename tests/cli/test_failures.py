"""What went wrong, for a person and for a script."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.cli.failures import (
    FAILED,
    INTERRUPTED,
    LEAVES_MAX,
    MISUSED,
    PIPE_CLOSED,
    CommandError,
    explain,
    quoted,
    raised_at,
)
from orchestra.errors import BindingError, CheckError, InputError
from orchestra.messages import describe
from orchestra.problem import Problem


def raising(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as raised:  # noqa: ASYNC103 - outside of Trio
        return raised  # noqa: ASYNC104 - outside of Trio


CASES: list[tuple[BaseException, str, int]] = [
    (KeyboardInterrupt(), "", INTERRUPTED),
    (BrokenPipeError(), "", PIPE_CLOSED),
    (SystemExit(3), "", 3),
    (SystemExit("no"), "", FAILED),
    (SystemExit(None), "", FAILED),
    (CommandError("told", code=MISUSED), "told", MISUSED),
    (CommandError("told"), "told", FAILED),
    (InputError("a is missing", field="a"), "a is missing", MISUSED),
    (BindingError("there is none"), "there is none", FAILED),
    (OSError(28, "No space left on device"), "OSError: [Errno 28] No space left on device", FAILED),
    (KeyError("x"), "KeyError: 'x'\n--traceback shows where", FAILED),
]


@pytest.mark.parametrize(("error", "message", "code"), CASES, ids=lambda case: repr(case)[:40])
def test_every_error_has_a_block_and_a_code(error: BaseException, message: str, code: int) -> None:
    assert explain(error) == (message, code)


errors = st.sampled_from([error for error, _, _ in CASES])
groups = st.recursive(
    errors,
    lambda inner: st.lists(inner, min_size=1, max_size=3).map(
        lambda found: BaseExceptionGroup("several", found)
    ),
)


def leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in leaves(inner)]
    return [error]


@given(groups)
def test_nobody_reads_of_a_group(error: BaseException) -> None:
    """Each error in it is told once; if the user has left, nothing is."""
    message, code = explain(error)
    told = [explain(leaf) for leaf in leaves(error)[:LEAVES_MAX]]
    assert "several" not in message
    if all(text for text, _ in told):
        assert message == "\n".join(dict.fromkeys(text for text, _ in told))
        assert code == told[0][1]
    else:
        assert (message, code) == next(pair for pair in told if not pair[0])


def test_an_error_of_the_users_own_code_shows_its_line() -> None:
    message, _ = explain(raising(ValueError("boom")))
    assert message.startswith("ValueError: boom\nraised at ")
    assert "tests/cli/test_failures.py:" in message
    assert message.endswith("    raise error")


def test_the_innermost_line_of_the_users_own_counts() -> None:
    """Not the line in the standard library that it called, and not ours above it."""
    import json

    def users() -> None:
        json.loads("{")

    error = called(users)
    at = raised_at(error)
    assert at is not None
    assert quoted(*at).endswith('json.loads("{")')


def called(function: Callable[[], None]) -> BaseException:
    with pytest.raises((ValueError, SyntaxError)) as caught:
        function()
    return caught.value


def test_an_error_without_a_traceback_has_no_line() -> None:
    assert raised_at(ValueError()) is None


def test_a_syntax_error_is_where_it_says() -> None:
    error = called(lambda: exec(compile("x = = 1", "some.py", "exec")))
    assert raised_at(error) == ("some.py", 1)


def test_a_line_that_cannot_be_read_is_left_out() -> None:
    assert quoted("/nowhere/x.py", 7) == "/nowhere/x.py:7"


def test_an_unknown_store_shows_how_to_make_one() -> None:
    problem = Problem("unknown-name", "p.py:1", "f(): there is no store 'docs'", "x")
    message, code = explain(CheckError("p", [problem]))
    assert message.endswith("orchestra ingest FOLDER --store docs")
    assert code == FAILED


def test_other_problems_are_told_as_they_are() -> None:
    error = CheckError("p", [Problem("type-clash", "p.py:1", "no", "yes")])
    assert explain(error) == (str(error), FAILED)
    assert describe(error) != str(error)
