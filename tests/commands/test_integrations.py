"""`integration` and `key`."""

import json
import sys
from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
from django.core.management import call_command

from accounts.commands import CommandFailed
from integrations.custody import binding_of, master_key
from integrations.gateway_keys import digest_of
from integrations.models import Credential, GatewayKey, Integration
from integrations.vault import Sealed, unseal
from tests.commands.asking import ask
from tests.people import acme, globex

pytestmark = pytest.mark.django_db
SECRET = "sk-proj-canary-5d1f0a77c2e94b"


def create(*words: str, name: str = "prod", stdin: str = f"{SECRET}\n") -> dict[str, object]:
    acme()
    made: dict[str, object] = ask(
        "integration", "create", "--tenant", "acme", "--name", name, "--type", "openai", "--key-stdin", *words,
        stdin=stdin,
    )  # fmt: skip
    return made


def stored_key() -> str:
    row = Credential.objects.latest("version")
    integration = row.integration
    binding = binding_of(
        tenant_id=integration.tenant_id, integration_id=integration.pk, origin=row.origin, version=row.version
    )
    assert row.ciphertext is not None
    assert row.wrapped_key is not None
    sealed = Sealed(bytes(row.ciphertext), bytes(row.wrapped_key), row.master_key_id)
    return unseal(sealed, binding=binding, master=master_key())


def test_an_integration_with_its_key_is_enabled_at_once() -> None:
    made = create()
    assert (made["status"], made["base_url"], made["path"]) == ("enabled", "https://api.openai.com/v1", "/proxy/prod")
    assert stored_key() == SECRET


def test_a_provider_key_is_shown_by_its_last_characters_only() -> None:
    made = create()
    shown = json.dumps([made, ask("integration", "list", "--tenant", "acme")])
    assert made["credential"] == "…e94b"
    assert SECRET not in shown
    assert "sk-proj" not in shown


def test_a_key_that_nobody_tried_is_told_of() -> None:
    acme()
    for kind, is_told in (("openai", True), ("sandbox", False)):
        words = ("--tenant", "acme", "--name", kind, "--type", kind)
        notes, before, sys.stdin = StringIO(), sys.stdin, StringIO(SECRET)
        try:
            call_command("integration", "create", *words, *(["--key-stdin"] if is_told else []), stderr=notes)
        finally:
            sys.stdin = before
        assert ("check_health --tenant acme --integration openai" in notes.getvalue()) is is_told


def test_an_integration_without_a_key_waits_for_one() -> None:
    acme()
    words = ("--tenant", "acme", "--name", "prod")
    assert ask("integration", "create", *words, "--type", "anthropic")["status"] == "created"
    with pytest.raises(CommandFailed, match="without a credential"):
        ask("integration", "enable", *words)
    ask("integration", "set-key", *words, "--key-stdin", stdin=SECRET)
    assert ask("integration", "enable", *words)["status"] == "enabled"


def test_a_sandbox_needs_no_key() -> None:
    acme()
    made = ask("integration", "create", "--tenant", "acme", "--name", "sandbox", "--type", "sandbox")
    assert made["status"] == "enabled"


def test_a_key_where_a_reference_belongs_is_refused_and_not_repeated() -> None:
    acme()
    with pytest.raises(CommandFailed, match="env://, file:// or vault://") as failed:
        ask("integration", "create", "--tenant", "acme", "--name", "p", "--type", "openai", "--key-reference", SECRET)
    assert SECRET not in str(failed.value)
    assert not Integration.objects.exists()


def test_a_reference_is_kept_as_it_is() -> None:
    acme()
    words = ("--tenant", "acme", "--name", "p", "--type", "openai")
    made = ask("integration", "create", *words, "--key-reference", "env://CUSTOMHOUSE_CREDENTIAL_P")
    assert made["credential"] == "env://CUSTOMHOUSE_CREDENTIAL_P"


@pytest.mark.parametrize("text", ["two words", "two\nlines", "späte-gäste"])
def test_what_cannot_be_a_key_is_refused(text: str) -> None:
    with pytest.raises(CommandFailed, match="one line of printable characters"):
        create(stdin=text)
    assert not Integration.objects.exists()


def test_a_custom_provider_needs_its_url() -> None:
    acme()
    with pytest.raises(CommandFailed, match="--base-url"):
        ask("integration", "create", "--tenant", "acme", "--name", "own", "--type", "custom")


def test_a_name_belongs_to_one_integration_of_a_tenant() -> None:
    create()
    with pytest.raises(CommandFailed, match="already has an integration of that name"):
        create()


def test_the_classic_limits_are_set_and_shown() -> None:
    made = create("--budget-limit-cents", "500", "--rate-limit-rpm", "60", "--token-limit-month", "0")
    assert (made["budget_limit_cents"], made["rate_limit_rpm"], made["token_limit_month"]) == (500, 60, 0)


def test_a_classic_limit_is_changed_where_limits_are() -> None:
    create()
    with pytest.raises(
        CommandFailed, match=r"limit set --tenant acme --scope integration --integration prod --metric "
    ):
        ask("integration", "update", "--tenant", "acme", "--name", "prod", "--budget-limit-cents", "5")


def test_an_address_that_no_call_may_go_to_is_warned_of(capsys: pytest.CaptureFixture[str]) -> None:
    acme()
    words = ["--tenant", "acme", "--name", "near", "--type", "custom", "--base-url", "http://169.254.169.254/v1"]
    call_command("integration", "create", *words)
    assert "No call will reach it: the upstream's address is not on the open internet" in capsys.readouterr().err


def test_a_disabled_integration_is_enabled_again() -> None:
    create()
    assert ask("integration", "disable", "--tenant", "acme", "--name", "prod")["status"] == "disabled"
    assert ask("integration", "enable", "--tenant", "acme", "--name", "prod")["status"] == "enabled"


def test_another_host_needs_the_key_again() -> None:
    create()
    words = ("integration", "move", "--tenant", "acme", "--name", "prod", "--base-url", "https://other.example/v1")
    with pytest.raises(CommandFailed, match="needs the provider's key again") as failed:
        ask(*words)
    assert failed.value.code == "credential_required"
    assert ask(*words, "--key-stdin", stdin=SECRET)["base_url"] == "https://other.example/v1"
    assert stored_key() == SECRET


def test_setting_a_key_without_one_is_refused() -> None:
    create()
    with pytest.raises(CommandFailed, match="--key-stdin") as failed:
        ask("integration", "set-key", "--tenant", "acme", "--name", "prod")
    assert failed.value.returncode == 2


def test_a_deleted_integration_is_gone_from_commands_and_frees_its_name() -> None:
    create()
    ask("integration", "delete", "--tenant", "acme", "--name", "prod", "--yes")
    assert ask("integration", "list", "--tenant", "acme") == []
    assert create()["status"] == "enabled"


def test_another_tenants_integration_does_not_exist() -> None:
    create(), globex()
    with pytest.raises(CommandFailed, match="`globex` has no integration `prod`"):
        ask("integration", "show", "--tenant", "globex", "--name", "prod")


def make_key(*words: str) -> dict[str, object]:
    acme()
    made: dict[str, object] = ask("key", "create", "--tenant", "acme", "--name", "ci", *words)
    return made


def test_the_text_of_a_key_is_shown_once_and_only_its_digest_kept() -> None:
    text = str(make_key()["key"])
    assert bytes(GatewayKey.objects.get().digest) == digest_of(text)
    assert text.split("_")[2] not in json.dumps(ask("key", "list", "--tenant", "acme"))


def test_a_key_has_the_scopes_integrations_models_and_end_it_was_given() -> None:
    create()
    made = make_key("--scopes", "inference,read", "--integrations", "prod", "--models", "gpt-4o", "--expires", "90d")
    assert (made["scopes"], made["integrations"], made["models"]) == (["inference", "read"], ["prod"], ["gpt-4o"])
    left = datetime.fromisoformat(str(made["expires_at"])) - datetime.now(UTC)
    assert timedelta(days=89) < left <= timedelta(days=90)


def test_an_unknown_scope_or_integration_makes_no_key() -> None:
    with pytest.raises(CommandFailed, match="`everything` is not one of inference, read, ingest, manage"):
        make_key("--scopes", "everything")
    with pytest.raises(CommandFailed, match="no integration `none`"):
        make_key("--integrations", "none")
    assert not GatewayKey.objects.exists()


def test_a_key_that_is_expired_already_is_not_made() -> None:
    with pytest.raises(CommandFailed, match="expired already"):
        make_key("--expires", "2020-01-01")


def test_a_frozen_key_thaws_and_a_revoked_key_stays_revoked() -> None:
    public_id = make_key()["public_id"]
    words = ("--tenant", "acme", "--key", public_id)
    assert ask("key", "freeze", *words)["state"] == "frozen"
    assert ask("key", "unfreeze", *words)["state"] == "active"
    assert ask("key", "revoke", *words, "--reason", "leaked", "--yes")["state"] == "revoked"
    with pytest.raises(CommandFailed) as failed:
        ask("key", "revoke", *words, "--yes")
    assert failed.value.code == "key_is_revoked"


@pytest.mark.parametrize(
    ("noun", "verb", "named"), [("key", "revoke", "--key"), ("integration", "delete", "--name")]
)  # fmt: skip
def test_what_cannot_be_undone_wants_a_word_of_confirmation(noun: str, verb: str, named: str) -> None:
    create()
    words = (noun, verb, "--tenant", "acme", named, make_key()["public_id"] if noun == "key" else "prod")
    with pytest.raises(CommandFailed, match="--yes") as failed:
        ask(*words)
    assert (failed.value.returncode, failed.value.code) == (2, "not_confirmed")
    assert ask(*words, "--dry-run")["dry_run"] is True
    assert not GatewayKey.objects.exclude(revoked_at=None).exists()
    assert not Integration.objects.exclude(deleted_at=None).exists()
    assert ask(*words, "--yes")["dry_run"] is False


def test_a_key_is_changed_in_what_is_given() -> None:
    create()
    words = (
        "key",
        "update",
        "--tenant",
        "acme",
        "--key",
        make_key("--models", "gpt-4o", "--expires", "90d")["public_id"],
    )
    changed = ask(*words, "--networks", "192.0.2.0/24,2001:db8::1", "--integrations", "prod", "--models", "")
    assert (changed["networks"], changed["integrations"], changed["models"], changed["name"]) == (
        ["192.0.2.0/24", "2001:db8::1"], ["prod"], [], "ci",
    )  # fmt: skip
    assert changed["expires_at"] is not None
    assert ask(*words, "--never-expires", "--integrations", "")["expires_at"] is None
    with pytest.raises(CommandFailed, match=r"10\.0\.0\.1/8 has host bits set"):
        ask(*words, "--networks", "10.0.0.1/8")
    with pytest.raises(CommandFailed, match="Nothing to change"):
        ask(*words)


def test_a_rotated_key_keeps_its_name_and_has_another_text() -> None:
    made = make_key()
    rotated = ask("key", "rotate", "--tenant", "acme", "--key", made["public_id"], "--grace-days", "1")
    row = GatewayKey.objects.get()
    assert (bytes(row.digest), bytes(row.previous_digest or b"")) == (
        digest_of(rotated["key"]), digest_of(str(made["key"])),
    )  # fmt: skip
    assert rotated["public_id"] == made["public_id"] and rotated["old_key_expires_at"] is not None
    at_once = ask("key", "rotate", "--tenant", "acme", "--key", made["public_id"], "--grace-days", "0")
    assert at_once["old_key_expires_at"] is None


def test_a_key_is_named_by_its_public_id_with_or_without_prefix() -> None:
    public_id = make_key()["public_id"]
    assert ask("key", "show", "--tenant", "acme", "--key", f"cush_{public_id}")["public_id"] == public_id


def test_a_key_is_named_by_its_name_where_no_other_one_has_it() -> None:
    first = make_key()
    words = ("--tenant", "acme", "--key", first["name"])
    assert ask("key", "show", *words)["public_id"] == first["public_id"]
    second = ask("key", "create", "--tenant", "acme", "--name", first["name"])
    with pytest.raises(CommandFailed, match="several keys") as refused:
        ask("key", "revoke", *words, "--yes")
    assert refused.value.code == "ambiguous"
    assert all(f"{one['public_id']} (active)" in str(refused.value) for one in (first, second))
    by_id = ask("key", "show", "--tenant", "acme", "--key", second["public_id"])
    assert (by_id["public_id"], by_id["revoked_at"]) == (second["public_id"], None)


def test_a_name_of_no_key_is_repeated_in_the_refusal() -> None:
    make_key()
    with pytest.raises(CommandFailed, match="no gateway key `billing_bot`"):
        ask("key", "show", "--tenant", "acme", "--key", "billing_bot")


def test_a_whole_key_as_an_argument_is_refused_and_not_repeated() -> None:
    text = str(make_key()["key"])
    with pytest.raises(CommandFailed, match="never by the key itself") as failed:
        ask("key", "show", "--tenant", "acme", "--key", text)
    assert text.split("_")[2] not in str(failed.value)


def test_another_tenants_key_does_not_exist() -> None:
    public_id = make_key()["public_id"]
    globex()
    with pytest.raises(CommandFailed, match="has no gateway key"):
        ask("key", "revoke", "--tenant", "globex", "--key", public_id, "--yes")
