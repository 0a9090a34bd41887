"""Evidence held against its seals: what was changed, removed, swapped or slipped in."""

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from uuid import UUID

from django.core.management.base import CommandParser

from accounts.commands import CommandFailed, Exit, HouseCommand, Options, tenant_named
from accounts.locks import own_session, snapshot
from accounts.models import Tenant
from accounts.printing import Record
from accounts.progress import progress
from telemetry.evidence import NOBODY
from telemetry.models import Seal
from telemetry.seal_headers import SealHeader
from telemetry.seal_keys import seal_key
from telemetry.verification import Finding, Verification, Verified, tenants_with_evidence

MOST_SHOWN = 10_000


def public_key(text: str) -> bytes:
    """Ed25519's 32 bytes in hexadecimal, for argparse."""
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != 32:
        raise argparse.ArgumentTypeError(f"`{text}` is not a public key of 64 hexadecimal digits")
    return key


class Command(HouseCommand):
    help = "Hold evidence against its seals; ends with 3 if they do not agree. Calls may pass meanwhile."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--tenant", metavar="SLUG", help="One tenant's alone; else everybody's.")
        parser.add_argument(
            "--checkpoint",
            type=Path,
            metavar="FILE",
            help="What `checkpoint export` wrote before: also hold it to that.",
        )
        parser.add_argument(
            "--key", type=public_key, action="append", default=[], metavar="HEX",
            help="A public key that signed before the secret key was changed; may be repeated.",
        )  # fmt: skip

    def run(self, options: Options) -> Record | list[Record] | None:
        checkpoints = checkpoints_of(options.checkpoint) if options.checkpoint else {}
        vouched = {header.public_key for headers in checkpoints.values() for header in headers}
        trusted = {seal_key().public, *options.key, *vouched}
        names = {tenant.pk: tenant.slug for tenant in Tenant.objects.all()} | {UUID(NOBODY): "installation"}
        findings: list[Record] = []
        done: list[Verified] = []
        left_out = 0
        with own_session() as session:
            if options.tenant:
                whose = [tenant_named(options.tenant).pk]
            else:
                whose = sorted({*tenants_with_evidence(session), *checkpoints})
            for tenant_id in whose:
                name = names.get(tenant_id, str(tenant_id))
                with snapshot(session), progress(f"Verifying {name}", sealed_of(tenant_id)) as advance:
                    known = checkpoints.get(tenant_id, ())
                    verification = Verification(session, tenant_id, trusted, known, advance)
                    for finding in chain(missing(tenant_id, checkpoints, options), verification.findings()):
                        if len(findings) < MOST_SHOWN:
                            findings.append(record_of(finding, name))
                        else:
                            left_out += 1
                    done.append(verification.done)
        if findings:
            self.status = Exit.FINDINGS
        if options.json:
            tenants = [summary_of(one, names.get(one.tenant_id, str(one.tenant_id))) for one in done]
            return {"findings": findings, "findings_left_out": left_out, "tenants": tenants}
        for one in done:
            if options.checkpoint and one.tenant_id not in checkpoints:
                self.note(f"The checkpoint says nothing of {names.get(one.tenant_id, one.tenant_id)}.")
            self.note(line_of(one, names.get(one.tenant_id, str(one.tenant_id))))
        if left_out:
            self.note(f"{left_out} more findings are not shown.")
        if findings:
            return findings
        self.note("The evidence agrees with its seals.")
        return None


def missing(tenant_id: UUID, checkpoints: Mapping[UUID, object], options: Options) -> Iterator[Finding]:
    """Whoever holds one tenant to a checkpoint that does not know it has held it to nothing."""
    if options.checkpoint and options.tenant and tenant_id not in checkpoints:
        yield Finding(tenant_id, "checkpoint_missing", detail="the checkpoint says nothing of this tenant")


def sealed_of(tenant_id: UUID) -> int:
    """How many rows the tenant's newest seal speaks of."""
    return Seal.objects.for_tenant(tenant_id).order_by("-number").values_list("total", flat=True).first() or 0


def checkpoints_of(path: Path) -> dict[UUID, list[SealHeader]]:
    """What was exported, by tenant. Raises `CommandFailed`."""
    found: dict[UUID, list[SealHeader]] = defaultdict(list)
    try:
        for line in path.read_text(encoding="utf-8").splitlines():
            # A line that whoever added it could not end is none.
            if line.endswith("}"):
                header = SealHeader.from_json(json.loads(line))
                found[header.tenant_id].append(header)
        if not found:
            raise ValueError("it holds none")
    except OSError as error:
        raise CommandFailed(f"{path} cannot be read: {error.strerror}", code="unreadable") from error
    except (ValueError, AttributeError) as error:
        raise CommandFailed(f"{path} is not what `checkpoint export` writes: {error}", code="invalid") from error
    return found


def record_of(finding: Finding, tenant: str) -> Record:
    """A finding as it is shown."""
    return {
        "tenant": tenant,
        "problem": finding.problem,
        "seal": finding.seal,
        "kind": finding.kind,
        "row": finding.row_id,
        "at": finding.at,
        "detail": finding.detail,
    }


def summary_of(done: Verified, tenant: str) -> Record:
    """What was gone through of one tenant."""
    return {
        "tenant": tenant,
        "seals": done.seals,
        "rows": done.rows,
        "expired": done.expired,
        "unsealed": done.unsealed,
        "oldest_unsealed": done.oldest_unsealed,
        "newest": done.newest.to_json() if done.newest else None,
        "keys": [{"public_key": key.hex(), "first_seal": number} for key, number in done.keys],
    }


def line_of(done: Verified, tenant: str) -> str:
    """The same for people."""
    text = f"{tenant}: {done.seals} seals, {done.rows} rows as they were sealed"
    if done.expired:
        text += f", {done.expired} of months that are not kept any more"
    if done.unsealed:
        text += f"; not sealed yet: {done.unsealed}, since {done.oldest_unsealed:%Y-%m-%d %H:%M:%S %Z}"
    return text + "."
