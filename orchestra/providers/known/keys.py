"""Where the keys of models come from, and whether they are set. No key is shown.

Pure, but for a look whether a key file exists.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from orchestra.providers.known.catalog import PROVIDERS
from orchestra.providers.known.provider import AwsScheme, HeaderScheme
from orchestra.providers.known.settings import ModelSettings

AWS_BEARER = "AWS_BEARER_TOKEN_BEDROCK"
AWS_ID, AWS_SECRET, AWS_SESSION = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
)
_AWS = f"{AWS_BEARER}, or {AWS_ID} and {AWS_SECRET}"

Environ = Mapping[str, str]


@attrs.frozen
class KeyState:
    """Whether a model's key is set, and its source: the name of a variable, or `file PATH`.

    If the key is not set, `source` names the places where it was expected.
    """

    source: str = ""
    present: bool = False
    needed: bool = False

    @property
    def missing(self) -> bool:
        """Whether the key is required, but not set."""
        return self.needed and not self.present


def key_state(settings: ModelSettings, environ: Environ) -> KeyState:
    """The state of a model's key, without the key itself."""
    scheme = PROVIDERS[settings.provider].scheme
    if scheme is None:
        return KeyState()
    needed = not isinstance(scheme, HeaderScheme) or scheme.needed
    if settings.key_file is not None:
        return KeyState(f"file {settings.key_file}", settings.key_file.is_file(), needed=True)
    if settings.key_env is not None:
        return KeyState(settings.key_env, is_set(environ, settings.key_env), needed=True)
    if isinstance(scheme, AwsScheme):
        found = aws_source(environ)
        return KeyState(found or _AWS, bool(found), needed)
    present = next((name for name in scheme.env if is_set(environ, name)), None)
    return KeyState(present or " or ".join(scheme.env), present is not None, needed)


def aws_source(environ: Environ) -> str:
    """The name of the variable from which AWS credentials come; "" if there are none."""
    if is_set(environ, AWS_BEARER):
        return AWS_BEARER
    return AWS_ID if is_set(environ, AWS_ID) and is_set(environ, AWS_SECRET) else ""


def is_set(environ: Environ, name: str) -> bool:
    """Whether a variable is set to more than blanks."""
    return bool(environ.get(name, "").strip())
