"""Bytes into HTTP requests. The one module that needs h11, from the extra ``testing``."""

from collections.abc import Iterator

import h11

from kor_core.testing.recording import Headers, Incoming

__all__ = ["MalformedRequestError", "RequestParser"]

MalformedRequestError = h11.RemoteProtocolError


class RequestParser:
    """Collects the bytes of one connection into requests."""

    def __init__(self) -> None:
        self._h11 = h11.Connection(h11.SERVER)
        self._head: h11.Request | None = None
        self._body: list[bytes] = []

    def feed(self, data: bytes) -> Iterator[Incoming]:
        """Take bytes, and give the requests that are complete.

        Raises:
            MalformedRequestError: this is not HTTP.
        """
        self._h11.receive_data(data)
        while (event := self._h11.next_event()) is not h11.NEED_DATA:
            if isinstance(event, h11.Request):
                self._head = event
            elif isinstance(event, h11.Data):
                self._body.append(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage) and self._head is not None:
                yield self._finished(self._head)
            else:  # PAUSED or ConnectionClosed: nothing more comes
                return

    def _finished(self, head: h11.Request) -> Incoming:
        incoming = _incoming(head, b"".join(self._body))
        # A new one for each request: it is written past h11, which could not write faults.
        rest, _ = self._h11.trailing_data
        self._h11 = h11.Connection(h11.SERVER)
        if rest:  # to h11 nothing means that the client left
            self._h11.receive_data(rest)
        self._head, self._body = None, []
        return incoming


def _incoming(head: h11.Request, body: bytes) -> Incoming:
    headers = Headers((name.decode(), value.decode("latin-1")) for name, value in head.headers)
    closes = "close" in headers.get("connection", "").lower() or head.http_version < b"1.1"
    return Incoming(head.method.decode(), head.target.decode(), headers, not closes, body)
