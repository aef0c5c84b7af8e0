"""The real llama.cpp server, with the model whose file is named. See `processes.py`.

It prints two addresses, for chat and for embeddings: llama.cpp does one of them at a time.
"""

from __future__ import annotations

import importlib
import os
import sys

PARALLEL, CHAT_TOKENS, EMBED_TOKENS = 2, 32_768, 1_024


def main(path: str) -> None:
    """Serve until standard input ends."""
    llama = importlib.import_module("xllamacpp")
    chat, embed = llama.CommonParams(), llama.CommonParams()
    for options in (chat, embed):
        options.model.path = path
        options.port = 0
        options.n_parallel = PARALLEL
        options.cpuparams.n_threads = options.cpuparams_batch.n_threads = 1
        options.warmup = False
        options.verbosity = 1
    chat.n_ctx = PARALLEL * CHAT_TOKENS
    chat.use_jinja = True
    embed.embedding = True
    embed.n_ctx = embed.n_batch = embed.n_ubatch = EMBED_TOKENS
    embed.pooling_type = llama.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    servers = [llama.Server(options) for options in (chat, embed)]
    print(*(server.listening_address for server in servers), flush=True)
    sys.stdin.read()
    os._exit(0)  # its own end takes a second


if __name__ == "__main__":
    main(sys.argv[1])
