"""The LiteLLM provider: many vendors, no state of the process, no key by accident."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import pytest

from kor_core import errors
from kor_core.adapters.litellm import LiteLLMProvider
from kor_core.adapters.litellm_sdk import _internal_call
from kor_core.adapters.litellm_vendors import VENDORS, qualified, vendor_of
from kor_core.adapters.network import Transport
from kor_core.interception import everywhere
from kor_core.llm.base import Credentials
from kor_core.settings import NetworkSettings
from kor_core.testing import Upstream

# litellm's import takes seconds, which no test is to reckon with.
pytestmark = pytest.mark.usefixtures("litellm_ready")

needs_litellm = pytest.mark.skipif(
    find_spec("litellm") is None, reason="litellm cannot be installed beside this openai"
)


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as server:
        yield server


@pytest.fixture
def provider() -> LiteLLMProvider:
    return LiteLLMProvider(Transport(NetworkSettings()))


# --- names and keys -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bare", "expected"),
    [
        ("claude-3-opus", "anthropic/claude-3-opus"),
        ("claude-sonnet-4-5", "anthropic/claude-sonnet-4-5"),
        ("gemini-1.5-pro", "gemini/gemini-1.5-pro"),
        ("deepseek-chat", "deepseek/deepseek-chat"),
        ("mistral-large", "mistral/mistral-large"),
        ("open-mixtral-8x22b", "mistral/open-mixtral-8x22b"),
        ("codestral-latest", "mistral/codestral-latest"),
        ("command-r", "cohere/command-r"),
        ("command", "cohere/command"),
        ("grok-4", "xai/grok-4"),
        ("gpt-4o", "openai/gpt-4o"),
        ("o3", "openai/o3"),
        ("o4-mini", "openai/o4-mini"),
        ("ft:gpt-4o:acme::x1", "openai/ft:gpt-4o:acme::x1"),
        ("sonar-pro", "perplexity/sonar-pro"),
        ("kimi-k2", "moonshot/kimi-k2"),
        ("Claude-3-Opus", "anthropic/Claude-3-Opus"),
        ("llama3:8b", "llama3:8b"),
        ("commander", "commander"),
        ("o3x", "o3x"),
        ("ollama/llama3:8b", "ollama/llama3:8b"),
        ("openrouter/anthropic/claude-3-opus", "openrouter/anthropic/claude-3-opus"),
    ],
)
def test_a_bare_name_goes_to_whose_it_is_and_others_stay(bare: str, expected: str) -> None:
    assert expected == qualified(bare)


def test_the_vendor_is_what_stands_before_the_first_slash() -> None:
    names = ["openrouter/anthropic/claude-3-opus", "claude-3-opus", "llama3"]

    assert ["openrouter", "anthropic", ""] == [vendor_of(name) for name in names]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "claude-3-opus",
            Credentials(
                ("ANTHROPIC_API_KEY",),
                ("ANTHROPIC_BASE_URL", "ANTHROPIC_API_BASE"),
                required=True,
            ),
        ),
        ("ollama/llama3", Credentials((), ("OLLAMA_API_BASE",))),
        ("hosted_vllm/x", Credentials((), ("HOSTED_VLLM_API_BASE",), required=True)),
        ("bedrock/x", Credentials(("AWS_BEARER_TOKEN_BEDROCK",), ambient=True)),
        ("sagemaker/x", Credentials(("SAGEMAKER_API_KEY",), ambient=True)),
        ("novita/x", Credentials(("NOVITA_API_KEY",), ambient=True)),
        ("llama3", Credentials(vendor="llama3", ambient=True)),
    ],
)
def test_a_models_key_may_come_from_its_vendors_variables(
    name: str, expected: Credentials, provider: LiteLLMProvider
) -> None:
    assert replace(expected, vendor=vendor_of(name) or name) == provider.credentials(name)


@pytest.mark.parametrize("name", ["huggingface/https://evil.example/v1", "http://evil.example"])
def test_a_name_that_holds_an_endpoint_is_refused(name: str, provider: LiteLLMProvider) -> None:
    with pytest.raises(errors.ConfigurationError, match="holds an endpoint"):
        provider.create_model(name, {"api_key": "sk-mine"})


@pytest.mark.parametrize(
    "name",
    [
        "input_cost_per_token",
        "fallbacks",
        "metadata",
        "mock_response",
        "client",
        "callbacks",
        "api_base",
    ],
)
def test_what_would_reach_litellms_own_machinery_is_refused(
    name: str, provider: LiteLLMProvider
) -> None:
    with pytest.raises(errors.ConfigurationError) as caught:
        provider.create_model("claude-3-opus", {name: "x"})

    assert [f"llm.providers.litellm.extra.{name}"] == [p.key for p in caught.value.problems]


def test_a_misspelt_setting_names_the_nearest(provider: LiteLLMProvider) -> None:
    with pytest.raises(errors.ConfigurationError, match="Did you mean 'drop_params'"):
        provider.create_model("claude-3-opus", {"drop_param": True})


@pytest.mark.parametrize("name", ["hosted_vllm/x", "azure_ai/x", "lm_studio/x"])
def test_a_key_goes_to_no_endpoint_of_the_hosts_environment(
    name: str, provider: LiteLLMProvider
) -> None:
    with pytest.raises(errors.ConfigurationError, match="has no endpoint of its own"):
        provider.create_model(name, {"api_key": "sk-mine"})

    provider.create_model(name, {"base_url": "http://127.0.0.1:9"})


# --- calls ----------------------------------------------------------------------------------

# name, attribute of the upstream, path, and the model's name where the body has one
WIRES = [
    ("claude-3-opus", "url", "/v1/messages", "claude-3-opus"),
    ("gemini-1.5-pro", "gemini_url", "/v1beta/models/gemini-1.5-pro:generateContent", None),
    ("gpt-4o", "openai_url", "/v1/chat/completions", "gpt-4o"),
    ("groq/llama-3.3-70b", "openai_url", "/v1/chat/completions", "llama-3.3-70b"),
    ("deepseek-chat", "openai_url", "/v1/chat/completions", "deepseek-chat"),
    ("mistral-large", "openai_url", "/v1/chat/completions", "mistral-large"),
    ("grok-4", "openai_url", "/v1/chat/completions", "grok-4"),
    ("openrouter/a/b", "openai_url", "/v1/chat/completions", "a/b"),
    ("ollama/llama3:8b", "url", "/v1/chat/completions", "llama3:8b"),
    ("ollama_chat/llama3:8b", "openai_url", "/v1/chat/completions", "llama3:8b"),
]


@needs_litellm
@pytest.mark.parametrize("row", WIRES, ids=lambda row: row[0])
async def test_a_vendor_is_asked_in_its_own_format_with_the_prompt_verbatim(
    row: tuple[str, str, str, str | None], upstream: Upstream, provider: LiteLLMProvider
) -> None:
    name, url, path, sent = row
    config = {"api_key": "sk-mine", "base_url": getattr(upstream, url)}

    answer = await provider.create_model(name, config).agenerate("Hello  there!\n")

    (request,) = upstream.requests
    assert "Hello  there!\n" == answer
    assert (path, "sk-mine") == (request.path, request.key)
    assert sent is None or sent == request.model


@needs_litellm
async def test_an_anthropic_endpoint_is_right_with_and_without_its_version(
    upstream: Upstream, provider: LiteLLMProvider
) -> None:
    for end in ("", "/", "/v1", "/v1/", "/v1/messages"):
        config = {"base_url": upstream.url + end}
        await provider.create_model("claude-3-opus", config).agenerate("Hello!")

    assert {"/v1/messages"} == {request.path for request in upstream.requests}


@needs_litellm
@pytest.mark.parametrize(("name", "url"), [row[:2] for row in WIRES])
async def test_the_hosts_key_and_account_reach_no_configured_endpoint(
    name: str,
    url: str,
    upstream: Upstream,
    provider: LiteLLMProvider,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for vendor in VENDORS.values():
        for variable in (*vendor.keys, "OPENAI_ORGANIZATION", "OPENAI_ORG_ID", "OLLAMA_API_KEY"):
            monkeypatch.setenv(variable, "planted-of-host")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Host: planted-of-host")

    await provider.create_model(name, {"base_url": getattr(upstream, url)}).agenerate("Hello!")

    (request,) = upstream.requests
    assert not [value for value in request.headers.values() if "planted-of-host" in value]
    assert "planted-of-host" not in str(request.query)


@needs_litellm
@pytest.mark.parametrize(
    ("name", "host"),
    [
        ("claude-3-opus", "api.anthropic.com"),
        ("gemini-1.5-pro", "generativelanguage.googleapis.com"),
        ("gpt-4o", "api.openai.com"),
        ("ollama/llama3", "localhost"),
    ],
)
async def test_a_configured_key_goes_to_the_vendor_not_to_the_hosts_endpoint(
    name: str, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for vendor in VENDORS.values():
        for variable in vendor.urls:
            monkeypatch.setenv(variable, "http://host.invalid/v1")
    provider = LiteLLMProvider(Transport(NetworkSettings(), blocked=everywhere))

    with pytest.raises(errors.RealCallsBlockedError, match=f"would go to {host}"):
        await provider.create_model(name, {"api_key": "sk-mine"}).agenerate("Hello!")


@needs_litellm
async def test_a_name_nobody_knows_is_refused_with_the_cure(
    upstream: Upstream, provider: LiteLLMProvider
) -> None:
    model = provider.create_model("llama3", {"base_url": upstream.url})

    with pytest.raises(errors.ModelNotFoundError, match="such as 'ollama/llama3'"):
        await model.agenerate("Hello!")

    assert not upstream.requests


@needs_litellm
async def test_a_misspelt_setting_of_a_call_is_refused_before_it(
    upstream: Upstream, provider: LiteLLMProvider
) -> None:
    model = provider.create_model("claude-3-opus", {"base_url": upstream.url})

    with pytest.raises(errors.BadRequestError, match="Did you mean 'temperature'"):
        await model.agenerate("Hello!", temprature=0.2)

    assert not upstream.requests


@needs_litellm
async def test_headers_and_settings_that_are_configured_are_sent(
    upstream: Upstream, provider: LiteLLMProvider
) -> None:
    config = {
        "base_url": upstream.url,
        "temperature": 0.2,
        "stop": ("END",),
        "top_k": 5,
        "extra_headers": {"x-gateway": "blue"},
    }

    await provider.create_model("claude-3-opus", config).agenerate("Hello!", max_tokens=9)

    (request,) = upstream.requests
    expected = {"temperature": 0.2, "stop_sequences": ["END"], "top_k": 5, "max_tokens": 9}
    assert expected == {name: request.json.get(name) for name in expected}
    assert "blue" == request.headers["x-gateway"]


@needs_litellm
async def test_without_drop_params_what_a_vendor_lacks_is_an_error_before_the_call(
    upstream: Upstream, provider: LiteLLMProvider
) -> None:
    model = provider.create_model("claude-3-opus", {"base_url": upstream.url, "seed": 7})

    with pytest.raises(errors.BadRequestError, match="seed"):
        await model.agenerate("Hello!")

    assert not upstream.requests


TOOLS = [{"type": "function", "function": {"name": "now", "parameters": {"type": "object"}}}]
SCHEMA = {
    "type": "json_schema",
    "json_schema": {"name": "Now", "schema": {"type": "object", "properties": {}}},
}


@needs_litellm
async def test_drop_params_leaves_out_hints_and_keeps_what_changes_the_meaning(
    upstream: Upstream, provider: LiteLLMProvider
) -> None:
    """litellm knows no tools at this vendor, and no JSON mode for gpt-4."""
    config = {"base_url": upstream.openai_url, "drop_params": True, "seed": 7}
    schema = {"type": "json_object"}

    await provider.create_model("sambanova/x", config).agenerate("Hello!", tools=TOOLS)
    await provider.create_model("gpt-4", config).agenerate("Hello!", response_format=schema)

    with_tools, with_schema = upstream.requests
    assert TOOLS == with_tools.json["tools"]
    assert schema == with_schema.json["response_format"]
    assert "seed" not in with_tools.json
    assert "drop_params" not in with_tools.json


@needs_litellm
@pytest.mark.parametrize("drops", [True, False])
async def test_what_is_translated_for_a_vendor_is_not_sent_untranslated_too(
    *, drops: bool, upstream: Upstream, provider: LiteLLMProvider
) -> None:
    """Anthropic and Gemini refuse a request that holds a field of OpenAI's."""
    settings = {"stop": ["END"], "max_tokens": 9, "tools": TOOLS, "tool_choice": "auto"}
    config = {"drop_params": drops}
    claude = provider.create_model("claude-3-opus", {**config, "base_url": upstream.url})
    gemini = provider.create_model("gemini-1.5-pro", {**config, "base_url": upstream.gemini_url})

    for model in (claude, gemini):
        await model.agenerate("Hello!", **settings)
        upstream.reply("{}")
        await model.agenerate("Hello!", response_format=SCHEMA)

    sent = [
        {**request.json, **request.json.get("generationConfig", {})}
        for request in upstream.requests
    ]
    theirs = {"stop", "response_format"}
    assert [set()] * 4 == [theirs & fields.keys() for fields in sent]
    assert {"type": "auto"} == sent[0]["tool_choice"]
    assert ["END"] == sent[0]["stop_sequences"] == sent[2]["stop_sequences"]
    assert 9 == sent[2]["max_output_tokens"]
    assert "tool_choice" not in sent[2]


# --- litellm's own state --------------------------------------------------------------------


def state() -> dict[str, Any]:
    """The globals of litellm that hold settings, callbacks and caches."""
    litellm = import_module("litellm")
    kept = (bool, int, float, str, list, dict, type(None))
    return {
        name: (len(value) if isinstance(value, dict) else repr(value))
        for name, value in vars(litellm).items()
        if isinstance(value, kept) and not name.startswith("__")
    }


@needs_litellm
async def test_calls_change_no_global_of_litellm_and_cache_no_client(
    upstream: Upstream, provider: LiteLLMProvider
) -> None:
    config = {"api_key": "sk-mine", "base_url": upstream.url, "drop_params": True}
    model = provider.create_model("claude-3-opus", config)
    await model.agenerate("warm up")
    before = state()

    await model.agenerate("Hello!", temperature=0.2)
    upstream.fail(429)
    with pytest.raises(errors.RateLimitError):
        await model.agenerate("Hello!")

    litellm = import_module("litellm")
    assert before == state()
    assert "sk-mine" not in str(litellm.in_memory_llm_clients_cache.cache_dict)


@needs_litellm
async def test_the_applications_callbacks_and_cache_are_given_nothing(
    upstream: Upstream, provider: LiteLLMProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = provider.create_model("claude-3-opus", {"api_key": "sk-mine", "base_url": upstream.url})
    await model.agenerate("warm up")
    litellm = import_module("litellm")
    seen: list[Any] = []
    monkeypatch.setattr(litellm, "success_callback", [lambda *args: seen.append(args)])
    monkeypatch.setattr(litellm, "failure_callback", [lambda *args: seen.append(args)])
    monkeypatch.setattr(litellm, "cache", litellm.Cache(type="local"))

    await model.agenerate("same")
    await model.agenerate("same")
    upstream.fail(500)
    with pytest.raises(errors.ProviderError):
        await model.agenerate("failing")
    await asyncio.sleep(0.1)

    assert 4 == len(upstream.requests)
    assert [] == seen


@needs_litellm
async def test_a_litellm_without_a_mark_for_internal_calls_serves_too(
    upstream: Upstream, provider: LiteLLMProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = provider.create_model("claude-3-opus", {"base_url": upstream.url})
    await model.agenerate("warm up")  # as it is, so that the import is complete
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "litellm._internal_context", None)
        mark = _internal_call()

    token = mark.set(True)
    mark.reset(token)

    assert mark.get() is False


@needs_litellm
def test_the_import_asks_no_network_and_leaves_the_environment_and_the_output_alone(
    upstream: Upstream,
) -> None:
    script = f"""
import asyncio, os, socket, threading
asked, files = [], []
import dotenv
dotenv.load_dotenv = lambda *args, **kwargs: files.append("a .env file is read")
real = socket.getaddrinfo
def getaddrinfo(host, *args, **kwargs):
    if host not in ("127.0.0.1", None):
        asked.append(host)
    return real(host, *args, **kwargs)
socket.getaddrinfo = getaddrinfo
from kor_core.adapters.litellm import LiteLLMProvider
from kor_core.adapters.network import Transport
from kor_core.settings import NetworkSettings
before = dict(os.environ)
model = LiteLLMProvider(Transport(NetworkSettings())).create_model(
    "claude-3-opus", {{"api_key": "sk-mine", "base_url": "{upstream.url}"}}
)
ticks = 0
async def main():
    async def tick():
        global ticks
        while True:
            await asyncio.sleep(0.05)
            ticks += 1
    ticking = asyncio.create_task(tick())
    print(await model.agenerate("Hello!"))
    ticking.cancel()
asyncio.run(main())
print(asked + files, before == dict(os.environ), ticks > 5, threading.active_count())
"""
    done = subprocess.run(
        [sys.executable, "-c", script], check=False, capture_output=True, text=True, timeout=100
    )

    assert ("Hello!\n[] True True 1\n", "") == (done.stdout, done.stderr)


@needs_litellm
def test_what_the_host_set_for_litellm_is_hidden_from_its_import_and_is_there_after_it(
    upstream: Upstream,
) -> None:
    """Another thread's variable, set in the meantime, stays too."""
    host = {
        "DEFAULT_ANTHROPIC_CHAT_MAX_TOKENS": "7",
        "LITELLM_DROP_PARAMS": "true",
        "LITELLM_LOG": "DEBUG",
        "LITELLM_MODIFY_PARAMS": "true",
        "TIKTOKEN_CACHE_DIR": "/nowhere",
    }
    script = f"""
import asyncio, os
from kor_core.adapters.litellm import LiteLLMProvider
from kor_core.adapters.network import Transport
from kor_core.errors import BadRequestError
from kor_core.settings import NetworkSettings
before = dict(os.environ)
provider = LiteLLMProvider(Transport(NetworkSettings()))
model = provider.create_model("claude-3-opus", {{"base_url": "{upstream.url}"}})
async def main():
    asking = asyncio.create_task(model.agenerate("Hello!"))
    while "LITELLM_LOG" in os.environ:
        await asyncio.sleep(0.01)
    os.environ["OF_ANOTHER_THREAD"] = "kept"
    await asking
    try:
        await model.agenerate("Hello!", seed=7)
    except BadRequestError:
        print("not dropped")
asyncio.run(main())
print(os.environ.pop("OF_ANOTHER_THREAD", None), before == dict(os.environ))
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, **host},
        check=False,
        capture_output=True,
        text=True,
        timeout=100,
    )

    assert ("not dropped\nkept True\n", "") == (done.stdout, done.stderr)
    assert 7 != upstream.requests[0].json["max_tokens"]
