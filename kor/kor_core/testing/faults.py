"""The ways in which the upstream fails, each a small value that can be played.

A fault that ``alters`` an answer takes the reply that was told next; one that replaces the
answer leaves the reply for a later request.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Any, ClassVar

from kor_core.testing.answers import Answer, Ending, Exchange, Framing, Part, adding
from kor_core.testing.replies import Finish
from kor_core.testing.status import failing
from kor_core.testing.wire.base import Failure, Piece

__all__ = [
    "Body",
    "BrokenJson",
    "Close",
    "Cut",
    "Delay",
    "Empty",
    "ErrorEvent",
    "Fault",
    "Finished",
    "Hang",
    "Html",
    "Null",
    "Reset",
    "Slow",
    "Status",
]


class Fault(ABC):
    """One way to fail. Subclass it to add another."""

    alters: ClassVar[bool] = False

    @abstractmethod
    def answer(self, exchange: Exchange) -> Answer:
        """Return what the request is answered with."""


# --- no answer, or none in time -----------------------------------------------------------


@dataclass(frozen=True)
class Close(Fault):
    """The connection is closed without a byte of an answer."""

    def answer(self, exchange: Exchange) -> Answer:
        """Return nothing, then the end."""
        del exchange
        return Answer.silent("close")


@dataclass(frozen=True)
class Reset(Fault):
    """The connection is reset (TCP RST) without a byte of an answer."""

    def answer(self, exchange: Exchange) -> Answer:
        """Return nothing, then an error on the client's socket."""
        del exchange
        return Answer.silent("reset")


@dataclass(frozen=True)
class Hang(Fault):
    """Nothing is ever answered; the connection stays open until the client leaves."""

    def answer(self, exchange: Exchange) -> Answer:
        """Return silence."""
        del exchange
        return Answer.silent("hang")


@dataclass(frozen=True)
class Delay(Fault):
    """The answer comes, but ``seconds`` late."""

    seconds: float
    alters: ClassVar[bool] = True

    def answer(self, exchange: Exchange) -> Answer:
        """Return the usual answer, later."""
        return replace(exchange.usual(), before=self.seconds)


@dataclass(frozen=True)
class Slow(Fault):
    """A stream with a pause of ``seconds`` before each event but the first."""

    seconds: float
    alters: ClassVar[bool] = True

    def answer(self, exchange: Exchange) -> Answer:
        """Return the usual answer, slowly."""
        return replace(exchange.usual(), between=self.seconds)


# --- errors as the vendor words them ------------------------------------------------------


@dataclass(frozen=True)
class Status(Fault):
    """An HTTP error with the body that the vendor of the endpoint gives it.

    Args:
        status: such as 429.
        message: in the vendor's words; what is usual when empty.
        code: the vendor's code, such as ``insufficient_quota`` or ``context_length_exceeded``.
        retry_after: seconds, sent as the header ``retry-after``.
        retry_after_ms: milliseconds, sent as the header ``retry-after-ms``.
        headers: more headers of the answer.
    """

    status: int = 500
    message: str = ""
    code: str | None = None
    retry_after: float | None = None
    retry_after_ms: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])

    def __post_init__(self) -> None:
        failing(self.status)

    def answer(self, exchange: Exchange) -> Answer:
        """Return the error."""
        failure = Failure(self.status, self.message, self.code, self.retry_after)
        return adding(exchange.error(failure), *self._headers())

    def _headers(self) -> list[tuple[str, str]]:
        found = list(self.headers.items())
        if self.retry_after is not None:
            found.append(("retry-after", f"{self.retry_after:g}"))
        if self.retry_after_ms is not None:
            found.append(("retry-after-ms", str(self.retry_after_ms)))
        return found


@dataclass(frozen=True)
class ErrorEvent(Fault):
    """An error where an answer was promised: the status is 200.

    Args:
        after_deltas: how many deltas of a stream come before it. A request that asked for no
            stream gets the error as its body.
        status: what the error is about; it decides its type in the vendor's words.
        message: in the vendor's words; what is usual when empty.
        code: the vendor's code.
    """

    after_deltas: int = 0
    status: int = 500
    message: str = ""
    code: str | None = None
    alters: ClassVar[bool] = True

    def answer(self, exchange: Exchange) -> Answer:
        """Return the beginning of the answer, then the error."""
        failure = Failure(self.status, self.message, self.code)
        if not exchange.received.streamed:
            return exchange.error(failure, status=200)
        begun = _until_delta(exchange.pieces(), self.after_deltas)
        return exchange.stream([*begun, exchange.wire.error_piece(failure, exchange.number)])


# --- answers that make no sense -----------------------------------------------------------


@dataclass(frozen=True)
class Body(Fault):
    """A body of your own.

    Args:
        content: the body's bytes, as UTF-8 where it is a text.
        content_type: its type.
        status: the HTTP status.
    """

    content: str | bytes
    content_type: str = "application/json"
    status: int = 200

    def answer(self, exchange: Exchange) -> Answer:
        """Return that body under the vendor's headers."""
        data = self.content.encode() if isinstance(self.content, str) else self.content
        headers = (("content-type", self.content_type), *exchange.headers)
        return Answer(self.status, headers, (Part(data),))


@dataclass(frozen=True)
class Html(Fault):
    """A page of HTML, as captive portals and wrong URLs give it, with status 200."""

    status: int = 200

    def answer(self, exchange: Exchange) -> Answer:
        """Return the page."""
        page = "<!DOCTYPE html><html><head><title>Sign in</title></head><body>Hi</body></html>"
        return Body(page, "text/html; charset=utf-8", self.status).answer(exchange)


@dataclass(frozen=True)
class BrokenJson(Fault):
    """JSON that ends too early, in a body whose length is right, with status 200."""

    alters: ClassVar[bool] = True

    def answer(self, exchange: Exchange) -> Answer:
        """Return the first half of the body as if it were whole; of the first event in a stream."""
        if not exchange.received.streamed:
            data = exchange.json(exchange.whole()).parts[0].data
            return Body(data[: len(data) // 2]).answer(exchange)
        first, *rest = exchange.pieces()
        broken = replace(first, payload=first.data[: len(first.data) // 2])
        return exchange.stream([broken, *rest])


@dataclass(frozen=True)
class Null(Fault):
    """``null`` where the content belongs, such as ``choices`` of OpenAI."""

    alters: ClassVar[bool] = True

    def answer(self, exchange: Exchange) -> Answer:
        """Return the usual answer without its content, streamed or not."""
        if not exchange.received.streamed:
            return exchange.json(self._emptied(exchange, exchange.whole()))
        pieces = [
            replace(piece, payload=self._emptied(exchange, piece.payload))
            if not isinstance(piece.payload, str)
            else piece
            for piece in exchange.pieces()
        ]
        return exchange.stream(pieces)

    @staticmethod
    def _emptied(exchange: Exchange, payload: dict[str, Any]) -> dict[str, Any]:
        key = exchange.wire.content_key
        return {name: None if name == key else value for name, value in payload.items()}


@dataclass(frozen=True)
class Empty(Fault):
    """An answer that is right in form and says nothing."""

    alters: ClassVar[bool] = True

    def answer(self, exchange: Exchange) -> Answer:
        """Return the usual answer with an empty text and no tool calls."""
        reply = replace(exchange.reply, text="", deltas=(), tool_calls=())
        return replace(exchange, reply=reply).usual()


@dataclass(frozen=True)
class Finished(Fault):
    """An answer that ended for another reason: ``length`` or ``content_filter``."""

    reason: Finish
    alters: ClassVar[bool] = True

    def answer(self, exchange: Exchange) -> Answer:
        """Return the usual answer with that reason."""
        return replace(exchange, reply=replace(exchange.reply, finish=self.reason)).usual()


# --- answers that break off ---------------------------------------------------------------


@dataclass(frozen=True)
class Cut(Fault):
    """The answer breaks off: after some deltas, after some bytes, or in the middle.

    Args:
        after_deltas: how many deltas of a stream come whole.
        after_bytes: how many bytes of the body are written, chunk sizes included.
        of_response: count ``after_bytes`` from the first byte of the status line instead.
        framing: ``chunked``, ``close`` (the body ends where the connection does, so a client
            cannot tell a cut from an end) or ``length``; by default as the answer has it.
        reset: end with a reset of the connection (RST) instead of closing it.
        hang: leave the connection open, in silence.
    """

    after_deltas: int | None = None
    after_bytes: int | None = None
    of_response: bool = False
    framing: Framing | None = None
    reset: bool = False
    hang: bool = False
    alters: ClassVar[bool] = True

    def answer(self, exchange: Exchange) -> Answer:
        """Return the beginning of the usual answer."""
        usual = exchange.usual()
        framed = replace(usual, framing=self.framing or usual.framing)
        ending: Ending = "reset" if self.reset else "hang" if self.hang else "close"
        return replace(framed, stop=self._stop(framed), ending=ending)

    def _stop(self, answer: Answer) -> int:
        if self.after_bytes is not None:
            return self.after_bytes + (0 if self.of_response else len(answer.head))
        sizes = [len(answer.framed(part)) for part in answer.parts]
        if self.after_deltas is None:
            return len(answer.head) + sum(sizes) // 2
        ends = _ends_of_deltas(answer, sizes)
        return len(answer.head) + ends[min(self.after_deltas, len(ends) - 1)]


def _ends_of_deltas(answer: Answer, sizes: list[int]) -> list[int]:
    # [0]: what comes before the first delta; [n]: all up to the end of the nth.
    ends = list(accumulate(sizes))
    after = [end for end, part in zip(ends, answer.parts, strict=True) if part.delta]
    before = after[0] - sizes[ends.index(after[0])] if after else ends[-1] // 2
    return [before, *after]


def _until_delta(pieces: list[Piece], deltas: int) -> list[Piece]:
    places = [index for index, piece in enumerate(pieces) if piece.delta]
    if deltas < len(places):
        return pieces[: places[deltas]]
    # Never past the last delta: what follows it says that the answer is complete.
    return pieces[: places[-1] + 1 if places else 1]
