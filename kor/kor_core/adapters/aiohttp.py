"""One HTTP request over aiohttp, which keeps its speed with many connections open.

httpx 0.28 falls to an eighth of its rate at 50 concurrent calls; the SDKs sit on httpx, so
the client they are given sends through here instead.
"""

import asyncio
import re
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from typing import Any, Final, cast

import aiohttp
from yarl import URL

from kor_core.adapters.bodies import largest
from kor_core.adapters.exchange import Exchange, Failure, Fault
from kor_core.adapters.proxies import Proxies
from kor_core.adapters.sessions import Connector, Session, Sessions
from kor_core.redaction import Secret
from kor_core.settings import NetworkSettings
from kor_core.spellings import spellings_in_urls

__all__ = ["Answer", "Broken", "Headers", "Wire"]

Headers = Iterable[tuple[bytes, bytes]]

# Sent whole up to here (the usual socket buffer takes it at once), in pieces beyond, so
# that a stalled upload is noticed.
_PIECE: Final = 1 << 16

# A host that is slow holds no more than all but a quarter of the connections: one tenant's
# endpoint must not keep all the others waiting.
_KEPT_FOR_OTHERS: Final = 4

_AUTOMATIC: Final = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")


class Broken(Exception):  # noqa: N818  # never leaves the adapters
    """A request that got no (whole) answer; ``failure`` says why."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(str(failure))
        self.failure: Final = failure


class Answer:
    """A response whose body has not been read yet."""

    def __init__(self, response: aiohttp.ClientResponse, exchange: Exchange) -> None:
        self._response = response
        self._exchange = exchange
        self.status = response.status
        self.reason = response.reason or ""
        self.headers = response.raw_headers

    async def read(self) -> bytes:
        """Return the whole body as it came, still compressed."""
        body = bytearray()
        try:
            async for piece in self._response.content.iter_any():
                body += piece
                if len(body) > largest(self.status):
                    raise _TooLargeError  # noqa: TRY301  # one place ends every failed read
        except (aiohttp.ClientError, TimeoutError, OSError, _TooLargeError) as error:
            broken = _broken(error, self._exchange)
        else:
            return bytes(body)
        finally:
            self.close()
        raise broken

    async def pieces(self) -> AsyncGenerator[bytes]:
        """Yield the body as it comes; where it breaks off, all that came before that."""
        left = largest(self.status)
        content = self._response.content
        try:
            async for piece in content.iter_any():
                left -= len(piece)
                if left < 0:
                    raise _TooLargeError  # noqa: TRY301  # one place ends every failed read
                yield piece
        except (aiohttp.ClientError, TimeoutError, OSError, _TooLargeError) as error:
            broken = _broken(error, self._exchange)
            rest = _unread(content)
        else:
            return
        finally:
            self.close()
        if rest:
            yield rest
        raise broken

    def close(self) -> None:
        """Give the connection back when the body was read to its end; else close it."""
        self._response.close()


class Wire:
    """Sends requests as the network settings say.

    Args:
        settings: proxies, timeouts and limits.
        context: the SSL context of all connections.
    """

    def __init__(self, settings: NetworkSettings, context: ssl.SSLContext) -> None:
        self._settings = settings
        self.context: Final = context
        self._proxies = Proxies.configured(settings)
        self._secrets = spellings_in_urls(self._proxies.by_scheme.values())
        self._timeout = aiohttp.ClientTimeout(
            total=None,
            connect=settings.pool_timeout + settings.connect_timeout,
            sock_connect=settings.connect_timeout,
            sock_read=settings.read_timeout,
        )
        self.sessions = Sessions(self._open)

    async def send(
        self, method: str, url: str, headers: Headers, body: bytes, exchange: Exchange
    ) -> Answer:
        """Send a request and return as soon as the headers of the answer are there.

        Raises:
            Broken: no answer came.
        """
        exchange.secrets = self._secrets  # a proxy may repeat them
        session = await self.sessions.current()
        session.active += 1
        try:
            response = await self._request(session, method, url, headers, body)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            broken = _broken(error, exchange)
        else:
            return Answer(response, exchange)
        finally:
            session.active -= 1
        raise broken

    async def _request(
        self, session: Session, method: str, url: str, headers: Headers, body: bytes
    ) -> aiohttp.ClientResponse:
        fields = [
            (name.decode("ascii"), Secret(value.decode("latin-1"))) for name, value in headers
        ]
        if session.active > self._settings.max_keepalive_connections:
            fields = [field for field in fields if field[0].lower() != "connection"]
            fields.append(("Connection", Secret("close")))
        stall = asyncio.timeout(None)
        data = body if len(body) <= _PIECE else self._in_pieces(body, stall)
        try:
            async with stall:
                return await session.client.request(
                    method,
                    URL(url, encoded=True),
                    headers=fields,
                    data=data or None,
                    allow_redirects=False,  # the key would go where the answer says
                    proxy=self._proxies.of(url),
                )
        except TimeoutError:
            if stall.expired():
                raise _StalledError from None
            raise

    async def _in_pieces(self, body: bytes, stall: asyncio.Timeout) -> AsyncIterator[bytes]:
        now = asyncio.get_running_loop().time
        for start in range(0, len(body), _PIECE):
            stall.reschedule(now() + self._settings.write_timeout)
            yield body[start : start + _PIECE]
        stall.reschedule(None)

    def _open(self) -> tuple[aiohttp.ClientSession, Connector]:
        pool = Connector(
            ssl=self.context,
            limit=(most := self._settings.max_connections),
            limit_per_host=most - most // _KEPT_FOR_OTHERS,
            keepalive_timeout=self._settings.keepalive_expiry,
        )
        client = aiohttp.ClientSession(
            connector=pool,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=self._timeout,
            auto_decompress=False,  # the SDK's own client decodes
            skip_auto_headers=_AUTOMATIC,
            trust_env=False,  # proxies are decided above; ~/.netrc is nobody's key here
        )
        return client, pool


def _unread(content: aiohttp.StreamReader) -> bytes:
    """Take what came before the connection broke: aiohttp raises first, and keeps it back.

    That is what a reader loses who was busy meanwhile.
    """
    if content.exception() is None:
        return b""
    content.set_exception(cast("Any", None))
    return content.read_nowait()


class _StalledError(TimeoutError):
    """The request could not be sent: the other side stopped reading."""


class _TooLargeError(Exception):
    """The body has more bytes than an answer can have."""


# Looked through from the top: subclasses stand before their bases.
_FAULTS: Final[tuple[tuple[type[BaseException], Fault], ...]] = (
    (_StalledError, Fault.WRITE_TIMEOUT),
    (_TooLargeError, Fault.TOO_LARGE),
    (aiohttp.ConnectionTimeoutError, Fault.CONNECT_TIMEOUT),
    (TimeoutError, Fault.READ_TIMEOUT),
    (aiohttp.ClientHttpProxyError, Fault.PROXY),
    (aiohttp.ClientProxyConnectionError, Fault.PROXY),
    (aiohttp.ClientConnectorDNSError, Fault.UNKNOWN_HOST),
    (aiohttp.ClientConnectorCertificateError, Fault.UNTRUSTED),
    (aiohttp.ClientSSLError, Fault.TLS),
    (aiohttp.ClientConnectorError, Fault.REFUSED),
    (aiohttp.ClientPayloadError, Fault.CUT),
    (aiohttp.ClientConnectionError, Fault.CUT),
    (aiohttp.ClientResponseError, Fault.GARBLED),
    (aiohttp.InvalidURL, Fault.BAD_URL),
    (aiohttp.NonHttpUrlClientError, Fault.BAD_URL),
    (OSError, Fault.CUT),
    (ValueError, Fault.BAD_URL),
)


def _broken(error: BaseException, exchange: Exchange) -> Broken:
    """Note a failure and return what to raise: without the chain, whose frames hold keys."""
    fault = next((fault for kind, fault in _FAULTS if isinstance(error, kind)), Fault.OTHER)
    exchange.failure = Failure(fault, exchange.host, _detail(error))
    return Broken(exchange.failure)


def _detail(error: BaseException) -> str:
    if isinstance(error, aiohttp.InvalidURL | aiohttp.NonHttpUrlClientError | TimeoutError):
        return ""
    reason = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(reason, OSError):
        return str(reason).strip()
    if isinstance(error, aiohttp.ClientResponseError):  # its str shows the URL
        return _unquoted(f"{error.status} {error.message}")
    return _unquoted(str(reason))


def _unquoted(words: str) -> str:
    """Return aiohttp's words up to where they quote what came, which may hold a key."""
    return _QUOTE.split(words, maxsplit=1)[0].rstrip(" :")


_QUOTE: Final = re.compile(r"""\n|\bb?['"]|['"<]""")
