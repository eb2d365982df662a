"""Below the SDKs: streams over the client they are given, and what errors are read from."""

import asyncio
import json
import zlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import pytest

from kor_core import errors
from kor_core.adapters.attempt import Caller, SenselessAnswerError
from kor_core.adapters.cleaning import cleaned
from kor_core.adapters.complaint import Complaint, complaint_in_events, complaint_of
from kor_core.adapters.exchange import Exchange, Failure, Fault, noted, watched
from kor_core.adapters.network import Transport
from kor_core.redaction import Config
from kor_core.settings import NetworkSettings
from kor_core.testing import Upstream, faults
from kor_core.testing.answers import Answer, Part
from kor_core.testing.answers import Exchange as Asked
from kor_core.testing.waiting import await_until

LIBRARIES = [
    pytest.param(
        name, marks=pytest.mark.skipif(find_spec(name) is None, reason=f"{name} is not installed")
    )
    for name in ("httpx", "httpx2")
]


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as server:
        yield server


@pytest.fixture(params=LIBRARIES)
def library(request: pytest.FixtureRequest) -> Any:
    return import_module(request.param)


@pytest.fixture
async def client(library: Any) -> AsyncIterator[Any]:
    transport = Transport(NetworkSettings())
    yield transport.client(library.__name__)
    await transport.aclose()


def asked(client: Any, upstream: Upstream, prompt: str = "one two three") -> Any:
    body = {"model": "gpt-4", "stream": True, "messages": [{"role": "user", "content": prompt}]}
    return client.build_request("POST", f"{upstream.openai_url}/chat/completions", json=body)


async def test_a_stream_comes_in_pieces_and_ends(client: Any, upstream: Upstream) -> None:
    with watched() as exchange:
        response = await client.send(asked(client, upstream), stream=True)
        text = "".join([piece async for piece in response.aiter_text()])
        await response.aclose()

    assert "[DONE]" in text
    assert (1, 200, b"") == (exchange.requests, exchange.status, exchange.body)


async def test_a_stream_left_early_is_closed_at_the_server(client: Any, upstream: Upstream) -> None:
    upstream.play(faults.Slow(0.2))
    response = await client.send(asked(client, upstream), stream=True)
    async for _ in response.aiter_raw():
        break

    await response.aclose()
    (request,) = upstream.requests
    await await_until(lambda: request.disconnected, 10, "the server to see it")


async def test_a_stream_that_breaks_is_the_librarys_error_and_a_noted_fault(
    client: Any, upstream: Upstream, library: Any
) -> None:
    upstream.play(faults.Cut(after_deltas=1))

    with watched() as exchange:
        response = await client.send(asked(client, upstream), stream=True)
        with pytest.raises(library.ReadError):
            _ = [piece async for piece in response.aiter_raw()]
        await response.aclose()

    assert exchange.failure is not None
    assert Fault.CUT is exchange.failure.fault


async def test_what_breaks_a_stream_is_told_in_another_task_long_after_the_call(
    client: Any, upstream: Upstream
) -> None:
    upstream.play(faults.Cut(after_deltas=1))
    caller = Caller.of("openai", "gpt-4", Config(api_key="sk-planted"))

    async def opened(_: None) -> tuple[Any, Exchange]:
        return await client.send(asked(client, upstream), stream=True), noted()

    async def read(response: Any, exchange: Exchange) -> list[bytes]:
        return [piece async for piece in caller.read(response.aiter_bytes(), exchange)]

    response, exchange = await caller.attempt(opened, None, nothing)
    with watched() as of_another_call, pytest.raises(errors.LLMConnectionError) as caught:
        await asyncio.create_task(read(response, exchange))

    assert "the connection broke" in str(caught.value)
    assert (200, "openai", True) == (
        caught.value.status,
        caught.value.provider,
        caught.value.retryable,
    )
    assert {"httpx": 1, "httpx2": 1}[type(caught.value.__cause__).__module__.partition(".")[0]]
    assert caught.value.__context__ is caught.value.__cause__.__context__ is None  # type: ignore[union-attr]  # seen above
    assert (0, None) == (of_another_call.requests, of_another_call.failure)


async def nothing() -> None:
    """Have no SDK to load."""


async def test_a_stream_that_is_read_to_its_end_passes_through_whole(
    client: Any, upstream: Upstream
) -> None:
    caller = Caller.of("openai", "gpt-4", Config())
    with watched() as exchange:
        response = await client.send(asked(client, upstream), stream=True)
        pieces = [piece async for piece in caller.read(response.aiter_bytes(), exchange)]

    assert b"[DONE]" in b"".join(pieces)
    assert None is exchange.failure


async def test_a_reader_that_is_cancelled_takes_its_message_along_and_nothing_else(
    client: Any, upstream: Upstream
) -> None:
    upstream.play(faults.Slow(30))
    caller = Caller.of("openai", "gpt-4", Config())
    with watched() as exchange:
        response = await client.send(asked(client, upstream), stream=True)
    begun = asyncio.Event()

    async def read() -> None:
        async for _ in caller.read(response.aiter_bytes(), exchange):
            begun.set()

    task = asyncio.create_task(read())
    await begun.wait()
    task.cancel("enough")
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    await response.aclose()

    assert ("enough",) == caught.value.args
    assert None is caught.value.__context__


@pytest.mark.parametrize(
    ("code", "kind"),
    [("insufficient_quota", errors.QuotaExhaustedError), (None, errors.RateLimitError)],
)
async def test_an_error_inside_a_stream_is_told_by_its_event(
    code: str | None, kind: type[errors.LLMError], client: Any, upstream: Upstream
) -> None:
    upstream.play(faults.ErrorEvent(2, 429, "No: sk-planted.", code or "rate_limit_exceeded"))
    caller = Caller.of("openai", "gpt-4", Config(api_key="sk-planted"))

    async def read_events() -> AsyncIterator[bytes]:
        async for piece in response.aiter_bytes():
            yield piece
        raise SenselessAnswerError("the stream holds an error")

    with watched() as exchange:
        response = await client.send(asked(client, upstream), stream=True)
        with pytest.raises(errors.LLMError, match=r"No: \*{10}\.") as caught:
            _ = [piece async for piece in caller.read(read_events(), exchange)]

    assert kind is type(caught.value)
    assert None is caught.value.__cause__


@dataclass(frozen=True)
class Streamed(faults.Fault):
    """A body in pieces that never ends by itself."""

    piece: bytes
    times: int
    encoding: str = "identity"
    rest: bytes = b""

    def answer(self, exchange: Asked) -> Answer:
        del exchange
        headers = (("content-type", "text/event-stream"), ("content-encoding", self.encoding))
        parts = (*[Part(self.piece)] * self.times, Part(self.rest))
        return Answer(200, headers, parts, framing="chunked")


def packed(text: bytes, times: int) -> bytes:
    packing = zlib.compressobj(9)
    return b"".join([*(packing.compress(text) for _ in range(times)), packing.flush()])


MEGABYTE = 1 << 20
UNUSABLE = {
    "endless": (Streamed(b" " * MEGABYTE, 66), Fault.TOO_LARGE),
    "a bomb": (Streamed(packed(b" " * MEGABYTE, 66), 1, "deflate"), Fault.TOO_LARGE),
    "no end": (Streamed(packed(b"one two", 1)[:-3], 1, "deflate"), Fault.PACKED),
    "unknown": (Streamed(b"one", 1, "br"), Fault.PACKED),
}


@pytest.mark.parametrize("body", UNUSABLE)
async def test_a_stream_that_cannot_be_taken_in_is_an_error_of_the_provider(
    body: str, client: Any, upstream: Upstream
) -> None:
    played, fault = UNUSABLE[body]
    upstream.play(played)
    caller = Caller.of("openai", "gpt-4", Config())

    with watched() as exchange:
        response = await client.send(asked(client, upstream), stream=True)
        pieces = caller.read(response.aiter_bytes(), exchange)
    with pytest.raises(errors.ProviderError, match="The answer makes no sense") as caught:
        _ = [len(piece) async for piece in pieces]

    assert fault.value in str(caught.value)


async def test_a_stream_that_is_packed_is_read_piece_by_piece(
    client: Any, upstream: Upstream
) -> None:
    packing = zlib.compressobj()
    first = packing.compress(b"one ") + packing.flush(zlib.Z_SYNC_FLUSH)
    rest = packing.compress(b"two") + packing.flush()
    upstream.play(Streamed(first[:1], 1, "deflate", first[1:] + rest))

    response = await client.send(asked(client, upstream), stream=True)
    pieces = [piece async for piece in response.aiter_bytes()]

    assert b"one two" == b"".join(pieces)
    assert "content-encoding" not in response.headers


async def test_an_error_in_place_of_a_stream_is_read_whole(client: Any, upstream: Upstream) -> None:
    upstream.fail(429, message="Slow down.")

    with watched() as exchange:
        response = await client.send(asked(client, upstream), stream=True)

    assert 429 == response.status_code
    assert b"Slow down." in exchange.body


async def test_a_body_that_breaks_is_the_librarys_error(
    client: Any, upstream: Upstream, library: Any
) -> None:
    upstream.play(faults.Cut(after_deltas=1))

    with pytest.raises(library.ReadError):
        await client.send(asked(client, upstream))


async def test_headers_of_the_call_are_added_and_the_time_is_measured(
    client: Any, upstream: Upstream
) -> None:
    with watched({"x-gateway": "blue"}):
        response = await client.send(asked(client, upstream))

    assert "blue" == upstream.requests[0].headers["x-gateway"]
    assert 0 < response.elapsed.total_seconds() < 60


async def test_closing_the_client_leaves_it_open_for_the_others(
    client: Any, upstream: Upstream
) -> None:
    await client.aclose()

    assert 200 == (await client.send(asked(client, upstream))).status_code


async def test_calls_side_by_side_are_watched_apart(client: Any, upstream: Upstream) -> None:
    async def call() -> int:
        with watched() as exchange:
            await client.send(asked(client, upstream))
        return exchange.requests

    assert [1, 1, 1] == await asyncio.gather(call(), call(), call())


GEMINIS = {
    "code": 400,
    "status": "INVALID_ARGUMENT",
    "message": "No.",
    "details": [{"reason": "API_KEY_INVALID"}, 7, {"retryDelay": "soon"}, {"retryDelay": "1.5s"}],
}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", Complaint()),
        (b"<html>Bad gateway</html>", Complaint()),
        (b"upstream  connect\nerror", Complaint("upstream  connect\nerror")),
        (b"[]", Complaint()),
        (b'"down"', Complaint("down")),
        (b"7", Complaint()),
        (b'{"error": "model not found"}', Complaint("model not found")),
        (b'{"detail": [{"msg": "field required"}]}', Complaint('[{"msg": "field required"}]')),
        (b'[{"error": {"message": "No.", "code": 429}}]', Complaint("No.", (), 429)),
        (
            json.dumps({"error": GEMINIS}).encode(),
            Complaint("No.", ("API_KEY_INVALID", "INVALID_ARGUMENT"), 400, 1.5),
        ),
        (
            b'{"type": "error", "error": {"type": "overloaded_error", "message": "Busy."}}',
            Complaint("Busy.", ("overloaded_error",)),
        ),
    ],
)
def test_every_vendors_words_are_read(body: bytes, expected: Complaint) -> None:
    assert expected == complaint_of(body)


def test_words_nested_too_deep_are_left_out() -> None:
    words: list[Any] = []
    for _ in range(100_000):
        words = [words]

    assert Complaint("", ("x",)) == complaint_of({"error": {"message": words, "code": "x"}})


@pytest.mark.parametrize(
    ("tail", "expected"),
    [
        (b"", Complaint()),
        (b'text"}}\n\ndata: {"choices": []}\n\ndata: [DONE]\n\n', Complaint()),
        (
            b'event: error\ndata: {"type": "error", "error": {"message": "Busy."}}',
            Complaint("Busy."),
        ),
        (b'data: {"error": "one"}\n\ndata: {"error": "two"}\n\n', Complaint("two")),
    ],
)
def test_the_error_that_ends_a_stream_is_read(tail: bytes, expected: Complaint) -> None:
    assert expected == complaint_in_events(tail)


def test_a_failure_reads_as_a_sentence() -> None:
    assert "h: the connection was refused" == str(Failure(Fault.REFUSED, "h"))
    assert "h: the connection was refused (why)" == str(Failure(Fault.REFUSED, "h", "why"))


def test_an_exception_keeps_plain_facts_and_loses_what_may_hold_a_key(library: Any) -> None:
    error = RuntimeError("key sk-planted", 7, b"sk-planted", ("sk-planted",))
    request = library.Request("POST", "http://h/?key=sk-planted", headers={"x-key": "sk-planted"})
    unread = library.Response(200, stream=library.ByteStream(b""), request=request)
    error.status, error.body = 400, {"echo": ["sk-planted"]}  # type: ignore[attr-defined]  # as SDKs hang things on
    error.client, error.url = object(), library.URL("http://h")  # type: ignore[attr-defined]  # as SDKs hang things on
    error.response = unread  # type: ignore[attr-defined]  # as SDKs hang things on

    found = cleaned(error, frozenset(["sk-planted"]))

    mask = "**********"
    assert (f"key {mask}", 7, mask.encode(), [mask]) == found.args
    assert (400, {"echo": [mask]}, None, None) == (
        vars(found)["status"],
        vars(found)["body"],
        vars(found)["client"],
        vars(found)["url"],
    )
    assert f"http://h/?key={mask}" == str(vars(found)["response"].request.url)
    assert "x-key" not in vars(found)["response"].request.headers
    assert not hasattr(found, "__notes__")
