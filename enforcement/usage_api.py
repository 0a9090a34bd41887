"""REST: what a tenant's calls used, call by call and in sums. All of it needs the scope `read`."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from django.utils import timezone
from rest_framework import serializers
from rest_framework.exceptions import ErrorDetail, ValidationError
from rest_framework.permissions import BasePermission, IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.calendars import midnight
from accounts.horizon import shown_from
from accounts.models import Tenant
from enforcement.periods import window_start
from enforcement.usage_reads import history, place_of_call, records_of_calls
from enforcement.usage_sums import GROUPS, daily, summary
from integrations.access import holder_of
from integrations.cursors import (
    LONGEST_SHOWN,
    BetweenSerializer,
    Day,
    SpanSerializer,
    asked,
    cursor_of_group,
    page_of,
    place_of,
    place_of_group,
)
from integrations.doors import ChoiceField, check_reaches_all_of
from integrations.limits import Period
from integrations.models import Scope
from telemetry.beside import END_USER, TAG, TAGS
from telemetry.single_calls import TooManyCalls
from telemetry.tags import LONGEST_NAME, LONGEST_VALUE
from telemetry.usage_sums import Asked

EQUAL = ("policy_result", "integration_id", "key_id", "model", "provider", "agent_id", "session_id", END_USER, TAGS)
MOST_DAYS = 92
USUAL_DAYS = 30
USUAL_GROUPS, MOST_GROUPS = 100, 1_000
MOST_TAGS = 8
ANY_TAG = f"{TAG}[^,]{{1,{LONGEST_NAME}}}"
ANY_GROUP = "|".join((*GROUPS, ANY_TAG))
GROUPS_SAID = f"One or two, with a comma: {', '.join(GROUPS)}, or `{TAG}` and the name of a tag."


class MayRead(BasePermission):
    """The tenant's evidence takes the scope `read`."""

    code = "scope_missing"
    message = "This needs a gateway key with the scope `read`."

    def has_permission(self, request: Request, view: APIView) -> bool:
        return Scope.READ in holder_of(request).key.scopes


class CallsQuery(serializers.Serializer[Any]):
    """Which calls are asked for; `asked_of_calls` reads the tags that they have, too."""

    policy_result = ChoiceField(["allowed", "warned", "blocked"], required=False)
    integration_id = serializers.UUIDField(required=False)
    key_id = serializers.UUIDField(required=False)
    model = serializers.CharField(max_length=200, required=False)
    provider = serializers.CharField(max_length=32, required=False)
    agent_id = serializers.CharField(max_length=200, required=False)
    session_id = serializers.CharField(max_length=200, required=False)
    end_user = serializers.CharField(max_length=LONGEST_VALUE, required=False, trim_whitespace=False)


class HistoryQuery(CallsQuery, SpanSerializer):
    """A page of them, of a span of time."""


class SummaryQuery(CallsQuery, BetweenSerializer):
    """Of which calls the sums are, by what they are told apart, and which page of the groups is asked for."""

    group_by = serializers.RegexField(
        f"^({ANY_GROUP})(,({ANY_GROUP}))?$", required=False, trim_whitespace=False, help_text=GROUPS_SAID,
        error_messages={"invalid": GROUPS_SAID},
    )  # fmt: skip
    limit = serializers.IntegerField(min_value=1, max_value=MOST_GROUPS, default=USUAL_GROUPS)
    cursor = serializers.CharField(max_length=2000, required=False)


class DailyQuery(CallsQuery):
    """From which day to which, both included, in the tenant's time zone."""

    date_from = Day(required=False)
    date_to = Day(required=False)


class EvidenceView(APIView):
    """A door to the tenant's evidence."""

    permission_classes = [IsAuthenticated, MayRead]


class UsageHistoryView(EvidenceView):
    """`GET /api/v1/cus/usage-history`: calls, the newest first, those that were refused among them."""

    def get(self, request: Request) -> Response:
        key, query = holder_of(request).key, asked_of_calls(HistoryQuery, request)
        check_reaches_all_of(key, query.get("integration_id"))
        facts = history(
            tenant_id=key.tenant_id,
            equal=equal_of(query),
            since=query.get("created_after"),
            until=query.get("created_before"),
            before=place_of(query["cursor"], UUID) if "cursor" in query else None,
            # One more than is shown tells whether there are more.
            size=query["limit"] + 1,
        )
        return page_of(
            facts,
            query["limit"],
            place=place_of_call,
            records=lambda shown: records_of_calls(key.tenant_id, shown),
            shown_from=shown_from(key.tenant_id),
        )


class UsageSummaryView(EvidenceView):
    """`GET /api/v1/cus/usage-summary`: sums of the tenant's present month, or of another span of at most 92 days."""

    def get(self, request: Request) -> Response:
        query, now = asked_of_calls(SummaryQuery, request), timezone.now()
        check_reaches_all_of(holder_of(request).key, query.get("integration_id"))
        tenant = Tenant.objects.get(pk=holder_of(request).key.tenant_id)
        until = query.get("created_before", now)
        since = query.get("created_after") or window_start(Period.MONTH, tenant.calendar, min(until, now))
        _check_span(since, until, "created_after")
        words = query["group_by"].split(",") if "group_by" in query else ()
        by = tuple(dict.fromkeys(GROUPS.get(word, word) for word in words))
        after = place_of_group(query["cursor"], len(by)) if "cursor" in query else None
        sums = Asked(tenant.pk, tenant.timezone, since, until, by, equal_of(query))
        try:
            total, groups, last = summary(sums, after=after, size=query["limit"])
        except TooManyCalls as error:
            fits = f"{error.until.astimezone(UTC).isoformat().removesuffix('+00:00')}Z" if error.until > since else None
            raise _too_many(error, "created_before", fits) from None
        return Response(
            {
                "tenant_id": tenant.pk,
                "timezone": tenant.timezone,
                "period_start": since,
                "period_end": until,
                "group_by": query.get("group_by"),
                "total": total,
                "groups": groups,
                "has_more": last is not None,
                "next_cursor": cursor_of_group(last) if last is not None else None,
                "limit": query["limit"],
                "shown_from": shown_from(tenant.pk),
            }
        )


class DailyAggregatesView(EvidenceView):
    """`GET /api/v1/cus/daily-aggregates`: the same sums by day and integration, at most 92 days at a time."""

    def get(self, request: Request) -> Response:
        query = asked_of_calls(DailyQuery, request)
        check_reaches_all_of(holder_of(request).key, query.get("integration_id"))
        tenant = Tenant.objects.get(pk=holder_of(request).key.tenant_id)
        last = query.get("date_to") or timezone.now().astimezone(ZoneInfo(tenant.timezone)).date()
        first = query.get("date_from") or last - timedelta(days=USUAL_DAYS - 1)
        since, until = _midnight(first, tenant), _midnight(last + timedelta(days=1), tenant)
        _check_span(since, until, "date_from")
        try:
            days = daily(Asked(tenant.pk, tenant.timezone, since, until, equal=equal_of(query)))
        except TooManyCalls as error:
            day = error.until.astimezone(ZoneInfo(tenant.timezone)).date()
            raise _too_many(error, "date_to", day.isoformat() if day > first else None) from None
        return Response(
            {
                "tenant_id": tenant.pk,
                "timezone": tenant.timezone,
                "date_from": first,
                "date_to": last,
                "data": days,
                "shown_from": shown_from(tenant.pk),
            }
        )


def asked_of_calls(kind: type[CallsQuery], request: Request) -> dict[str, Any]:
    """What a query says, checked, with the tags that calls have to have as `tags`. Raises `ValidationError`."""
    named = [name for name in request.query_params if name.startswith(TAG)]
    rest = request.query_params.copy()
    for name in named:
        del rest[name]
    query = asked(kind, rest)
    return query | {TAGS: _tags_of(request, named)} if named else query


def equal_of(query: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a call that a query names, with their values."""
    return {name: query[name] for name in EQUAL if name in query}


def _tags_of(request: Request, named: Sequence[str]) -> dict[str, str]:
    given = {name: request.query_params.getlist(name) for name in named}
    wrong = {name: said for name, values in given.items() if (said := _wrong_with_tag(name, values)) is not None}
    if len(named) > MOST_TAGS:
        wrong[named[MOST_TAGS]] = f"At most {MOST_TAGS} tags at a time."
    if wrong:
        raise ValidationError(
            {name[:LONGEST_SHOWN]: [ErrorDetail(said, "invalid")] for name, said in wrong.items()}
        )  # fmt: skip
    return {name.removeprefix(TAG): values[0] for name, values in given.items()}


def _wrong_with_tag(name: str, values: Sequence[str]) -> str | None:
    if not 0 < len(name.removeprefix(TAG)) <= LONGEST_NAME or "\0" in name:
        return f"The name of a tag has 1 to {LONGEST_NAME} characters: `{TAG}team=support`."
    if len(values) > 1:
        return "A call has one value of a tag, and this asks for several."
    if len(values[0]) > LONGEST_VALUE or "\0" in values[0]:
        return f"The value of a tag has at most {LONGEST_VALUE} characters."
    return None


def _too_many(error: TooManyCalls, field: str, fits: str | None) -> ValidationError:
    """That calls are looked at one by one, and up to when they are not too many."""
    ends = f"Those before {fits} are not more." if fits is not None else "Even the shortest span has more."
    told = (
        f"For this, calls are looked at one by one, {error.most:,} at most. {ends} Calls, tokens and costs of several "
        "spans can be added up, and `usage-export` has each call."
    )
    return ValidationError({field: [ErrorDetail(told, "too_many_calls")]})


def _midnight(day: date, tenant: Tenant) -> datetime:
    return midnight(day, ZoneInfo(tenant.timezone))


def _check_span(since: datetime, until: datetime, field: str) -> None:
    if since >= until:
        raise ValidationError({field: [ErrorDetail("The span ends before it begins.", "invalid")]})
    # An hour more, for the day on which clocks are put back.
    if until - since > timedelta(days=MOST_DAYS, hours=1):
        raise ValidationError({field: [ErrorDetail(f"At most {MOST_DAYS} days at a time.", "span_too_long")]})
