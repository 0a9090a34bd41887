"""REST: forgetting for whom calls were made."""

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from integrations.access import actor_of, holder_of
from integrations.doors import ManagementView, StrictSerializer, check_unrestricted, given
from telemetry.forgetting import forget_end_user
from telemetry.tags import LONGEST_VALUE


class ForgetSerializer(StrictSerializer):
    """Who is to be forgotten, by the words in which calls named them."""

    end_user = serializers.CharField(max_length=LONGEST_VALUE, trim_whitespace=False)


class ForgetView(ManagementView):
    """`POST /api/v1/cus/telemetry/forget`: delete the end user and the tags of all calls of this end user."""

    def post(self, request: Request) -> Response:
        key, asked = holder_of(request).key, given(ForgetSerializer, request)
        check_unrestricted(key)
        calls = forget_end_user(tenant_id=key.tenant_id, end_user=asked["end_user"], actor=actor_of(request))
        return Response({"calls": calls})
