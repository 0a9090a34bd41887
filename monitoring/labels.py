"""The closed sets that label values are drawn from: what callers and providers word never becomes a series."""

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from django.db import Error, connection

from enforcement.codes import Code
from telemetry.models import Price
from telemetry.price_rules import LONGEST_NAME, is_match, spellings

logger = logging.getLogger(__name__)

OTHER = "other"
REASONS = ("budget", "token", "rate", "disabled", "error", "credential", "key")

REASON_OF: Mapping[str, str] = {
    Code.INTEGRATION_NOT_FOUND: "disabled",
    Code.INTEGRATION_NOT_ENABLED: "disabled",
    Code.INTEGRATION_DISABLED: "disabled",
    Code.TENANT_SUSPENDED: "disabled",
    Code.INTEGRATION_ERROR: "error",
    Code.CREDENTIALS_INVALID: "credential",
    Code.KEY_REVOKED: "key",
    Code.KEY_EXPIRED: "key",
    Code.KEY_FROZEN: "key",
    Code.KEY_ADDRESS_NOT_ALLOWED: "key",
    Code.KEY_SCOPE_MISSING: "key",
    Code.KEY_INTEGRATION_NOT_ALLOWED: "key",
    Code.MODEL_NOT_ALLOWED: "key",
    Code.MODEL_UNPRICED: "budget",
    Code.UNBOUNDED_REQUEST: "budget",
    Code.BUDGET_EXCEEDED: "budget",
    Code.BUDGET_HELD: "budget",
    Code.CHECK_FAILED: "error",
    Code.REQUEST_LIMIT_EXCEEDED: "rate",
    Code.TOKEN_LIMIT_EXCEEDED: "token",
    Code.TOKEN_HELD: "token",
    Code.RATE_LIMIT_EXCEEDED: "rate",
    Code.CONCURRENCY_EXCEEDED: "rate",
}

ERROR_CODES = frozenset(
    [
        "api_error",
        "authentication_error",
        "billing_error",
        "conflict_error",
        "content_filter",
        "content_policy_violation",
        "context_length_exceeded",
        "credit_balance_exhausted",
        "enforced_spend_limit_reached",
        "insufficient_quota",
        "invalid_api_key",
        "invalid_prompt",
        "invalid_request_error",
        "model_not_found",
        "never_sent",
        "not_found_error",
        "organization_spend_limit_exceeded",
        "organization_usage_limit_exceeded",
        "overloaded_error",
        "permission_error",
        "project_spend_limit_exceeded",
        "rate_limit_error",
        "rate_limit_exceeded",
        "request_too_large",
        "server_error",
        "string_above_max_length",
        "timeout_error",
        "unsupported_parameter",
        "unsupported_value",
        "upstream_error",
        "upstream_timeout",
        "upstream_unreachable",
        "worker_lost",
    ]
)


def reason_label(code: str) -> str:
    """Why a call was refused, in the contract's seven words."""
    return REASON_OF.get(code, "error")


def error_label(code: str) -> str:
    """An error code of ours or one that providers document; a status as `http_503`; any other is `other`."""
    if code in ERROR_CODES:
        return code
    status = code.removeprefix("http_")
    if len(status) == 3 and status.isdigit() and status[0] in "345":
        return f"http_{status}"
    return OTHER


class KnownModels:
    """The models of one reading of the price book, by name and by rule."""

    LARGEST = 4096

    def __init__(self, book: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> None:
        self._book = book
        self._found: dict[tuple[str, str], str] = {}

    def label_of(self, provider: str, model: str) -> str:
        """The entry's name, also for a dated name of it; `other` for what the book does not know."""
        key = (provider, model)
        label = self._found.get(key)
        if label is None:
            label = self._find(provider, model)
            # Model names come from callers: a cache without an end would be a leak.
            if len(self._found) >= self.LARGEST:
                self._found.clear()
            self._found[key] = label
        return label

    def _find(self, provider: str, model: str) -> str:
        if len(model) > LONGEST_NAME:
            return OTHER
        entries = self._book.get(provider, {})
        names = spellings(model)
        for name in names:
            if name in entries:
                return name
        for name in names:
            for entry, rule in entries.items():
                if is_match(rule, name):
                    return entry
        return OTHER


class ModelLabels:
    """Holds the known models in memory; before the first reading there are none.

    Whoever counts only looks here. The store is read in a thread of its own, so that a slow or locked price table
    holds up nothing.
    """

    REFRESH_SECONDS = 300.0
    RETRY_SECONDS = 5.0

    def __init__(self) -> None:
        self.known = KnownModels({})

    def keep_fresh(self) -> None:
        """Read the book now and then for as long as the process lives."""
        threading.Thread(target=self._refresh_for_ever, name="metric-labels", daemon=True).start()

    def read(self) -> bool:
        """Read the book from the store; whether that was possible. What was known stays known if not."""
        try:
            rows = list(Price.objects.filter(tenant_id=None).values_list("provider", "model", "rates__match"))
        except Error:
            logger.warning("the price book could not be read for metric labels", exc_info=True)
            return False
        self.known = KnownModels(_by_provider(rows))
        return True

    def _refresh_for_ever(self) -> None:
        while True:
            is_read = self.read()
            # No request ends in this thread, which would close the connection.
            connection.close()
            time.sleep(self.REFRESH_SECONDS if is_read else self.RETRY_SECONDS)


def _by_provider(rows: Sequence[tuple[str, str, Any]]) -> dict[str, dict[str, Mapping[str, Any]]]:
    book: dict[str, dict[str, Mapping[str, Any]]] = {}
    for provider, model, rule in rows:
        book.setdefault(provider, {})[model.lower()] = rule or {"equals": model}
    return book
