"""The transport that every provider of a kernel shares: one SSL context, pools by loop.

It knows the network settings and no credential, so tenants share it too.
"""

from collections.abc import Generator
from contextlib import contextmanager
from importlib import import_module
from threading import Lock
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from kor_core.errors import KernelError, RealCallsBlockedError
from kor_core.interception import (
    CURE,
    Blocked,
    everywhere,
    is_intercepted,
    refuse_blocked,
    wire_for,
)
from kor_core.settings import NetworkSettings

__all__ = ["Library", "Transport"]

Library = Literal["httpx", "httpx2"]


class Transport:
    """Connections for the providers of one kernel; nothing is opened before the first call.

    One object serves any number of event loops and threads: each loop gets a pool of its
    own, which is closed when the loop ends. Cookies are not kept, redirects not followed.

    Args:
        settings: proxy, certificates, timeouts and limits.
        blocked: says of a host whether calls to it are refused, for tests; by default none is.

    >>> from kor_core.interception import beyond_loopback
    >>> transport = Transport(NetworkSettings(), blocked=beyond_loopback)
    >>> transport.check("https://api.openai.com/v1")
    Traceback (most recent call last):
    kor_core.errors.RealCallsBlockedError: Real calls are blocked here, and this one would \
go to api.openai.com. ...
    """

    def __init__(self, settings: NetworkSettings, *, blocked: Blocked | None = None) -> None:
        self.settings: Final = settings
        self._blocked = [] if blocked is None else [blocked]
        self._lock: Final = Lock()
        self._wire: Any = None
        self._clients: dict[str, Any] = {}
        self._closed = False

    def client(self, library: Library) -> Any:
        """Return the ``AsyncClient`` of httpx or httpx2 that sends through this transport.

        It is the same one each time, for any loop. Closing it does nothing; close the
        transport instead.
        """
        with self._lock:
            if library not in self._clients:
                self._clients[library] = self._make_client(library)
            return self._clients[library]

    def _make_client(self, library: Library) -> Any:
        from kor_core.adapters.httpx import make_client

        return make_client(import_module(library), self._intercepted, self.timeouts)

    @property
    def timeouts(self) -> dict[str, float]:
        """The timeouts in seconds: ``connect``, ``read``, ``write``, ``pool``."""
        settings = self.settings
        return {
            "connect": settings.connect_timeout,
            "read": settings.read_timeout,
            "write": settings.write_timeout,
            "pool": settings.pool_timeout,
        }

    def _intercepted(self, url: str) -> Any:
        self._refuse_closed()
        return wire_for(url, self._wire_to)

    def _wire_to(self, url: str) -> Any:
        self._refuse_blocked(url)
        with self._lock:
            if self._wire is None:
                self._wire = self._make_wire()
            return self._wire

    def _make_wire(self) -> Any:
        from kor_core.adapters.aiohttp import Wire
        from kor_core.adapters.tls import ssl_context

        return Wire(self.settings, ssl_context(self.settings))

    def check(self, url: str) -> None:
        """Refuse a URL that must not be called now.

        Raises:
            KernelError: the transport is closed.
            RealCallsBlockedError: calls to this host are blocked.
        """
        self._refuse_closed()
        if not is_intercepted():  # whoever stands in asks for itself, or calls nobody
            self._refuse_blocked(url)

    def _refuse_blocked(self, url: str) -> None:
        host = urlsplit(url).hostname or url
        refuse_blocked(host)
        if any(blocked(host) for blocked in self._blocked):
            raise RealCallsBlockedError(
                f"Real calls are blocked here, and this one would go to {host}. {CURE}", host=host
            )

    def _refuse_closed(self) -> None:
        if self._closed:
            raise KernelError(
                "The network transport is closed, and its kernel with it. Get a model from a "
                "kernel that is open."
            )

    @contextmanager
    def blocking(self, blocked: Blocked = everywhere) -> Generator[None]:
        """Refuse calls inside the block, beside those refused already.

        >>> transport = Transport(NetworkSettings())
        >>> with transport.blocking():
        ...     transport.check("http://127.0.0.1:8000/v1")
        Traceback (most recent call last):
        kor_core.errors.RealCallsBlockedError: Real calls are blocked here, ...
        """
        self._blocked.append(blocked)
        try:
            yield
        finally:
            self._blocked.remove(blocked)

    def close(self) -> None:
        """Close all connections, without waiting for it; calls are refused from now on."""
        self._closed = True
        if self._wire is not None:
            self._wire.sessions.close()

    async def aclose(self) -> None:
        """Close all connections; calls are refused from now on."""
        self._closed = True
        if self._wire is not None:
            await self._wire.sessions.aclose()

    def __repr__(self) -> str:
        return f"<Transport {'closed' if self._closed else 'open'}>"
