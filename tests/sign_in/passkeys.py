"""A passkey in software: a key pair, and the bytes that a real one sends (attestation "none", ES256)."""

import json
import os
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from fido2 import cbor
from fido2.cose import ES256
from fido2.utils import sha256, websafe_encode
from fido2.webauthn import AttestedCredentialData

USER_PRESENT, USER_VERIFIED, ATTESTED = 0x01, 0x04, 0x40


class Passkey:
    """One passkey of one person at one site."""

    def __init__(self, origin: str = "https://testserver", *, verifies: bool = True) -> None:
        self.origin = origin
        self.flags = USER_PRESENT | (USER_VERIFIED if verifies else 0)
        self.id = os.urandom(32)
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.user_handle = ""
        self.uses = 0

    def register(self, options: dict[str, Any], *, passwordless: bool = True) -> str:
        """The credential that a browser would post after `navigator.credentials.create`."""
        wanted = options["publicKey"]
        self.user_handle = wanted["user"]["id"]
        cose = ES256.from_cryptography_key(self.key.public_key())  # type: ignore[no-untyped-call]  # fido2 says none
        public = AttestedCredentialData.create(b"\0" * 16, self.id, cose)
        statement = cbor.encode({"fmt": "none", "attStmt": {}, "authData": self._data(wanted["rp"]["id"]) + public})
        return self._credential(
            {
                "clientDataJSON": self._client_data("webauthn.create", wanted["challenge"]),
                "attestationObject": websafe_encode(statement),
            },
            {"credProps": {"rk": passwordless}},
        )

    def prove(self, options: dict[str, Any]) -> str:
        """The credential that a browser would post after `navigator.credentials.get`."""
        wanted = options["publicKey"]
        self.uses += 1
        data = self._data(wanted["rpId"], attested=False)
        client_data = self._client_data("webauthn.get", wanted["challenge"])
        signed = data + sha256(self._bytes("webauthn.get", wanted["challenge"]))
        return self._credential(
            {
                "clientDataJSON": client_data,
                "authenticatorData": websafe_encode(data),
                "signature": websafe_encode(self.key.sign(signed, ec.ECDSA(hashes.SHA256()))),
                "userHandle": self.user_handle,
            },
            {},
        )

    def _data(self, site: str, *, attested: bool = True) -> bytes:
        flags = self.flags | (ATTESTED if attested else 0)
        return sha256(site.encode()) + bytes([flags]) + self.uses.to_bytes(4, "big")

    def _bytes(self, kind: str, challenge: str) -> bytes:
        return json.dumps({"type": kind, "challenge": challenge, "origin": self.origin}).encode()

    def _client_data(self, kind: str, challenge: str) -> str:
        return websafe_encode(self._bytes(kind, challenge))

    def _credential(self, response: dict[str, str], extensions: dict[str, Any]) -> str:
        name = websafe_encode(self.id)
        return json.dumps(
            {
                "type": "public-key",
                "id": name,
                "rawId": name,
                "response": response,
                "clientExtensionResults": extensions,
            }
        )
