"""Takes a customer's configuration over, from LiteLLM or from our own JSON."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

from django.core.management.base import CommandParser
from django.utils import timezone

from accounts.commands import CommandFailed, Exit, HouseCommand, Options, secret_arguments, secret_from
from accounts.printing import Record, cell
from integrations.imports import litellm, own_json
from integrations.imports.taking_over import Change, TakingOver
from integrations.imports.wanted import BadFile, Wanted
from integrations.lookups import EXPECTED, SAYINGS

LITELLM, OWN = "litellm", "customhouse"


class Command(HouseCommand):
    help = (
        "Take over a configuration: what is named in the file is made or changed, nothing is taken away. Without --yes "
        "it is only tried, and shown."
    )
    expected = (BadFile, *EXPECTED)
    sayings = SAYINGS

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--from", dest="source", choices=[LITELLM, OWN], required=True, help="Who wrote the file.")
        parser.add_argument("--file", type=Path, required=True, metavar="PATH", help="config.yaml, or our JSON.")
        parser.add_argument("--tenant", metavar="SLUG", help="Whose it becomes; else the one that our JSON names.")
        parser.add_argument(
            "--litellm-keys", type=Path, metavar="PATH", help="The answer of /key/list?return_full_object=true."
        )
        parser.add_argument(
            "--take-environment", action="store_true", help="Take the keys of os.environ/NAME from this environment."
        )
        keys = parser.add_mutually_exclusive_group()
        for add in secret_arguments("keys", "provider keys, as a JSON object by the names of integrations,"):
            add(keys)
        parser.add_argument(
            "--issue-to", type=Path, metavar="PATH", help="A new file for the texts of the keys that are made."
        )
        parser.add_argument("--yes", action="store_true", help="Do it.")

    def run(self, options: Options) -> Record | list[Record] | None:
        wanted, credentials = _wanted(options), _credentials(options)
        over = TakingOver(self.actor, timezone.now())
        # Tried first, so that no file is made for what then fails.
        over.run(wanted, slug=options.tenant, credentials=credentials, hand_over=None)
        if options.yes:
            if over.issued and options.issue_to is None:
                raise CommandFailed(
                    f"{len(over.issued)} keys would be made, whose texts are shown this once: name a new file for them "
                    "with --issue-to.",
                    code="usage",
                    status=Exit.USAGE,
                )
            over = TakingOver(self.actor, timezone.now())
            self._keep(over, wanted, credentials, options)
        for warning in over.warnings:
            self.note(f"warning: {warning}")
        if not options.yes:
            self.note("Nothing was changed: add --yes.")
        if options.json:
            return {
                "dry_run": not options.yes,
                "changes": [_record_of(change) for change in over.changes],
                "warnings": over.warnings,
            }
        return [_line_of(change) for change in over.changes]

    def _keep(self, over: TakingOver, wanted: Wanted, credentials: Mapping[str, str], options: Options) -> None:
        path: Path | None = options.issue_to
        try:
            over.run(
                wanted, slug=options.tenant, credentials=credentials, hand_over=lambda texts: _write_texts(path, texts)
            )
        except OSError as error:
            raise CommandFailed(f"{path} cannot be written: {error.strerror}.", code="unwritable") from error


def _write_texts(path: Path | None, texts: Mapping[str, str]) -> None:
    """Write the texts of new keys into a new file that its owner alone reads. Raises `OSError`."""
    if not texts:
        return
    assert path is not None, "no key is made without a file for its text"
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(texts, file, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())


def _wanted(options: Options) -> Wanted:
    text = _text(options.file)
    if options.source == OWN:
        return own_json.read(text)
    keys = _text(options.litellm_keys) if options.litellm_keys is not None else None
    return litellm.read(text, keys=keys, variables=os.environ if options.take_environment else None)


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it holds no text"
        raise CommandFailed(f"{path} cannot be read: {why}.", code="unreadable") from error


def _credentials(options: Options) -> dict[str, str]:
    text = secret_from(options, "keys")
    if text is None:
        return {}
    try:
        read = json.loads(text)
    except ValueError:
        read = None
    if not isinstance(read, dict) or not all(isinstance(value, str) for value in read.values()):
        raise CommandFailed("The keys should be a JSON object of texts by the names of integrations.", code="invalid")
    return read


def _record_of(change: Change) -> Record:
    return {
        "action": change.action,
        "kind": change.kind,
        "name": change.name,
        "fields": {name: {"before": before, "after": after} for name, (before, after) in change.fields.items()},
    }


def _line_of(change: Change) -> Record:
    told = [f"{name}: {cell(before)} → {cell(after)}" for name, (before, after) in change.fields.items()]
    return {"action": change.action, "kind": change.kind, "name": change.name, "fields": "; ".join(told)}
