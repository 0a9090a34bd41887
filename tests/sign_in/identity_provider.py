"""A small OpenID Connect provider on loopback: discovery, codes with PKCE, signed tokens, user info, keys."""

import base64
import hashlib
import json
import secrets
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

CLIENT_ID = "customhouse"


class IdentityProvider:
    """A running provider. `claims` is who signs in there next; `lies` changes how it answers."""

    def __init__(self) -> None:
        self.secret = f"idp-secret-{secrets.token_hex(12)}"
        self.claims: dict[str, Any] = {}
        self.lies: dict[str, Any] = {}
        self.seen: list[str] = []
        self._codes: dict[str, tuple[str, dict[str, Any]]] = {}
        self._tokens: dict[str, dict[str, Any]] = {}
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._another_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler_of(self))
        self.issuer = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def place(self) -> str:
        """As an operator allows it."""
        return self.issuer.removeprefix("http://")

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def code_for(self, location: str) -> tuple[str, str]:
        """Sign in at the page that `location` leads to; the code and the state that it sends back."""
        asked = {name: values[0] for name, values in parse_qs(urlsplit(location).query).items()}
        assert location.startswith(f"{self.issuer}/authorize?")
        assert asked["client_id"] == CLIENT_ID
        assert asked["code_challenge_method"] == "S256"
        code = secrets.token_urlsafe(8)
        self._codes[code] = (asked["code_challenge"], dict(self.claims))
        return code, asked["state"]

    def answer(self, method: str, path: str, form: dict[str, str], bearer: str) -> tuple[int, Any]:
        """What it says to a request."""
        self.seen.append(path)
        if path == "/.well-known/openid-configuration":
            return 200, self._discovery()
        if path == "/keys":
            return 200, {"keys": [self._public_key()]}
        if path == "/userinfo":
            return 200, self._tokens.get(bearer, {}) | self.lies.get("userinfo", {})
        return self._token(form)

    def _discovery(self) -> dict[str, Any]:
        found: dict[str, Any] = {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "userinfo_endpoint": f"{self.issuer}/userinfo",
            "jwks_uri": f"{self.issuer}/keys",
        }
        found.update(self.lies.get("discovery", {}))
        return found

    def _public_key(self) -> dict[str, Any]:
        key = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self._key.public_key()))
        return {**key, "kid": "one", "alg": "RS256"}

    def _token(self, form: dict[str, str]) -> tuple[int, Any]:
        challenge, claims = self._codes.pop(form["code"], ("", {}))
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        proven = base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == challenge
        if not proven or form.get("client_secret") != self.secret or form.get("client_id") != CLIENT_ID:
            return 401, {"error": "invalid_client"}
        token = secrets.token_urlsafe(8)
        self._tokens[token] = claims
        said = {"iss": self.issuer, "aud": CLIENT_ID, "exp": time.time() + 60, "iat": time.time(), **claims}
        key = self._another_key if self.lies.get("signs_with_another_key") else self._key
        signed = jwt.encode(said | self.lies.get("token", {}), key, algorithm="RS256", headers={"kid": "one"})
        return 200, {"access_token": token, "token_type": "Bearer", "id_token": signed}


def _handler_of(provider: IdentityProvider) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._say()

        def do_POST(self) -> None:
            self._say()

        def _say(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0))).decode()
            form = {name: values[0] for name, values in parse_qs(body).items()}
            bearer = self.headers.get("authorization", "").removeprefix("Bearer ")
            status, said = provider.answer(self.command, urlsplit(self.path).path, form, bearer)
            text = json.dumps(said).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    return Handler
