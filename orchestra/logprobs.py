"""Log probabilities of the tokens of an answer, and of the alternatives to them."""

from __future__ import annotations

from orchestra.eventclass import frozen


@frozen
class TokenLogprob:
    """A token and its log probability: the natural logarithm of its probability.

    `data` is its bytes as numbers, if the provider sent them: one character may be several tokens.
    `top` holds the most likely tokens at its position, each with an empty `top`.
    """

    token: str
    logprob: float
    data: tuple[int, ...] | None = None
    top: tuple[TokenLogprob, ...] = ()


@frozen
class Logprobs:
    """The log probabilities of the tokens of the next text, or of the refusal."""

    content: tuple[TokenLogprob, ...] = ()
    refusal: tuple[TokenLogprob, ...] = ()

    def __add__(self, other: Logprobs) -> Logprobs:
        """The log probabilities of both, `self` first."""
        return Logprobs(self.content + other.content, self.refusal + other.refusal)
