"""Below the SDKs: streams over the client they are given, and what errors are read from."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import pytest

from kor_core.adapters.cleaning import cleaned
from kor_core.adapters.complaint import Complaint, complaint_of
from kor_core.adapters.exchange import Failure, Fault, watched
from kor_core.adapters.network import Transport
from kor_core.settings import NetworkSettings
from kor_core.testing import Upstream, faults
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


def test_a_failure_reads_as_a_sentence() -> None:
    assert "h: the connection was refused" == str(Failure(Fault.REFUSED, "h"))
    assert "h: the connection was refused (why)" == str(Failure(Fault.REFUSED, "h", "why"))


def test_an_exception_keeps_plain_facts_and_loses_what_may_hold_a_key(library: Any) -> None:
    error = RuntimeError("key sk-planted", 7, b"sk-planted", ("sk-planted",))
    request = library.Request("POST", "http://h/?key=sk-planted", headers={"x-key": "sk-planted"})
    unread = library.Response(200, stream=library.ByteStream(b""), request=request)
    error.status, error.body = 400, {"echo": ["sk-planted"]}  # type: ignore[attr-defined]
    error.client, error.url = object(), library.URL("http://h")  # type: ignore[attr-defined]
    error.response = unread  # type: ignore[attr-defined]

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
