"""The OpenAI provider: what it sends, what it leaves out, and what it makes of the answer."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from kor_core import errors
from kor_core.adapters import loading
from kor_core.adapters.network import Transport
from kor_core.adapters.openai import OpenAIProvider
from kor_core.interception import everywhere
from kor_core.llm.base import Credentials
from kor_core.settings import NetworkSettings
from kor_core.testing import Upstream, faults
from kor_core.testing.recording import Received


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as server:
        yield server


@pytest.fixture
def provider() -> OpenAIProvider:
    return OpenAIProvider(Transport(NetworkSettings()))


def request_of(
    upstream: Upstream, provider: OpenAIProvider, config: dict[str, Any], **kwargs: Any
) -> Received:
    config = {"base_url": upstream.openai_url, **config}
    asyncio.run(provider.create_model("gpt-4", config).agenerate("Hello!", **kwargs))
    return upstream.requests[-1]


MESSAGES = [{"role": "user", "content": "Hello!"}]


def test_only_what_is_set_is_sent(upstream: Upstream, provider: OpenAIProvider) -> None:
    request = request_of(upstream, provider, {"api_key": "sk-mine", "timeout": 20})

    assert {"model": "gpt-4", "messages": MESSAGES} == request.json
    assert "sk-mine" == request.key


def test_a_calls_settings_go_over_the_configured_ones(
    upstream: Upstream, provider: OpenAIProvider
) -> None:
    config = {"temperature": 0.2, "max_tokens": 5, "stop": ("END", "STOP")}

    request = request_of(upstream, provider, config, temperature=0.9, max_tokens=None, seed=7)

    expected = {"temperature": 0.9, "max_tokens": 5, "stop": ["END", "STOP"], "seed": 7}
    assert expected == {name: request.json[name] for name in expected}


def test_what_only_the_server_knows_goes_into_the_body(
    upstream: Upstream, provider: OpenAIProvider
) -> None:
    config = {"top_k": 5, "extra_body": {"guided_json": {}}}

    request = request_of(upstream, provider, config, extra={"min_p": 0.1})

    expected = {"top_k": 5, "guided_json": {}, "min_p": 0.1}
    assert expected == {name: request.json.get(name) for name in expected}
    assert "extra_body" not in request.json


def test_a_misspelt_setting_of_a_call_is_refused_before_it(
    upstream: Upstream, provider: OpenAIProvider
) -> None:
    with pytest.raises(errors.BadRequestError, match="Did you mean 'temperature'") as caught:
        request_of(upstream, provider, {}, temprature=0.9)

    assert ("openai", "gpt-4", False) == (
        caught.value.provider,
        caught.value.model,
        caught.value.retryable,
    )
    assert not upstream.requests


@pytest.mark.parametrize("name", ["model", "messages", "stream", "n"])
def test_what_the_provider_sends_itself_cannot_be_configured(
    name: str, provider: OpenAIProvider
) -> None:
    with pytest.raises(errors.ConfigurationError, match=name):
        provider.create_model("gpt-4", {name: "x"})


def test_the_hosts_environment_reaches_no_configured_endpoint(
    upstream: Upstream, provider: OpenAIProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("API_KEY", "ADMIN_KEY", "ORG_ID", "PROJECT_ID"):
        monkeypatch.setenv(f"OPENAI_{name}", "planted-of-host")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Host: planted-of-host")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/planted-of-host")

    request = request_of(upstream, provider, {})

    assert "no-key" == request.key
    assert not [value for value in request.headers.values() if "planted-of-host" in value]
    assert "openai-organization" not in request.headers
    assert "openai-project" not in request.headers


def test_the_default_endpoint_is_openais_whatever_the_environment_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    provider = OpenAIProvider(Transport(NetworkSettings(), blocked=everywhere))
    model = provider.create_model("gpt-4", {"api_key": "sk-mine"})

    with pytest.raises(errors.RealCallsBlockedError, match=r"api\.openai\.com"):
        asyncio.run(model.agenerate("Hello!"))


def test_what_is_configured_of_the_account_is_sent(
    upstream: Upstream, provider: OpenAIProvider
) -> None:
    config = {
        "organization": "org-1",
        "project": "proj-1",
        "extra_headers": {"x-gateway": "blue"},
        "extra_query": {"api-version": "1"},
    }

    request = request_of(upstream, provider, config)

    names = ("openai-organization", "openai-project", "x-gateway")
    assert ["org-1", "proj-1", "blue"] == [request.headers[name] for name in names]
    assert {"api-version": "1"} == request.query


def test_a_text_in_parts_is_joined(upstream: Upstream, provider: OpenAIProvider) -> None:
    parts = '[{"type": "text", "text": "Hel"}, {"type": "image"}, {"type": "text", "text": "lo"}]'
    upstream.play(faults.Body(f'{{"choices": [{{"message": {{"content": {parts}}}}}]}}'))
    model = provider.create_model("gpt-4", {"base_url": upstream.openai_url})

    assert "Hello" == asyncio.run(model.agenerate("Hi"))


def test_the_key_may_come_from_openais_own_variables(provider: OpenAIProvider) -> None:
    expected = Credentials(("OPENAI_API_KEY",), ("OPENAI_BASE_URL",), required=True)

    assert expected == provider.credentials("gpt-4")


def test_importing_the_adapters_imports_no_vendor() -> None:
    script = """
import sys
from kor_core.adapters.network import Transport
from kor_core.settings import NetworkSettings
transport = Transport(NetworkSettings())
from kor_core.adapters.litellm import LiteLLMProvider
from kor_core.adapters.openai import OpenAIProvider
for provider in (LiteLLMProvider, OpenAIProvider):
    provider(transport).create_model("gpt-4", {"api_key": "x"})
heavy = {"openai", "litellm", "httpx", "httpx2", "aiohttp", "tiktoken", "certifi"}
print(sorted(heavy & sys.modules.keys()))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )

    assert "[]\n" == done.stdout


# --- imports beside the loop ----------------------------------------------------------------


async def test_a_slow_import_happens_once_and_leaves_the_loop_free() -> None:
    imported: list[str] = []
    free = asyncio.Event()
    loop = asyncio.get_running_loop()

    def importing() -> str:
        # Ends only when the loop runs meanwhile.
        asyncio.run_coroutine_threadsafe(_set(free), loop).result(10)
        imported.append("once")
        return "module"

    found = await asyncio.gather(*(loading.load("test-slow", importing) for _ in range(5)))

    assert ["module"] * 5 == [*found, *[]]
    assert ["once"] == imported


async def _set(event: asyncio.Event) -> None:
    event.set()


async def test_a_failed_import_is_tried_again() -> None:
    answers: list[Any] = [ImportError("not yet"), "module"]

    def importing() -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    with pytest.raises(ImportError, match="not yet"):
        await loading.load("test-failing", importing)

    assert "module" == await loading.load("test-failing", importing)
    assert "module" == await loading.load("test-failing", importing)


async def test_a_cancelled_caller_leaves_the_import_to_the_others() -> None:
    begun, go = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def importing() -> str:
        loop.call_soon_threadsafe(begun.set)
        asyncio.run_coroutine_threadsafe(go.wait(), loop).result(10)
        return "module"

    impatient = asyncio.create_task(loading.load("test-cancelled", importing))
    await begun.wait()
    patient = asyncio.create_task(loading.load("test-cancelled", importing))
    await asyncio.sleep(0)
    impatient.cancel()
    go.set()

    assert "module" == await patient
    assert impatient.cancelled()
