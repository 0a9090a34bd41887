"""The document as it stands in the repository, which is what is served."""

import json
from functools import cache
from typing import Any

from config.environment import PROJECT

PATH = PROJECT / "docs" / "openapi.json"


def written(document: dict[str, Any]) -> str:
    """A document as the file holds it: every line a small change, for whoever reads the differences."""
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


@cache
def published() -> str:
    """The file. Raises `OSError` where it is not there."""
    return PATH.read_text(encoding="utf-8")
