"""Starts everything, makes a first call, shows the promise under fire, and keeps serving."""

import signal
import sys
from types import FrameType

from django.conf import settings
from django.core.management.base import CommandParser, OutputWrapper
from django.utils import timezone

from accounts.commands import CommandFailed, HouseCommand, Options
from config.demo.report import Report, farewell
from config.demo.seed import Seeded, seed
from config.demo.server import Server, ServerFailed, free_port
from config.demo.story import EXPECTED, tell_story
from config.startup import check_secrets, prepare_database
from integrations.vault import VaultError


class Command(HouseCommand):
    help = (
        "Start everything on this machine, make a first call through the gateway, show that a budget holds while "
        "a worker is killed, and keep serving. Run again, it keeps its data."
    )
    expected = (VaultError, ServerFailed, *EXPECTED)

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--once", action="store_true", help="End after the story.")

    def run(self, options: Options) -> None:
        # With --json standard output belongs to the document.
        self.told: OutputWrapper = self.stderr if options.json else self.stdout
        signal.signal(signal.SIGTERM, _end)
        check_secrets()
        self.tell("Customhouse demo: database, tables, prices … ")
        prepare_database()
        seeded = seed()
        self.tell("ready\n")
        host = settings.ENVIRONMENT.host
        port = free_port(host, settings.ENVIRONMENT.port)
        if port != settings.ENVIRONMENT.port:
            self.tell(f"Port {settings.ENVIRONMENT.port} is busy, so the demo uses {port}.\n")
        began = timezone.now()
        server = Server(host=host, port=port)
        try:
            self.tell(f"Server on {server.base_url} … ")
            server.wait_ready(began)
            self.tell("ready\n")
            report = tell_story(seeded=seeded, server=server, tell=self.tell)
            self.end(report, seeded, as_document=options.json, is_over=options.once)
            if not options.once:
                self.keep_serving(server)
        finally:
            server.stop()

    def end(self, report: Report, seeded: Seeded, *, as_document: bool, is_over: bool) -> None:
        """Say where to go on, or hand over the facts."""
        self.tell(farewell(report.base_url, seeded, is_over=is_over))
        if as_document:
            self.show(report.document(), as_document=True)
            self.stdout.flush()

    def keep_serving(self, server: Server) -> None:
        """Serve until Ctrl-C. Raises `CommandFailed` where the server ends by itself."""
        self.tell("\nServing. Ctrl-C ends it.\n")
        try:
            status = server.wait()
        except KeyboardInterrupt:
            return
        raise CommandFailed(f"The server ended with status {status}.")

    def tell(self, text: str) -> None:
        """Write a piece of the story as it happens."""
        self.told.write(text, style_func=str, ending="")
        self.told.flush()


def _end(signum: int, frame: FrameType | None) -> None:
    sys.exit(128 + signum)
