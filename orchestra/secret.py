"""A text that only its user may see: redacted by its type, and where it is read from.

No repr, message or encoder can show it by accident. What others say of an error is searched for
it too, since some repeat the secret that they were sent. Rules of the file: no message holds a
secret or a piece of one; it names the variable or the file. And no secret is exempt: a word that
somebody uses as a key may be one to keep.
"""

from __future__ import annotations

import re
from pathlib import Path

from orchestra.errors import BindingError

REDACTED = "[redacted]"
SECRET_BYTES_MAX = 64 * 1024
"""A key is a line, and a token a long one; more in such a file is another file."""
_WORD_CHARS = 8
"""A shorter secret is a word, such as the `ollama` that a server without keys is given, or a short
password. By chance, it stands inside of other words too: these would be spoilt, and would tell it
to whoever sees where. No provider makes keys so short; whoever repeats one sets it apart."""


class Secret:
    """A key, or a password. Only `reveal` gives it; all else gives `Secret([redacted])`."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The text itself, for whoever is to be shown it."""
        return self._value

    def __repr__(self) -> str:
        return f"Secret({REDACTED})"

    def __reduce__(self) -> str:
        raise TypeError("a Secret cannot be pickled or copied into a file; keep its name instead")

    def redact(self, text: str) -> str:
        """The text without the secret in it; one that is only a word, where it stands by itself.

        It does not in a longer word, a path or the name of a host.
        """
        if len(self._value) >= _WORD_CHARS:
            return text.replace(self._value, REDACTED)
        if not self._value:
            return text
        alone = rf"(?<![\w./-]){re.escape(self._value)}(?![\w/-]|\.\w)"
        return re.sub(alone, REDACTED, text)


def read_secret(path: Path, what: str) -> Secret:
    """The secret in a file, without the white space around it; `what` it is: `key`, `password`.

    Raises:
        BindingError: the file cannot be read, or has no such thing in it.
    """
    source = f"the {what} file {str(path)!r}"
    try:
        with path.open("rb") as file:
            data = file.read(SECRET_BYTES_MAX + 1)
    except OSError as error:
        raise BindingError(f"{source} cannot be read: {error.strerror or error}") from error
    if len(data) > SECRET_BYTES_MAX:
        raise BindingError(f"{source} is over {SECRET_BYTES_MAX} bytes; it has to hold one {what}")
    return one_line(data.decode("utf-8-sig", "replace"), source, what)


def one_line(text: str, source: str, what: str) -> Secret:
    """What a variable or a file holds, as a secret: one line of what can be printed.

    Raises:
        BindingError: it is empty, or is something else.
    """
    found = text.strip()
    if not found:
        raise BindingError(f"{source} is empty; it has to hold the {what}")
    if not found.isprintable():
        raise BindingError(
            f"{source} does not hold a valid {what}: it has line breaks or control characters; it "
            f"has to hold the {what} and nothing else"
        )
    return Secret(found)
