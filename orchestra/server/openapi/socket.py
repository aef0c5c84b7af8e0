"""The WebSocket of a pipeline, as OpenAPI tells it.

It has the handshake, and no word for more: so the messages are schemas, and `x-websocket` at the
operation says who sends which. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping

from orchestra.server.front.bearer import BEARER_PROTOCOL
from orchestra.server.front.ws_messages import CLOSES, ID_CHARS_MAX, PROTOCOL
from orchestra.server.openapi.events import EVENT, reference
from orchestra.server.openapi.runs import UNKNOWN
from orchestra.server.openapi.words import TEXT, Answer, Operation, closed, or_null
from orchestra.server.responses import problems
from orchestra.values import Json

MESSAGE, FRAME = "SocketMessage", "SocketFrame"
"""The names of the schemas of what a client says, and of what the server says."""

_ID: Json = {
    **TEXT,
    "minLength": 1,
    "maxLength": ID_CHARS_MAX,
    "description": "The client's own name of a run, free again behind its last event.",
}
_START = closed(type={"const": "start"}, id=_ID, inputs={"type": "object"})
SCHEMAS: Mapping[str, Json] = {
    MESSAGE: {
        "title": MESSAGE,
        "description": "What a client says: one JSON object, in a text message.",
        "oneOf": [
            {
                **_START,
                "description": "Start a run; `inputs` as in the body of one over HTTP.",
                "required": ["type", "id"],
            },
            {
                **closed(type={"const": "cancel"}, id=_ID),
                "description": "Stop a run; one that has ended is left as it is.",
            },
        ],
    },
    FRAME: {
        "title": FRAME,
        "description": "What the server says: of each run its events, or why it does not begin.",
        "oneOf": [
            {**closed(id=_ID, event=reference(EVENT)), "description": "The last one ends the run."},
            {
                **closed(id=or_null(_ID), problem=reference("Problem")),
                "description": "`id` is null where the message has none that can be read.",
            },
        ],
    },
}
OPERATIONS: Mapping[tuple[str, str], Operation] = {
    ("open-socket", "GET"): Operation(
        tag="runs",
        answers=(
            Answer(
                status=101,
                summary=(
                    f"The WebSocket: a client sends `{MESSAGE}`, the server `{FRAME}`. A browser "
                    f"sends its key as a subprotocol, `{BEARER_PROTOCOL}KEY`, beside `{PROTOCOL}`."
                ),
            ),
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
