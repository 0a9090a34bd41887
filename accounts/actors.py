"""Who changes something: the one value by which services and audit events know people and programs. Pure."""

import ipaddress
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID


class ActorKind(StrEnum):
    """By which door somebody came."""

    PERSON = "person"
    KEY = "key"
    OPERATOR = "operator"
    COMMAND = "command"
    SYSTEM = "system"


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts, and from which address. `id` and `label` are what is still known of them when they are gone."""

    kind: ActorKind
    id: str = ""
    label: str = ""
    address: str | None = None
    manages: UUID | None = None
    """The tenant that a key may manage; nobody else has it, as others have a rank of their own."""

    @classmethod
    def person(cls, *, user_id: int, email: str, address: str) -> "Actor":
        """A member of a tenant, who may do what the role there allows."""
        return cls(ActorKind.PERSON, str(user_id), email, plain_address(address))

    @classmethod
    def operator(cls, *, user_id: int, email: str, address: str) -> "Actor":
        """Somebody at the admin site, who runs the installation."""
        return cls(ActorKind.OPERATOR, str(user_id), email, plain_address(address))

    @classmethod
    def key(cls, *, key_id: UUID, label: str, address: str, manages: UUID | None = None) -> "Actor":
        """A program with a gateway key; `label` is the key's name and prefix, never its text."""
        return cls(ActorKind.KEY, str(key_id), label, plain_address(address), manages)

    @classmethod
    def command(cls, *, uid: int, user: str) -> "Actor":
        """Whoever runs a command on the machine itself, as its system names them."""
        return cls(ActorKind.COMMAND, str(uid), user)


SYSTEM = Actor(ActorKind.SYSTEM, label="system")
"""The installation itself: nobody asked for it."""


def plain_address(text: str) -> str | None:
    """An address as a database keeps it; `None` for what is none, such as the peer of a local socket."""
    try:
        # The zone of a link-local address means something on this machine only.
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    # A socket for both families shows IPv4 peers as mapped addresses.
    return str(getattr(address, "ipv4_mapped", None) or address)
