"""One request to one candidate, inside all that surrounds a request."""

import asyncio
from contextlib import suppress
from decimal import Decimal
from http import HTTPStatus
from math import ceil
from time import perf_counter
from types import TracebackType
from typing import Any, Final, Protocol, Self, TypeVar

from kor_core.errors import LLMConnectionError, LLMError, StateUnavailableError
from kor_core.llm.pipeline import Policies
from kor_core.llm.policies.bounds import Planned
from kor_core.llm.policies.breaker import Guard
from kor_core.llm.policies.concurrency import Place
from kor_core.llm.policies.estimates import length_in_tokens
from kor_core.llm.policies.ledger import Entry, Ledger
from kor_core.llm.policies.limits import Reservation
from kor_core.llm.response import Delta
from kor_core.llm.target import Target

__all__ = ["Owner", "Request"]

T = TypeVar("T")


class Owner(Protocol):
    """The call that a request belongs to."""

    policies: Policies
    ledger: Ledger

    def too_late(self) -> LLMError | None:
        """Return the error of a call whose deadline has passed, else None."""
        ...

    def goes_on(self, target: Target, error: LLMError) -> bool:
        """Take in a failure; say whether the call goes on after it."""
        ...

    def planned(self, target: Target, written: int = 0) -> Planned:
        """Return what the request may take where the answer has at least so many tokens."""
        ...


class Request:
    """An async context manager around asking a target, once :meth:`queued` has said yes.

    Inside, a place is held, what it may take is reserved, and its record is kept. A failure
    after which the call goes on is taken in; any other is raised.

    Args:
        owner: the call.
        target: who is asked.
        guard: of the circuit breaker, which let it through.
        reservation: of limits and budgets, if any count.
        place: at the gates that it has to pass.
    """

    def __init__(
        self,
        owner: Owner,
        target: Target,
        guard: Guard,
        reservation: Reservation | None,
        place: Place,
    ) -> None:
        self.target: Final = target
        self._owner = owner
        self._guard = guard
        self._reservation = reservation
        self._place = place
        self._entry: Entry = owner.ledger.attempt(str(target.reference))
        self._started = 0.0
        self._began = False
        self._received = 0.0  # tokens, by the length of the deltas
        self._result: Any = None

    async def queued(self) -> bool:
        """Wait for a place; say whether the model is still to be asked then."""
        try:
            await self._place.__aenter__()
        except BaseException:  # cancelled in the queue
            await self._unsent()
            raise
        if self._still_admitted():
            return True
        await self._place.__aexit__(None, None, None)
        await self._unsent()
        return False

    def _still_admitted(self) -> bool:
        """Ask anew: the circuit may have opened while this waited, and many may have waited."""
        if self._guard.probe:
            return True
        fresh = self._owner.policies.breakers.admit(self._guard.key)
        self._guard = fresh or self._guard
        return fresh is not None

    async def _unsent(self) -> None:
        self._guard.released()
        if self._reservation is not None:
            with suppress(StateUnavailableError):
                await self._reservation.refund()

    async def __aenter__(self) -> Self:
        self._entry.__enter__()
        self._started = perf_counter()
        return self

    def gave(self, delta: Delta) -> None:
        """Take note of a delta: once the reader has the first, nobody else can answer."""
        if not self._began:
            self._began = True
            self._note_latency()
        if self._reservation is not None:
            self._received += length_in_tokens(delta.text)
            for piece in delta.tool_calls:
                self._received += length_in_tokens(piece.name) + length_in_tokens(piece.arguments)

    def answered(self, result: T) -> T:
        """Take note of the answer, and return it."""
        self._result = result
        if not self._began:
            self._note_latency()
        usage, cost = getattr(result, "usage", None), getattr(result, "cost", None)
        self._entry.note(usage=usage, cost=cost, request_id=getattr(result, "request_id", None))
        return result

    def _note_latency(self) -> None:
        seconds = perf_counter() - self._started
        self._owner.policies.latencies.note(self.target.circuit, seconds)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        # The deadline cancels; that is the model's failure, and a caller's cancellation is not.
        late = self._owner.too_late() if isinstance(error, asyncio.CancelledError) else None
        outcome = late or error
        self._entry.__exit__(None, outcome, None)
        self._guard.__exit__(None, outcome, None)
        await self._place.__aexit__(kind, error, traceback)
        await self._settled(outcome)
        if isinstance(error, LLMError) and not self._began:
            return self._owner.goes_on(self.target, error)
        return False

    async def _settled(self, outcome: BaseException | None) -> None:
        if self._reservation is None:
            return
        tokens, cost = self._taken(outcome)
        # The answer is there, or the error: counting it must not take its place.
        with suppress(StateUnavailableError):
            await self._reservation.settle(tokens=tokens, cost=cost)

    def _taken(self, outcome: BaseException | None) -> tuple[int, Decimal | None]:
        """Return how many tokens it took, and what it cost.

        Where nobody says, as in a stream that is cut or left, the estimate stands, and no less
        than what was received.
        """
        if outcome is not None and not self._began and _is_refusal(outcome):
            return 0, Decimal()
        usage, cost = getattr(self._result, "usage", None), getattr(self._result, "cost", None)
        tokens: int | None = None if usage is None else usage.total_tokens
        if tokens is not None:
            return tokens, cost
        least = self._owner.planned(self.target, ceil(self._received))
        return least.tokens, least.cost if cost is None else cost


def _is_refusal(outcome: BaseException) -> bool:
    """Say whether the vendor refused the request, or was never reached; not if it was cut off."""
    status = getattr(outcome, "status", None)
    if status is None:
        return isinstance(outcome, LLMConnectionError)
    return bool(status >= HTTPStatus.BAD_REQUEST)
