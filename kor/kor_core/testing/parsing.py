"""Bytes into HTTP requests. The one module that needs h11, from the extra ``testing``."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import h11

from kor_core.testing.recording import Headers, Incoming

__all__ = ["MalformedRequestError", "RequestParser"]

MalformedRequestError = h11.RemoteProtocolError

_END_OF_HEAD = b"\r\n\r\n"


class RequestParser:
    """Collects the bytes of one connection into requests."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Incoming]:
        """Take bytes, and give the requests that are complete.

        Raises:
            MalformedRequestError: this is not HTTP.
        """
        self._buffer += data
        while (incoming := self._taken()) is not None:
            yield incoming

    def _taken(self) -> Incoming | None:
        if not self._buffer:
            return None
        end = self._buffer.find(_END_OF_HEAD)
        if end < 0:
            _events(bytes(self._buffer))  # says at once when it will never be HTTP
            return None
        body_at = end + len(_END_OF_HEAD)
        head = _parsed(bytes(self._buffer[:body_at]))
        if head.length is None:
            return self._unchunked(head)
        whole = body_at + head.length
        if len(self._buffer) < whole:
            return None
        body = bytes(self._buffer[body_at:whole])
        del self._buffer[:whole]
        return head.incoming(body)

    def _unchunked(self, head: "_Head") -> Incoming | None:
        connection, events = _events(bytes(self._buffer))
        if not isinstance(events[-1], h11.EndOfMessage):
            return None
        self._buffer[:], _ = connection.trailing_data
        return head.incoming(b"".join(e.data for e in events if isinstance(e, h11.Data)))


@dataclass(frozen=True, slots=True)
class _Head:
    method: str
    target: str
    headers: Headers
    keep_alive: bool
    length: int | None  # of the body; None where it is chunked

    def incoming(self, body: bytes) -> Incoming:
        return Incoming(self.method, self.target, self.headers, self.keep_alive, body)


# A client sends the same head again and again, and parsing it is most of a request's cost.
@lru_cache(maxsize=128)
def _parsed(head: bytes) -> _Head:
    _, events = _events(head)
    request = events[0]
    assert isinstance(request, h11.Request)  # noqa: S101  # the head is whole, or h11 raised
    pairs = [(name.decode(), value.decode("latin-1")) for name, value in request.headers]
    headers = Headers(pairs)
    closes = headers.get("connection", "").lower() == "close" or request.http_version < b"1.1"
    chunked = "transfer-encoding" in headers
    length = None if chunked else int(headers.get("content-length", "0"))
    return _Head(request.method.decode(), request.target.decode(), headers, not closes, length)


def _events(data: bytes) -> tuple[h11.Connection, list[h11.Event]]:
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(data)
    found: list[h11.Event] = []
    while isinstance(event := connection.next_event(), h11.Event):
        found.append(event)
    return connection, found
