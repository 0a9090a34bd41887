"""The master key that wraps every stored provider key: rotate, verify, status."""

import argparse
from dataclasses import asdict

from django.utils import timezone

from accounts.commands import CommandFailed, Exit, Options, VerbCommand, argument, verb
from accounts.locks import alone
from accounts.printing import Record
from accounts.progress import progress
from integrations import rotation
from integrations.custody import key_ring
from integrations.models import Credential
from integrations.rotation import Finding
from integrations.services import remember_master_key
from integrations.vault import KeyRing, VaultError

MOST_TOLD = 100


def batch(text: str) -> int:
    """How many rows a transaction changes, for argparse."""
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 10_000:
        raise argparse.ArgumentTypeError(f"`{text}` is not a number from 1 to 10000")
    return int(text)


BATCH = argument("--batch-size", type=batch, default=rotation.BATCH, metavar="N", help="Rows per transaction.")


class Command(VerbCommand):
    help = (
        "The master key that wraps every stored provider key: rotate, verify, status. The new key is "
        "CUSTOMHOUSE_MASTER_KEY and the one before it CUSTOMHOUSE_MASTER_KEY_PREVIOUS, each also as …_FILE."
    )
    expected = (VaultError,)

    @verb(
        "rotate",
        "Wrap every stored key under the new master key while servers go on; killed, it goes on where it was.",
        BATCH,
        argument("--dry-run", action="store_true", help="Try everything and write nothing."),
        argument("--force", action="store_true", help="Though workers live that do not know the new key."),
    )
    def rotate(self, options: Options) -> Record:
        ring = key_ring()
        if len(ring.keys) == 1 and not rotation.waiting(ring):
            raise CommandFailed(
                f"Nothing was to be done: every stored key is wrapped by {ring.current.id}, and no other master key is "
                "set. Set the new one as CUSTOMHOUSE_MASTER_KEY and this one as CUSTOMHOUSE_MASTER_KEY_PREVIOUS first: "
                "see `The master key` in docs/security.md.",
                code="no_new_key",
            )
        with alone(rotation.LOCK, otherwise="The master key is being rotated already.") as session:
            ignorant = rotation.ignorant_workers(session, ring)
            if ignorant and not options.force and not options.dry_run:
                raise CommandFailed(
                    f"{ignorant} workers do not know the new master key {ring.current.id} and would refuse calls: "
                    "give all servers both keys and restart them first, or add --force.",
                    code="servers_not_ready",
                )
            done, findings = self._rewrap(ring, options)
            answers = sum(
                rotation.rewrap_answers(
                    ring=ring, now=timezone.now(), batch_size=options.batch_size, dry_run=options.dry_run
                )
            )
        self._tell(findings)
        return {
            "master_key": ring.current.id,
            "rewrapped": done,
            "answers_rewrapped": answers,
            "not_opened": len(findings),
            "left": rotation.waiting(ring),
            "dry_run": options.dry_run,
        }

    def _rewrap(self, ring: KeyRing, options: Options) -> tuple[int, list[Finding]]:
        if not options.dry_run:
            remember_master_key(actor=self.actor)
        done, findings = 0, list[Finding]()
        # A server that still had the old key only may have stored one meanwhile, hence until a round finds nothing.
        while True:
            before, findings = done, []
            with progress("re-wrapped", rotation.waiting(ring)) as advance:
                for step in rotation.rewrap(ring=ring, batch_size=options.batch_size, dry_run=options.dry_run):
                    done += step.done
                    findings += step.findings
                    advance(step.done)
            if done == before or options.dry_run:
                return done, findings

    @verb("verify", "Open every stored key and the canaries; ends with 3 if any does not open.", BATCH)
    def verify(self, options: Options) -> Record:
        opened, findings = 0, list[Finding]()
        with progress("opened", rotation.sealed_rows()) as advance:
            for step in rotation.verify(ring=key_ring(), batch_size=options.batch_size):
                opened += step.done
                findings += step.findings
                advance(step.done)
        self._tell(findings)
        return {
            "credentials": opened,
            "references": Credential.objects.filter(ciphertext=None).count(),
            "not_opened": len(findings),
            "findings": [asdict(finding) for finding in findings[:MOST_TOLD]] if options.json else None,
        }

    @verb("status", "Say which master keys wrap how many stored keys; ends with 3 if one is not known here.")
    def status_of_keys(self, options: Options) -> list[Record]:
        found = rotation.uses(key_ring(), now=timezone.now())
        if any((use.role == "unknown" and use.credentials) or use.canary_opens is False for use in found):
            self.status = Exit.FINDINGS
        return [
            {**asdict(use), "may_retire": use.role != "current" and not use.credentials and not use.answers}
            for use in found
        ]

    def _tell(self, findings: list[Finding]) -> None:
        """Name what does not open."""
        if findings:
            self.status = Exit.FINDINGS
        for finding in findings[:MOST_TOLD]:
            where = f"{finding.tenant}/{finding.integration} version {finding.version}: " if finding.tenant else ""
            self.note(f"{where}{finding.problem} (master key {finding.master_key_id})")
        if len(findings) > MOST_TOLD:
            self.note(f"… and {len(findings) - MOST_TOLD} more")
