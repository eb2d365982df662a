"""What each request of a call came to: records for the caller, and for whoever listens."""

import logging
import time
from collections.abc import Callable, Iterable
from decimal import Decimal
from types import TracebackType
from typing import Final, Protocol, Self

from kor_core.errors import LLMError
from kor_core.llm.response import Attempt, Outcome, Usage

__all__ = ["Entry", "Ledger", "Sink", "Sinks"]

_log: Final = logging.getLogger(__name__)


class Sink(Protocol):
    """Anything that is called with each record: a log, a budget, the averages, a user's own."""

    def __call__(self, record: Attempt, /) -> object:
        """Take one record, without waiting for anything: it is called within the call."""
        ...


class Sinks:
    """Several sinks as one, none of which can harm a call: one that raises is logged once.

    Args:
        sinks: called in this order, also after one of them raised.

    >>> seen = []
    >>> Sinks([print, seen.append])(Attempt("echo:m", "answered", 0.5))  # doctest: +ELLIPSIS
    Attempt(model='echo:m', outcome='answered', duration=0.5, ...)
    >>> len(seen)
    1
    """

    __slots__ = ("_raised", "_sinks")

    def __init__(self, sinks: Iterable[Sink] = ()) -> None:
        self._sinks = tuple(sinks)
        self._raised: set[int] = set()

    def __call__(self, record: Attempt, /) -> None:
        """Give the record to each."""
        for place, sink in enumerate(self._sinks):
            try:
                sink(record)
            except Exception:  # noqa: BLE001  # a user's code, and the answer is there already
                self._report(place, sink)

    def _report(self, place: int, sink: Sink) -> None:
        if place not in self._raised:
            self._raised.add(place)
            _log.exception(
                "A sink for the records of calls raised, and calls go on without it: %r. "
                "Mend it; it is called again each time, and this is said once.",
                sink,
            )


class Ledger:
    """The attempts of one call, in the order in which they ended.

    Args:
        sink: is told of each.
        clock: seconds, never going back.

    >>> ledger = Ledger()
    >>> with ledger.attempt("openai:gpt-4") as entry:
    ...     entry.note(usage=Usage(10, 5))
    >>> ledger.attempts[0].outcome, ledger.attempts[0].usage.total_tokens
    ('answered', 15)
    """

    __slots__ = ("_attempts", "_clock", "_sink")

    def __init__(
        self, sink: Sink | None = None, *, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._sink = sink
        self._clock = clock
        self._attempts: list[Attempt] = []

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """The records so far."""
        return tuple(self._attempts)

    def attempt(self, model: str) -> "Entry":
        """Return a context manager around one request to a model, ``provider:model``."""
        return Entry(self, model)

    def now(self) -> float:
        """Return the time that durations are measured in."""
        return self._clock()

    def add(self, record: Attempt) -> None:
        """Take in a record, and tell the sink."""
        self._attempts.append(record)
        if self._sink is not None:
            self._sink(record)


class Entry:
    """One request while it runs; when it ends, its record is in the ledger.

    No exception is an answer, an ``Exception`` a failure, and anything else, such as a
    cancellation or a stream that is left, is cancelled.
    """

    __slots__ = ("_cost", "_ledger", "_model", "_request_id", "_started", "_status", "_usage")

    def __init__(self, ledger: Ledger, model: str) -> None:
        self._ledger = ledger
        self._model = model
        self._status: int | None = None
        self._request_id: str | None = None
        self._usage: Usage | None = None
        self._cost: Decimal | None = None

    def note(
        self,
        *,
        usage: Usage | None = None,
        cost: Decimal | None = None,
        request_id: str | None = None,
        status: int | None = None,
    ) -> None:
        """Say what is known of the answer, as soon as it is."""
        self._usage = usage
        self._cost = cost
        self._request_id = request_id
        self._status = status

    def __enter__(self) -> Self:
        self._started = self._ledger.now()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(error, LLMError):
            self._status = error.status if self._status is None else self._status
            self._request_id = self._request_id or error.request_id
        name = type(error).__name__ if isinstance(error, Exception) else None
        self._ledger.add(
            Attempt(
                self._model,
                _outcome(error),
                self._ledger.now() - self._started,
                name,
                self._status,
                self._request_id,
                self._usage,
                self._cost,
            )
        )


def _outcome(error: BaseException | None) -> Outcome:
    if error is None:
        return "answered"
    return "failed" if isinstance(error, Exception) else "cancelled"
