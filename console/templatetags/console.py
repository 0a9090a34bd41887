"""How pages write money, counts, times and states."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from django import template
from django.conf import settings
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString

from console.money import exact_dollars, short_dollars
from console.words import COST_STATUS_WORDS, ESTIMATED_STATUSES, TONES

register = template.Library()

UNKNOWN = format_html('<span class="{}">{}</span>', "unknown", "unknown")


@register.filter
def money(nanos: int | None, cost_status: str = "") -> SafeString:
    """Nano-USD in short, exact on hover; `~` before what is estimated."""
    if nanos is None:
        return UNKNOWN
    sign = "~" if cost_status in ESTIMATED_STATUSES else ""
    return format_html('<span class="money" title="{}">{}{}</span>', exact_dollars(nanos), sign, short_dollars(nanos))


@register.filter
def exact_money(nanos: int | str | None) -> SafeString | str:
    """Nano-USD, or a decimal text of them, with all digits."""
    return UNKNOWN if nanos is None else exact_dollars(Decimal(nanos))


@register.filter
def count(value: int | None) -> SafeString | str:
    """`12,345`."""
    return UNKNOWN if value is None else f"{value:,}"


@register.filter
def in_unit(value: int | None, metric: str) -> SafeString | str:
    """An amount of a limit: money for `cost`, else a count."""
    return money(value) if metric == "cost" else count(value)


@register.filter
def exactly_in_unit(value: int | None, metric: str) -> SafeString | str:
    """As `in_unit`, with all digits, so that the numbers of a receipt add up."""
    return exact_money(value) if metric == "cost" else count(value)


@register.filter
def utc(moment: datetime | str | None) -> SafeString | str:
    """`2026-11-23 19:22:05 UTC`; a text is read as ISO 8601."""
    if not moment:
        return "—"
    if isinstance(moment, str):
        moment = datetime.fromisoformat(moment)
    moment = moment.astimezone(UTC)
    return format_html(
        '<time datetime="{}">{} UTC</time>', moment.isoformat(), moment.replace(tzinfo=None).isoformat(" ", "seconds")
    )


@register.filter
def milliseconds(value: int | None) -> str:
    """`340 ms`, `1.5 s`."""
    if value is None:
        return "—"
    return f"{value} ms" if value < 1000 else f"{value / 1000:.1f} s"


@register.filter
def badge(word: str, text: str = "") -> SafeString:
    """A state, in the colour that belongs to it."""
    return format_html('<span class="badge {}">{}</span>', TONES.get(word, "neutral"), text or word.replace("_", " "))


@register.filter
def cost_status_words(value: str) -> str:
    """How we know what a call cost."""
    return COST_STATUS_WORDS.get(value, value)


@register.filter
def pretty(value: Any) -> str:
    """JSON as people read it."""
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)


@register.filter
def named(names: Mapping[UUID, str], ident: UUID | None) -> str:
    """The name of an integration; the start of its id if it has none any more."""
    if ident is None:
        return "none found"
    return names.get(ident, f"{str(ident)[:8]}…")


@register.simple_tag
def mail_is_set_up() -> bool:
    """Whether this installation can send mail."""
    return bool(settings.MAIL_IS_SET_UP)


@register.simple_tag
def query_string(request: HttpRequest, **changes: object) -> str:
    """The query of this page with some values changed, to keep its filters."""
    query = request.GET.copy()
    for name, value in changes.items():
        query[name] = str(value)
    return f"?{query.urlencode()}"
