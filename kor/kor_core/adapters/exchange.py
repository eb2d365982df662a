"""What really happened on the wire during one call, as plain data.

The SDKs turn a refused connection into an internal error and a bad request into several
kinds of exception. So the transport notes what it saw, and errors are classified by that.
"""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

from kor_core.redaction import Secret

__all__ = ["TIMEOUTS", "Exchange", "Failure", "Fault", "is_watched", "noted", "watched"]


class Fault(Enum):
    """Why there was no (whole) answer; the value says it in words."""

    CONNECT_TIMEOUT = "no connection was made in time"
    READ_TIMEOUT = "no answer came in time"
    WRITE_TIMEOUT = "the request could not be sent in time"
    UNKNOWN_HOST = "the host name is not known"
    REFUSED = "the connection was refused"
    UNTRUSTED = "the certificate is not trusted"
    TLS = "no secure connection could be made"
    PROXY = "the proxy would not let the request through"
    CUT = "the connection broke before the whole answer was there"
    GARBLED = "the answer is no valid HTTP"
    TOO_LARGE = "the answer is larger than an answer can be"
    PACKED = "the answer is broken, or compressed in a way that was not asked for"
    BAD_URL = "the endpoint is no valid URL"
    OTHER = "the connection failed"


_TAIL: Final = 8192  # bytes; an event that tells of an error is shorter

TIMEOUTS: Final = frozenset({Fault.CONNECT_TIMEOUT, Fault.READ_TIMEOUT, Fault.WRITE_TIMEOUT})


@dataclass(frozen=True, slots=True)
class Failure:
    """One failure of the transport.

    Args:
        fault: which kind it is.
        host: the host (with port) that was called.
        detail: the words of the operating system or the HTTP library.
    """

    fault: Fault
    host: str
    detail: str = field(default="", repr=False)  # may be the other side's words

    def __str__(self) -> str:
        detail = f" ({self.detail})" if self.detail else ""
        return f"{self.host}: {self.fault.value}{detail}"


@dataclass(slots=True)
class Exchange:
    """The requests of one call, and the latest answer or failure.

    Args:
        extra: headers to add to each request. The SDKs, which could add them too, log them.
        query: parameters to add to each URL, likewise.
        requests: how many requests left.
        host: host (with port) of the latest one.
        status: HTTP status of the latest answer.
        headers: its headers, names in lower case.
        body: its body, unless it is streamed.
        tail: the end of a streamed body, as far as it has been read.
        failure: what went wrong below HTTP.
        secrets: what no message may show, beside the caller's: credentials of a proxy.
    """

    extra: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    query: Mapping[str, Any] = field(default_factory=dict[str, Any], repr=False)
    requests: int = 0
    host: str = ""
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    body: bytes = field(default=b"", repr=False)
    tail: bytes = field(default=b"", repr=False)
    failure: Failure | None = None
    secrets: frozenset[Secret] = field(default_factory=frozenset[Secret], repr=False)

    def started(self, host: str) -> None:
        """Note that a request leaves; what an earlier one met no longer counts."""
        self.requests += 1
        self.host = host
        self.status = self.failure = None
        self.headers, self.body, self.tail = {}, b"", b""

    def streamed(self, piece: bytes) -> None:
        """Note a piece of a streamed body: where it ends in an error, the end says which."""
        self.tail = (self.tail + piece)[-_TAIL:]


_watching: ContextVar[Exchange | None] = ContextVar("kor_exchange", default=None)


@contextmanager
def watched(
    extra: Mapping[str, str] | None = None, query: Mapping[str, Any] | None = None
) -> Generator[Exchange]:
    """Collect what the transport does inside the block, in this task and its children.

    Args:
        extra: headers to add to each request.
        query: parameters to add to each URL.

    >>> with watched() as exchange:
    ...     noted().started("api.example.com")
    >>> exchange.requests, exchange.host
    (1, 'api.example.com')
    """
    exchange = Exchange(extra or {}, query or {})
    token = _watching.set(exchange)
    try:
        yield exchange
    finally:
        _watching.reset(token)


def is_watched() -> bool:
    """Say whether this runs within a call.

    >>> is_watched()
    False
    """
    return _watching.get() is not None


def noted() -> Exchange:
    """Return where the transport notes what it sees; thrown away when nobody watches.

    Whoever opens a stream keeps it: what is read from the stream later is noted there, in
    whichever task that happens.
    """
    return _watching.get() or Exchange()
