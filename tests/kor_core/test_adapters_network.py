"""The transport: proxies, certificates, timeouts, limits, and the block on real calls."""

import asyncio
import os
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme

from kor_core import errors
from kor_core.adapters.network import Transport
from kor_core.adapters.openai import OpenAIProvider
from kor_core.adapters.proxies import Proxies
from kor_core.interception import beyond_loopback, everywhere, intercepted
from kor_core.llm.base import BaseLLMModel
from kor_core.settings import NetworkSettings
from kor_core.testing import Upstream, faults
from kor_core.testing.proxy import ForwardProxy


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as server:
        yield server


def model_at(upstream: Upstream, blocked: Any = None, **network: Any) -> BaseLLMModel:
    transport = Transport(NetworkSettings(**network), blocked=blocked)
    config = {"api_key": "sk-planted", "base_url": upstream.openai_url}
    return OpenAIProvider(transport).create_model("gpt-4", config)


def answer_of(model: BaseLLMModel, prompt: str = "Hello!") -> str:
    return asyncio.run(model.agenerate(prompt))


# --- proxies --------------------------------------------------------------------------------


def test_a_configured_proxy_carries_every_call(upstream: Upstream) -> None:
    with ForwardProxy() as proxy:
        answer = answer_of(model_at(upstream, proxy=proxy.url))

    assert "Hello!" == answer
    assert [f"{upstream.openai_url}/chat/completions"] == [r.target for r in proxy.requests]


def test_a_proxys_credentials_reach_the_proxy_alone(upstream: Upstream) -> None:
    with ForwardProxy(user="kor", password="p@ss") as proxy:
        url = proxy.url.replace("://", "://kor:p%40ss@")
        answer = answer_of(model_at(upstream, proxy=url))

    assert "Hello!" == answer
    assert [True] == [request.allowed for request in proxy.requests]
    assert "proxy-authorization" not in upstream.requests[0].headers


def test_a_proxy_that_turns_the_call_away_is_named(upstream: Upstream) -> None:
    with ForwardProxy(user="kor", password="right") as proxy:
        model = model_at(upstream, proxy=proxy.url.replace("://", "://kor:wrong@"))
        with pytest.raises(errors.LLMConnectionError, match=r"proxy in \[network\]") as caught:
            answer_of(model)

    assert (407, False) == (caught.value.status, caught.value.retryable)
    assert "wrong" not in str(caught.value)
    assert not upstream.requests


def test_a_proxy_that_is_not_there_is_a_connection_error(upstream: Upstream) -> None:
    with ForwardProxy() as proxy:
        gone = proxy.url
    model = model_at(upstream, proxy=gone)

    with pytest.raises(errors.LLMConnectionError, match=r"proxy in \[network\]"):
        answer_of(model)


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_the_environments_proxy_is_respected(
    variable: str, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ForwardProxy() as proxy:
        monkeypatch.setenv(variable, proxy.url)
        before = dict(os.environ)
        answer_of(model_at(upstream))

        assert 1 == len(proxy.requests)
        assert before == dict(os.environ)


def test_the_environments_proxy_is_left_alone_when_switched_off(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ForwardProxy() as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        answer_of(model_at(upstream, trust_env=False))

        assert not proxy.requests


def test_a_configured_proxy_goes_before_the_environment(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    with ForwardProxy() as proxy:
        answer_of(model_at(upstream, proxy=proxy.url))

        assert 1 == len(proxy.requests)


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "http_proxy", "ALL_PROXY"])
@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("socks5://localhost:1080", "SOCKS proxies cannot be used"),
        ("SOCKS5H://user:sk-planted@localhost", "SOCKS proxies cannot be used"),
        ("ftp://localhost", "Expected http://host:port or https://host:port"),
        ("http://", "Expected http://host:port"),
        ("http://[::1", "Expected http://host:port"),
        ("http://proxy:port", "Expected http://host:port"),
        ("http://proxy:99999", "Expected http://host:port"),
        ("user:sk-planted@proxy:x", "Expected http://host:port"),
        ("http://pro xy:3128", "Expected http://host:port"),
        ("http://proxy\t:3128", "Expected http://host:port"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_refused_with_the_variable_that_names_it(
    variable: str, value: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)

    with pytest.raises(errors.ConfigurationError) as caught:
        Proxies.configured(NetworkSettings())
    (found,) = caught.value.problems

    assert variable == found.origin
    assert words in found.message
    assert "trust_env = false" in found.message
    assert "sk-planted" not in str(caught.value)
    assert Proxies() == Proxies.configured(NetworkSettings(trust_env=False))


@pytest.mark.parametrize("entry", ["[::1", "host:port", "host:99999", "http://[x]"])
@pytest.mark.parametrize("variable", ["NO_PROXY", "no_proxy"])
def test_an_exception_from_proxies_that_means_nothing_is_refused(
    variable: str, entry: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://proxy:3128")
    monkeypatch.setenv(variable, f"localhost, {entry}")

    with pytest.raises(errors.ConfigurationError) as caught:
        Proxies.configured(NetworkSettings())

    assert [variable] == [problem.origin for problem in caught.value.problems]
    assert "Expected hosts" in str(caught.value)


def test_everything_wrong_with_the_variables_is_said_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "ftp://x")
    monkeypatch.setenv("HTTPS_PROXY", "socks4://x")
    monkeypatch.setenv("NO_PROXY", "[")

    with pytest.raises(errors.ConfigurationError) as caught:
        Proxies.configured(NetworkSettings())

    assert ["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"] == [
        problem.origin for problem in caught.value.problems
    ]


def test_proxies_of_the_system_are_called_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "kor_core.adapters.proxies.getproxies", lambda: {"https": "socks5://localhost"}
    )

    with pytest.raises(errors.ConfigurationError, match=r"^the proxies of the system: SOCKS"):
        Proxies.configured(NetworkSettings())


@pytest.mark.parametrize("entry", ["10.0.0.0/8", "::1", "[::1]:8000", "*.corp", "host:8000", "é"])
def test_usual_exceptions_from_proxies_are_taken(
    entry: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://proxy:3128")
    monkeypatch.setenv("NO_PROXY", entry)

    assert "http://proxy:3128" == Proxies.configured(NetworkSettings()).of("http://llm.example/v1")


URLS = [
    "http://localhost/v1",
    "http://127.0.0.1:8000/v1",
    "https://[::1]:8443/v1",
    "https://google.com",
    "https://www.google.com",
    "https://wwwgoogle.com",
    "http://www.google.com:8080",
    "https://llm.internal/v1",
    "https://internal/v1",
]


@pytest.mark.parametrize(
    "no_proxy",
    [
        "",
        "*",
        "localhost",
        "127.0.0.1",
        "::1",
        "google.com",
        ".google.com",
        "www.google.com, .internal",
        "google.com:8080",
        "https://www.google.com",
        "all://www.google.com",
        "LOCALHOST,,",
    ],
)
def test_no_proxy_means_what_it_means_to_httpx(
    no_proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "proxy.example:3128")
    monkeypatch.setenv("HTTPS_PROXY", "http://secure.example:3128")
    monkeypatch.setenv("NO_PROXY", no_proxy)
    theirs = httpx.AsyncClient()
    expected = {
        url: theirs._transport_for_url(httpx.URL(url)) is not theirs._transport for url in URLS
    }

    proxies = Proxies.configured(NetworkSettings())
    ours = {url: proxies.of(url) is not None for url in URLS}

    assert expected == ours


# --- certificates ---------------------------------------------------------------------------


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def bundle(authority: trustme.CA, tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return path


@pytest.fixture
def secure(authority: trustme.CA) -> Iterator[Upstream]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with Upstream(ssl_context=context) as server:
        yield server


def test_a_private_ca_is_trusted_when_configured(secure: Upstream, bundle: Path) -> None:
    assert "Hello!" == answer_of(model_at(secure, ca_bundle=bundle))


def test_a_folder_of_certificates_is_read_as_one(tmp_path: Path, secure: Upstream) -> None:
    model = model_at(secure, ca_bundle=tmp_path)

    with pytest.raises(errors.LLMConnectionError, match="not trusted"):
        answer_of(model)


def test_an_unknown_ca_is_a_lasting_error_that_names_the_cure(secure: Upstream) -> None:
    model = model_at(secure)

    with pytest.raises(errors.LLMConnectionError, match=r"ca_bundle in \[network\]") as caught:
        answer_of(model)

    assert not caught.value.retryable
    assert not secure.requests


def test_a_server_without_tls_behind_https_is_told_apart(upstream: Upstream) -> None:
    transport = Transport(NetworkSettings())
    config = {"base_url": upstream.openai_url.replace("http:", "https:")}
    model = OpenAIProvider(transport).create_model("gpt-4", config)

    with pytest.raises(errors.LLMConnectionError, match="no secure connection"):
        answer_of(model)


def test_the_environments_bundle_counts_unless_switched_off(
    secure: Upstream, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))

    assert "Hello!" == answer_of(model_at(secure))
    with pytest.raises(errors.LLMConnectionError):
        answer_of(model_at(secure, trust_env=False))


def test_the_environments_folder_of_certificates_counts_too(
    secure: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))

    with pytest.raises(errors.LLMConnectionError, match="not trusted"):
        answer_of(model_at(secure))


def test_a_proxy_that_refuses_the_tunnel_is_named(secure: Upstream, bundle: Path) -> None:
    with ForwardProxy(user="kor", password="right") as proxy:
        model = model_at(secure, ca_bundle=bundle, proxy=proxy.url)
        with pytest.raises(errors.LLMConnectionError, match=r"407.*proxy in \[network\]"):
            answer_of(model)


def test_tls_goes_through_the_proxy_as_a_tunnel(secure: Upstream, bundle: Path) -> None:
    with ForwardProxy() as proxy:
        answer = answer_of(model_at(secure, ca_bundle=bundle, proxy=proxy.url))

    assert "Hello!" == answer
    assert ["CONNECT"] == [request.method for request in proxy.requests]


def test_a_client_certificate_is_shown(authority: trustme.CA, bundle: Path, tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(context)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    mine = authority.issue_cert("client.example")
    certificate, key = tmp_path / "client.pem", tmp_path / "client.key"
    mine.cert_chain_pems[0].write_to_path(certificate)
    mine.private_key_pem.write_to_path(key)

    with Upstream(ssl_context=context) as server:
        shown = model_at(server, ca_bundle=bundle, client_certificate=certificate, client_key=key)
        answer = answer_of(shown)
        with pytest.raises(errors.LLMConnectionError):
            answer_of(model_at(server, ca_bundle=bundle))

    assert "Hello!" == answer


@pytest.mark.parametrize("setting", ["ca_bundle", "client_certificate"])
@pytest.mark.parametrize("content", [None, "no certificate"])
def test_an_unusable_file_is_a_configuration_error(
    setting: str, content: str | None, upstream: Upstream, tmp_path: Path
) -> None:
    path = tmp_path / "file.pem"
    if content is not None:
        path.write_text(content)
    model = model_at(upstream, **{setting: path})

    with pytest.raises(errors.ConfigurationError) as caught:
        answer_of(model)

    assert (f"network.{setting}",) == tuple(problem.key for problem in caught.value.problems)
    assert str(path) in str(caught.value)


# --- timeouts and limits --------------------------------------------------------------------


def test_a_server_that_stops_reading_is_a_timeout_of_writing() -> None:
    def deaf(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # asyncio's stub has the base class
        writers.append(writer)

    async def call() -> None:
        server = await asyncio.start_server(deaf, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        transport = Transport(NetworkSettings(write_timeout=0.2))
        config = {"base_url": f"http://127.0.0.1:{port}/v1"}
        model = OpenAIProvider(transport).create_model("gpt-4", config)
        try:
            await model.agenerate("x" * 50_000_000)
        finally:
            for writer in writers:
                writer.transport.abort()
            server.close()

    writers: list[asyncio.StreamWriter] = []
    with pytest.raises(errors.LLMTimeoutError, match="could not be sent in time"):
        asyncio.run(call())


def test_a_large_request_arrives_whole(upstream: Upstream) -> None:
    prompt = "x" * 3_000_000

    assert prompt == answer_of(model_at(upstream), prompt)


def test_no_more_connections_than_allowed_are_open(upstream: Upstream) -> None:
    upstream.play(faults.Delay(0.02), times=6)
    model = model_at(upstream, max_connections=2)

    async def calls() -> int:
        await asyncio.gather(*(model.agenerate(str(n)) for n in range(6)))
        return upstream.accepted_connections

    assert 2 == asyncio.run(calls())


def test_a_host_that_is_slow_leaves_connections_to_the_others(upstream: Upstream) -> None:
    upstream.play(faults.Hang(), times=8)
    provider = OpenAIProvider(Transport(NetworkSettings(max_connections=4)))

    def model_of(server: Upstream) -> BaseLLMModel:
        config = {"api_key": "sk-planted", "base_url": server.openai_url}
        return provider.create_model("gpt-4", config)

    async def calls(other: Upstream) -> str:
        slow = model_of(upstream)
        hanging = [asyncio.create_task(slow.agenerate(str(n))) for n in range(8)]
        try:
            await upstream.await_requests(3)
            async with asyncio.timeout(20):
                return await model_of(other).agenerate("Hello!")
        finally:
            for task in hanging:
                task.cancel()

    with Upstream() as other:
        assert "Hello!" == asyncio.run(calls(other))
    assert 3 == upstream.accepted_connections


def test_waiting_for_a_free_connection_has_an_end(upstream: Upstream) -> None:
    model = model_at(upstream, max_connections=1, pool_timeout=0.1, connect_timeout=1.0)

    async def calls() -> None:
        await model.agenerate("warm up")
        upstream.play(faults.Hang())
        first = asyncio.create_task(model.agenerate("first"))
        await upstream.await_requests(2)
        try:
            await model.agenerate("second")
        finally:
            first.cancel()

    with pytest.raises(errors.LLMTimeoutError, match="no connection was made in time"):
        asyncio.run(calls())


@pytest.mark.parametrize(("kept", "opened"), [(0, 3), (100, 1)])
def test_idle_connections_are_kept_as_far_as_allowed(
    kept: int, opened: int, upstream: Upstream
) -> None:
    model = model_at(upstream, max_keepalive_connections=kept)

    async def calls() -> None:
        for _ in range(3):
            await model.agenerate("Hello!")

    asyncio.run(calls())

    assert opened == upstream.accepted_connections


# --- cookies and redirects ------------------------------------------------------------------


def test_no_cookie_is_kept_between_calls() -> None:
    with Upstream(headers={"set-cookie": "session=tenant-a; Path=/"}) as upstream:
        model = model_at(upstream)

        async def calls() -> None:
            await model.agenerate("first")
            await model.agenerate("second")

        asyncio.run(calls())

        assert [{}, {}] == [request.cookies for request in upstream.requests]


def test_a_redirect_is_not_followed_with_the_key(upstream: Upstream) -> None:
    with Upstream() as elsewhere:
        upstream.fail(307, headers={"location": f"{elsewhere.openai_url}/chat/completions"})

        with pytest.raises(errors.ProviderError, match="redirects"):
            answer_of(model_at(upstream))

        assert not elsewhere.requests


# --- real calls -----------------------------------------------------------------------------


def test_a_blocked_call_reaches_nobody_and_says_where_it_would_have_gone(
    upstream: Upstream,
) -> None:
    model = model_at(upstream, blocked=everywhere)

    with pytest.raises(errors.RealCallsBlockedError, match=r"127\.0\.0\.1") as caught:
        answer_of(model)

    assert ("openai", "gpt-4") == (caught.value.provider, caught.value.model)
    assert "127.0.0.1" == caught.value.host
    assert not upstream.requests


def test_loopback_may_be_allowed_and_the_world_not(upstream: Upstream) -> None:
    transport = Transport(NetworkSettings(), blocked=beyond_loopback)
    config = {"api_key": "sk-planted"}
    far = OpenAIProvider(transport).create_model("gpt-4", config)
    near = OpenAIProvider(transport).create_model("gpt-4", {"base_url": upstream.openai_url})

    assert "Hello!" == answer_of(near)
    with pytest.raises(errors.RealCallsBlockedError, match=r"api\.openai\.com"):
        answer_of(far)


def test_a_block_holds_inside_its_with_and_for_this_transport_alone(upstream: Upstream) -> None:
    mine, other = Transport(NetworkSettings()), Transport(NetworkSettings())

    with mine.blocking():
        with mine.blocking(beyond_loopback):
            pass
        with pytest.raises(errors.RealCallsBlockedError):
            mine.check(upstream.url)
        other.check(upstream.url)

    mine.check(upstream.url)


class Standin:
    """Answers in place of the network, and is asked for the wire of each call."""

    def wire(self, onward: Any) -> Any:
        raise errors.KernelError("answered in place of the network")


def test_what_stands_in_for_the_network_decides_for_itself_what_to_block() -> None:
    transport = Transport(NetworkSettings(), blocked=everywhere)

    with intercepted(Standin()):
        transport.check("https://api.openai.com/v1")

    with pytest.raises(errors.RealCallsBlockedError):
        transport.check("https://api.openai.com/v1")


@pytest.mark.parametrize(
    ("host", "blocked"),
    [
        ("127.0.0.1", False),
        ("127.8.9.10", False),
        ("::1", False),
        ("localhost", False),
        ("app.localhost", False),
        ("10.0.0.1", True),
        ("localhost.example.com", True),
        ("api.openai.com", True),
    ],
)
def test_what_counts_as_this_machine(host: str, blocked: bool) -> None:  # noqa: FBT001  # a parameter of the table
    assert blocked is beyond_loopback(host)


def test_a_host_name_nobody_knows_is_a_connection_error() -> None:
    transport = Transport(NetworkSettings())
    model = OpenAIProvider(transport).create_model("gpt-4", {"base_url": "http://nobody.invalid"})

    with pytest.raises(errors.LLMConnectionError, match="the host name is not known"):
        answer_of(model)


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/v1", "127.0.0.1", "http://127.0.0.1:99999/v1"])
def test_an_endpoint_that_is_no_http_url_is_an_error_of_ours(url: str) -> None:
    model = OpenAIProvider(Transport(NetworkSettings())).create_model("gpt-4", {"base_url": url})

    with pytest.raises(errors.LLMError, match="base_url"):
        answer_of(model)


def test_a_repr_tells_whether_it_is_open() -> None:
    transport = Transport(NetworkSettings())
    assert "<Transport open>" == repr(transport)

    transport.close()

    assert "<Transport closed>" == repr(transport)
