"""The rows of a batch, from a file: a JSON object in each line, or a table with a head (CSV)."""

from __future__ import annotations

import csv
import stat
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import msgspec

from orchestra.annotations.documents import takes_documents
from orchestra.annotations.facts import MISSING
from orchestra.batch.ledger import Row
from orchestra.cli.failures import MISUSED, CommandError
from orchestra.cli.running import files
from orchestra.codecs.invalid_json import invalid_json
from orchestra.graph.nodes import Input
from orchestra.server.front.problems import Fault
from orchestra.server.runs.inputs import from_json, from_pairs

LINE_LIMIT_BYTES = 64 * 1024 * 1024
PROBLEMS_MAX = 20
"""The most wrong rows that are shown."""


@attrs.frozen
class RowsFile:
    """The rows of a file, for a pipeline with these inputs.

    `id_field` is the field with a row's id; "" for its number, from 1: that of its line, or in a
    table that of the row below the header.
    """

    path: Path
    inputs: Mapping[str, Input]
    id_field: str = ""

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
            if not stat.S_ISREG(self.path.stat().st_mode):
                raise CommandError(
                    f"{self.path}: it is no file, and rows are read twice: all of them to check "
                    "them, and each again to run it; write them into a file",
                    code=MISUSED,
                )
            if self._is_table:
                yield from enumerate(self._table(), 1)
            else:
                yield from self._lines()
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            why = getattr(error, "strerror", None) or error
            raise CommandError(f"{self.path}: it cannot be read: {why}", code=MISUSED) from error

    def _table(self) -> Iterator[object]:
        csv.field_size_limit(LINE_LIMIT_BYTES)
        with self.path.open(encoding="utf-8-sig", newline="") as file:
            table = csv.DictReader(file, strict=True)
            for name, count in Counter(table.fieldnames or ()).items():
                if count > 1:  # only the last would be read
                    told = f"{self.path}: its header names {name!r} twice; leave one column out"
                    raise CommandError(told, code=MISUSED)
            yield from table

    def _lines(self) -> Iterator[tuple[int, object]]:
        with self.path.open("rb") as file:
            lines = iter(lambda: file.readline(LINE_LIMIT_BYTES + 1), b"")
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield number, _object(line)

    def _row(self, number: int, given: object) -> tuple[Row | None, Sequence[str]]:
        """The row, or its errors."""
        if not isinstance(given, dict):
            return None, [str(given)]
        values, row_id = dict(given), str(number)
        if None in values or None in values.values():
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
