"""The proof bundle: everything that vouches for one tenant's evidence of a period, to be verified elsewhere.

`scripts/verify_evidence.py` verifies it. What it holds: rows as canonical texts by kind, the seals that speak of the
period with their leaves, the chain between them, the newest seal, the prices and limits that were used, and what each
day amounts to.
"""

import base64
import hashlib
import json
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import psycopg

from accounts.actors import ActorKind
from accounts.models import Tenant
from integrations.limits import Limit
from telemetry.evidence import AUDIT, KINDS, USAGE, Kind
from telemetry.models import Price, PriceVersion
from telemetry.price_book import BookEntry
from telemetry.row_sets import RowSet
from telemetry.seal_forms import FORMS, NEWEST, names_digest, row_of, text_of
from telemetry.seal_headers import Leaf, unpack, written
from telemetry.seal_reads import ROWS_AT_ONCE, queue_of, seals_of

ROWS = "SELECT id, {text} FROM {table} AS evidence WHERE {whose} AND {column} >= %s AND {column} < %s ORDER BY {column}"
# From the last seal that was made before the period to the first after it, and whichever speaks of a row of it.
COVERING = """
SELECT least(
        coalesce(max(number) FILTER (WHERE sealed_at < %(since)s), min(number)),
        min(number) FILTER (WHERE first_at < %(until)s AND last_at >= %(since)s)
    ), greatest(
        coalesce(min(number) FILTER (WHERE sealed_at >= %(until)s), max(number)),
        max(number) FILTER (WHERE first_at < %(until)s AND last_at >= %(since)s)
    )
FROM cus_seals WHERE tenant_id = %(tenant)s
"""
DAYS = """
SELECT to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD'), {sums} FROM {table}
WHERE tenant_id = %s AND {column} >= %s AND {column} < %s GROUP BY 1
"""
SUMS_OF_USAGE = {
    "calls": "count(*)",
    "tokens_in": "coalesce(sum(tokens_in), 0)",
    "tokens_out": "coalesce(sum(tokens_out), 0)",
    "cost_nanos": "coalesce(sum(cost_nanos), 0)",
    "unknown_tokens_in": "count(*) FILTER (WHERE tokens_in IS NULL)",
    "unknown_tokens_out": "count(*) FILTER (WHERE tokens_out IS NULL)",
    "unknown_cost_nanos": "count(*) FILTER (WHERE cost_nanos IS NULL)",
}
SUMS_OF_ADJUSTMENTS = {
    "adjustments": "count(*)",
    "adjusted_tokens_in": "coalesce(sum(tokens_in), 0)",
    "adjusted_tokens_out": "coalesce(sum(tokens_out), 0)",
    "adjusted_cost_nanos": "coalesce(sum(cost_nanos), 0)",
}
CHAIN_AFTERWARDS = 10_000
LINES_AT_ONCE = 100
TOLD_ACTORS = (ActorKind.PERSON, ActorKind.KEY)
"""Of whom the tenant is told who they are."""
Sealed = dict[int, dict[int, RowSet]]
"""Which rows are sealed under which form, by kind."""


@dataclass(slots=True)
class Proof:
    """Writes one bundle from one snapshot of the database, which the caller holds."""

    connection: psycopg.Connection[Any]
    tenant: Tenant
    since: datetime
    until: datetime
    archive: zipfile.ZipFile
    through: int = 0
    """The number of a seal that the chain has to reach, as somebody has a checkpoint of it."""
    is_for_tenant: bool = False
    """Leave out the rows that say which operator changed something, and from where: the customer is not told that."""
    manifest: dict[str, Any] = field(init=False, default_factory=dict)
    _files: dict[str, dict[str, Any]] = field(init=False, default_factory=dict)
    _withheld: list[int] = field(init=False, default_factory=list)
    _unsealed: dict[str, list[int]] = field(init=False, default_factory=lambda: defaultdict(list))
    _prices: set[str] = field(init=False, default_factory=set)

    def write(self) -> dict[str, Any]:
        """The whole bundle; its manifest."""
        for _ in self.parts():
            pass
        return self.manifest

    def parts(self) -> Iterator[None]:
        """The same a part at a time, for whoever takes what is written so far in between; then there is a manifest."""
        asked = {"tenant": self.tenant.pk, "since": self.since, "until": self.until}
        numbers = self.connection.execute(COVERING, asked).fetchone()
        first, last = numbers if numbers is not None and numbers[0] is not None else (1, 0)
        sealed: Sealed = defaultdict(lambda: {number: RowSet() for number in KINDS})
        yield from self._put("seals.jsonl", self._seals_of(first, last, sealed))
        yield from self._write_rows(sealed)
        yield from self._put("prices.jsonl", map(_line, self._used_prices()))
        yield from self._put("limits.jsonl", map(_line, self._limits()))
        self.manifest = {
            "customhouse": "proof bundle",
            "version": 1,
            "made_at": written(datetime.now(UTC)),
            "tenant": {"id": str(self.tenant.pk), "slug": self.tenant.slug, "name": self.tenant.name},
            "since": written(self.since),
            "until": written(self.until),
            "seals": {"first": first, "last": last} if first <= last else None,
            "columns": {names_digest(names): names for form in FORMS.values() for names in form.values()},
            "days": self._days(),
            "unsealed": self._unsealed,
            "unsealed_rows": sum(map(len, self._unsealed.values())),
            "withheld_audit_rows": self._withheld,
            "files": self._files,
        }
        self.archive.writestr("manifest.json", json.dumps(self.manifest, indent=1, ensure_ascii=False))

    def _seals_of(self, first: int, last: int, sealed: Sealed) -> Iterator[str]:
        """The chain from before the period to behind it; notes in `sealed` which rows of the period it speaks of."""
        # What comes later shows that the chain leads to what others have checkpoints of.
        end = max(self.through, last + CHAIN_AFTERWARDS) if first <= last else last
        for header, packed in seals_of(self.connection, self.tenant.pk, first, end):
            is_needed = header.first_at < self.until and header.last_at >= self.since
            for leaf in unpack(packed) if is_needed else ():
                if self._is_ours(leaf):
                    sealed[header.form][leaf.kind].add(leaf.row_id)
            leaves = base64.b64encode(packed).decode() if is_needed else None
            yield _line({**header.to_json(), "leaves": leaves})

    def _is_ours(self, leaf: Leaf) -> bool:
        return leaf.kind in KINDS and self.since <= leaf.at < self.until

    def _write_rows(self, sealed: Sealed) -> Iterator[None]:
        queued: dict[int, RowSet] = {number: RowSet() for number in KINDS}
        for number, row_id, _, _ in queue_of(self.connection, self.tenant.pk):
            if number in queued:
                queued[number].add(row_id)
        for number, kind in KINDS.items():
            by_form = {form: sets[number] for form, sets in sealed.items()}
            yield from self._put(f"rows/{kind.name}.jsonl", self._texts(kind, by_form, queued[number]))

    def _texts(self, kind: Kind, sealed: dict[int, RowSet], queued: RowSet) -> Iterator[str]:
        """Each row in the form in which it was sealed; in the newest where it was not."""
        for form in sorted({*sealed, NEWEST}):
            for row_id, text in self._rows(kind, form):
                others = [rows for other, rows in sealed.items() if other != form]
                if form in sealed and row_id in sealed[form]:
                    pass
                elif form != NEWEST or any(row_id in rows for rows in others):
                    continue
                elif row_id in queued:
                    self._unsealed[kind.name].append(row_id)
                row = row_of(kind, form, text) if kind in (AUDIT, USAGE) else {}
                if kind is AUDIT and self.is_for_tenant and row["actor_kind"] not in TOLD_ACTORS:
                    self._withheld.append(row_id)
                    continue
                self._prices.update(line["price"] for line in row.get("cost_lines", ()) if line.get("price"))
                yield text

    def _rows(self, kind: Kind, form: int) -> Iterator[tuple[int, str]]:
        query = ROWS.format(
            text=text_of(kind, form, "evidence"),
            table=kind.table,
            whose=f"evidence.tenant_id = '{self.tenant.pk}'",
            column=kind.column,
        )
        with psycopg.ServerCursor(self.connection, "proof") as cursor:
            cursor.itersize = ROWS_AT_ONCE // 5
            yield from cursor.execute(query.encode(), [self.since, self.until])

    def _days(self) -> dict[str, Counter[str]]:
        """What the database says each day amounts to, days of UTC."""
        days: dict[str, Counter[str]] = defaultdict(Counter)
        tables = (("cus_llm_usage", SUMS_OF_USAGE), ("usage_adjustments", SUMS_OF_ADJUSTMENTS))
        for table, sums in tables:
            query = DAYS.format(
                column="created_at", table=table, sums=", ".join(f"({s})::bigint" for s in sums.values())
            )
            values = [self.tenant.pk, self.since, self.until]
            for day, *found in self.connection.execute(query.encode(), values).fetchall():
                days[day].update(dict(zip(sums, found, strict=True)))
        return days

    def _used_prices(self) -> Iterator[dict[str, Any]]:
        """The rates behind the ids that stand in cost lines, as they are in the book."""
        versions = {int(head) for head in (name.partition(":")[0] for name in self._prices) if head.isdecimal()}
        sources = {version.pk: version for version in PriceVersion.objects.filter(pk__in=versions)}
        for row in Price.objects.filter(version_id__in=versions).order_by("pk"):
            if row.tenant_id not in (None, self.tenant.pk):
                continue
            entry = BookEntry.from_json(row.rates, provider=row.provider, model=row.model, version=row.version_id)
            for price in entry.periods:
                if price.id in self._prices:
                    version = sources[row.version_id]
                    yield {
                        "id": price.id,
                        "provider": price.provider,
                        "model": price.model,
                        "book": {"version": version.pk, "source": version.source,
                                 "effective_from": written(version.effective_from)},
                        **price.to_json(),
                    }  # fmt: skip

    def _limits(self) -> Iterator[dict[str, Any]]:
        """Every version of a limit that was set before the period ended."""
        limits = Limit.objects.filter(tenant_id=self.tenant.pk, effective_from__lt=self.until)
        for limit in limits.order_by("limit_id", "version"):
            yield {
                "limit_id": str(limit.limit_id),
                "version": limit.version,
                "scope": limit.scope,
                "integration": _id(limit.integration_id),
                "key": _id(limit.key_id),
                "model": limit.model or None,
                "metric": limit.metric,
                "period": limit.period,
                "amount": limit.amount,
                "mode": limit.mode,
                "warn_percents": limit.warn_percents,
                "raised_to": limit.raised_to,
                "raise_until": written(limit.raise_until) if limit.raise_until else None,
                "effective_from": written(limit.effective_from),
                "superseded_at": written(limit.superseded_at) if limit.superseded_at else None,
            }

    def _put(self, name: str, lines: Iterable[str]) -> Iterator[None]:
        """One file of the bundle, some lines at a time."""
        digest, count = hashlib.sha256(), 0
        entry = zipfile.ZipInfo(name)
        entry.compress_type = zipfile.ZIP_DEFLATED
        with self.archive.open(entry, "w", force_zip64=True) as file:
            for line in lines:
                data = line.encode() + b"\n"
                digest.update(data)
                file.write(data)
                count += 1
                if count % LINES_AT_ONCE == 0:
                    yield
        self._files[name] = {"sha256": digest.hexdigest(), "lines": count}


def _line(record: dict[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False)


def _id(value: UUID | None) -> str | None:
    return str(value) if value is not None else None
