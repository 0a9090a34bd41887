"""Provider keys that HashiCorp Vault or OpenBao keeps: read, kept for a while, read again, and refused in words."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.conf import LazySettings
from pydantic import SecretStr

from config.checkup import look_around
from integrations import custody, secret_server
from integrations.custody import check_own_reference, check_reference, open_credential, resolve
from integrations.secret_server import Login, NotReadYet, Place, Secrets, SecretServer, SecretUnavailable
from integrations.services import create_integration
from integrations.snapshot_store import load_tenant
from integrations.vault import BadReference
from tests.integrations.secret_store import (
    POD_ROLE,
    POD_TOKEN,
    ROLE_ID,
    SECRET_ID,
    TOKEN,
    SecretStore,
)
from tests.people import acme, globex

KEY = "sk-proj-canary-77aa12bc90ef"
REFERENCE = "vault://secret/llm/openai#key"
PLACE = Place("secret", "llm/openai", "key")


@pytest.fixture
def store() -> Iterator[SecretStore]:
    with SecretStore() as made:
        made.put("llm/openai", key=KEY)
        yield made


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Lets time go by."""
    gone = [0.0]
    real = time.monotonic
    monkeypatch.setattr(secret_server, "time", SimpleNamespace(monotonic=lambda: real() + gone[0]))

    def wait(seconds: float) -> None:
        gone[0] += seconds

    return wait


@pytest.fixture
def configured(store: SecretStore, settings: LazySettings) -> Iterator[Callable[..., None]]:
    """Points this process to the store; again with other variables when called."""

    def configure(**changes: Any) -> None:
        usual = {"vault_addr": store.url, "vault_token": SecretStr(TOKEN)}
        settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update=usual | changes)
        custody.secrets.cache_clear()

    configure()
    yield configure
    custody.secrets.cache_clear()


def server(store: SecretStore, login: str | Login = TOKEN, **named: Any) -> SecretServer:
    return SecretServer(store.url, login, **named)


def kept(store: SecretStore) -> Secrets:
    return Secrets(server(store), fresh_seconds=60)


def test_the_newest_version_of_a_secret_is_read(store: SecretStore) -> None:
    assert server(store).read(PLACE) == KEY
    store.put("llm/openai", key="sk-of-version-2\n", other="x")
    assert server(store).read(PLACE) == "sk-of-version-2"


@pytest.mark.parametrize(
    ("place", "why"),
    [
        (Place("secret", "llm/nothing", "key"), "no secret at secret/llm/nothing"),
        (Place("secret", "llm/deleted", "key"), "or it was deleted"),
        (Place("other", "llm/openai", "key"), "no secret at other/llm/openai"),
        (Place("secret", "llm/openai", "token"), "no text in its field `token`"),
        (Place("secret", "llm/number", "key"), "no text in its field `key`"),
        (Place("secret", "forbidden/openai", "key"), "does not let this gateway read that"),
        (Place("kv1", "llm/openai", "key"), "no key-value store of version 2"),
    ],
)
def test_what_is_not_there_is_refused_in_words(store: SecretStore, place: Place, why: str) -> None:
    store.put("llm/number", key=5)
    store.put("llm/deleted", key=KEY)
    store.contents.secrets["llm/deleted"].data = None
    with pytest.raises(BadReference, match=why):
        server(store).read(place)


def test_a_wrong_token_is_refused_and_not_repeated(store: SecretStore) -> None:
    with pytest.raises(BadReference, match="see its token and policy") as refused:
        server(store, "hvs.wrong").read(PLACE)
    assert "hvs" not in str(refused.value) + repr(server(store))


def test_a_sealed_or_absent_server_is_one_that_cannot_be_asked_now(store: SecretStore) -> None:
    store.contents.is_sealed = True
    with pytest.raises(SecretUnavailable, match="sealed"):
        server(store).read(PLACE)
    with pytest.raises(SecretUnavailable, match="the secret server cannot be reached"):
        SecretServer("http://127.0.0.1:9", TOKEN).read(PLACE)


def test_the_namespace_is_told(store: SecretStore) -> None:
    store.contents.namespace = "team"
    with pytest.raises(BadReference):
        server(store).read(PLACE)
    assert server(store, namespace="team").read(PLACE) == KEY


@pytest.mark.parametrize("method", ["approle", "kubernetes"])
def test_a_login_lasts_and_is_repeated_when_its_token_ends_or_is_revoked(
    store: SecretStore, clock: Callable[[float], None], tmp_path: Path, method: str
) -> None:
    token = tmp_path / "token"
    token.write_text(f"{POD_TOKEN}\n")
    by_role = Login.by_role(ROLE_ID, SECRET_ID)
    made = server(store, by_role if method == "approle" else Login.by_kubernetes(POD_ROLE, token))

    def logins() -> int:
        return store.contents.asked.count(f"/v1/auth/{method}/login")

    assert [made.read(PLACE), made.read(PLACE), logins()] == [KEY, KEY, 1]
    clock(store.contents.lease_seconds)
    assert [made.read(PLACE), logins()] == [KEY, 2]
    store.contents.tokens.clear()
    assert [made.read(PLACE), logins()] == [KEY, 3]


def test_a_login_that_is_not_taken_is_refused_and_not_repeated(store: SecretStore) -> None:
    made = server(store, Login.by_role(ROLE_ID, "secret-id-wrong"))
    with pytest.raises(BadReference, match="login by approle") as refused:
        made.read(PLACE)
    assert "secret-id" not in str(refused.value)


def test_a_secret_is_read_once_for_as_long_as_it_is_fresh(store: SecretStore, clock: Callable[[float], None]) -> None:
    secrets = kept(store)
    assert [secrets.read(REFERENCE) for _ in range(3)] == [KEY] * 3
    assert len(store.contents.asked) == 1
    store.put("llm/openai", key="sk-rotated")
    assert secrets.at_once(REFERENCE) == KEY
    clock(61)
    assert not secrets.is_settled(REFERENCE)
    assert (secrets.read(REFERENCE), secrets.at_once(REFERENCE)) == ("sk-rotated", "sk-rotated")


def test_what_was_never_read_is_not_waited_for_where_nobody_may(store: SecretStore) -> None:
    with pytest.raises(NotReadYet):
        kept(store).at_once(REFERENCE)
    assert store.contents.asked == []


def test_what_a_provider_refuses_is_read_again_but_not_at_once(
    store: SecretStore, clock: Callable[[float], None]
) -> None:
    secrets = kept(store)
    secrets.read(REFERENCE)
    store.put("llm/openai", key="sk-rotated")
    secrets.forget(REFERENCE)
    assert secrets.read(REFERENCE) == KEY
    clock(3)
    secrets.forget(REFERENCE)
    assert secrets.read(REFERENCE) == "sk-rotated"


def test_while_the_server_is_away_a_young_secret_is_used_and_an_old_one_is_not(
    store: SecretStore, clock: Callable[[float], None]
) -> None:
    secrets = kept(store)
    secrets.read(REFERENCE)
    store.contents.is_sealed = True
    clock(61)
    assert secrets.read(REFERENCE) == KEY
    clock(300)
    with pytest.raises(SecretUnavailable, match="sealed"):
        secrets.read(REFERENCE)
    assert not secrets.is_settled(REFERENCE)
    asked = len(store.contents.asked)
    with pytest.raises(SecretUnavailable):
        secrets.read(REFERENCE)
    assert len(store.contents.asked) == asked
    store.contents.is_sealed = False
    clock(3)
    assert secrets.read(REFERENCE) == KEY


def test_what_the_server_refuses_is_refused_at_once_however_young_the_secret(
    store: SecretStore, clock: Callable[[float], None]
) -> None:
    secrets = kept(store)
    secrets.read(REFERENCE)
    store.contents.tokens.clear()
    clock(61)
    with pytest.raises(BadReference):
        secrets.read(REFERENCE)
    assert secrets.is_settled(REFERENCE)
    with pytest.raises(BadReference):
        secrets.at_once(REFERENCE)


@pytest.mark.parametrize(
    "reference",
    [
        "vault://secret/openai", "vault://secret#key", "vault://secret/../sys/seal#key", "vault://secret//x#key",
        "vault://secret/a b#key", "vault://secret/x?version=1#key", "vault://sk-proj-abc", f"{REFERENCE}#x", "vault://",
    ],
)  # fmt: skip
def test_a_reference_has_one_form_and_what_has_not_is_not_repeated(
    configured: Callable[..., None], reference: str
) -> None:
    with pytest.raises(BadReference, match="looks like vault://mount/path/of/the/secret#field") as refused:
        check_reference(reference)
    assert "sk-proj" not in str(refused.value)


def test_references_need_a_server_and_one_way_to_log_in(configured: Callable[..., None]) -> None:
    check_reference(REFERENCE)
    other: dict[str, Any]
    for other in (
        {"vault_addr": None},
        {"vault_token": None},
        {"vault_token": None, "vault_role_id": ROLE_ID},
        {"vault_kubernetes_role": POD_ROLE},
    ):
        configured(**{"vault_kubernetes_role": None} | other)
        with pytest.raises(BadReference, match="CUSTOMHOUSE_VAULT_ADDR"):
            check_reference(REFERENCE)


def test_what_the_server_keeps_must_be_a_key(store: SecretStore, configured: Callable[..., None]) -> None:
    assert resolve(REFERENCE) == KEY
    store.put("llm/wrong", key="two words")
    with pytest.raises(BadReference, match="one line") as refused:
        resolve("vault://secret/llm/wrong#key")
    assert "two words" not in str(refused.value)


@pytest.mark.django_db
def test_tenants_name_what_lies_below_their_own_id_and_nothing_else(configured: Callable[..., None]) -> None:
    mine, theirs = acme().pk, globex().pk
    own = f"vault://secret/customhouse/{mine}/openai#key"
    with pytest.raises(BadReference, match="CUSTOMHOUSE_VAULT_TENANT_PATH"):
        check_own_reference(own, tenant_id=mine)
    configured(vault_tenant_path="secret/customhouse")
    check_own_reference(own, tenant_id=mine)
    for foreign in (
        f"vault://secret/customhouse/{theirs}/openai#key",
        f"vault://secret/customhouse/{mine}x/openai#key",
        f"vault://secret/customhouse/{mine}#key",
        f"vault://other/customhouse/{mine}/openai#key",
        REFERENCE,
    ):
        with pytest.raises(BadReference, match="of this tenant"):
            check_own_reference(foreign, tenant_id=mine)


@pytest.mark.django_db
def test_a_reference_is_good_for_the_origin_that_it_was_given_for(configured: Callable[..., None]) -> None:
    integration = create_integration(
        tenant=acme(), name="prod", provider_type="openai", base_url="https://api.openai.com/v1", credential=REFERENCE
    )
    stored = load_tenant(integration.tenant_id).integrations["prod"].credential
    assert stored is not None and open_credential(stored) == KEY
    type(integration).objects.filter(pk=integration.pk).update(base_url="https://attacker.example/v1")
    assert load_tenant(integration.tenant_id).integrations["prod"].credential is None


@pytest.mark.django_db
def test_the_doctor_asks_the_server(
    store: SecretStore, configured: Callable[..., None], settings: LazySettings
) -> None:
    def seen() -> tuple[str, bool]:
        (one,) = [one for one in look_around(settings.ENVIRONMENT) if one.check == "secret server"]
        return one.state, "see its token" in one.found

    assert seen() == ("ok", False)
    store.contents.tokens.clear()
    assert seen() == ("problem", True)
