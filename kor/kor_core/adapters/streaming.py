"""An answer that comes as server-sent events: read within its deadline, and closed for certain."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Final, Protocol

from kor_core.adapters.attempt import Caller, SenselessAnswerError
from kor_core.adapters.completion import LARGEST_ANSWER, parsed, refuse_many
from kor_core.adapters.exchange import Exchange
from kor_core.adapters.sse import SLICE, Events
from kor_core.errors import LLMConnectionError, StreamInterruptedError
from kor_core.llm.deadline import too_late
from kor_core.llm.emulation import as_deltas
from kor_core.llm.response import Delta, LLMResponse

__all__ = ["EventReader", "Reading", "Whole", "ends_after", "streamed"]

Whole = Callable[[Mapping[str, Any]], LLMResponse]

# What follows the last event is the end of the body, most often in the same packet. To wait for
# it keeps the connection for the next call.
_FAREWELL: Final = 0.1

_DONE: Final = b"[DONE]"

# Seconds of work after which others have a turn.
_TURN: Final = 0.005

# Reasoning that is not shown has an event for each token.
_MOST_BARREN: Final = 1 << 18
_MOST_PARTS: Final = 1 << 20
_SIGNS: Final = "[{,\\"

# What answers hold that are no streams, whatever was asked for.
_NO_STREAM: Final = frozenset({"application/json", "text/html"})


class EventReader(Protocol):
    """Makes deltas of the events of one answer."""

    @property
    def is_over(self) -> bool:
        """Whether the last event was the last of the answer."""
        ...

    def deltas(self, event: Mapping[str, Any], /) -> Iterator[Delta]:
        """Give what an event brings."""
        ...


def ends_after(seconds: float | None) -> float | None:
    """Return when so many seconds are over, in the time of the running loop."""
    return None if seconds is None else asyncio.get_running_loop().time() + seconds


@dataclass(frozen=True, slots=True)
class Reading:
    """A stream that a server has begun to send.

    Args:
        body: its bytes, as ``httpx`` has them.
        exchange: that of the call which opened it.
        seconds: how long the whole call may take, or None; for the error to name.
        ends: when that is over, in the time of the running loop.
    """

    body: Any
    exchange: Exchange
    seconds: float | None = None
    ends: float | None = None

    async def aclose(self) -> None:
        """Close the connection, unless the body was read to its end."""
        await self.body.aclose()

    async def deltas(self, reader: EventReader, whole: Whole) -> AsyncGenerator[Delta]:
        """Give the deltas of the stream.

        Args:
            reader: reads its events.
            whole: reads an answer that came at once, from a server that does not stream.

        Raises:
            SenselessAnswerError: it makes no sense.
            LLMConnectionError: it ends within an event.
            LLMTimeoutError: it is not over in time.
        """
        async with aclosing(aiter(self.body)) as pieces:
            if self._is_no_stream:
                deltas = as_deltas(whole(parsed(await self._all_of(pieces))))
            else:
                deltas = self._read(pieces, reader)
            async with aclosing(deltas):
                async for delta in deltas:
                    yield delta

    @property
    def _is_no_stream(self) -> bool:
        kind = self.exchange.headers.get("content-type", "")
        return kind.partition(";")[0].strip().lower() in _NO_STREAM

    async def _all_of(self, pieces: AsyncGenerator[bytes]) -> bytes:
        content = bytearray()
        while piece := await self._next_of(pieces):
            content += piece
        return bytes(content)

    async def _read(
        self, pieces: AsyncGenerator[bytes], reader: EventReader
    ) -> AsyncGenerator[Delta]:
        events, bounds = Events(), _Bounds()
        while piece := await self._next_of(pieces):
            since = perf_counter()
            for start in range(0, len(piece), SLICE):
                for event in events.fed(piece[start : start + SLICE]):
                    is_last = event.data.startswith(_DONE)
                    if not is_last:
                        bounds.barren += 1
                        for delta in reader.deltas(parsed(event.data)):
                            bounds.take(delta)
                            yield delta
                    if is_last or reader.is_over:
                        await _drain(pieces)
                        return
                    if perf_counter() - since >= _TURN:
                        since = await self._turn()
                bounds.hold()
                if perf_counter() - since >= _TURN:
                    since = await self._turn()
        if not events.are_whole:
            raise LLMConnectionError("The connection broke within an event. Try again.")

    async def _turn(self) -> float:
        """Let others have a turn, hold to the deadline, and return when the work goes on."""
        await asyncio.sleep(0)
        if self.ends is not None and asyncio.get_running_loop().time() >= self.ends:
            raise too_late(self.seconds or 0)
        return perf_counter()

    async def _next_of(self, pieces: AsyncGenerator[bytes]) -> bytes:
        """Return the next piece; empty at the end."""
        if self.ends is None:
            return await anext(pieces, b"")
        limit = asyncio.timeout_at(self.ends)
        try:
            async with limit:
                return await anext(pieces, b"")
        except TimeoutError:
            if not limit.expired():
                raise
        # Raised out here: a deadline needs no cause, and that one's frames may hold keys.
        raise too_late(self.seconds or 0)


@dataclass(slots=True)
class _Bounds:
    """What one answer may have; beyond, it is made to keep its reader busy."""

    barren: int = 0  # events
    length: int = 0  # of texts and arguments
    parts: int = 0  # of the arguments, which are parsed at once when all are there

    def take(self, delta: Delta) -> None:
        """Take note of a delta; with it, its event brings something."""
        if delta.text or delta.tool_calls:
            self.barren -= 1
            self.length += len(delta.text)
        for piece in delta.tool_calls:
            self.length += len(piece.arguments)
            self.parts += sum(map(piece.arguments.count, _SIGNS))
            refuse_many(piece.index)

    def hold(self) -> None:
        """Refuse an answer that goes beyond."""
        if self.barren > _MOST_BARREN:
            raise SenselessAnswerError("it holds more events without words than an answer can")
        if self.length > LARGEST_ANSWER or self.parts > _MOST_PARTS:
            raise SenselessAnswerError("it is longer than an answer can be")


async def _drain(pieces: AsyncGenerator[bytes]) -> None:
    # The answer is whole: whatever happens after it is no failure of the call.
    with suppress(Exception):
        async with asyncio.timeout(_FAREWELL):
            async for _ in pieces:
                pass


async def streamed(
    reading: Reading, caller: Caller, reader: EventReader, whole: Whole
) -> AsyncGenerator[Delta]:
    """Give the deltas of a stream that has begun, and close it, read to its end or not.

    Args:
        reading: the stream.
        caller: who asked for it.
        reader: reads its events.
        whole: reads an answer that came at once, from a server that does not stream.

    Raises:
        StreamInterruptedError: the connection broke before the first delta; later, the
            connection's own error is raised, for whoever put the deltas together to add to it.
        LLMError: whatever else went wrong.
    """
    began = False
    async with (
        aclosing(reading),
        aclosing(reading.deltas(reader, whole)) as raw,
        aclosing(caller.read(raw, reading.exchange)) as deltas,
    ):
        yield Delta(request_id=caller.request_id(reading.exchange))
        try:
            async for delta in deltas:
                began = began or bool(delta.text or delta.tool_calls)
                recorded = delta.finish_reason or delta.model_id or delta.request_id
                yield caller.cleaned(delta, reading.exchange) if recorded else delta
        except LLMConnectionError as error:
            if began:
                raise
            failure = _interrupted(error)
        else:
            return
    raise failure from failure.__cause__


def _interrupted(error: LLMConnectionError) -> StreamInterruptedError:
    facts = ("provider", "model", "status", "request_id")
    failure = StreamInterruptedError(
        f"The stream was interrupted before its first word: {error.args[0]}",
        partial="",
        **{name: getattr(error, name) for name in facts},
    )
    failure.__cause__ = error
    return failure
