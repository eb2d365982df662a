"""Whatever a model is called, litellm asks for it through KOR's connections, or not at all."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import pytest

from kor_core import errors
from kor_core.adapters.litellm import LiteLLMProvider
from kor_core.adapters.litellm_sdk import SDK
from kor_core.adapters.litellm_vendors import VENDORS
from kor_core.adapters.loading import load
from kor_core.adapters.network import Transport
from kor_core.llm.base import BaseLLMModel
from kor_core.settings import NetworkSettings
from kor_core.testing import ForwardProxy, Upstream

pytestmark = [
    pytest.mark.skipif(find_spec("litellm") is None, reason="litellm is not installed"),
    # litellm's import takes seconds, which no test is to reckon with.
    pytest.mark.usefixtures("litellm_ready"),
]

REACHED = sorted(name for name, vendor in VENDORS.items() if vendor.reached)


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as server:
        yield server


@pytest.fixture
def proxy() -> Iterator[ForwardProxy]:
    with ForwardProxy() as server:
        yield server


def model_at(upstream: Upstream, name: str, **network: Any) -> BaseLLMModel:
    config = {"api_key": "sk-planted", "base_url": upstream.url, "timeout": 10}
    return LiteLLMProvider(Transport(NetworkSettings(**network))).create_model(name, config)


@pytest.mark.parametrize(
    "name",
    [
        *(f"{vendor}/responses/x" for vendor in REACHED),
        *("openai/org/RESPONSES/x", "azure_ai/agents/x", "azure_ai/my-agents/x"),
        *("anthropic/claude-2", "claude-2.1", "claude-instant-1", "claude-2"),
        *(
            "gemini/../../evil/path",
            "gemini/./x",
            "gemini/a//b",
            "gemini/..\\..\\x",
            "gemini/%2E%2e",
        ),
        *("openai/../x", "openai/a/./b"),
    ],
)
def test_a_name_that_leads_elsewhere_is_refused(name: str, upstream: Upstream) -> None:
    with pytest.raises(errors.ConfigurationError, match="is not called: it"):
        model_at(upstream, name)


@pytest.mark.parametrize(
    "name", ["claude-3-opus", "anthropic/claude-20", "openrouter/x/agent", "hosted_vllm//models/x"]
)
def test_a_name_that_only_resembles_one_is_taken(name: str, upstream: Upstream) -> None:
    assert name == model_at(upstream, name).model_name


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


async def test_what_litellm_would_bridge_for_its_settings_is_refused(upstream: Upstream) -> None:
    """Newer models with tools and an effort: it decides by the request, and so does this."""
    model = model_at(upstream, "openai/gpt-5.6")
    effort = {"extra": {"reasoning_effort": "high"}}
    summary = {"extra": {"reasoning_effort": "high", "reasoning_summary": "auto"}}

    for ask in (
        model.achat("Hello!", tools=[add], settings=effort),
        model.achat("Hello!", settings=summary),
    ):
        with pytest.raises(errors.BadRequestError, match="by OpenAI's Responses API alone"):
            await ask

    assert () == upstream.requests
    assert "Hello!" == (await model.achat("Hello!")).text


async def test_releases_without_such_a_rule_are_judged_by_the_table_alone(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(await load("litellm", SDK), "_bridge", None)

    assert "Hello!" == (await model_at(upstream, "openai/gpt-4").achat("Hello!", tools=[add])).text
    with pytest.raises(errors.BadRequestError, match="by OpenAI's Responses API alone"):
        await model_at(upstream, "openai/o1-pro").achat("Hello!")


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_every_name_that_litellm_knows_goes_through_the_proxy_or_nowhere(
    upstream: Upstream, proxy: ForwardProxy, rounds: Callable[[int], int]
) -> None:
    names = names_known_to(import_module("litellm"))
    step = len(names) // rounds(len(names))

    async def ask() -> None:
        transport = Transport(NetworkSettings(proxy=proxy.url))
        provider = LiteLLMProvider(transport)
        for name in names[::step]:
            config = {"api_key": "sk-planted", "base_url": upstream.url, "timeout": 10}
            with suppress(errors.KorError):
                await provider.create_model(name, config).achat("Hello!")
        await transport.aclose()

    asyncio.run(ask())

    assert len(names) > 1000
    assert len(names) // step // 2 < len(upstream.requests) == len(proxy.requests)


def names_known_to(litellm: Any) -> list[str]:
    """Return every name of its table, by the vendors that are called, with the vendor in front."""
    found = set[str]()
    for name, facts in litellm.model_cost.items():
        vendor = str(facts.get("litellm_provider"))
        if vendor in REACHED:
            found.add(name if name.startswith(f"{vendor}/") else f"{vendor}/{name}")
    return sorted(found)
