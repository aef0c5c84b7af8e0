"""`llmock`: OpenAI, Anthropic, Gemini and Cohere, and faults on demand. See `processes.py`."""

from __future__ import annotations

import importlib
import os
import socket
import sys
import threading


def main() -> None:
    """Serve until standard input ends."""
    uvicorn = importlib.import_module("uvicorn")
    app = importlib.import_module("llmock.main").app
    listener = socket.create_server(("127.0.0.1", 0))
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    threading.Thread(target=_end_with_input, daemon=True).start()
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])


def _end_with_input() -> None:
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
