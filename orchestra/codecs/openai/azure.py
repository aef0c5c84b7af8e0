"""Azure's OpenAI: OpenAI's bodies, at Azure's own paths.

The v1 interface takes the name of the deployment as the model, below a base URL of
`https://{resource}.openai.azure.com/openai/v1`. The classic one has it in the path, with the
version of the interface, and its base URL ends in `/openai`.
"""

from __future__ import annotations

from urllib.parse import quote

import attrs

from orchestra.codecs.dialect import Call
from orchestra.codecs.openai.dialect import OpenAiDialect
from orchestra.codecs.openai.quirks import AZURE
from orchestra.values import ChatRequest, EmbedRequest


class AzureDialect(OpenAiDialect):
    """Azure's OpenAI; the classic interface if there is an `api_version`.

    `deployment` is used in place of the model's name, if the two differ.
    """

    def __init__(self, deployment: str | None = None, api_version: str | None = None) -> None:
        super().__init__(AZURE)
        self._deployment = deployment
        self._api_version = api_version

    def ask(self, model: str, request: ChatRequest, *, stream: bool) -> Call:
        name = self._deployment or model
        return self._at(name, super().ask(name, request, stream=stream))

    def ask_embeddings(self, model: str, request: EmbedRequest) -> Call:
        name = self._deployment or model
        return self._at(name, super().ask_embeddings(name, request))

    def _at(self, name: str, call: Call) -> Call:
        if self._api_version is None:
            return call
        query = f"?api-version={quote(self._api_version, safe='')}"
        return attrs.evolve(call, path=f"/deployments/{quote(name, safe='')}{call.path}{query}")
