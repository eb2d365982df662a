"""One call of a user over its candidates: whom to ask, how often, until when."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from contextlib import aclosing, contextmanager, suppress
from dataclasses import replace
from decimal import Decimal
from math import inf
from typing import Any, Final, TypeVar, cast

from kor_core.errors import (
    AllModelsFailedError,
    BudgetExceededError,
    CapabilityNotSupportedError,
    LLMError,
    LLMTimeoutError,
    StateUnavailableError,
)
from kor_core.llm.attempt import Request
from kor_core.llm.deadline import too_late
from kor_core.llm.pipeline import Policies
from kor_core.llm.plan import Plan
from kor_core.llm.policies.bounds import Planned
from kor_core.llm.policies.ledger import Ledger
from kor_core.llm.policies.limits import Reservation
from kor_core.llm.policies.reactions import Next, asked_wait, reaction_to
from kor_core.llm.response import Delta, Embeddings, LLMResponse, Usage
from kor_core.llm.selection import open_error
from kor_core.llm.target import Target
from kor_core.llm.trace import Trace

__all__ = ["Call"]

T = TypeVar("T")


class Call:
    """One call.

    Args:
        plan: what it is about.
        policies: what surrounds it.
        seconds: the deadline of all attempts together, or None.
    """

    def __init__(self, plan: Plan, policies: Policies, seconds: float | None) -> None:
        self.policies = policies
        self.ledger = Ledger(policies.sink)
        self._plan = plan
        self._seconds = seconds
        self._ends = None if seconds is None else asyncio.get_running_loop().time() + seconds
        self._left = deque(plan.targets)
        self._rejected = plan.rejected
        self._tries = 0
        self._wait = 0.0
        self._failed: LLMError | None = None
        self._errors: list[LLMError] = []

    async def answer(self, ask: Callable[[Target], Awaitable[T]], key: str | None = None) -> T:
        """Return the first answer, or the one that is kept, with the record of the call.

        Args:
            ask: asks one candidate.
            key: what the answer is remembered by; None for one that is not.

        Raises:
            LLMError: the one candidate's error.
            AllModelsFailedError: there were several, and none answered.
        """
        await self._prepare()
        with self._traced() as trace:
            answer = self._recorded(await self._in_time(self._remembered(ask, key)))
            trace(answer)
            return answer

    async def _remembered(self, ask: Callable[[Target], Awaitable[T]], key: str | None) -> T:
        cache = self.policies.cache
        if cache is None or key is None:
            return await self._answer(ask)
        answer: T = await cache.through(key, lambda: self._answer(ask), self._plan.tenant)
        return answer

    def _recorded(self, answer: T) -> T:
        """Return an answer with the attempts; one that was kept has none, and took nothing."""
        if not isinstance(answer, LLMResponse | Embeddings):
            return answer
        attempts = self.ledger.attempts
        record: dict[str, Any] = {"attempts": attempts} if attempts else _NOTHING_TAKEN
        return cast("T", replace(answer, **record))

    async def _answer(self, ask: Callable[[Target], Awaitable[T]]) -> T:
        while True:
            async with await self._next() as request:
                return request.answered(await ask(request.target))

    async def deltas(
        self, open_stream: Callable[[Target], AsyncGenerator[Delta | LLMResponse]]
    ) -> AsyncGenerator[Delta]:
        """Give the deltas of the first candidate that begins to answer.

        Once a delta was given, nobody else is asked: the reader has it already.

        Raises:
            LLMError: as for :meth:`answer`.
            StreamInterruptedError: the stream was cut after its first delta.
        """
        answer: LLMResponse | None = None
        await self._prepare()
        with self._traced() as trace:
            while answer is None:
                request = await self._in_time(self._next())
                async with request, aclosing(open_stream(request.target)) as stream:
                    while answer is None:
                        coming = anext(stream)
                        each = await (coming if self._ends is None else self._in_time(coming))
                        if isinstance(each, LLMResponse):
                            answer = request.answered(each)
                        else:
                            request.gave(each)
                            yield each
            trace(answer)
        # Out here: a reader who goes with the last delta in hand has cancelled nothing.
        yield _last_delta(answer)

    def finished(self, response: LLMResponse) -> LLMResponse:
        """Return a streamed answer with the record and the cost of the call."""
        last = self.ledger.attempts[-1]
        return replace(response, cost=last.cost, attempts=self.ledger.attempts)

    # --- whom to ask next --------------------------------------------------------------------

    async def _next(self) -> Request:
        """Return the next request, once it may be made.

        Raises:
            LLMError: nobody is left to ask.
        """
        while self._left:
            if self._wait:
                await asyncio.sleep(self._wait)
            request = await self._admitted(self._left[0])
            if request is not None:
                self._tries += 1
                return request
            self._left.popleft()
            self._start_anew()
        raise self._failure()

    async def _admitted(self, target: Target) -> Request | None:
        """Return the request, once a limit, a budget and a place have room for it, or None."""
        guard = self.policies.breakers.admit(target.circuit)
        if guard is None:
            self._leave_alone(target)
            return None
        try:
            reservation = await self._reserved(target)
        except BaseException as error:
            guard.released()
            # Where nobody can count, asking for the next one asks the same.
            if not isinstance(error, LLMError) or isinstance(error, StateUnavailableError):
                raise
            self._errors.append(self._failed or error)
            return None
        tenant, account = self._plan.tenant, target.account
        place = self.policies.concurrency.place(target.gates, tenant, account)
        request = Request(self, target, guard, reservation, place)
        if await request.queued():
            return request
        self._leave_alone(target)
        return None

    def _leave_alone(self, target: Target) -> None:
        state = self.policies.breakers.state(target.circuit)
        self._errors.append(self._failed or open_error(target.reference, state))

    async def _reserved(self, target: Target) -> Reservation | None:
        meter = self.policies.meter
        return None if meter is None else await meter.reserve(self.planned(target))

    def planned(self, target: Target, written: int = 0) -> Planned:
        """Return what a request may take where the answer has at least so many tokens."""
        plan = self._plan
        answer = max(plan.max_tokens, written)
        tokens = plan.tokens - plan.max_tokens + answer
        return target.planned(tokens, answer, plan.tenant, plan.purpose)

    def goes_on(self, target: Target, error: LLMError) -> bool:
        """Take in a failure, and decide who is asked next; False once the time is up."""
        if self.too_late() is not None:
            return False
        if self._asks_again(target, error):
            return True
        self._errors.append(error)
        self._left.popleft()
        self._start_anew()
        self._leave_out(target, error)
        return True

    def _asks_again(self, target: Target, error: LLMError) -> bool:
        """Say whether the same model is asked once more, and take note of when."""
        breakers = self.policies.breakers
        wait = self.policies.retrier.wait_before(error, self._tries, self._remaining)
        if wait is None or not breakers.would_admit(target.circuit, wait):
            return False
        others = list(self._left)[1:]
        if asked_wait(error) and any(breakers.would_admit(each.circuit) for each in others):
            return False  # nobody has to wait for it while another one is there
        self._wait, self._failed = wait, error
        return True

    def _start_anew(self) -> None:
        self._tries, self._wait, self._failed = 0, 0.0, None

    def _leave_out(self, target: Target, error: LLMError) -> None:
        """Leave out those who need not be asked after an error."""
        then = reaction_to(error).then
        opted_in = then is Next.OPTED_IN and self.policies.content_filter_fallback
        if then is Next.NONE or (then is Next.OPTED_IN and not opted_in):
            self._left.clear()
            self._rejected = ()  # they would not have been asked either
        elif then is Next.LARGER:
            self._left = deque(each for each in self._left if each.may_hold_more_than(target))

    def _failure(self) -> LLMError:
        errors = [*self._errors, *self._rejected]
        if len(errors) == 1 or any(_are_all(kind, errors) for kind in _ALIKE):
            return self._with_attempts(min(errors, key=_wait))
        asked = len({each.model for each in self.ledger.attempts})
        words = _all_failed(asked, len(errors) - asked)
        return self._with_attempts(AllModelsFailedError(words, errors))

    def _with_attempts(self, error: LLMError) -> LLMError:
        error.attempts = self.ledger.attempts
        return error

    async def _prepare(self) -> None:
        """Let the first candidate do what only its first call has to: that is not the call's."""
        if self._ends is None or not self._left:
            return
        clock = asyncio.get_running_loop().time
        started = clock()
        # What fails here fails again in the call, where the error is typed and on record.
        with suppress(Exception):
            async with asyncio.timeout(_LONGEST_PREPARATION):
                await self._left[0].find().aprepare()
        self._ends += clock() - started

    # --- the deadline ------------------------------------------------------------------------

    @property
    def _remaining(self) -> float | None:
        return None if self._ends is None else self._ends - asyncio.get_running_loop().time()

    def too_late(self) -> LLMError | None:
        """Return the error of a call whose deadline has passed, else None."""
        left = self._remaining
        return None if left is None or left > 0 else self._late()

    def _late(self) -> LLMTimeoutError:
        asked = next(iter(self._left or self._plan.targets), None)
        provider, model = asked.reference if asked is not None else (None, None)
        return too_late(self._seconds or 0.0, provider=provider, model=model)

    async def _in_time(self, work: Awaitable[T]) -> T:
        if self._ends is None:
            return await work
        limit = asyncio.timeout_at(self._ends)
        try:
            async with limit:
                return await work
        except TimeoutError:
            if not limit.expired():
                raise
        # Raised out here: a deadline needs no cause, and that one's frames may hold keys.
        raise self._late()

    # --- the trace ---------------------------------------------------------------------------

    @contextmanager
    def _traced(self) -> Generator[Callable[[object], None]]:
        trace = Trace(self._plan, self.ledger, self.policies)
        trace.tell("llm.call.started")
        try:
            yield trace.answered
        except Exception as error:
            if isinstance(error, LLMError):
                self._with_attempts(error)
            trace.tell("llm.call.failed", type(error).__name__)
            raise
        except BaseException:  # cancelled, or a stream that is left
            trace.tell("llm.call.cancelled")
            raise


# Seconds; what is not ready by then is waited for on the call's own time.
_LONGEST_PREPARATION: Final = 60.0


def _last_delta(response: LLMResponse) -> Delta:
    return Delta(
        finish_reason=response.finish_reason or "stop",
        usage=response.usage,
        model_id=response.model_id,
        request_id=response.request_id,
        emulated=response.emulated,
    )


# Where each candidate says the same, it is said once.
_ALIKE: Final = (CapabilityNotSupportedError, BudgetExceededError)


def _are_all(kind: type[LLMError], errors: Sequence[LLMError]) -> bool:
    return all(isinstance(error, kind) for error in errors)


def _wait(error: LLMError) -> float:
    return inf if error.retry_after is None else error.retry_after


def _all_failed(asked: int, left_out: int) -> str:
    if not asked:
        return f"None of the {left_out} models could be asked."
    failed = "The one model that was asked" if asked == 1 else f"All {asked} models that were asked"
    others = f", and {left_out} could not be asked" if left_out else ""
    return f"{failed} failed{others}."


_NOTHING_TAKEN: Final = {"attempts": (), "usage": Usage(0, 0), "cost": Decimal()}
