"""What a command shows: one JSON document for programs, lines for pipes; `accounts.tables` has what people get."""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from uuid import UUID

Record = Mapping[str, object]
Shown = Record | Sequence[Record]

# Names come from customers: a terminal must not obey what stands in them.
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def as_json(shown: object) -> str:
    """One JSON document on one line; times in RFC 3339, decimals as strings."""
    return json.dumps(shown, default=_plain, ensure_ascii=False)


def as_text(shown: Shown) -> str:
    """Tab-separated lines for pipes: `name<TAB>value` of one record, a header and rows of many."""
    if isinstance(shown, Mapping):
        return "".join(f"{name}\t{cell(value)}\n" for name, value in shown.items())
    lines = [list(shown[0])] if shown else []
    lines += [[cell(value) for value in record.values()] for record in shown]
    return "".join("\t".join(line) + "\n" for line in lines)


def cell(value: object) -> str:
    """A value as people read it: nothing for none, lists with commas."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return value.isoformat(timespec="seconds")
    if isinstance(value, Mapping):
        value = [f"{name}={cell(inner)}" for name, inner in value.items()]
    if isinstance(value, list | tuple):
        return CONTROL.sub("�", ", ".join(cell(item) for item in value))
    return CONTROL.sub("�", str(value))


def _plain(value: object) -> str:
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, UUID | Decimal):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")
