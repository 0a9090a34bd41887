"""REST: receipts of decisions."""

from uuid import UUID

from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from enforcement.receipts import receipt
from integrations.access import holder_of
from integrations.models import Scope


class DecisionView(APIView):
    """`GET /api/v1/decisions/{call_id}`: a key reads its own calls, the scope `read` the tenant's."""

    def get(self, request: Request, call_id: UUID) -> Response:
        key = holder_of(request).key
        only = None if Scope.READ in key.scopes else key.id
        found = receipt(tenant_id=key.tenant_id, call_id=call_id, key_id=only)
        if found is None:
            raise NotFound("There is no such call.")
        return Response(found)
