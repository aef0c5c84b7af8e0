"""What clients read of several errors in one, and of a limit that nobody can tell."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from orchestra.codecs.serving.errors import error_reply
from orchestra.codecs.withheld import OWNERS, WITHHELD
from orchestra.errors import (
    ArmsFailedError,
    LimitReachedError,
    LimitUnknownError,
    ModelError,
    ProviderServerError,
)
from orchestra.events import RunFailed
from orchestra.server.responses.caller_problems import your_rate
from orchestra.server.runs.fit_events import fit_for_clients
from orchestra.server.runs.problems import failed_run

SECRET = "sk-123 in /home/me/steps.py"


def read(error: BaseException) -> RunFailed:
    """A run's failure by it, as clients read that."""
    event = RunFailed(9, 1.0, type(error).__name__, str(error), None, None)
    fit = fit_for_clients(event, debug=False)
    assert isinstance(fit, RunFailed)
    return fit


def errors_of_all_kinds() -> st.SearchStrategy[BaseException]:
    """Told ones, withheld ones and foreign ones, in lists of lists."""
    leaves = st.sampled_from(
        [
            lambda at: ModelError(f"told {at}\n  1:a: further {at}"),
            lambda at: ProviderServerError(f"{SECRET} {at}\n  1:a: ModelError: {SECRET}"),
            lambda at: ValueError(f"{SECRET} {at}\n  1:a: ModelError: {SECRET}\n    {SECRET}"),
        ]
    )
    return st.recursive(
        st.builds(lambda make, at: make(at), leaves, st.integers(0, 99)),
        lambda errors: st.lists(errors, min_size=1, max_size=3).map(
            lambda each: ArmsFailedError("no:", {f"{i}:b": e for i, e in enumerate(each)})
        ),
        max_leaves=6,
    )


def told_of(error: BaseException) -> list[str]:
    """What clients are to read of an error, line by line."""
    name = type(error).__name__
    if isinstance(error, ArmsFailedError):
        inner = [
            ("    " if at else f"  {arm}: ") + line
            for arm, each in error.errors.items()
            for at, line in enumerate(told_of(each))
        ]
        return [f"{name}: no:", *inner]
    told = str(error) if type(error) is ModelError else WITHHELD.get(type(error), OWNERS)  # type: ignore[arg-type]
    return f"{name}: {told}".split("\n")


@given(errors_of_all_kinds())
def test_of_each_error_in_a_list_clients_read_what_they_read_of_it_alone(
    error: BaseException,
) -> None:
    """And nothing that one of them has said is taken for another of the list."""
    fit = read(error)
    assert f"{fit.error}: {fit.message}".split("\n") == told_of(error)


def test_a_limit_that_cannot_be_told_is_no_rate_of_the_callers() -> None:
    """They have reached nothing; and where the state is, they do not read."""
    away = LimitUnknownError(f"refused: {SECRET}", code="user.when_state_fails")
    event = read(away)
    for problem in (failed_run("r", event, away), failed_run("r", event), your_rate(away)):
        assert (problem.status, problem.code) == (503, "state-unreachable")
        assert SECRET.encode() not in problem.encode()
    assert dict(failed_run("r", event, away).headers) == {"Retry-After": "1"}
    told = error_reply(away)
    assert (told.status, dict(told.headers)) == (503, {"retry-after": "1"})
    assert told.code == "state_unreachable"
    assert your_rate(LimitReachedError("full")).status == 429
