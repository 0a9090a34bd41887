"""Secrets that a HashiCorp Vault or OpenBao server keeps, in its key-value store of version 2.

What was read is kept in this process for a short time, never on disk. While the server is away a secret that was read
within the last minutes goes on being used; what the server refuses is refused here.
"""

import json
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from integrations import outbound
from integrations.destinations import Destinations
from integrations.vault import BadReference, VaultError

SCHEME = "vault://"
SEGMENT = r"[A-Za-z0-9][A-Za-z0-9._-]*"
SHAPE = re.compile(rf"{SCHEME}({SEGMENT})/({SEGMENT}(?:/{SEGMENT})*)#({SEGMENT})")
STALE_SECONDS = 300.0
"""How old a secret may become while the server is away."""
AGAIN_SECONDS = 2.0
"""Between two questions whose answer was no, or no answer."""
LATE_SECONDS = 5.0
"""For a secret that ceases to be fresh between its reading and its use."""
# A token is replaced before it ends, as it must outlive a request.
TOKEN_MARGIN = 0.9
KUBERNETES_TOKEN = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")


class SecretUnavailable(VaultError):
    """The secret server cannot be asked now; the message says why and holds no secret."""


class NotReadYet(SecretUnavailable):
    """The secret is not in memory, and whoever asked cannot wait for it."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a secret is: `vault://<mount>/<path>#<field>`."""

    mount: str
    path: str
    field: str

    @classmethod
    def parse(cls, reference: str) -> "Place":
        """Read a reference. Raises `BadReference`, which does not repeat it: it may be a key."""
        found = SHAPE.fullmatch(reference)
        if found is None:
            raise BadReference("A vault:// reference looks like vault://mount/path/of/the/secret#field.")
        return cls(*found.groups())


@dataclass(frozen=True, slots=True)
class Login:
    """How to get a token: the method's path, and what it wants."""

    method: str
    claims: Callable[[], Mapping[str, str]] = field(repr=False)

    @classmethod
    def by_role(cls, role_id: str, secret_id: str) -> "Login":
        return cls("approle", lambda: {"role_id": role_id, "secret_id": secret_id})

    @classmethod
    def by_kubernetes(cls, role: str, token: Path = KUBERNETES_TOKEN) -> "Login":
        """By the token that Kubernetes gives to a pod, and renews."""
        return cls("kubernetes", lambda: {"role": role, "jwt": token.read_text().strip()})


class SecretServer:
    """The server as one process asks it. Any thread may; each question is one request, guarded like all."""

    def __init__(self, address: str, login: str | Login, *, namespace: str = "") -> None:
        """`login` is a token, or how to get one."""
        self._address = address
        self._login = login
        self._namespace = namespace
        self._token: str | None = None
        self._token_ends = 0.0
        self._lock = threading.Lock()
        parts = urlsplit(address)
        # Nothing but this very server, which the operator named; upstreams may not be there for that.
        place = ((parts.hostname or "").lower(), parts.port or 443)
        self._destinations = Destinations(frozenset([place]), ())

    def read(self, place: Place) -> str:
        """One field of a secret's newest version. Raises `BadReference` and `SecretUnavailable`."""
        url = f"{self._address}/v1/{place.mount}/data/{place.path}"
        answer = self._ask(url)
        if answer.status == 404:
            raise BadReference(f"The secret server has no secret at {place.mount}/{place.path}, or it was deleted.")
        document = _document(answer)
        secret = document.get("data")
        secret = secret.get("data") if isinstance(secret, dict) else None
        if not isinstance(secret, dict) or "metadata" not in document["data"]:
            raise BadReference(f"{place.mount} is no key-value store of version 2.")
        value = secret.get(place.field)
        if not isinstance(value, str) or not value.strip():
            raise BadReference(f"The secret at {place.mount}/{place.path} has no text in its field `{place.field}`.")
        return value.strip()

    def check(self) -> None:
        """Raise `VaultError` unless the server answers and takes the token."""
        _document(self._ask(f"{self._address}/v1/auth/token/lookup-self"))

    def _ask(self, url: str) -> outbound.Answer:
        answer = self._get(url, self._present_token())
        if answer.status == 403 and isinstance(self._login, Login):
            # The token may have been revoked before its time.
            self._token_ends = 0.0
            answer = self._get(url, self._present_token())
        return answer

    def _get(self, url: str, token: str) -> outbound.Answer:
        return self._send("GET", url, {"x-vault-token": token}, None)

    def _present_token(self) -> str:
        if isinstance(self._login, str):
            return self._login
        with self._lock:
            if self._token is None or time.monotonic() >= self._token_ends:
                self._token, seconds = self._log_in(self._login)
                self._token_ends = time.monotonic() + seconds * TOKEN_MARGIN
            return self._token

    def _log_in(self, login: Login) -> tuple[str, float]:
        try:
            claims = json.dumps(login.claims()).encode()
        except OSError as error:
            raise SecretUnavailable(f"The token of this pod cannot be read: {error.strerror}.") from None
        answer = self._send("POST", f"{self._address}/v1/auth/{login.method}/login", {}, claims)
        if answer.status in (400, 401, 403):
            raise BadReference(f"The secret server does not take this gateway's login by {login.method}.")
        granted = _document(answer).get("auth")
        token = granted.get("client_token") if isinstance(granted, dict) else None
        if not isinstance(granted, dict) or not isinstance(token, str):
            raise SecretUnavailable("The secret server's answer to a login cannot be understood.")
        seconds = granted.get("lease_duration")
        # Nought is a token that does not end.
        return token, float(seconds) if isinstance(seconds, int) and seconds > 0 else 3600.0

    def _send(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> outbound.Answer:
        usual = {"accept": "application/json", "x-vault-request": "true", "user-agent": "customhouse"}
        if self._namespace:
            usual["x-vault-namespace"] = self._namespace
        try:
            return outbound.send(
                method, url, usual | dict(headers), body, destinations=self._destinations, whom="the secret server"
            )
        except outbound.Unreachable as error:
            raise SecretUnavailable(f"A secret cannot be read: {error}.") from None


@dataclass(slots=True)
class _Kept:
    """What came of the last question: a value, or why there is none."""

    value: str | None = field(repr=False)
    problem: VaultError | None
    read_at: float
    fresh_until: float

    def result(self) -> str:
        if self.value is not None:
            return self.value
        assert self.problem is not None, "there is a value or a problem"
        # The same object raised again and again would keep every place it was raised at.
        raise type(self.problem)(str(self.problem))


class Secrets:
    """What one process has read, by reference."""

    def __init__(self, server: SecretServer, *, fresh_seconds: float) -> None:
        self._server = server
        self._fresh_seconds = fresh_seconds
        self._kept: dict[str, _Kept] = {}
        self._locks: dict[str, threading.Lock] = {}

    def is_settled(self, reference: str) -> bool:
        """Whether `at_once` has the last word of the secret server, which need not be a good one."""
        kept = self._fresh(reference)
        return kept is not None and not isinstance(kept.problem, SecretUnavailable)

    def at_once(self, reference: str) -> str:
        """The secret as it is in memory. Raises `VaultError`, and `NotReadYet` where it has to be read."""
        kept = self._kept.get(reference)
        if kept is None or time.monotonic() > kept.fresh_until + LATE_SECONDS:
            raise NotReadYet("The secret was not read yet.")
        return kept.result()

    def read(self, reference: str) -> str:
        """The secret, asked for where memory has none that is fresh; may take seconds. Raises `VaultError`."""
        place = Place.parse(reference)
        with self._locks.setdefault(reference, threading.Lock()):
            kept = self._fresh(reference)
            if kept is None:
                kept = self._kept[reference] = self._asked(place, self._kept.get(reference))
            return kept.result()

    def forget(self, reference: str) -> None:
        """The provider refused the secret: read it again before its next use, unless it was read just now."""
        kept = self._kept.get(reference)
        if kept is not None and time.monotonic() - kept.read_at > AGAIN_SECONDS:
            kept.fresh_until = 0.0

    def _fresh(self, reference: str) -> _Kept | None:
        kept = self._kept.get(reference)
        return kept if kept is not None and time.monotonic() < kept.fresh_until else None

    def _asked(self, place: Place, before: _Kept | None) -> _Kept:
        try:
            value = self._server.read(place)
        except VaultError as error:
            now = time.monotonic()
            is_usable = before is not None and before.value is not None and now - before.read_at < STALE_SECONDS
            if isinstance(error, SecretUnavailable) and before is not None and is_usable:
                return _Kept(before.value, None, before.read_at, now + AGAIN_SECONDS)
            return _Kept(None, error, now, now + AGAIN_SECONDS)
        now = time.monotonic()
        return _Kept(value, None, now, now + self._fresh_seconds)


def _document(answer: outbound.Answer) -> dict[str, Any]:
    """What a good answer says. Raises `BadReference` for a refusal and `SecretUnavailable` for a failure."""
    if answer.status in (401, 403):
        raise BadReference("The secret server does not let this gateway read that: see its token and policy.")
    if answer.status == 503:
        raise SecretUnavailable("The secret server is sealed or in maintenance.")
    if answer.status != 200:
        raise SecretUnavailable(f"The secret server answered {answer.status}.")
    try:
        document = json.loads(answer.body)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise SecretUnavailable("The secret server's answer cannot be understood.")
    return document
