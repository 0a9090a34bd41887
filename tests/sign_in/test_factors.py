"""Second factors: authenticator apps, passkeys, recovery codes, and tenants that ask for one."""

import json
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from django.core.cache import cache
from django.test import Client, override_settings

from accounts.models import AuditEvent, User
from accounts.people import clean_up_unproven
from accounts.services import add_member, create_person, require_second_factor
from console.sign_in.factors import FactorAdapter
from tests.console.browser import signed_in
from tests.people import PASSWORD, acme, alice, bob, globex
from tests.sign_in.door import actions, code_of, is_in, left_open, mail_set_up, sign_in, step_up, with_totp
from tests.sign_in.passkeys import Passkey

pytestmark = pytest.mark.django_db

FACTORS = "/accounts/factors/"
CODE = f"{FACTORS}authenticate/"
WITH_PASSKEY = f"{FACTORS}passkeys/login/"


def data_in(answer: Any) -> dict[str, Any]:
    """What a page hands to its script."""
    found: dict[str, Any] = json.loads(json.dumps(answer.context["js_data"], default=str))
    return found


def with_passkey(client: Client, passkey: Passkey, *, passwordless: bool = True) -> Any:
    """Register the passkey; the answer."""
    step_up(client)
    options = data_in(client.get(f"{FACTORS}passkeys/add/"))["creation_options"]
    form = {"name": "Laptop", "credential": passkey.register(options, passwordless=passwordless)}
    return client.post(f"{FACTORS}passkeys/add/", form | ({"passwordless": "on"} if passwordless else {}))


def halfway(user: User) -> Client:
    """A browser in which the password was right, and the second factor is asked for."""
    client = Client()
    assert sign_in(client, user.email)["Location"] == CODE
    assert not is_in(client)
    return client


def test_an_app_is_asked_for_after_the_password() -> None:
    secret = with_totp(signed_in(alice()))
    client = halfway(alice())
    assert client.get("/").status_code == 302
    assert "Incorrect code" in client.post(CODE, {"code": "000000"}).content.decode()
    client.post(CODE, {"code": code_of(secret)})
    assert is_in(client)


def test_a_code_is_good_once() -> None:
    secret = with_totp(signed_in(alice()))
    code = code_of(secret)
    halfway(alice()).post(CODE, {"code": code})
    second = halfway(alice())
    second.post(CODE, {"code": code})
    assert not is_in(second)


def test_wrong_codes_have_an_end_and_so_has_the_wait_for_them() -> None:
    secret = with_totp(signed_in(alice()))
    client = halfway(alice())
    for _ in range(5):
        client.post(CODE, {"code": "000000"})
    client.post(CODE, {"code": code_of(secret)})
    assert not is_in(client)
    cache.clear()  # five minutes pass
    client.post(CODE, {"code": code_of(secret)})
    assert is_in(client)


def test_setting_up_a_factor_asks_again_who_one_is() -> None:
    client = signed_in(alice())
    answer = client.get(f"{FACTORS}totp/activate/")
    assert answer["Location"].startswith("/accounts/reauthenticate/?next=")
    assert client.post(f"{FACTORS}totp/activate/", {"code": "123456"})["Location"].startswith("/accounts/reauth")
    assert not Authenticator.objects.exists()


def test_removing_a_factor_asks_again_and_is_written_down() -> None:
    client = signed_in(alice())
    with_totp(client)
    assert left_open(client).post(f"{FACTORS}totp/deactivate/")["Location"].startswith("/accounts/reauth")
    assert Authenticator.objects.filter(type="totp").exists()
    step_up(client)
    client.post(f"{FACTORS}totp/deactivate/")
    assert not Authenticator.objects.exists()
    assert actions(of=alice())[-2:] == ["person.factor_removed", "person.factor_removed"]


def test_seeds_are_not_in_the_clear_anywhere() -> None:
    secret = with_totp(signed_in(alice()))
    kept = str(list(Authenticator.objects.values())) + str(list(AuditEvent.objects.values()))
    assert secret not in kept
    assert "person.factor_added" in actions(of=alice())


def test_codes_of_another_installation_fit_nothing_rather_than_what_everybody_can_compute() -> None:
    adapter = FactorAdapter()
    sealed = adapter.encrypt("JBSWY3DPEHPK3PXP")
    assert adapter.decrypt(sealed) == "JBSWY3DPEHPK3PXP"
    with override_settings(SECRET_KEY="another-secret-key-of-this-test"):
        opened = {adapter.decrypt(sealed), adapter.decrypt(sealed), adapter.decrypt("nonsense")}
    assert len(opened) == 3
    assert min(len(one) for one in opened) == 32


def test_a_recovery_code_lets_in_once() -> None:
    client = signed_in(alice())
    with_totp(client)
    step_up(client)
    codes = client.get(f"{FACTORS}codes/").context["unused_codes"]
    assert len(codes) == 10
    assert codes[0] not in str(list(Authenticator.objects.values()))
    first = halfway(alice())
    first.post(CODE, {"code": codes[0]})
    assert is_in(first)
    again = halfway(alice())
    again.post(CODE, {"code": codes[0]})
    assert not is_in(again)
    again.post(CODE, {"code": codes[1]})
    assert is_in(again)


def test_new_recovery_codes_end_the_old_ones() -> None:
    client = signed_in(alice())
    with_totp(client)
    step_up(client)
    old = client.get(f"{FACTORS}codes/").context["unused_codes"]
    client.post(f"{FACTORS}codes/generate/")
    assert set(old).isdisjoint(client.get(f"{FACTORS}codes/").context["unused_codes"])
    assert actions(of=alice())[-1] == "person.recovery_codes_made"


def test_a_passkey_alone_lets_in_and_is_both_factors() -> None:
    passkey, client = Passkey(), Client()
    assert with_passkey(signed_in(alice()), passkey).status_code == 302
    options = client.get(WITH_PASSKEY, HTTP_ACCEPT="application/json").json()["request_options"]
    assert client.post(WITH_PASSKEY, {"credential": passkey.prove(options)}).status_code == 302
    assert is_in(client)
    assert client.get(f"{FACTORS}totp/activate/").status_code == 200, "that it is them was just shown"
    assert left_open(client).get(f"{FACTORS}totp/activate/").status_code == 302
    came = AuditEvent.objects.filter(action="person.signed_in").order_by("-pk")[0]
    assert (came.object_label, came.reason) == (alice().email, "mfa")


def test_a_passkey_is_the_second_factor_after_a_password() -> None:
    passkey = Passkey()
    with_passkey(signed_in(alice()), passkey, passwordless=False)
    client = halfway(alice())
    options = data_in(client.get(CODE))["request_options"]
    client.post(CODE, {"credential": passkey.prove(options)})
    assert is_in(client)


def test_a_passkey_that_does_not_ask_who_holds_it_is_no_way_in_by_itself() -> None:
    passkey, client = Passkey(verifies=False), Client()
    with_passkey(signed_in(alice()), passkey, passwordless=False)
    options = client.get(WITH_PASSKEY, HTTP_ACCEPT="application/json").json()["request_options"]
    client.post(WITH_PASSKEY, {"credential": passkey.prove(options)})
    assert not is_in(client)


@pytest.mark.parametrize("trick", ["another key", "another site", "an old challenge", "somebody else"])
def test_a_passkey_is_bound_to_key_site_challenge_and_person(trick: str) -> None:
    passkey, client = Passkey(), Client()
    with_passkey(signed_in(alice()), passkey)
    options = client.get(WITH_PASSKEY, HTTP_ACCEPT="application/json").json()["request_options"]
    if trick == "another key":
        passkey.key = Passkey().key
    elif trick == "another site":
        passkey.origin = "https://testserver.evil.example"
    elif trick == "an old challenge":
        client.get(WITH_PASSKEY, HTTP_ACCEPT="application/json")
    else:
        passkey.user_handle = Passkey().user_handle or "MQ"
    client.post(WITH_PASSKEY, {"credential": passkey.prove(options)})
    assert not is_in(client)


def like_a_passkey(**response: object) -> str:
    return json.dumps({"id": "AA", "rawId": "AA", "type": "public-key", "response": response})


FORGED = [
    '{"id": 1}', "{}", "[]", "1", '"x"', "null", "[" * 100_000, '{"id": 1e999}', '{"id": "\\u0000"}', "1" * 5000,
    '{"id": "a", "rawId": "a", "type": "public-key", "response": 1}',
    like_a_passkey(clientDataJSON="e30", attestationObject="oA"),
    like_a_passkey(clientDataJSON="e30", attestationObject="="),
    like_a_passkey(clientDataJSON="W10", signature="AA", authenticatorData="AA", userHandle=7),
    like_a_passkey(clientDataJSON="e30", signature="AA", authenticatorData="A" * 50),
]  # fmt: skip


def test_what_is_no_passkey_is_a_wrong_one_at_every_door() -> None:
    anybody, known = Client(), signed_in(alice())
    anybody.get(WITH_PASSKEY, HTTP_ACCEPT="application/json")
    with_totp(known)
    step_up(known)
    waiting = halfway(alice())
    waiting.get(CODE)
    for forged in FORGED:
        cache.clear()  # a while passes
        assert anybody.post(WITH_PASSKEY, {"credential": forged})["Location"] == "/accounts/login/", forged[:80]
        assert waiting.post(CODE, {"credential": forged}).status_code == 200, forged[:80]
        for door in ("add", "reauthenticate"):
            answer = known.post(f"{FACTORS}passkeys/{door}/", {"name": "x", "credential": forged})
            assert answer.status_code in (200, 302), (door, forged[:80])
    assert not Authenticator.objects.filter(type="webauthn").exists()
    assert not is_in(anybody) and not is_in(waiting)


def test_a_passkey_is_renamed_and_removed() -> None:
    client = signed_in(alice())
    with_passkey(client, Passkey())
    row = Authenticator.objects.get(type="webauthn")
    client.post(f"{FACTORS}passkeys/{row.pk}/edit/", {"name": "Phone"})
    assert "Phone" in client.get(f"{FACTORS}passkeys/").content.decode()
    other = signed_in(bob())
    step_up(other)
    assert other.post(f"{FACTORS}passkeys/{row.pk}/remove/").status_code == 404
    client.post(f"{FACTORS}passkeys/{row.pk}/remove/")
    assert not Authenticator.objects.exists()


def test_a_tenant_that_asks_for_it_shows_nothing_to_who_has_none() -> None:
    require_second_factor(tenant=acme(), required=True)
    client = signed_in(alice())
    for page in ("/", "/cus/activity", "/members", "/sign-on", f"/?tenant={acme().pk}"):
        assert client.get(page)["Location"] == FACTORS
    assert "asks its members for a second factor" in client.get(FACTORS).content.decode()
    with_totp(client)
    assert client.get("/").status_code == 200


def test_recovery_codes_alone_are_no_second_factor() -> None:
    require_second_factor(tenant=acme(), required=True)
    client = signed_in(alice())
    Authenticator.objects.create(user=alice(), type="recovery_codes", data={"seed": "x", "used_mask": 0})
    assert client.get("/").status_code == 302


def test_what_one_tenant_asks_for_is_not_asked_for_at_another() -> None:
    add_member(tenant=globex(), email=alice().email, role=alice().memberships.get().role)  # type: ignore[arg-type]
    require_second_factor(tenant=acme(), required=True)
    client = signed_in(alice())
    assert client.get(f"/?tenant={globex().pk}").status_code == 200
    assert client.get(f"/?tenant={acme().pk}").status_code == 302


def test_only_owners_say_what_members_sign_in_with_and_say_again_who_they_are() -> None:
    asked = {"required": "yes"}
    viewer = signed_in(bob())
    step_up(viewer)
    assert viewer.post("/sign-on/second-factor", asked).status_code == 403
    owner = signed_in(alice())
    assert owner.post("/sign-on/second-factor", asked)["Location"].startswith("/accounts/reauthenticate/")
    assert not acme().requires_second_factor
    step_up(owner)
    assert owner.post("/sign-on/second-factor", asked)["Location"] == "/sign-on"
    assert acme().requires_second_factor
    (event,) = AuditEvent.objects.filter(action="tenant.changed")
    assert (event.before, event.after) == ({"requires_second_factor": False}, {"requires_second_factor": True})


def test_with_mail_an_unproven_address_gets_no_factor() -> None:
    client = signed_in(create_person(email="eve@acme.example", password=PASSWORD))
    with mail_set_up():
        step_up(client)
        assert client.get(f"{FACTORS}totp/activate/")["Location"] == FACTORS


def test_who_made_an_account_in_anothers_name_has_nothing_left_when_the_owner_comes() -> None:
    eve = create_person(email="eve@acme.example", password=PASSWORD)
    passkey, client = Passkey(), Client()
    with_passkey(signed_in(eve), passkey)
    clean_up_unproven(user=eve)
    options = client.get(WITH_PASSKEY, HTTP_ACCEPT="application/json").json()["request_options"]
    client.post(WITH_PASSKEY, {"credential": passkey.prove(options)})
    assert not is_in(client)
    clean_up_unproven(user=alice())
    assert "person.factors_reset" not in actions(of=alice())
