"""From how a call ended to its usage row. Pure: no clock, no network, no database.

What the provider reports is the truth. Without it, what passed is counted; where nothing is known and the provider
may have billed, the call is charged at its bound. Unknown is never zero.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import msgspec

from enforcement.entries import Admission, Asking
from proxy.dialects import CallRequest, Endpoint
from telemetry.entries import UsageEntry
from telemetry.pricing import Cost, cost_of
from telemetry.rates import ATTOS_PER_NANO, ModelPrice
from telemetry.usage import Reading, Usage

PriceFor = Callable[[str], ModelPrice | None]

# Few texts have less than three bytes to a token, so the count of what passed errs on the provider's side.
BYTES_PER_TOKEN = 3


@dataclass(slots=True)
class Ending:
    """How a call ended, as the gateway saw it."""

    dispatched: bool = False
    """A byte of the request may have reached the provider."""
    status: int | None = None
    complete: bool = False
    """The answer was read to its end."""
    client_left: bool = False
    error_code: str | None = None
    error_message: str | None = None
    request_id: str | None = None
    latency_ms: int | None = None
    ttft_ms: int | None = None


class _Account(msgspec.Struct, frozen=True):
    """What is written of a call's use."""

    tokens_in: int | None
    tokens_out: int | None
    quality: str
    cost: Cost
    classes: dict[str, int]
    flags: tuple[str, ...] = ()


_NOTHING = _Account(0, 0, "reported", Cost(0, (), "free", None), {})


def usage_entry(
    *,
    asking: Asking,
    admission: Admission,
    endpoint: Endpoint,
    request: CallRequest,
    reading: Reading,
    ending: Ending,
    price_for: PriceFor,
) -> UsageEntry:
    """The row of a call that was admitted. `price_for` finds prices as of the admission."""
    account = _charged(_account(asking, admission, endpoint, request, reading, ending, price_for), admission)
    return _entry(asking, admission, reading, ending, account)


def unread_entry(asking: Asking, admission: Admission, ending: Ending) -> UsageEntry:
    """The row of a call whose answer defies accounting: at its bound, if it was sent."""
    account = _at_bound(asking, admission) if ending.dispatched else _NOTHING
    return _entry(asking, admission, Reading(None), ending, account)


def _entry(asking: Asking, admission: Admission, reading: Reading, ending: Ending, account: "_Account") -> UsageEntry:
    assert asking.integration_id is not None, "a call that was admitted has an integration"
    return UsageEntry(
        tenant_id=asking.tenant_id,
        call_id=asking.call_id,
        integration_id=asking.integration_id,
        key_id=asking.key_id,
        provider=asking.provider,
        endpoint=asking.endpoint,
        model=asking.model,
        stream=asking.stream,
        dispatched=ending.dispatched,
        cost_status=account.cost.status,
        quality=account.quality,
        policy_result=admission.decision.result.policy_result,
        source="proxy",
        created_at=admission.decided_at,
        response_model=reading.model,
        tokens_in=account.tokens_in,
        tokens_out=account.tokens_out,
        token_classes=account.classes,
        cost_nanos=account.cost.nanos,
        cost_lines=[line.to_json() for line in account.cost.lines],
        price_version=account.cost.price_version,
        flags=[*account.flags, *account.cost.flags, *_flags(asking, admission, account.cost, ending)],
        status_code=ending.status,
        error_code=ending.error_code or reading.error_code or _failure_of(ending),
        error_message=ending.error_message or reading.error_message,
        latency_ms=ending.latency_ms,
        ttft_ms=ending.ttft_ms,
        upstream_request_id=ending.request_id,
        raw_usage=reading.raw,
    )


def _failure_of(ending: Ending) -> str | None:
    """What a failure is called that nobody gave a name. A call that was never sent has not succeeded."""
    if not ending.dispatched:
        return "never_sent"
    return f"http_{ending.status}" if ending.status is not None and ending.status >= 300 else None


def _account(
    asking: Asking,
    admission: Admission,
    endpoint: Endpoint,
    request: CallRequest,
    reading: Reading,
    ending: Ending,
    price_for: PriceFor,
) -> _Account:
    if not ending.dispatched or not endpoint.metered or _was_declined(reading, ending):
        return _NOTHING
    price = _price_of(asking.model, reading.model, price_for)
    if reading.usage is not None:
        return _reported(asking, admission, request, reading, price, price_for)
    # A whole answer without a word that could be read says nothing of its size.
    is_seen = reading.output_chars or (ending.complete and not endpoint.generates)
    if ending.status is not None and ending.status < 300 and is_seen:
        return _estimated(asking, admission, request, reading, price)
    return _at_bound(asking, admission)


def _charged(account: _Account, admission: Admission) -> _Account:
    """The account as a budget counts it: where a part of the cost is unknown, at the bound that was held for it."""
    cost, bound = account.cost, admission.decision.bound.cost_nanos
    if cost.nanos is not None or bound is None or not any(hold.metric == "cost" for hold in admission.holds):
        return account
    known = sum(line.attos or 0 for line in cost.lines) // ATTOS_PER_NANO
    cost = msgspec.structs.replace(cost, nanos=max(bound, known), status="estimated")
    return msgspec.structs.replace(account, cost=cost, flags=(*account.flags, "cost_at_bound"))


def _was_declined(reading: Reading, ending: Ending) -> bool:
    """Whether the provider answered that it did not do the work.

    A server error counts only in the provider's own words: one of a machine in between may hide a billed call.
    """
    if ending.status is None or ending.status < 300 or reading.usage is not None:
        return False
    return ending.status < 500 or reading.error_code is not None or reading.error_message is not None


def _price_of(asked_model: str, served_model: str | None, price_for: PriceFor) -> ModelPrice | None:
    served = price_for(served_model) if served_model else None
    return served or price_for(asked_model)


def _reported(
    asking: Asking,
    admission: Admission,
    request: CallRequest,
    reading: Reading,
    price: ModelPrice | None,
    price_for: PriceFor,
) -> _Account:
    usage = reading.usage
    assert usage is not None, "something was reported"
    tokens_in, tokens_out = usage.input_total, usage.output_total
    if not reading.complete:
        # The last word on the output was not spoken, so at least what was seen of it counts.
        tokens_out = max(tokens_out or 0, _seen(reading))
    if tokens_in is None:
        tokens_in = _input_estimate(asking, request)
    if tokens_out is None:
        tokens_out = _seen(reading) or _most_output(asking, admission)
    quality = "reported"
    if not reading.complete or (tokens_in, tokens_out) != (usage.input_total, usage.output_total):
        quality = "partial"
        usage = msgspec.structs.replace(usage, input_total=tokens_in, output_total=tokens_out)
    cost = cost_of(usage, price, price_for=price_for)
    if quality == "partial" and cost.status == "priced":
        cost = msgspec.structs.replace(cost, status="estimated")
    return _Account(tokens_in, tokens_out, quality, cost, usage.token_classes(), (*usage.flags, *reading.flags))


def _estimated(
    asking: Asking, admission: Admission, request: CallRequest, reading: Reading, price: ModelPrice | None
) -> _Account:
    tokens_in, tokens_out = _input_estimate(asking, request), _seen(reading)
    most = _most_output(asking, admission)
    if most is not None:
        tokens_out = min(tokens_out, most)
    usage = Usage(input_total=tokens_in, output_total=tokens_out)
    cost = cost_of(usage, price)
    if cost.nanos is not None:
        cost = msgspec.structs.replace(cost, status="estimated")
    return _Account(tokens_in, tokens_out, "estimated", cost, usage.token_classes(), ("usage_missing", *reading.flags))


def _seen(reading: Reading) -> int:
    """Output tokens of the text that passed."""
    return -(-reading.output_chars // BYTES_PER_TOKEN)


def _input_estimate(asking: Asking, request: CallRequest) -> int:
    bound = asking.demand.input_tokens
    return request.input_estimate if bound is None else min(request.input_estimate, bound)


def _most_output(asking: Asking, admission: Admission) -> int | None:
    granted = admission.decision.output_tokens
    return granted * asking.demand.choices if granted is not None else None


def _at_bound(asking: Asking, admission: Admission) -> _Account:
    demand, granted = asking.demand, admission.decision.output_tokens
    nanos = admission.decision.bound.cost_nanos
    cost = Cost(nanos, (), "estimated" if nanos is not None else "unpriced", asking.price_version)
    tokens_out = granted * demand.choices if granted is not None else None
    return _Account(demand.input_tokens, tokens_out, "missing", cost, {}, ("charged_at_bound",))


def _flags(asking: Asking, admission: Admission, cost: Cost, ending: Ending) -> Iterator[str]:
    if ending.client_left:
        yield "client_left"
    if _over_bound(asking, admission, cost):
        yield "over_reservation"


def _over_bound(asking: Asking, admission: Admission, cost: Cost) -> bool:
    """Whether the call went above what it had reserved."""
    bound = admission.decision.bound.cost_nanos
    return bound is not None and cost.nanos is not None and cost.nanos > bound


def milliseconds(start: float, end: float) -> int:
    """Whole milliseconds between two readings of a monotonic clock in seconds."""
    return max(0, round((end - start) * 1000))
