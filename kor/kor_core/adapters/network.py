"""The transport that every provider of a kernel shares: one SSL context, pools by loop.

It knows the network settings and no credential, so tenants share it too.
"""

from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
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
from kor_core.settings.tables import updated

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
        self._wires: dict[bool, Any] = {}
        self._clients: dict[tuple[str, bool], Any] = {}
        self._closed = False

    def client(self, library: Library, *, for_tenants: bool = False) -> Any:
        """Return the ``AsyncClient`` of httpx or httpx2 that sends through this transport.

        It is the same one each time, for any loop. Closing it does nothing; close the
        transport instead.

        Args:
            library: which of the two.
            for_tenants: for endpoints that tenants chose: without the client certificate, and
                with connections of their own, half as many, so that none of these endpoints
                keeps the operator's waiting.
        """
        key = library, for_tenants
        with self._lock:
            if key not in self._clients:
                self._clients[key] = self._make_client(library, for_tenants=for_tenants)
            return self._clients[key]

    def _make_client(self, library: Library, *, for_tenants: bool) -> Any:
        from kor_core.adapters.httpx import make_client

        wire = partial(self._intercepted, for_tenants=for_tenants)
        return make_client(import_module(library), wire, self.timeouts)

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

    def _intercepted(self, url: str, *, for_tenants: bool) -> Any:
        self._refuse_closed()
        return wire_for(url, partial(self._wire_to, for_tenants=for_tenants))

    def _wire_to(self, url: str, *, for_tenants: bool) -> Any:
        self._refuse_blocked(url)
        with self._lock:
            if for_tenants not in self._wires:
                self._wires[for_tenants] = self._make_wire(for_tenants=for_tenants)
            return self._wires[for_tenants]

    def _make_wire(self, *, for_tenants: bool) -> Any:
        from kor_core.adapters.aiohttp import Wire
        from kor_core.adapters.tls import ssl_context

        settings = self.settings
        if for_tenants:
            half = max(1, settings.max_connections // 2)
            nobody = {"client_certificate": None, "client_key": None, "max_connections": half}
            settings = updated(settings, nobody)
        other = self._wires.get(not for_tenants)
        if other is not None and self.settings.client_certificate is None:
            return Wire(settings, other.context)  # each context takes 20 ms to build
        return Wire(settings, ssl_context(settings))

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
        for wire in list(self._wires.values()):  # another thread may be making one
            wire.sessions.close()

    async def aclose(self) -> None:
        """Close all connections; calls are refused from now on."""
        self._closed = True
        for wire in list(self._wires.values()):  # another thread may be making one
            await wire.sessions.aclose()

    def __repr__(self) -> str:
        return f"<Transport {'closed' if self._closed else 'open'}>"
