"""A customer's auditor verifies a month on a machine without Customhouse, and finds what was planted."""

import hashlib
import importlib.util
import json
import random
import subprocess
import sys
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.conf import settings
from django.utils import timezone

from accounts.models import Tenant
from integrations.limit_services import set_limit
from telemetry.evidence import USAGE
from telemetry.models import Seal
from telemetry.pricing import cost_of
from telemetry.proof import Proof
from telemetry.seal_forms import FORMS, NEWEST
from telemetry.seal_keys import SealKey, seal_key
from telemetry.services import load_book, set_price
from telemetry.usage import Usage
from tests import people
from tests.console.evidence import adjusted, carried, decided
from tests.telemetry.damage import run, seal_again, undone
from tests.telemetry.seals import raw, seal_all, used

pytestmark = pytest.mark.django_db
SCRIPT: Path = settings.BASE_DIR / "scripts" / "verify_evidence.py"
VECTORS = [
    (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe"
        "24655141438e7a100b",
    ),
    (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302a"
        "eeb00d291612bb0c00",
    ),
    (
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed2"
        "8dc027beceea1ec40a",
    ),
    (
        "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
        "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce8"
        "0e2a9ac94fa54ca49f",
        "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac1"
        "7ad9bef1177331a704",
    ),
]


def load_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("stand_alone_verifier", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


verifier = load_script()


@pytest.mark.parametrize(("key", "message", "signature"), VECTORS)
def test_the_vectors_of_rfc_8032_are_signed(key: str, message: str, signature: str) -> None:
    public, text, signed = bytes.fromhex(key), bytes.fromhex(message), bytes.fromhex(signature)
    assert verifier.is_signed(text, signed, public)
    assert not verifier.is_signed(text + b"x", signed, public)


def test_signatures_are_judged_as_cryptography_judges_them() -> None:
    chance = random.Random(1)
    for _ in range(10):
        private = Ed25519PrivateKey.from_private_bytes(chance.randbytes(32))
        public, text = private.public_key().public_bytes_raw(), chance.randbytes(32)
        signed = private.sign(text)
        assert verifier.is_signed(text, signed, public)
        at = chance.randrange(64)
        flipped = bytearray(signed)
        flipped[at] ^= 1 << chance.randrange(8)
        assert not verifier.is_signed(text, bytes(flipped), public)
    order = verifier.ORDER
    more = (int.from_bytes(signed[32:], "little") + order).to_bytes(32, "little")
    assert not verifier.is_signed(text, signed[:32] + more, public), "there is one signature of a kind"


@pytest.mark.parametrize("micros", [0, 1_764_115_200_123_456, 951_782_400_000_000, 4_102_444_799_999_999])
def test_times_are_written_as_rows_have_them(micros: int) -> None:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)
    assert verifier.written(micros) == moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@pytest.fixture
def tenant() -> Tenant:
    """Two days of evidence that was decided under a limit and priced by the book, and some of before and after."""
    tenant, now = people.acme(), timezone.now()
    begun = now - timedelta(days=9)
    limit = set_limit(tenant=tenant, scope="tenant", metric="cost", period="month", amount=10**12, now=begun)
    rates = {"input": Decimal("2.5"), "output": Decimal("0.0005")}
    set_price(provider="openai", model="m", rates=rates, starts_at=begun, tenant=tenant)
    price = load_book().find("openai", "m", now, tenant.pk)
    cost = cost_of(Usage(1000, 3), price)
    priced = {"cost_nanos": cost.nanos, "cost_lines": [line.to_json() for line in cost.lines], "cost_status": "priced"}
    seen = {"limit_id": str(limit.limit_id), "version": limit.version, "amount": limit.amount}
    for days in (5, 3, 2, 0):
        at = now - timedelta(days=days)
        decision = decided(tenant, at=at, limits=[seen])
        call = carried(tenant, at=at, call_id=decision.call_id, **priced)
        carried(tenant, at=at, cost_nanos=None, cost_status="unpriced", cost_lines=[], tokens_out=None)
        adjusted(call, -30, created_at=at)
    seal_all(tenant.pk, most=6)
    return tenant


def period() -> tuple[datetime, datetime]:
    now = timezone.now()
    return now - timedelta(days=4), now - timedelta(days=1)


def export(tenant: Tenant, path: Path) -> Path:
    with zipfile.ZipFile(path, "x") as archive:
        Proof(raw(), tenant, *period(), archive).write()
    return path


def judged(bundle: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    """As on a machine with Python and nothing else."""
    command = [sys.executable, "-I", str(SCRIPT), str(bundle), "--json", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=bundle.parent, check=False)
    assert done.stderr == ""
    return done.returncode, json.loads(done.stdout)


def planted(bundle: Path, name: str, change: Callable[[list[Any]], object]) -> Path:
    """The same bundle with one file changed, and with a manifest that fits it."""
    made = bundle.with_name("planted.zip")
    with zipfile.ZipFile(bundle) as old, zipfile.ZipFile(made, "w") as new:
        files = {each: old.read(each) for each in old.namelist()}
        manifest = json.loads(files.pop("manifest.json"))
        if name == "manifest.json":
            change([manifest])
        else:
            lines = files[name].decode().splitlines()
            change(lines)
            files[name] = "".join(line + "\n" for line in lines).encode()
            manifest["files"][name]["sha256"] = hashlib.sha256(files[name]).hexdigest()
        for each, data in files.items():
            new.writestr(each, data)
        new.writestr("manifest.json", json.dumps(manifest))
    return made


def test_a_true_bundle_fits_and_says_what_it_proves(tenant: Tenant, tmp_path: Path) -> None:
    bundle = export(tenant, tmp_path / "proof.zip")
    checkpoint = tmp_path / "checkpoint.jsonl"
    newest = Seal.objects.newest(tenant.pk)
    assert newest is not None
    checkpoint.write_text(json.dumps(newest.header.to_json()) + "\n")
    status, found = judged(bundle, "--key", seal_key().public.hex(), "--checkpoint", str(checkpoint))
    assert (status, found["findings"]) == (0, [])
    assert found["told"]["usage rows"] == 4
    assert found["told"]["rows as they were sealed"] == 8
    assert found["told"]["costs added up again from their lines"] == 2
    assert found["told"]["limits as decisions saw them"] == 2
    assert any("4 calls, 4000 tokens in, 6 out, 5000004 nano-USD, adjusted by -60" in note for note in found["notes"])


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_checkpoint_is_taken_as_it_is_exported_and_as_rest_answers_with_it(
    wrapped: bool, tenant: Tenant, tmp_path: Path
) -> None:
    bundle = export(tenant, tmp_path / "proof.zip")
    newest = Seal.objects.newest(tenant.pk)
    assert newest is not None
    header = newest.header.to_json()
    checkpoint = tmp_path / "checkpoint.json"
    checkpoint.write_text(json.dumps({"checkpoint": header} if wrapped else header))
    status, found = judged(bundle, "--checkpoint", str(checkpoint))
    assert status == 0
    assert any(note.startswith("Everything up to seal") for note in found["notes"])


def test_a_checkpoint_that_says_nothing_of_the_tenant_holds_nobody_to_anything(tenant: Tenant, tmp_path: Path) -> None:
    bundle = export(tenant, tmp_path / "proof.zip")
    newest = Seal.objects.newest(tenant.pk)
    assert newest is not None
    checkpoint = tmp_path / "checkpoint.jsonl"
    for text in ("", json.dumps({**newest.header.to_json(), "tenant": str(UUID(int=1))})):
        checkpoint.write_text(text)
        status, found = judged(bundle, "--checkpoint", str(checkpoint))
        assert (status, [one.split(":")[0] for one in found["findings"]]) == (3, ["checkpoint_missing"])


def test_another_key_or_history_than_ours_is_found(tenant: Tenant, tmp_path: Path) -> None:
    bundle = export(tenant, tmp_path / "proof.zip")
    status, found = judged(bundle, "--key", SealKey("another").public.hex())
    assert (status, [one.split(":")[0] for one in found["findings"]]) == (3, ["key"])
    checkpoint = tmp_path / "checkpoint.jsonl"
    checkpoint.write_text("".join(json.dumps(seal.header.to_json()) + "\n" for seal in Seal.objects.all()))
    with undone():
        run("UPDATE cus_llm_usage SET model = 'another' WHERE created_at > %s AND created_at < %s", *period())
        seal_again(tenant)
        rewritten = export(tenant, tmp_path / "rewritten.zip")
    assert judged(rewritten)[1]["findings"] == []
    status, found = judged(rewritten, "--checkpoint", str(checkpoint))
    assert (status, {one.split(":")[0] for one in found["findings"]}) == (3, {"history_rewritten"})


def test_rows_that_are_not_sealed_yet_are_told(tenant: Tenant, tmp_path: Path) -> None:
    used(tenant, 3, at=period()[0] + timedelta(hours=1))
    status, found = judged(export(tenant, tmp_path / "proof.zip"))
    assert (status, found["told"]["rows that were not sealed yet"]) == (0, 3)


def one_dearer(lines: list[Any]) -> None:
    """A call that cost a nano-dollar more, in its line and in sum."""
    at = next(number for number, line in enumerate(lines) if '"priced"' in line)
    row = json.loads(lines[at])
    row[2 + FORMS[NEWEST][USAGE.number].index("cost_nanos")] += 1
    lines[at] = json.dumps(row)


def without_names(lines: list[Any]) -> None:
    kind, names, *values = json.loads(lines[0])
    lines[0] = json.dumps([kind, names[::-1], *values], separators=(",", ":"))


def one_more(lines: list[Any]) -> None:
    kind, names, _, *values = json.loads(lines[0])
    lines.append(json.dumps([kind, names, 10**9, *values]))


def cheaper(lines: list[Any]) -> None:
    lines[:] = [line.replace('"2.5"', '"2.4"') for line in lines]


def lower(lines: list[Any]) -> None:
    lines[:] = [line.replace("1000000000000", "999") for line in lines]


def wrong_sum(documents: list[Any]) -> None:
    next(iter(documents[0]["days"].values()))["cost_nanos"] += 1


def other_names(documents: list[Any]) -> None:
    columns = documents[0]["columns"]
    names = next(names for names in columns.values() if "tokens_in" in names and "cost_lines" in names)
    i, o = names.index("tokens_in"), names.index("tokens_out")
    names[i], names[o] = names[o], names[i]


def other_leaves(lines: list[Any]) -> None:
    first, second = (json.loads(line) for line in lines[:2])
    first["leaves"], second["leaves"] = second["leaves"], first["leaves"]
    lines[:2] = [json.dumps(first), json.dumps(second)]


def no_leaves(lines: list[Any]) -> None:
    lines[1] = json.dumps({**json.loads(lines[1]), "leaves": None})


def another_time(lines: list[Any]) -> None:
    lines[0] = json.dumps({**json.loads(lines[0]), "sealed_at": "2020-01-01T00:00:00.000000Z"})


PLANTED: list[tuple[str, Callable[[list[Any]], object], set[str]]] = [
    ("rows/usage.jsonl", one_dearer, {"row_changed", "cost", "sums"}),
    ("rows/usage.jsonl", lambda lines: lines.pop(), {"row_deleted", "sums"}),
    ("rows/usage.jsonl", one_more, {"row_in_no_seal", "sums"}),
    ("rows/usage.jsonl", without_names, {"columns", "row_deleted", "sums"}),
    ("rows/decision.jsonl", lambda lines: lines.pop(0), {"row_deleted"}),
    ("rows/adjustment.jsonl", lambda lines: lines.pop(0), {"row_deleted", "sums"}),
    ("seals.jsonl", lambda lines: lines.pop(1), {"chain", "row_in_no_seal"}),
    ("seals.jsonl", other_leaves, {"seal", "row_in_no_seal"}),
    ("seals.jsonl", no_leaves, {"leaves_missing", "row_in_no_seal"}),
    ("seals.jsonl", another_time, {"seal"}),
    ("prices.jsonl", cheaper, {"rate_not_in_price"}),
    ("prices.jsonl", lambda lines: lines.clear(), {"price_missing"}),
    ("limits.jsonl", lower, {"limit"}),
    ("limits.jsonl", lambda lines: lines.clear(), {"limit_missing"}),
    ("manifest.json", wrong_sum, {"sums"}),
    ("manifest.json", other_names, {"columns"}),
]


def test_whatever_is_planted_is_found(tenant: Tenant, tmp_path: Path) -> None:
    bundle = export(tenant, tmp_path / "proof.zip")
    for name, change, problems in PLANTED:
        found = verifier.verify(str(planted(bundle, name, change)), [], None)
        assert {one.split(":")[0] for one in found.findings} >= problems, name
    status, found = judged(planted(bundle, *PLANTED[0][:2]))
    assert (status, found["count"] >= 3) == (3, True)


def newest_of(tenant: Tenant, path: Path) -> Path:
    """A checkpoint in a file."""
    newest = Seal.objects.newest(tenant.pk)
    assert newest is not None
    path.write_text(json.dumps(newest.header.to_json()))
    return path


def without_money(documents: list[Any]) -> None:
    documents[0]["days"] = {}


@pytest.mark.parametrize("left", [0, 1])
def test_a_bundle_without_its_first_seals_and_their_rows_does_not_fit(
    left: int, tenant: Tenant, tmp_path: Path
) -> None:
    bundle, checkpoint = export(tenant, tmp_path / "proof.zip"), newest_of(tenant, tmp_path / "checkpoint.json")
    for name in ("usage", "decision", "adjustment", "health", "audit"):
        bundle = planted(bundle, f"rows/{name}.jsonl", lambda lines: lines.clear()).rename(tmp_path / f"{name}.zip")
    bundle = planted(bundle, "manifest.json", without_money).rename(tmp_path / "no_sums.zip")
    bundle = planted(bundle, "seals.jsonl", lambda lines: lines.__delitem__(slice(len(lines) - left)))
    status, found = judged(bundle, "--key", seal_key().public.hex(), "--checkpoint", str(checkpoint))
    assert (status, {one.split(":")[0] for one in found["findings"]}) == (
        3, {"seals_missing"} if left else {"history_truncated"},
    )  # fmt: skip


def test_a_row_that_waits_for_days_to_be_sealed_is_made_up(tenant: Tenant, tmp_path: Path) -> None:
    def one_of_long_ago(lines: list[Any]) -> None:
        row = json.loads(lines[0])
        row[2], row[-1] = 10**9, row[-2]
        lines.append(json.dumps(row))

    bundle = planted(export(tenant, tmp_path / "proof.zip"), "rows/usage.jsonl", one_of_long_ago)

    def lists_it(documents: list[Any]) -> None:
        documents[0]["unsealed"] = {"usage": [10**9]}

    bundle = planted(bundle.rename(tmp_path / "other.zip"), "manifest.json", lists_it)
    found = verifier.verify(str(bundle), [], None).findings
    assert {one.split(":")[0] for one in found} == {"row_unsealed_too_long", "sums"}


def test_a_bundle_begins_with_a_seal_of_before_its_period(tenant: Tenant, tmp_path: Path) -> None:
    """So that nobody has to ask whether there were others."""
    now = timezone.now() + timedelta(seconds=1)
    with zipfile.ZipFile(tmp_path / "later.zip", "x") as archive:
        manifest = Proof(raw(), tenant, now, now + timedelta(days=1), archive).write()
    newest = Seal.objects.newest(tenant.pk)
    assert newest is not None
    assert manifest["seals"] == {"first": newest.number, "last": newest.number}
    status, found = judged(tmp_path / "later.zip")
    assert (status, found["tenant"]["slug"], found["since"]) == (0, tenant.slug, manifest["since"])


def test_what_is_no_bundle_ends_with_2(tmp_path: Path) -> None:
    (tmp_path / "no.zip").write_text("nothing")
    command = [sys.executable, "-I", str(SCRIPT), str(tmp_path / "no.zip")]
    assert subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 2
