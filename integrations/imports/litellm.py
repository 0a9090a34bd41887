"""Reads what LiteLLM was configured with: its `config.yaml`, and its virtual keys as `/key/list` tells them. Pure.

Each provider account (type, address, key) becomes one integration. Calls name a provider's own models here, so that
aliases, routing between deployments and retries are told as what they are: not carried over.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from urllib.parse import urlsplit

import yaml

from integrations.imports.reading import Node
from integrations.imports.wanted import BadFile, Wanted, WantedIntegration, WantedKey, WantedLimit
from integrations.money import NANOS_PER_DOLLAR
from integrations.providers import PROVIDERS, ProviderType

LARGEST_FILE = 4 * 1024 * 1024
FROM_ENVIRONMENT = "os.environ/"
USED_PARAMS = frozenset({"model", "api_key", "api_base", "base_url", "custom_llm_provider", "rpm", "tpm"})
USED_SETTINGS = frozenset({"max_budget", "budget_duration"})
SAID_OF_KEYS = frozenset({"aliases", "guardrails", "model_max_budget", "permissions", "soft_budget", "team_id"})
"""What changes how a key is treated there; the rest describes it, or is its history."""
NAMES = ((re.compile(r"claude"), "anthropic"), (re.compile(r"(gpt|o\d|chatgpt|text-embedding|dall-e)\b"), "openai"))
PERIODS = {
    "1mo": "month", "30d": "month", "31d": "month", "7d": "week", "1w": "week", "1d": "day", "24h": "day",
    "1h": "hour", "60m": "hour", "1m": "minute", "60s": "minute",
}  # fmt: skip
# As there: calls are refused once the amount is reached.
MODE = "headroom"


@dataclass(slots=True)
class Account:
    """A provider account, and the deployments that use it."""

    type: str
    base_url: str | None
    key: str | None = field(repr=False)
    models: list[str] = field(default_factory=list)
    rates: list[tuple[int | None, int | None]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Target:
    """Whose calls a limit counts."""

    scope: str
    integration: str | None = None
    key: str | None = None

    def limit(self, metric: str, period: str, amount: int, mode: str) -> WantedLimit:
        return WantedLimit(self.scope, metric, period, amount, mode, self.integration, self.key)


@dataclass(slots=True)
class Reading:
    """What was found so far."""

    variables: Mapping[str, str] | None
    """The environment that keys may be taken from; none: from none."""
    accounts: list[Account] = field(default_factory=list)
    aliases: dict[str, set[str]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def warn(self, text: str) -> None:
        if text not in self.warnings:
            self.warnings.append(text)


def read(text: str, *, keys: str | None = None, variables: Mapping[str, str] | None = None) -> Wanted:
    """What `config.yaml` wants, and the JSON answer of `/key/list?return_full_object=true`. Raises `BadFile`.

    `variables` are those that `os.environ/NAME` is taken from; without them such keys have to be given otherwise.
    """
    document = Node.of(_parsed(text), "the document")
    reading = Reading(variables)
    for deployment in document.nodes("model_list"):
        _deployment(deployment, reading)
    names = _names(reading.accounts)
    limits = [*_limits_of_accounts(reading, names), *_budget_of(document, reading)]
    wanted_keys, limits_of_keys = _keys(keys, reading)
    for section in sorted(document.values.keys() - {"model_list"}):
        _say_what_is_left(section, document, reading)
    integrations = tuple(
        WantedIntegration(name=name, type=account.type, base_url=account.base_url, credential=_key_of(account, reading))
        for account, name in zip(reading.accounts, names, strict=True)
    )
    return Wanted(
        integrations=integrations,
        keys=wanted_keys,
        limits=(*limits, *limits_of_keys),
        warnings=tuple(reading.warnings),
    )


def _parsed(text: str) -> object:
    if len(text) > LARGEST_FILE:
        raise BadFile(f"The file has more than {LARGEST_FILE} characters.")
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        # What it quotes of the file may be a key.
        mark = getattr(error, "problem_mark", None)
        raise BadFile(f"This is not YAML{f': see line {mark.line + 1}' if mark is not None else ''}.") from None
    except RecursionError:
        raise BadFile("The file is nested too deeply.") from None


def _deployment(node: Node, reading: Reading) -> None:
    alias, params = node.needed("model_name"), node.node("litellm_params")
    named = params.needed("model")
    prefix, slash, rest = named.partition("/")
    said = params.text("custom_llm_provider") or (prefix if slash else "")
    base_url = params.text("api_base") or params.text("base_url")
    kind = _type(said, named, base_url)
    if kind is None:
        reading.warn(f"`{alias}`: the provider of `{named}` is not carried here.")
        return
    model = rest if slash and prefix == said else named
    for name in sorted(params.values.keys() - USED_PARAMS):
        reading.warn(f"`{alias}`: `{name}` is not carried over; callers send what they want in their requests.")
    if alias != model and "*" not in alias:
        reading.warn(f"Callers of `{alias}` name the provider's own model, `{model}`, from now on.")
    others = reading.aliases.setdefault(alias, set())
    if others or alias in [one for account in reading.accounts for one in account.models]:
        reading.warn(f"`{alias}` has several deployments: calls are not spread over them, the caller names one.")
    others.add(model)
    account = _account(kind, base_url, params.text("api_key"), reading)
    account.models.append(alias)
    account.rates.append((params.whole("rpm"), params.whole("tpm")))


def _type(said: str, model: str, base_url: str | None) -> str | None:
    said = said or next((provider for pattern, provider in NAMES if pattern.match(model)), "")
    if said in ("openai", "text-completion-openai") and base_url is not None:
        usual = urlsplit(PROVIDERS[ProviderType.OPENAI].base_url or "").hostname
        return ProviderType.OPENAI if urlsplit(base_url).hostname == usual else ProviderType.CUSTOM
    if said in ("openai_like", "hosted_vllm", "custom_openai") and base_url is not None:
        return ProviderType.CUSTOM
    return said if said in (ProviderType.OPENAI, ProviderType.ANTHROPIC) else None


def _account(kind: str, base_url: str | None, key: str | None, reading: Reading) -> Account:
    for account in reading.accounts:
        if (account.type, account.base_url, account.key) == (kind, base_url, key):
            return account
    reading.accounts.append(Account(kind, base_url, key))
    return reading.accounts[-1]


def _names(accounts: list[Account]) -> list[str]:
    """A name for each: that of its type or host, with a number from the second of a name on."""
    names: list[str] = []
    for account in accounts:
        host = urlsplit(account.base_url or "").hostname or ""
        plain = host if account.type == ProviderType.CUSTOM and host else account.type
        plain = re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-")[:56] or "provider"
        number = 1
        while (name := plain if number == 1 else f"{plain}-{number}") in names:
            number += 1
        names.append(name)
    return names


def _key_of(account: Account, reading: Reading) -> str | None:
    key = account.key
    if key is None or not key.startswith(FROM_ENVIRONMENT):
        return key
    variable = key.removeprefix(FROM_ENVIRONMENT)
    if reading.variables is None:
        reading.warn(f"The key in `{variable}` was not taken from the environment: --take-environment does that.")
        return None
    if not reading.variables.get(variable):
        reading.warn(f"The variable `{variable}` is not set, so its integration has no key yet.")
    return reading.variables.get(variable) or None


def _limits_of_accounts(reading: Reading, names: list[str]) -> Iterator[WantedLimit]:
    for account, name in zip(reading.accounts, names, strict=True):
        if len(account.rates) == 1:
            yield from _rates(*account.rates[0], Target("integration", integration=name))
        elif any(rate is not None for rates in account.rates for rate in rates):
            reading.warn(f"`rpm` and `tpm` of single models of `{name}` are not carried over: set them for its keys.")


def _rates(rpm: int | None, tpm: int | None, of: Target) -> Iterator[WantedLimit]:
    if rpm:
        yield of.limit("requests", "minute", rpm, "strict")
    if tpm:
        yield of.limit("tokens", "minute", tpm, MODE)


def _budget_of(document: Node, reading: Reading) -> Iterator[WantedLimit]:
    settings = document.node("litellm_settings")
    yield from _budget(settings, "litellm_settings", reading, Target("tenant"))


def _budget(node: Node, where: str, reading: Reading, of: Target) -> Iterator[WantedLimit]:
    said = node.values.get("max_budget")
    if said is None:
        return
    try:
        amount = Decimal(str(said)) * NANOS_PER_DOLLAR
        nanos = int(amount)
    except (InvalidOperation, OverflowError, ValueError):
        raise BadFile(f"`max_budget` of {where} should be a number of US dollars.") from None
    duration = node.text("budget_duration")
    period = PERIODS.get(duration or "", "total" if duration is None else None)
    if period is None:
        reading.warn(f"{where}: a budget of {said} USD for `{duration}` has no period here; set one with `limit set`.")
        return
    if duration in ("30d", "31d", "7d"):
        reading.warn(f"{where}: the budget for {duration} becomes one for the calendar {period}.")
    yield of.limit("cost", period, nanos, MODE)


def _keys(text: str | None, reading: Reading) -> tuple[tuple[WantedKey, ...], list[WantedLimit]]:
    if text is None:
        return (), []
    try:
        document = Node.of(json.loads(text), "the list of keys")
    except ValueError:
        raise BadFile("The list of keys is not JSON.") from None
    found: dict[str, WantedKey] = {}
    limits: list[WantedLimit] = []
    for node in document.nodes("keys"):
        name = node.text("key_alias") or node.text("key_name")
        if not name:
            reading.warn(f"{node.where} has no alias, so nobody could tell which one it is.")
            continue
        if name in found:
            reading.warn(f"There are several keys `{name}`: only the first is carried over.")
            continue
        for said in sorted(SAID_OF_KEYS & node.values.keys()):
            if node.values[said]:
                reading.warn(f"Key `{name}`: `{said}` is not carried over.")
        found[name] = WantedKey(
            name=name[:100],
            scopes=("inference",),
            models=tuple(_native(model, name, reading) for model in node.texts("models") or ()),
            expires_at=node.moment("expires"),
            frozen=bool(node.truth("blocked")),
        )
        of = Target("key", key=name[:100])
        limits += _budget(node, f"Key `{name}`", reading, of)
        limits += _rates(node.whole("rpm_limit"), node.whole("tpm_limit"), of)
        if parallel := node.whole("max_parallel_requests"):
            limits.append(of.limit("concurrency", "total", parallel, "strict"))
    if found:
        reading.warn("Keys get new texts, as LiteLLM keeps only digests of theirs: hand them out anew.")
    return tuple(found.values()), limits


def _native(alias: str, key: str, reading: Reading) -> str:
    models = reading.aliases.get(alias, set())
    if len(models) == 1:
        return next(iter(models))
    if len(models) > 1:
        reading.warn(f"Key `{key}`: `{alias}` stands for several models; it is kept as it is.")
    return alias


def _say_what_is_left(section: str, document: Node, reading: Reading) -> None:
    values = document.values[section]
    if not isinstance(values, Mapping):
        reading.warn(f"`{section}` is not carried over.")
        return
    used = USED_SETTINGS if section == "litellm_settings" else frozenset()
    for name in sorted(str(name) for name in values.keys() - used):
        reading.warn(f"`{section}.{name[:64]}` is not carried over.")
