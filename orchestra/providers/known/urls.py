"""Base URLs of providers, from options, and from the variables of the providers' SDKs. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from urllib.parse import urlsplit, urlunsplit

from orchestra.hosts import DEFAULT_PORTS, bracketed

Options = Mapping[str, str]

OLLAMA_PORT = 11434


def fixed(url: str) -> Callable[[Options], str]:
    """A base URL that does not depend on options."""
    return lambda _options: url


def as_is(value: str, options: Options) -> str:
    """A variable that contains the base URL itself."""
    del options
    return value


def gemini(options: Options) -> str:
    """AI Studio, in the configured version."""
    return f"https://generativelanguage.googleapis.com/{options['api_version']}"


def vertex(options: Options) -> str:
    """Vertex, in the project's location; the location `global` has a host without a prefix."""
    location, project = options["location"], options["project"]
    host = "" if location == "global" else f"{location}-"
    return f"https://{host}aiplatform.googleapis.com/v1/projects/{project}/locations/{location}"


def bedrock(options: Options) -> str:
    """Bedrock's runtime in a region."""
    return f"https://bedrock-runtime.{options['region']}.amazonaws.com"


def azure(options: Options) -> str:
    """A resource of Azure OpenAI, in the configured version of the API."""
    return azure_endpoint(f"https://{options['resource']}.openai.azure.com", options)


def absolute(url: str) -> str:
    """The URL, if it is a valid base URL.

    Raises:
        ValueError: its scheme, host or port is missing or invalid, or it has more than a path.
    """
    parts = urlsplit(url)
    if parts.scheme not in DEFAULT_PORTS or not parts.hostname:
        raise ValueError("it has to begin with http:// or https://, and a host")
    if parts.port == 0:
        raise ValueError("there is no port 0")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError("it has to be without a name, a password and a query")
    return url


def azure_endpoint(value: str, options: Options) -> str:
    """The base URL of the API, from `https://RESOURCE.openai.azure.com/`, as Azure shows it."""
    root = value.rstrip("/").removesuffix("/v1").removesuffix("/openai")
    return f"{root}/openai" if "api_version" in options else f"{root}/openai/v1"


def anthropic(value: str, options: Options) -> str:
    """The base URL of the API, from `ANTHROPIC_BASE_URL`, which has no version."""
    del options
    return value.rstrip("/").removesuffix("/v1") + "/v1"


def ollama_host(value: str, options: Options) -> str:
    """The base URL from `OLLAMA_HOST`, as Ollama reads it: `host`, `host:port`, `:port`, or a URL.

    For a server that listens on every address (0.0.0.0), this machine's own is used.

    Raises:
        ValueError: the port is not a number.
    """
    del options
    url = urlsplit(value if "://" in value else f"http://{value}")
    host = url.hostname or "127.0.0.1"
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - read, not bound
    default = DEFAULT_PORTS.get(url.scheme, OLLAMA_PORT) if "://" in value else OLLAMA_PORT
    place = f"{bracketed(host)}:{url.port or default}"
    return urlunsplit((url.scheme, place, f"{url.path.rstrip('/')}/api", "", ""))


def shown(url: str) -> str:
    """The URL for people: without name, password and query."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
