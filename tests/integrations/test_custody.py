"""Where the credential of a call comes from, and where it must not come from."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from django.conf import LazySettings

from integrations.custody import BadReference, check_reference, open_credential, resolve
from integrations.models import Credential, Integration
from integrations.services import create_integration, store_credential
from integrations.snapshot_store import load_tenant
from integrations.vault import CredentialDoesNotOpen, StoredCredential
from tests.people import acme, globex

SECRET = "sk-proj-canary-5d1f0a77c2e94b"


@pytest.fixture
def folder(tmp_path: Path, settings: LazySettings) -> Path:
    """The one folder that references to files may name."""
    allowed = tmp_path / "allowed"
    allowed.mkdir()
    (tmp_path / "outside").write_text(SECRET)
    settings.ENVIRONMENT = SimpleNamespace(credential_directory=allowed)
    return allowed


def openai(**fields: object) -> Integration:
    named = {"tenant": acme(), "name": "prod", "base_url": "https://api.openai.com/v1", "credential": SECRET} | fields
    return create_integration(provider_type="openai", **named)  # type: ignore[arg-type]


def stored(integration: Integration) -> StoredCredential:
    found = load_tenant(integration.tenant_id).integrations[integration.name].credential
    assert found is not None
    return found


@pytest.mark.django_db
def test_a_call_gets_the_credential_that_was_stored_last() -> None:
    integration = openai()
    assert open_credential(stored(integration)) == SECRET
    store_credential(integration=integration, credential="sk-second-key-of-this-test")
    assert open_credential(stored(integration)) == "sk-second-key-of-this-test"


@pytest.mark.django_db
def test_a_credential_is_not_in_the_database_in_the_clear() -> None:
    row = openai().credentials.get()
    assert row.ciphertext is not None and SECRET.encode() not in bytes(row.ciphertext)
    assert (row.tail, str(row)) == ("e94b", "…e94b")


@pytest.mark.django_db
def test_a_credential_whose_destination_was_changed_in_the_database_does_not_open() -> None:
    integration = openai()
    Integration.objects.filter(pk=integration.pk).update(base_url="https://attacker.example/v1")
    with pytest.raises(CredentialDoesNotOpen):
        open_credential(stored(integration))


@pytest.mark.django_db
def test_a_credential_copied_to_another_tenants_row_does_not_open() -> None:
    mine = openai()
    theirs = openai(tenant=globex(), credential="sk-of-globex-0123")
    copied = mine.credentials.get()
    Credential.objects.filter(integration=theirs).update(
        ciphertext=copied.ciphertext, wrapped_key=copied.wrapped_key, master_key_id=copied.master_key_id
    )
    with pytest.raises(CredentialDoesNotOpen):
        open_credential(stored(theirs))


def test_a_reference_to_a_variable_is_read_at_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    for value in ("first-key", "second-key"):
        monkeypatch.setenv("CUSTOMHOUSE_CREDENTIAL_OPENAI", value)
        assert resolve("env://CUSTOMHOUSE_CREDENTIAL_OPENAI") == value


@pytest.mark.parametrize("name", ["CUSTOMHOUSE_MASTER_KEY", "DATABASE_URL", "PATH", "", "customhouse_credential_x"])
def test_a_reference_reaches_no_other_variable(name: str) -> None:
    with pytest.raises(BadReference, match="CUSTOMHOUSE_CREDENTIAL_"):
        resolve(f"env://{name}")


def test_a_variable_that_is_not_set_is_said_to_be_missing() -> None:
    with pytest.raises(BadReference, match="empty or not set"):
        resolve("env://CUSTOMHOUSE_CREDENTIAL_NOBODY_SET_THIS")


def test_a_reference_to_a_file_is_read_at_the_call(folder: Path) -> None:
    (folder / "openai").write_text(f"{SECRET}\n")
    assert resolve(f"file://{folder}/openai") == SECRET


@pytest.mark.parametrize("path", ["../outside", "sub/../../outside", "link"])
def test_a_reference_to_a_file_never_leaves_its_folder(folder: Path, path: str) -> None:
    (folder / "link").symlink_to(folder.parent / "outside")
    with pytest.raises(BadReference, match="must lie in"):
        resolve(f"file://{folder}/{path}")


def test_a_file_that_is_not_there_is_named_and_the_folder_stays_unread(folder: Path) -> None:
    for missing in ("nothing", ""):
        with pytest.raises(BadReference, match="cannot be read"):
            resolve(f"file://{folder}/{missing}")


@pytest.mark.parametrize("content", [b"two\nlines", b"two words", b"\xff\xfe", "ümlaut".encode(), b" \n"])
def test_a_file_that_holds_no_key_is_refused_without_being_repeated(folder: Path, content: bytes) -> None:
    (folder / "key").write_bytes(content)
    with pytest.raises(BadReference) as refused:
        resolve(f"file://{folder}/key")
    assert "two" not in str(refused.value)


def test_files_need_a_folder_that_the_operator_named(settings: LazySettings) -> None:
    settings.ENVIRONMENT = SimpleNamespace(credential_directory=None)
    with pytest.raises(BadReference, match="CUSTOMHOUSE_CREDENTIAL_DIRECTORY"):
        check_reference("file:///etc/passwd")


@pytest.mark.parametrize("reference", ["vault://secret/openai", "http://keys.example", "sk-proj-abc", ""])
def test_other_references_are_refused(reference: str) -> None:
    with pytest.raises(BadReference):
        check_reference(reference)
