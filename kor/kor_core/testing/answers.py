"""An HTTP answer before it is written: what is sent, how it is framed, how it ends."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from time import time
from typing import Any, Final, Literal

from kor_core.testing.recording import Received
from kor_core.testing.replies import Reply, dumped
from kor_core.testing.wire.base import Failure, Piece, WireFormat

__all__ = ["Answer", "Ending", "Exchange", "Framing", "Part", "adding"]

Framing = Literal["length", "chunked", "close"]
Ending = Literal["complete", "close", "reset", "hang"]


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes of a body that are written at once; ``delta`` tells those that bring content."""

    data: bytes
    delta: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes over the wire, and when.

    Args:
        status: the HTTP status.
        headers: all but those that frame the body.
        parts: the body; each is one write, and one chunk where it is chunked.
        framing: how the client learns where the body ends: its length, chunked encoding, or
            the end of the connection.
        before: seconds to wait before the first byte.
        between: seconds to wait before each part but the first.
        stop: how many bytes to write, head included; None for all.
        ending: what happens after the last byte: the connection stays, is closed, is reset
            (the client sees an error), or stays open in silence.
    """

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    parts: tuple[Part, ...] = ()
    framing: Framing = "length"
    before: float = 0.0
    between: float = 0.0
    stop: int | None = None
    ending: Ending = "complete"

    @classmethod
    def silent(cls, ending: Ending) -> "Answer":
        """Return an answer without a single byte."""
        return cls(stop=0, ending=ending)

    @property
    def at_once(self) -> bool:
        """Whether all of it can be written without waiting."""
        return not (self.before or self.between)

    @property
    def head(self) -> bytes:
        """The status line and the headers."""
        framing = {
            "length": f"content-length: {sum(len(part.data) for part in self.parts)}",
            "chunked": "transfer-encoding: chunked",
            "close": "connection: close",
        }[self.framing]
        lines = [f"HTTP/1.1 {self.status} {_phrase(self.status)}", f"date: {_date(int(time()))}"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        return "\r\n".join([*lines, framing, "", ""]).encode("latin-1")

    def framed(self, part: Part) -> bytes:
        """Return the part as it goes over the wire."""
        if self.framing == "chunked":
            return b"%x\r\n%b\r\n" % (len(part.data), part.data)
        return part.data

    def writes(self) -> Iterator[bytes]:
        """Give what is written, part by part; the head goes with the first."""
        # An empty chunk would end a chunked body.
        body = [self.framed(part) for part in self.parts if part.data]
        if self.framing == "chunked":
            body.append(b"0\r\n\r\n")
        first, *rest = body or [b""]
        left = self.stop
        for data in (self.head + first, *rest):
            if left is not None and left < len(data):
                yield data[:left]
                return
            yield data
            left = None if left is None else left - len(data)


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request and what will be said to it, for a fault to turn into an answer.

    Args:
        number: of the request, counted from 1.
        received: the request.
        wire: the wire format of its endpoint.
        reply: what the model says.
    """

    number: int
    received: Received
    wire: WireFormat
    reply: Reply

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """The headers that the vendor adds."""
        return tuple(self.wire.headers(self.number))

    def usual(self) -> Answer:
        """Return the answer as it is when nothing fails."""
        return self.stream(self.pieces()) if self.received.streamed else self.json(self.whole())

    def whole(self) -> dict[str, Any]:
        """Return the body of the answer that is no stream."""
        return self.wire.whole(self.received.question, self.reply, self.number)

    def pieces(self) -> list[Piece]:
        """Return the events of the streamed answer."""
        return list(self.wire.pieces(self.received.question, self.reply, self.number))

    def json(self, body: dict[str, Any], status: int | None = None) -> Answer:
        """Return an answer with that body."""
        headers = (("content-type", "application/json"), *self.headers, *self.reply.headers.items())
        part = Part(dumped(body).encode())
        return Answer(status or self.wire.status, headers, (part,))

    def stream(self, pieces: list[Piece]) -> Answer:
        """Return an answer that streams those events."""
        question = self.received.question
        kind = ("content-type", self.wire.stream_type(question))
        parts = tuple(
            Part(self.wire.encoded(piece, index, question), piece.delta)
            for index, piece in enumerate(pieces)
        )
        headers = (kind, *self.headers, *self.reply.headers.items())
        return Answer(200, headers, parts, framing="chunked")

    def error(self, failure: Failure, status: int | None = None) -> Answer:
        """Return an error as the vendor words it; ``status`` may deny it."""
        return self.json(self.wire.error(failure, self.number), status or failure.status)


def adding(answer: Answer, *headers: tuple[str, str]) -> Answer:
    """Return the answer with more headers."""
    return answer if not headers else replace(answer, headers=(*answer.headers, *headers))


def _phrase(status: int) -> str:
    return _PHRASES.get(status, "Unknown")


_PHRASES: Final = {status.value: status.phrase for status in HTTPStatus}


@lru_cache(maxsize=1)
def _date(second: int) -> str:
    return formatdate(second, usegmt=True)
