"""The life of an integration: which status may follow which, and what needs the key again."""

from datetime import UTC, datetime

import pytest
from django.core.exceptions import ValidationError

from integrations.custody import BadReference, master_key
from integrations.models import HealthState, Integration, MasterKeyCanary, Status
from integrations.providers import SANDBOX_ORIGIN
from integrations.services import (
    CredentialRequired,
    TransitionRefused,
    create_integration,
    delete_integration,
    disable_integration,
    enable_integration,
    master_key_problem,
    move_integration,
    note_health,
    remember_master_key,
    store_credential,
)
from integrations.single_sign_on import set_identity_provider
from tests.people import acme, globex, sandbox_of

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 3, 1, tzinfo=UTC)
SECRET = "sk-proj-canary-5d1f0a77c2e94b"


def in_status(status: Status) -> Integration:
    """An integration with a key, brought to `status` the way it gets there."""
    integration = sandbox_of(acme())
    if status == Status.CREATED:
        Integration.objects.filter(pk=integration.pk).update(status=status)
    elif status == Status.DISABLED:
        disable_integration(integration=integration)
    elif status == Status.ERROR:
        fall_into_error(integration)
    return Integration.objects.get(pk=integration.pk)


def fall_into_error(integration: Integration) -> None:
    note_health(integration=integration, state="failing", message="401 from the provider", status="error", seen_at=NOW)


def custom(credential: str | None = SECRET, base_url: str = "https://llm.example/v1") -> Integration:
    return create_integration(
        tenant=acme(), name="own", provider_type="custom", base_url=base_url, credential=credential
    )


def test_a_credential_enables_and_its_lack_leaves_created() -> None:
    assert custom().status == Status.ENABLED
    waiting = create_integration(
        tenant=globex(), name="own", provider_type="custom", base_url="https://llm.example", credential=None
    )
    assert waiting.status == Status.CREATED
    with pytest.raises(TransitionRefused, match="without a credential"):
        enable_integration(integration=waiting)


@pytest.mark.parametrize("status", [Status.CREATED, Status.ENABLED, Status.DISABLED])
def test_an_integration_with_a_key_can_be_enabled(status: Status) -> None:
    assert enable_integration(integration=in_status(status)).status == Status.ENABLED


def test_an_integration_in_error_is_enabled_by_a_passing_test_only() -> None:
    broken = in_status(Status.ERROR)
    with pytest.raises(TransitionRefused, match="passing test"):
        enable_integration(integration=broken)
    assert enable_integration(integration=broken, tested=True).status == Status.ENABLED


@pytest.mark.parametrize("status", [Status.ENABLED, Status.ERROR, Status.DISABLED])
def test_an_integration_that_was_enabled_can_be_disabled(status: Status) -> None:
    assert disable_integration(integration=in_status(status)).status == Status.DISABLED


def test_an_integration_that_was_never_enabled_cannot_be_disabled() -> None:
    with pytest.raises(TransitionRefused, match="never enabled"):
        disable_integration(integration=in_status(Status.CREATED))


@pytest.mark.parametrize("status", [Status.CREATED, Status.DISABLED])
def test_only_an_enabled_integration_falls_into_error(status: Status) -> None:
    with pytest.raises(TransitionRefused, match="Only an enabled"):
        fall_into_error(in_status(status))


def test_an_error_says_how_the_provider_was_last_seen() -> None:
    broken = in_status(Status.ERROR)
    assert (broken.health_state, broken.health_message, broken.health_checked_at) == (
        HealthState.FAILING,
        "401 from the provider",
        NOW,
    )


def test_another_origin_needs_the_key_again_and_changes_nothing_without_it() -> None:
    integration = custom()
    with pytest.raises(CredentialRequired):
        move_integration(integration=integration, base_url="https://other.example/v1", credential=None)
    integration.refresh_from_db()
    assert integration.base_url == "https://llm.example/v1"


def test_another_path_of_the_same_origin_keeps_the_key() -> None:
    moved = move_integration(integration=custom(), base_url="https://llm.example/v2", credential=None)
    assert (moved.base_url, moved.credentials.count()) == ("https://llm.example/v2", 1)


def test_a_move_with_the_key_binds_it_to_the_new_origin() -> None:
    moved = move_integration(integration=custom(), base_url="https://other.example/v1", credential=SECRET)
    assert [row.origin for row in moved.credentials.order_by("version")] == [
        "https://llm.example:443",
        "https://other.example:443",
    ]


def test_a_deleted_integration_frees_its_name_and_keeps_its_row() -> None:
    gone = custom()
    delete_integration(integration=gone, now=NOW)
    again = custom()
    assert again.pk != gone.pk
    assert Integration.objects.for_tenant(gone.tenant_id).filter(name="own").count() == 2


def test_a_name_is_taken_within_its_tenant_only() -> None:
    custom()
    with pytest.raises(ValidationError):
        custom()
    create_integration(
        tenant=globex(), name="own", provider_type="custom", base_url="https://llm.example/v1", credential=SECRET
    )


@pytest.mark.parametrize("name", ["", "Prod", "prod/x", "prod\n", "-prod", "x" * 65, "prød"])
def test_a_name_that_does_not_fit_into_a_url_is_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        create_integration(tenant=acme(), name=name, provider_type="openai", credential=SECRET)


@pytest.mark.parametrize(
    "base_url",
    [
        "", "ftp://llm.example", "llm.example/v1", "https://", "https://user:pass@llm.example", "https://llm.example?a=1",
        "https://llm.example/#x", "https://llm.example:99999", "https://llm.exa mple", "https://[::1", SANDBOX_ORIGIN,
    ],
)  # fmt: skip
def test_a_base_url_that_cannot_be_used_is_refused(base_url: str) -> None:
    with pytest.raises(ValidationError):
        custom(base_url=base_url)


@pytest.mark.parametrize("credential", ["two words", "two\nlines", "ümlaut", "bell\a", "   "])
def test_a_credential_that_would_break_a_header_is_refused(credential: str) -> None:
    with pytest.raises(BadReference):
        custom(credential=credential)


def test_of_a_short_credential_nothing_is_shown() -> None:
    assert custom(credential="short-key").credentials.get().tail == ""


def test_every_write_is_seen_by_the_next_admission() -> None:
    integration = custom()
    version = acme().config_version
    for write in (
        lambda: store_credential(integration=integration, credential=SECRET),
        lambda: disable_integration(integration=integration),
        lambda: enable_integration(integration=integration),
        lambda: move_integration(integration=integration, base_url="https://llm.example/v2", credential=None),
        lambda: fall_into_error(integration),
        lambda: delete_integration(integration=integration, now=NOW),
    ):
        write()
        acme_now = acme().config_version
        assert acme_now > version
        version = acme_now


def test_the_master_key_in_use_opens_its_canary() -> None:
    remember_master_key()
    remember_master_key()
    assert (MasterKeyCanary.objects.count(), master_key_problem()) == (1, None)


def test_a_canary_that_does_not_open_is_a_problem() -> None:
    MasterKeyCanary.objects.create(master_key_id=master_key().id, sealed=b"\0" * 40)
    assert master_key_problem() == "The master key does not open the canary."


def test_credentials_of_another_master_key_are_a_problem() -> None:
    custom().credentials.update(master_key_id="another")
    assert "sealed by the master key another, which this process does not know" in (master_key_problem() or "")


def test_a_sign_on_that_another_master_key_sealed_keeps_a_server_from_starting() -> None:
    provider = set_identity_provider(tenant=acme(), issuer="https://id.acme.example", client_id="us", secret="of-tests")
    assert master_key_problem() is None
    provider.master_key_id = "another"
    provider.save(update_fields=["master_key_id"])
    assert "sealed by the master key another, which this process does not know" in (master_key_problem() or "")
