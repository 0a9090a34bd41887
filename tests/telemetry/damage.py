"""What somebody can do to evidence who is master of the database: one thing at a time, at random."""

import random
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from django.db import connection, transaction

from accounts.models import Tenant
from telemetry.evidence import KINDS, USAGE
from telemetry.models import Seal
from telemetry.seal_forms import FORMS, digest_of
from telemetry.seal_headers import EPOCH, FIRST_PREVIOUS, LEAF, root_of_leaves, unpack
from telemetry.seal_keys import seal_key
from telemetry.verification import Finding

Row = tuple[int, int]
"""Number of the kind, id."""
Named = Callable[[Collection[Finding]], bool]

OTHER = {
    "uuid": "gen_random_uuid()",
    "character varying": "CASE WHEN {0} = 'x' THEN 'y' ELSE 'x' END",
    "bigint": "coalesce({0}, 0) + 1",
    "integer": "coalesce({0}, 0) + 1",
    "boolean": "NOT {0}",
    "jsonb": "CASE WHEN {0} = '[7]' THEN '[8]'::jsonb ELSE '[7]'::jsonb END",
    "timestamp with time zone": "{0} + interval '1 microsecond'",
    "inet": "'192.0.2.7'",
}
SWAP = "UPDATE {table} SET id = CASE id WHEN %s THEN -%s WHEN %s THEN -%s END WHERE id IN (%s, %s)"
FORGE = "INSERT INTO {table} ({columns}) SELECT {values} FROM {table} WHERE id = %s RETURNING id"


@contextmanager
def undone() -> Iterator[None]:
    """Let what is done here be gone afterwards; no trigger fires meanwhile."""
    with transaction.atomic():
        run("SET LOCAL session_replication_role = replica")
        yield
        transaction.set_rollback(True)


def run(query: str, *values: Any) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(query, values)
        return cursor.fetchall() if cursor.description else []


class Vandal:
    """Damages the sealed evidence of one tenant. Each deed says how its finding is recognised."""

    def __init__(self, tenant: Tenant, seed: int) -> None:
        self._random = random.Random(seed)
        self._tenant = tenant
        seals = list(Seal.objects.filter(tenant_id=tenant.pk).order_by("number"))
        self._numbers = [seal.number for seal in seals]
        self._rows = [(leaf.kind, leaf.row_id) for seal in seals for leaf in unpack(seal.leaves)]
        self._types = {
            (table, column): kind
            for table, column, kind in run(
                "SELECT table_name, column_name, data_type FROM information_schema.columns "
                "WHERE table_schema = 'public'"
            )
        }

    def damage(self) -> tuple[str, Named]:
        """Do one thing; what, and by which finding it is named."""
        deeds = [self.change, self.delete, self.swap, self.forge, self.change_seal, self.delete_seal, self.truncate]
        return self._random.choices(deeds, weights=[8, 4, 4, 2, 3, 2, 1])[0]()

    def change(self, *, spare: Collection[str] = ()) -> tuple[str, Named]:
        """Another value in one column, though not in one of `spare`."""
        number, row_id = self._random.choice(self._rows)
        table = KINDS[number].table
        column = self._random.choice([name for name in FORMS[1][number] if name not in spare])
        kind = str(self._types[table, column])
        other = "'operator'" if column == "actor_kind" else f"({OTHER[kind].format(column)})"
        if column == "id":
            other = "id + 1000000"
        run(f"UPDATE {table} SET {column} = {other} WHERE id = %s", row_id)  # noqa: S608 - our names
        return f"{column} of {table} {row_id}", names_row((number, row_id))

    def delete(self) -> tuple[str, Named]:
        number, row_id = self._random.choice(self._rows)
        run(f"DELETE FROM {KINDS[number].table} WHERE id = %s", row_id)  # noqa: S608 - our names
        return f"deleted {number} {row_id}", names_row((number, row_id))

    def swap(self) -> tuple[str, Named]:
        """Two rows of one kind take each other's id."""
        number, one = self._random.choice(self._rows)
        others = [row_id for kind, row_id in self._rows if kind == number and row_id != one]
        if not others:
            return self.delete()
        other, table = self._random.choice(others), KINDS[number].table
        run(SWAP.format(table=table), one, other, other, one, one, other)
        run(f"UPDATE {table} SET id = -id WHERE id < 0")  # noqa: S608 - our names
        both = names_row((number, one)), names_row((number, other))
        return f"swapped {number} {one} {other}", lambda findings: all(names(findings) for names in both)

    def forge(self) -> tuple[str, Named]:
        """A row beside the others, under an id of its own or under that of another."""
        number, row_id = self._random.choice([row for row in self._rows if row[0] == USAGE.number])
        table, columns = KINDS[number].table, FORMS[1][number]
        fresh = {"call_id": "gen_random_uuid()", "id": self._random.choice(["id", "id + 1000000"])}
        values = ", ".join(fresh.get(column, column) for column in columns)
        ((forged,),) = run(FORGE.format(table=table, columns=", ".join(columns), values=values), row_id)
        assert isinstance(forged, int)
        return f"forged {forged}", names_row((number, forged))

    def change_seal(self) -> tuple[str, Named]:
        number = self._random.choice(self._numbers)
        column, other = self._random.choice(
            [
                ("root", "sha256(root)"), ("hash", "sha256(hash)"), ("previous", "sha256(previous)"),
                ("signature", "set_byte(signature, 5, (get_byte(signature, 5) + 1) %% 256)"),
                ("count", "count + 1"), ("total", "total + 1"), ("form", "form + 1"),
                ("sealed_at", "sealed_at - interval '1 hour'"), ("first_at", "first_at - interval '1 hour'"),
                ("public_key", "sha256(public_key)"), ("number", "number + 1000"),
                ("leaves", "substr(leaves, 50)"), ("leaves", "substr(leaves, 2)"),
                ("leaves", "set_byte(leaves, 12, (get_byte(leaves, 12) + 1) %% 256)"),
                ("leaves", "set_byte(leaves, 9, 255)"),
            ]
        )  # fmt: skip
        mine = "tenant_id = %s AND number = %s"
        run(f"UPDATE cus_seals SET {column} = {other} WHERE {mine}", self._tenant.pk, number)  # noqa: S608 - our names
        return f"{column} of seal {number}", names_seal(number)

    def delete_seal(self) -> tuple[str, Named]:
        number = self._random.choice(self._numbers)
        run("DELETE FROM cus_seals WHERE tenant_id = %s AND number = %s", self._tenant.pk, number)
        if number == self._numbers[-1]:
            # Nothing shows that there was one but its rows, which are in no seal now.
            return "deleted the last seal", lambda findings: any(one.problem == "row_in_no_seal" for one in findings)
        return f"deleted seal {number}", names_seal(number)

    def truncate(self) -> tuple[str, Named]:
        kind = self._random.choice(list(KINDS.values()))
        lost = [names_row(row) for row in self._rows if row[0] == kind.number]
        run(f"TRUNCATE {kind.table}")
        return f"truncated {kind.table}", lambda findings: all(names(findings) for names in lost)


def names_row(row: Row) -> Named:
    kind = KINDS[row[0]].name
    return lambda findings: any((one.kind, one.row_id) == (kind, row[1]) for one in findings)


def names_seal(number: int) -> Named:
    return lambda findings: any(one.seal == number and one.kind is None for one in findings)


def seal_again(tenant: Tenant) -> None:
    """Make all seals anew over the rows as they are now: in the same order, at the same times, with the real key."""
    key, previous = seal_key(), FIRST_PREVIOUS
    for seal in Seal.objects.filter(tenant_id=tenant.pk).order_by("number"):
        leaves = b""
        for leaf in unpack(seal.leaves):
            kind = KINDS[leaf.kind]
            query = f"SELECT {digest_of(kind, seal.form, 'evidence')} FROM {kind.table} AS evidence WHERE id = %s"  # noqa: S608 - our names
            ((digest,),) = run(query, leaf.row_id)
            micros = (leaf.at - EPOCH) // timedelta(microseconds=1)
            leaves += LEAF.pack(leaf.kind, leaf.row_id, micros, digest)
        seal.previous, seal.leaves, seal.root = previous, leaves, root_of_leaves(leaves)
        previous = seal.header.computed_hash()
        run(
            "UPDATE cus_seals SET previous = %s, leaves = %s, root = %s, hash = %s, signature = %s WHERE id = %s",
            seal.previous, leaves, seal.root, previous, key.sign(previous), seal.pk,
        )  # fmt: skip
