"""The guards of evidence as migrations leave them: the tests switch some off for themselves."""

from telemetry.evidence import PARTITIONED
from tests.telemetry.damage import run

OFF = "SELECT tgrelid::regclass::text, tgname FROM pg_trigger WHERE tgenabled = 'D'"


def switch_on() -> list[tuple[str, str]]:
    """Switch all guards on, and drop what is no month; table and name of those that were off."""
    for divided in PARTITIONED:
        run(f"DROP TABLE {divided.name}_earlier, {divided.name}_later")
    off = [(str(table), str(name)) for table, name in run(OFF)]
    for table, name in off:
        run(f"ALTER TABLE {table} ENABLE TRIGGER {name}")
    return off
