"""The tool calls of one OpenAI-shaped answer, put together of their pieces.

Calls are told apart by the server's index, or by their ids where servers count wrong, and are
numbered from 0 in the order in which they began. Where a server does not count them, that number
is their index. Under one index, another id or another name is another call. An id that another
call has already is none. A custom tool is called with text, not with JSON, and told as any other.
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
    """A tool call that is arriving; told once its name is known."""

    number: int
    id: str
    given_id: str
    name: str = ""
    seal: str = ""
    held: list[str] = attrs.field(factory=list)


class PiecedCalls:
    """The calls of an answer, so far; its length is how many they are."""

    __slots__ = ("_by_given_id", "_by_index", "_calls", "_held_bytes", "_ids")

    def __init__(self) -> None:
        self._calls: list[_Calling] = []
        self._by_index: dict[int, _Calling] = {}
        self._by_given_id: dict[str, _Calling] = {}  # of several the last
        self._ids: set[str] = set()
        self._held_bytes = 0

    def __len__(self) -> int:
        return len(self._calls)

    def take(self, pieces: Sequence[CallPiece], answer_id: str) -> list[ToolCallDelta]:
        """What these pieces tell. Of `answer_id`, ids are made for calls that have none.

        Raises:
            MalformedStreamError: there are more calls than an answer may have, or too much of those
                whose name is not known.
        """
        if len(pieces) > 1:
            _count_apart(pieces, len(self._calls))
        return [told for each in pieces for told in self._take(each, answer_id)]

    def end(self) -> list[ToolCallDelta]:
        """The calls that never got a name."""
        return [_delta_of(calling) for calling in self._calls if not calling.name]

    def beside(self, pieces: Sequence[CallPiece]) -> list[CallPiece]:
        """Of calls that repeat these and go on, those that are new; none where they do not."""
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
            told = ToolCallDelta(calling.number, arguments=arguments, signature=seal)
            return [told] if arguments or seal else []
        calling.held.append(arguments)
        self._held_bytes += PIECE_BYTES + len(arguments)
        if self._held_bytes > FRAME_BYTES_MAX:
            raise MalformedStreamError(
                f"{FRAME_BYTES_MAX} bytes came of the arguments of tool calls that have no name"
            )
        calling.name = name
        return [_delta_of(calling)] if name else []

    def _calling(self, call: CallPiece, name: str, answer_id: str) -> _Calling:
        """The call that this is a piece of."""
        index, given = call.index, call.id or ""
        if index is not None:
            found = self._by_index.get(index)
        elif given:
            found = self._by_given_id.get(given)
        else:
            # A whole call has a name; what has none goes on with the last one.
            found = None if name or not self._calls else self._calls[-1]
        if found is None or (name and _differs(found, given, name)):
            found = self._new_call(given, answer_id)
            if index is None:  # its pieces may be counted all the same
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
    """Whether what has this id and this name is no piece of that call."""
    if given_id and calling.given_id not in {"", given_id}:
        return True
    return calling.name not in {"", name}


def _delta_of(calling: _Calling) -> ToolCallDelta:
    text = "".join(calling.held)
    return ToolCallDelta(calling.number, calling.id, calling.name, text, calling.seal)


def _count_apart(pieces: Sequence[CallPiece], begun: int) -> None:
    """Count pieces that only their order tells apart: they are of the calls that began last."""
    bare = all(each.index is None and not each.id and not each.called().name for each in pieces)
    if bare and begun >= len(pieces):
        for at, each in enumerate(pieces, begun - len(pieces)):
            each.index = at
