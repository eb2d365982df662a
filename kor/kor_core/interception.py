"""What stands between the transports of the process and the network: blocks and cassettes.

Transports ask here before they send; `kor_core.testing` sets here what they are told. So
neither knows the other. It holds for the whole process, threads without context included:
a call that must not leave does not leave because it comes from a worker thread.
"""

from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from ipaddress import ip_address
from threading import Lock
from typing import Any, Final, Generic, Protocol, TypeVar

from kor_core.errors import RealCallsBlockedError

__all__ = [
    "CURE",
    "Answer",
    "Blocked",
    "Headers",
    "Interceptor",
    "Onward",
    "Wire",
    "beyond_loopback",
    "blocked",
    "everywhere",
    "intercepted",
    "is_intercepted",
    "refuse_blocked",
    "wire_for",
]

Blocked = Callable[[str], bool]
Headers = Iterable[tuple[bytes, bytes]]

CURE: Final = (
    "Use a double such as ScriptedProvider, play a cassette, or allow real calls for this test."
)

T = TypeVar("T")


class _Standing(Generic[T]):
    """What stands now, the innermost last; read without a lock, because it is never changed."""

    def __init__(self) -> None:
        self.now: tuple[T, ...] = ()
        self._lock = Lock()

    @contextmanager
    def adding(self, item: T) -> Generator[None]:
        with self._lock:
            self.now = (*self.now, item)
        try:
            yield
        finally:
            with self._lock:
                self.now = tuple(other for other in self.now if other is not item)


# --- which hosts are refused --------------------------------------------------------------


def everywhere(host: str) -> bool:  # noqa: ARG001  # a rule for hosts that needs none
    """Block calls to any host.

    >>> everywhere("127.0.0.1")
    True
    """
    return True


def beyond_loopback(host: str) -> bool:
    """Block calls to hosts other than this machine.

    >>> beyond_loopback("api.openai.com"), beyond_loopback("127.0.0.1"), beyond_loopback("::1")
    (True, False, False)
    """
    try:
        return not ip_address(host).is_loopback
    except ValueError:
        return host != "localhost" and not host.endswith(".localhost")


def refuse_blocked(host: str) -> None:
    """Refuse a host that calls must not reach now.

    Raises:
        RealCallsBlockedError: it is blocked.
    """
    for rule, cure in _blocks.now:
        if rule(host):
            raise RealCallsBlockedError(
                f"Real calls are blocked here, and this one would go to {host}. {cure}", host=host
            )


@contextmanager
def blocked(rule: Blocked, cure: str = CURE) -> Generator[None]:
    """Refuse hosts inside the block, for every transport of the process.

    Args:
        rule: says of a host whether it is refused.
        cure: what to do about it, whole sentences.

    >>> with blocked(beyond_loopback):
    ...     refuse_blocked("api.openai.com")
    Traceback (most recent call last):
    kor_core.errors.RealCallsBlockedError: Real calls are blocked here, and this one would \
go to api.openai.com. ...
    """
    with _blocks.adding((rule, cure)):
        yield


_blocks: Final = _Standing[tuple[Blocked, str]]()


# --- who answers in place of the network --------------------------------------------------


class Answer(Protocol):
    """A response whose body has not been read yet."""

    @property
    def status(self) -> int:
        """The HTTP status."""
        ...

    @property
    def reason(self) -> str:
        """The words beside the status."""
        ...

    @property
    def headers(self) -> Sequence[tuple[bytes, bytes]]:
        """The headers as they came."""
        ...

    async def read(self) -> bytes:
        """Return the whole body."""
        ...

    def pieces(self) -> AsyncGenerator[bytes]:
        """Yield the body as it comes."""
        ...

    def close(self) -> None:
        """Let go of the response."""
        ...


class Wire(Protocol):
    """Sends requests."""

    async def send(
        self, method: str, url: str, headers: Headers, body: bytes, exchange: Any, /
    ) -> Answer:
        """Send a request and return as soon as the headers of the answer are there."""
        ...


Onward = Callable[[str], Wire]


class Interceptor(Protocol):
    """Stands in for the network, and may ask it."""

    def wire(self, onward: Onward) -> Wire:
        """Return what answers requests.

        Args:
            onward: gives the real wire for a URL, or refuses it.
        """
        ...


def wire_for(url: str, onward: Onward) -> Wire:
    """Return the wire for a URL: that of the innermost interceptor, or the real one."""
    standing = _interceptors.now
    return standing[-1].wire(onward) if standing else onward(url)


def is_intercepted() -> bool:
    """Say whether anybody stands in for the network."""
    return bool(_interceptors.now)


@contextmanager
def intercepted(interceptor: Interceptor) -> Generator[None]:
    """Put an interceptor before every transport of the process."""
    with _interceptors.adding(interceptor):
        yield


_interceptors: Final = _Standing[Interceptor]()
