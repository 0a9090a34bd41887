"""Recorded answers are read to the last token, however they are cut."""

from collections.abc import Callable
from typing import Any

import pytest

from proxy.dialects import Endpoint, read_request
from tests.dialects.recorded import carried, differences, read, request_body
from tests.upstream.recordings import Recording, wire_folder
from tests.upstream.slices import SLICES

CARRIED = list(carried())
ENDS = (b"message_stop", b"[DONE]", b"response.completed", b"response.incomplete", b"response.failed")


def over(chosen: Callable[[Recording, Endpoint], bool]) -> pytest.MarkDecorator:
    """Run a test once for each recording that is chosen."""
    cases = [
        pytest.param(recording, endpoint, id=f"{recording.provider}-{recording.name}")
        for recording, endpoint in CARRIED
        if chosen(recording, endpoint)
    ]
    return pytest.mark.parametrize(("recording", "endpoint"), cases)


def every(recording: Recording, endpoint: Endpoint) -> bool:
    return True


def asked(recording: Recording, endpoint: Endpoint) -> bool:
    """The request is known."""
    return endpoint.has_body and request_body(recording) is not None


def bounded(recording: Recording, endpoint: Endpoint) -> bool:
    """Request and usage are a provider's, and the request can be bounded."""
    body = request_body(recording)
    if body is None or not endpoint.metered or not recording.expected_usage or recording.provenance == "hand-made":
        return False
    request = read_request(endpoint, body)
    return request.refused is None and not request.unbounded


def named(recording: Recording, endpoint: Endpoint) -> bool:
    """The recording names the model that answered, and not the one that declined before it."""
    expected = recording.expected_usage or {}
    return "model" in expected and "fallback_message" not in expected.get("iteration_types", ())


def test_the_folder_of_recordings_is_there() -> None:
    if wire_folder() is None:
        pytest.skip("no recordings: set CUSTOMHOUSE_WIRE to their folder; only our own samples were read")
    assert len(CARRIED) > 300


@over(every)
def test_an_answer_in_any_slices_is_relayed_as_it_is_and_read_as_expected(
    recording: Recording, endpoint: Endpoint
) -> None:
    for name, cut in SLICES.items():
        relayed, reading = read(recording, endpoint, cut(recording.body))
        assert relayed == recording.body, name
        assert differences(reading.usage, recording.expected_usage) == {}, name


@over(named)
def test_the_model_is_the_one_that_answered(recording: Recording, endpoint: Endpoint) -> None:
    expected: Any = recording.expected_usage
    _, reading = read(recording, endpoint, [recording.body])
    assert reading.model == expected["model"]


@over(every)
def test_an_error_has_a_code_and_an_answer_has_none(recording: Recording, endpoint: Endpoint) -> None:
    failed = recording.status >= 400 or recording.name.endswith(("error", "failed"))
    _, reading = read(recording, endpoint, [recording.body])
    assert (reading.error_code is not None) == failed


@over(every)
def test_an_answer_that_ends_early_is_not_complete(recording: Recording, endpoint: Endpoint) -> None:
    ends = [at for end in ENDS if (at := recording.body.find(end)) > 0] if recording.is_stream else []
    early = recording.body[: min(ends, default=len(recording.body.rstrip()) * 2 // 3)]
    _, reading = read(recording, endpoint, [early])
    assert not reading.complete


@over(asked)
def test_a_request_is_read_or_what_it_may_not_ask_for_is_named(recording: Recording, endpoint: Endpoint) -> None:
    request = read_request(endpoint, request_body(recording) or b"")
    assert request.model or request.refused


@over(bounded)
def test_what_was_used_stays_within_the_bound(recording: Recording, endpoint: Endpoint) -> None:
    expected: Any = recording.expected_usage
    request = read_request(endpoint, request_body(recording) or b"")
    assert expected["input_total"] <= request.input_bound
    if request.output_cap is not None:
        assert expected["output_total"] <= request.output_cap * request.choices


def test_no_tool_of_the_providers_own_is_carried() -> None:
    carried_tools = set()
    for recording, endpoint in CARRIED:
        body = request_body(recording)
        if body is not None and endpoint.metered and read_request(endpoint, body).refused is None:
            carried_tools |= {tool.get("type") for tool in recording.request["body"].get("tools") or ()}
    assert carried_tools <= {None, "function", "custom", "tool_search", "apply_patch", "local_shell"}
