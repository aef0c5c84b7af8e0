"""Base URLs of providers, from options or from the variables of the providers' SDKs. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from urllib.parse import urlsplit, urlunsplit

from orchestra.hosts import DEFAULT_PORTS, bracketed

Options = Mapping[str, str]

OLLAMA_PORT = 11434


def fixed(url: str) -> Callable[[Options], str]:
    """A function that returns this base URL for any options."""
    return lambda _: url


def as_is(value: str, _: Options) -> str:
    """The base URL from a variable that contains it unchanged."""
    return value


def gemini(options: Options) -> str:
    """The base URL of AI Studio, in the configured version of the API."""
    return f"https://generativelanguage.googleapis.com/{options['api_version']}"


def vertex(options: Options) -> str:
    """The base URL of Vertex AI for a project in a location; `global` has a host without prefix."""
    location, project = options["location"], options["project"]
    host = "" if location == "global" else f"{location}-"
    return f"https://{host}aiplatform.googleapis.com/v1/projects/{project}/locations/{location}"


def bedrock(options: Options) -> str:
    """The base URL of Bedrock's runtime in a region."""
    return f"https://bedrock-runtime.{options['region']}.amazonaws.com"


def azure(options: Options) -> str:
    """The base URL of an Azure OpenAI resource, in the configured version of the API."""
    return azure_endpoint(f"https://{options['resource']}.openai.azure.com", options)


def absolute(url: str) -> str:
    """Check that a URL is a valid base URL, and return it unchanged.

    Raises:
        ValueError: its scheme, host or port is missing or invalid, or it has a user name, a
            password, a query or a fragment.
    """
    parts = urlsplit(url)
    if parts.scheme not in DEFAULT_PORTS or not parts.hostname:
        raise ValueError("it must begin with http:// or https://, and a host")
    if parts.port == 0:
        raise ValueError("port 0 is not valid")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError("it must not contain a user name, a password, a query or a fragment")
    return url


def azure_endpoint(value: str, options: Options) -> str:
    """The base URL of the API, from `https://RESOURCE.openai.azure.com/`, which Azure displays."""
    root = value.rstrip("/").removesuffix("/v1").removesuffix("/openai")
    return f"{root}/openai" if "api_version" in options else f"{root}/openai/v1"


def anthropic(value: str, _: Options) -> str:
    """The base URL of the API, from `ANTHROPIC_BASE_URL`, which usually has no version."""
    return value.rstrip("/").removesuffix("/v1") + "/v1"


def ollama_host(value: str, _: Options) -> str:
    """The base URL from `OLLAMA_HOST`, as Ollama reads it: `host`, `host:port`, `:port`, or a URL.

    For an address on which a server listens to every host (0.0.0.0), the loopback address is used.

    Raises:
        ValueError: the port is not a valid number.
    """
    url = urlsplit(value if "://" in value else f"http://{value}")
    host = url.hostname or "127.0.0.1"
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - read, not bound
    default = DEFAULT_PORTS.get(url.scheme, OLLAMA_PORT) if "://" in value else OLLAMA_PORT
    place = f"{bracketed(host)}:{url.port or default}"
    return urlunsplit((url.scheme, place, f"{url.path.rstrip('/')}/api", "", ""))


def shown(url: str) -> str:
    """The URL to show to people: without user name, password and query."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
