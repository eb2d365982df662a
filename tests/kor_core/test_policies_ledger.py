"""Every attempt is recorded as what it came to, and no sink harms a call."""

import asyncio
import logging
from decimal import Decimal

import pytest

from kor_core.errors import RateLimitError
from kor_core.llm.policies.ledger import Ledger, Sinks
from kor_core.llm.response import Attempt, Usage


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_an_answer_is_recorded_with_what_it_took():
    clock = Clock()
    ledger = Ledger(clock=clock)

    with ledger.attempt("openai:m") as entry:
        clock.now += 1.5
        entry.note(usage=Usage(3, 4), cost=Decimal("0.1"), request_id="r", status=200)

    record = Attempt("openai:m", "answered", 1.5, None, 200, "r", Usage(3, 4), Decimal("0.1"))
    assert (record,) == ledger.attempts


def test_a_failure_is_recorded_with_the_facts_of_its_error():
    ledger = Ledger(clock=Clock())

    with pytest.raises(RateLimitError), ledger.attempt("openai:m"):
        raise RateLimitError("Slow down.", status=429, request_id="r")

    assert (Attempt("openai:m", "failed", 0.0, "RateLimitError", 429, "r"),) == ledger.attempts


def test_what_was_noted_before_a_stream_broke_is_kept():
    ledger = Ledger(clock=Clock())

    def broken() -> None:
        with ledger.attempt("openai:m") as entry:
            entry.note(usage=Usage(3, None), status=200, request_id="first")
            raise RateLimitError("Slow down.", status=429, request_id="r")

    with pytest.raises(RateLimitError):
        broken()

    (record,) = ledger.attempts
    assert (200, "first", Usage(3, None)) == (record.status, record.request_id, record.usage)


def test_what_no_provider_should_raise_is_a_failure_too():
    ledger = Ledger(clock=Clock())

    with pytest.raises(ZeroDivisionError), ledger.attempt("custom:m"):
        raise ZeroDivisionError

    assert (Attempt("custom:m", "failed", 0.0, "ZeroDivisionError"),) == ledger.attempts


@pytest.mark.parametrize("leaving", [asyncio.CancelledError, GeneratorExit, KeyboardInterrupt])
def test_what_is_cancelled_or_left_is_no_failure(leaving: type[BaseException]):
    ledger = Ledger(clock=Clock())

    with pytest.raises(leaving), ledger.attempt("openai:m"):
        raise leaving

    assert (Attempt("openai:m", "cancelled", 0.0),) == ledger.attempts


def test_attempts_are_in_the_order_in_which_they_ended():
    told: list[Attempt] = []
    ledger = Ledger(told.append)

    for model in ("a:m", "b:m"):
        with ledger.attempt(model):
            pass

    assert ["a:m", "b:m"] == [record.model for record in told]
    assert told == list(ledger.attempts)


def test_a_sink_that_raises_harms_neither_the_call_nor_the_others(
    caplog: pytest.LogCaptureFixture,
):
    """And it is said once, not once a call."""
    told: list[Attempt] = []

    def broken(record: Attempt) -> None:
        raise ZeroDivisionError

    ledger = Ledger(Sinks([broken, told.append]))

    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            with ledger.attempt("openai:m"):
                pass

    assert 3 == len(told)
    assert ["kor_core.llm.policies.ledger"] == [record.name for record in caplog.records]
    assert "broken" in caplog.text


def test_each_sink_that_raises_is_reported(caplog: pytest.LogCaptureFixture):
    def broken(record: Attempt) -> None:
        raise ZeroDivisionError

    Sinks([broken, broken])(Attempt("openai:m", "answered", 0.0))

    assert 2 == len(caplog.records)


def test_an_interrupt_in_a_sink_is_not_swallowed():
    def interrupted(record: Attempt) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Sinks([interrupted])(Attempt("openai:m", "answered", 0.0))
