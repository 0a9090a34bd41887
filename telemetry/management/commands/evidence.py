"""Evidence to be verified elsewhere: export."""

import zipfile
from pathlib import Path

from accounts.commands import CommandFailed, Options, VerbCommand, argument, earlier, tenant_named, verb
from accounts.locks import own_session, snapshot
from accounts.printing import Record
from telemetry.management.commands.verify_evidence import checkpoints_of
from telemetry.proof import Proof


class Command(VerbCommand):
    help = "Evidence to be verified elsewhere: export."

    @verb(
        "export",
        "Write a proof bundle, which `scripts/verify_evidence.py` verifies without Customhouse.",
        argument("--tenant", required=True, metavar="SLUG", help="Whose evidence."),
        argument("--since", type=earlier, required=True, metavar="WHEN", help="2027-03-01, an ISO time, or 7d."),
        argument("--until", type=earlier, required=True, metavar="WHEN", help="Before this moment."),
        argument(
            "--checkpoint", type=Path, metavar="FILE", help="Let the chain of seals reach the one of this checkpoint."
        ),
        argument("--to", type=Path, required=True, metavar="FILE", help="A ZIP file that does not exist yet."),
    )
    def export(self, options: Options) -> Record:
        tenant = tenant_named(options.tenant)
        if options.since >= options.until:
            raise CommandFailed("--since is not before --until.", code="invalid")
        kept = checkpoints_of(options.checkpoint).get(tenant.pk, []) if options.checkpoint else []
        through = max((header.number for header in kept), default=0)
        try:
            with own_session() as session, snapshot(session), zipfile.ZipFile(options.to, "x") as archive:
                manifest = Proof(session, tenant, options.since, options.until, archive, through).write()
        except OSError as error:
            raise CommandFailed(f"{options.to} cannot be written: {error.strerror}", code="file") from error
        rows = {Path(name).stem: file["lines"] for name, file in manifest["files"].items() if name.startswith("rows/")}
        return {"file": str(options.to), "seals": manifest["seals"], **rows, "unsealed": manifest["unsealed_rows"]}
