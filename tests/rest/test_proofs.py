"""A customer reads the proof bundle of its own evidence, and verifies it without Customhouse."""

import json
import subprocess
import sys
import zipfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.http import StreamingHttpResponse
from django.utils import timezone

from accounts.actors import Actor
from accounts.models import AuditEvent
from accounts.services import change_tenant
from telemetry import bundles, proof
from tests.people import globex, operator
from tests.rest.programs import Program, program
from tests.telemetry.seals import evidence_of_each_kind, seal_all, used

pytestmark = pytest.mark.django_db
# Bundles are read in a session of their own.
committed = pytest.mark.django_db(transaction=True)
PATH = "cus/evidence/proof"
SCRIPT = settings.BASE_DIR / "scripts" / "verify_evidence.py"


def span(days: float = 1) -> dict[str, str]:
    now = timezone.now()
    return {
        "created_after": (now - timedelta(days=days)).isoformat(),
        "created_before": (now + timedelta(hours=1)).isoformat(),
    }


def bundle(asker: Program, to: Path, **query: str) -> dict[str, Any]:
    """The manifest of what was read, which is written to a file."""
    answer = asker.client.get(f"/api/v1/{PATH}", span() | query)
    assert (answer.status_code, answer["Content-Type"]) == (200, "application/zip"), answer.content
    to.write_bytes(answer.getvalue())
    manifest: dict[str, Any] = json.loads(zipfile.ZipFile(to).read("manifest.json"))
    return manifest


def verified(file: Path) -> dict[str, Any]:
    """What the program finds that an auditor gets from elsewhere."""
    command = [sys.executable, "-I", str(SCRIPT), str(file), "--json"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    found: dict[str, Any] = json.loads(ended.stdout)
    assert ended.returncode == (3 if found["count"] else 0), ended.stderr
    return found


@committed
def test_the_bundle_holds_the_own_evidence_verifies_and_names_no_operator(tmp_path: Path) -> None:
    asker, theirs = program("read"), program("read", tenant=globex())
    person = operator()
    by = Actor.operator(user_id=person.pk, email=person.email, address="192.0.2.7")
    change_tenant(tenant=asker.tenant, changes={"name": "Acme & Co"}, actor=by)
    for tenant in (asker.tenant, theirs.tenant):
        used(tenant, 2)
        seal_all(tenant.pk)
    file = tmp_path / "bundle.zip"
    manifest = bundle(asker, file)
    assert (manifest["tenant"]["slug"], manifest["unsealed_rows"]) == ("acme", 0)
    found = verified(file)
    assert (found["findings"], found["told"]["usage rows"]) == ([], 2)
    assert found["told"]["audit rows that are withheld from you"] == len(manifest["withheld_audit_rows"]) > 0
    with zipfile.ZipFile(file) as archive:
        text = "".join(archive.read(name).decode() for name in archive.namelist())
    assert person.email not in text and "192.0.2.7" not in text and str(theirs.tenant.pk) not in text
    event = AuditEvent.objects.get(action="evidence.exported")
    assert (event.tenant_id, event.actor_id) == (asker.tenant.pk, str(asker.key.pk))
    assert set(event.after or ()) == {"since", "until"}


@committed
def test_what_was_changed_on_the_way_is_found(tmp_path: Path) -> None:
    asker, file = program("read"), tmp_path / "bundle.zip"
    evidence_of_each_kind(asker.tenant)
    seal_all(asker.tenant.pk)
    bundle(asker, file)
    with zipfile.ZipFile(file) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    parts["rows/usage.jsonl"] = parts["rows/usage.jsonl"].replace(b'"gpt', b'"xpt').replace(b'"m"', b'"n"')
    with zipfile.ZipFile(file, "w") as archive:
        for name, part in parts.items():
            archive.writestr(name, part)
    assert any(finding.startswith("row_changed") for finding in verified(file)["findings"])


@committed
def test_one_bundle_at_a_time_is_made_and_only_as_fast_as_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundles, "PIECE_BYTES", 1)
    monkeypatch.setattr(proof, "LINES_AT_ONCE", 1)
    asker, theirs = program("read"), program("read", tenant=globex())
    evidence_of_each_kind(asker.tenant)
    answer = asker.client.get(f"/api/v1/{PATH}", span())
    assert isinstance(answer, StreamingHttpResponse)
    pieces = iter(answer)
    assert next(pieces)
    status, refused = asker.get(PATH, **span())
    assert (status, refused["code"]) == (409, "proof_in_the_making")
    assert theirs.client.get(f"/api/v1/{PATH}", span()).getvalue()
    answer.close()
    assert asker.client.get(f"/api/v1/{PATH}", span()).getvalue()


@pytest.mark.parametrize(
    ("query", "field", "code"),
    [
        ({}, "created_after", "required"), (span(32), "created_after", "span_too_long"),
        (span(-1), "created_after", "invalid"), (span() | {"through": "0"}, "through", "min_value"),
        (span() | {"model": "m"}, "model", "unknown_parameter"),
    ],
)  # fmt: skip
def test_a_period_that_cannot_be_proven_is_refused(query: dict[str, str], field: str, code: str) -> None:
    status, answer = program("read").get(PATH, **query)
    assert (status, (answer["errors"][0]["field"], answer["errors"][0]["code"])) == (400, (field, code))


def test_it_takes_the_scope_read_the_whole_tenant_and_a_period_that_is_shown() -> None:
    asker = program("read")
    assert program("inference").get(PATH)[1]["code"] == "scope_missing"
    restricted = program("read", tenant=asker.tenant, integrations=[asker.integration])
    assert restricted.get(PATH, **span())[1]["code"] == "key_restricted"
    change_tenant(tenant=asker.tenant, changes={"evidence_months": 1})
    old = {"created_after": (timezone.now() - timedelta(days=70)).isoformat()}
    old |= {"created_before": (timezone.now() - timedelta(days=60)).isoformat()}
    assert asker.get(PATH, **old)[1]["errors"][0]["code"] == "not_shown"


@committed
def test_no_bundle_is_read_longer_than_it_may_nor_more_at_once_than_may(monkeypatch: pytest.MonkeyPatch) -> None:
    asker, now = program("read"), timezone.now()
    used(asker.tenant, 3)
    monkeypatch.setattr(proof, "LINES_AT_ONCE", 1)
    monkeypatch.setattr(bundles, "LONGEST_SECONDS", -1.0)
    with pytest.raises(TimeoutError):
        list(bundles.bundle_of(tenant=asker.tenant, since=now - timedelta(days=1), until=now + timedelta(hours=1)))
    monkeypatch.setattr(bundles, "MOST_AT_ONCE", 0)
    assert asker.get(PATH, **span())[0] == 409
