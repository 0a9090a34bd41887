"""`verify_evidence`, `checkpoint` and `evidence`: what an operator and an auditor hold evidence to."""

import json
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import transaction
from django.utils import timezone

from accounts.commands import CommandFailed
from accounts.models import Tenant
from telemetry.models import Seal
from telemetry.seal_keys import SealKey, seal_key
from telemetry.sealing import seal
from tests.commands.asking import PROJECT, ask, program
from tests.people import acme, globex
from tests.telemetry.damage import run
from tests.telemetry.seals import raw, seal_all, used

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def tenant() -> Tenant:
    """A customer with a few sealed calls, beside another one."""
    tenant = acme()
    used(tenant, 5, at=timezone.now() - timedelta(hours=1))
    seal_all(tenant.pk)
    seal_all(globex().pk)
    return tenant


def damage(query: str, *values: object) -> None:
    """Past the triggers, as only a master of the database can."""
    with transaction.atomic():
        run("SET LOCAL session_replication_role = replica")
        run(query, *values)


def test_evidence_that_agrees_is_said_to_and_damage_ends_with_3(tenant: Tenant) -> None:
    used(tenant, 2)
    told = ask("verify_evidence")
    (ours,) = (one for one in told["tenants"] if one["tenant"] == "acme")
    assert told["findings"] == []
    assert (ours["seals"], ours["rows"], ours["unsealed"]) == (1, Seal.objects.get(tenant_id=tenant.pk).total, 2)
    assert ours["keys"] == [{"public_key": seal_key().public.hex(), "first_seal": 1}]
    assert {one["tenant"] for one in told["tenants"]} == {"acme", "globex", "installation"}
    damage("UPDATE cus_llm_usage SET cost_nanos = 1 WHERE id = (SELECT min(id) FROM cus_llm_usage)")
    ended = program("verify_evidence", "--tenant", "acme", "--json")
    (finding,) = json.loads(ended.out)["findings"]
    assert (ended.status, finding["problem"], finding["kind"], finding["tenant"]) == (3, "row_changed", "usage", "acme")
    assert ask("verify_evidence", "--tenant", "globex")["findings"] == []


def test_history_is_held_to_what_was_exported(tenant: Tenant, tmp_path: Path) -> None:
    file = tmp_path / "checkpoint.jsonl"
    assert ask("checkpoint", "export", "--to", file)["tenants"] == 2
    assert json.loads(file.read_text().splitlines()[0])["public_key"] == ask("checkpoint", "key")["public_key"]
    with pytest.raises(CommandFailed, match="cannot be written"):
        ask("checkpoint", "export", "--to", file)
    used(tenant, 3)
    seal_all(tenant.pk)
    assert ask("verify_evidence", "--checkpoint", file)["findings"] == []
    damage("TRUNCATE cus_seals, cus_unsealed, cus_llm_usage, cus_audit_events")
    assert ask("verify_evidence")["findings"] == []
    problems = [(one["tenant"], one["problem"]) for one in ask("verify_evidence", "--checkpoint", file)["findings"]]
    assert sorted(problems) == [("acme", "history_truncated"), ("globex", "history_truncated")]


def test_one_tenant_is_held_to_a_checkpoint_that_knows_it(tenant: Tenant, tmp_path: Path) -> None:
    file = tmp_path / "checkpoint.jsonl"
    ask("checkpoint", "export", "--to", file, "--tenant", "acme")
    assert ask("verify_evidence", "--checkpoint", file)["findings"] == []
    (finding,) = ask("verify_evidence", "--tenant", "globex", "--checkpoint", file)["findings"]
    assert (finding["tenant"], finding["problem"]) == ("globex", "checkpoint_missing")


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    for text in ("", "nothing", "[]", '{"customhouse": "checkpoint", "version": 1}', '{"checkpoint": null}'):
        (tmp_path / "file").write_text(text)
        with pytest.raises(CommandFailed, match="is not what"):
            ask("verify_evidence", "--checkpoint", tmp_path / "file")
    with pytest.raises(CommandFailed, match="cannot be read"):
        ask("verify_evidence", "--checkpoint", tmp_path / "none")


def test_the_key_of_before_has_to_be_vouched_for(tenant: Tenant) -> None:
    old = SealKey("the secret key of before")
    used(tenant, 1)
    seal(raw(), tenant.pk, old)
    assert [one["problem"] for one in ask("verify_evidence")["findings"]] == ["key_unknown"]
    assert ask("verify_evidence", "--key", old.public.hex())["findings"] == []


def test_an_exported_bundle_is_verified_without_customhouse(tenant: Tenant, tmp_path: Path) -> None:
    file = tmp_path / "proof.zip"
    words = ("evidence", "export", "--tenant", "acme", "--since", "1d", "--until", "0h", "--to", file)
    made = ask(*words)
    assert (made["usage"], made["seals"], made["unsealed"]) == (5, {"first": 1, "last": 1}, 0)
    with pytest.raises(CommandFailed, match="cannot be written"):
        ask(*words)
    command = [sys.executable, "-I", str(PROJECT / "scripts" / "verify_evidence.py"), str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Everything fits." in done.stdout
