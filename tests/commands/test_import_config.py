"""`import_config` and `export_config`: a configuration is taken over as it is, twice without effect, and told first."""

import json
import stat
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from accounts.commands import CommandFailed
from accounts.models import AuditEvent, Tenant
from integrations.custody import open_credential
from integrations.gateway_keys import digest_of
from integrations.imports import litellm, own_json
from integrations.imports.wanted import BadFile, Wanted, WantedLimit
from integrations.key_services import create_key
from integrations.limit_services import set_limit
from integrations.limits import Limit
from integrations.models import Credential, GatewayKey, Integration
from integrations.services import create_integration
from integrations.snapshot_store import load_tenant
from tests.commands.asking import ask
from tests.people import acme, sandbox_of

pytestmark = pytest.mark.django_db
SECRET, OTHER = "sk-canary-openai-11aa22bb33cc", "sk-canary-anthropic-44dd55ee66ff"

CONFIG = f"""
model_list:
  - model_name: gpt-4o
    litellm_params: {{model: openai/gpt-4o, api_key: os.environ/OPENAI_API_KEY}}
  - model_name: gpt-4o-mini
    litellm_params: {{model: gpt-4o-mini, api_key: os.environ/OPENAI_API_KEY, temperature: 0.2}}
  - model_name: smart
    litellm_params: {{model: anthropic/claude-sonnet-4-5, api_key: {OTHER}, rpm: 60, tpm: 100000}}
  - model_name: own
    litellm_params: {{model: openai/llama-3, api_base: "https://llm.example/v1", api_key: none-needed}}
  - model_name: azure-gpt
    litellm_params: {{model: azure/gpt-4o, api_base: "https://x.openai.azure.com", api_key: os.environ/AZURE}}
litellm_settings:
  max_budget: 100.5
  budget_duration: 30d
  num_retries: 3
general_settings:
  master_key: sk-master-canary-1234
router_settings:
  routing_strategy: least-busy
"""
KEYS = {
    "keys": [
        {"key_alias": "bot", "models": ["gpt-4o", "smart"], "max_budget": 5, "budget_duration": "1d", "rpm_limit": 10,
         "max_parallel_requests": 2, "expires": "2031-01-01T00:00:00Z", "team_id": "t-1", "spend": 1.5},
        {"key_name": "sk-...abcd", "models": [], "blocked": True},
        {"token": "88dc28d0f030c55ed4ab77ed8faf098196cb1c05df778539800c9f1243fe6b4b"},
    ]
}  # fmt: skip


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "config.yaml").write_text(CONFIG)
    (tmp_path / "keys.json").write_text(json.dumps(KEYS))
    return tmp_path


def take(files: Path, *words: object, **named: Any) -> dict[str, Any]:
    found: dict[str, Any] = ask(
        "import_config", "--from", "litellm", "--file", files / "config.yaml", "--litellm-keys", files / "keys.json",
        "--tenant", "acme", *words, **named,
    )  # fmt: skip
    return found


def opened(name: str) -> str:
    stored = load_tenant(Tenant.objects.get(slug="acme").pk).integrations[name].credential
    assert stored is not None
    return open_credential(stored)


def limits() -> set[tuple[str, str, str, int | None, str]]:
    rows = Limit.objects.in_force(timezone.now()).values_list("scope", "metric", "period", "amount", "mode")
    return set(rows)


def test_without_a_word_of_confirmation_everything_is_tried_and_nothing_kept(files: Path) -> None:
    told = take(files)
    assert told["dry_run"] is True
    kinds = [change["kind"] for change in told["changes"]]
    assert (kinds.count("tenant"), kinds.count("integration"), kinds.count("key")) == (1, 3, 2)
    assert not Tenant.objects.exists() and not AuditEvent.objects.exists()


def test_what_litellm_was_configured_with_is_taken_over(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    told = take(files, "--take-environment", "--issue-to", files / "issued.json", "--yes")
    found = {row.name: row for row in Integration.objects.all()}
    assert {name: (row.provider_type, row.base_url, row.status) for name, row in found.items()} == {
        "openai": ("openai", "https://api.openai.com/v1", "enabled"),
        "anthropic": ("anthropic", "https://api.anthropic.com", "enabled"),
        "llm-example": ("custom", "https://llm.example/v1", "enabled"),
    }
    assert (opened("openai"), opened("anthropic")) == (SECRET, OTHER)
    assert limits() == {
        ("tenant", "cost", "month", 100_500_000_000, "headroom"),
        ("integration", "requests", "minute", 60, "strict"),
        ("integration", "tokens", "minute", 100_000, "headroom"),
        ("key", "cost", "day", 5_000_000_000, "headroom"),
        ("key", "requests", "minute", 10, "strict"),
        ("key", "concurrency", "total", 2, "strict"),
    }
    bot, other = GatewayKey.objects.order_by("name")
    assert (bot.name, bot.allowed_models, bot.scopes) == ("bot", ["gpt-4o", "claude-sonnet-4-5"], ["inference"])
    assert (bot.expires_at is not None, other.name, other.frozen_at is not None) == (True, "sk-...abcd", True)
    issued = files / "issued.json"
    assert stat.S_IMODE(issued.stat().st_mode) == 0o600
    assert digest_of(json.loads(issued.read_text())["bot"]) == bytes(bot.digest)
    shown = json.dumps(told)
    assert SECRET not in shown and OTHER not in shown and "sk-master" not in shown and "cush_" not in shown


def test_everything_that_is_not_carried_over_is_named(files: Path) -> None:
    warnings = "\n".join(take(files)["warnings"])
    for named in (
        "the provider of `azure/gpt-4o` is not carried", "`temperature`", "own model, `claude-sonnet-4-5`",
        "litellm_settings.num_retries", "general_settings.master_key", "router_settings.routing_strategy", "`team_id`",
        "budget for 30d becomes", "new texts", "number 3 of `keys` has no alias", "`OPENAI_API_KEY` was not taken",
        "Integration `openai` has no key yet",
    ):  # fmt: skip
        assert named in warnings, named


def test_a_second_time_changes_nothing(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    take(files, "--take-environment", "--issue-to", files / "issued.json", "--yes")
    before = AuditEvent.objects.count()
    assert take(files, "--take-environment", "--yes")["changes"] == []
    assert (AuditEvent.objects.count(), Credential.objects.count()) == (before, 3)


def test_keys_that_would_be_made_want_a_file_for_their_texts(files: Path) -> None:
    for words in ((), ("--issue-to", files / "keys.json"), ("--issue-to", files / "no" / "folder")):
        with pytest.raises(CommandFailed) as refused:
            take(files, "--yes", *words)
        assert refused.value.code == ("unwritable" if words else "usage")
    assert not Tenant.objects.exists()
    assert json.loads((files / "keys.json").read_text()) == KEYS


def test_provider_keys_come_by_the_names_of_integrations(files: Path) -> None:
    acme()
    keys = json.dumps({"openai": SECRET})
    take(files, "--keys-stdin", "--issue-to", files / "issued.json", "--yes", stdin=keys)
    assert opened("openai") == SECRET
    with pytest.raises(CommandFailed, match="no integration `nobody`"):
        take(files, "--keys-stdin", stdin=json.dumps({"nobody": SECRET}))
    with pytest.raises(CommandFailed, match="a JSON object of texts"):
        take(files, "--keys-stdin", stdin=SECRET)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("model_list: [", "not YAML: see line"),
        ("just words", "should be a mapping"),
        ("model_list: {}", "should be a list"),
        ("model_list: [{model_name: x}]", "has no `model`"),
        ("model_list: [{model_name: x, litellm_params: {model: gpt-4o, rpm: many}}]", "should be a whole number"),
        ("litellm_settings: {max_budget: much}", "a number of US dollars"),
        ("litellm_settings: {max_budget: .inf}", "a number of US dollars"),
        ("api_key: !!python/object/apply:os.system [sk-canary]", "not YAML"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused_in_words(text: str, why: str) -> None:
    with pytest.raises(BadFile, match=why) as refused:
        litellm.read(text)
    assert "sk-canary" not in str(refused.value)


def test_accounts_of_one_kind_are_told_apart_by_number() -> None:
    text = "\n".join(
        ["model_list:"]
        + [f"- {{model_name: m{n}, litellm_params: {{model: openai/gpt-4o, api_key: k{n}}}}}" for n in range(3)]
    )
    assert [one.name for one in litellm.read(text).integrations] == ["openai", "openai-2", "openai-3"]


def configure() -> None:
    """A customer with something of everything."""
    tenant, now = acme(), timezone.now()
    integration = create_integration(
        tenant=tenant, name="prod", provider_type="openai", base_url="https://api.openai.com/v1",
        credential="env://CUSTOMHOUSE_CREDENTIAL_OPENAI", max_output_tokens=512,
    )  # fmt: skip
    sandbox_of(tenant, name="sandbox")
    key, _ = create_key(
        tenant=tenant, name="bot", scopes=["inference", "read"], integrations=[integration], allowed_models=["gpt-4o"],
        allowed_networks=["192.0.2.0/24"], expires_at=now.replace(year=2031, microsecond=0),
    )  # fmt: skip
    limit: dict[str, Any] = {"tenant": tenant, "now": now}
    set_limit(scope="tenant", metric="cost", period="month", amount=10**9, warn_percents=[50], **limit)
    set_limit(scope="key_model", key=key, model="gpt-4*", metric="tokens", period="day", amount=9, mode="soft", **limit)


def test_our_own_document_goes_round(tmp_path: Path) -> None:
    configure()
    document = ask("export_config", "--tenant", "acme")
    file = tmp_path / "acme.json"
    file.write_text(json.dumps(document))
    words = ("import_config", "--from", "customhouse", "--file", file)
    assert ask(*words, "--yes")["changes"] == []
    ask(*words, "--tenant", "copy", "--issue-to", tmp_path / "issued.json", "--yes")
    copied = ask("export_config", "--tenant", "copy")
    assert copied | {"tenant": 0} == document | {"tenant": 0}
    assert ask(*words, "--tenant", "copy", "--yes")["changes"] == []


def test_what_the_file_says_otherwise_is_changed_and_what_it_does_not_say_stays(tmp_path: Path) -> None:
    configure()
    file = tmp_path / "change.json"
    file.write_text(
        json.dumps(
            {
                "format": own_json.FORMAT,
                "tenant": {"slug": "acme", "timezone": "Europe/Berlin"},
                "integrations": [{"name": "prod", "type": "openai", "max_output_tokens": 99, "enabled": False}],
                "keys": [{"name": "bot", "scopes": ["inference"], "frozen": True}],
                "limits": [{"scope": "tenant", "metric": "cost", "period": "month", "amount": 5}],
            }
        )
    )
    words = ("import_config", "--from", "customhouse", "--file", file)
    told = ask(*words, "--yes")["changes"]
    fields = {(change["kind"], name): one for change in told for name, one in change["fields"].items()}
    assert {place: one["after"] for place, one in fields.items()} == {
        ("tenant", "timezone"): "Europe/Berlin",
        ("integration", "max_output_tokens"): 99,
        ("integration", "status"): "disabled",
        ("key", "scopes"): ["inference"],
        ("key", "frozen"): True,
        ("limit", "amount"): 5,
    }
    key, limit = GatewayKey.objects.get(), Limit.objects.get(superseded_at=None, scope="tenant")
    assert (key.allowed_networks, limit.warn_percents) == (["192.0.2.0/24"], [50])
    assert Integration.objects.count() == 2
    assert ask(*words, "--yes")["changes"] == []


def document(**fields: object) -> str:
    return json.dumps({"format": own_json.FORMAT} | fields)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "not JSON"),
        ("{}", "`format` should be"),
        (document(limit=[]), "not known: limit"),
        (document(limits=[{"scope": "tenant", "metric": "cost", "period": "month"}]), "has no `amount`"),
        (document(integrations=[{"name": "a", "type": "openai", "credential": SECRET}]), "not known: credential"),
        (document(integrations=[{"name": "a", "type": "openai", "credential_ref": SECRET}]), "is no reference"),
        (document(keys=[{"name": "a", "expires_at": "2031-01-01"}]), "a time with its zone"),
        (document(keys=[{"name": "a", "scopes": "read"}]), "a list of texts"),
        (document(keys=[{"name": "a", "scopes": ["all"]}]), "another word than inference, read"),
        (document(integrations=[{"name": "a", "type": "openai", "outage_policy": "x"}]), "not one of deny, allow"),
    ],
)
def test_our_own_document_holds_what_is_known_and_no_secret(text: str, why: str) -> None:
    with pytest.raises(BadFile, match=why) as refused:
        own_json.read(text)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        ({"integrations": [{"name": "prod", "type": "anthropic"}]}, "of type openai"),
        ({"integrations": [{"name": "x", "type": "nothing"}]}, "is none of openai"),
        ({"integrations": [{"name": "prod", "type": "openai", "base_url": "https://b.example/v1"}]}, "key again"),
        ({"keys": [{"name": "new", "integrations": ["nothing"]}]}, "no integration `nothing`"),
        ({"limits": [{"scope": "key", "key": "no", "metric": "cost", "period": "day", "amount": 1}]}, "one key named"),
        ({"limits": [{"scope": "tenant", "metric": "cost", "period": "eon", "amount": 1}]}, "of minute, hour, day"),
    ],
)
def test_what_cannot_be_is_refused_as_a_whole(tmp_path: Path, wanted: dict[str, Any], why: str) -> None:
    configure()
    file = tmp_path / "wrong.json"
    file.write_text(document(tenant={"slug": "acme", "name": "Changed"}, **wanted))
    with pytest.raises(CommandFailed, match=why):
        ask("import_config", "--from", "customhouse", "--file", file, "--yes")
    assert Tenant.objects.get().name == "Acme"


def test_a_configuration_shows_no_secret() -> None:
    wanted = litellm.read(CONFIG)
    assert isinstance(wanted, Wanted) and OTHER not in repr(wanted)
    assert WantedLimit("key", "cost", "day", 1, key="bot").label == "key `bot`: cost per day"
