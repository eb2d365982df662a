"""The forward proxy passes what it is given, records it, and asks for credentials if told to."""

import socket
import ssl

import httpx
import pytest
import trustme

from kor_core.testing import ForwardProxy, Upstream, faults

ASK = {"model": "m", "messages": [{"role": "user", "content": "Hello there!"}]}


@pytest.fixture
def upstream():
    with Upstream() as upstream:
        yield upstream


@pytest.fixture
def proxy():
    with ForwardProxy() as proxy:
        yield proxy


def raw(server, data: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", int(server.url.rsplit(":", 1)[1]))) as client:
        client.sendall(data)
        return b"".join(iter(lambda: client.recv(65536), b""))


def test_plain_http_is_forwarded_with_query_and_body(upstream, proxy) -> None:
    url = f"{upstream.openai_url}/chat/completions?tag=a"

    with httpx.Client(proxy=proxy.url) as client:
        answers = [client.post(url, json=ASK) for _ in range(2)]

    assert [a.json()["choices"][0]["message"]["content"] for a in answers] == ["Hello there!"] * 2
    assert upstream.requests[0].query == {"tag": "a"}
    assert "proxy-connection" not in upstream.requests[0].headers
    assert [(p.method, p.target, p.allowed) for p in proxy.requests] == [("POST", url, True)] * 2


def test_https_goes_through_a_tunnel(proxy) -> None:
    authority = trustme.CA()
    server_side = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(server_side)
    client_side = ssl.create_default_context()
    authority.configure_trust(client_side)

    with Upstream(ssl_context=server_side) as upstream:
        with httpx.Client(proxy=proxy.url, verify=client_side) as client:
            answers = [client.get(f"{upstream.openai_url}/models") for _ in range(2)]
        port = upstream.url.rsplit(":", 1)[1]

    assert [answer.status_code for answer in answers] == [200, 200]
    assert [(p.method, p.target) for p in proxy.requests] == [("CONNECT", f"127.0.0.1:{port}")]


async def test_credentials_are_asked_for_and_go_no_further(upstream) -> None:
    async with ForwardProxy(user="kor", password="pw-planted") as proxy:
        async with httpx.AsyncClient(proxy=proxy.url) as client:
            refused = await client.get(f"{upstream.openai_url}/models")
        with_key = proxy.url.replace("//", "//kor:pw-planted@")
        async with httpx.AsyncClient(proxy=with_key) as client:
            answer = await client.get(f"{upstream.openai_url}/models")

    assert (refused.status_code, refused.headers["proxy-authenticate"]) == (
        407,
        'Basic realm="kor"',
    )
    assert answer.status_code == 200
    assert [request.allowed for request in proxy.requests] == [False, True]
    assert "proxy-authorization" not in upstream.requests[0].headers
    assert "pw-planted" not in repr(proxy.requests)


def test_an_unreachable_server_is_a_502(upstream, proxy) -> None:
    with upstream.refusing(), httpx.Client(proxy=proxy.url) as client:
        answer = client.get(f"{upstream.openai_url}/models")

    assert answer.status_code == 502


@pytest.mark.parametrize("asked", [b"GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n", b"\x16\x03 TLS"])
def test_what_no_proxy_can_serve_is_refused(proxy, asked) -> None:
    assert raw(proxy, asked).startswith(b"HTTP/1.1 400 ")


def test_a_request_may_come_in_pieces_and_a_url_without_a_path(upstream, proxy) -> None:
    head = f"GET {upstream.url} HTTP/1.1\r\nhost: x\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", int(proxy.url.rsplit(":", 1)[1]))) as client:
        client.sendall(head[:10])
        client.sendall(head[10:])
        answer = b"".join(iter(lambda: client.recv(65536), b""))

    assert answer.startswith(b"HTTP/1.1 404 ")
    assert upstream.requests[0].path == "/"


def test_a_client_that_leaves_takes_the_tunnel_with_it(upstream, proxy) -> None:
    upstream.play(faults.Hang())

    with pytest.raises(httpx.ReadTimeout), httpx.Client(proxy=proxy.url, timeout=1) as client:
        client.get(f"{upstream.openai_url}/models")

    assert upstream.wait_for_disconnect()
