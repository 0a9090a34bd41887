"""Starts the gateway, the console and REST on one port."""

import argparse
import os

from django.conf import settings
from django.core.management.base import CommandParser

from accounts.commands import CommandFailed, HouseCommand, Options
from config.serving import NotStarted, PortUnusable, listen, run, usable_cpus
from config.startup import check_secrets, prepare_database
from integrations.vault import VaultError

MOST_WORKERS = 8


def workers(text: str) -> int:
    """How many worker processes, for argparse."""
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 256:
        raise argparse.ArgumentTypeError(f"`{text}` is not a number of workers from 1 to 256")
    return int(text)


class Command(HouseCommand):
    help = (
        "Start the gateway, the console and REST on one port. Brings the database up to date first. "
        "SIGTERM and Ctrl-C let the calls in flight end."
    )
    expected = (VaultError, PortUnusable, NotStarted)

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--role",
            choices=["all", "web", "gateway"],
            default="all",
            help="web: console and REST; gateway: programs' calls.",
        )
        parser.add_argument("--workers", type=workers, metavar="N", help="Processes; one per CPU if not given.")
        parser.add_argument(
            "--pin-workers",
            action="store_true",
            help="Keep each worker to a CPU of its own, which saves CPU where nothing else is pinned to it.",
        )
        parser.add_argument("--host", help="Address to listen on; CUSTOMHOUSE_HOST if not given.")
        parser.add_argument("--port", help="CUSTOMHOUSE_PORT if not given.")

    def run(self, options: Options) -> None:
        check_secrets()
        cpus = usable_cpus()
        count = options.workers or min(len(cpus) or os.cpu_count() or 1, MOST_WORKERS)
        if options.pin_workers and count > len(cpus):
            raise CommandFailed(
                f"{count} workers cannot have a CPU each: {len(cpus)} can be given. Lower --workers.", code="invalid"
            )
        # `config.entry` has put the arguments into the environment, where all processes read them.
        host, port = settings.ENVIRONMENT.host, settings.ENVIRONMENT.port
        with listen(host, port) as listener:
            if migrated := prepare_database():
                self.note(f"Brought the database up to date: {migrated} migrations.")
            self._tell(host, port, options.role)
            run(listener, workers=count, cpus=cpus[:count] if options.pin_workers else [])

    def _tell(self, host: str, port: int, role: str) -> None:
        shown = {"0.0.0.0": "localhost", "::": "localhost"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
        base = f"http://{shown}:{port}"
        if role != "web":
            self.note(f"Gateway  {base}/proxy/<integration>/…")
        if role != "gateway":
            self.note(f"Console  {base}/   admin {base}/admin/   REST {base}/api/v1/")
