"""What arrived: one :class:`Received` per request, with secrets masked in its repr."""

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import parse_qsl, unquote

from kor_core.redaction import MASK, Secret, is_secret_name
from kor_core.testing.wire.base import Question

__all__ = ["Headers", "Incoming", "Received"]


class Headers(Mapping[str, str]):
    """HTTP headers: names ignore case, a repeated header is joined with a comma.

    >>> headers = Headers([("authorization", "Bearer sk-planted"), ("accept", "text/html")])
    >>> headers["Authorization"], headers
    ('Bearer sk-planted', Headers(authorization='**********', accept='text/html'))
    """

    def __init__(self, pairs: Iterable[tuple[str, str]] = ()) -> None:
        self._pairs = pairs

    @cached_property
    def _values(self) -> dict[str, str]:
        # On first use: benchmarks send many requests whose headers nobody reads.
        values: dict[str, str] = {}
        for name, value in self._pairs:
            key = name.lower()
            values[key] = f"{values[key]}, {value}" if key in values else value
        return values

    def __getitem__(self, name: str) -> str:
        return self._values[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        shown = (
            f"{name}={MASK if is_secret_name(name) else value!r}"
            for name, value in self._values.items()
        )
        return f"Headers({', '.join(shown)})"


@dataclass(slots=True)
class Incoming:
    """One HTTP request.

    Args:
        method: such as ``POST``.
        target: the path with the query, or what a proxy gets: a URL or ``host:port``.
        headers: of the request.
        keep_alive: whether the client wants to use the connection again.
        body: its bytes.
    """

    method: str
    target: str
    headers: Headers
    keep_alive: bool
    body: bytes = b""

    @property
    def path(self) -> str:
        """The path without the query."""
        return unquote(self.target.partition("?")[0])

    @property
    def query(self) -> dict[str, str]:
        """The query's fields; the last wins where one is repeated."""
        return dict(parse_qsl(self.target.partition("?")[2], keep_blank_values=True))


@dataclass(slots=True, eq=False)
class Received:
    """One request as it arrived, and how its answer ended.

    Args:
        method: such as ``POST``.
        path: the path without the query.
        query: the query's fields; the last wins where one is repeated.
        headers: of the request.
        body: the body's bytes.
        json: the body parsed; None when it is no JSON.
        connection: which connection it came over, counted from 1.
        api: the wire format that answered, such as ``openai.chat``.
        question: what the wire format read off the body.
        time: when it had arrived whole, in seconds of ``time.monotonic()``.
        status: the status it was answered with; 0 while no byte of an answer was written.
        sent: bytes of the answer handed to the socket, head and chunk framing included.
        answered: whether the answer was played to its end.
        disconnected: whether the client left before that.
    """

    method: str
    path: str
    query: Mapping[str, str] = field(repr=False)
    headers: Headers
    body: bytes = field(repr=False)
    json: Any = field(repr=False)
    connection: int
    api: str
    question: Question = field(repr=False)
    time: float = field(default_factory=time.monotonic, repr=False)
    status: int = 0
    sent: int = 0
    answered: bool = False
    disconnected: bool = False

    @property
    def model(self) -> str:
        """The model that was asked, as the request names it; empty where it names none."""
        return self.question.model

    @property
    def text(self) -> str:
        """The text of the last message of the user."""
        return self.question.text

    @property
    def streamed(self) -> bool:
        """Whether the request asked for a stream."""
        return self.question.stream

    @property
    def key(self) -> Secret | None:
        """The API key that was presented, in whichever place the vendors take it."""
        bearer = self.headers.get("authorization", "")
        if bearer.lower().startswith("bearer "):
            return Secret(bearer[len("bearer ") :].strip())
        for name in ("x-api-key", "x-goog-api-key", "api-key"):
            if name in self.headers:
                return Secret(self.headers[name])
        return Secret(self.query["key"]) if "key" in self.query else None

    @property
    def cookies(self) -> Mapping[str, str]:
        """The cookies that the client sent."""
        pairs = (item.split("=", 1) for item in self.headers.get("cookie", "").split(";"))
        return {pair[0].strip(): pair[1] for pair in pairs if len(pair) > 1}
