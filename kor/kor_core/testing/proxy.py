"""A forward proxy on loopback, to prove that clients use the one they were told to."""

import base64
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from kor_core.errors import KorError
from kor_core.testing.recording import Headers
from kor_core.testing.server import HOST, Peer, Server

__all__ = ["ForwardProxy", "Proxied"]


@dataclass(frozen=True, slots=True)
class Proxied:
    """One request that a client made to the proxy.

    Args:
        method: ``CONNECT`` for a tunnel, any other for a request that is forwarded.
        target: ``host:port`` of a tunnel, the whole URL otherwise.
        headers: as they reached the proxy.
        allowed: False when it was turned away with a 407.
    """

    method: str
    target: str
    headers: Headers
    allowed: bool


class ForwardProxy:
    """Forwards plain HTTP and tunnels ``CONNECT``, and records what passed.

    Args:
        user: name that clients must give (Basic); no credentials are asked for when empty.
        password: that belongs to it.

    >>> import urllib.request
    >>> from kor_core.testing import Upstream
    >>> with Upstream() as upstream, ForwardProxy() as proxy:
    ...     through = urllib.request.ProxyHandler({"http": proxy.url})
    ...     client = urllib.request.build_opener(through)
    ...     with client.open(upstream.openai_url + "/models") as response:
    ...         status = response.status
    ...     status, proxy.requests[0].target == upstream.openai_url + "/models"
    (200, True)
    """

    def __init__(self, *, user: str = "", password: str = "") -> None:
        token = base64.b64encode(f"{user}:{password}".encode()).decode()
        self._expected = f"Basic {token}" if user else None
        self._requests: list[Proxied] = []
        self._server = Server(self._connection)

    @property
    def url(self) -> str:
        """Such as ``http://127.0.0.1:41234``, without credentials."""
        if not self._server.port:
            raise KorError("The proxy is not open: use it as `with ForwardProxy() as proxy:`.")
        return f"http://{HOST}:{self._server.port}"

    @property
    def requests(self) -> tuple[Proxied, ...]:
        """What clients asked of it so far."""
        return tuple(self._requests)

    def open(self) -> Self:
        """Start serving; ``with`` does it."""
        self._server.start()
        return self

    def close(self) -> None:
        """Stop serving and close every connection; no thread, task or socket is left."""
        self._server.stop()

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self.open()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _connection(self, peers: set[Peer]) -> Peer:
        # Here: the doubles must do without h11, which comes with the extra.
        from kor_core.testing.tunnel import Tunnel  # noqa: PLC0415  # see above

        return Tunnel(peers, self._allows)

    def _allows(self, method: str, target: str, headers: Headers) -> bool:
        allowed = self._expected in (None, headers.get("proxy-authorization"))
        self._requests.append(Proxied(method, target, headers, allowed))
        return allowed
