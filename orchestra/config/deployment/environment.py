"""Models that exist without a configuration, if a provider's key is in the environment. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import attrs

from orchestra.config.deployment.deployment import EMBEDDED, Deployment, with_usual
from orchestra.errors import BindingError
from orchestra.providers.known.addresses import address, options_of
from orchestra.providers.known.catalog import PROVIDERS
from orchestra.providers.known.keys import is_set, key_state
from orchestra.providers.known.provider import Provider
from orchestra.providers.known.settings import ModelSettings

Environ = Mapping[str, str]


def from_environment(environ: Environ) -> Deployment:
    """The deployment that follows from the keys in the environment, without a file.

    `default` and `fast` are the fast model of the first provider whose key is set, `smart` is its
    smart one; each provider's fast model also has the provider's name. The embedder stays the
    embedded one: a store can only be searched with the embedder that filled it.
    """
    found = [pair for each in PROVIDERS.values() if (pair := _suggested(each, environ))]
    if not found:
        return EMBEDDED
    fast, smart = found[0]
    models = {"default": fast, "fast": fast, "smart": attrs.evolve(smart, name="smart")}
    models |= {each.provider: each for each, _ in found}
    return attrs.evolve(EMBEDDED, models=with_usual(models))


def half_configured(environ: Environ) -> Iterator[str]:
    """For each provider whose key is set but which lacks something else: the names of both."""
    for provider in PROVIDERS.values():
        probe = ModelSettings(name=provider.name, provider=provider.name)
        key = key_state(probe, environ)
        if (
            provider.suggested
            and key.needed
            and key.present
            and not any(_variables_of(provider, environ))
        ):
            there = options_of(probe, environ)
            needed = [option for option in provider.options if option.needed]
            missing = (option.env for option in needed if option.name not in there)
            names = next(missing, provider.base_url_env)
            yield f"{key.source}, but not {' or '.join(names)}"


def _suggested(provider: Provider, environ: Environ) -> tuple[ModelSettings, ModelSettings] | None:
    """A provider's fast model and its smart one; None if the provider is not set up."""
    if provider.suggested is None:
        return None
    variable = next(iter(_variables_of(provider, environ)), None)
    if variable is None:
        return None
    fast, smart = provider.suggested
    made = ModelSettings(
        name=provider.name, provider=provider.name, model=fast, origin=f"environment: {variable}"
    )
    return made, attrs.evolve(made, model=smart)


def _variables_of(provider: Provider, environ: Environ) -> Iterator[str]:
    """Yield the variables that set up a provider, if it is set up.

    They are its key, or its address if it needs no key. Everything else that it needs has to be
    set, too.
    """
    probe = ModelSettings(name=provider.name, provider=provider.name)
    try:
        address(probe, environ)
    except BindingError:
        if not any(is_set(environ, name) for name in provider.base_url_env):
            return  # else it is used, and its first call reports what is wrong
    key = key_state(probe, environ)
    if key.needed and key.present:
        yield key.source
    if not key.needed:
        yield from (name for name in provider.base_url_env if is_set(environ, name))
