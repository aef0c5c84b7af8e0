"""Every example in the documents is run: Python here, as one module for each document.

A block below `<!-- file: path -->` is that file, word for word (`python tests/docs/include.py`
writes it).
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from fastapi import FastAPI
from fastapi.testclient import TestClient

from orchestra.errors import OverloadedError

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"(?:<!-- file: (?P<file>\S+) -->\n)?```python\n(?P<code>.*?)```", re.DOTALL)


@pytest.fixture
def run_document(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], ModuleType]:
    def run(document: Path) -> ModuleType:
        """Block after block, in one namespace."""
        blocks = [m["code"] for m in BLOCK.finditer(document.read_text()) if not m["file"]]
        path = tmp_path / f"{document.stem.replace('-', '_').lower()}_examples.py"
        path.write_text("\n\n".join(blocks))
        spec = spec_from_file_location(path.stem, path)
        assert spec is not None
        assert spec.loader is not None
        module = module_from_spec(spec)
        monkeypatch.setitem(sys.modules, path.stem, module)  # as of who has imported it
        spec.loader.exec_module(module)
        return module

    return run


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_the_python_in_a_document_runs(
    document: Path, run_document: Callable[[Path], ModuleType]
) -> None:
    """Tests in it are called."""
    for name, value in list(vars(run_document(document)).items()):
        if name.startswith("test_"):
            value()


def test_the_fastapi_application_answers(
    run_document: Callable[[Path], ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    key = generate_private_key(public_exponent=65537, key_size=2048)
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    monkeypatch.setenv("JWT_PUBLIC_KEY", public.decode())
    app: FastAPI = run_document(ROOT / "docs/asyncio.md").app

    @app.get("/full")
    async def full() -> None:
        raise OverloadedError("full", retry_after_s=7)

    def signed(audience: str) -> dict[str, str]:
        claims = {"org": "acme", "sub": "ada", "aud": audience}
        return {"Authorization": f"Bearer {jwt.encode(claims, key, algorithm='RS256')}"}

    with TestClient(app) as client:
        assert client.get("/look-up?name=ada").status_code == 401
        assert client.get("/look-up?name=ada", headers=signed("other")).status_code == 401
        assert client.get("/look-up?name=ada", headers=signed("shop")).json() == "ADA"
        events = client.get("/spell?word=ada", headers=signed("shop")).text
        refused = client.get("/full")
    assert re.findall("event: (.*)", events)[-1] == "run.finished"
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "7")
    assert refused.json()["type"].endswith("provider-overloaded")


@pytest.fixture
def ran(
    run_document: Callable[[Path], ModuleType], tmp_path: Path
) -> Callable[[str], tuple[int, list[str]]]:
    """The exit code and output of a process that has the recipes and runs this code."""
    module = run_document(ROOT / "docs/conversations.md").__name__

    def ran(code: str) -> tuple[int, list[str]]:
        done = subprocess.run(
            [sys.executable, "-c", f"import {module} as recipes\nfrom {module} import *\n{code}"],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout.splitlines()

    return ran


def test_an_approval_outlives_the_process_that_asked_for_it(
    ran: Callable[[str], tuple[int, list[str]]],
) -> None:
    """The first process is killed after its run; the second one knows only the ticket."""
    killed, (ticket,) = ran(
        'print(asks("My lamp A-7 is broken."), flush=True)\nimport os; os.kill(os.getpid(), 9)'
    )
    assert killed == -9
    ended, (answer, told, again) = ran(
        'smart = ScriptedTurns.saying("It is on its way.")\n'
        "def decided(schedule):\n"
        '    world = World(models={"smart": smart}, schedule=schedule)\n'
        f"    return simulate(settle, world, ticket={ticket!r}, yes=True)\n"
        "print(decided(2).result())\n"
        "print(outcome(smart))\n"
        "print(type(decided(3).error).__name__)"
    )
    assert (ended, answer) == (0, "It is on its way.")
    assert told == "30.00 euros are sent back for A-7"
    assert again == "InputError"


def test_a_refund_in_a_chat_whose_process_dies_is_not_told_as_one_that_was_not_made(
    ran: Callable[[str], tuple[int, list[str]]],
) -> None:
    killed, _ = ran(
        "async def killing(number, euros):\n"
        "    import os; os.kill(os.getpid(), 9)\n"
        "recipes.paid = killing\n"
        'given = {"ticket": refund_proposed("1"), "decisions": {"call_0": True}}\n'
        'world = World(models={"smart": ScriptedTurns.saying("Paid.")})\n'
        'simulate(assistant_decided, world, name="1", **given)'
    )
    assert killed == -9
    ended, (busy, told) = ran(
        'smart = ScriptedTurns.saying("Let us see.")\n'
        'again = {"name": "1", "question": "And my money?"}\n'
        'world = World(models={"smart": smart})\n'
        "print(simulate(assistant, world, **again).error)\n"
        'trio.run(sql, "UPDATE chats SET busy_until = 0")\n'
        "simulate(assistant, world, **again).result()\n"
        "print(smart.asked[0].messages[2].parts[0].content)"
    )
    assert (ended, busy) == (0, "it is being answered, or does not wait under this ticket")
    assert "it may have been done" in told


INCLUDED = re.compile(
    r"<!-- file: (?P<file>\S+) -->\n```\w+\n(?P<text>.*?)^```", re.DOTALL | re.MULTILINE
)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_an_included_file_is_the_file(document: Path) -> None:
    """What a document shows of a file is what the file says."""
    for match in INCLUDED.finditer(document.read_text()):
        assert match["text"] == (ROOT / match["file"]).read_text(), match["file"]
