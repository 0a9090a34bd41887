"""Records as files for other programs: one JSON object per line, or a line of CSV for each."""

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from io import StringIO
from typing import Any

from accounts.printing import as_json

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def json_lines(records: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """One JSON object per record."""
    for record in records:
        yield as_json(record) + "\n"


def csv_lines(records: Iterable[Mapping[str, Any]], *, header: Sequence[str] | None = None) -> Iterator[str]:
    """A header and a line per record. No cell is a formula to a spreadsheet.

    `header` is written even if there is no record; without it, the names are those of the first one.
    """
    if header is not None:
        yield _line(header)
    for record in records:
        if header is None:
            header = list(record)
            yield _line(header)
        yield _line(harmless(record[name]) for name in header)


def harmless(value: object) -> object:
    """A text that a spreadsheet does not calculate (OWASP, CSV injection)."""
    if isinstance(value, dict | list):
        value = json.dumps(value, ensure_ascii=False)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, str) and (value.startswith(FORMULA) or value.lstrip().startswith(FORMULA)):
        return "'" + value
    return "" if value is None else value


def _line(values: Iterable[object]) -> str:
    written = StringIO()
    csv.writer(written).writerow(list(values))
    return written.getvalue()
