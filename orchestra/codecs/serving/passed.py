"""What of a client's request may reach a provider, who is asked with the server's credentials.

Some words of the dialect let a provider do more than answer: it asks another model, searches an
index or the web, reads an address, or makes what costs extra. Whoever holds a key of ours has not
been given that, and no budget of ours counts it. So these words are refused, whoever the provider
would be: a route decides that later, and whether a request is right must not hang on it.
"""

from __future__ import annotations

import attrs

GUARDED = (
    # another model, or another who serves it
    *("models", "route", "provider", "preset", "fallbacks", "provider_options", "provideroptions"),
    # what is read or searched for the answer
    *("data_sources", "plugins", "web_search_options", "search_parameters", "search_settings"),
    *("enable_search", "search_options", "compound_custom"),
    # with whom the provider speaks, and as whom
    *("api_base", "base_url", "api_key", "extra_headers", "extra_body", "custom_llm_provider"),
    *("user_config", "kv_transfer_params", "bootstrap_host", "bootstrap_port", "bootstrap_room"),
    "lora_path",
    # as whom Claude is asked, at what price, and what of it is being tried out
    *("workspace_id", "user_profile_id", "inference_geo", "speed"),
    *("billing_policy", "fallback_credit_token", "anthropic_beta"),
    # speech, which is paid for and which no answer of ours has
    *("audio", "modalities"),
)
"""Fields that are refused unless the server lets them pass, or they ask for what is usual."""
_USUAL = {"modalities": ["text"], "speed": "standard"}
HTTPS_ONLY = frozenset(("https",))


@attrs.frozen(kw_only=True)
class Passed:
    """What a server lets pass of it: `fields`, and images at URLs of these schemes.

    An image that is sent along, as a data URL, always may.
    """

    fields: frozenset[str] = frozenset()
    image_schemes: frozenset[str] = HTTPS_ONLY

    def why_not(self, field: str, value: object) -> str | None:
        """Why a field with this value is refused; None where it may pass."""
        name = field.lower()
        if name not in GUARDED or name in self.fields:
            return None
        if name in _USUAL and value == _USUAL[name]:
            return None
        return (
            "it would have the provider use another model, another source or a paid extra at the "
            "expense of this server; leave it out, or have the server's configuration say "
            f'[server] pass_fields = ["{name}"]'
        )

    def why_no_image(self, url: str) -> str | None:
        """Why an image at this URL is refused; None where it may pass."""
        scheme, colon, _ = url.partition(":")
        if colon and scheme.lower() in self.image_schemes:
            return None
        known = " or ".join(f"{each}:" for each in sorted(self.image_schemes))
        return (
            f"an image at {url[:60]!r} would be fetched by the provider, with rights that you do "
            f"not have; send one at {known} or, in the request itself, as "
            "data:image/png;base64,..."
        )


USUAL_PASSED = Passed()
