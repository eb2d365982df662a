"""The client that the SDKs are given: httpx on its outside, aiohttp underneath.

openai 2 and litellm speak httpx, openai 3 speaks httpx2. Both have the same classes, so one
definition serves, made for the library it is asked for.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from datetime import timedelta
from functools import cache
from time import perf_counter
from types import ModuleType
from typing import Any, Final

from kor_core.adapters.aiohttp import Answer, Broken, Wire
from kor_core.adapters.bodies import (
    ACCEPTED,
    Unpacking,
    UnusableBodyError,
    decoded,
    largest,
)
from kor_core.adapters.exchange import TIMEOUTS, Exchange, Failure, noted
from kor_core.redaction import Secret

__all__ = ["Hidden", "make_client"]

_FIRST_ERROR: Final = 400


class Hidden(list[tuple[bytes, bytes]]):
    """Headers that do not show: the key is among them, and frames hold them in locals."""

    def __repr__(self) -> str:
        return f"<{len(self)} headers>"


def make_client(library: ModuleType, wire: Callable[[str], Wire], timeout: dict[str, float]) -> Any:
    """Return an ``AsyncClient`` of the library that sends through ``wire``.

    It keeps no cookies, follows no redirects (a key would follow them), and belongs to no
    event loop. Closing it does nothing: everything in the kernel shares it.

    Args:
        library: the module httpx or httpx2.
        wire: gives the wire for a URL, or refuses it.
        timeout: seconds by kind, for the SDKs to see; the wire keeps to its own settings.
    """
    return _client_class(library)(wire, timeout)


@cache
def _client_class(library: Any) -> Any:
    body_class = _body_class(library)

    class Client(library.AsyncClient):  # type: ignore[misc]  # of whichever library it is
        def __init__(self, wire: Callable[[str], Wire], timeout: dict[str, float]) -> None:
            super().__init__(  # pyright: ignore[reportUnknownMemberType]  # of Any
                transport=library.AsyncBaseTransport(),  # never asked: send() goes past it
                timeout=library.Timeout(**timeout),
                trust_env=False,
            )
            self._wire = wire

        async def send(self, request: Any, *, stream: bool = False, **_options: Any) -> Any:
            try:
                return await self._exchange(request, stream=stream)
            except Broken as broken:
                error = _translated(library, broken, request)
            raise error

        async def _exchange(self, request: Any, *, stream: bool) -> Any:
            began = perf_counter()
            exchange = noted()
            url = Secret(request.url.copy_merge_params(exchange.query))
            wire = self._wire(url)
            content = await request.aread()
            exchange.started(request.url.netloc.decode("ascii"))
            request.headers["accept-encoding"] = ACCEPTED
            request.headers.update(exchange.extra)
            headers = Hidden(request.headers.raw)
            answer = await wire.send(request.method, url, headers, content, exchange)
            exchange.status = answer.status
            exchange.headers = library.Headers(answer.headers)
            streamed = stream and answer.status < _FIRST_ERROR
            body = (
                {"stream": body_class(answer, exchange)}
                if streamed
                else {"content": await _whole(answer, exchange)}
            )
            response = library.Response(
                answer.status,
                headers=_unpacked_headers(answer.headers),
                request=request,
                extensions={"reason_phrase": answer.reason.encode("ascii", "replace")},
                **body,
            )
            response.elapsed = timedelta(seconds=perf_counter() - began)
            if not streamed:
                exchange.body = response.content
            return response

        async def aclose(self) -> None: ...

    return Client


@cache
def _body_class(library: Any) -> Any:
    class Body(library.AsyncByteStream):  # type: ignore[misc]  # of whichever library it is
        def __init__(self, answer: Answer, exchange: Exchange) -> None:
            self._answer = answer
            # Its own: whoever reads it may do so in another task, long after the call.
            self._exchange = exchange
            self._encoding = _encoding(exchange)

        async def __aiter__(self) -> AsyncGenerator[bytes]:
            try:
                # Closed with this one, not when the collector finds them: a reader may leave.
                async with aclosing(
                    _unpacked(self._answer, self._encoding, self._exchange)
                ) as pieces:
                    async for piece in pieces:
                        self._exchange.streamed(piece)
                        yield piece
            except Broken as broken:
                error = _translated(library, broken)
            else:
                return
            raise error

        async def aclose(self) -> None:
            self._answer.close()

    return Body


async def _whole(answer: Answer, exchange: Exchange) -> bytes:
    body = await answer.read()
    try:
        return await decoded(body, _encoding(exchange), largest(answer.status))
    except UnusableBodyError as error:
        broken = _unusable(error, exchange)
    raise broken


async def _unpacked(answer: Answer, encoding: str, exchange: Exchange) -> AsyncGenerator[bytes]:
    try:
        unpacking = Unpacking(encoding, largest(answer.status))
        async with aclosing(answer.pieces()) as pieces:
            async for packed in pieces:
                for number, piece in enumerate(unpacking.fed(packed)):
                    if number:  # the rest of a piece is no reason to keep all others waiting
                        await asyncio.sleep(0)
                    if piece:
                        yield piece
        unpacking.finish()
    except UnusableBodyError as error:
        broken = _unusable(error, exchange)
    else:
        return
    finally:
        answer.close()  # also where nothing of it was read, as it is packed in an unknown way
    raise broken


def _encoding(exchange: Exchange) -> str:
    return exchange.headers.get("content-encoding", "")


def _unusable(error: UnusableBodyError, exchange: Exchange) -> Broken:
    exchange.failure = Failure(error.fault, exchange.host)
    return Broken(exchange.failure)


def _unpacked_headers(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    return [field for field in headers if field[0].lower() != b"content-encoding"]


def _translated(library: Any, broken: Broken, request: Any = None) -> Exception:
    """Return the library's exception for a failure.

    Only two kinds: litellm answers some others by asking again through a client of its own,
    past the proxy, the CA bundle and the block on real calls. The kind of failure is in the
    exchange, where the error is classified.
    """
    timed_out = broken.failure.fault in TIMEOUTS
    kind = library.ReadTimeout if timed_out else library.ReadError
    error: Exception = kind(str(broken), request=request)
    return error
