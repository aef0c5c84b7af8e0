"""The rows of a batch, from a file: a JSON object in each line, or a table with a head (CSV)."""

from __future__ import annotations

import csv
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import attrs
import msgspec

from orchestra.annotations.documents import takes_documents
from orchestra.annotations.facts import MISSING
from orchestra.batch.ledger import Row
from orchestra.cli.failures import MISUSED, CommandError
from orchestra.cli.running import files
from orchestra.codecs.raw_json import invalid_json
from orchestra.graph.nodes import Input
from orchestra.server.inputs.reading import from_json, from_pairs
from orchestra.server.responses.problems import Fault

LINE_LIMIT_BYTES = 64 * 1024 * 1024
PROBLEMS_MAX = 20
"""The most wrong rows that are shown."""
STDIN = Path("-")
PIPED_LIMIT_BYTES = 16 * 1024**3
"""The most bytes that may come through a pipe; they are copied to a file."""
_CHUNK_BYTES = 1024 * 1024
_DEVICES = (Path("/dev"), Path("/dev/fd"))


def is_piped(rows: Path) -> bool:
    """Whether rows come through a pipe, or from standard input."""
    if rows == STDIN or rows.parent in _DEVICES:  # some are files, if the shell redirects one
        return True
    return rows.exists() and not rows.is_file() and not rows.is_dir()


@contextmanager
def readable_twice(rows: Path) -> Iterator[Path]:
    """A context with the file; for a pipe a copy, since rows are read twice: checked, then run.

    The copy is deleted at the end.

    Raises:
        CommandError: it cannot be read, or copied.
    """
    if not is_piped(rows):
        yield rows
        return
    with NamedTemporaryFile(prefix="orchestra-rows-") as copy:
        try:
            with (Path("/dev/stdin") if rows == STDIN else rows).open("rb") as pipe:
                while chunk := pipe.read(_CHUNK_BYTES):
                    copy.write(chunk)
                    if copy.tell() > PIPED_LIMIT_BYTES:
                        text = f"{rows}: more than {PIPED_LIMIT_BYTES:,} bytes came; write a file"
                        raise CommandError(text, code=MISUSED)
            copy.flush()
        except OSError as error:
            why = f"{rows}: it cannot be copied to {copy.name}: {error.strerror}"
            raise CommandError(why, code=MISUSED) from error
        yield Path(copy.name)


@attrs.frozen
class RowsFile:
    """The rows of a file, for a pipeline with these inputs.

    `id_field` is the field with a row's id; "" takes the row's number, from 1: the line number, or
    in a table the number of the row below the header. Rows are read from `copy`, if there is one;
    messages name `path`.
    """

    path: Path
    inputs: Mapping[str, Input]
    id_field: str = ""
    copy: Path | None = None

    def check(self) -> int:
        """Check all rows, and return their number.

        Raises:
            CommandError: the file cannot be read, or rows are wrong; the message lists the errors
                of the first twenty.
        """
        seen: dict[str, int] = {}
        problems: list[str] = []
        for number, given in self._numbered():
            row, wrong = self._row(number, given)
            if row is not None:
                if row.id in seen:
                    wrong = [f"its {self.id_field} {row.id!r} is that of row {seen[row.id]}, too"]
                seen[row.id] = number
            problems += [f"{self._place(number)}: {each}" for each in wrong]
            if len(problems) >= PROBLEMS_MAX:
                break
        if problems:
            raise CommandError("\n".join(problems[:PROBLEMS_MAX]), code=MISUSED)
        return len(seen)

    def __iter__(self) -> Iterator[Row]:
        """The rows, read as they are needed.

        Raises:
            CommandError: the file has changed since it was checked, and a row is wrong.
        """
        for number, given in self._numbered():
            row, wrong = self._row(number, given)
            if row is None:
                raise CommandError(f"{self._place(number)}: {wrong[0]}", code=MISUSED)
            yield row

    @property
    def _is_table(self) -> bool:
        return self.path.suffix.lower() == ".csv"

    def _place(self, number: int) -> str:
        return f"{self.path}: row {number}" if self._is_table else f"{self.path}:{number}"

    def _numbered(self) -> Iterator[tuple[int, object]]:
        """The content of each row, with its number; an error in place of an unreadable row."""
        try:
            if self._is_table:
                yield from enumerate(self._table(), 1)
            else:
                yield from self._lines()
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            why = getattr(error, "strerror", None) or error
            raise CommandError(f"{self.path}: it cannot be read: {why}", code=MISUSED) from error

    def _table(self) -> Iterator[object]:
        csv.field_size_limit(LINE_LIMIT_BYTES)
        with (self.copy or self.path).open(encoding="utf-8-sig", newline="") as file:
            table = csv.DictReader(file, strict=True)
            for name, count in Counter(table.fieldnames or ()).items():
                if count > 1:  # only the last would be read
                    text = f"{self.path}: its header names {name!r} twice; leave one column out"
                    raise CommandError(text, code=MISUSED)
            yield from table

    def _lines(self) -> Iterator[tuple[int, object]]:
        with (self.copy or self.path).open("rb") as file:
            file.seek(len(BOM_UTF8) if file.read(len(BOM_UTF8)) == BOM_UTF8 else 0)
            lines = iter(lambda: file.readline(LINE_LIMIT_BYTES + 1), b"")
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield number, _object(line)

    def _row(self, number: int, given: object) -> tuple[Row | None, Sequence[str]]:
        """The row, or its errors."""
        if not isinstance(given, dict):
            return None, [str(given)]
        values, row_id = dict(given), str(number)
        if self._is_table and (None in values or None in values.values()):
            return None, ["its number of cells differs from that of the header"]
        if self.id_field:
            if self.id_field not in values:
                known = ", ".join(values) or "nothing"
                return None, [f"it has no {self.id_field!r}, which --id names; it has {known}"]
            row_id = str(values[self.id_field])
            if self.id_field not in self.inputs:
                del values[self.id_field]
        try:
            found, faults = self._read(values)
        except CommandError as error:
            return None, [str(error)]
        if faults:
            return None, [f"{each.detail}{self._advice(each)}" for each in faults]
        return Row(row_id, found), ()

    def _advice(self, fault: Fault) -> str:
        """The advice for a field that is not an input."""
        if self.id_field or fault.field in self.inputs:
            return ""
        return f"; if that is the id of the row, write --id {fault.field}"

    def _read(self, values: dict[str, Any]) -> tuple[dict[str, object], Sequence[Fault]]:
        for name, value in tuple(values.items()):
            known = self.inputs.get(name)
            if known is None:
                continue
            if self._is_table and value == "" and known.default is not MISSING:
                del values[name]
            elif isinstance(value, str) and takes_documents(known.annotation):
                values[name] = files.read_document(value)
        if self._is_table or any(takes_documents(each.annotation) for each in self.inputs.values()):
            return from_pairs(self.inputs, values.items(), "")
        return from_json(self.inputs, values)


def _object(line: bytes) -> object:
    """The object in a line, or the error text."""
    if len(line) > LINE_LIMIT_BYTES:
        return f"the line is longer than {LINE_LIMIT_BYTES} bytes"
    try:
        found = msgspec.json.decode(line)
    except (ValueError, RecursionError) as error:
        return invalid_json(line, error, "it")
    if not isinstance(found, dict):
        return 'a row is a JSON object of inputs, such as {"question": "Why?"}'
    return found
