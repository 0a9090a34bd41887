"""What the documents say of files and forms is so."""

import json
import re
from pathlib import Path

from integrations.imports.own_json import read

PROJECT = Path(__file__).resolve().parents[2]
NAMED = re.compile(r"`((?:[a-z_]+/)?(?:test_)?[a-z_0-9]+\.py)`")


def test_every_test_that_a_threat_is_answered_with_is_there() -> None:
    (section,) = re.findall(r"\n## Threats\n(.*?)\n## ", (PROJECT / "docs/security.md").read_text(), re.DOTALL)
    rows = [line for line in section.splitlines() if line.startswith("| ") and not line.startswith("| what somebody")]
    assert len(rows) > 15
    for row in rows:
        shown = row.split("|")[-2]
        folder = ""
        for name in NAMED.findall(shown):
            folder = f"{name.rpartition('/')[0]}/" if "/" in name else folder
            places = [PROJECT / "tests" / name, PROJECT / "tests" / folder / name]
            assert any(place.is_file() for place in places), name
        assert shown.strip(), row


def test_the_form_of_configurations_in_the_readme_can_be_read() -> None:
    (example,) = re.findall(r"```json\n(\{\s*\"format\".*?)```", (PROJECT / "README.md").read_text(), re.DOTALL)
    wanted = read(example)
    assert json.loads(example)["limits"][0]["amount"] == wanted.limits[0].amount
    assert [one.name for one in wanted.integrations] == list(wanted.keys[0].integrations or ())
