#!/usr/bin/env python3
"""Verifies a proof bundle of Customhouse, with nothing of Customhouse and nothing but Python (3.9 or newer).

    python3 -I verify_evidence.py bundle.zip [--key HEX] [--checkpoint FILE] [--json]

It makes every leaf, root, hash and signature again from the rows, adds up tokens and money again from their cost
lines, and says what does not fit, what it does not prove, and what lies outside. It ends with 0 if everything fits,
with 3 if something does not, with 2 if the bundle cannot be read.

`--key` is the public key of the installation as you know it from elsewhere, `--checkpoint` a checkpoint that you kept
yourself: without them the bundle is only shown to be consistent in itself.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import struct
import sys
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from fractions import Fraction
from typing import Any

LEAF = struct.Struct(">Bqq32s")
KINDS = {1: "usage", 2: "decision", 3: "adjustment", 4: "health", 5: "audit"}
TIMES = {"usage": "created_at", "decision": "evaluated_at", "adjustment": "created_at", "health": "at",
         "audit": "created_at"}  # fmt: skip
NOT_THERE = bytes(32)
FIRST_PREVIOUS = "00" * 32
TOKEN_CLASSES = ("input", "output", "cache")
LONGEST_WAIT = timedelta(hours=1)
MOST_SHOWN, EPOCH = 200, datetime(1970, 1, 1, tzinfo=timezone.utc)  # noqa: UP017 - not in Python 3.9
RE_ADDED = ("priced", "free")

Json = dict[str, Any]

# Ed25519 as in RFC 8032, verification only.
P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
ROOT_OF_MINUS_ONE = pow(2, (P - 1) // 4, P)
Point = tuple[int, int, int, int]
NEUTRAL: Point = (0, 1, 1, 0)


def add(one: Point, other: Point) -> Point:
    """The sum of two points in extended coordinates."""
    x1, y1, z1, t1 = one
    x2, y2, z2, t2 = other
    a, b = (y1 - x1) * (y2 - x2) % P, (y1 + x1) * (y2 + x2) % P
    c, d = 2 * t1 * t2 * D % P, 2 * z1 * z2 % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def point_of(encoded: bytes) -> Point | None:
    """The point that 32 bytes stand for, if they do."""
    number = int.from_bytes(encoded, "little")
    y, sign = number & (1 << 255) - 1, number >> 255
    if y >= P:
        return None
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * ROOT_OF_MINUS_ONE % P
    if (x * x - square) % P or (x == 0 and sign):
        return None
    if x & 1 != sign:
        x = P - x
    return x, y, 1, x * y % P


BASE_POINT = point_of((4 * pow(5, P - 2, P) % P).to_bytes(32, "little"))


def is_signed(message: bytes, signature: bytes, public_key: bytes) -> bool:
    """Whether the owner of `public_key` signed this."""
    if len(signature) != 64 or len(public_key) != 32 or BASE_POINT is None:
        return False
    key, s = point_of(public_key), int.from_bytes(signature[32:], "little")
    if key is None or s >= ORDER:
        return False
    k = int.from_bytes(hashlib.sha512(signature[:32] + public_key + message).digest(), "little") % ORDER
    minus_key: Point = (P - key[0], key[1], 1, P - key[3])
    both, result = add(BASE_POINT, minus_key), NEUTRAL
    for bit in range(max(s.bit_length(), k.bit_length()) - 1, -1, -1):
        result = add(result, result)
        in_s, in_k = s >> bit & 1, k >> bit & 1
        if in_s or in_k:
            result = add(result, both if in_s and in_k else BASE_POINT if in_s else minus_key)
    x, y, z, _ = result
    inverse = pow(z, P - 2, P)
    x, y = x * inverse % P, y * inverse % P
    return (y | (x & 1) << 255).to_bytes(32, "little") == signature[:32]


def hash_of(header: Json) -> str:
    """What the hash of a seal must be."""
    fields = ["customhouse seal", 1] + [
        header[name]
        for name in ("tenant", "number", "sealed_at", "form", "count", "total", "merkle_root", "previous",
                     "leaves_sha256", "first_at", "last_at", "public_key")
    ]  # fmt: skip
    return hashlib.sha256(b"\x02" + json.dumps(fields, separators=(",", ":")).encode()).hexdigest()


def merkle_root(digests: list[bytes]) -> bytes:
    """The root of RFC 6962 over leaves that are hashed already."""
    while len(digests) > 1:
        above = [
            hashlib.sha256(b"\x01" + digests[at] + digests[at + 1]).digest() for at in range(0, len(digests) - 1, 2)
        ]
        digests = above + ([digests[-1]] if len(digests) % 2 else [])
    return digests[0] if digests else hashlib.sha256().digest()


def written(micros: int) -> str:
    """Microseconds since 1970 as the rows write times, so that both order alike."""
    try:
        return (EPOCH + timedelta(microseconds=micros)).isoformat(timespec="microseconds")[:26] + "Z"
    except OverflowError:
        return f"{micros} microseconds from 1970"


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text[:26])


class Bundle:
    """A proof bundle, and what was found about it."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self.archive = archive
        self.manifest: Json = json.loads(archive.read("manifest.json"))
        if self.manifest.get("customhouse") != "proof bundle" or self.manifest.get("version") != 1:
            raise ValueError("this is not a proof bundle of a version that this program knows")
        self.since: str = self.manifest["since"]
        self.until: str = self.manifest["until"]
        self.findings: list[str] = []
        self.count = 0
        self.told: Counter[str] = Counter()
        self.notes: list[str] = []
        self.digests: dict[tuple[str, int], bytes] = {}
        self.sealed: set[tuple[str, int]] = set()
        self.hashes: dict[int, str] = {}
        self.last_sealed_at = self.manifest["made_at"]
        unsealed = self.manifest["unsealed"].items()
        self.waiting = {(kind, row_id): "" for kind, row_ids in unsealed for row_id in row_ids}

    def finds(self, problem: str, what: str) -> None:
        self.count += 1
        if len(self.findings) < MOST_SHOWN:
            self.findings.append(f"{problem}: {what}")

    def lines(self, name: str) -> Iterator[str]:
        """The lines of one file of the bundle, without their ends."""
        with self.archive.open(name) as file:
            yield from (line.decode("utf-8").rstrip("\n") for line in file)

    def records(self, name: str) -> Iterator[Json]:
        read = self.row if name.startswith("rows/") else json.loads
        yield from (record for record in map(read, self.lines(name)) if record is not None)

    def row(self, text: str) -> Json | None:
        """A row by the names of its columns, and its kind as `evidence`; `None` if nothing names them."""
        kind, names, *values = json.loads(text)
        columns = self.manifest["columns"].get(names, [])
        if hashlib.sha256(",".join(columns).encode()).hexdigest()[:32] != names or len(columns) != len(values):
            self.finds("columns", f"the names of a row's columns are not those that it was sealed with: {columns}")
        return {"evidence": kind, **dict(zip(columns, values))} if columns else None  # noqa: B905 - not in Python 3.9

    def check_files(self) -> None:
        """Every file is as the manifest says, and there is no other."""
        expected: Json = self.manifest["files"]
        names = [name for name in self.archive.namelist() if name != "manifest.json"]
        for name in sorted({*names, *expected}):
            if name not in expected or names.count(name) != 1:
                self.finds("file", f"{name} is not what the manifest lists once")
                continue
            digest = hashlib.sha256()
            with self.archive.open(name) as file:
                for line in file:
                    digest.update(line)
            if digest.hexdigest() != expected[name]["sha256"]:
                self.finds("file", f"{name} is another than the manifest says")

    def read_rows(self) -> None:
        """Hash the rows, and check that each is of this tenant and period."""
        for kind in KINDS.values():
            for line in self.lines(f"rows/{kind}.jsonl"):
                row = self.row(line)
                if row is None:
                    continue
                name = (kind, int(row["id"]))
                if row["evidence"] != kind:
                    self.finds("row", f"a row of {row['evidence']} stands among those of {kind}")
                if row["tenant_id"] != self.manifest["tenant"]["id"]:
                    self.finds("row", f"{kind} {row['id']} is another tenant's")
                if not self.since <= row[TIMES[kind]] < self.until:
                    self.finds("row", f"{kind} {row['id']} is of another time than the bundle")
                if name in self.digests:
                    self.finds("row_twice", f"{kind} {row['id']}")
                if name in self.waiting:
                    self.waiting[name] = row.get("settled_at") or row[TIMES[kind]]
                self.digests[name] = hashlib.sha256(b"\0" + line.encode("utf-8")).digest()
                self.told[f"{kind} rows"] += 1

    def check_seals(self, keys: list[str]) -> None:
        """The chain, and each leaf of the period against its row. A key's last signature vouches for all before."""
        before: Json | None = None
        seen_keys: list[str] = []
        for header in self.records("seals.jsonl"):
            number, digest = header["number"], hash_of(header)
            self.hashes[number] = digest
            if header["tenant"] != self.manifest["tenant"]["id"]:
                self.finds("seal", f"seal {number} is another tenant's")
            if before is None:
                self.notes.append(f"The seals begin with number {number}, sealed at {header['sealed_at']}.")
                if number == 1 and header["previous"] != FIRST_PREVIOUS:
                    self.finds("chain", "the first seal names one before it")
                elif number != 1 and header["sealed_at"] >= self.since:
                    self.finds("seals_missing", f"seals before number {number} may speak of the period, too")
            elif number != before["number"] + 1:
                self.finds("chain", f"after seal {before['number']} comes seal {number}")
            elif header["previous"] != before["hash"] or header["total"] != before["total"] + header["count"]:
                self.finds("chain", f"seal {number} does not follow from the one before it")
            if header["hash"] != digest:
                self.finds("seal", f"the hash of seal {number} is not that of what it says")
            if header["public_key"] not in seen_keys:
                seen_keys.append(header["public_key"])
                if keys and header["public_key"] not in keys:
                    self.finds("key", f"seal {number} is signed by {header['public_key']}, which you did not name")
            if before is not None and before["public_key"] != header["public_key"]:
                self._check_signature(before)
            if header.get("leaves") is not None:
                self._check_leaves(header)
            elif header["first_at"] < self.until and header["last_at"] >= self.since:
                self.finds("leaves_missing", f"seal {number} speaks of the period")
            before = header
        if before is not None:
            self._check_signature(before)
            self.last_sealed_at = before["sealed_at"]
            more = ": later ones may hold more rows" if before["sealed_at"] < self.until else ""
            self.notes.append(f"They end with number {before['number']}, sealed at {before['sealed_at']}{more}.")
        if not keys:
            named = ", ".join(seen_keys) or "none"
            self.notes.append(f"No --key was given; signed by: {named}. Compare it with what you know from elsewhere.")

    def _check_signature(self, header: Json) -> None:
        digest = bytes.fromhex(hash_of(header))
        if not is_signed(digest, bytes.fromhex(header["signature"]), bytes.fromhex(header["public_key"])):
            self.finds("signature", f"seal {header['number']} was not signed by its key")

    def _check_leaves(self, header: Json) -> None:
        number, packed = header["number"], base64.b64decode(header["leaves"])
        if hashlib.sha256(packed).hexdigest() != header["leaves_sha256"] or len(packed) % LEAF.size:
            self.finds("seal", f"the leaves of seal {number} are not those that it was made of")
            return
        leaves = list(LEAF.iter_unpack(packed))
        root = merkle_root([digest for _, _, _, digest in leaves]).hex()
        if root != header["merkle_root"] or len(leaves) != header["count"]:
            self.finds("seal", f"the root of seal {number} is not that of its leaves")
        for kind_number, row_id, micros, digest in leaves:
            kind, at = KINDS.get(kind_number, str(kind_number)), written(micros)
            if not self.since <= at < self.until:
                self.told["leaves outside of the period"] += 1
                continue
            name, what = (kind, row_id), f"{kind} {row_id} of {at}, sealed in {number}"
            self.sealed.add(name)
            if digest == NOT_THERE:
                self.finds("row_missing_when_sealed", what)
            elif kind == "audit" and row_id in self.manifest.get("withheld_audit_rows", ()):
                self.told["audit rows that are withheld from you"] += 1
            elif name not in self.digests:
                self.finds("row_deleted", what)
            elif self.digests[name] != digest:
                self.finds("row_changed", what)
            else:
                self.told["rows as they were sealed"] += 1

    def check_stray_rows(self) -> None:
        """Rows that no seal vouches for: told where they are new and the installation says so itself, else found."""
        for name in self.digests.keys() - self.sealed:
            if name not in self.waiting:
                self.finds("row_in_no_seal", f"{name[0]} {name[1]}")
            elif moment(self.last_sealed_at) - moment(self.waiting[name]) > LONGEST_WAIT:
                self.finds("row_unsealed_too_long", f"{name[0]} {name[1]}, written at {self.waiting[name]}")
            else:
                self.told["rows that were not sealed yet"] += 1

    def check_checkpoint(self, checkpoint: Json) -> None:
        """A checkpoint that was kept elsewhere is the seal of its number."""
        digest, number = hash_of(checkpoint), checkpoint["number"]
        signature, key = bytes.fromhex(checkpoint["signature"]), bytes.fromhex(checkpoint["public_key"])
        if checkpoint["hash"] != digest or not is_signed(bytes.fromhex(digest), signature, key):
            self.finds("checkpoint", "the checkpoint itself was changed")
        if number in self.hashes and self.hashes[number] != digest:
            self.finds("history_rewritten", f"seal {number} is another than that of your checkpoint")
        elif number in self.hashes:
            self.notes.append(f"Everything up to seal {number} is as it was when you got the checkpoint.")
        elif number > max(self.hashes, default=0):
            what = f"your checkpoint is of seal {number}, the chain ends with {max(self.hashes, default=0)}"
            self.finds("history_truncated", f"{what}: ask for a bundle that reaches it")
        else:
            self.notes.append(f"Your checkpoint is of seal {number}, before those of this bundle.")


def rates_of(price: Json) -> set[Fraction]:
    """Everything that one token may cost, in USD per million, and one tool request, in USD."""
    found: set[Fraction] = {Fraction(0)} if price.get("free") else set()
    for rates in [price.get("rates", {}), *(variant["rates"] for variant in price.get("variants", []))]:
        for rate in rates.values():
            base, *tiers = rate if isinstance(rate, list) else [rate]
            found |= {Fraction(base), *(Fraction(amount) for _, amount in tiers)}
    multiplied = {rate * Fraction(factor) for rate in found for factor in price.get("geo_multipliers", {}).values()}
    return found | multiplied | {Fraction(fee) for fee in price.get("fees", {}).values()}


def check_money(bundle: Bundle) -> None:
    """Every cost again from quantity and rate, and the sums of days."""
    prices = {price["id"]: rates_of(price) for price in bundle.records("prices.jsonl")}
    days: dict[str, Counter[str]] = defaultdict(Counter)
    for row in bundle.records("rows/usage.jsonl"):
        day = days[row["created_at"][:10]]
        day["calls"] += 1
        for name in ("tokens_in", "tokens_out", "cost_nanos"):
            day[name] += row[name] or 0
            day[f"unknown_{name}"] += row[name] is None
        _check_cost(bundle, row, prices)
    for row in bundle.records("rows/adjustment.jsonl"):
        day = days[row["created_at"][:10]]
        day["adjustments"] += 1
        for name in ("tokens_in", "tokens_out", "cost_nanos"):
            day[f"adjusted_{name}"] += row[name]
    stated = {day: {name: n for name, n in sums.items() if n} for day, sums in bundle.manifest["days"].items()}
    added = {day: {name: n for name, n in sums.items() if n} for day, sums in days.items()}
    for date in sorted({*stated, *added}):
        if stated.get(date) != added.get(date):
            bundle.finds("sums", f"{date}: the rows add up to {added.get(date)}, the bundle says {stated.get(date)}")
    total: Counter[str] = Counter()
    for sums in days.values():
        total.update(sums)
    bundle.notes.append(
        f"In all: {total['calls']} calls, {total['tokens_in']} tokens in, {total['tokens_out']} out, "
        f"{total['cost_nanos']} nano-USD, adjusted by {total['adjusted_cost_nanos']}."
    )


def _check_cost(bundle: Bundle, row: Json, prices: dict[str, set[Fraction]]) -> None:
    exact: Fraction | None = Fraction(0)
    what = f"call {row['call_id']} (usage {row['id']})"
    for line in row["cost_lines"]:
        price, rate = line["price"], line["rate"]
        if price is not None and price not in prices:
            bundle.finds("price_missing", f"{what}: {price}")
        elif price is not None and rate is not None and Fraction(rate) not in prices[price]:
            bundle.finds("rate_not_in_price", f"{what}: {rate} is no rate of {price}")
        if rate is None or line["nanos"] is None:
            exact = None
            continue
        # USD per million tokens are a thousand nano-USD per token.
        nanos = line["quantity"] * Fraction(rate) * (1000 if line["unit"].startswith(TOKEN_CLASSES) else 10**9)
        if nanos != Fraction(line["nanos"]):
            bundle.finds("cost_line", f"{what}: {line['quantity']} × {rate} is not {line['nanos']}")
        exact = None if exact is None else exact + nanos
    if row["cost_status"] not in RE_ADDED:
        bundle.told[f"costs that are {row['cost_status']}, not added up from lines"] += 1
    elif exact is None or row["cost_nanos"] != round(exact):
        bundle.finds("cost", f"{what}: its lines add up to {exact}, its cost is {row['cost_nanos']}")
    else:
        bundle.told["costs added up again from their lines"] += 1


def check_limits(bundle: Bundle) -> None:
    """Each decision saw limits as they were set."""
    limits = {(limit["limit_id"], limit["version"]): limit for limit in bundle.records("limits.jsonl")}
    for row in bundle.records("rows/decision.jsonl"):
        for seen in row["limits"]:
            limit = limits.get((seen["limit_id"], seen["version"]))
            what = f"decision {row['call_id']}: limit {seen['limit_id']}, version {seen['version']}"
            if limit is None:
                bundle.finds("limit_missing", what)
            elif seen["amount"] not in (limit["amount"], limit["raised_to"]):
                bundle.finds("limit", f"{what} was {seen['amount']}, and is {limit['amount']}")
            else:
                bundle.told["limits as decisions saw them"] += 1


def verify(path: str, keys: list[str], checkpoint: str | None) -> Bundle:
    """Everything. Raises `ValueError`, `KeyError`, `OSError` or `zipfile.BadZipFile` for what is no bundle."""
    with zipfile.ZipFile(path) as archive:
        bundle = Bundle(archive)
        bundle.check_files()
        bundle.read_rows()
        bundle.check_seals(keys)
        bundle.check_stray_rows()
        if checkpoint:
            with open(checkpoint, encoding="utf-8") as file:
                lines = [json.loads(line) for line in file if line.strip().endswith("}")]
            kept = [one.get("checkpoint") or one for one in lines]  # REST answers with it in a field.
            kept = [header for header in kept if header.get("tenant") == bundle.manifest["tenant"]["id"]]
            for header in kept:
                bundle.check_checkpoint(header)
            if not kept:
                bundle.finds("checkpoint_missing", "your checkpoint says nothing of this tenant")
        check_money(bundle)
        check_limits(bundle)
        bundle.notes.append("Prices and limits are as the installation states them: no seal speaks of them.")
    return bundle


def main() -> int:
    parser = argparse.ArgumentParser(description="Verify a proof bundle of Customhouse.")
    parser.add_argument("bundle")
    parser.add_argument("--key", action="append", default=[], type=str.lower, metavar="HEX", help="a key you trust")
    parser.add_argument("--checkpoint", metavar="FILE", help="a checkpoint that you kept")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
    try:
        bundle = verify(options.bundle, options.key, options.checkpoint)
    except (OSError, LookupError, ValueError, TypeError, AttributeError, ArithmeticError, zipfile.BadZipFile) as error:
        sys.stderr.write(f"error: {options.bundle} or its checkpoint cannot be read: {error!r}\n")
        return 2
    if options.json:
        document = {name: bundle.manifest[name] for name in ("tenant", "since", "until", "made_at")}
        document |= {"findings": bundle.findings, "count": bundle.count, "told": bundle.told, "notes": bundle.notes}
        sys.stdout.write(json.dumps(document) + "\n")
        return 3 if bundle.count else 0
    tenant, more = bundle.manifest["tenant"], bundle.count - len(bundle.findings)
    lines = [f"{tenant['name']} ({tenant['id']}), {bundle.since} to {bundle.until}", ""]
    lines += [f"{number:>12}  {name}" for name, number in sorted(bundle.told.items())]
    lines += ["", *(f"* {note}" for note in bundle.notes), "", *(f"WRONG  {finding}" for finding in bundle.findings)]
    lines += [f"WRONG  … and {more} more"] if more else [] if bundle.count else ["Everything fits."]
    for line in lines:
        # What stands in a bundle must not tell the terminal what to show.
        sys.stdout.write("".join(sign if sign.isprintable() else "?" for sign in line) + "\n")
    return 3 if bundle.count else 0


if __name__ == "__main__":
    sys.exit(main())
