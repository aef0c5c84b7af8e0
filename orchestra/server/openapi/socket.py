"""The OpenAPI description of a pipeline's WebSocket. Pure.

OpenAPI can describe only the handshake. So the messages are schemas, and the extension
`x-websocket` of the operation says which side sends which.
"""

from __future__ import annotations

from collections.abc import Mapping

from orchestra.server.front.bearer import BEARER_PROTOCOL
from orchestra.server.front.ws_messages import CLOSES, ID_CHARS_MAX, PROTOCOL, RETURNS
from orchestra.server.openapi.events import EVENT, PROBLEM, WAIT, reference
from orchestra.server.openapi.runs import UNKNOWN
from orchestra.server.openapi.words import OBJECT, TEXT, TEXTS, Answer, Operation, closed, or_null
from orchestra.server.responses import problems
from orchestra.values import Json

MESSAGE, FRAME = "SocketMessage", "SocketFrame"
"""The names of the schemas of a client's messages and of the server's messages."""
START, CANCEL, OF_RUN, REFUSED = "SocketStart", "SocketCancel", "SocketEvent", "SocketProblem"
"""The names of the schemas of each kind of message; generated clients name their types by them."""

_ID: Json = {
    **TEXT,
    "minLength": 1,
    "maxLength": ID_CHARS_MAX,
    "description": "The client's own id for a run; may be used again after the run's last event.",
}
_RETURN: Json = {
    "enum": list(RETURNS),
    "description": "With `minimal`, `run.finished` does not repeat a stream as its `result`.",
}
_START = closed(type={"const": "start"}, id=_ID, inputs=OBJECT, tags=TEXTS, **{"return": _RETURN})
SCHEMAS: Mapping[str, Json] = {
    MESSAGE: {
        "title": MESSAGE,
        "description": "A message from the client: one JSON object, in a text message.",
        "oneOf": [reference(START), reference(CANCEL)],
    },
    START: {
        **_START,
        "description": "Start a run; `inputs` are as in the body of an HTTP request.",
        "required": ["type", "id"],
    },
    CANCEL: {
        **closed(type={"const": "cancel"}, id=_ID),
        "description": "Cancel a run; does nothing if it has ended.",
    },
    FRAME: {
        "title": FRAME,
        "description": "A message from the server: an event of a run, or a problem.",
        "oneOf": [reference(OF_RUN), reference(REFUSED)],
    },
    OF_RUN: {
        **closed(id=_ID, event=reference(EVENT)),
        "description": "An event of a run, until its last one.",
    },
    REFUSED: {
        **closed(id=or_null(_ID), problem=reference(PROBLEM), retry_after_s=WAIT),
        "description": "Why a message was refused; `id` is null if it had no valid id.",
        "required": ["id", "problem"],
    },
}
OPERATIONS: Mapping[tuple[str, str], Operation] = {
    ("open-socket", "GET"): Operation(
        "runs",
        Answer(
            f"The WebSocket: the client sends `{MESSAGE}`, and the server `{FRAME}`. A browser "
            f"sends its key as a subprotocol, `{BEARER_PROTOCOL}KEY`, in addition to `{PROTOCOL}`.",
            status=101,
        ),
        problems=(*UNKNOWN, problems.by_status(426, "Upgrade Required", "")),
        extensions={
            "x-websocket": {
                "subprotocol": PROTOCOL,
                "client": reference(MESSAGE),
                "server": reference(FRAME),
                "closes": {str(code): why for code, why in CLOSES.items()},
            }
        },
    )
}
