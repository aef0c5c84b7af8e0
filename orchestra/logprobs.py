"""How likely the tokens of an answer were, and those that could have stood in their place."""

from __future__ import annotations

from orchestra.eventclass import frozen


@frozen
class TokenLogprob:
    """How likely a token was: the natural logarithm of its probability.

    `data` is its bytes as numbers, where they are told: a character may be several tokens. `top`
    are the likeliest tokens in its place, themselves without any.
    """

    token: str
    logprob: float
    data: tuple[int, ...] | None = None
    top: tuple[TokenLogprob, ...] = ()


@frozen
class Logprobs:
    """How likely the tokens were of the text that comes next, or of the refusal."""

    content: tuple[TokenLogprob, ...] = ()
    refusal: tuple[TokenLogprob, ...] = ()

    def __add__(self, other: Logprobs) -> Logprobs:
        """Those of both, one behind the other."""
        return Logprobs(self.content + other.content, self.refusal + other.refusal)
