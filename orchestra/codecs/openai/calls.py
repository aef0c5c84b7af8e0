"""The tool calls of one OpenAI-shaped answer, joined from their pieces.

Calls are identified by the server's index, or by their ids if a server counts wrong, and are
numbered from 0 in the order of their beginnings. If a server sends no index, that number is their
index. With the same index, another id or name is another call. An id that another call already has
is replaced. A custom tool is called with text instead of JSON, and reported like any other.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import msgspec

from orchestra.codecs.framing.frames import FRAME_BYTES_MAX, PIECE_BYTES
from orchestra.codecs.openai.shapes import CallPiece
from orchestra.codecs.seals import google_seal
from orchestra.codecs.tool_calls import fingerprint, next_call
from orchestra.errors import MalformedStreamError
from orchestra.values import ToolCallDelta


@attrs.define(eq=False)
class _Calling:
    """A tool call in progress; it is reported once its name is known."""

    number: int
    id: str
    given_id: str
    name: str = ""
    seal: str = ""
    held: list[str] = attrs.field(factory=list)


class PiecedCalls:
    """The calls of an answer so far; its length is their number."""

    __slots__ = ("_by_given_id", "_by_index", "_calls", "_held_bytes", "_ids")

    def __init__(self) -> None:
        self._calls: list[_Calling] = []
        self._by_index: dict[int, _Calling] = {}
        self._by_given_id: dict[str, _Calling] = {}  # the last call with each id
        self._ids: set[str] = set()
        self._held_bytes = 0

    def __len__(self) -> int:
        return len(self._calls)

    def take(self, pieces: Sequence[CallPiece], answer_id: str) -> list[ToolCallDelta]:
        """The deltas of these pieces; `answer_id` is used to make ids for calls without one.

        Raises:
            MalformedStreamError: the answer has too many calls, or too much data for calls without
                a name.
        """
        if len(pieces) > 1:
            _number_by_order(pieces, len(self._calls))
        return [delta for each in pieces for delta in self._take(each, answer_id)]

    def end(self) -> list[ToolCallDelta]:
        """The calls that never got a name."""
        return [_delta_of(calling) for calling in self._calls if not calling.name]

    def beside(self, pieces: Sequence[CallPiece]) -> list[CallPiece]:
        """The pieces of new calls, if the pieces before them repeat all known calls; else none."""
        begun = len(self._calls)
        if len(pieces) <= begun:
            return []
        names = (each.called().name or "" for each in pieces)
        same = all(name == calling.name for name, calling in zip(names, self._calls, strict=False))
        return list(pieces[begun:]) if same else []

    def _take(self, call: CallPiece, answer_id: str) -> list[ToolCallDelta]:
        function = call.called()
        name, arguments = function.name or "", function.arguments or ""
        if not isinstance(arguments, str):
            arguments = msgspec.json.encode(arguments).decode()
        calling = self._calling(call, name, answer_id)
        seal = "" if calling.seal else google_seal(call.extra_content)
        calling.seal = calling.seal or seal
        if calling.name:
            delta = ToolCallDelta(calling.number, arguments=arguments, signature=seal)
            return [delta] if arguments or seal else []
        calling.held.append(arguments)
        self._held_bytes += PIECE_BYTES + len(arguments)
        if self._held_bytes > FRAME_BYTES_MAX:
            raise MalformedStreamError(
                f"tool calls without a name have over {FRAME_BYTES_MAX} bytes of arguments"
            )
        calling.name = name
        return [_delta_of(calling)] if name else []

    def _calling(self, call: CallPiece, name: str, answer_id: str) -> _Calling:
        """The call that the piece belongs to, which may be a new one."""
        index, given = call.index, call.id or ""
        if index is not None:
            found = self._by_index.get(index)
        elif given:
            found = self._by_given_id.get(given)
        else:
            # A complete call has a name; a piece without one continues the last call.
            found = None if name or not self._calls else self._calls[-1]
        if found is None or (name and _differs(found, given, name)):
            found = self._new_call(given, answer_id)
            if index is None:  # later pieces may have an index
                self._by_index.setdefault(found.number, found)
            else:
                self._by_index[index] = found
        return found

    def _new_call(self, given: str, answer_id: str) -> _Calling:
        number = next_call(len(self._calls))
        made = "call_" + fingerprint(f"{answer_id}/{number}", 24)
        calling = _Calling(number, made if given in self._ids or not given else given, given)
        self._calls.append(calling)
        self._by_given_id[given] = calling
        self._ids.add(calling.id)
        return calling


def _differs(calling: _Calling, given_id: str, name: str) -> bool:
    """Whether a piece with this id and name belongs to another call."""
    if given_id and calling.given_id not in {"", given_id}:
        return True
    return calling.name not in {"", name}


def _delta_of(calling: _Calling) -> ToolCallDelta:
    text = "".join(calling.held)
    return ToolCallDelta(calling.number, calling.id, calling.name, text, calling.seal)


def _number_by_order(pieces: Sequence[CallPiece], begun: int) -> None:
    """Index pieces that are identified only by their order: they belong to the last calls."""
    bare = all(each.index is None and not each.id and not each.called().name for each in pieces)
    if bare and begun >= len(pieces):
        for at, each in enumerate(pieces, begun - len(pieces)):
            each.index = at
