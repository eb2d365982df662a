"""Every vendor behind litellm that is called: through KOR's connections, by KOR's configuration."""

import socket
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from kor_core import errors
from kor_core.adapters.litellm import LiteLLMProvider
from kor_core.adapters.litellm_vendors import UNTRIED, VENDORS
from kor_core.adapters.network import Transport
from kor_core.settings import NetworkSettings
from kor_core.testing import ForwardProxy, Upstream, faults

# litellm's import takes seconds, which no test is to reckon with.
pytestmark = pytest.mark.usefixtures("litellm_ready")

needs_litellm = pytest.mark.skipif(
    find_spec("litellm") is None, reason="litellm cannot be installed beside this openai"
)

CALLED = sorted(name for name, vendor in VENDORS.items() if vendor.reached)
REFUSED = sorted(name for name, vendor in VENDORS.items() if not vendor.reached)

# Of the host, and read by litellm while it makes a call: found by recording what it reads.
READ = [
    "ANTHROPIC_AUTH_TOKEN",
    "LITELLM_ANTHROPIC_DISABLE_URL_SUFFIX",
    "LITELLM_API_KEY",
    "LITELLM_PROXY_API_BASE",
    "LITELLM_PROXY_API_KEY",
    "LITELLM_USER_AGENT",
    "MISTRAL_AZURE_API_BASE",
    "MISTRAL_AZURE_API_KEY",
    "OPENAI_ADMIN_KEY",
    "OPENAI_LIKE_API_BASE",
    "OPENAI_ORGANIZATION",
    "OPENAI_ORG_ID",
    "OPENAI_PROJECT_ID",
    "OPENAI_WEBHOOK_SECRET",
    "OR_API_KEY",
    "OR_APP_NAME",
    "OR_SITE_URL",
    "TOGETHER_AI_TOKEN",
    "FIREWORKS_AI_TOKEN",
    "VERTEXAI_CREDENTIALS",
    "VERTEXAI_LOCATION",
    "VERTEXAI_PROJECT",
]
PLANTED = "planted-of-host"


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


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch, upstream: Upstream) -> None:
    """Fill every variable that litellm reads for a vendor with something of the host's."""
    for name, vendor in VENDORS.items():
        for variable in (*vendor.keys, f"{name.upper()}_API_KEY", f"{name.upper()}_TOKEN"):
            monkeypatch.setenv(variable, PLANTED)
        for variable in (*vendor.urls, f"{name.upper()}_API_BASE"):
            monkeypatch.setenv(variable, f"{upstream.url}/{PLANTED}")
    for variable in READ:
        monkeypatch.setenv(variable, PLANTED)
    monkeypatch.setenv("LITELLM_ANTHROPIC_DISABLE_URL_SUFFIX", "true")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", f"X-Host: {PLANTED}")


def port(server: Upstream | ForwardProxy) -> int:
    return int(server.url.rpartition(":")[2])


def base_url(vendor: str, upstream: Upstream) -> str:
    by_vendor = {"anthropic": upstream.url, "gemini": upstream.gemini_url}
    return by_vendor.get(vendor, upstream.openai_url)


@needs_litellm
@pytest.mark.parametrize("vendor", CALLED)
@pytest.mark.usefixtures("planted")
async def test_one_request_goes_through_our_connections_with_the_configured_key_and_nothing_else(
    vendor: str,
    upstream: Upstream,
    proxy: ForwardProxy,
    connected: list[int],
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Our connections use the proxy of [network], and the connections of litellm do not."""
    provider = LiteLLMProvider(Transport(NetworkSettings(proxy=proxy.url)))
    config = {"api_key": "sk-mine", "base_url": base_url(vendor, upstream)}

    answer = await provider.create_model(f"{vendor}/some-model", config).agenerate("Hello!")

    (request,) = upstream.requests
    assert "Hello!" == answer
    assert "sk-mine" == request.key
    assert 1 == len(proxy.requests)
    assert {port(proxy), port(upstream)} == set(connected)  # the proxy's own is the second
    received = f"{request.path} {request.query} {dict(request.headers.items())} {request.json}"
    assert PLANTED not in received
    assert ("", "") == capfd.readouterr()


@needs_litellm
@pytest.mark.parametrize("vendor", CALLED)
@pytest.mark.usefixtures("planted")
async def test_without_a_key_the_hosts_is_not_taken(
    vendor: str, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_FEDERATION_RULE_ID", PLANTED)
    monkeypatch.setenv("ANTHROPIC_ORGANIZATION_ID", PLANTED)
    provider = LiteLLMProvider(Transport(NetworkSettings()))
    config = {"base_url": base_url(vendor, upstream)}

    await provider.create_model(f"{vendor}/some-model", config).agenerate("Hello!")

    (request,) = upstream.requests
    assert "no-key" == request.key


@needs_litellm
@pytest.mark.parametrize("vendor", CALLED)
@pytest.mark.parametrize(
    "fault", [faults.Status(429), faults.Status(500), faults.Reset()], ids=repr
)
async def test_what_fails_is_asked_once(
    vendor: str, fault: faults.Fault, upstream: Upstream
) -> None:
    provider = LiteLLMProvider(Transport(NetworkSettings()))
    model = provider.create_model(f"{vendor}/some-model", {"base_url": base_url(vendor, upstream)})
    upstream.play(fault)

    with pytest.raises(errors.LLMError):
        await model.agenerate("Hello!")

    assert (1, 0) == (len(upstream.requests), upstream.unplayed)


@needs_litellm
@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("USE_LITELLM_PROXY", "True"),
        ("LITELLM_RUST", "1"),
        ("EXPERIMENTAL_OPENAI_BASE_LLM_HTTP_HANDLER", "true"),
        ("LITELLM_PRINT_STANDARD_LOGGING_PAYLOAD", "false"),  # any value switches it on
    ],
)
async def test_a_variable_that_would_act_on_every_call_is_refused_by_name(
    variable: str, value: str, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = LiteLLMProvider(Transport(NetworkSettings()))
    model = provider.create_model("gpt-4o", {"base_url": upstream.openai_url})
    monkeypatch.setenv(variable, value)

    with pytest.raises(errors.ConfigurationError, match=f"{variable} is set") as caught:
        await model.agenerate("Hello!")

    assert [variable] == [problem.key for problem in caught.value.problems]
    assert not upstream.requests


@needs_litellm
async def test_a_variable_that_is_switched_off_is_no_obstacle(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = LiteLLMProvider(Transport(NetworkSettings()))
    model = provider.create_model("gpt-4o", {"base_url": upstream.openai_url})
    monkeypatch.setenv("USE_LITELLM_PROXY", "False")
    monkeypatch.setenv("LITELLM_RUST", "0")

    assert "Hello!" == await model.agenerate("Hello!")


@pytest.mark.parametrize("vendor", [*REFUSED, "novita"])
def test_no_other_vendor_is_called_and_the_error_says_what_to_use(vendor: str) -> None:
    provider = LiteLLMProvider(Transport(NetworkSettings()))

    with pytest.raises(errors.ConfigurationError) as caught:
        provider.create_model(f"{vendor}/x", {"api_key": "sk-mine", "base_url": "http://x"})

    instead = VENDORS.get(vendor, UNTRIED).instead
    assert instead
    assert f"Use {instead}." in str(caught.value)


def test_the_page_on_providers_lists_the_vendors_as_they_are() -> None:
    page = Path(__file__).parents[2].joinpath("docs", "providers.md").read_text(encoding="utf-8")

    called = ", ".join(f"`{name}`" for name in CALLED)
    refused = [f"| `{name}` | {VENDORS[name].instead} |" for name in REFUSED]

    assert called in page
    assert [row for row in refused if row not in page] == []
