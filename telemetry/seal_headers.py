"""What a seal says and how it is hashed: leaves, Merkle root, header. Pure.

As in RFC 6962 a leaf is hashed after a zero byte and an inner node after a one, so that neither can be taken for the
other. A header is hashed after a two, over its fields in one order; it names the seal before it by that one's hash.
"""

import hashlib
import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

LEAF = struct.Struct(">Bqq32s")
"""Number of the kind, id of the row, its time in microseconds since 1970, digest of its canonical text."""
NOT_THERE = bytes(32)
"""The digest of a row that was gone before it could be sealed."""
FIRST_PREVIOUS = bytes(32)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Leaf:
    """What a seal says of one row."""

    kind: int
    row_id: int
    at: datetime
    digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class SealHeader:
    """All of a seal but its leaves: what a checkpoint holds."""

    tenant_id: UUID
    number: int
    sealed_at: datetime
    form: int
    count: int
    total: int
    """Leaves of this seal and of all before it."""
    root: bytes
    previous: bytes
    leaves_digest: bytes
    first_at: datetime
    last_at: datetime
    public_key: bytes
    hash: bytes = b""
    signature: bytes = b""

    def computed_hash(self) -> bytes:
        """What `hash` must be."""
        fields = [
            "customhouse seal",
            1,
            str(self.tenant_id),
            self.number,
            written(self.sealed_at),
            self.form,
            self.count,
            self.total,
            self.root.hex(),
            self.previous.hex(),
            self.leaves_digest.hex(),
            written(self.first_at),
            written(self.last_at),
            self.public_key.hex(),
        ]
        return hashlib.sha256(b"\x02" + json.dumps(fields, separators=(",", ":")).encode()).digest()

    def to_json(self) -> dict[str, Any]:
        """As it stands in checkpoints and proof bundles."""
        return {
            "customhouse": "checkpoint",
            "version": 1,
            "tenant": str(self.tenant_id),
            "number": self.number,
            "sealed_at": written(self.sealed_at),
            "form": self.form,
            "count": self.count,
            "total": self.total,
            "merkle_root": self.root.hex(),
            "previous": self.previous.hex(),
            "leaves_sha256": self.leaves_digest.hex(),
            "first_at": written(self.first_at),
            "last_at": written(self.last_at),
            "public_key": self.public_key.hex(),
            "hash": self.hash.hex(),
            "signature": self.signature.hex(),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "SealHeader":
        """As it is exported, or as REST answers with it. Raises `ValueError` for what is no checkpoint."""
        data = data.get("checkpoint") or data
        if data.get("customhouse") != "checkpoint" or data.get("version") != 1:
            raise ValueError("This is not a checkpoint of a version that is known here.")
        try:
            return cls(
                tenant_id=UUID(data["tenant"]),
                number=int(data["number"]),
                sealed_at=datetime.fromisoformat(data["sealed_at"]),
                form=int(data["form"]),
                count=int(data["count"]),
                total=int(data["total"]),
                root=bytes.fromhex(data["merkle_root"]),
                previous=bytes.fromhex(data["previous"]),
                leaves_digest=bytes.fromhex(data["leaves_sha256"]),
                first_at=datetime.fromisoformat(data["first_at"]),
                last_at=datetime.fromisoformat(data["last_at"]),
                public_key=bytes.fromhex(data["public_key"]),
                hash=bytes.fromhex(data["hash"]),
                signature=bytes.fromhex(data["signature"]),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"The checkpoint has no proper `{error}`.") from error


def written(moment: datetime) -> str:
    """A time as headers have it: UTC, with six decimals."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def unpack(leaves: bytes | memoryview) -> Iterator[Leaf]:
    """The leaves of a seal in their order. Raises `struct.error` where bytes are left over."""
    for kind, row_id, micros, digest in LEAF.iter_unpack(leaves):
        yield Leaf(kind, row_id, EPOCH + timedelta(microseconds=micros), digest)


def root_of_leaves(leaves: bytes) -> bytes:
    """The Merkle root over packed leaves."""
    return merkle_root([leaves[end - 32 : end] for end in range(LEAF.size, len(leaves) + 1, LEAF.size)])


def merkle_root(digests: Sequence[bytes]) -> bytes:
    """The root of RFC 6962 over leaves that are hashed already; of none, the hash of nothing."""
    if not digests:
        return hashlib.sha256().digest()
    # Level by level with the odd one carried up is the same tree as the standard's by the largest power of two.
    sha256, level = hashlib.sha256, list(digests)
    while len(level) > 1:
        above = [sha256(b"\x01" + level[at] + level[at + 1]).digest() for at in range(0, len(level) - 1, 2)]
        if len(level) % 2:
            above.append(level[-1])
        level = above
    return level[0]
