"""Seals and their origins, so that each provider is sent only its own.

A seal is a provider's signature of a model's thoughts or calls, or their encrypted form. A provider
wants its seals back, and refuses those of other providers. So each seal is stored with its origin,
as in `anthropic:c2Vh`; seals are base64, so none has a colon. A seal without an origin is sent to
any provider: it was written by hand, or stored by an earlier version.
"""

from __future__ import annotations

from collections.abc import Mapping

ANTHROPIC = "anthropic"
"""The origin of Claude, at Anthropic and at Bedrock.

They are one origin: each accepts the other's seals, or ignores unreadable ones.
"""
REDACTED = "redacted"
"""The origin of Claude's encrypted thoughts, which are sent back as blocks of another type.

A thought without text need not be encrypted (`display: omitted`), so the missing text does not
distinguish the two.
"""
GEMINI = "gemini"
VERTEX = "vertex"
"""The origin of Gemini at Vertex AI, which cannot read seals of AI Studio."""
ON_TEXT: Mapping[str, str] = {GEMINI: "text", VERTEX: "vertex-text"}
"""Origins of seals on text instead of thoughts, by provider.

Such a seal is sent back on the text after it.
"""
OPENROUTER = "openrouter"
"""The origin of OpenRouter's `reasoning_details`: the list as JSON, with its own origins."""
UNSEALED = "skip_thought_signature_validator"
"""Google's substitute for the seal of a call that Gemini did not make."""
_ORIGINS = {ANTHROPIC, REDACTED, *ON_TEXT, *ON_TEXT.values(), OPENROUTER}


def sealed(origin: str, seal: str | None) -> str:
    """A provider's seal with its origin, as a `signature`; "" for none."""
    return f"{origin}:{seal}" if seal else ""


def opened(signature: str) -> tuple[str, str]:
    """The origin of a seal ("" if unknown), and the seal itself."""
    origin, colon, seal = signature.partition(":")
    return (origin, seal) if colon and origin in _ORIGINS else ("", signature)


def own(signature: str, *origins: str) -> str:
    """The seal itself if its origin is one of these, or unknown; else ""."""
    origin, seal = opened(signature)
    return seal if not origin or origin in origins else ""


def call_seal(signature: str) -> str:
    """The seal of a tool call, if it is Google's; else ""."""
    return own(signature, GEMINI, VERTEX)


def google_content(signature: str) -> Mapping[str, object]:
    """The additional fields of a call with this seal in OpenAI's dialect, in Google's form."""
    seal = call_seal(signature)
    return {"extra_content": {"google": {"thought_signature": seal}}} if seal else {}


def google_seal(extra: object) -> str:
    """The seal in a call's `extra_content`, which may be any JSON; "" if there is none."""
    google = extra.get("google") if isinstance(extra, dict) else None
    seal = google.get("thought_signature") if isinstance(google, dict) else None
    return seal if isinstance(seal, str) else ""
