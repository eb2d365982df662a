"""One aiohttp session (a pool of connections) for each event loop that makes calls.

A connection belongs to the loop it was opened in: used from another one it fails with
"Event loop is closed". So every loop gets a session of its own, closed when the loop ends.
"""

import asyncio
from asyncio import AbstractEventLoop
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from threading import Lock
from typing import Any, Final
from weakref import finalize

import aiohttp

__all__ = ["Connector", "Session", "Sessions"]


class Connector(aiohttp.TCPConnector):
    """A pool that is silent when the loop it belonged to ended without closing it."""

    def __del__(self, _warnings: Any = None, /) -> None:
        """Leave the connections to their sockets: no loop is left to close them in."""

    def cut(self) -> None:
        """Close the connections now, without TLS's farewell: the loop may have no time for it."""
        # The base class closes as it is called; to be awaited is only that the peers heard it,
        # which __await__ says was taken care of.
        super(aiohttp.TCPConnector, self).close(abort_ssl=True).__await__()


class Session:
    """The session of one loop.

    Args:
        client: sends over the pool, without cookies, proxies of its own, or redirects.
        pool: the connections.
        loop: the loop they belong to.
    """

    def __init__(
        self, client: aiohttp.ClientSession, pool: Connector, loop: AbstractEventLoop
    ) -> None:
        self.client = client
        self.pool = pool
        self.loop = loop
        self.active = 0
        self._lifetime = self._until_the_loop_ends()
        self._abandoned = finalize(self, _abandon, client, pool, loop)

    @property
    def ended(self) -> bool:
        """Whether nothing can be sent through it any more."""
        return self.loop.is_closed() or self.client.closed

    async def attach(self) -> "Session":
        """Let the loop close this session when it ends.

        ``asyncio.run`` and every runner like it close the async generators that were
        started in their loop before they close the loop, and wait for them.
        """
        await anext(self._lifetime)
        return self

    async def aclose(self) -> None:
        """Close the pool; to be awaited in its own loop."""
        await self._lifetime.aclose()

    def abandon(self) -> None:
        """Let go of the pool without waiting for it, from any thread."""
        if _running() is not self.loop:
            self._abandoned()
        elif self._abandoned.detach():
            # Now: what would be done soon is never done where the loop ends with its caller.
            self.client.detach()
            _close_in(self.loop, self.pool)

    async def _until_the_loop_ends(self) -> AsyncGenerator[None]:
        try:
            yield
        finally:
            self._abandoned.detach()
            await self.client.close()
            await self.pool.close()  # which the client knows no more where it was abandoned


def _abandon(client: aiohttp.ClientSession, pool: Connector, loop: AbstractEventLoop) -> None:
    """Close the connections in their loop, as soon as it runs, if it ever does."""
    client.detach()  # aiohttp reports a session that is dropped with its pool still in it
    with suppress(RuntimeError):  # the loop is closed already
        loop.call_soon_threadsafe(_close_in, loop, pool)


def _close_in(loop: AbstractEventLoop, pool: Connector) -> None:
    pool.cut()
    task = loop.create_task(pool.close())  # what is left: its resolver
    _closing.add(task)  # a loop itself holds its tasks but weakly
    task.add_done_callback(_closing.discard)


def _running() -> AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


_closing: Final[set[asyncio.Task[None]]] = set()


class Sessions:
    """The sessions by loop. Sessions of loops that have ended are dropped.

    Args:
        open_client: makes an aiohttp session, and the pool in it, for the running loop.
    """

    def __init__(self, open_client: Callable[[], tuple[aiohttp.ClientSession, Connector]]) -> None:
        self._open_client = open_client
        self._by_loop: dict[AbstractEventLoop, Session] = {}
        self._lock = Lock()

    async def current(self) -> Session:
        """Return the session of the running loop."""
        loop = asyncio.get_running_loop()
        session = self._by_loop.get(loop)
        if session is None or session.client.closed:
            self._drop_ended()
            session = Session(*self._open_client(), loop)
            with self._lock:
                self._by_loop[loop] = session
            await session.attach()
        return session

    def __len__(self) -> int:
        return len(self._by_loop)

    def _drop_ended(self) -> None:
        with self._lock:
            ended = [held for held in self._by_loop.values() if held.ended]
            for session in ended:
                del self._by_loop[session.loop]
        for session in ended:
            session.abandon()

    async def aclose(self) -> None:
        """Close every session: that of this loop here, the others in theirs."""
        running = asyncio.get_running_loop()
        for session in self._take_all():
            if session.loop is running:
                await session.aclose()
            else:
                session.abandon()

    def close(self) -> None:
        """Close every session in its own loop, without waiting for it."""
        for session in self._take_all():
            session.abandon()

    def _take_all(self) -> list[Session]:
        with self._lock:
            sessions = list(self._by_loop.values())
            self._by_loop.clear()
        return sessions
