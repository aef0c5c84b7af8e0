"""Every recording, over real HTTP: what the command says of it is what it was recorded to be."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from orchestra.testing.replay import BASE64_CHARS
from tests.recordings import FOLDER, Recording, needed, recordings

SERVER = FOLDER.parent / "tools" / "replay_server.py"
MODES = ("whole", "event", "b7", "b1")
"""How the server cuts a body; of the slowest only what is not long."""
LONG_BYTES = 20_000

CONTINUED = "8320cd5901be"
"""Two answers of Anthropic's in one body, which its SDK laid over each other."""
ERROR_WITH_200 = "81be59d8361b"
"""Azure's filter, as an error in a 200: an error for us, an answer without choices to the SDK."""
IN_PIECES = {"0c2f38d8d7ae", "69cae4a0a903", "c9b05b4796fd"}
"""Gemini's calls in pieces, each of which the SDK took for a call without arguments."""

WHY = "what comes over a socket is the same on each of our Pythons; tests/codecs decode it on all"
ELSEWHERE = [pytest.mark.may_skip(WHY), pytest.mark.skip(reason=WHY)]

pytestmark = [needed] if sys.version_info[:2] == (3, 11) else ELSEWHERE


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The replay server's address."""
    process = subprocess.Popen(
        [sys.executable, "-c", _SERVE, str(SERVER), *map(str, FOLDER.glob("*.gz"))],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


_SERVE = """
import runpy, sys
module = runpy.run_path(sys.argv[1])
module["Handler"].cases = module["load"](sys.argv[2:])
server = module["Server"](("127.0.0.1", 0), module["Handler"])
print(server.server_address[1], flush=True)
server.serve_forever()
"""


def replayed(asked: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What the command says of each, by cid."""
    lines = "".join(json.dumps(each) + "\n" for each in asked)
    ran = subprocess.run(
        [sys.executable, "-m", "orchestra.testing.replay"],
        input=lines,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == ""
    said = [json.loads(line) for line in ran.stdout.splitlines()]
    assert [each["cid"] for each in said] == [each["cid"] for each in asked]  # in order
    return {each.pop("cid"): each for each in said}


def case(recording: Recording, base_url: str) -> dict[str, Any]:
    return {
        "cid": recording.cid,
        "provider": recording.provider,
        "surface": recording.surface,
        "stream": "stream" in recording.surface.lower() or recording.kind == "stream",
        "status": recording.status,
        "base_url": base_url,
    }


def expected(recording: Recording) -> dict[str, Any] | None:
    """What was recorded; None where the recording holds only the raw body."""
    golden = recording.golden
    if recording.kind == "error":
        return {"error": {"status": recording.status, "kind": "http"}}
    if recording.cid == ERROR_WITH_200:
        return {"error": {"status": 200, "kind": "stream"}}
    assert golden is not None
    if recording.surface == "embed":
        return {key: golden[key] for key in ("n", "dim", "first")}
    if "finish" not in golden:
        return None
    wanted = {key: golden[key] for key in ("text", "tools", "finish", "usage")}
    return wanted | {"text": golden["text"] or ""}


def differ(recording: Recording, said: dict[str, Any]) -> bool:
    wanted = expected(recording)
    if wanted is None:
        return not (said.get("text") or said.get("tools") or said.get("n"))
    if recording.cid in IN_PIECES:
        wanted, said = wanted | {"tools": []}, said | {"tools": []}
    return bool(said != wanted)


@pytest.mark.parametrize("mode", MODES)
def test_every_recording_is_read_as_it_was_recorded(server: str, mode: str) -> None:
    cases = [
        each
        for each in recordings()
        if mode == "whole"
        or (each.kind == "stream" and (mode != "b1" or len(each.body) < LONG_BYTES))
    ]
    assert len(cases) > 50
    said = replayed([case(each, f"{server}/r/{mode}/{each.cid}") for each in cases])
    wrong = {
        each.cid: (said[each.cid], expected(each))
        for each in cases
        if each.cid != CONTINUED and differ(each, said[each.cid])
    }
    assert wrong == {}


def test_a_call_that_came_in_pieces_is_one_call(server: str) -> None:
    cases = recordings(lambda each: each.cid in IN_PIECES)
    said = replayed([case(each, f"{server}/r/whole/{each.cid}") for each in cases])
    for each in said.values():
        assert all(tool["name"] and tool["args"] for tool in each["tools"])


def test_vectors_that_came_as_text_are_told_as_text(server: str) -> None:
    cases = recordings(lambda each: each.surface == "embed" and each.kind == "json")
    said = replayed([case(each, f"{server}/r/whole/{each.cid}") for each in cases])
    texts = [each["first"] for each in said.values() if isinstance(each["first"], str)]
    assert texts
    assert {len(text) for text in texts} == {BASE64_CHARS}


def test_a_server_that_is_not_there_is_an_error_of_the_stream(tmp_path: Path) -> None:
    (one, *_) = recordings(lambda each: each.kind == "stream")
    said = replayed([case(one, "http://127.0.0.1:9")])
    assert said[one.cid] == {"error": {"status": one.status, "kind": "stream"}}


def test_only_five_recordings_are_excused() -> None:
    excused = recordings(lambda each: each.cid in {CONTINUED, ERROR_WITH_200, *IN_PIECES})
    assert len(excused) == 5
