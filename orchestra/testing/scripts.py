"""Scripts: what a step does in a simulated run, instead of what it would really do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import attrs

from orchestra.testing import valid


def without_traceback(error: Exception) -> Exception:
    """An error that many runs raise, without the traceback and the context of those before."""
    error.__context__ = None
    return error.with_traceback(None)


@attrs.frozen
class Gives:
    """The value, `after_s` seconds after the call."""

    value: object
    after_s: float = attrs.field(default=0.0, validator=valid.wait)


@attrs.frozen
class Fails:
    """The error, `after_s` seconds after the call."""

    error: Exception = attrs.field(validator=valid.error)
    after_s: float = attrs.field(default=0.0, validator=valid.wait)


@attrs.frozen
class Streams:
    """The chunks, each its number of seconds after the one before; then an error, or the end."""

    chunks: tuple[tuple[float, object], ...] = attrs.field(validator=valid.timed)
    error: Exception | None = attrs.field(default=None, validator=valid.maybe_error)
    end_s: float = attrs.field(default=0.0, validator=valid.wait)


@attrs.frozen
class Hangs:
    """Nothing, ever: until it is cancelled."""


Plain: TypeAlias = Gives | Fails | Streams | Hangs
"""What a script comes down to."""


@attrs.frozen
class Answers:
    """What the function says, which is given what the step is called with, without its context.

    `by(*args)` gives one of the other scripts, and must give the same for the same arguments, or a
    run cannot be repeated. What it raises, the step raises.
    """

    by: Callable[..., Plain] = attrs.field()

    @by.validator
    def _calls(self, _: object, value: object) -> None:
        if not callable(value):
            raise TypeError(
                f"Answers({value!r:.80}): it is a function of what the step is called with; write "
                "Answers(lambda text: Gives(text.upper()))"
            )


Script: TypeAlias = "Gives | Fails | Streams | Hangs | Answers | Attempts"


@attrs.frozen
class Attempts:
    """What each attempt of a call does, in order; the last again for those after it."""

    scripts: tuple[Plain | Answers, ...] = attrs.field()

    @classmethod
    def failing(cls, times: int, error: Exception, then: Plain | Answers) -> Attempts:
        """So many attempts with this error, at once, and then one that does this."""
        valid.count("Attempts.failing", times)
        return cls((*[Fails(error)] * times, then))

    @scripts.validator
    def _some(self, _: object, value: Any) -> None:
        if isinstance(value, Plain | Answers):
            raise TypeError(f"Attempts({value!r:.80}): write Attempts(({value!r:.80},))")
        if not isinstance(value, tuple | list) or any(isinstance(v, Attempts) for v in value):
            raise TypeError(
                f"Attempts({value!r:.80}): it is a tuple of scripts, one for each attempt; write "
                "Attempts((Fails(error), Gives(value)))"
            )
        if not value:
            raise ValueError("Attempts(()): give it one script at least, for every attempt")
