"""Decides which fields of clients' requests reach providers, with this server's credentials.

Some fields make a provider do more than answer: use another model, search an index or the web,
fetch a URL, run code, or produce something that costs extra. A key of our server does not include
these rights, and our budgets do not count them. So these fields are refused for every provider: the
route chooses the provider later, and the validity of a request must not depend on it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from orchestra.eventclass import frozen

GUARDED = (
    # another model, or another server for it
    *("models", "route", "provider", "preset", "fallbacks", "provider_options", "provideroptions"),
    # sources that the provider reads or searches for the answer, and code that it runs
    *("data_sources", "plugins", "web_search_options", "search_parameters", "search_settings"),
    *("enable_search", "search_options", "compound_custom", "enable_code_interpreter"),
    # servers that the provider calls, and the credentials for them
    *("api_base", "base_url", "api_key", "extra_headers", "extra_body", "custom_llm_provider"),
    *("user_config", "kv_transfer_params", "bootstrap_host", "bootstrap_port", "bootstrap_room"),
    "lora_path",
    # code that vLLM or SGLang loads, unpickles or renders, and sessions of SGLang, also of others
    *("custom_logit_processor", "logits_processors", "chat_template", "session_params"),
    # Claude's account, prices, and beta features
    *("workspace_id", "user_profile_id", "inference_geo", "speed"),
    *("billing_policy", "fallback_credit_token", "anthropic_beta"),
    # faster answers: at up to twice the price, which our budgets do not know, or before others'
    *("service_tier", "priority"),
    # speech, which costs extra and is dropped from our answers, and answers that are not returned
    *("audio", "modalities", "best_of"),
)
"""Fields that are refused unless the server allows them, or their value is a usual one."""
_USUAL: Mapping[str, Sequence[object]] = {
    "modalities": (["text"],),
    "speed": ("standard",),
    "service_tier": ("auto", "default", "standard", "standard_only", "on_demand", "flex"),
}
"""Values of guarded fields that cost no more than leaving the field out."""
HTTPS_ONLY = frozenset(("https",))


@frozen(kw_only=True)
class Allowlist:
    """The guarded fields, and the schemes of image URLs, that a server allows.

    An image inside the request, as a data URL, is always allowed.
    """

    fields: frozenset[str] = frozenset()
    image_schemes: frozenset[str] = HTTPS_ONLY

    def why_not(self, field: str, value: object) -> str | None:
        """The reason why a field with this value is refused; None if it is allowed."""
        name = field.casefold()
        if name not in GUARDED or name in self.fields:
            return None
        if value in _USUAL.get(name, ()):
            return None
        return (
            "it would have the provider use another model, another source or a paid extra at the "
            "expense of this server; leave it out, or allow it in the server's configuration: "
            f'pass_fields = ["{name}"] in [server]'
        )

    def why_no_image(self, url: str) -> str | None:
        """The reason why an image at this URL is refused; None if it is allowed."""
        scheme, colon, _ = url.partition(":")
        if colon and scheme.lower() in self.image_schemes:
            return None
        known = " or ".join(f"{each}:" for each in sorted(self.image_schemes))
        return (
            f"an image at {url[:60]!r} would be fetched by the provider, with rights that you do "
            f"not have; send one at {known} or, in the request itself, as "
            "data:image/png;base64,..."
        )


USUAL_ALLOWLIST = Allowlist()
