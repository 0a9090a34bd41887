"""REST: forgetting for whom calls were made."""

from typing import Any

from rest_framework import serializers
from rest_framework.exceptions import ErrorDetail, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from integrations.access import actor_of, holder_of
from integrations.doors import ManagementView, StrictSerializer, check_unrestricted, given
from telemetry.forgetting import forget_call, forget_end_user, forget_tag

LONGEST = 10_000
"""Of a word that is asked for, which is cut as those of calls are."""


class TagSerializer(StrictSerializer):
    """A tag by its name and value."""

    name = serializers.CharField(max_length=LONGEST, trim_whitespace=False)
    value = serializers.CharField(max_length=LONGEST, trim_whitespace=False, allow_blank=True)


class ForgetSerializer(StrictSerializer):
    """Which calls: of an end user, by the words in which they named it, with a tag, or one by its id. One of these."""

    end_user = serializers.CharField(max_length=LONGEST, trim_whitespace=False, required=False)
    tag = TagSerializer(required=False)
    call_id = serializers.UUIDField(required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if len(attrs) != 1:
            raise ValidationError(ErrorDetail("Give one of end_user, tag and call_id.", "invalid"))
        return attrs


class ForgetView(ManagementView):
    """`POST /api/v1/cus/telemetry/forget`: delete the end user and the tags of all calls of an end user or with a tag,
    or of one call."""

    def post(self, request: Request) -> Response:
        key, asked = holder_of(request).key, given(ForgetSerializer, request)
        check_unrestricted(key)
        whose: dict[str, Any] = {"tenant_id": key.tenant_id, "actor": actor_of(request)}
        if "call_id" in asked:
            calls = forget_call(call_id=asked["call_id"], **whose)
        elif "tag" in asked:
            calls = forget_tag(**asked["tag"], **whose)
        else:
            calls = forget_end_user(end_user=asked["end_user"], **whose)
        return Response({"calls": calls})
