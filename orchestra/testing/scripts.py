"""Scripts: what a step does in a simulated run in place of its function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import attrs

from orchestra.testing import valid


def without_traceback(error: Exception) -> Exception:
    """A reused error, without the traceback and context of earlier runs."""
    error.__context__ = None
    return error.with_traceback(None)


@attrs.frozen
class Gives:
    """The step returns the value, `after_s` seconds after the call."""

    value: object
    after_s: float = attrs.field(default=0.0, validator=valid.wait)


@attrs.frozen
class Fails:
    """The step raises the error, `after_s` seconds after the call."""

    error: Exception = attrs.field(validator=valid.error)
    after_s: float = attrs.field(default=0.0, validator=valid.wait)


@attrs.frozen
class Streams:
    """The step gives the chunks, each so many seconds after the one before; then fails or ends."""

    chunks: tuple[tuple[float, object], ...] = attrs.field(validator=valid.timed)
    error: Exception | None = attrs.field(default=None, validator=valid.maybe_error)
    end_s: float = attrs.field(default=0.0, validator=valid.wait)


@attrs.frozen
class Hangs:
    """The step waits until it is cancelled."""


Plain: TypeAlias = Gives | Fails | Streams | Hangs
"""Scripts that are played directly."""


@attrs.frozen
class Answers:
    """Plays the script that a function returns for the step's arguments (without its context).

    `by(*args)` must return the same script for the same arguments, or a run cannot be repeated.
    An exception of the function is raised by the step.
    """

    by: Callable[..., Plain] = attrs.field()

    @by.validator
    def _calls(self, _: object, value: object) -> None:
        if not callable(value):
            raise TypeError(
                f"Answers({value!r:.80}): it must be a function of the step's arguments; write "
                "Answers(lambda text: Gives(text.upper()))"
            )


Script: TypeAlias = "Gives | Fails | Streams | Hangs | Answers | Attempts"


@attrs.frozen
class Attempts:
    """Plays one script per attempt of a call, in order; the last one for all further attempts."""

    scripts: tuple[Plain | Answers, ...] = attrs.field()

    @classmethod
    def failing(cls, times: int, error: Exception, then: Plain | Answers) -> Attempts:
        """A script that fails so many times with this error, at once, and then plays `then`."""
        valid.count("Attempts.failing", times)
        return cls((*[Fails(error)] * times, then))

    @scripts.validator
    def _some(self, _: object, value: Any) -> None:
        if isinstance(value, Plain | Answers):
            raise TypeError(f"Attempts({value!r:.80}): write Attempts(({value!r:.80},))")
        if not isinstance(value, tuple | list) or any(isinstance(v, Attempts) for v in value):
            raise TypeError(
                f"Attempts({value!r:.80}): it must be a tuple of scripts, one per attempt; write "
                "Attempts((Fails(error), Gives(value)))"
            )
        if not value:
            raise ValueError("Attempts(()): write at least one script: Attempts((Gives(value),))")
