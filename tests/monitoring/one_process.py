"""A process that counts evidence beside others: announces as many calls as it is told, and scrapes on request.

Lines in: `count <n>` or `scrape`. Lines out: `done`, or the exposition followed by a line `end`.
"""

import sys

import django


def main() -> None:
    django.setup()
    # These can be imported only after the setup.
    from prometheus_client import generate_latest  # noqa: PLC0415

    from monitoring.views import registry  # noqa: PLC0415
    from telemetry.announcements import announce  # noqa: PLC0415
    from tests.monitoring.facts import usage  # noqa: PLC0415

    for line in sys.stdin:
        word, *numbers = line.split()
        if word == "count":
            announce([usage()] * int(numbers[0]))
            answer = "done\n"
        else:
            answer = generate_latest(registry()).decode() + "end\n"
        sys.stdout.write(answer)
        sys.stdout.flush()


if __name__ == "__main__":
    main()
