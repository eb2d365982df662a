"""A listening socket on loopback whose connections can be counted, reset and refused."""

import asyncio
import socket
import ssl
import struct
from collections.abc import Callable, Coroutine
from contextlib import suppress
from importlib import import_module
from typing import Any, Final

from kor_core.errors import KorError
from kor_core.testing.background import Background

__all__ = ["HOST", "Peer", "Server"]

HOST: Final = "127.0.0.1"

_BACKLOG: Final = 1024

# SO_LINGER on with 0 seconds: closing sends RST instead of FIN.
_RESETTING: Final = struct.pack("ii", 1, 0)


class Peer(asyncio.Protocol):
    """One connection, listed among its server's while it is open."""

    transport: asyncio.Transport

    def __init__(self, peers: "set[Peer]") -> None:
        self._peers = peers

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Join the connections of the server."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101  # TCP, never datagrams
        self.transport = transport
        self._peers.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Leave the connections of the server."""
        del exc
        self._peers.discard(self)

    def reset(self) -> None:
        """End the connection so that the other side sees an error."""
        raw: socket.socket = self.transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESETTING)
        self.transport.abort()


class Server:
    """Accepts connections on a free port of the loopback interface.

    Args:
        connect: makes the protocol of one connection, given the set of those open.
        ssl_context: of the server's side; None for plain TCP.
    """

    def __init__(
        self,
        connect: Callable[[set[Peer]], Peer],
        *,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self.port = 0
        self.peers: set[Peer] = set()
        self.accepted = 0
        self._connect = connect
        self._ssl = ssl_context
        self._background = Background("kor-testing-server")
        self._socket: socket.socket | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Listen on a free port.

        Raises:
            KorError: the extra ``testing`` is not installed.
        """
        _require_parser()
        self._socket = _bound(0)
        self.port = self._socket.getsockname()[1]
        self._background.start()
        self._background.run(self._listen(self._socket))

    def stop(self) -> None:
        """Close every connection and the port; nothing is left. Stopping twice is fine."""
        if self._socket is not None:
            self._background.run(self._hang_up())
            self._background.stop()
            self._socket.close()
            self._socket = None

    def refuse(self) -> None:
        """Close every connection, and refuse new ones until :meth:`accept`."""
        if self._socket is not None:
            self._background.run(self._hang_up())
            self._socket.close()
            # Bound, so that the port stays ours; without listen(), so that it refuses.
            self._socket = _bound(self.port)

    def accept(self) -> None:
        """Accept connections again after :meth:`refuse`."""
        if self._socket is not None:
            self._background.run(self._listen(self._socket))

    async def _listen(self, listener: socket.socket) -> None:
        listener.listen(_BACKLOG)
        self._spawn(self._accepting(listener))

    async def _accepting(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            accepted, _ = await loop.sock_accept(listener)
            self.accepted += 1
            self._spawn(self._welcome(accepted))

    async def _welcome(self, accepted: socket.socket) -> None:
        accepted.setblocking(False)  # noqa: FBT003  # the socket's own signature
        loop = asyncio.get_running_loop()
        with suppress(OSError):  # a client that left or refused our certificate: its own concern
            await loop.connect_accepted_socket(
                lambda: self._connect(self.peers), accepted, ssl=self._ssl
            )

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _hang_up(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for peer in list(self.peers):
            peer.transport.abort()
        # Each leaves when its socket is closed, a step of the loop later.
        while self.peers:  # noqa: ASYNC110  # no event: this thread's own loop does it next
            await asyncio.sleep(0)


def _require_parser() -> None:
    # Now and here: once a connection is accepted, there is nobody left to tell.
    try:
        import_module("h11")
    except ImportError as error:
        raise KorError(
            "A server for tests needs the package h11. Install the extra: "
            "pip install 'kor-sdk[testing]', or from a clone: pip install '.[testing]'."
        ) from error


def _bound(port: int) -> socket.socket:
    # By its protocol asyncio knows that it is TCP, and sends small pieces at once.
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    # The port may still be held by connections that were closed a moment ago.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setblocking(False)  # noqa: FBT003  # the socket's own signature
    sock.bind((HOST, port))
    return sock
