"""Seals: whose they are, so that each provider is sent its own and nobody else's.

A provider seals what a model thought, and what it calls, and wants the seal back; it refuses one
that another has made. So the origin stands before a seal, as in `anthropic:c2Vh`: a colon is in no
seal, since they are base64. A seal without an origin is sent to whoever is asked: it was written
by hand, or kept by an earlier version.
"""

from __future__ import annotations

from collections.abc import Mapping

ANTHROPIC = "anthropic"
"""Of Claude, at Anthropic and at Bedrock.

They are one: each takes the other's seals, or passes over what this model cannot read.
"""
REDACTED = "redacted"
"""Of a thought of Claude's that came encrypted: it goes back as a block of another kind.

A thought may come without its text and not be encrypted (`display: omitted`), so that the text
does not tell the two apart.
"""
GEMINI = "gemini"
VERTEX = "vertex"
"""Of Gemini at Vertex AI, which cannot read what AI Studio has sealed."""
ON_TEXT: Mapping[str, str] = {GEMINI: "text", VERTEX: "vertex-text"}
"""Of seals that came with a piece of text and not with a thought, by the place.

They go back on the text that stands behind them.
"""
OPENROUTER = "openrouter"
"""Of OpenRouter's `reasoning_details`: the list, as JSON. Whose they are is said in there."""
UNSEALED = "skip_thought_signature_validator"
"""What Google wants for a seal on a call that Gemini has not made."""
_ORIGINS = {ANTHROPIC, REDACTED, *ON_TEXT, *ON_TEXT.values(), OPENROUTER}


def sealed(origin: str, seal: str | None) -> str:
    """A provider's seal with its origin, to be kept as a `signature`; "" for none."""
    return f"{origin}:{seal}" if seal else ""


def opened(signature: str) -> tuple[str, str]:
    """The origin of a seal, "" where it is not told, and the seal itself."""
    origin, colon, seal = signature.partition(":")
    return (origin, seal) if colon and origin in _ORIGINS else ("", signature)


def own(signature: str, *origins: str) -> str:
    """The seal itself if it is of one of these origins, or of none; "" if it is another's."""
    origin, seal = opened(signature)
    return seal if not origin or origin in origins else ""


def call_seal(signature: str) -> str:
    """The seal of a tool call, which only Google puts there; "" if it is another's."""
    return own(signature, GEMINI, VERTEX)


def google_content(signature: str) -> Mapping[str, object]:
    """What a call with this seal has beside in OpenAI's dialect, in Google's own form of it."""
    seal = call_seal(signature)
    return {"extra_content": {"google": {"thought_signature": seal}}} if seal else {}


def google_seal(extra: object) -> str:
    """The seal in a call's `extra_content`, in whatever form that came; "" where there is none."""
    google = extra.get("google") if isinstance(extra, dict) else None
    seal = google.get("thought_signature") if isinstance(google, dict) else None
    return seal if isinstance(seal, str) else ""
