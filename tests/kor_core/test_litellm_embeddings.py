"""Embeddings through litellm: over KOR's connections, in the order of the texts."""

import base64
import json
import socket
import struct
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from kor_core import errors
from kor_core.adapters.litellm import LiteLLMProvider
from kor_core.adapters.litellm_vendors import VENDORS
from kor_core.adapters.network import Transport
from kor_core.llm.base import BaseLLMModel
from kor_core.settings import NetworkSettings
from kor_core.testing import ForwardProxy, Upstream, faults
from kor_core.testing.replies import Reply

# litellm's import takes seconds, which no test is to reckon with.
pytestmark = pytest.mark.usefixtures("litellm_ready")

needs_litellm = pytest.mark.skipif(
    find_spec("litellm") is None, reason="litellm cannot be installed beside this openai"
)

MAKING = sorted(name for name, vendor in VENDORS.items() if vendor.embeds_as)
OTHERS = sorted(name for name, v in VENDORS.items() if v.reached and not v.embeds_as)


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as server:
        yield server


@pytest.fixture
def proxy() -> Iterator[ForwardProxy]:
    with ForwardProxy() as server:
        yield server


@pytest.fixture
def connected(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The ports that something in this process connected to."""
    ports: list[int] = []
    connect = socket.socket.connect

    def noting(self: socket.socket, address: Any) -> None:
        if self.family == socket.AF_INET:
            ports.append(address[1])
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", noting)
    return ports


def model_of(vendor: str, upstream: Upstream, proxy: str = "", **config: Any) -> BaseLLMModel:
    url = upstream.gemini_url if vendor == "gemini" else upstream.openai_url
    provider = LiteLLMProvider(Transport(NetworkSettings(proxy=proxy or None)))
    base = {"base_url": url, "api_key": "sk-mine"}
    return provider.create_model(f"{vendor}/some-model", {**base, **config})


@needs_litellm
@pytest.mark.parametrize("vendor", MAKING)
async def test_vectors_come_in_order_through_our_connections_and_no_others(  # noqa: PLR0917  # fixtures
    vendor: str,
    upstream: Upstream,
    proxy: ForwardProxy,
    connected: list[int],
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for variable in (*VENDORS[vendor].urls, "OPENAI_BASE_URL"):
        monkeypatch.setenv(variable, "http://host.invalid/v1")
    for variable in (*VENDORS[vendor].keys, "OPENAI_API_KEY"):
        monkeypatch.setenv(variable, "planted-of-host")
    upstream.embed([1.0, 0.5], [2.0, 0.25])

    found = await model_of(vendor, upstream, proxy.url).aembed(["one", "two"])

    (request,) = upstream.requests
    assert ((1.0, 0.5), (2.0, 0.25)) == found.vectors
    assert found.usage is not None
    assert "some-model" == found.model_id == request.json["model"]
    assert ["one", "two"] == request.json["input"]
    assert "sk-mine" == request.key
    assert "planted-of-host" not in str(dict(request.headers.items()))
    assert found.request_id
    assert 1 == len(proxy.requests)
    ours = {int(server.url.rpartition(":")[2]) for server in (proxy, upstream)}
    assert ours == set(connected)
    assert ("", "") == capfd.readouterr()


@needs_litellm
async def test_gemini_is_asked_where_it_speaks_as_openai_does(upstream: Upstream) -> None:
    await model_of("gemini", upstream).aembed("one")

    assert "/v1beta/openai/embeddings" == upstream.requests[0].path


@pytest.mark.parametrize("vendor", OTHERS)
async def test_another_vendor_is_not_asked_and_the_error_says_what_to_use(
    vendor: str, upstream: Upstream
) -> None:
    model = model_of(vendor, upstream)

    with pytest.raises(errors.CapabilityNotSupportedError, match="Use the provider openai") as got:
        await model.aembed("one")

    assert ("embeddings", "litellm") == (got.value.capability, got.value.provider)
    assert model.profile.supports("embeddings") is False
    assert not upstream.requests


@needs_litellm
async def test_many_texts_go_in_batches(upstream: Upstream) -> None:
    texts = [str(number) for number in range(250)]

    found = await model_of("openai", upstream).aembed(texts)

    assert 250 == len(found.vectors)
    assert [100, 100, 50] == [len(request.json["input"]) for request in upstream.requests]


@needs_litellm
async def test_numbers_may_be_packed_and_in_any_order(upstream: Upstream) -> None:
    packed = [base64.b64encode(struct.pack("<2f", n, 0.5)).decode() for n in (2, 1)]
    rows = [{"index": 1 - n, "embedding": row} for n, row in enumerate(packed)]
    upstream.play(faults.Body(json.dumps({"data": rows})))

    found = await model_of("openai", upstream).aembed(["one", "two"])

    assert (((1.0, 0.5), (2.0, 0.5)), None) == (found.vectors, found.usage)


@needs_litellm
async def test_only_settings_for_embeddings_are_sent(upstream: Upstream) -> None:
    provider = LiteLLMProvider(Transport(NetworkSettings()))
    config = {"temperature": 0.5, "user": "me", "extra_body": {"a": 1}}
    # Of other models of OpenAI, litellm refuses `dimensions`.
    name = "openai/text-embedding-3-small"
    model = provider.create_model(name, {"base_url": upstream.openai_url, **config})

    await model.aembed("one", settings={"extra": {"dimensions": 4, "input_type": "query"}})

    sent = dict(upstream.requests[0].json)
    del sent["model"], sent["input"]
    sent.pop("encoding_format", None)  # the SDK's own choice
    assert {"user": "me", "a": 1, "dimensions": 4, "input_type": "query"} == sent


@needs_litellm
@pytest.mark.parametrize("name", ["input", "model", "api_key"])
async def test_what_is_not_for_a_call_cannot_be_given_as_extra(
    name: str, upstream: Upstream
) -> None:
    with pytest.raises(errors.BadRequestError, match=f"'{name}' is not for a call"):
        await model_of("openai", upstream).aembed("one", settings={"extra": {name: "x"}})

    assert not upstream.requests


@needs_litellm
@pytest.mark.parametrize("vendor", ["openai", "mistral", "gemini", "ollama"])
async def test_errors_are_typed_and_show_no_key(vendor: str, upstream: Upstream) -> None:
    upstream.fail(429, message="Too many for sk-planted.", retry_after=2)
    upstream.play(faults.Html()).embed([1.0])
    model = model_of(vendor, upstream, api_key="sk-planted")

    with pytest.raises(errors.RateLimitError, match="Too many") as limited:
        await model.aembed("one")
    with pytest.raises(errors.ProviderError, match="HTML page"):
        await model.aembed("one")
    with pytest.raises(errors.ProviderError, match="1 embeddings for 2 texts"):
        await model.aembed(["one", "two"])

    assert 2.0 == limited.value.retry_after
    assert "sk-planted" not in f"{limited.value!r} {limited.value.__cause__!r}"
    assert 3 == len(upstream.requests)


@needs_litellm
async def test_a_deadline_holds_for_embeddings_too(upstream: Upstream) -> None:
    upstream.play(faults.Hang(), api="openai.embeddings")
    model = model_of("openai", upstream)
    await model.achat("warm up")

    with pytest.raises(errors.LLMTimeoutError, match="of 1 s"):
        await model.aembed("one", settings={"timeout": 1})


@needs_litellm
async def test_usage_of_embeddings_is_what_the_vendor_counted(upstream: Upstream) -> None:
    upstream.reply(Reply(vectors=[[1.0]], input_tokens=7), api="openai.embeddings")

    found = await model_of("ollama", upstream).aembed("one")

    assert found.usage is not None
    assert 7 == found.usage.input_tokens


def test_the_page_on_providers_lists_who_makes_embeddings() -> None:
    page = Path(__file__).parents[2].joinpath("docs", "providers.md").read_text(encoding="utf-8")

    assert f"`aembed` works with {', '.join(f'`{name}`' for name in MAKING)}." in page
