"""No planted secret shows: not in errors, their causes, tracebacks with locals, logs or reprs."""

import asyncio
import json
import logging
import os
import pickle
import traceback
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from socketserver import BaseRequestHandler, ThreadingTCPServer
from threading import Thread
from typing import Any
from urllib.parse import quote, quote_plus

import pytest

from kor_core import errors
from kor_core.adapters.litellm import LiteLLMProvider
from kor_core.adapters.network import Transport
from kor_core.adapters.openai import OpenAIProvider
from kor_core.llm.base import BaseLLMModel
from kor_core.llm.handle import ModelHandle, Target
from kor_core.llm.policies.circuit import CircuitKey
from kor_core.llm.profile import ModelProfile
from kor_core.llm.reference import Reference
from kor_core.settings import NetworkSettings
from kor_core.testing import Upstream, faults
from kor_core.testing.proxy import ForwardProxy

# litellm's import takes seconds, which no test is to reckon with.
pytestmark = pytest.mark.usefixtures("litellm_ready")

KEY = "sk-planted-0123456789"
HEADER = "planted-header-value"
TOKEN = 'planted"token/with=signs'
USER = "kor:planted-password"
QUERY = "planted&query value"
PLANTED = (
    *(KEY, KEY[:12], HEADER, TOKEN, quote(TOKEN, safe=""), json.dumps(TOKEN)[1:-1]),
    *(USER.partition(":")[2], QUERY, quote_plus(QUERY)),
)


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as server:
        yield server


needs_litellm = pytest.mark.skipif(
    find_spec("litellm") is None, reason="litellm cannot be installed beside this openai"
)
VENDORS = [
    pytest.param(OpenAIProvider, "gpt-4", "openai_url", id="openai"),
    pytest.param(
        LiteLLMProvider, "openai/gpt-4", "openai_url", id="litellm-openai", marks=needs_litellm
    ),
    pytest.param(
        LiteLLMProvider, "claude-3-opus", "url", id="litellm-anthropic", marks=needs_litellm
    ),
    pytest.param(
        LiteLLMProvider, "gemini-1.5-pro", "gemini_url", id="litellm-gemini", marks=needs_litellm
    ),
]


every_vendor = pytest.mark.parametrize(("provider", "name", "url"), VENDORS)

IN_CALL = "planted-in-the-call"
REFUSAL = {"choices": [{"message": {"content": None, "refusal": f"No: {KEY}"}}]}

FAULTS = {
    "refused key": faults.Status(401, f"Incorrect API key provided: {KEY}."),
    "key in a page": faults.Body(f"<html>{KEY}</html>", "text/html"),
    "key in broken JSON": faults.Body(f'{{"key": "{KEY}'),
    "key in an error object": faults.Body(f'{{"error": {{"message": "No: {KEY}"}}}}'),
    "key in a status page": faults.Body(f"key {KEY} has no rights", "text/plain", 403),
    "key in a header": faults.Status(500, headers={"x-request-id": f"req-{KEY}"}),
    "key across the cut": faults.Status(500, f"{'x' * 490} {KEY} {'x' * 90}"),
    "key in a refusal": faults.Body(json.dumps(REFUSAL)),
    "key as a name": faults.Body(json.dumps({"error": {"message": "No.", KEY: 1}}), status=401),
    "key as a code": faults.Status(400, code=KEY),
    "part of a header": faults.Status(401, f"No: {TOKEN}"),
    "part of a header, for a URL": faults.Status(401, f"No: {quote(TOKEN, safe='')}"),
    "part of a header, in JSON": faults.Body(json.dumps({"got": TOKEN}), status=500),
    "decoded password": faults.Status(401, f"No such user: {USER}"),
    "value of a query": faults.Status(401, f"No: {QUERY}"),
    "reset": faults.Reset(),
    "hang": faults.Hang(),
}


def made(provider: Any, name: str, base_url: str, **network: Any) -> BaseLLMModel:
    config = {
        "api_key": KEY,
        "base_url": base_url,
        "timeout": 20.0,
        "extra_headers": {
            "x-tenant-key": HEADER,
            "x-token": f"Bearer {TOKEN}",
            "x-user": f"Basic {b64encode(USER.encode()).decode()}",
        },
        **({"extra_query": {"sig": QUERY}} if provider is OpenAIProvider else {}),
    }
    return provider(Transport(NetworkSettings(**network))).create_model(name, config)


def failure_of(model: BaseLLMModel, **kwargs: Any) -> errors.LLMError:
    with pytest.raises(errors.LLMError) as caught:
        asyncio.run(model.agenerate("Hello!", **kwargs))
    return caught.value


def everything_about(error: BaseException) -> str:
    """All that a logger, a debugger or a tracker of errors could send away."""
    told = [
        *traceback.TracebackException.from_exception(error, capture_locals=True).format(),
        repr(error),
        str(error),
    ]
    pending, seen = [error], set[int]()
    while pending:
        value: Any = pending.pop()
        if id(value) in seen or value is None:
            continue
        seen.add(id(value))
        told.append(repr(value))
        if isinstance(value, dict):
            pending += [*value.keys(), *value.values()]
        elif isinstance(value, list | tuple | set):
            pending += value
        elif isinstance(value, BaseException):
            pending += [value.args, vars(value), value.__cause__, value.__context__]
        elif type(value).__module__.partition(".")[0] in {"httpx", "httpx2"}:
            told += [str(getattr(value, name, "")) for name in ("url", "text")]
            headers = getattr(value, "headers", None)
            pending += [dict(headers) if headers is not None else None, vars(value)]
    return "\n".join(told)


def shown_in(told: str) -> list[str]:
    """The planted secrets in a text. A function of its own, whose variables no traceback shows."""
    return [secret for secret in PLANTED if secret in told]


@every_vendor
@pytest.mark.parametrize("fault", FAULTS)
def test_an_error_and_all_that_hangs_on_it_hold_no_secret(
    fault: str, provider: Any, name: str, url: str, upstream: Upstream
) -> None:
    if fault == "value of a query" and provider is LiteLLMProvider:
        pytest.skip("litellm is given no query")
    model = made(provider, name, getattr(upstream, url))
    upstream.play(FAULTS[fault])

    error = failure_of(model, timeout=5.0 if fault == "hang" else 20.0)
    told = everything_about(error)

    assert upstream.requests[0].key == KEY
    assert HEADER == upstream.requests[0].headers["x-tenant-key"]
    assert [] == shown_in(told)
    assert not any(secret.encode() in pickle.dumps(error) for secret in PLANTED)


@every_vendor
def test_no_log_at_debug_holds_a_secret(
    provider: Any, name: str, url: str, upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    loggers = [logging.getLogger(name) for name in [*logging.root.manager.loggerDict]]
    for logger in loggers:
        caplog.set_level(logging.DEBUG, logger.name)
    model = made(provider, name, getattr(upstream, url))

    asyncio.run(model.agenerate("Hello!"))
    for status in (401, 429, 500):
        upstream.fail(status, message=f"No: {KEY}")
        failure_of(model)
    upstream.play(faults.Reset())
    failure_of(model)

    told = caplog.text + "".join(str(vars(record)) for record in caplog.records)
    assert [] == shown_in(told)


@every_vendor
def test_nothing_is_printed_and_the_environment_stays_as_it_was(
    provider: Any, name: str, url: str, upstream: Upstream, capfd: pytest.CaptureFixture[str]
) -> None:
    before = dict(os.environ)
    model = made(provider, name, getattr(upstream, url))

    asyncio.run(model.agenerate("Hello!"))
    for status in (400, 401, 500):
        upstream.fail(status)
        failure_of(model)
    failure_of(made(provider, f"{name}-nobody-knows", "http://127.0.0.1:9/v1"))

    assert ("", "") == capfd.readouterr()
    assert before == dict(os.environ)


@every_vendor
def test_a_key_given_to_a_call_shows_in_no_frame_of_the_provider(
    provider: Any, name: str, url: str, upstream: Upstream
) -> None:
    model = made(provider, name, getattr(upstream, url))
    upstream.fail(500)
    with pytest.raises(errors.LLMError) as caught:
        asyncio.run(model.agenerate("Hello!", web_search_options={"api_key": IN_CALL}))

    assert IN_CALL not in everything_about(caught.value)


def test_a_key_given_to_a_call_is_masked_where_the_server_repeats_it(upstream: Upstream) -> None:
    upstream.fail(401, message=f"No: {IN_CALL}")
    model = made(OpenAIProvider, "gpt-4", upstream.openai_url)

    error = failure_of(model, extra={"gateway": {"api_key": IN_CALL}})

    assert "No: **********" in str(error)
    assert IN_CALL not in str(vars(error.__cause__))


def test_an_id_of_a_request_is_short_and_plain() -> None:
    head = b"HTTP/1.1 500 No\r\nContent-Length: 0\r\nx-request-id: a\xff\xfe" + b"b" * 300
    with answering(head + b"\r\n\r\n") as url:
        error = failure_of(made(OpenAIProvider, "gpt-4", url))

    assert "a" + "b" * 199 == error.request_id
    assert "a" + "b" * 199 == vars(error.__cause__)["response"].headers["x-request-id"]


GARBLED = {
    "headers": b"HTTP/1.1 200 OK\r\n%b\r\n" % (b"X: %b\r\n" % KEY.encode() * 10_000),
    "status line": KEY.encode() + b"\r\n\r\n",
    "chunk size": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + KEY.encode() + b"\r\n",
    "header": b"HTTP/1.1 200 OK\r\nX: " + KEY.encode() * 900 + b"\r\n\r\n",
    "header name": b"HTTP/1.1 200 OK\r\n" + KEY.encode() + b"<: x\r\n\r\n",
}


@pytest.mark.parametrize("where", GARBLED)
def test_an_answer_that_is_no_http_is_not_quoted(where: str) -> None:
    with answering(GARBLED[where]) as url:
        error = failure_of(made(OpenAIProvider, "gpt-4", url))

    assert errors.LLMConnectionError is type(error)
    assert "the answer is no valid HTTP" in str(error)
    assert [] == shown_in(everything_about(error))


@contextmanager
def answering(answer: bytes) -> Iterator[str]:
    """Answer every connection with these bytes."""

    class Handler(BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(1 << 16)
            self.request.sendall(answer)

    with ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("repeated", ["planted-password", "a29yOnBsYW50ZWQtcGFzc3dvcmQ="])
def test_a_proxy_that_repeats_its_password_shows_it_to_nobody(repeated: str) -> None:
    body = f"No: {repeated}".encode()
    head = b"HTTP/1.1 407 No\r\nContent-Length: %d\r\n\r\n" % len(body)
    with answering(head + body) as url:
        proxy = url.replace("://", "://kor:planted-password@")
        error = failure_of(made(OpenAIProvider, "gpt-4", "http://llm.invalid/v1", proxy=proxy))

    assert 407 == error.status
    assert "No: **********" in str(error)
    assert repeated not in everything_about(error)


def test_the_credentials_of_a_proxy_show_nowhere(upstream: Upstream) -> None:
    with ForwardProxy(user="kor", password="right") as proxy:
        url = proxy.url.replace("://", "://kor:planted-password@")
        model = made(OpenAIProvider, "gpt-4", upstream.openai_url, proxy=url)
        turned_away = failure_of(model)
    gone = failure_of(model)

    assert "planted-password" not in everything_about(turned_away)
    assert "planted-password" not in everything_about(gone)


@every_vendor
def test_a_models_repr_and_config_show_no_secret(provider: Any, name: str, url: str) -> None:
    model = made(provider, name, "http://127.0.0.1:9")

    told = f"{model!r} {model.config!r} {vars(model)!r}"

    assert KEY == model.config["api_key"]
    assert [] == shown_in(told)


# --- interrupted calls ----------------------------------------------------------------------


async def hanging(upstream: Upstream) -> asyncio.Task[str]:
    """Start a call whose request has arrived and will never be answered."""
    upstream.play(faults.Hang())
    model = made(OpenAIProvider, "gpt-4", upstream.openai_url)
    task = asyncio.create_task(model.agenerate("Hello!"))
    await arrival(upstream)
    return task


async def arrival(upstream: Upstream) -> None:
    while not upstream.requests:  # noqa: ASYNC110  # it arrives in another thread
        await asyncio.sleep(0.01)


async def test_a_cancelled_call_takes_its_message_along_and_no_secret(upstream: Upstream) -> None:
    task = await hanging(upstream)

    task.cancel("enough")
    with pytest.raises(asyncio.CancelledError) as caught:
        await task

    assert ("enough",) == caught.value.args
    assert task.cancelled()
    assert [] == shown_in(everything_about(caught.value))


async def test_a_timeout_of_the_application_ends_the_call_and_holds_no_secret(
    upstream: Upstream,
) -> None:
    model = made(OpenAIProvider, "gpt-4", upstream.openai_url)
    await model.agenerate("warm up")
    upstream.play(faults.Hang())

    with pytest.raises(TimeoutError) as caught:
        async with asyncio.timeout(0.2):
            await model.agenerate("Hello!")

    assert [] == shown_in(everything_about(caught.value))


async def test_a_task_group_cancels_its_calls_and_holds_no_secret(upstream: Upstream) -> None:
    model = made(OpenAIProvider, "gpt-4", upstream.openai_url)
    upstream.play(faults.Hang())

    async def failing() -> None:
        await arrival(upstream)
        raise LookupError

    async def together() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(model.agenerate("Hello!"))
            group.create_task(failing())

    with pytest.raises(ExceptionGroup) as caught:
        await together()

    assert [LookupError] == [type(error) for error in caught.value.exceptions]
    assert [] == shown_in(everything_about(caught.value))


async def test_a_deadline_of_the_handle_has_no_cause_and_no_secret(upstream: Upstream) -> None:
    config = {"api_key": KEY, "base_url": upstream.openai_url}
    model = made(OpenAIProvider, "gpt-4", upstream.openai_url)
    circuit = CircuitKey(None, "openai", "gpt-4")
    target = Target(Reference("openai", "gpt-4"), config, lambda: model, ModelProfile, circuit)
    handle = ModelHandle(target)
    await handle.agenerate("warm up")
    upstream.play(faults.Hang())

    with pytest.raises(errors.LLMTimeoutError, match=r"deadline of 0\.2 s") as caught:
        await handle.agenerate("Hello!", timeout=0.2)

    assert None is caught.value.__cause__ is caught.value.__context__
    told = "".join(
        traceback.TracebackException.from_exception(caught.value, capture_locals=True).format()
    )
    assert f"Bearer {KEY}" not in told


async def test_the_frames_of_the_transport_show_no_header(upstream: Upstream) -> None:
    client: Any = Transport(NetworkSettings()).client("httpx")
    upstream.play(faults.Hang())

    with pytest.raises(TimeoutError) as caught:
        async with asyncio.timeout(0.3):
            await client.post(upstream.url, headers={"authorization": f"Bearer {KEY}"})

    stack = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    ours = [
        frame
        for frame in (stack.__cause__ or stack).stack
        if "kor_core/adapters" in frame.filename and frame.locals
    ]
    assert {"_exchange", "_request", "send"} == {frame.name for frame in ours}
    assert [] == [frame.name for frame in ours if KEY in str(frame.locals)]
