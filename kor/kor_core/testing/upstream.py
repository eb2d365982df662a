"""A real HTTP server on loopback that plays a vendor of language models, and its failures."""

import json
import ssl
from collections import deque
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from threading import Lock
from types import TracebackType
from typing import Any, Final, Self, Unpack

from kor_core.errors import KorError
from kor_core.testing.answers import Answer, Exchange, adding
from kor_core.testing.faults import Fault, Status
from kor_core.testing.recording import Incoming, Received
from kor_core.testing.replies import Reply, ToolCall
from kor_core.testing.script import Script, Scripted, When
from kor_core.testing.server import HOST, Peer, Server
from kor_core.testing.telling import (
    apis_of,
    check_acts,
    check_conditions,
    check_models,
    check_text,
)
from kor_core.testing.waiting import await_until, wait_until
from kor_core.testing.wire.base import BadBodyError, Failure, Question, WireFormat, table
from kor_core.testing.wire.every import every_format
from kor_core.testing.wire.said import as_said

__all__ = ["Upstream"]

_NOT_OPEN: Final = "The upstream is not open: use it as `with Upstream() as upstream:`."
_STATUS: Final = tuple(field.name for field in fields(Status))


class Upstream:
    """Answers like OpenAI, Anthropic, Gemini and Ollama, over real HTTP on a free port.

    It echoes the last message of the user until told otherwise, and records every request.
    What was told first is played first; a fault that alters an answer alters the reply told
    next. What makes no sense is refused where it is told, with a TypeError or a ValueError. The
    server runs in a thread of its own, so sync and async code can use it alike.

    Args:
        ssl_context: of the server's side, for HTTPS.
        models: what the list of models names.
        headers: added to every answer, such as ``{"set-cookie": "session=1"}``.
        keep: how many of the latest requests to remember; None for all.

    >>> import urllib.request
    >>> with Upstream() as upstream:
    ...     _ = upstream.reply("Hi!")
    ...     body = b'{"model": "gpt-4", "messages": [{"role": "user", "content": "Hello!"}]}'
    ...     url = upstream.openai_url + "/chat/completions"
    ...     with urllib.request.urlopen(url, body) as response:
    ...         answer = response.read()
    ...     upstream.requests[0].text, upstream.requests[0].model, b'"content":"Hi!"' in answer
    ('Hello!', 'gpt-4', True)
    """

    def __init__(
        self,
        *,
        ssl_context: ssl.SSLContext | None = None,
        models: Sequence[str] = ("gpt-4o", "gpt-4"),
        headers: Mapping[str, str] | None = None,
        keep: int | None = None,
    ) -> None:
        check_models(models)
        self._formats = every_format(tuple(models))
        self._apis = apis_of(self._formats)
        self._routes: dict[tuple[str, str], WireFormat] = {}
        self._headers = tuple((headers or {}).items())
        self._requests: deque[Received] = deque(maxlen=keep)
        self._lock = Lock()
        self._script = Script()
        self._count = 0
        self._mistakes: list[Exception] = []
        self._scheme = "http" if ssl_context is None else "https"
        self._server = Server(self._connection, ssl_context=ssl_context)

    # --- where it is ----------------------------------------------------------------------

    @property
    def url(self) -> str:
        """Such as ``http://127.0.0.1:41234``; the base for Anthropic and Ollama."""
        if not self._server.port:
            raise KorError(_NOT_OPEN)
        return f"{self._scheme}://{HOST}:{self._server.port}"

    @property
    def openai_url(self) -> str:
        """The ``base_url`` for OpenAI's SDK and for all that speak like it."""
        return f"{self.url}/v1"

    @property
    def gemini_url(self) -> str:
        """The base for Gemini's API."""
        return f"{self.url}/v1beta"

    # --- what it answers ------------------------------------------------------------------

    def reply(self, *replies: Scripted, **when: Unpack[When]) -> Self:
        """Answer the next requests for text with these, in order.

        Args:
            *replies: texts, :class:`Reply` objects, or functions of the request that return
                one or the other.
            **when: for which requests; see :class:`When`.
        """
        return self._tell("reply", replies, when)

    def call_tool(
        self, name: str, arguments: Mapping[str, Any] | str, **when: Unpack[When]
    ) -> Self:
        """Answer the next request for text with a tool call.

        Args:
            name: of the tool.
            arguments: by name; or a text sent as it is, valid JSON or not.
            **when: for which requests; see :class:`When`.
        """
        return self._tell("call_tool", [Reply(tool_calls=(ToolCall(name, arguments),))], when)

    def embed(self, *vectors: Sequence[float], **when: Unpack[When]) -> Self:
        """Answer the next request for embeddings with these vectors, one per text."""
        return self._tell("embed", [Reply(vectors=vectors)], when)

    def fail(
        self,
        status: int = 500,
        *,
        message: str = "",
        code: str | None = None,
        retry_after: float | None = None,
        retry_after_ms: int | None = None,
        headers: Mapping[str, str] | None = None,
        **when: Unpack[When],
    ) -> Self:
        """Answer the next request with an HTTP error in the words of its vendor.

        Args:
            status: such as 429.
            message: in the vendor's words; what is usual when empty.
            code: the vendor's code, such as ``insufficient_quota``.
            retry_after: seconds, as the header ``retry-after``.
            retry_after_ms: milliseconds, as the header ``retry-after-ms``.
            headers: more headers of the answer.
            **when: for which requests; see :class:`When`.
        """
        fault = Status(status, message, code, retry_after, retry_after_ms, headers or {})
        return self._tell("fail", [fault], when, _STATUS)

    def play(self, *acts: Fault | Scripted, **when: Unpack[When]) -> Self:
        """Play faults from :mod:`kor_core.testing.faults`, and replies among them, in order."""
        for act in acts:
            check_text(act)
        return self._tell("play", acts, when)

    @contextmanager
    def refusing(self) -> Generator[Self]:
        """Refuse connections inside the block; those open are reset at its beginning."""
        self._server.refuse()
        try:
            yield self
        finally:
            self._server.accept()

    @property
    def unplayed(self) -> int:
        """How many things were told for a number of requests that did not all come yet."""
        return len(self._script)

    def clear(self) -> Self:
        """Forget what was told and what was recorded."""
        self._script.clear()
        with self._lock:
            self._requests.clear()
        return self

    # --- what arrived ---------------------------------------------------------------------

    @property
    def requests(self) -> tuple[Received, ...]:
        """Every request so far, in the order of arrival."""
        with self._lock:
            return tuple(self._requests)

    @property
    def open_connections(self) -> int:
        """How many connections are open now."""
        return len(self._server.peers)

    @property
    def accepted_connections(self) -> int:
        """How many connections there ever were."""
        return self._server.accepted

    def wait_for_requests(self, count: int = 1, timeout: float = 30.0) -> tuple[Received, ...]:
        """Block until that many requests have arrived, and return them all.

        Raises:
            TimeoutError: they did not arrive within ``timeout`` seconds.
        """
        wait_until(lambda: len(self.requests) >= count, timeout, f"{count} requests")
        return self.requests

    async def await_requests(self, count: int = 1, timeout: float = 30.0) -> tuple[Received, ...]:  # noqa: ASYNC109  # the twin of wait_for_requests
        """Wait as :meth:`wait_for_requests` does, from async code."""
        await await_until(lambda: len(self.requests) >= count, timeout, f"{count} requests")
        return self.requests

    def wait_for_disconnect(self, count: int = 1, timeout: float = 30.0) -> tuple[Received, ...]:
        """Block until clients have left that many requests before their answer was complete.

        Returns:
            The requests that were left.

        Raises:
            TimeoutError: they did not leave within ``timeout`` seconds.
        """
        wait_until(lambda: len(self._left()) >= count, timeout, f"{count} clients to leave")
        return self._left()

    async def await_disconnect(self, count: int = 1, timeout: float = 30.0) -> tuple[Received, ...]:  # noqa: ASYNC109  # the twin of wait_for_disconnect
        """Wait as :meth:`wait_for_disconnect` does, from async code."""
        await await_until(lambda: len(self._left()) >= count, timeout, f"{count} clients to leave")
        return self._left()

    # --- its life -------------------------------------------------------------------------

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
        # A mistake in the test's own script would else show only as a strange status 500.
        if error is None and self._mistakes:
            raise ExceptionGroup("Functions told to the upstream failed", self._mistakes)

    async def __aenter__(self) -> Self:
        return self.open()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.__exit__(kind, error, traceback)

    def __repr__(self) -> str:
        return f"<Upstream {self._server.port or 'not open'}, {len(self.requests)} requests>"

    # --- how it works ---------------------------------------------------------------------

    def _tell(
        self,
        told_by: str,
        acts: Sequence[Fault | Scripted],
        when: When,
        others: Sequence[str] = (),
    ) -> Self:
        check_conditions(told_by, when, self._apis, others)
        check_acts(acts)
        for act in acts:
            self._script.tell(act, when)
        return self

    def _left(self) -> tuple[Received, ...]:
        return tuple(received for received in self.requests if received.disconnected)

    def _connection(self, peers: set[Peer]) -> Peer:
        # Here: the doubles must do without h11, which comes with the extra.
        from kor_core.testing.connection import Connection  # noqa: PLC0415  # see above

        return Connection(peers, self._server.accepted, self._answer)

    def _answer(self, incoming: Incoming, connection: int) -> tuple[Received, Answer]:
        self._count += 1
        wire = self._route(incoming.method, incoming.path)
        body = _parsed(incoming.body)
        received, refusal = _received(incoming, wire, body, connection)
        with self._lock:
            self._requests.append(received)
        if refusal is not None:
            return received, Exchange(self._count, received, wire, Reply()).error(refusal)
        return received, adding(self._played(received, wire), *self._headers)

    def _played(self, received: Received, wire: WireFormat) -> Answer:
        try:
            play = self._script.take(received, wire.makes)
            told = play.reply(received) if callable(play.reply) else play.reply
            exchange = Exchange(self._count, received, wire, as_said(told, received.question))
            return exchange.usual() if play.fault is None else play.fault.answer(exchange)
        except Exception as error:  # noqa: BLE001  # a function of the test's: told at the end
            self._mistakes.append(error)
            failure = Failure(500, f"The script of the upstream failed: {error!r}")
            return Exchange(self._count, received, wire, Reply()).error(failure)

    def _route(self, method: str, path: str) -> WireFormat:
        found = self._routes.get((method, path))
        if found is None:
            found = next(wire for wire in self._formats if wire.serves(method, path))
            self._routes[method, path] = found
        return found


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body) if body else None
    except ValueError:
        return None


def _received(
    incoming: Incoming, wire: WireFormat, body: Any, connection: int
) -> tuple[Received, Failure | None]:
    refusal: Failure | None = None
    try:
        question = wire.question(incoming.path, incoming.query, table(body))
    except BadBodyError as error:
        question, refusal = Question(), Failure(400, str(error))
    received = Received(
        method=incoming.method,
        path=incoming.path,
        query=incoming.query,
        headers=incoming.headers,
        body=incoming.body,
        json=body,
        connection=connection,
        api=wire.name,
        question=question,
    )
    return received, refusal
