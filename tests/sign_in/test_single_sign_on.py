"""Single sign-on, against a provider that really runs: whom it lets in, how far, and what it cannot make us believe."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from allauth.socialaccount.models import SocialAccount, SocialApp, SocialToken
from django.conf import settings
from django.core.exceptions import ValidationError
from django.test import Client, override_settings

from accounts.actors import Actor
from accounts.invitation_services import invite
from accounts.models import AuditEvent, Membership, Role, Tenant, User
from accounts.ranks import RankRefused
from accounts.services import add_member, keep_address, require_second_factor
from integrations import rotation
from integrations.models import IdentityProvider as Kept
from integrations.services import CredentialRequired
from integrations.single_sign_on import remove_identity_provider, secret_of, set_identity_provider
from integrations.vault import CredentialDoesNotOpen, KeyRing, MasterKey
from tests.console.browser import signed_in
from tests.people import acme, alice, bob, charlie, globex, operator
from tests.sign_in.door import code_of, is_in, step_up, with_totp
from tests.sign_in.identity_provider import CLIENT_ID, IdentityProvider
from tests.sinks import Sinks

pytestmark = pytest.mark.django_db
BOB = {"sub": "b-1", "email": "bob@acme.example", "email_verified": True}


@pytest.fixture(scope="module")
def running() -> Iterator[IdentityProvider]:
    made = IdentityProvider()
    yield made
    made.close()


@pytest.fixture
def provider(running: IdentityProvider, sinks: Sinks) -> Iterator[IdentityProvider]:
    """The provider of acme; bob is who signs in there."""
    sinks.remember(running.secret)
    running.claims, running.lies = dict(BOB), {}
    with override_settings(ENVIRONMENT=settings.ENVIRONMENT.model_copy(update={"allow_upstreams": [running.place]})):
        set_up(running, acme())
        yield running


def set_up(provider: IdentityProvider, tenant: Tenant, **named: Any) -> Kept:
    given: dict[str, Any] = {"issuer": provider.issuer, "client_id": CLIENT_ID, "secret": provider.secret} | named
    return set_identity_provider(tenant=tenant, **given)


def come(provider: IdentityProvider, tenant: Tenant | None = None, client: Client | None = None) -> tuple[Client, Any]:
    """A browser that went to the provider and back; the last answer."""
    client, path = client or Client(), f"/accounts/sso/{(tenant or acme()).pk.hex}/login/"
    assert client.get(path).status_code == 200
    code, state = provider.code_for(client.post(path)["Location"])
    return client, client.get(f"{path}callback/", {"code": code, "state": state})


def test_a_member_comes_in_and_is_linked_for_the_next_time(provider: IdentityProvider) -> None:
    client, answer = come(provider)
    assert answer["Location"] == "/"
    assert client.get("/").context["request"].desk.tenant == acme()
    assert provider.seen.count("/keys") >= 1
    provider.claims = BOB | {"email": "renamed@acme.example"}
    again, _ = come(provider)
    assert again.get("/").context["user"] == bob()
    actions = [event.action for event in AuditEvent.objects.filter(actor_id=str(bob().pk)).order_by("pk")]
    assert actions == ["person.identity_linked", "person.signed_in", "person.signed_in"]


def test_people_find_their_provider_by_the_tenants_name(provider: IdentityProvider) -> None:
    assert Client().get("/accounts/sso/?tenant=acme")["Location"] == f"/accounts/sso/{acme().pk.hex}/login/"
    globex()
    pages = [Client().get(f"/accounts/sso/?tenant={slug}").content for slug in ("globex", "nobody")]
    assert pages[0].replace(b"globex", b"nobody") == pages[1]


@pytest.mark.parametrize(
    "claims",
    [
        {"sub": "c-1", "email": "charlie@globex.example", "email_verified": True},
        {"sub": "n-1", "email": "nobody@acme.example", "email_verified": True},
        {"sub": "b-2", "email": "bob@acme.example", "email_verified": False},
        {"sub": "b-3", "email": "bob@acme.example"},
        {"sub": "x-1"},
    ],
)
def test_members_whose_address_is_vouched_for_come_in_and_nobody_else(
    provider: IdentityProvider, claims: dict[str, Any]
) -> None:
    charlie()
    provider.claims = claims
    client, answer = come(provider)
    assert answer.status_code == 403
    assert not is_in(client)
    assert not SocialAccount.objects.exists()
    assert not User.objects.filter(email="nobody@acme.example").exists()


def test_an_owner_can_say_that_addresses_are_verified_there(provider: IdentityProvider) -> None:
    set_up(provider, acme(), trusts_addresses=True)
    provider.claims = {"sub": "b-3", "email": "bob@acme.example"}
    assert is_in(come(provider)[0])


def test_who_is_no_member_any_more_stays_out(provider: IdentityProvider) -> None:
    come(provider)
    Membership.objects.filter(user=bob()).delete()
    client, answer = come(provider)
    assert (answer.status_code, is_in(client)) == (403, False)


def test_a_provider_says_nothing_of_operators(provider: IdentityProvider) -> None:
    add_member(tenant=acme(), email=operator().email, role=Role.VIEWER)
    provider.claims = {"sub": "o-1", "email": operator().email, "email_verified": True}
    client, answer = come(provider)
    assert (answer.status_code, is_in(client)) == (403, False)


def test_who_is_invited_comes_by_single_sign_on_and_has_proven_nothing_elsewhere(provider: IdentityProvider) -> None:
    invite(tenant=acme(), email="eve@acme.example", role=Role.DEVELOPER, now=datetime.now(UTC), by_mail=True)
    provider.claims = {"sub": "e-1", "email": "eve@acme.example", "email_verified": True}
    client, _ = come(provider)
    assert is_in(client)
    eve = User.objects.get(email="eve@acme.example")
    assert eve.memberships.get().role == Role.DEVELOPER
    assert not eve.has_usable_password()
    assert not eve.emailaddress_set.get().verified  # type: ignore[attr-defined]


def test_who_is_invited_is_not_led_into_an_account_that_another_made_in_their_name(provider: IdentityProvider) -> None:
    squatted = User.objects.create_user("eve@acme.example", password="of-somebody-else")
    keep_address(user=squatted, verified=False)
    invite(tenant=acme(), email=squatted.email, role=Role.DEVELOPER, now=datetime.now(UTC), by_mail=True)
    provider.claims = {"sub": "e-1", "email": squatted.email, "email_verified": True}
    client, _ = come(provider)
    assert not is_in(client)
    assert not squatted.memberships.exists()
    keep_address(user=squatted, verified=True)
    client, _ = come(provider)
    assert is_in(client)
    assert squatted.memberships.get().role == Role.DEVELOPER


def test_a_session_of_one_tenants_provider_reaches_that_tenant_alone(provider: IdentityProvider) -> None:
    add_member(tenant=globex(), email=bob().email, role=Role.OWNER)
    client, _ = come(provider)
    assert client.get("/").context["request"].desk.tenants == (acme(),)
    assert client.get(f"/?tenant={globex().pk}").status_code == 404
    assert client.post("/tenant", {"tenant": str(globex().pk)}).status_code == 404
    for page in ("password/change/", "password/set/", "email/", "factors/", "factors/totp/activate/", "sessions/"):
        assert client.get(f"/accounts/{page}").status_code == 403, page
    assert client.post("/accounts/factors/passkeys/add/").status_code == 403
    assert "cus_browser" not in client.cookies
    User.objects.filter(pk=bob().pk).update(is_staff=True, is_superuser=True)
    assert client.get("/admin/").status_code == 403


def test_such_a_session_accepts_no_invitation_elsewhere(provider: IdentityProvider) -> None:
    _, token = invite(tenant=globex(), email=bob().email, role=Role.OWNER, now=datetime.now(UTC))
    client, _ = come(provider)
    client.get(f"/accounts/invitation/{token}/")
    assert client.post("/accounts/invitation/").status_code == 403
    assert not globex().memberships.filter(user=bob()).exists()


def test_what_somebody_else_left_in_the_browser_does_not_widen_such_a_session(provider: IdentityProvider) -> None:
    add_member(tenant=globex(), email=bob().email, role=Role.OWNER)
    client = signed_in(charlie())
    User.objects.filter(pk=charlie().pk).update(is_active=False)
    come(provider, client=client)
    assert client.get("/").context["request"].desk.tenants == (acme(),)
    assert client.get(f"/?tenant={globex().pk}").status_code == 404
    assert client.get("/accounts/password/change/").status_code == 403
    assert client.get(f"/members/{bob().pk}/remove").status_code == 200
    session = client.session
    del session["account_authentication_methods"]
    session.save()
    assert client.get("/").context["request"].desk.tenants == (acme(),)
    assert client.get("/accounts/password/change/").status_code == 403
    assert client.get(f"/members/{bob().pk}/remove")["Location"].startswith("/accounts/sso/")


def test_a_second_factor_here_is_asked_for_all_the_same(provider: IdentityProvider) -> None:
    secret = with_totp(signed_in(bob()))
    client, answer = come(provider)
    assert answer["Location"] == "/accounts/factors/authenticate/"
    assert not is_in(client)
    assert provider.issuer not in str(dict(client.session))
    client.post("/accounts/factors/authenticate/", {"code": code_of(secret)})
    assert is_in(client)
    assert client.get("/accounts/factors/").status_code == 403


def test_the_provider_sees_to_the_second_factor_that_its_tenant_asks_for(provider: IdentityProvider) -> None:
    require_second_factor(tenant=acme(), required=True)
    assert come(provider)[0].get("/").status_code == 200


def test_who_came_by_it_is_sent_there_again_before_what_matters(provider: IdentityProvider) -> None:
    provider.claims = {"sub": "a-1", "email": alice().email, "email_verified": True}
    client, _ = come(provider)
    assert client.get(f"/members/{bob().pk}/remove").status_code == 200
    session = client.session
    session["account_authentication_methods"][-1]["at"] -= 301
    session.save()
    again = client.get(f"/members/{bob().pk}/remove")["Location"]
    assert again.startswith(f"/accounts/sso/{acme().pk.hex}/login/?next=")
    code, state = provider.code_for(client.post(again)["Location"])
    back = client.get(f"/accounts/sso/{acme().pk.hex}/login/callback/", {"code": code, "state": state})
    assert back["Location"] == f"/members/{bob().pk}/remove"
    assert client.get(back["Location"]).status_code == 200


@pytest.mark.parametrize(
    "lies",
    [
        {"signs_with_another_key": True},
        {"token": {"iss": "https://evil.example"}},
        {"token": {"aud": "somebody-else"}},
        {"token": {"exp": 1}},
        {"userinfo": {"sub": "somebody-else"}},
        {"discovery": {"issuer": "https://evil.example"}},
        {"discovery": {"jwks_uri": "http://169.254.169.254/keys"}},
        {"discovery": {"token_endpoint": "http://127.0.0.1:1/token"}},
        {"discovery": {"jwks_uri": None}},
    ],
    ids=str,
)
def test_what_a_provider_cannot_make_us_believe(provider: IdentityProvider, lies: dict[str, Any]) -> None:
    provider.lies = lies
    client, answer = come(provider)
    assert answer.status_code == 401
    assert not is_in(client)
    assert b"Traceback" not in answer.content


def test_a_code_is_good_in_the_browser_that_asked_for_it_alone(provider: IdentityProvider) -> None:
    path = f"/accounts/sso/{acme().pk.hex}/login/"
    code, state = provider.code_for(Client().post(path)["Location"])
    victim = Client()
    victim.get(f"{path}callback/", {"code": code, "state": state})
    assert not is_in(victim)


def test_signing_in_takes_more_than_a_link_and_links_nobody_else(provider: IdentityProvider) -> None:
    client = signed_in(charlie())
    path = f"/accounts/sso/{acme().pk.hex}/login/"
    code, state = provider.code_for(client.post(f"{path}?process=connect")["Location"])
    assert client.get(f"{path}callback/", {"code": code, "state": state}).status_code == 403
    assert not SocialAccount.objects.exists()


@pytest.mark.parametrize("provider_id", ["0" * 32, "nonsense", "openid_connect"])
def test_what_is_no_provider_is_not_there(provider: IdentityProvider, provider_id: str) -> None:
    assert Client().post(f"/accounts/sso/{provider_id}/login/").status_code == 404
    assert Client().get(f"/accounts/sso/{provider_id}/login/callback/").status_code == 404


def test_a_provider_that_is_away_is_a_page_and_no_error(provider: IdentityProvider) -> None:
    with override_settings(ENVIRONMENT=settings.ENVIRONMENT.model_copy(update={"allow_upstreams": ["127.0.0.1:1"]})):
        answer = Client().post(f"/accounts/sso/{acme().pk.hex}/login/")
    assert answer.status_code == 401


def test_sessions_end_with_the_provider(provider: IdentityProvider) -> None:
    client, _ = come(provider)
    remove_identity_provider(tenant=acme())
    assert client.get("/")["Location"].startswith("/accounts/login/")
    assert not is_in(client)
    assert not SocialAccount.objects.exists()


def test_sessions_end_with_another_issuer(provider: IdentityProvider) -> None:
    client, _ = come(provider)
    set_up(provider, acme(), issuer="https://other.example")
    assert client.get("/")["Location"].startswith("/accounts/login/")
    assert not is_in(client)


def test_the_secret_is_sealed_for_this_tenant_and_issuer(provider: IdentityProvider) -> None:
    row = Kept.objects.get()
    assert secret_of(row) == provider.secret
    assert provider.secret not in str(list(Kept.objects.values())) + str(list(AuditEvent.objects.values()))
    assert provider.secret.encode() not in bytes(row.ciphertext)
    row.issuer = "https://evil.example"
    with pytest.raises(CredentialDoesNotOpen):
        secret_of(row)
    come(provider)
    assert not SocialApp.objects.exists()
    assert not SocialToken.objects.exists()


def test_another_issuer_needs_the_secret_again_and_forgets_who_was_who(provider: IdentityProvider) -> None:
    come(provider)
    with pytest.raises(CredentialRequired):
        set_up(provider, acme(), issuer="https://other.example", secret=None)
    assert set_up(provider, acme(), secret=None).version == 1
    assert SocialAccount.objects.exists()
    set_up(provider, acme(), issuer="https://other.example")
    assert not SocialAccount.objects.exists()


@pytest.mark.parametrize(
    "issuer",
    [
        "http://login.example.com",
        "https://127.0.0.1",
        "https://169.254.169.254",
        "https://u:p@x.example",
        "https://login.example.com:99999",
    ],
)
def test_an_issuer_lies_on_the_open_internet(issuer: str) -> None:
    with pytest.raises(ValidationError):
        set_identity_provider(tenant=acme(), issuer=issuer, client_id="x", secret="s" * 20)


def test_the_secret_moves_to_a_new_master_key_with_everything_else(provider: IdentityProvider) -> None:
    row = Kept.objects.get()
    new = MasterKey.parse(MasterKey.generate())
    ring = KeyRing(current=new, previous=_current())
    before: dict[str, Any] = dict(Kept.objects.values().get())
    assert sum(step.done for step in rotation.rewrap(ring=ring)) == rotation.sealed_rows() == 1
    after: dict[str, Any] = dict(Kept.objects.values().get())
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {"wrapped_key", "master_key_id"}
    assert [step.findings for step in rotation.verify(ring=ring) if step.findings] == []
    assert row.pk == after["id"]


def _current() -> MasterKey:
    secret = settings.ENVIRONMENT.master_key
    assert secret is not None
    return MasterKey.parse(secret.get_secret_value())


def test_only_owners_set_it_up_and_say_again_who_they_are(provider: IdentityProvider) -> None:
    admin = add_member(tenant=acme(), email="dora@acme.example", role=Role.ADMIN).user
    with pytest.raises(RankRefused):
        set_up(provider, acme(), actor=Actor.person(user_id=admin.pk, email=admin.email, address=""))
    owner, form = (
        signed_in(alice()),
        {"issuer": provider.issuer, "client_id": "new", "secret": "another-secret-of-ours"},
    )
    assert owner.post("/sign-on/provider", form)["Location"].startswith("/accounts/reauthenticate/")
    assert "another-secret-of-ours" not in str(dict(owner.session))
    step_up(owner)
    page = owner.get("/sign-on/provider").content.decode()
    assert provider.secret not in page
    assert owner.post("/sign-on/provider", form)["Location"] == "/sign-on"
    assert secret_of(Kept.objects.get()) == "another-secret-of-ours"
    refused = owner.post("/sign-on/provider", form | {"issuer": "http://10.0.0.1", "secret": ""})
    assert refused.status_code == 400
    viewer = signed_in(bob())
    step_up(viewer)
    for path in ("/sign-on", "/sign-on/provider", "/sign-on/provider/remove"):
        assert viewer.get(path).status_code == 403
    assert owner.get("/sign-on/provider/remove").status_code == 200
    owner.post("/sign-on/provider/remove")
    assert not Kept.objects.exists()
