"""One call over its candidates: their order, one deadline, and a record of every attempt."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from time import perf_counter
from typing import Final, TypeVar

from kor_core.errors import (
    AllModelsFailedError,
    BadRequestError,
    BudgetExceededError,
    CapabilityNotSupportedError,
    ConfigurationError,
    ContentFilterError,
    LLMError,
    LLMTimeoutError,
    RealCallsBlockedError,
)
from kor_core.llm.response import Attempt, Delta, Embeddings, LLMResponse
from kor_core.llm.target import Target

__all__ = ["Call"]

T = TypeVar("T", str, LLMResponse, Embeddings)

# The next candidate is not asked after these: it would be as wrong, as unwanted or as blocked.
_FINAL: Final = (
    BadRequestError,
    BudgetExceededError,
    ConfigurationError,
    ContentFilterError,
    RealCallsBlockedError,
)


class Call:
    """One call of a user: its candidates, its deadline and its attempts so far.

    Args:
        targets: the candidates in the order in which they are asked; at least one.
        seconds: the deadline of all attempts together, or None.
    """

    def __init__(self, targets: Sequence[Target], seconds: float | None) -> None:
        self._targets = targets
        self._seconds = seconds
        self._ends = None if seconds is None else asyncio.get_running_loop().time() + seconds
        self.attempts: list[Attempt] = []

    async def answer(self, ask: Callable[[Target], Awaitable[T]]) -> T:
        """Return the first answer; where a candidate fails, the next one is asked.

        Raises:
            LLMError: the one candidate's error.
            AllModelsFailedError: several were asked and failed.
        """
        errors: list[LLMError] = []
        async with self._deadline():
            for target in self._targets:
                try:
                    with self._recorded(target) as record:
                        return record(await ask(target))
                except LLMError as error:
                    errors.append(error)
                    if isinstance(error, _FINAL):
                        break
        raise self._failure(errors)

    async def deltas(
        self, open_stream: Callable[[Target], AsyncGenerator[Delta | LLMResponse]]
    ) -> AsyncGenerator[Delta]:
        """Give the deltas of the first candidate that begins to answer.

        Once a delta was given, no other candidate is asked: the reader has it already.

        Raises:
            LLMError: as for :meth:`answer`.
            StreamInterruptedError: the stream was cut after its first delta.
        """
        errors: list[LLMError] = []
        for target in self._targets:
            began = False
            stream = open_stream(target)
            try:
                with self._recorded(target) as record:
                    while True:
                        async with self._deadline():
                            each = await anext(stream)
                        if isinstance(each, LLMResponse):
                            yield _last_delta(record(each))
                            return
                        began = True
                        yield each
            except LLMError as error:
                if began:
                    raise self._with_attempts(error) from error.__cause__
                errors.append(error)
                if isinstance(error, _FINAL):
                    break
            finally:
                await stream.aclose()
        raise self._failure(errors)

    # --- the deadline ------------------------------------------------------------------------

    @asynccontextmanager
    async def _deadline(self) -> AsyncGenerator[None]:
        limit = asyncio.timeout_at(self._ends)
        try:
            async with limit:
                yield
        except TimeoutError:
            if not limit.expired():
                raise
        else:
            return
        # Raised out here: a deadline needs no cause, and that one's frames may hold keys.
        raise self._with_attempts(self._too_late())

    def _too_late(self) -> LLMTimeoutError:
        provider, model = self._targets[0].reference
        return LLMTimeoutError(
            f"No answer within the deadline of {self._seconds:g} s. Raise `timeout` if that is "
            "too short.",
            provider=provider,
            model=model,
        )

    @property
    def _is_late(self) -> bool:
        return self._ends is not None and asyncio.get_running_loop().time() >= self._ends

    # --- the record --------------------------------------------------------------------------

    @contextmanager
    def _recorded(self, target: Target) -> Generator[Callable[[T], T]]:
        started = perf_counter()
        name = str(target.reference)

        def answered(result: T) -> T:
            self.attempts.append(_answered(name, perf_counter() - started, result))
            return result

        try:
            yield answered
        except (asyncio.CancelledError, GeneratorExit):
            self.attempts.append(self._stopped(name, perf_counter() - started))
            raise
        except LLMError as error:
            self.attempts.append(_failed(name, perf_counter() - started, error))
            raise

    def _stopped(self, name: str, duration: float) -> Attempt:
        if self._is_late:
            return Attempt(name, "failed", duration, LLMTimeoutError.__name__)
        return Attempt(name, "cancelled", duration)

    def _failure(self, errors: Sequence[LLMError]) -> LLMError:
        if len(errors) == 1 or all(isinstance(e, CapabilityNotSupportedError) for e in errors):
            return self._with_attempts(errors[0])
        return self._with_attempts(
            AllModelsFailedError(f"All {len(errors)} models that were asked failed.", errors)
        )

    def _with_attempts(self, error: LLMError) -> LLMError:
        error.attempts = tuple(self.attempts)
        return error


def _answered(name: str, duration: float, result: object) -> Attempt:
    if isinstance(result, LLMResponse | Embeddings):
        return Attempt(
            name,
            "answered",
            duration,
            request_id=result.request_id,
            usage=result.usage,
            cost=result.cost,
        )
    return Attempt(name, "answered", duration)


def _failed(name: str, duration: float, error: LLMError) -> Attempt:
    return Attempt(
        name,
        "failed",
        duration,
        type(error).__name__,
        status=error.status,
        request_id=error.request_id,
    )


def _last_delta(response: LLMResponse) -> Delta:
    return Delta(
        finish_reason=response.finish_reason or "stop",
        usage=response.usage,
        model_id=response.model_id,
        request_id=response.request_id,
        emulated=response.emulated,
    )
