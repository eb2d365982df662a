"""Calls to real providers are refused, whoever makes them."""

import asyncio
from threading import Thread

import pytest

from kor_core.adapters.network import Transport
from kor_core.adapters.openai import OpenAIProvider
from kor_core.errors import RealCallsBlockedError
from kor_core.interception import beyond_loopback, blocked, everywhere, refuse_blocked
from kor_core.llm.base import BaseLLMModel
from kor_core.settings import NetworkSettings
from kor_core.testing import Upstream, block_real_calls

REAL = "https://api.openai.com/v1"


def model_at(url: str, transport: Transport | None = None) -> BaseLLMModel:
    transport = transport or Transport(NetworkSettings(trust_env=False))
    config = {"api_key": "sk-planted", "base_url": url}
    return OpenAIProvider(transport).create_model("gpt-4o", config)


async def test_a_call_to_a_real_host_is_refused_before_it_leaves(escapes: list[str]):
    """The error names the host and the cure, and is the provider's to sign."""
    model = model_at(REAL)

    with block_real_calls(), pytest.raises(RealCallsBlockedError) as caught:
        await model.agenerate("Hello!")

    assert "would go to api.openai.com" in str(caught.value)
    assert "ScriptedProvider" in str(caught.value)
    assert ("openai", "gpt-4o") == (caught.value.provider, caught.value.model)
    assert [] == escapes


async def test_loopback_stays_usable():
    with Upstream() as upstream, block_real_calls():
        answer = await model_at(upstream.openai_url).agenerate("Hello!")

    assert "Hello!" in answer


async def test_loopback_can_be_refused_too():
    with (
        Upstream() as upstream,
        block_real_calls(allow_loopback=False),
        pytest.raises(RealCallsBlockedError, match=r"127\.0\.0\.1"),
    ):
        await model_at(upstream.openai_url).agenerate("Hello!")

    assert [] == list(upstream.requests)


async def test_calls_in_tasks_and_threads_are_refused():
    """Those of threads too, which have no context of the test."""
    model = model_at(REAL)
    refused: list[BaseException] = []

    def call() -> None:
        try:
            model.generate("Hello!")
        except RealCallsBlockedError as error:
            refused.append(error)

    with block_real_calls():
        thread = Thread(target=call)
        thread.start()
        await asyncio.to_thread(thread.join)
        refused += await asyncio.gather(
            *(model.agenerate("Hello!") for _ in range(2)), return_exceptions=True
        )

    assert [RealCallsBlockedError] * 3 == [type(error) for error in refused]


def test_a_transport_made_before_the_block_is_held_back_and_let_go():
    transport = Transport(NetworkSettings())

    with block_real_calls(), pytest.raises(RealCallsBlockedError):
        transport.check(REAL)
    transport.check(REAL)


def test_blocks_nest_and_end_in_any_order():
    outer, inner = block_real_calls(), block_real_calls(allow_loopback=False)
    outer.__enter__()
    inner.__enter__()
    outer.__exit__(None, None, None)

    with pytest.raises(RealCallsBlockedError):
        refuse_blocked("localhost")
    inner.__exit__(None, None, None)
    refuse_blocked("api.openai.com")


def test_a_block_ends_with_an_exception():
    with pytest.raises(ZeroDivisionError), block_real_calls():
        _ = 1 / 0

    refuse_blocked("api.openai.com")


def test_a_block_says_its_own_cure():
    expected = pytest.raises(RealCallsBlockedError, match=r"go to example\.org\. Ask mother\.$")
    with blocked(everywhere, "Ask mother."), expected:
        refuse_blocked("example.org")


@pytest.mark.parametrize(
    ("host", "outside"),
    [
        ("127.0.0.1", False),
        ("127.8.8.8", False),
        ("::1", False),
        ("localhost", False),
        ("upstream.localhost", False),
        ("localhost.example.org", True),
        ("api.openai.com", True),
        ("10.0.0.1", True),
        ("0.0.0.0", True),
        ("2001:db8::1", True),
    ],
)
def test_what_is_beyond_loopback(host: str, outside: bool):  # noqa: FBT001 - a parameter of the test
    assert outside is beyond_loopback(host)
