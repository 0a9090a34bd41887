"""How mail leaves: one URL, read into what Django needs. Pure."""

from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

PORTS = {"smtp": 587, "smtps": 465, "smtp+plain": 25}


@dataclass(frozen=True, slots=True)
class MailServer:
    """Where mail is handed over, or that it is only printed."""

    scheme: str
    host: str = ""
    port: int = 0
    user: str = ""
    password: str = field(default="", repr=False)

    @classmethod
    def parse(cls, url: str) -> "MailServer":
        """Read `smtp://user:password@host:587` (STARTTLS), `smtps://` (TLS), `smtp+plain://` (neither) or `console://`.

        Raises `ValueError`, whose text repeats nothing of the URL.
        """
        parts = urlsplit(url)
        if parts.scheme == "console":
            return cls("console")
        if parts.scheme not in PORTS:
            raise ValueError("begins with none of smtp://, smtps://, smtp+plain:// and console://")
        try:
            port = parts.port
        except ValueError:
            raise ValueError("has a port that is none") from None
        if not parts.hostname or parts.path.strip("/") or parts.query or parts.fragment:
            raise ValueError("is not scheme, user, password, host and port like smtp://user:password@mail.example.com")
        return cls(
            parts.scheme,
            parts.hostname,
            port or PORTS[parts.scheme],
            unquote(parts.username or ""),
            unquote(parts.password or ""),
        )

    @property
    def backend(self) -> str:
        """Django's way of sending it."""
        name = self.scheme if self.scheme in ("console", "dummy") else "smtp"
        return f"django.core.mail.backends.{name}.EmailBackend"


NO_MAIL = MailServer("dummy")
