"""Groups, opened: every error in one is told or goes on, and none is lost."""

from __future__ import annotations

from asyncio import CancelledError

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from orchestra.errors import StepFailedError
from orchestra.groups import leaves, message_of, single, split, stopping
from orchestra.testing.virtual import virtual


def cancelled() -> trio.Cancelled:
    """A real one: they cannot be made."""

    kept: list[trio.Cancelled] = []

    async def main() -> None:
        with trio.CancelScope() as scope:
            scope.cancel()
            try:
                await trio.lowlevel.checkpoint()
            except trio.Cancelled as error:
                kept.append(error)
                raise

    virtual(main)
    return kept[0]


CANCELLED = cancelled()

OWN = (ValueError, KeyError, SystemExit, GeneratorExit, CancelledError)
"""What fails the run of the step that raises it, and nobody else's."""

alone = st.sampled_from([*OWN, KeyboardInterrupt]).map(lambda error: error("x"))
errors: st.SearchStrategy[BaseException] = st.recursive(
    alone | st.just(CANCELLED),
    lambda inner: st.lists(inner, min_size=1, max_size=3).map(
        lambda errors: BaseExceptionGroup("group", errors)
    ),
    max_leaves=8,
)


@given(errors)
def test_what_is_raised_is_the_steps_own_or_goes_on_and_nothing_is_lost(
    error: BaseException,
) -> None:
    own, onward = split(error)
    told = list(own.errors) if isinstance(own, StepFailedError) else [own] if own else []
    on = leaves(onward) if onward is not None else []
    whole = leaves(error)
    assert told == [leaf for leaf in whole if isinstance(leaf, OWN)]
    assert on == [leaf for leaf in whole if not isinstance(leaf, OWN)]
    assert not isinstance(own, BaseExceptionGroup), "nobody outside ever sees a group of errors"


@given(errors)
def test_what_stops_the_process_is_found_however_deep_it_is(error: BaseException) -> None:
    stops = [e for e in leaves(error) if isinstance(e, KeyboardInterrupt)]
    assert stopping(error) is (stops[0] if stops else None)


def test_nothing_stops_where_nothing_was_raised() -> None:
    assert stopping(None) is None


def test_one_error_in_a_group_is_the_error_itself_and_several_are_listed() -> None:
    one, other = ValueError("one"), KeyError("other")
    assert single(ExceptionGroup("", [ExceptionGroup("", [one])])) is one
    group = ExceptionGroup("", [one, ExceptionGroup("", [other])])
    both = single(group)
    assert isinstance(both, StepFailedError)
    assert both.errors == (one, other)
    assert both.__cause__ is group
    assert str(both) == "2 errors at once:\n  ValueError: one\n  KeyError: 'other'"


def test_an_error_that_cannot_be_printed_still_has_a_message() -> None:
    class BrokenError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no words")

    assert message_of(BrokenError()) == "(RuntimeError while it was asked for its message)"
    assert message_of(ValueError("words")) == "words"
    with pytest.raises(RuntimeError):
        str(BrokenError())
