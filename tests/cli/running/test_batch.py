"""`orchestra batch`: a file of rows in, a file of results out, and again from where it stopped."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from orchestra.accounts import Usage
from orchestra.batch.batch import Progress
from orchestra.cli.failures import FAILED, INTERRUPTED, MISUSED, CommandError
from orchestra.cli.running.batch import rest, summary
from orchestra.cli.running.rows import LINE_LIMIT_BYTES, PROBLEMS_MAX, RowsFile, readable_twice
from orchestra.documents import Document
from orchestra.graph.nodes import Input
from orchestra.graph.pipelines import pipeline
from orchestra.graph.steps import step
from tests.cli.conftest import ROOT, Project
from tests.patience import PATIENCE_S, eventually


@pytest.fixture
def halving(project: Project) -> Project:
    """A pipeline that fails for some numbers, and takes a while for others."""
    project.write(
        "pipelines/halve.py",
        """
        import trio
        from orchestra import pipeline, step


        @step
        async def halved(number: int, wait_s: float) -> float:
            await trio.sleep(wait_s)
            return 1 / number


        @pipeline
        def halve(number: int, wait_s: float = 0.0) -> float:
            return halved(number, wait_s)
        """,
    )
    return project


def results(project: Project, name: str = "rows.results.jsonl") -> dict[str, Any]:
    lines = [json.loads(line) for line in (project.folder / name).read_text().splitlines()]
    return {each["id"]: each.get("result", each.get("error")) for each in lines}


def test_each_row_has_a_result_and_the_same_command_goes_on(halving: Project) -> None:
    rows = halving.write("rows.jsonl", '\ufeff{"number": 1}\n\n{"number": 0}\n{"number": 4}\n')
    command = ("batch", "pipelines.halve", "rows.jsonl")
    code, out, err = halving.orchestra(*command)
    assert code == FAILED
    assert out.startswith("rows.results.jsonl: 2 of 3 rows have a result, 1 failed; ")
    assert "1 row failed; the last was '3': ZeroDivisionError: division by zero" in err
    assert results(halving) == {"1": 1.0, "3": "ZeroDivisionError", "4": 0.25}
    rows.write_text(rows.read_text().replace("0", "2"))
    code, out, err = halving.orchestra(*command)
    assert (code, err) == (0, "")
    assert out.startswith("rows.results.jsonl: 3 of 3 rows have a result (2 from before); ")
    assert results(halving)["3"] == 0.5
    assert halving.orchestra(*command)[1].startswith("rows.results.jsonl: 3 of 3 rows")


def test_a_model_that_is_away_for_good_stops_it_with_one_message(project: Project) -> None:
    project.write(
        "pipelines/ask.py",
        """
        from orchestra import collect, pipeline
        from orchestra.steps import generate


        @pipeline
        def ask(question: str) -> str:
            return collect(generate(question, model="far"))
        """,
    )
    project.write(
        "orchestra.toml",
        """
        [models.far]
        provider = "openai-compatible"
        model = "x"
        base_url = "http://127.0.0.1:1/v1"
        """,
    )
    project.write("rows.jsonl", "".join(f'{{"question": "{at}"}}\n' for at in range(100)))
    options = ("--attempts-max", "1", "--outage-max-s", "0")
    code, _, err = project.orchestra("batch", "pipelines.ask", "rows.jsonl", *options)
    assert code == FAILED
    assert "no model has answered for 0 s" in err
    assert "ModelConnectionError" in err
    assert err.count("\n") <= 3
    assert set(results(project).values()) == {"ModelConnectionError"}
    assert len(results(project)) <= 24


def test_a_table_has_the_names_of_inputs_in_its_head(halving: Project) -> None:
    halving.write("t.csv", "key,number,wait_s\na,1,\nb,2,0.001\n")
    words = ("batch", "pipelines.halve", "t.csv", "--id", "key", "--results", "out/x.jsonl")
    code, _, err = halving.orchestra(*words)
    assert code == FAILED
    assert "out/x.jsonl: results cannot be written to this file: No such file or directory" in err
    code, _, err = halving.orchestra(*words[:-1], "x.jsonl")
    assert (code, err) == (0, "")
    assert results(halving, "x.jsonl") == {"a": 1.0, "b": 0.5}


def test_all_wrong_rows_are_told_before_anything_is_run(halving: Project) -> None:
    wrong = ["nonsense", "[1]", '{"number": "x"}', '{"nmber": 1}', '{"number": 1, "id": 7}']
    halving.write("rows.jsonl", "\n".join(['{"number": 1}', *wrong]))
    code, out, err = halving.orchestra("batch", "pipelines.halve", "rows.jsonl")
    assert (code, out) == (MISUSED, "")
    assert "rows.jsonl:2: it is not JSON" in err
    assert 'rows.jsonl:3: a row is a JSON object of inputs, such as {"question": "Why?"}' in err
    assert "rows.jsonl:4: input `number`: expected `int`, got `str`" in err
    assert "rows.jsonl:5: input 'number' is missing" in err
    assert "rows.jsonl:6: " in err
    assert "if that is the id of the row, write --id id" in err
    assert not (halving.folder / "rows.results.jsonl").exists()


def test_rows_have_ids_of_their_own(halving: Project) -> None:
    halving.write("t.csv", "key,number\na,1\na,2\n")
    code, _, err = halving.orchestra("batch", "pipelines.halve", "t.csv", "--id", "key")
    assert code == MISUSED
    assert "t.csv: row 2: its key 'a' is that of row 1, too" in err
    _, _, err = halving.orchestra("batch", "pipelines.halve", "t.csv", "--id", "kee")
    assert "t.csv: row 1: it has no 'kee', which --id names; it has key, number" in err


def test_results_are_not_written_into_the_rows(halving: Project) -> None:
    """They would be read as rows, now and by the same command later."""
    rows = halving.write("rows.jsonl", '{"number": 1}\n')
    (halving.folder / "link.jsonl").symlink_to(rows)
    for name in ("rows.jsonl", "link.jsonl"):
        words = ("batch", "pipelines.halve", "rows.jsonl", "--results", name)
        code, out, err = halving.orchestra(*words)
        assert (code, out) == (MISUSED, "")
        assert f"{name}: results cannot be written into the rows" in err
        assert rows.read_text() == '{"number": 1}\n'


@pytest.mark.parametrize("folder", [".", "..", "pipelines"])
def test_a_folder_has_no_rows(halving: Project, folder: str) -> None:
    code, _, err = halving.orchestra("batch", "pipelines.halve", folder)
    assert code == MISUSED
    assert f"{folder}: it cannot be read: Is a directory" in err


def test_a_signal_lets_rows_end_that_are_under_way(halving: Project) -> None:
    halving.write(
        "rows.jsonl", "".join(f'{{"number": {n}, "wait_s": 0.3}}\n' for n in range(1, 99))
    )
    process = halving.launch("batch", "pipelines.halve", "rows.jsonl", "--at-once", "1")
    there = halving.folder / "rows.results.jsonl"
    eventually("a first result", lambda: there.exists() and there.read_bytes())
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == INTERRUPTED
    assert b"stopped by Ctrl-C; the same command resumes from there" in err
    done = len(results(halving))
    assert f" {done} of 98 rows have a result".encode() in out
    assert 0 < done < 98


@step
def told(text: str, number: int, document: Document | None) -> str:
    return f"{text} {number} {document}"


@pipeline
def telling(text: str, number: int = 7, document: Document | None = None) -> str:
    return told(text, number, document)


INPUTS: dict[str, Input] = dict(telling.inputs)
ROWS = st.lists(st.tuples(st.text("ab,\"'\n é", min_size=1), st.integers(-9, 9)), max_size=4)


@given(ROWS)
def test_a_table_and_lines_of_json_say_the_same(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, int]]
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    with (folder / "t.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "number"), *rows])
    lines = [json.dumps({"text": text, "number": number}) for text, number in rows]
    (folder / "l.jsonl").write_text("\n".join(lines), "utf-8")
    table, objects = (RowsFile(folder / name, INPUTS) for name in ("t.csv", "l.jsonl"))
    assert [*table] == [*objects]
    assert table.check() == objects.check() == len(rows)


def rows_of(path: Path) -> list[dict[str, object]]:
    return [dict(each.inputs) for each in RowsFile(path, INPUTS)]


def test_of_a_document_the_value_is_its_path(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("# A")
    (tmp_path / "l.jsonl").write_text(json.dumps({"text": "x", "document": str(tmp_path / "a.md")}))
    assert rows_of(tmp_path / "l.jsonl") == [{"text": "x", "document": Document("a.md", b"# A")}]
    (tmp_path / "l.jsonl").write_text('{"text": "x", "document": "nowhere"}')
    with pytest.raises(CommandError, match="'nowhere' cannot be read: No such file"):
        rows_of(tmp_path / "l.jsonl")


def test_null_is_a_value(tmp_path: Path) -> None:
    """Only in a table it says that a cell is missing."""
    (tmp_path / "l.jsonl").write_text('{"text": "x", "document": null}')
    assert rows_of(tmp_path / "l.jsonl") == [{"text": "x", "document": None}]


@pytest.mark.parametrize(
    ("name", "data", "why"),
    [
        ("gone.jsonl", None, "it cannot be read: No such file"),
        ("t.csv", b"text\na,b\n", "row 1: its number of cells differs"),
        ("t.csv", b"text,number\na\n", "row 1: its number of cells differs"),
        ("t.csv", b"text\n\xff\n", "it cannot be read: 'utf-8' codec"),
        ("t.csv", b"text,number,text\na,1,b\n", "t.csv: its header names 'text' twice"),
        ("l.jsonl", b'{"text": "\xff"}', "l.jsonl:1: it is not JSON"),
        ("l.jsonl", b'{"text": "\\ud800"}', r"l.jsonl:1: it is not JSON: \\ud800 is half of"),
        ("l.jsonl", b'{"text": %b' % (b"[" * 100_000), "l.jsonl:1: it is nested too deeply"),
    ],
)
def test_what_is_no_table_is_told(tmp_path: Path, name: str, data: bytes | None, why: str) -> None:
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(CommandError, match=why):
        RowsFile(tmp_path / name, INPUTS).check()


def piped(project: Project, rows: str, given: bytes, *words: str) -> tuple[int, str, str]:
    """A batch whose standard input is a pipe with these rows."""
    command = [sys.executable, "-m", "orchestra", "batch", "pipelines.halve", rows, *words]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command,
        check=False,
        cwd=project.folder,
        env=env,
        input=given,
        capture_output=True,
        timeout=PATIENCE_S,
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


@pytest.mark.parametrize("rows", ["-", "/dev/stdin", "/dev/fd/0"])
def test_rows_may_come_through_a_pipe_and_the_same_command_goes_on(
    halving: Project, rows: str
) -> None:
    words = (rows, b'{"number": 1}\n{"number": 4}\n', "--results", "r.jsonl")
    code, out, err = piped(halving, *words)
    assert (code, err) == (0, "")
    assert out.startswith("r.jsonl: 2 of 2 rows have a result; ")
    assert results(halving, "r.jsonl") == {"1": 1.0, "2": 0.25}
    assert piped(halving, *words)[1].startswith("r.jsonl: 2 of 2 rows have a result (2 from before")
    wrong = piped(halving, rows, b'{"number": 1}\n[]\n', "--results", "r.jsonl")
    assert wrong[0] == MISUSED
    assert f"{rows}:2: a row is a JSON object" in wrong[2]


def test_rows_through_a_pipe_have_no_place_for_their_results(halving: Project) -> None:
    os.mkfifo(halving.folder / "pipe")
    for rows in ("-", "/dev/stdin", "pipe"):  # of which nothing is read
        code, _, err = halving.orchestra("batch", "pipelines.halve", rows)
        assert code == MISUSED
        assert f"{rows}: rows through a pipe need --results FILE" in err


def test_a_pipe_is_copied_with_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the copy is gone afterwards."""
    with readable_twice(Path("/dev/null")) as copy:
        assert copy.read_bytes() == b""
    assert not copy.exists()
    monkeypatch.setattr("orchestra.cli.running.rows.PIPED_LIMIT_BYTES", 3_000_000)
    with (
        pytest.raises(CommandError, match="/dev/zero: more than 3,000,000 bytes came"),
        readable_twice(Path("/dev/zero")),
    ):
        raise AssertionError
    with pytest.raises(CommandError, match=r"/dev/nothing: .*No such file"):  # noqa: SIM117
        with readable_twice(Path("/dev/nothing")):
            raise AssertionError


def test_a_cell_may_be_as_long_as_a_line_of_json(tmp_path: Path) -> None:
    """Python's own bound is the eighth part of a megabyte, and a text may be longer."""
    text = "x" * 300_000
    (tmp_path / "t.csv").write_text(f"text\n{text}\n")
    assert rows_of(tmp_path / "t.csv") == [{"text": text}]


def test_a_line_without_an_end_is_not_read_to_it(tmp_path: Path) -> None:
    (tmp_path / "l.jsonl").write_bytes(b"x" * (LINE_LIMIT_BYTES + 1))
    with pytest.raises(CommandError, match=r"l.jsonl:1: the line is longer than \d+ bytes"):
        RowsFile(tmp_path / "l.jsonl", INPUTS).check()


def test_no_more_is_told_of_a_wrong_file_than_somebody_reads(tmp_path: Path) -> None:
    (tmp_path / "l.jsonl").write_text("no\n" * 99)
    with pytest.raises(CommandError) as caught:
        RowsFile(tmp_path / "l.jsonl", INPUTS).check()
    told = str(caught.value).splitlines()
    assert len(told) == PROBLEMS_MAX
    assert f"l.jsonl:{PROBLEMS_MAX}: " in told[-1]


def test_an_empty_cell_is_the_default(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("text,number\na,\n")
    assert rows_of(tmp_path / "t.csv") == [{"text": "a"}]


def test_a_summary_tells_what_it_cost() -> None:
    progress = Progress(done_before=2, finished=3, failed=1)
    progress.usage = Usage(1000, 50, cost_nanodollars=1_500_000_000, unpriced_calls=2)
    assert summary(progress, 9) == (
        "5 of 9 rows have a result (2 from before), 1 failed; 1000 tokens in, 50 out, $1.5, "
        "and 2 calls have no price"  # of steps that named no model
    )
    unpriced = Usage(1, 1, unpriced_calls=1)
    progress.usage_by_model = {"z": unpriced, "priced": Usage(9, 9), "a": unpriced}
    assert summary(progress, 9).endswith(", and 2 calls have no price (models: a, z)")
    progress.usage, progress.usage_by_model = unpriced, {"a": unpriced}
    assert summary(progress, 9).endswith(", and 1 call has no price (models: a)")


def test_progress_tells_how_long_no_row_starts() -> None:
    async def told() -> list[str]:
        progress = Progress(rests_until_s=trio.current_time() + 90)
        first = rest(progress)
        await trio.sleep(89.5)
        return [first, rest(progress), rest(Progress())]

    assert trio.run(told, clock=MockClock(autojump_threshold=0)) == [
        "; no row starts for 90 s more",
        "",
        "",
    ]


def test_rows_are_read_as_pydantic_models(project: Project) -> None:
    project.write(
        "pipelines/bill.py",
        """
        from pydantic import BaseModel

        from orchestra import pipeline, step


        class Invoice(BaseModel):
            number: int
            note: str = "none"


        @step
        def paid(invoice: Invoice) -> Invoice:
            return invoice.model_copy(update={"note": "paid"})


        @pipeline
        def bill(invoice: Invoice) -> Invoice:
            return paid(invoice)
        """,
    )
    project.write("rows.jsonl", '{"invoice": {"number": 7}}\n')
    code, _, err = project.orchestra("batch", "pipelines.bill", "rows.jsonl")
    assert (code, err) == (0, "")
    assert results(project) == {"1": {"number": 7, "note": "paid"}}
    project.write("wrong.jsonl", '{"invoice": {"number": "x"}}\n')
    code, _, err = project.orchestra("batch", "pipelines.bill", "wrong.jsonl")
    assert code == MISUSED
    assert "wrong.jsonl:1: input `invoice.number`: input should be a valid integer" in err
