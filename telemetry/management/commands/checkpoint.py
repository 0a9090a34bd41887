"""Checkpoints: what somebody else keeps, so that history cannot be written anew."""

from pathlib import Path

from accounts.commands import CommandFailed, Options, VerbCommand, argument, tenant_named, verb
from accounts.printing import Record, as_json
from telemetry.models import Seal
from telemetry.seal_headers import SealHeader
from telemetry.seal_keys import seal_key


class Command(VerbCommand):
    help = "Checkpoints of the evidence: export, key."

    @verb(
        "export",
        "Write each tenant's newest seal as one JSON object per line. Keep it where this installation cannot write.",
        argument("--to", type=Path, required=True, metavar="FILE", help="A file that does not exist yet."),
        argument("--tenant", metavar="SLUG", help="One tenant's alone."),
    )
    def export(self, options: Options) -> Record:
        headers = newest_of(options.tenant)
        try:
            with options.to.open("x", encoding="utf-8") as file:
                file.writelines(as_json(header.to_json()) + "\n" for header in headers)
        except OSError as error:
            raise CommandFailed(f"{options.to} cannot be written: {error.strerror}", code="file") from error
        return {"file": str(options.to), "tenants": len(headers), "public_key": seal_key().public.hex()}

    @verb("key", "Show the public key that signs seals now; it follows from the installation's secret key.")
    def key(self, options: Options) -> Record:
        return {"public_key": seal_key().public.hex()}


def newest_of(slug: str | None) -> list[SealHeader]:
    """The newest seal of one tenant, or of each. Raises `CommandFailed`."""
    if slug is None:
        return [seal.header for seal in Seal.objects.newest_of_each()]
    seal = Seal.objects.newest(tenant_named(slug).pk)
    if seal is None:
        raise CommandFailed("Nothing is sealed yet.", code="not_found")
    return [seal.header]
