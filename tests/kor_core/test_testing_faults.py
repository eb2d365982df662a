"""The upstream fails as it was told: byte for byte, at the call that was named."""

import asyncio
import json
import socket
import time

import httpx
import openai
import pytest

from kor_core.testing import ALWAYS, Reply, Upstream, faults
from kor_core.testing.waiting import wait_until

HELLO = [{"role": "user", "content": "Hello there!"}]
STREAMED = {"model": "m", "messages": HELLO, "stream": True}
FOUR = Reply(deltas=("a", "b", "c", "d"))

# What each API is asked with, plain and streamed.
APIS = {
    "openai.chat": ("/v1/chat/completions", {"model": "m", "messages": HELLO}),
    "openai.responses": ("/v1/responses", {"model": "m", "input": "Hello there!"}),
    "anthropic.messages": ("/v1/messages", {"model": "m", "max_tokens": 9, "messages": HELLO}),
    "gemini.generate": (
        "/v1beta/models/m:generateContent",
        {"contents": [{"role": "user", "parts": [{"text": "Hello there!"}]}]},
    ),
    "ollama.chat": ("/api/chat", {"model": "m", "messages": HELLO, "stream": False}),
    "ollama.generate": ("/api/generate", {"model": "m", "prompt": "Hi", "stream": False}),
}


@pytest.fixture
def upstream():
    with Upstream() as upstream:
        yield upstream


def ask(upstream, api="openai.chat", *, stream=False, client=httpx):
    path, body = APIS[api]
    if stream and api.startswith("gemini"):
        path = path.replace(":generate", ":streamGenerate") + "?alt=sse"
        return client.post(upstream.url + path, json=body)
    return client.post(upstream.url + path, json={**body, "stream": stream}, timeout=10)


def text_of(answer) -> str:
    return answer.json()["choices"][0]["message"]["content"]


@pytest.mark.parametrize(
    ("api", "expected"),
    [
        (
            "openai.chat",
            {
                "error": {
                    "message": "Rate limit reached for requests.",
                    "type": "requests",
                    "param": None,
                    "code": "rate_limit_exceeded",
                }
            },
        ),
        (
            "anthropic.messages",
            {
                "type": "error",
                "error": {
                    "type": "rate_limit_error",
                    "message": "Rate limit reached for requests.",
                },
                "request_id": "req_000000000000000000000001",
            },
        ),
        (
            "gemini.generate",
            {
                "error": {
                    "code": 429,
                    "message": "Rate limit reached for requests.",
                    "status": "RESOURCE_EXHAUSTED",
                    "details": [
                        {
                            "@type": "type.googleapis.com/google.rpc.RetryInfo",
                            "retryDelay": "1.5s",
                        }
                    ],
                }
            },
        ),
        ("ollama.chat", {"error": "Rate limit reached for requests."}),
    ],
)
def test_an_error_has_the_shape_of_its_vendor(upstream, api, expected) -> None:
    upstream.fail(429, retry_after=1.5, retry_after_ms=1500, headers={"x-more": "1"})

    answer = ask(upstream, api)

    assert (answer.status_code, answer.json()) == (429, expected)
    assert answer.headers["retry-after"] == "1.5"
    assert answer.headers["retry-after-ms"] == "1500"
    assert answer.headers["x-more"] == "1"


def test_a_quota_code_makes_the_error_one_of_quota(upstream) -> None:
    upstream.fail(429, code="insufficient_quota")

    with (
        openai.OpenAI(api_key="k", base_url=upstream.openai_url, max_retries=0) as client,
        pytest.raises(openai.RateLimitError) as caught,
    ):
        client.models.list()

    assert caught.value.code == "insufficient_quota"
    assert caught.value.type == "insufficient_quota"
    assert "exceeded your current quota" in str(caught.value)


@pytest.mark.parametrize("status", [400, 418, 500, 529])
def test_any_status_can_be_answered_with_a_message_of_its_own(upstream, status) -> None:
    upstream.fail(status, message="Because.")

    answer = ask(upstream)

    assert (answer.status_code, answer.json()["error"]["message"]) == (status, "Because.")


def test_a_gemini_error_without_a_time_to_retry_has_no_details(upstream) -> None:
    upstream.fail(418)

    assert ask(upstream, "gemini.generate").json() == {
        "error": {"code": 418, "message": "Error", "status": "UNKNOWN"}
    }


@pytest.mark.parametrize("fault", [faults.Close(), faults.Cut(after_bytes=0, of_response=True)])
def test_closing_ends_the_connection_without_an_answer(upstream, fault) -> None:
    upstream.play(fault)

    with pytest.raises(httpx.RemoteProtocolError, match="without sending a response"):
        ask(upstream)

    assert upstream.requests[0].status == 0


def test_a_reset_is_an_error_on_the_clients_socket(upstream) -> None:
    upstream.play(faults.Reset())

    with pytest.raises(httpx.ReadError):
        ask(upstream)

    assert upstream.requests[0].answered
    assert not upstream.requests[0].disconnected


def test_a_reset_comes_after_the_bytes_before_it(upstream) -> None:
    upstream.reply(FOUR).play(faults.Cut(after_deltas=2, reset=True), at=1)
    seen = b""

    with (  # noqa: PT012  # the loop is what raises
        httpx.stream("POST", upstream.openai_url + "/chat/completions", json=STREAMED) as answer,
        pytest.raises(httpx.ReadError),
    ):
        for data in answer.iter_raw():
            seen += data

    assert b'"content":"b"' in seen
    assert b'"content":"c"' not in seen


def test_a_hanging_request_waits_until_the_client_leaves(upstream) -> None:
    upstream.play(faults.Hang())

    with pytest.raises(httpx.ReadTimeout), httpx.Client(timeout=0.05) as client:
        client.post(f"{upstream.openai_url}/chat/completions", json=STREAMED)

    left = upstream.wait_for_disconnect()
    assert left == upstream.requests
    assert not left[0].answered


async def test_a_cancelled_call_is_seen_as_a_disconnect(upstream) -> None:
    upstream.play(faults.Slow(5))

    async with openai.AsyncOpenAI(api_key="k", base_url=upstream.openai_url) as client:
        stream = await client.chat.completions.create(model="m", messages=HELLO, stream=True)
        await stream.close()
        left = await upstream.await_disconnect()

    assert left[0].streamed
    assert left[0].status == 200


def test_a_client_that_leaves_after_its_answer_is_no_disconnect(upstream) -> None:
    ask(upstream)

    with pytest.raises(TimeoutError, match=r"Waited 0\.01 s for 1 clients to leave, in vain"):
        upstream.wait_for_disconnect(timeout=0.01)


async def test_waiting_from_async_code_ends_too(upstream) -> None:
    with pytest.raises(TimeoutError, match="2 requests"):
        await upstream.await_requests(2, timeout=0.01)

    await asyncio.to_thread(ask, upstream)
    assert len(await upstream.await_requests()) == len(upstream.wait_for_requests()) == 1


def test_a_delayed_answer_comes_whole(upstream) -> None:
    upstream.play(faults.Delay(0.05)).reply("late")
    started = time.monotonic()

    answer = ask(upstream)

    assert text_of(answer) == "late"
    assert time.monotonic() - started >= 0.05


def test_slow_deltas_come_whole_and_the_next_request_of_the_connection_waits(upstream) -> None:
    upstream.play(faults.Slow(0.01)).reply(FOUR)
    request = json.dumps(STREAMED).encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n"
    one = head % len(request) + request

    with socket.create_connection(("127.0.0.1", _port(upstream)), timeout=5) as client:
        client.sendall(one + one)  # pipelined: two requests at once
        got = b""
        while got.count(b"\r\n0\r\n\r\n") < 2:
            got += client.recv(65536)

    wait_until(lambda: all(r.answered for r in upstream.requests), 5, "both answers")
    assert [received.text for received in upstream.requests] == ["Hello there!"] * 2
    assert got.index(b"[DONE]") < got.rindex(b"Hello ")


def _port(upstream) -> int:
    return int(upstream.url.rsplit(":", 1)[1])


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("stream", [False, True])
def test_null_stands_where_the_content_belongs(upstream, api, stream) -> None:
    upstream.play(faults.Null())

    answer = ask(upstream, api, stream=stream)

    key = {
        "openai.chat": "choices",
        "openai.responses": "output",
        "anthropic.messages": "content",
        "gemini.generate": "candidates",
        "ollama.chat": "message",
        "ollama.generate": "response",
    }[api]
    assert answer.status_code == 200
    if not stream:
        assert answer.json()[key] is None
    elif api in {"openai.chat", "gemini.generate", "ollama.chat", "ollama.generate"}:
        assert f'"{key}":null' in answer.text


@pytest.mark.parametrize("api", APIS)
def test_an_error_inside_a_200(upstream, api) -> None:
    upstream.play(faults.ErrorEvent(status=429, code="slow_down"), times=2)

    plain = ask(upstream, api)
    streamed = ask(upstream, api, stream=True)

    assert plain.status_code == streamed.status_code == 200
    assert "error" in plain.json()
    assert "error" in streamed.text
    assert "Hello" not in streamed.text


@pytest.mark.parametrize(
    ("deltas", "expected"), [(0, []), (2, ["a", "b"]), (9, ["a", "b", "c", "d"])]
)
def test_an_error_event_comes_after_the_deltas_told(upstream, deltas, expected) -> None:
    upstream.reply(FOUR).play(faults.ErrorEvent(deltas), at=1)
    seen = []

    with (  # noqa: PT012  # the loop is what raises
        openai.OpenAI(api_key="k", base_url=upstream.openai_url) as client,
        client.chat.completions.create(model="m", messages=HELLO, stream=True) as stream,
        pytest.raises(openai.APIError),
    ):
        for chunk in stream:
            seen.append(chunk.choices[0].delta.content)  # noqa: PERF401  # it raises midway

    assert [text for text in seen if text] == expected


def test_an_error_event_in_a_stream_without_deltas_replaces_its_end(upstream) -> None:
    upstream.play(faults.ErrorEvent(3)).reply("")

    assert "[DONE]" not in ask(upstream, stream=True).text


def test_html_with_status_200(upstream) -> None:
    upstream.play(faults.Html())

    answer = ask(upstream)

    assert (answer.status_code, answer.headers["content-type"]) == (
        200,
        "text/html; charset=utf-8",
    )
    assert answer.text.startswith("<!DOCTYPE html>")


@pytest.mark.parametrize("api", APIS)
def test_broken_json_has_the_right_length(upstream, api) -> None:
    upstream.play(faults.BrokenJson(), times=2)

    plain, streamed = ask(upstream, api), ask(upstream, api, stream=True)

    assert plain.status_code == streamed.status_code == 200
    with pytest.raises(json.JSONDecodeError):
        plain.json()
    with pytest.raises(json.JSONDecodeError):
        json.loads(streamed.text.splitlines()[0].rpartition("data: ")[2])


def test_a_body_of_your_own(upstream) -> None:
    upstream.play(faults.Body(b"\xff"), faults.Body("ü", "text/plain", 202))

    first, second = ask(upstream), ask(upstream)

    assert first.content == b"\xff"
    assert (second.status_code, second.text) == (202, "ü")


def test_empty_content_and_other_reasons_to_end(upstream) -> None:
    upstream.play(faults.Empty(), faults.Finished("length"), faults.Finished("content_filter"))

    empty, cut, filtered = (ask(upstream).json()["choices"][0] for _ in range(3))

    assert (empty["message"]["content"], empty["finish_reason"]) == ("", "stop")
    assert (cut["message"]["content"], cut["finish_reason"]) == ("Hello there!", "length")
    assert filtered["finish_reason"] == "content_filter"


def test_a_truncated_body_is_shorter_than_it_says(upstream) -> None:
    upstream.play(faults.Cut())

    with pytest.raises(httpx.RemoteProtocolError, match="without sending complete message body"):
        ask(upstream)


@pytest.mark.parametrize(("deltas", "expected"), [(0, 0), (1, 1), (3, 3), (9, 4)])
def test_a_chunked_stream_cut_after_deltas_is_an_error_for_the_client(
    upstream, deltas, expected
) -> None:
    upstream.reply(FOUR).play(faults.Cut(after_deltas=deltas), at=1)
    seen = b""

    with (  # noqa: PT012  # the loop is what raises
        httpx.stream("POST", upstream.openai_url + "/chat/completions", json=STREAMED) as answer,
        pytest.raises(httpx.RemoteProtocolError, match="incomplete chunked read"),
    ):
        for data in answer.iter_raw():
            seen += data

    assert sum(seen.count(b'"content":"%c"' % letter) for letter in b"abcd") == expected
    assert b'"finish_reason":"stop"' not in seen


def test_a_stream_framed_by_the_connection_ends_silently_when_cut(upstream) -> None:
    upstream.reply(FOUR).play(faults.Cut(after_deltas=2, framing="close"), at=1)

    answer = ask(upstream, stream=True)

    assert answer.headers["connection"] == "close"
    assert '"content":"b"' in answer.text
    assert "[DONE]" not in answer.text


def test_a_cut_that_hangs_leaves_the_connection_open(upstream) -> None:
    upstream.play(faults.Cut(after_deltas=1, hang=True))

    with (
        pytest.raises(httpx.ReadTimeout),
        httpx.stream(
            "POST", upstream.openai_url + "/chat/completions", json=STREAMED, timeout=0.1
        ) as answer,
    ):
        answer.read()

    assert upstream.wait_for_disconnect()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("framing", [None, "close", "length", "chunked"])
def test_an_answer_can_be_cut_at_every_single_byte(upstream, stream, framing) -> None:
    upstream.play(faults.Cut(after_bytes=10**6, framing=framing))
    whole = _raw(upstream, stream=stream)

    # The date may tick between two answers, so only lengths are compared.
    for size in range(0, len(whole), 37):
        upstream.play(faults.Cut(after_bytes=size, of_response=True, framing=framing))
        assert len(_raw(upstream, stream=stream)) == size
    assert upstream.requests[-1].sent == size


@pytest.mark.parametrize("size", [0, 10])
def test_bytes_are_counted_from_the_beginning_of_the_body(upstream, size) -> None:
    upstream.play(faults.Cut(after_bytes=size))

    _, end_of_head, body = _raw(upstream, stream=False).partition(b"\r\n\r\n")

    assert end_of_head
    assert len(body) == size


def _raw(upstream, *, stream) -> bytes:
    body = json.dumps({**STREAMED, "stream": stream}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", _port(upstream)), timeout=5) as client:
        client.sendall(head.encode() + body)
        return b"".join(iter(lambda: client.recv(65536), b""))


def test_every_fault_is_exported_and_says_what_it_is() -> None:
    names = {
        name
        for name, value in vars(faults).items()
        if isinstance(value, type) and issubclass(value, faults.Fault)
    }

    assert names == set(faults.__all__)
    assert all(getattr(faults, name).__doc__ for name in names)


# --- which request it is for --------------------------------------------------------------


def statuses(upstream, count, api="openai.chat") -> list[int]:
    return [ask(upstream, api).status_code for _ in range(count)]


def test_a_fault_is_for_the_next_request_or_for_as_many_as_told(upstream) -> None:
    upstream.fail(500, times=2)

    assert statuses(upstream, 3) == [500, 500, 200]


def test_a_fault_can_be_for_the_nth_request(upstream) -> None:
    upstream.fail(500, at=2).fail(503, at=4, times=2)

    assert statuses(upstream, 6) == [200, 500, 200, 503, 503, 200]


def test_from_the_nth_request_on(upstream) -> None:
    upstream.fail(500, at=2, times=ALWAYS)

    assert statuses(upstream, 3) == [200, 500, 500]


def test_always_yields_to_what_is_told_for_some_and_the_last_always_holds(upstream) -> None:
    upstream.fail(500, times=ALWAYS).fail(503, times=ALWAYS).reply("ok")

    assert statuses(upstream, 3) == [200, 503, 503]


def test_what_alters_every_answer_alters_scripted_replies_too(upstream) -> None:
    upstream.play(faults.Finished("length"), times=ALWAYS).reply("one")

    answers = [ask(upstream).json()["choices"][0] for _ in range(2)]

    assert [a["message"]["content"] for a in answers] == ["one", "Hello there!"]
    assert [a["finish_reason"] for a in answers] == ["length", "length"]


def test_a_fault_told_after_a_reply_waits_for_the_request_after_it(upstream) -> None:
    upstream.reply("one").play(faults.Finished("length"))

    answers = [ask(upstream).json()["choices"][0] for _ in range(2)]

    assert [a["finish_reason"] for a in answers] == ["stop", "length"]
    assert [a["message"]["content"] for a in answers] == ["one", "Hello there!"]


def test_a_fault_that_replaces_the_answer_leaves_the_reply_for_later(upstream) -> None:
    upstream.fail(500).reply("kept")

    assert statuses(upstream, 1) == [500]
    assert text_of(ask(upstream)) == "kept"


def test_faults_can_be_told_for_a_model_a_path_an_api_or_anything(upstream) -> None:
    upstream.fail(500, model="other")
    upstream.fail(501, path="/groq")
    upstream.fail(502, api="anthropic")
    upstream.fail(503, api="openai.responses")
    upstream.fail(504, where=lambda received: received.text == "Bye")

    assert statuses(upstream, 1) == [200]
    assert statuses(upstream, 1, "anthropic.messages") == [502]
    assert statuses(upstream, 1, "openai.responses") == [503]
    other = {"model": "other", "messages": HELLO}
    bye = {"model": "m", "messages": [{"role": "user", "content": "Bye"}]}
    assert httpx.post(f"{upstream.openai_url}/chat/completions", json=other).status_code == 500
    assert httpx.post(f"{upstream.url}/groq/chat/completions", json=bye).status_code == 501
    assert httpx.post(f"{upstream.openai_url}/chat/completions", json=bye).status_code == 504
    assert upstream.unplayed == 0
