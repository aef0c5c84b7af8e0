"""The addresses and capabilities of models, from settings, catalog and environment. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

import attrs

from orchestra.codecs.raw_json import without_nulls
from orchestra.errors import BindingError
from orchestra.hosts import DEFAULT_PORTS
from orchestra.policies.routing import Candidate
from orchestra.providers.known import urls
from orchestra.providers.known.catalog import PROVIDERS
from orchestra.providers.known.facts import known
from orchestra.providers.known.keys import Environ, is_set
from orchestra.providers.known.provider import Provider
from orchestra.providers.known.settings import ModelSettings
from orchestra.values import Capabilities

QUOTES = Capabilities(
    tools=False,
    vision=False,
    files=False,
    json_schema=False,
    reasoning=False,
    embeddings=False,
    reranking=False,
)
"""The capabilities of the built-in model, which only quotes its prompt."""


def options_of(settings: ModelSettings, environ: Environ) -> Mapping[str, str]:
    """The options of a model, each from its table, else from the environment, else the default."""
    found: dict[str, str] = {}
    for option in PROVIDERS[settings.provider].options:
        values = (settings.options.get(option.name), *map(environ.get, option.env), option.default)
        if value := next(filter(None, values), None):
            found[option.name] = value
    return found


def address(settings: ModelSettings, environ: Environ) -> tuple[Mapping[str, str], str]:
    """The options and the base URL of a remote model.

    Raises:
        BindingError: a required option or the base URL is missing or invalid; the message says
            which, and where it was expected.
    """
    options = options_of(settings, environ)
    for option in PROVIDERS[settings.provider].options:
        if option.needed and option.name not in options:
            raise BindingError(_missing(settings, option.name, option.name, option.env))
    return options, base_url(settings, options, environ)


def base_url(settings: ModelSettings, options: Mapping[str, str], environ: Environ) -> str:
    """The base URL of a model: from its table, else from the environment, else the provider's.

    Raises:
        BindingError: none of them has one, or the value in the environment is not a valid URL.
    """
    if settings.base_url is not None:
        return settings.base_url
    provider = PROVIDERS[settings.provider]
    if name := _variable(settings, environ):
        return _read(provider, name, environ[name], options)
    try:
        if provider.base_url is not None:
            return provider.base_url(options)
    except KeyError as error:
        needed = str(error.args[0])
        raise BindingError(_missing(settings, "address", needed, provider.base_url_env)) from error
    raise BindingError(_missing(settings, "address", "base_url", provider.base_url_env))


def shown_url(settings: ModelSettings, environ: Environ) -> str:
    """A model's address to show to people; "" if it runs in this process, `?` if unknown."""
    if not PROVIDERS[settings.provider].remote:
        return ""
    try:
        return urls.shown(base_url(settings, options_of(settings, environ), environ))
    except BindingError:
        return "?"


def place_of(settings: ModelSettings, environ: Environ) -> tuple[str, int]:
    """The host and port of a model; "" and 0 if it runs in this process, or they are unknown."""
    parts = urlsplit(shown_url(settings, environ))
    if parts.hostname is None:
        return "", 0
    return parts.hostname, parts.port or DEFAULT_PORTS.get(parts.scheme, 0)


def misread(settings: ModelSettings, environ: Environ) -> str:
    """What is wrong with a model's address in the environment; "" if nothing is."""
    try:
        if name := _variable(settings, environ):
            provider = PROVIDERS[settings.provider]
            _read(provider, name, environ[name], options_of(settings, environ))
    except BindingError as error:
        return str(error)
    return ""


def unset(settings: ModelSettings, environ: Environ) -> str:
    """What a model needs to be reached that neither its table nor the environment has; or ""."""
    if not PROVIDERS[settings.provider].remote or misread(settings, environ):
        return ""
    try:
        address(settings, environ)
    except BindingError as error:
        return str(error)
    return ""


def capabilities(settings: ModelSettings) -> Capabilities:
    """A model's capabilities: the configured ones, else those known for its name.

    Whether files (PDFs) can be sent, and whether it reranks, also depends on the provider.
    """
    if settings.provider == "extractive":
        return QUOTES
    if settings.own is not None:  # a project's class reports its capabilities itself
        return settings.capabilities
    ours = known(settings.model).capabilities
    provider = PROVIDERS[settings.provider]
    if not provider.files:
        ours = attrs.evolve(ours, files=False)
    if not provider.reranks:
        ours = attrs.evolve(ours, reranking=False)
    return corrected(ours, settings.capabilities)


def corrected(known: Capabilities, configured: Capabilities) -> Capabilities:
    """The known capabilities of a model, overridden by the configured ones."""
    return attrs.evolve(known, **without_nulls(attrs.asdict(configured)))


def candidate(name: str, settings: ModelSettings, weight: float = 1.0) -> Candidate:
    """A model as a candidate of a route; a built-in model costs nothing."""
    free = 0.0 if PROVIDERS[settings.provider].built_in else None
    prices = settings.prices
    return Candidate(
        name=name,
        capabilities=capabilities(settings),
        weight=weight,
        input_price=free if prices.input is None else prices.input,
        output_price=free if prices.output is None else prices.output,
        vectors=settings.model if settings.own is None else settings.own.identity,
    )


def _variable(settings: ModelSettings, environ: Environ) -> str:
    """The environment variable that sets a model's address; "" if its table sets it, or none is."""
    if settings.base_url is not None or "resource" in settings.options:
        return ""
    names = PROVIDERS[settings.provider].base_url_env
    return next((name for name in names if is_set(environ, name)), "")


def _read(provider: Provider, name: str, value: str, options: Mapping[str, str]) -> str:
    try:
        return urls.absolute(provider.read_base_url(value, options))
    except ValueError as error:
        raise BindingError(f"{name} is not a valid address of {provider.name}: {error}") from error


def _missing(settings: ModelSettings, what: str, key: str, variables: Sequence[str]) -> str:
    others = f", or set {' or '.join(variables)}" if variables else ""
    return (
        f"model {settings.name!r} ({settings.origin}) has no {what}: write {key} into the "
        f"model's table{others}"
    )
