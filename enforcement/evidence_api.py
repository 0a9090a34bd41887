"""REST: what vouches for a tenant's evidence. All of it needs the scope `read`."""

from datetime import timedelta

from django.http import StreamingHttpResponse
from rest_framework import serializers
from rest_framework.exceptions import APIException, ErrorDetail, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.horizon import shown_from
from accounts.models import Tenant
from enforcement.usage_api import EvidenceView
from enforcement.usage_export_api import WhateverIsAccepted
from integrations.access import actor_of, holder_of
from integrations.cursors import LARGEST_ID, BetweenSerializer, Instant, asked
from integrations.doors import check_reaches_all_of
from integrations.streams import StreamedFile
from telemetry.bundles import BundleInTheMaking, bundle_of
from telemetry.models import Seal

MOST_PROOF_DAYS = 31


class InTheMaking(APIException):
    """One bundle at a time: it keeps a snapshot of the database."""

    status_code = 409
    default_detail = "A proof bundle of this tenant is being read already: wait for its end."
    default_code = "proof_in_the_making"


class ProofQuery(BetweenSerializer):
    """Of which period, and how far the chain of seals has to reach."""

    created_after = Instant()
    created_before = Instant()
    through = serializers.IntegerField(
        min_value=1, max_value=LARGEST_ID, required=False,
        help_text="The number of a checkpoint's seal, which the chain has to reach.",
    )  # fmt: skip


class CheckpointView(EvidenceView):
    """`GET /api/v1/cus/evidence/checkpoint`: the newest seal, to be kept where this installation cannot write.

    Null before anything is sealed.
    """

    def get(self, request: Request) -> Response:
        key = holder_of(request).key
        check_reaches_all_of(key, None)
        seal = Seal.objects.newest(key.tenant_id)
        return Response({"checkpoint": seal.header.to_json() if seal is not None else None})


class ProofView(EvidenceView):
    """`GET /api/v1/cus/evidence/proof`: the proof bundle of at most 31 days, a ZIP file, written while it is read."""

    content_negotiation_class = WhateverIsAccepted

    def get(self, request: Request) -> StreamingHttpResponse:
        key = holder_of(request).key
        check_reaches_all_of(key, None)
        query = asked(ProofQuery, request.query_params)
        since, until = query["created_after"], query["created_before"]
        if since >= until:
            raise ValidationError({"created_after": [ErrorDetail("The span ends before it begins.", "invalid")]})
        # An hour more, for the day on which clocks are put back.
        if until - since > timedelta(days=MOST_PROOF_DAYS, hours=1):
            raise ValidationError(
                {"created_after": [ErrorDetail(f"At most {MOST_PROOF_DAYS} days at a time.", "span_too_long")]}
            )
        horizon = shown_from(key.tenant_id)
        if horizon is not None and since < horizon:
            said = f"Evidence before {horizon.isoformat()} is not shown."
            raise ValidationError({"created_after": [ErrorDetail(said, "not_shown")]})
        tenant = Tenant.objects.get(pk=key.tenant_id)
        try:
            pieces = bundle_of(
                tenant=tenant, since=since, until=until, through=query.get("through", 0), actor=actor_of(request)
            )
        except BundleInTheMaking:
            raise InTheMaking from None
        name = f"evidence-{tenant.slug}-{since:%Y%m%d}-{until:%Y%m%d}.zip"
        return StreamedFile(pieces, content_type="application/zip", name=name)
