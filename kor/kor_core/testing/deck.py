"""Plays a cassette to the transports, or records what they are answered."""

from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from http import HTTPStatus
from pathlib import Path
from typing import Any, Protocol

from kor_core.errors import RealCallsBlockedError
from kor_core.interception import Answer, Headers, Onward, Wire
from kor_core.testing.masking import Mask
from kor_core.testing.mismatch import CassetteError
from kor_core.testing.tape import Recorded, RecordedAnswer, RecordedRequest

__all__ = ["Player", "Recorder", "Tape"]


class Tape(Protocol):
    """What a deck reads and writes."""

    @property
    def path(self) -> Path:
        """Where it is kept."""
        ...

    @property
    def mask(self) -> Mask:
        """What takes the secrets out."""
        ...

    def asked(self, method: str, url: str, headers: Headers, body: bytes) -> RecordedRequest:
        """Return a request without its secrets."""
        ...

    def begin(self, request: RecordedRequest) -> Recorded:
        """Make a place for the answer to a request."""
        ...

    def take(self, request: RecordedRequest) -> RecordedAnswer:
        """Return the recorded answer to a request."""
        ...


class Player:
    """Answers requests from a cassette."""

    def __init__(self, tape: Tape) -> None:
        self._tape = tape

    async def send(
        self, method: str, url: str, headers: Headers, body: bytes, exchange: Any, /
    ) -> Answer:
        """Return the recorded answer."""
        del exchange  # nothing happens on the wire
        return _Played(self._tape.take(self._tape.asked(method, url, headers, body)))


class _Played:
    def __init__(self, answer: RecordedAnswer) -> None:
        self._pieces = answer.pieces()
        self.status = answer.status
        self.reason = _reason(answer.status)
        self.headers = [(n.encode(), v.encode("latin-1")) for n, v in answer.headers.items()]

    async def read(self) -> bytes:
        return b"".join(self._pieces)

    async def pieces(self) -> AsyncGenerator[bytes]:
        for piece in self._pieces:
            yield piece

    def close(self) -> None:
        pass


def _reason(status: int) -> str:
    return next((known.phrase for known in HTTPStatus if known == status), "")


# --- recording ----------------------------------------------------------------------------


class Recorder:
    """Sends requests on, and notes what is answered."""

    def __init__(self, tape: Tape, onward: Onward) -> None:
        self._tape = tape
        self._onward = onward

    async def send(
        self, method: str, url: str, headers: Headers, body: bytes, exchange: Any, /
    ) -> Answer:
        """Return the real answer, which is noted while it is read."""
        wire = self._real_wire(url)
        sent = [*_uncompressed(headers)]
        slot = self._tape.begin(self._tape.asked(method, url, sent, body))
        answer = await wire.send(method, url, sent, body, exchange)
        return _Recording(answer, slot, self._tape)

    def _real_wire(self, url: str) -> Wire:
        try:
            return self._onward(url)
        except RealCallsBlockedError as error:
            error.add_note(f"The cassette '{self._tape.path}' was about to record this call.")
            raise


def _uncompressed(headers: Headers) -> Iterator[tuple[bytes, bytes]]:
    """Ask for an answer that can be read: what is compressed cannot be masked."""
    yield from (pair for pair in headers if pair[0].lower() != b"accept-encoding")
    yield b"Accept-Encoding", b"identity"


class _Recording:
    """A real answer, which is on the cassette when it has been read or left."""

    def __init__(self, answer: Answer, slot: Recorded, tape: Tape) -> None:
        self._answer = answer
        self._slot = slot
        self._tape = tape
        self._received: list[bytes] = []
        self._failed = False
        self.status = answer.status
        self.reason = answer.reason
        self.headers = answer.headers
        tape.mask.learn_cookies(self.headers)
        self._refuse_compressed()

    def _refuse_compressed(self) -> None:
        coding = {n.lower(): v for n, v in self.headers}.get(b"content-encoding", b"identity")
        if coding != b"identity":
            self._answer.close()
            raise CassetteError(
                f"the answer came compressed ({coding.decode('latin-1')}), though it was asked "
                "not to be, and cannot be searched for secrets. Record through another endpoint.",
                self._tape.path,
            )

    async def read(self) -> bytes:
        body = await self._answer.read()
        self._note(body, streamed=False)
        return body

    async def pieces(self) -> AsyncGenerator[bytes]:
        try:
            async with aclosing(self._answer.pieces()) as pieces:
                async for piece in pieces:
                    self._received.append(piece)
                    yield piece
        except Exception:
            self._failed = True  # a broken connection is no answer
            raise

    def close(self) -> None:
        """Note what came: all of it, or as much as was wanted of a stream."""
        self._answer.close()
        if not self._failed:
            self._note(b"".join(self._received), streamed=True)

    def _note(self, body: bytes, *, streamed: bool) -> None:
        mask = self._tape.mask
        self._slot.answered(self.status, mask.headers(self.headers), body, mask, streamed=streamed)
