"""A provider, as a row of the catalog: its address, dialect and key, and what it offers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, TypeAlias

import attrs

from orchestra.codecs.dialect import Dialect
from orchestra.providers.known import urls

Seam: TypeAlias = Literal["model", "embedder"]


@attrs.frozen(kw_only=True)
class Option:
    """A key of `[models.NAME]` that only some providers have; its value is one word.

    If it is missing there, the environment variables `env` are used, and then `default`.
    """

    name: str
    about: str
    env: tuple[str, ...] = ()
    default: str | None = None
    needed: bool = True


@attrs.frozen(kw_only=True)
class HeaderScheme:
    """One key, sent in a header; by default as `Authorization: Bearer ...`."""

    env: tuple[str, ...] = ()
    header: str = "authorization"
    prefix: str = ""
    needed: bool = True


@attrs.frozen
class AwsScheme:
    """A Bedrock API key if one is set, else access keys, with which requests are signed."""


Scheme: TypeAlias = HeaderScheme | AwsScheme | None
"""How requests to a provider are authenticated; None for models in this process."""


@attrs.frozen(kw_only=True)
class Provider:
    """One provider.

    `base_url` makes the base URL from the options; if it is None, the URL must be configured.
    `base_url_env` names environment variables for the URL, whose values `read_base_url`
    converts. `suggested` names a fast and a smart model, for a deployment without a file.
    `files` is whether it accepts PDFs, and `reranks` whether it has reranking: no model of
    another provider counts as having them. `bills_searches` is whether it bills reranking by
    search units, whatever tokens cost, and `free` whether it costs nothing unless prices are
    configured. `listed_as` is its name in the catalog of list prices; None if it has none
    there, as your own servers and gateways to several providers. `extras` is its key in a
    request's extras, by default its name.
    """

    name: str
    about: str
    dialect: Callable[[Mapping[str, str]], Dialect] | None = None
    seams: tuple[Seam, ...] = ("model", "embedder")
    base_url: Callable[[Mapping[str, str]], str] | None = None
    base_url_env: tuple[str, ...] = ()
    read_base_url: Callable[[str, Mapping[str, str]], str] = urls.as_is
    scheme: Scheme = None
    options: tuple[Option, ...] = ()
    suggested: tuple[str, str] | None = None
    files: bool = False
    reranks: bool = False
    bills_searches: bool = False
    free: bool = False
    listed_as: str | None = None
    extras: str = attrs.field(default=attrs.Factory(lambda self: self.name, takes_self=True))

    @property
    def remote(self) -> bool:
        """Whether it is reached over HTTP, and does not run in this process."""
        return self.dialect is not None

    @property
    def built_in(self) -> bool:
        """Whether it is built in: it runs in this process, and has neither policies nor costs."""
        return not self.remote and bool(self.seams)
