"""Many sealed credentials at once, and master keys to rotate."""

from uuid import UUID

from django.db import connection

from accounts.models import Tenant
from integrations.custody import binding_of
from integrations.models import Credential, Integration
from integrations.vault import Binding, KeyRing, MasterKey, Sealed, seal, unseal

VERSIONS = 100
"""Of each integration's credential."""
OTHER_COLUMNS = """
SELECT id, integration_id, tenant_id, version, origin, reference, ciphertext, tail, created_at
FROM cus_credentials ORDER BY id
"""


def fresh_key() -> tuple[MasterKey, str]:
    """A master key, and the text that sets it."""
    text = MasterKey.generate()
    return MasterKey.parse(text), text


def seal_many(tenant: Tenant, count: int, master: MasterKey) -> dict[int, str]:
    """So many credentials of the tenant; what each of them is, by its row."""
    rows, plain = [], []
    for start in range(0, count, VERSIONS):
        integration = Integration.objects.create(
            tenant=tenant, name=f"prod-{start}", provider_type="openai", base_url="https://api.openai.com/v1"
        )
        for version in range(1, min(VERSIONS, count - start) + 1):
            binding = bound_to(tenant.pk, integration, version)
            secret = f"sk-canary-{start + version:016x}"
            sealed = seal(secret, binding=binding, master=master)
            plain.append(secret)
            rows.append(
                Credential(
                    integration=integration,
                    tenant=tenant,
                    version=version,
                    origin=integration.origin,
                    ciphertext=sealed.ciphertext,
                    wrapped_key=sealed.wrapped_key,
                    master_key_id=sealed.master_key_id,
                    tail=secret[-4:],
                )
            )
    made = Credential.objects.bulk_create(rows, batch_size=1_000)
    return {row.pk: secret for row, secret in zip(made, plain, strict=True)}


def bound_to(tenant_id: UUID, integration: Integration, version: int) -> Binding:
    return binding_of(tenant_id=tenant_id, integration_id=integration.pk, origin=integration.origin, version=version)


def opened(master: MasterKey) -> dict[int, str]:
    """Every sealed credential as that key alone opens it. Raises `CredentialDoesNotOpen`."""
    found = {}
    for row in Credential.objects.exclude(ciphertext=None):
        sealed = Sealed(bytes(row.ciphertext or b""), bytes(row.wrapped_key or b""), row.master_key_id)
        binding = binding_of(
            tenant_id=row.tenant_id, integration_id=row.integration_id, origin=row.origin, version=row.version
        )
        found[row.pk] = unseal(sealed, binding=binding, master=KeyRing(master).opening(row.master_key_id))
    return found


def everything_else() -> list[tuple[object, ...]]:
    """Every column that no rotation touches, of credentials and of what stands around them."""
    rows: list[tuple[object, ...]] = []
    with connection.cursor() as cursor:
        for query in (OTHER_COLUMNS, "SELECT * FROM cus_integrations ORDER BY id", "SELECT * FROM cus_tenants"):
            cursor.execute(query)
            rows += [tuple(bytes(v) if isinstance(v, memoryview) else v for v in row) for row in cursor.fetchall()]
    return rows
