"""REST: what vouches for a tenant's evidence. All of it needs the scope `read`."""

from rest_framework.request import Request
from rest_framework.response import Response

from enforcement.usage_api import EvidenceView
from integrations.access import holder_of
from integrations.doors import check_reaches_all_of
from telemetry.models import Seal


class CheckpointView(EvidenceView):
    """`GET /api/v1/cus/evidence/checkpoint`: the newest seal, to be kept where this installation cannot write.

    Null before anything is sealed.
    """

    def get(self, request: Request) -> Response:
        key = holder_of(request).key
        check_reaches_all_of(key, None)
        seal = Seal.objects.newest(key.tenant_id)
        return Response({"checkpoint": seal.header.to_json() if seal is not None else None})
