"""One connection of the forward proxy, joined to the one it makes in turn."""

import asyncio
from collections.abc import Callable
from urllib.parse import urlsplit, urlunsplit

from kor_core.testing.parsing import MalformedRequestError, RequestParser
from kor_core.testing.recording import Headers, Incoming
from kor_core.testing.server import Peer

__all__ = ["Allowing", "Tunnel"]

Allowing = Callable[[str, str, Headers], bool]

_MALFORMED = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_UNREACHABLE = b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_TURNED_AWAY = (
    b"HTTP/1.1 407 Proxy Authentication Required\r\n"
    b'proxy-authenticate: Basic realm="kor"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n'
)
_HOPS = {
    "connection",
    "content-length",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "transfer-encoding",
}
_JOINED = b"HTTP/1.1 200 Connection established\r\n\r\n"


class _Far(Peer):
    """The connection to where the client wants to go: all bytes go back to the client."""

    def __init__(self, peers: set[Peer], client: asyncio.Transport) -> None:
        super().__init__(peers)
        self._client = client

    def data_received(self, data: bytes) -> None:
        self._client.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._client.close()


class Tunnel(Peer):
    """Takes one request, then passes bytes both ways until one side leaves.

    Args:
        peers: the connections of the server.
        allowing: records a request and says whether it may pass.
    """

    def __init__(self, peers: set[Peer], allowing: Allowing) -> None:
        super().__init__(peers)
        self._allowing = allowing
        self._parser = RequestParser()
        self._far: asyncio.Transport | None = None
        self._joining: asyncio.Task[None] | None = None

    def data_received(self, data: bytes) -> None:
        """Take the request, and after it pass everything on."""
        if self._far is not None:
            self._far.write(data)
            return
        try:
            incoming = next(self._parser.feed(data), None)
        except MalformedRequestError:
            self._refuse(_MALFORMED)
            return
        if incoming is not None:  # pragma: no branch  # a head in pieces: the network decides
            self._take(incoming)

    def connection_lost(self, exc: Exception | None) -> None:
        """Leave the far side too."""
        super().connection_lost(exc)
        if self._joining is not None:
            self._joining.cancel()
        if self._far is not None:
            self._far.close()

    def _take(self, incoming: Incoming) -> None:
        if not self._allowing(incoming.method, incoming.target, incoming.headers):
            self._refuse(_TURNED_AWAY)
            return
        tunnel = incoming.method == "CONNECT"
        where = urlsplit(f"//{incoming.target}" if tunnel else incoming.target)
        if not where.hostname:  # asked as if it were the server itself
            self._refuse(_MALFORMED)
            return
        # What the client sends until the far side is there waits in its socket.
        self.transport.pause_reading()
        joining = self._join(where.hostname, where.port or 80, None if tunnel else incoming)
        self._joining = asyncio.get_running_loop().create_task(joining)

    async def _join(self, host: str, port: int, forwarded: Incoming | None) -> None:
        loop = asyncio.get_running_loop()
        try:
            self._far, _ = await loop.create_connection(
                lambda: _Far(self._peers, self.transport), host, port
            )
        except OSError:
            self._refuse(_UNREACHABLE)
            return
        if forwarded is None:
            self.transport.write(_JOINED)
        else:
            self._far.write(_forwarded(forwarded))
        self.transport.resume_reading()

    def _refuse(self, answer: bytes) -> None:
        self.transport.write(answer)
        self.transport.close()


def _forwarded(incoming: Incoming) -> bytes:
    where = urlsplit(incoming.target)
    path = urlunsplit(("", "", where.path or "/", where.query, ""))
    # One request a connection: then both sides know where the answer ends.
    kept = [f"{name}: {value}" for name, value in incoming.headers.items() if name not in _HOPS]
    lines = [f"{incoming.method} {path} HTTP/1.1", *kept, "connection: close"]
    if incoming.body:
        lines.append(f"content-length: {len(incoming.body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + incoming.body
