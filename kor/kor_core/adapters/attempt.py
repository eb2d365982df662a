"""One call to a vendor: its deadline, and an error of ours for whatever goes wrong."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any, Final, TypeVar

from kor_core.adapters.cleaning import cleaned, masked
from kor_core.adapters.complaint import (
    Complaint,
    complaint_in_events,
    complaint_of,
    complaint_within,
    plain,
    request_id_of,
    retry_after_of,
    shortened,
)
from kor_core.adapters.exchange import Exchange, watched
from kor_core.adapters.verdicts import Verdict, of_answer, of_fault
from kor_core.errors import KorError, LLMError, LLMTimeoutError
from kor_core.llm.response import Delta, Embeddings, LLMResponse
from kor_core.redaction import Config, Secret, redact
from kor_core.spellings import spellings_of

__all__ = ["Caller", "SenselessAnswerError"]

S = TypeVar("S")
T = TypeVar("T")
A = TypeVar("A", Delta, Embeddings, LLMResponse)

_RECORDED: Final = ("model_id", "finish_reason", "request_id")
_USUAL: Final = frozenset({"stop", "length", "tool_calls", "content_filter"})


class SenselessAnswerError(Exception):
    """An answer that has no text where it should be. Never leaves the adapters.

    Args:
        words: what it has instead, perhaps in the vendor's words.
        code: what a vendor would call the failure, such as ``content_filter``.
    """

    def __init__(self, words: str, *, code: str = "") -> None:
        super().__init__(words)
        self.code = code


_UNDOCUMENTED: Final = SenselessAnswerError("it is not what the API documents")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, for errors to name.

    Args:
        provider: id of the provider.
        model: name of the model.
        secrets: texts that no message may show, in every spelling.
        headers: to add to each request.
        query: to add to each URL.
    """

    provider: str
    model: str
    secrets: frozenset[Secret]
    headers: Mapping[str, str]
    query: Mapping[str, Any]

    @classmethod
    def of(cls, provider: str, model: str, config: Config) -> "Caller":
        """Return the caller for a model with these settings."""
        headers: Mapping[str, str] = config.get("extra_headers") or {}
        query: Mapping[str, Any] = config.get("extra_query") or {}
        return cls(provider, model, spellings_of(config), headers, query)

    def hiding(self, settings: Mapping[str, Any]) -> "Caller":
        """Return the caller of one call, whose own settings may hold keys too."""
        if not settings:
            return self
        return replace(self, secrets=self.secrets | spellings_of(Config(settings)))

    def __repr__(self) -> str:
        return f"<Caller {self.provider}:{self.model}>"

    async def attempt(
        self,
        call: Callable[[S], Awaitable[T]],
        seconds: float | None,
        ready: Callable[[], Awaitable[S]],
    ) -> T:
        """Make one call and return what it returns.

        A call that opens a stream takes its exchange along, as ``noted()`` returns it there,
        and its pieces are read through :meth:`read`.

        Args:
            call: makes it with the SDK; its arguments must not show in its repr.
            seconds: for all of it, or None.
            ready: returns the SDK. The first import of one takes seconds that are not the
                provider's, so the time for the call starts after it.

        Raises:
            LLMError: whatever went wrong, the SDK's exception as its cause.
        """
        deadline = asyncio.timeout(None)
        failure: BaseException
        with watched(self.headers, self.query) as exchange:
            try:
                sdk = await ready()
                async with deadline:
                    _start(deadline, seconds)
                    return await call(sdk)
            except asyncio.CancelledError as error:
                failure = asyncio.CancelledError(*error.args)
            except Exception as error:  # noqa: BLE001  # SDKs raise anything
                late = isinstance(error, TimeoutError) and deadline.expired()
                failure = self.explained(error, exchange, seconds if late else None)
        # Raised out here, so that the SDK's frames and chain do not come along.
        raise failure from failure.__cause__

    async def read(self, pieces: AsyncIterable[T], exchange: Exchange) -> AsyncGenerator[T]:
        """Pass on what comes out of a stream.

        Args:
            pieces: whatever the SDK, or a reader of its events, yields.
            exchange: that of the call which opened the stream.

        Raises:
            LLMError: whatever went wrong, the SDK's exception as its cause.
        """
        failure: BaseException
        try:
            async for piece in pieces:
                yield piece
        except asyncio.CancelledError as error:
            failure = asyncio.CancelledError(*error.args)
        except Exception as error:  # noqa: BLE001  # SDKs raise anything
            failure = self.explained(error, exchange)
        else:
            return
        raise failure from failure.__cause__

    def explained(
        self, error: Exception, exchange: Exchange, seconds: float | None = None
    ) -> KorError:
        """Return the error of ours for what an SDK raised; its ``__cause__`` is fit to show.

        Raise it outside of the ``except`` block, or the SDK's exception comes along as its
        context: ``raise failure from failure.__cause__``.

        Args:
            error: what was raised.
            exchange: that of the call.
            seconds: the time of the call, where it ended because that ran out.
        """
        try:
            failure = self._judged(error, exchange, seconds)
        except Exception:  # noqa: BLE001  # a hostile answer; its status is all that is trusted
            failure = self._error(_of_status(exchange), "", exchange)
        ours = isinstance(error, KorError | SenselessAnswerError)
        failure.__cause__ = None if ours else cleaned(error, self._hidden(exchange))
        return failure.with_traceback(None)

    def _judged(self, error: Exception, exchange: Exchange, seconds: float | None) -> KorError:
        if seconds is not None:
            return self._too_late(seconds)
        ours = next((link for link in _chain(error) if isinstance(link, KorError)), None)
        if ours is not None:
            return self._signed(ours, exchange)
        status = exchange.status
        if exchange.failure is not None and (status is None or status < HTTPStatus.BAD_REQUEST):
            return self._error(of_fault(exchange.failure.fault), str(exchange.failure), exchange)
        if status is None:
            return self._refused_unsent(error, exchange)
        if status < HTTPStatus.BAD_REQUEST:
            return self._senseless(status, error, exchange)
        complaint = complaint_of(exchange.body)
        wait = retry_after_of(exchange.headers)
        wait = complaint.retry_after if wait is None else wait
        words = shortened(complaint.words)
        verdict = of_answer(status, complaint.codes, words, passing=wait is not None)
        return self._error(verdict, complaint.words, exchange, wait)

    def _too_late(self, seconds: float) -> LLMTimeoutError:
        return LLMTimeoutError(
            f"The call took longer than its timeout of {seconds:g} s. Raise timeout, or try again.",
            provider=self.provider,
            model=self.model,
        )

    def _refused_unsent(self, error: Exception, exchange: Exchange) -> LLMError:
        """Explain what an SDK refused before any request left."""
        words = str(error)
        verdict = of_answer(HTTPStatus.BAD_REQUEST, (), shortened(words))
        return self._error(verdict, words, exchange)

    def _senseless(self, status: int, error: Exception, exchange: Exchange) -> LLMError:
        """Explain an answer that came with a good status and holds no text."""
        complaint = _complaint_in(exchange)
        own = error if isinstance(error, SenselessAnswerError) else _UNDOCUMENTED
        verdict = of_answer(complaint.status or status, complaint.codes or (own.code,), "")
        return self._error(verdict, complaint.words or str(own), exchange, complaint.retry_after)

    def _error(
        self, verdict: Verdict, words: str, exchange: Exchange, retry_after: float | None = None
    ) -> LLMError:
        words = shortened(redact(words, self._hidden(exchange)))
        told = f": {words.rstrip('. ')}" if words else ""
        cure = verdict.cure.format(provider=self.provider)
        return verdict.kind(
            f"{verdict.cause}{told}. {cure}",
            provider=self.provider,
            model=self.model,
            status=exchange.status,
            retryable=verdict.retryable,
            retry_after=retry_after,
            request_id=self.request_id(exchange),
        )

    def _signed(self, error: KorError, exchange: Exchange) -> KorError:
        """Add what is known up here to an error of ours that came up from below."""
        masked(error, self._hidden(exchange))
        if isinstance(error, LLMError):
            error.provider, error.model = self.provider, self.model
            error.status = exchange.status
            error.request_id = self.request_id(exchange)
        return error

    def request_id(self, exchange: Exchange) -> str | None:
        """Return the vendor's id of the latest request, fit to show."""
        found = request_id_of(exchange.headers) or ""
        return plain(redact(found, self._hidden(exchange))) or None

    def cleaned(self, answer: A, exchange: Exchange) -> A:
        """Return an answer whose names and words for the record are fit to show.

        A server may put the key there, or a text without end.

        Args:
            answer: an answer, vectors, or a piece of a stream.
            exchange: that of the call.
        """
        given = ((name, getattr(answer, name, None)) for name in _RECORDED)
        shown: dict[str, Any] = {
            name: shortened(redact(words, self._hidden(exchange)))
            for name, words in given
            if words and words not in _USUAL
        }
        return replace(answer, **shown) if shown else answer

    def _hidden(self, exchange: Exchange) -> frozenset[Secret]:
        return self.secrets | exchange.secrets


def _of_status(exchange: Exchange) -> Verdict:
    if exchange.status is None and exchange.failure is not None:
        return of_fault(exchange.failure.fault)
    return of_answer(exchange.status or HTTPStatus.OK, (), "")


def _complaint_in(exchange: Exchange) -> Complaint:
    return complaint_in_events(exchange.tail) if exchange.tail else complaint_within(exchange.body)


def _start(deadline: asyncio.Timeout, seconds: float | None) -> None:
    if seconds is not None:
        deadline.reschedule(asyncio.get_running_loop().time() + seconds)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
