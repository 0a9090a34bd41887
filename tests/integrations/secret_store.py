"""A server that speaks the HTTP API of HashiCorp Vault and OpenBao: KV version 2, tokens, two ways to log in."""

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

TOKEN = "hvs.canary-of-the-tests"
ROLE_ID, SECRET_ID = "role-of-the-tests", "secret-id-canary-of-the-tests"
POD_ROLE, POD_TOKEN = "customhouse", "pod.token.canary"


@dataclass(slots=True)
class Secret:
    """The newest version of a secret; `None` once that is deleted."""

    version: int
    data: dict[str, Any] | None


@dataclass(slots=True)
class Contents:
    """What the server holds, and what it was asked."""

    mount: str = "secret"
    secrets: dict[str, Secret] = field(default_factory=dict)
    tokens: set[str] = field(default_factory=lambda: {TOKEN})
    lease_seconds: int = 3600
    is_sealed: bool = False
    namespace: str | None = None
    asked: list[str] = field(default_factory=list)


class SecretStore(ThreadingHTTPServer):
    """On loopback, for as long as it is entered."""

    daemon_threads = True

    def __init__(self) -> None:
        self.contents = Contents()
        super().__init__(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def put(self, path: str, **data: Any) -> None:
        """Write the next version of a secret."""
        before = self.contents.secrets.get(path)
        self.contents.secrets[path] = Secret(before.version + 1 if before else 1, data)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown()
        self.server_close()
        self._thread.join(10)


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server: SecretStore

    def do_GET(self) -> None:
        contents = self.server.contents
        contents.asked.append(self.path)
        if contents.is_sealed:
            self._tell(503, {"errors": ["Vault is sealed"]})
        elif self.headers["x-vault-token"] not in contents.tokens:
            self._tell(403, {"errors": ["permission denied", "invalid token"]})
        elif contents.namespace is not None and self.headers["x-vault-namespace"] != contents.namespace:
            self._tell(403, {"errors": ["permission denied"]})
        elif self.path == "/v1/auth/token/lookup-self":
            self._tell(200, {"data": {"policies": ["customhouse"], "ttl": contents.lease_seconds}})
        else:
            self._read(contents)

    def _read(self, contents: Contents) -> None:
        path = self.path.removeprefix(f"/v1/{contents.mount}/data/")
        if path.startswith("forbidden/"):
            self._tell(403, {"errors": ["1 error occurred:\n\t* permission denied\n\n"]})
        elif self.path.startswith("/v1/kv1/data/"):
            self._tell(200, {"data": {"data": "of version 1"}, "lease_duration": 2764800})
        elif (secret := contents.secrets.get(path)) is None or path == self.path:
            self._tell(404, {"errors": []})
        else:
            metadata = {"version": secret.version, "destroyed": False, "deletion_time": ""}
            status = 200 if secret.data is not None else 404
            self._tell(status, {"data": {"data": secret.data, "metadata": metadata}, "lease_duration": 0})

    def do_POST(self) -> None:
        contents = self.server.contents
        contents.asked.append(self.path)
        claims = json.loads(self.rfile.read(int(self.headers["content-length"])))
        known = {
            "/v1/auth/approle/login": {"role_id": ROLE_ID, "secret_id": SECRET_ID},
            "/v1/auth/kubernetes/login": {"role": POD_ROLE, "jwt": POD_TOKEN},
        }
        if claims != known.get(self.path):
            self._tell(400, {"errors": ["invalid role or secret ID"]})
            return
        token = f"hvs.canary-login-{len(contents.asked)}"
        contents.tokens.add(token)
        self._tell(200, {"auth": {"client_token": token, "lease_duration": contents.lease_seconds}})

    def _tell(self, status: int, document: Mapping[str, Any]) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""
