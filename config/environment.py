"""The one typed configuration: everything an operator can set, read from the environment."""

from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parseaddr
from functools import cache
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import psycopg.conninfo
from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings.sources import EnvSettingsSource

from accounts.addresses import parse_networks
from config.mail import MailServer
from integrations.destinations import Destinations
from integrations.secret_server import Place
from integrations.vault import BadReference, MasterKey, VaultError

PROJECT = Path(__file__).resolve().parent.parent
LOOPBACK = ("localhost", "127.0.0.1", "::1")
OWN_SECRETS = ("secret_key", "master_key", "master_key_previous")
"""What is read from `var/secrets/` where the environment says nothing."""


class BadEnvironment(Exception):
    """The environment holds values that cannot be used; the message names every one of them."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Stands for the value of a variable whose file cannot be read."""

    path: str
    reason: str


class Environment(BaseSettings):
    """What may be set. Each variable may also be given as `NAME_FILE`, the path of a file that holds it."""

    model_config = SettingsConfigDict(env_prefix="CUSTOMHOUSE_", extra="ignore", frozen=True, env_ignore_empty=True)

    database_url: SecretStr | None = Field(default=None, validation_alias="DATABASE_URL")
    """PostgreSQL 15 to 18. Unset: an embedded server under `var/`."""
    database_direct_url: SecretStr | None = Field(default=None, validation_alias="DATABASE_DIRECT_URL")
    """Bypasses a transaction pooler for LISTEN and session locks; unset: `DATABASE_URL`."""
    secret_key: SecretStr | None = None
    """Signs sessions. Unset: `var/secrets/secret_key`, as `manage.py init` writes it."""
    master_key: SecretStr | None = None
    """Base64 of 32 bytes that wrap every stored credential. Unset: `var/secrets/master_key`."""
    master_key_previous: SecretStr | None = None
    """The one before it, which opens what is not wrapped anew yet. Unset: `var/secrets/master_key_previous`."""
    port: int = Field(default=8000, ge=1, le=65535)
    host: str = "127.0.0.1"
    allowed_hosts: Annotated[list[str], NoDecode] = ["localhost", "127.0.0.1", "[::1]"]
    """Host names under which console and REST are reached, beside that of `public_url`."""
    public_url: str | None = None
    """How people reach the console, like `https://llm.example.com`. With https, cookies travel over https only."""
    email_url: SecretStr | None = None
    """Hands mail over: `smtp://user:password@host:587` (STARTTLS), `smtps://` (TLS), `smtp+plain://`, or `console://`,
    which prints it. Unset: no mail is sent, and no address has to be verified."""
    email_from: str = "Customhouse <customhouse@localhost>"
    """Whom mail comes from."""
    metrics_token: SecretStr | None = None
    """Bearer token of `/metrics`. Unset: only loopback clients may read it."""
    allow_upstreams: Annotated[list[str], NoDecode] = []
    """`host:port` or CIDR of private upstreams that `custom` integrations may reach."""
    trusted_proxies: Annotated[list[str], NoDecode] = []
    """Addresses or CIDRs whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed."""
    credential_directory: Path | None = None
    """The only folder that `file://` credential references may name."""
    vault_addr: str | None = None
    """A HashiCorp Vault or OpenBao server that `vault://` credential references lead to."""
    vault_token: SecretStr | None = None
    """Opens it; or by AppRole, or by the service account of a Kubernetes pod:"""
    vault_role_id: str | None = None
    vault_secret_id: SecretStr | None = None
    vault_kubernetes_role: str | None = None
    vault_namespace: str = ""
    vault_tenant_path: str | None = None
    """Mount and path below which tenants' own references lie, each below its id. Unset: tenants name none."""
    vault_cache_seconds: float = Field(default=60, gt=0, le=3600)
    """How long a secret of that server is used before it is read again."""
    operator_mfa: bool = True
    """Whether operators need a second factor to use the admin site."""
    max_body_bytes: int = Field(default=20 * 1024 * 1024, ge=1024)
    """Largest request body the proxy reads."""
    rest_requests_per_minute: int = Field(default=3_000, ge=0)
    """Of one gateway key over REST, in all processes together; 0: any number. Calls to providers are not among them."""
    ingest_days: int = Field(default=7, ge=1, le=28)
    """How old a call may be that a program tells of."""
    log_level: str = Field(default="INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$")
    upstream_connect_seconds: float = Field(default=5, gt=0)
    upstream_first_byte_seconds: float = Field(default=300, gt=0)
    upstream_idle_seconds: float = Field(default=120, gt=0)
    upstream_total_seconds: float = Field(default=1800, gt=0)
    sweep_grace_seconds: float = Field(default=15, gt=0)
    """A worker unseen for this long has its open reservations charged."""
    sweep_interval_seconds: float = Field(default=5, gt=0)
    probes: bool = True
    """Ask providers that were not heard of for a while, or fail, for what costs nothing, such as their model list."""
    probe_spacing_seconds: float = Field(default=60, gt=0)
    """Between two probes of one integration, and between two calls let through to one in error."""
    retention_months: int | None = Field(default=None, ge=1)
    """How many full months of usage and decisions are kept before this one. Unset: all. What is older is taken away."""
    checkpoint_file: Path | None = None
    """Where workers add a checkpoint of every tenant's newest seal, every five minutes; best on another machine."""
    journal_dir: Path = PROJECT / "var" / "journal"
    """Where workers keep what happens while the database is away; it must outlive them."""
    journal_max_bytes: int = Field(default=256 * 1024 * 1024, ge=0)
    """Of one worker. A full journal lets no call go ahead without the database."""

    @field_validator("*", mode="before")
    @classmethod
    def refuse_unreadable(cls, value: object) -> object:
        if isinstance(value, Unreadable):
            raise _bad(f"cannot read {value.path}: {value.reason}")
        return value

    @field_validator("allowed_hosts", "allow_upstreams", "trusted_proxies", mode="before")
    @classmethod
    def split_list(cls, value: object) -> object:
        return [item.strip() for item in value.split(",") if item.strip()] if isinstance(value, str) else value

    @field_validator("database_url", "database_direct_url")
    @classmethod
    def check_database(cls, value: SecretStr | None) -> SecretStr | None:
        try:
            psycopg.conninfo.conninfo_to_dict(value.get_secret_value() if value else "")
        except psycopg.ProgrammingError:
            # The driver's own message would repeat the password.
            raise _bad("is not a PostgreSQL connection URL") from None
        return value

    @field_validator("email_url")
    @classmethod
    def check_mail(cls, value: SecretStr | None) -> SecretStr | None:
        try:
            if value is not None:
                MailServer.parse(value.get_secret_value())
        except ValueError as error:
            raise _bad(str(error)) from None
        return value

    @field_validator("email_from")
    @classmethod
    def check_sender(cls, value: str) -> str:
        _, address = parseaddr(value)
        if "@" not in address or not value.isprintable():
            raise _bad("is not an address like `Customhouse <customhouse@example.com>`")
        return value

    @field_validator("master_key", "master_key_previous")
    @classmethod
    def check_master_key(cls, value: SecretStr | None) -> SecretStr | None:
        try:
            if value is not None:
                MasterKey.parse(value.get_secret_value())
        except VaultError as error:
            raise _bad(str(error)) from None
        return value

    @field_validator("allow_upstreams")
    @classmethod
    def check_upstreams(cls, value: list[str]) -> list[str]:
        try:
            Destinations.parse(value)
        except ValueError as error:
            raise _bad(str(error)) from None
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def check_proxies(cls, value: list[str]) -> list[str]:
        try:
            parse_networks(value)
        except ValueError as error:
            raise _bad(str(error)) from None
        return value

    @field_validator("vault_addr")
    @classmethod
    def check_vault(cls, value: str | None) -> str | None:
        try:
            parts = urlsplit((value or "https://localhost").removesuffix("/"))
            is_origin = bool(parts.hostname) and (parts.port or 1) > 0 and "@" not in parts.netloc
        except ValueError:
            is_origin = False
        if not is_origin or parts.path or parts.query or parts.fragment:
            raise _bad("is not scheme, host and port like https://vault.example.com:8200")
        # Its token would pass in the clear.
        if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in LOOPBACK):
            raise _bad("is not https, nor http on this very machine")
        return value and value.removesuffix("/")

    @field_validator("vault_tenant_path")
    @classmethod
    def check_vault_path(cls, value: str | None) -> str | None:
        try:
            Place.parse(f"vault://{value or 'secret/customhouse'}#any")
        except BadReference:
            raise _bad("is not mount and path like secret/customhouse") from None
        return value

    @field_validator("public_url")
    @classmethod
    def check_public_url(cls, value: str | None) -> str | None:
        try:
            parts = urlsplit((value or "http://localhost").removesuffix("/"))
            is_origin = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
        except ValueError:
            is_origin = False
        if not is_origin or "@" in parts.netloc or parts.path or parts.query or parts.fragment:
            raise _bad("is not scheme, host and port like https://llm.example.com")
        return value and value.removesuffix("/").lower()

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], *sources: PydanticBaseSettingsSource, **named: Any
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (named["init_settings"], named["env_settings"], FileVariables(settings_cls))


class FileVariables(EnvSettingsSource):
    """Reads `NAME_FILE`, and for the own secrets the file that `manage.py init` or an operator wrote."""

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        alias = field.validation_alias
        key = alias if isinstance(alias, str) else field_name
        path = file_of(field_name, self.env_vars)
        if path is None:
            return None, key, False
        try:
            return Path(path).read_text().strip(), key, False
        except OSError as error:
            return Unreadable(path, error.strerror or type(error).__name__), key, False
        except UnicodeDecodeError:
            return Unreadable(path, "it holds no text"), key, False


def variable_of(field_name: str) -> str:
    """The variable that sets a field of `Environment`."""
    alias = Environment.model_fields[field_name].validation_alias
    return alias if isinstance(alias, str) else f"CUSTOMHOUSE_{field_name.upper()}"


def file_of(field_name: str, variables: Mapping[str, str | None]) -> str | None:
    """The file that a field is read from where its variable is not set; `variables` are named in lower case."""
    path = variables.get(f"{variable_of(field_name)}_file".lower())
    if path is None and field_name in OWN_SECRETS:
        written = PROJECT / "var" / "secrets" / field_name
        path = str(written) if written.is_file() else None
    return path


@cache
def environment() -> Environment:
    """The environment of this process, read once. Raises `BadEnvironment` naming every bad variable."""
    try:
        return Environment()
    except ValidationError as error:
        lines = []
        for problem in error.errors(include_input=False, include_url=False):
            name = str(problem["loc"][0])
            variable = name if name.isupper() else f"CUSTOMHOUSE_{name.upper()}"
            lines.append(f"{variable}: {problem['msg']}")
        raise BadEnvironment("Bad configuration:\n  " + "\n  ".join(lines)) from None


def _bad(message: str) -> PydanticCustomError:
    # As a parameter, for braces in a template would be taken for one.
    return PydanticCustomError("customhouse", "{message}", {"message": message})
