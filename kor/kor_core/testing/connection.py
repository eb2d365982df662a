"""One connection of the upstream: requests in, answers out, byte for byte as told."""

import asyncio
from collections import deque
from collections.abc import Callable

from kor_core.testing.answers import Answer, adding
from kor_core.testing.parsing import MalformedRequestError, RequestParser
from kor_core.testing.recording import Incoming, Received
from kor_core.testing.server import Peer

__all__ = ["Answering", "Connection"]

Answering = Callable[[Incoming, int], tuple[Received, Answer]]

_MALFORMED = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class Connection(Peer):
    """Plays the answers of one connection, one after the other.

    Args:
        peers: the connections of the server.
        number: of this connection.
        answering: records a request and says what to answer.
    """

    def __init__(self, peers: set[Peer], number: int, answering: Answering) -> None:
        super().__init__(peers)
        self._number = number
        self._answering = answering
        self._parser = RequestParser()
        self._waiting: deque[Incoming] = deque()
        self._current: Received | None = None
        self._playing: asyncio.Task[None] | None = None

    def data_received(self, data: bytes) -> None:
        """Take bytes, and answer each request that is complete."""
        try:
            self._waiting.extend(self._parser.feed(data))
        except MalformedRequestError:
            self.transport.write(_MALFORMED)
            self.transport.close()
        self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        """Record whether the client left before its answer was complete."""
        super().connection_lost(exc)
        if self._playing is not None:
            self._playing.cancel()
        if self._current is not None:
            self._current.disconnected = True

    def _next(self) -> None:
        while self._waiting and self._current is None and not self.transport.is_closing():
            incoming = self._waiting.popleft()
            received, answer = self._answering(incoming, self._number)
            if not incoming.keep_alive and answer.framing != "close":
                answer = adding(answer, ("connection", "close"))
            self._current = received
            self._play(received, answer, keep_alive=incoming.keep_alive)

    def _play(self, received: Received, answer: Answer, *, keep_alive: bool) -> None:
        if answer.at_once:
            for data in answer.writes():
                self._write(received, answer, data)
            self._end(received, answer, keep_alive=keep_alive)
        else:
            slowly = self._slowly(received, answer, keep_alive=keep_alive)
            self._playing = asyncio.get_running_loop().create_task(slowly)

    async def _slowly(self, received: Received, answer: Answer, *, keep_alive: bool) -> None:
        pause = answer.before
        for data in answer.writes():
            await asyncio.sleep(pause)
            pause = answer.between
            self._write(received, answer, data)
        self._end(received, answer, keep_alive=keep_alive)
        self._next()

    def _write(self, received: Received, answer: Answer, data: bytes) -> None:
        if data:
            received.status = answer.status
            received.sent += len(data)
            self.transport.write(data)

    def _end(self, received: Received, answer: Answer, *, keep_alive: bool) -> None:
        if answer.ending == "hang":
            return  # not answered: what comes next is the client's leaving
        received.answered = True
        self._current = self._playing = None
        if answer.ending == "reset":
            self.reset()
        elif answer.ending == "close" or answer.framing == "close" or not keep_alive:
            self.transport.close()
