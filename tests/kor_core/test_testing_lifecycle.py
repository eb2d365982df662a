"""The servers for tests come and go without a trace, over TLS too."""

import asyncio
import gc
import socket
import ssl
import subprocess
import sys
import threading
from contextlib import suppress

import httpx
import pytest
import trustme

from kor_core.errors import KorError
from kor_core.testing import ForwardProxy, Upstream, faults
from kor_core.testing.background import Background
from kor_core.testing.parsing import RequestParser

ASK = {"model": "m", "messages": [{"role": "user", "content": "Hello there!"}]}


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def server_side(authority):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


@pytest.fixture
def client_side(authority):
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def ours() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name == "kor-testing-server"]


def test_nothing_is_left_though_clients_are_still_connected() -> None:
    before = ours()
    client = socket.socket()

    with Upstream() as upstream:
        client.connect(("127.0.0.1", int(upstream.url.rsplit(":", 1)[1])))
        upstream.play(faults.Hang(), faults.Delay(60))
        with httpx.Client(timeout=0.05) as hanging:
            for _ in range(2):
                with suppress(httpx.TimeoutException):
                    hanging.get(f"{upstream.openai_url}/models")

    gc.collect()  # an unclosed socket or transport warns now, and warnings are errors
    assert ours() == before
    assert upstream.open_connections == 0
    with pytest.raises(ConnectionError):
        client.sendall(b"x") or client.recv(1) or client.sendall(b"x")
    client.close()
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{upstream.openai_url}/models")


async def test_async_with_serves_async_clients() -> None:
    async with Upstream() as upstream, httpx.AsyncClient() as client:
        answers = await asyncio.gather(
            *(client.post(f"{upstream.openai_url}/chat/completions", json=ASK) for _ in range(20))
        )
        connections = upstream.open_connections

    assert {answer.status_code for answer in answers} == {200}
    assert len(upstream.requests) == 20
    assert 1 <= connections <= 20


def test_keep_alive_uses_one_connection_and_close_ends_it() -> None:
    with Upstream() as upstream:
        with httpx.Client() as client:
            for _ in range(3):
                client.get(f"{upstream.openai_url}/models")
            kept = (upstream.open_connections, upstream.accepted_connections)
            last = client.get(f"{upstream.openai_url}/models", headers={"connection": "close"})
        httpx.get(f"{upstream.openai_url}/models")

    assert kept == (1, 1)
    assert last.headers["connection"] == "close"
    assert [received.connection for received in upstream.requests] == [1, 1, 1, 1, 2]


def test_http_1_0_is_answered_and_closed() -> None:
    with Upstream() as upstream, _connected(upstream) as client:
        client.sendall(b"GET /v1/models HTTP/1.0\r\n\r\n")
        answer = b"".join(iter(lambda: client.recv(65536), b""))

    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")


def test_requests_may_come_chunked_and_in_any_pieces() -> None:
    body = b'{"model":"m","messages":[{"role":"user","content":"H\xc3\xa9!"}]}'
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    chunks = b"5\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (body[:5], len(body) - 5, body[5:])
    closing = b"GET /v1/models HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"

    with Upstream() as upstream, _connected(upstream) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in head + chunks + closing:
            client.sendall(bytes([byte]))
        answer = b"".join(iter(lambda: client.recv(65536), b""))

    assert "Hé!" in answer.decode()
    assert [received.body for received in upstream.requests] == [body, b""]


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_the_parser_takes_bytes_in_any_pieces(size) -> None:
    head = b"POST /a?b=c HTTP/1.1\r\nhost: x\r\n"
    data = head + b"transfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"
    data += head + b"content-length: 2\r\n\r\nho"
    parser = RequestParser()

    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    found = [incoming for piece in pieces for incoming in parser.feed(piece)]

    assert [incoming.body for incoming in found] == [b"hi", b"ho"]
    assert {incoming.path for incoming in found} == {"/a"}


def test_what_is_no_http_is_refused_at_once() -> None:
    with Upstream() as upstream, _connected(upstream) as client:
        client.sendall(b"\x16\x03\x01 hello TLS")
        answer = b"".join(iter(lambda: client.recv(65536), b""))

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert upstream.requests == ()


def _connected(server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", int(server.url.rsplit(":", 1)[1])), timeout=5)


def test_a_refused_port_serves_again_after_the_block() -> None:
    with Upstream() as upstream, httpx.Client() as client:
        client.get(f"{upstream.openai_url}/models")
        with upstream.refusing() as same:
            for _ in range(2):
                with pytest.raises(httpx.ConnectError):
                    client.get(f"{upstream.openai_url}/models")
        answer = client.get(f"{upstream.openai_url}/models")

    assert same is upstream
    assert answer.status_code == 200
    assert len(upstream.requests) == 2


def test_refusing_needs_an_open_upstream_and_closing_twice_is_fine() -> None:
    upstream = Upstream().open()
    with upstream.refusing():
        upstream.close()
    upstream.close()

    with upstream.refusing():
        pass
    assert ours() == []


@pytest.mark.parametrize("server", [Upstream(), ForwardProxy()])
def test_a_server_that_is_not_open_says_how_to_open_it(server) -> None:
    with pytest.raises(KorError, match="not open: use it as `with "):
        _ = server.url


def test_tls_serves_whoever_trusts_it(server_side, client_side) -> None:
    with Upstream(ssl_context=server_side) as upstream:
        with httpx.Client(verify=client_side) as client:
            answer = client.post(f"{upstream.openai_url}/chat/completions", json=ASK)
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            httpx.get(f"{upstream.openai_url}/models")

    assert upstream.url.startswith("https://127.0.0.1:")
    assert answer.json()["choices"][0]["message"]["content"] == "Hello there!"


def test_a_reset_and_a_cut_reach_through_tls(server_side, client_side) -> None:
    with Upstream(ssl_context=server_side) as upstream, httpx.Client(verify=client_side) as client:
        upstream.play(faults.Reset(), faults.Cut())
        # Below TLS the two differ; OpenSSL may tell the one as the other.
        for _ in range(2):
            with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
                client.get(f"{upstream.openai_url}/models")


def test_closing_in_the_middle_of_a_handshake_leaves_nothing(server_side) -> None:
    with Upstream(ssl_context=server_side) as upstream:
        client = _connected(upstream)
        while not upstream.accepted_connections:
            pass

    gc.collect()
    assert client.recv(1) == b""
    client.close()


def test_importing_the_doubles_needs_no_vendor_and_not_even_the_extra() -> None:
    code = (
        "import sys; sys.modules.update({n: None for n in "
        "('h11', 'httpx', 'openai', 'litellm', 'pytest')}); "
        "import kor_core.testing; print(kor_core.testing.ScriptedModel(['ok']).generate('?'))"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "ok\n"


@pytest.mark.parametrize("server", [Upstream(), ForwardProxy()])
def test_without_the_extra_a_server_says_what_to_install(server, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "h11", None)

    with pytest.raises(KorError, match=r"pip install 'kor-sdk\[testing\]'"):
        server.open()

    assert ours() == []


def test_a_program_that_forgets_to_close_exits_all_the_same() -> None:
    code = "from kor_core.testing import Upstream; print(Upstream().open().url)"

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )

    assert done.stdout.startswith("http://127.0.0.1:")


def test_a_background_that_never_started_stops_quietly() -> None:
    Background("unused").stop()
