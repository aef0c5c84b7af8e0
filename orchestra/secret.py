"""Secrets: a type that keeps keys and passwords out of texts, and how to read one from a file.

No repr, message or encoder can show a secret by accident. Error texts of providers are searched for
it too, since some repeat the key that they were sent.

Rules of the file: no message holds a secret or a part of one; it names the variable or the file. No
secret is exempt: an ordinary word may be somebody's key.
"""

from __future__ import annotations

import re
from pathlib import Path

from orchestra.errors import BindingError

REDACTED = "[redacted]"
SECRET_BYTES_MAX = 64 * 1024
"""A key is one line, and even a long token is shorter; a larger file is the wrong file."""
_WORD_CHARS = 8
"""A shorter secret is treated as a word: `ollama`, which servers without keys are given, or a short
password. It is redacted only where it stands alone: redacted inside longer words, it would spoil
them, and their rest would give it away. No provider makes keys so short."""


class Secret:
    """A key or a password. Only `reveal` returns it; its repr and str are `Secret([redacted])`."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The secret text itself."""
        return self._value

    def __repr__(self) -> str:
        return f"Secret({REDACTED})"

    def __reduce__(self) -> str:
        raise TypeError("a Secret cannot be pickled or copied; keep the name of its variable")

    def redact(self, text: str) -> str:
        """Return the text with the secret replaced by `[redacted]`.

        A secret of less than 8 characters is replaced only where it stands alone: not inside a
        longer word, a path or a host name.
        """
        if len(self._value) >= _WORD_CHARS:
            return text.replace(self._value, REDACTED)
        if not self._value:
            return text
        alone = rf"(?<![\w./-]){re.escape(self._value)}(?![\w/-]|\.\w)"
        return re.sub(alone, REDACTED, text)


def read_secret(path: Path, what: str) -> Secret:
    """Read the secret in a file, without surrounding whitespace; `what` is `key` or `password`.

    Raises:
        BindingError: the file cannot be read, or does not hold one secret.
    """
    source = f"the {what} file {str(path)!r}"
    try:
        with path.open("rb") as file:
            data = file.read(SECRET_BYTES_MAX + 1)
    except OSError as error:
        raise BindingError(f"{source} cannot be read: {error.strerror or error}") from error
    if len(data) > SECRET_BYTES_MAX:
        raise BindingError(f"{source} is over {SECRET_BYTES_MAX} bytes; it must hold one {what}")
    return one_line(data.decode("utf-8-sig", "replace"), source, what)


def one_line(text: str, source: str, what: str) -> Secret:
    """The content of a variable or file as a secret: one line of printable characters.

    Raises:
        BindingError: the text is empty, or is not one printable line.
    """
    found = text.strip()
    if not found:
        raise BindingError(f"{source} is empty; it must hold the {what}")
    if not found.isprintable():
        raise BindingError(
            f"{source} does not hold a valid {what}: it has line breaks or control characters; it "
            f"must hold the {what} and nothing else"
        )
    return Secret(found)
