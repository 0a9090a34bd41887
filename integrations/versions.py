"""Versions of what REST shows: `ETag` with each answer, `If-Match` before a change."""

import hashlib
import re
from collections.abc import Collection, Mapping

from rest_framework.exceptions import APIException
from rest_framework.request import Request
from rest_framework.utils.encoders import JSONEncoder

ENTITY_TAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e]*"')


class Outdated(APIException):
    """Somebody else has changed it meanwhile."""

    status_code = 412
    default_detail = "It was changed since you read it: read it again, then change it."
    default_code = "precondition_failed"


def etag_of(record: Mapping[str, object], *, without: Collection[str] = ()) -> str:
    """The version of a record, `without` the fields that change by themselves."""
    told = {name: value for name, value in record.items() if name not in without}
    text = JSONEncoder(sort_keys=True).encode(told)
    return f'"{hashlib.sha256(text.encode()).hexdigest()[:32]}"'


def check_match(request: Request, etag: str) -> None:
    """Raise `Outdated` if the request names versions and the present one is not among them."""
    wanted = request.headers.get("If-Match")
    if wanted is None or wanted.strip() == "*":
        return
    if etag not in ENTITY_TAG.findall(wanted):
        raise Outdated
