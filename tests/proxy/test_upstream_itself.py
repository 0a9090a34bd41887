"""The tests' own provider does what it says, or nothing that is proved with it counts."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from tests.sdks import anthropic, openai
from tests.upstream import Upstream, closed_port, recordings
from tests.upstream.faults import FAULTS
from tests.upstream.request import Script, find_script
from tests.upstream.slices import SLICES

QUESTION: list[Any] = [{"role": "user", "content": "Wie spät? [out:7]"}]
ENDLESS = ("stall-", "endless-")
CHAT = {"model": "m", "messages": QUESTION}


@pytest.fixture
def upstream(tmp_path: Path) -> Iterator[Upstream]:
    with Upstream(tmp_path / "upstream.jsonl") as upstream:
        yield upstream


def post(upstream: Upstream, path: str, body: Any, **headers: str) -> tuple[int, dict[str, str], bytes]:
    connection = HTTPConnection("127.0.0.1", upstream.port, timeout=10)
    connection.request("POST", path, json.dumps(body), headers)
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response.status, {name.lower(): value for name, value in response.getheaders()}, content


@pytest.mark.parametrize("stream", [False, True])
def test_the_log_bills_what_openai_s_sdk_reads(upstream: Upstream, stream: bool) -> None:
    asked: Any = {"stream_options": {"include_usage": True}} if stream else {}
    with openai.OpenAI(base_url=f"{upstream.url}/v1", api_key="any", max_retries=0) as client:
        answer: Any = client.chat.completions.create(
            model="m", messages=QUESTION, max_tokens=5, n=2, stream=stream, **asked
        )
        usage = [chunk.usage for chunk in answer][-1] if stream else answer.usage
    assert (usage.prompt_tokens, usage.completion_tokens) == (18, 10)
    assert upstream.usage() == [{"model": "m", "input_tokens": 18, "output_tokens": 10}]


def test_the_log_bills_what_the_other_shapes_say(upstream: Upstream) -> None:
    with openai.OpenAI(base_url=f"{upstream.url}/v1", api_key="any", max_retries=0) as client:
        with client.responses.stream(model="m", input="abc") as events:
            list(events)
            response = events.get_final_response()
        embedding = client.embeddings.create(model="m", input=["ab", "c"], encoding_format="float")
    with anthropic.Anthropic(base_url=upstream.url, api_key="any", max_retries=0) as client_2:
        whole = client_2.messages.create(model="m", max_tokens=5, messages=QUESTION)
        with client_2.messages.stream(model="m", max_tokens=5, messages=QUESTION) as stream:
            streamed = stream.get_final_message()
    assert response.usage is not None
    assert (whole.usage.output_tokens, whole.usage.input_tokens) == (5, 18)
    assert whole.usage == streamed.usage
    said = [(response.usage.input_tokens, response.usage.output_tokens), (embedding.usage.total_tokens, 0)]
    said += [(18, 5), (18, 5)]
    assert [(usage["input_tokens"], usage["output_tokens"]) for usage in upstream.usage()] == said


def test_the_log_keeps_the_request_as_it_came(upstream: Upstream) -> None:
    post(upstream, "/v1/chat/completions?beta=true", CHAT, Authorization="Bearer theirs")
    (request,) = upstream.requests()
    assert request["path"] == "/v1/chat/completions?beta=true"
    assert ["authorization", "Bearer theirs"] in request["headers"]
    assert json.loads(request["body"]) == CHAT


@pytest.mark.parametrize("slices", SLICES)
@pytest.mark.parametrize("is_stream", [True, False])
def test_a_replay_is_the_recording_however_it_is_cut(
    upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slices: str, is_stream: bool
) -> None:
    body = "data: {é日本🙂}\r\n\r\n" * 400
    headers = {"X-Kept": "1", "Content-Encoding": "gzip", "content-length": "3"}
    response = {"status": 206, "headers": headers, "body": body, "is_stream": is_stream}
    (tmp_path / "somebody").mkdir()
    (tmp_path / "somebody" / "001.json").write_text(json.dumps({"response": response}))
    monkeypatch.setenv("CUSTOMHOUSE_WIRE", str(tmp_path))
    (recording,) = recordings("somebody")
    status, sent, content = post(upstream, f"/slices/{slices}{recording.script}/v1/anything", CHAT)
    assert (status, content, sent["x-kept"]) == (206, body.encode(), "1")
    assert "content-encoding" not in sent
    assert ("content-length" in sent) is not is_stream
    (finished,) = upstream.wait_for("finished")
    assert (finished["chunk"] > 100) is (slices != "whole")


def test_a_script_stands_in_the_path_in_a_header_or_is_played(upstream: Upstream) -> None:
    upstream.play("/fault/500-json")
    statuses = [
        post(upstream, "/v1/chat/completions", CHAT)[0],
        post(upstream, "/fault/503-html/v1/chat/completions", CHAT)[0],
        post(upstream, "/v1/chat/completions", CHAT, **{"Idempotency-Key": "script:/fault/429-date"})[0],
        post(upstream, "/model/v1/chat/completions", CHAT)[0],
    ]
    assert statuses == [500, 503, 429, 200]
    assert {request["native"] for request in upstream.requests()} == {"/v1/chat/completions"}


def test_options_precede_a_script() -> None:
    script, native = find_script("/pace/20/delay/1500/slices/utf8/replay/openai/007/v1/responses", "", "/model")
    assert script == Script("replay", ("openai", "007"), "utf8", 1.5, 0.02)
    assert native == "/v1/responses"


def test_a_client_that_leaves_is_reported_with_the_chunk(upstream: Upstream) -> None:
    connection = HTTPConnection("127.0.0.1", upstream.port, timeout=10)
    connection.request("POST", "/fault/stall-mid/v1/chat/completions", json.dumps(CHAT | {"stream": True}))
    connection.getresponse().read1()
    connection.close()
    (left,) = upstream.wait_for("closed_by_peer")
    assert left["chunk"] <= 3
    assert upstream.entries("finished") == []


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_plays_to_its_end(upstream: Upstream, name: str, stream: bool) -> None:
    body = json.dumps(CHAT | {"stream": stream, "stream_options": {"include_usage": True}}).encode()
    head = f"POST /fault/{name}/v1/chat/completions HTTP/1.1\r\ncontent-length: {len(body)}\r\n"
    head += "authorization: Bearer theirs\r\n\r\n"
    received = bytearray()
    with socket.create_connection(("127.0.0.1", upstream.port), timeout=0.01) as peer:
        peer.sendall(head.encode() + body)
        while not name.startswith(ENDLESS) and not upstream.entries()[2:]:
            try:
                received += peer.recv(1 << 20)
            except (TimeoutError, ConnectionResetError):
                continue
    ending = "closed_by_peer" if name.startswith(ENDLESS) else None
    upstream.wait_for(ending or upstream.entries()[2]["event"])
    assert b"is no fault" not in received
    if name.startswith("usage-") and not stream:
        assert b'"usage": {"prompt_tokens": 18' not in received


@pytest.mark.parametrize(("fault", "is_reset"), [("reset-before", True), ("close-before", False)])
def test_a_reset_is_not_a_close(upstream: Upstream, fault: str, is_reset: bool) -> None:
    with socket.create_connection(("127.0.0.1", upstream.port), timeout=10) as peer:
        peer.sendall(f"POST /fault/{fault}/v1/messages HTTP/1.1\r\n\r\n".encode())
        try:
            assert peer.recv(1) == b""
            was_reset = False
        except ConnectionResetError:
            was_reset = True
    assert was_reset is is_reset


def test_a_redirect_leads_to_the_second_port(upstream: Upstream) -> None:
    status, headers, _ = post(upstream, "/fault/redirect-307/v1/messages", CHAT)
    assert status == 307
    assert headers["location"] == f"http://127.0.0.1:{upstream.other_port}/v1/messages"
    with socket.create_connection(("127.0.0.1", upstream.other_port)) as peer:
        peer.sendall(b"GET /v1/models HTTP/1.1\r\n\r\n")
        assert peer.recv(1000).startswith(b"HTTP/1.1 200")
    assert [request["port"] for request in upstream.requests()] == [upstream.port, upstream.other_port]


def test_the_log_of_an_own_process_survives_it(tmp_path: Path) -> None:
    with Upstream(tmp_path / "log.jsonl", own_process=True) as upstream:
        assert post(upstream, "/v1/messages", CHAT | {"max_tokens": 3})[0] == 200
    assert upstream.usage() == [{"model": "m", "input_tokens": 18, "output_tokens": 3}]


def test_a_closed_port_refuses() -> None:
    with closed_port() as port, pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)
