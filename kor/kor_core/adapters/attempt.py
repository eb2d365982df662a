"""One call to a vendor: its deadline, and an error of ours for whatever goes wrong."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import TypeVar

from kor_core.adapters.cleaning import cleaned, secrets_in
from kor_core.adapters.complaint import (
    complaint_of,
    complaint_within,
    request_id_of,
    retry_after_of,
    shortened,
)
from kor_core.adapters.exchange import Exchange, watched
from kor_core.adapters.verdicts import Verdict, of_answer, of_fault
from kor_core.errors import KorError, LLMError, LLMTimeoutError
from kor_core.redaction import Config, redact

__all__ = ["Caller", "SenselessAnswerError"]

S = TypeVar("S")
T = TypeVar("T")


class SenselessAnswerError(Exception):
    """An answer that has no text where it should be. Never leaves the adapters."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, for errors to name.

    Args:
        provider: id of the provider.
        model: name of the model.
        secrets: texts that no message may show.
        headers: to add to each request.
    """

    provider: str
    model: str
    secrets: frozenset[str]
    headers: Mapping[str, str]

    @classmethod
    def of(cls, provider: str, model: str, config: Config) -> "Caller":
        """Return the caller for a model with these settings."""
        secrets = frozenset(secrets_in(config))
        return cls(provider, model, secrets, config.get("extra_headers") or {})

    def __repr__(self) -> str:
        return f"<Caller {self.provider}:{self.model}>"

    async def attempt(
        self,
        call: Callable[[S], Awaitable[T]],
        seconds: float | None,
        ready: Callable[[], Awaitable[S]],
    ) -> T:
        """Make one call and return what it returns.

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
        cause: Exception | None = None
        with watched(self.headers) as exchange:
            try:
                sdk = await ready()
                async with deadline:
                    _start(deadline, seconds)
                    return await call(sdk)
            except asyncio.CancelledError as error:
                failure = asyncio.CancelledError(*error.args)
            except Exception as error:  # noqa: BLE001  # SDKs raise anything
                late = isinstance(error, TimeoutError) and deadline.expired()
                failure = self._too_late(seconds) if late else self._explained(error, exchange)
                ours = isinstance(error, KorError | SenselessAnswerError)
                cause = None if ours else cleaned(error, self.secrets)
        # Raised out here, so that the SDK's frames and chain do not come along.
        raise failure.with_traceback(None) from cause

    def _too_late(self, seconds: float | None) -> LLMTimeoutError:
        return LLMTimeoutError(
            f"The call took longer than its timeout of {seconds:g} s. Raise timeout, or try again.",
            provider=self.provider,
            model=self.model,
        )

    def _explained(self, error: Exception, exchange: Exchange) -> KorError:
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
        verdict = of_answer(status, complaint.codes, complaint.words, passing=wait is not None)
        return self._error(verdict, complaint.words, exchange, wait)

    def _refused_unsent(self, error: Exception, exchange: Exchange) -> LLMError:
        """Explain what an SDK refused before any request left."""
        words = shortened(str(error))
        return self._error(of_answer(HTTPStatus.BAD_REQUEST, (), words), words, exchange)

    def _senseless(self, status: int, error: Exception, exchange: Exchange) -> LLMError:
        """Explain an answer that came with a good status and holds no text."""
        complaint = complaint_within(exchange.body)
        ours = isinstance(error, SenselessAnswerError)
        words = complaint.words or (str(error) if ours else "it is not what the API documents")
        verdict = of_answer(complaint.status or status, complaint.codes, "")
        return self._error(verdict, words, exchange, complaint.retry_after)

    def _error(
        self, verdict: Verdict, words: str, exchange: Exchange, retry_after: float | None = None
    ) -> LLMError:
        told = f": {words.rstrip('. ')}" if words else ""
        cure = verdict.cure.format(provider=self.provider)
        return verdict.kind(
            redact(f"{verdict.cause}{told}. {cure}", self.secrets),
            provider=self.provider,
            model=self.model,
            status=exchange.status,
            retryable=verdict.retryable,
            retry_after=retry_after,
            request_id=self._request_id(exchange),
        )

    def _signed(self, error: KorError, exchange: Exchange) -> KorError:
        """Add what is known up here to an error of ours that came up from below."""
        if isinstance(error, LLMError):
            error.provider, error.model = self.provider, self.model
            error.status = exchange.status
            error.request_id = self._request_id(exchange)
        return error

    def _request_id(self, exchange: Exchange) -> str | None:
        found = request_id_of(exchange.headers)
        return redact(found, self.secrets) if found else None


def _start(deadline: asyncio.Timeout, seconds: float | None) -> None:
    if seconds is not None:
        deadline.reschedule(asyncio.get_running_loop().time() + seconds)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
