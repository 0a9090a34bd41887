"""The life of a gateway key over REST."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from accounts.models import AuditEvent
from integrations.key_services import create_key
from integrations.key_uses import KEY_USES
from integrations.limit_services import set_limit
from integrations.models import GatewayKey, KeptAnswer, Scope
from tests.people import acme, globex, sandbox_of
from tests.rest.evidence import used
from tests.rest.programs import Program, program, speaking

pytestmark = pytest.mark.django_db

ALL = [scope.value for scope in Scope]


def manager(**fields: Any) -> Program:
    return program(*ALL, **fields)


def create(asker: Program, **fields: object) -> dict[str, Any]:
    status, made = asker.post("api-keys", {"name": "bot"} | fields)
    assert status == 201, made
    record: dict[str, Any] = made
    return record


def act(asker: Program, made: dict[str, Any], verb: str, **body: object) -> tuple[int, Any]:
    return asker.post(f"api-keys/{made['id']}/{verb}", body)


def is_taken(text: str) -> bool:
    """Whether REST knows whoever sends this."""
    return bool(speaking(text).get("/api/v1/enforcement/status").status_code == 200)


def in_days(days: float) -> str:
    return (datetime.now(UTC) + timedelta(days=days)).isoformat()


def test_a_key_is_shown_once_and_works() -> None:
    asker = manager()
    answer = asker.send("POST", "api-keys", {"name": "bot"})
    made = answer.json()
    assert (answer.status_code, answer["Cache-Control"], made["status"], made["scopes"]) == (
        201, "no-store", "active", ["inference"],
    )  # fmt: skip
    assert made["key"].startswith(made["prefix"]) and is_taken(made["key"])
    for path in ("api-keys", f"api-keys/{made['id']}"):
        content = asker.send("GET", path).content.decode()
        assert made["key"] not in content and made["prefix"] in content


def test_a_repeated_creation_shows_the_same_key_and_keeps_it_from_readers_of_the_table() -> None:
    asker = manager()
    first, second = (asker.send("POST", "api-keys", {"name": "bot"}, idempotency_key="one") for _ in range(2))
    assert (first.json(), second["Idempotent-Replayed"]) == (second.json(), "true")
    assert second["Cache-Control"] == "no-store"
    row = KeptAnswer.objects.get()
    secret = first.json()["key"].encode()
    assert not any(secret in bytes(value) for value in (row.ciphertext or b"", row.wrapped_key or b"", row.digest))


def test_a_frozen_key_is_refused_until_it_is_unfrozen() -> None:
    asker = manager()
    made = create(asker)
    assert (act(asker, made, "freeze")[1]["status"], is_taken(made["key"])) == ("frozen", False)
    assert (act(asker, made, "unfreeze")[1]["status"], is_taken(made["key"])) == ("active", True)


def test_a_revoked_key_stays_revoked_and_keeps_its_reason() -> None:
    asker = manager()
    made = create(asker)
    assert act(asker, made, "revoke")[0] == 400
    status, revoked = act(asker, made, "revoke", reason="leaked")
    assert (status, revoked["status"], revoked["revoke_reason"], is_taken(made["key"])) == (
        200, "revoked", "leaked", False,
    )  # fmt: skip
    for verb, body in (("revoke", {"reason": "again"}), ("freeze", {}), ("unfreeze", {}), ("rotate", {})):
        status, answer = act(asker, made, verb, **body)
        assert (status, answer["code"]) == (409, "key_is_revoked")
    assert asker.send("PUT", f"api-keys/{made['id']}", {"name": "b"}).status_code == 409
    assert asker.send("DELETE", f"api-keys/{made['id']}").status_code == 405


def test_a_key_is_changed_in_the_fields_that_are_named() -> None:
    asker = manager()
    made = create(asker)
    change = {
        "name": "renamed", "scopes": ["inference", "read"], "allowed_models": ["gpt-5"],
        "integration_ids": [str(asker.integration.pk)],
    }  # fmt: skip
    answer = asker.send("PATCH", f"api-keys/{made['id']}", change)
    assert answer.status_code == 200
    assert {name: answer.json()[name] for name in change} == change
    expiry = in_days(1)
    changed = asker.send("PUT", f"api-keys/{made['id']}", {"expires_at": expiry}).json()
    assert (datetime.fromisoformat(changed["expires_at"]), changed["name"]) == (
        datetime.fromisoformat(expiry), "renamed",
    )  # fmt: skip


def test_a_change_of_what_somebody_else_changed_meanwhile_is_refused() -> None:
    asker = manager()
    made = create(asker)
    etag = asker.send("GET", f"api-keys/{made['id']}")["ETag"]
    assert asker.send("PUT", f"api-keys/{made['id']}", {"name": "a"}, if_match=etag).status_code == 200
    assert asker.send("PUT", f"api-keys/{made['id']}", {"name": "b"}, if_match=etag).status_code == 412


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""}, {"scopes": []}, {"scopes": ["everything"]}, {"expires_at": "2020-01-01T00:00:00Z"},
        {"expires_at": "soon"}, {"integration_ids": ["00000000-0000-0000-0000-000000000000"]}, {"allowed_models": [""]},
        {"allowed_networks": ["10.0.0.1/8"]}, {"allowed_networks": ["office"]}, {"allowed_networks": [None]},
        {"scope": ["read"]}, {"expires_at": "9999-12-31T23:59:59-14:00"}, {"expires_at": "0001-01-01T00:00:00+14:00"},
    ],
)  # fmt: skip
def test_a_wrong_field_is_refused(wrong: dict[str, object]) -> None:
    status, answer = manager().post("api-keys", {"name": "bot"} | wrong)
    assert (status, len(answer["errors"])) == (400, 1)


def test_another_tenants_integration_cannot_be_granted() -> None:
    foreign = sandbox_of(globex())
    assert manager().post("api-keys", {"name": "bot", "integration_ids": [str(foreign.pk)]})[0] == 400


def test_another_tenants_key_does_not_exist() -> None:
    asker = manager()
    foreign, _ = create_key(tenant=globex(), name="theirs")
    made = {"id": foreign.pk}
    assert asker.send("GET", f"api-keys/{foreign.pk}").status_code == 404
    assert asker.send("PUT", f"api-keys/{foreign.pk}", {"name": "mine"}).status_code == 404
    for verb, body in (
        ("freeze", {}), ("unfreeze", {}), ("revoke", {"reason": "x"}), ("rotate", {}), ("test", {}),
    ):  # fmt: skip
        assert act(asker, made, verb, **body)[0] == 404
    assert str(foreign.pk) not in str(asker.get("api-keys", limit="100")[1])


def test_a_key_is_taken_from_its_networks_only() -> None:
    asker = manager()
    made = create(asker, allowed_networks=["192.0.2.7", "2001:DB8::/32"])
    assert made["allowed_networks"] == ["192.0.2.7/32", "2001:db8::/32"]
    client = speaking(made["key"])
    assert client.get("/api/v1/enforcement/status", REMOTE_ADDR="192.0.2.7").status_code == 200
    for address in ("192.0.2.8", "2001:db9::1", ""):
        answer = client.get("/api/v1/enforcement/status", REMOTE_ADDR=address)
        assert (answer.status_code, answer.json()["code"]) == (403, "key_address_not_allowed")
    assert asker.send("PATCH", f"api-keys/{made['id']}", {"allowed_networks": []}).json()["allowed_networks"] == []
    assert client.get("/api/v1/enforcement/status", REMOTE_ADDR="192.0.2.8").status_code == 200


def test_a_repeated_post_is_not_answered_to_other_addresses() -> None:
    asker = manager(allowed_networks=["127.0.0.1"])
    first = asker.send("POST", "api-keys", {"name": "bot", "allowed_networks": ["127.0.0.1"]}, idempotency_key="one")
    asker.client.defaults["REMOTE_ADDR"] = "192.0.2.8"
    second = asker.send("POST", "api-keys", {"name": "bot", "allowed_networks": ["127.0.0.1"]}, idempotency_key="one")
    assert (first.status_code, second.status_code, second.json()["code"]) == (201, 403, "key_address_not_allowed")


def test_audit_events_and_the_last_use_name_the_client_that_a_trusted_proxy_names(settings: Any) -> None:
    settings.ENVIRONMENT = settings.ENVIRONMENT.model_copy(update={"trusted_proxies": ["127.0.0.1"]})
    asker = manager()
    asker.send("POST", "api-keys", {"name": "bot"}, x_forwarded_for="6.6.6.6, 192.0.2.7")
    assert AuditEvent.objects.get(action="key.created", actor_kind="key").address == "192.0.2.7"
    KEY_USES.write()
    shown = asker.get(f"api-keys/{asker.key.pk}")[1]
    assert (shown["last_used_address"], shown["request_count"]) == ("192.0.2.7", 0)
    assert datetime.fromisoformat(shown["last_used_at"]) <= datetime.now(UTC)


def test_a_use_makes_no_other_version_of_a_key() -> None:
    asker = manager()
    before = asker.send("GET", f"api-keys/{asker.key.pk}")["ETag"]
    KEY_USES.write()
    after = asker.send("GET", f"api-keys/{asker.key.pk}")
    assert (after["ETag"], after.json()["last_used_address"]) == (before, "127.0.0.1")


class TestEscalation:
    """No key makes or opens one that may do more than itself."""

    def test_no_scope_is_granted_that_the_key_does_not_have(self) -> None:
        asker = program("manage", "read")
        assert asker.post("api-keys", {"name": "bot"})[0] == 403
        status, answer = asker.post("api-keys", {"name": "bot", "scopes": ["read", "inference"]})
        assert (status, answer["code"], "inference" in answer["detail"]) == (403, "escalation", True)
        made = create(asker, scopes=["read"])
        answer = asker.send("PUT", f"api-keys/{made['id']}", {"scopes": ["read", "ingest"]})
        assert (answer.status_code, GatewayKey.objects.get(pk=made["id"]).scopes) == (403, ["read"])

    def test_a_key_does_not_widen_itself(self) -> None:
        asker = program("manage", allowed_models=["gpt-5"])
        wider: Any
        for wider in ({"scopes": ["manage", "inference"]}, {"allowed_models": []}, {"allowed_models": ["gpt-5", "o3"]}):
            assert asker.send("PUT", f"api-keys/{asker.key.pk}", wider).status_code == 403

    def test_a_key_that_is_bound_to_networks_makes_none_that_is_taken_elsewhere(self) -> None:
        asker = manager(allowed_networks=["127.0.0.0/8"])
        wider: Any
        for wider in ({}, {"allowed_networks": ["127.0.0.1", "192.0.2.1"]}, {"allowed_networks": ["0.0.0.0/0"]}):
            status, answer = asker.post("api-keys", {"name": "bot"} | wider)
            assert (status, answer["code"]) == (403, "escalation")
        create(asker, allowed_networks=["127.0.0.1"])
        assert asker.send("PUT", f"api-keys/{asker.key.pk}", {"allowed_networks": []}).status_code == 403

    def test_a_stronger_key_is_not_rotated_for_its_secret(self) -> None:
        strong = manager()
        weak = program("manage", tenant=strong.tenant)
        status, answer = act(weak, {"id": strong.key.pk}, "rotate")
        assert (status, answer["code"], is_taken(strong.secret)) == (403, "escalation", True)

    def test_what_was_given_some_integrations_or_models_grants_no_others(self) -> None:
        tenant = acme()
        mine, other = sandbox_of(tenant, name="mine"), sandbox_of(tenant, name="other")
        asker = program(*ALL, tenant=tenant, integrations=[mine], allowed_models=["gpt-5"])
        granted = {"integration_ids": [str(mine.pk)], "allowed_models": ["gpt-5"]}
        create(asker, **granted)
        wider: Any
        for wider in ({"integration_ids": []}, {"allowed_models": []}, {"integration_ids": [str(other.pk)]}):
            assert asker.post("api-keys", {"name": "bot"} | granted | wider)[0] == 403
        wide = create(manager(tenant=tenant))
        for verb, body in (("freeze", {}), ("revoke", {"reason": "x"}), ("rotate", {})):
            assert act(asker, wide, verb, **body)[0] == 403

    @pytest.mark.parametrize(
        "own",
        [
            {"scopes": ["manage", "read"]}, {"integration_ids": True}, {"allowed_models": ["gpt-5"]},
            {"allowed_networks": ["127.0.0.0/8"]}, {"expires_at": in_days(2)},
        ],
        ids=lambda own: "".join(own),
    )  # fmt: skip
    def test_a_key_beyond_ones_own_is_not_narrowed_first_and_rotated_then(self, own: dict[str, Any]) -> None:
        wide = manager()
        mine = str(wide.integration.pk)
        held = own | ({"integration_ids": [mine]} if "integration_ids" in own else {})
        _, made = wide.post("api-keys", {"name": "own", "scopes": ALL} | held)
        asker = Program(wide.tenant, wide.integration, wide.key, speaking(made["key"]), made["key"])
        victim = create(wide, scopes=ALL)
        narrow = {name: made[name] for name in ("scopes", "integration_ids", "allowed_models", "allowed_networks")}
        narrow["expires_at"] = in_days(1)
        for change in (narrow, {name: narrow[name] for name in held}):
            answer = asker.send("PATCH", f"api-keys/{victim['id']}", change)
            assert (answer.status_code, answer.json()["code"]) == (403, "escalation")
        assert act(asker, victim, "rotate")[0] == 403
        assert wide.get(f"api-keys/{victim['id']}")[1]["integration_ids"] == []

    def test_nothing_at_all_is_changed_of_a_key_with_more_integrations_or_models(self) -> None:
        wide = manager()
        victim = create(wide)
        for held in ({"integrations": [wide.integration]}, {"allowed_models": ["gpt-5"]}):
            asker = manager(tenant=wide.tenant, **held)
            answer = asker.send("PATCH", f"api-keys/{victim['id']}", {"name": "mine"})
            assert (answer.status_code, answer.json()["code"]) == (403, "escalation")
            status, told = act(asker, victim, "test")
            assert (status, told["code"]) == (403, "escalation")
            assert act(asker, {"id": asker.key.pk}, "test")[0] == 200

    def test_nothing_is_granted_that_outlives_the_key(self) -> None:
        asker = program(*ALL, expires_at=datetime.now(UTC) + timedelta(days=2))
        assert asker.post("api-keys", {"name": "bot"})[0] == 403
        assert asker.post("api-keys", {"name": "bot", "expires_at": in_days(3)})[0] == 403
        create(asker, expires_at=in_days(1))

    def test_a_key_that_reads_changes_nothing(self) -> None:
        asker = program("read", "inference", "ingest")
        made = {"id": asker.key.pk}
        assert asker.post("api-keys", {"name": "bot"})[0] == 403
        for verb, body in (("freeze", {}), ("unfreeze", {}), ("revoke", {"reason": "x"}), ("rotate", {})):
            assert act(asker, made, verb, **body)[0] == 403


class TestRotation:
    """A key gets another secret, and both work until the grace is over."""

    def test_both_secrets_work_and_the_key_stays_itself(self) -> None:
        asker = manager()
        made = create(asker)
        status, rotated = act(asker, made, "rotate", grace_period_days=3)
        assert (status, rotated["id"], rotated["prefix"]) == (200, made["id"], made["prefix"])
        ends_at = datetime.fromisoformat(rotated["old_key_expires_at"])
        assert timedelta(days=2.9) < ends_at - datetime.now(UTC) <= timedelta(days=3)
        assert rotated["new_key"] != made["key"]
        assert (is_taken(made["key"]), is_taken(rotated["new_key"])) == (True, True)

    def test_after_the_grace_the_old_secret_is_refused(self) -> None:
        asker = manager()
        made = create(asker)
        _, rotated = act(asker, made, "rotate")
        GatewayKey.objects.filter(pk=made["id"]).update(previous_expires_at=datetime.now(UTC))
        assert (is_taken(made["key"]), is_taken(rotated["new_key"])) == (False, True)

    def test_without_a_grace_the_old_secret_is_refused_at_once(self) -> None:
        asker = manager()
        made = create(asker)
        _, rotated = act(asker, made, "rotate", grace_period_days=0)
        assert (is_taken(made["key"]), is_taken(rotated["new_key"])) == (False, True)
        assert GatewayKey.objects.get(pk=made["id"]).previous_digest is None

    def test_the_secret_before_the_last_one_is_refused(self) -> None:
        asker = manager()
        made = create(asker)
        secrets = [made["key"], *(act(asker, made, "rotate")[1]["new_key"] for _ in range(2))]
        assert [is_taken(secret) for secret in secrets] == [False, True, True]

    def test_freezing_and_revoking_refuse_both(self) -> None:
        asker = manager()
        made = create(asker)
        _, rotated = act(asker, made, "rotate")
        act(asker, made, "freeze")
        assert (is_taken(made["key"]), is_taken(rotated["new_key"])) == (False, False)

    def test_the_grace_ends_with_the_key(self) -> None:
        asker = manager()
        made = create(asker, expires_at=in_days(1))
        _, rotated = act(asker, made, "rotate", grace_period_days=30)
        assert rotated["old_key_expires_at"] == rotated["expires_at"]

    def test_a_secret_that_is_being_replaced_makes_no_keys(self) -> None:
        asker = manager()
        act(asker, {"id": asker.key.pk}, "rotate")
        assert asker.get("api-keys")[0] == 200
        assert asker.post("api-keys", {"name": "bot"})[0] == 403
        assert act(asker, {"id": asker.key.pk}, "rotate")[0] == 403

    @pytest.mark.parametrize("days", [-1, 91, "x", None])
    def test_a_senseless_grace_is_refused(self, days: object) -> None:
        asker = manager()
        assert act(asker, {"id": asker.key.pk}, "rotate", grace_period_days=days)[0] == 400


class TestTesting:
    """A key is asked what it may do."""

    FIELDS = {"valid", "status", "scopes", "rate_limit_remaining", "usage_today"}

    def test_a_key_tells_what_it_may_and_what_it_did_today(self) -> None:
        asker = manager()
        used(asker, 25 * 10**6, tokens=10)
        used(asker, 10**6, days_ago=2)
        status, told = act(asker, {"id": asker.key.pk}, "test")
        assert (status, set(told), told["valid"], told["status"]) == (200, self.FIELDS, True, "active")
        assert (told["scopes"], told["rate_limit_remaining"]) == (ALL, None)
        usage = told["usage_today"]
        assert (usage["tokens_in"], usage["tokens_out"], usage["cost_nanos"], usage["cost_cents"]) == (
            10, 0, 25 * 10**6, 2,
        )  # fmt: skip

    def test_the_tightest_rate_is_what_remains(self) -> None:
        asker = manager()
        for scope, amount in (("tenant", 9), ("key", 5)):
            key = asker.key if scope == "key" else None
            set_limit(
                tenant=asker.tenant, scope=scope, key=key, metric="requests", period="minute", amount=amount,
                now=datetime.now(UTC),
            )  # fmt: skip
        assert act(asker, {"id": asker.key.pk}, "test")[1]["rate_limit_remaining"] == 5

    def test_a_key_tests_itself_and_no_other(self) -> None:
        asker = program("inference")
        other = program("inference", tenant=asker.tenant)
        assert act(asker, {"id": asker.key.pk}, "test")[0] == 200
        assert act(asker, {"id": other.key.pk}, "test")[0] == 403

    def test_a_frozen_key_is_not_valid(self) -> None:
        asker = manager()
        made = create(asker)
        act(asker, made, "freeze")
        _, told = act(asker, made, "test")
        assert (told["valid"], told["status"]) == (False, "frozen")


def test_a_restricted_key_that_only_reads_sees_no_key_but_itself() -> None:
    asker = program("manage")
    reading = program("read", tenant=asker.tenant, integrations=[asker.integration])
    assert [one["id"] for one in reading.get("api-keys")[1]["data"]] == [str(reading.key.pk)]
    assert reading.get(f"api-keys/{reading.key.pk}")[0] == 200
    assert reading.get(f"api-keys/{asker.key.pk}")[0] == 404
    assert len(program("read", tenant=asker.tenant).get("api-keys")[1]["data"]) == 3
