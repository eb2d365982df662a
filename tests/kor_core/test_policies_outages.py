"""While what keeps the counts is away, calls go on or are refused, and nobody waits twice."""

import asyncio
import logging
import pickle
from contextlib import suppress

import pytest

from kor_core.adapters.state_memory import MemoryState
from kor_core.errors import StateUnavailableError
from kor_core.llm.policies.outages import Enduring, StateFailure, StateRefusal
from kor_core.llm.policies.state import Charge, Full

WANTED = Charge("key", 1, limit=9, lasts=60)
SETTLED = Charge("key", 4, limit=None, lasts=60)


class Place(MemoryState):
    """A place whose answers can fail, or not come at all."""

    failing = False
    hanging = False
    asked = 0
    prepared = 0
    closed = ()
    refusing: str | None = None
    fails_at: int | None = None

    async def prepare(self):
        self.prepared += 1

    async def take(self, charges):
        await self.trouble()
        if self.refusing in [charge.key for charge in charges]:
            raise StateRefusal("ResponseError: WRONGTYPE.")
        return await super().take(charges)

    async def counts(self, keys):
        await self.trouble()
        return await super().counts(keys)

    async def trouble(self):
        self.asked += 1
        if self.failing or self.asked == self.fails_at:
            raise StateFailure("ConnectionError: refused")
        if self.hanging:
            await asyncio.Event().wait()

    def close(self):
        self.closed += ("close",)

    async def aclose(self):
        self.closed += ("aclose",)

    def __repr__(self):
        return "<Place redis://host>"


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def place():
    return Place()


@pytest.fixture
def opened(place, clock):
    return Enduring(place, on_failure="open", timeout=5, clock=clock)


@pytest.fixture
def closed(place, clock):
    return Enduring(place, on_failure="closed", timeout=5, clock=clock)


async def count(place):
    return (await MemoryState.counts(place, ["key"]))[0]


async def test_as_long_as_it_answers_it_decides(opened, place):
    limited = WANTED._replace(limit=1)

    assert (None, Full(0, 1, 0)) == (await opened.take([limited]), await opened.take([limited]))
    assert ([1], 2) == (await opened.counts(["key"]), place.asked - 1)
    assert place.prepared == place.asked
    assert "<Enduring <Place redis://host>>" == repr(opened)


async def test_open_calls_are_made_and_counted_once_it_is_back(opened, place, clock):
    place.failing = True
    await opened.take([WANTED])
    await opened.take([SETTLED])
    await opened.take([WANTED._replace(key="other", amount=2)])
    place.failing = False
    clock.now += 7

    assert await opened.take([WANTED]) is None
    assert [6, 2] == await opened.counts(["key", "other"])


async def test_what_was_settled_to_nothing_is_not_sent(opened, place, clock):
    place.failing = True
    await opened.take([WANTED])
    await opened.take([SETTLED._replace(amount=-1)])
    place.failing = False
    clock.now += 7
    await opened.take([WANTED._replace(key="other")])

    assert 1 == len(place)


async def test_closed_calls_are_refused_with_the_cure_and_asked_again_after_a_pause(
    closed, place, clock
):
    place.failing = True
    with pytest.raises(StateUnavailableError) as caught:
        await closed.take([WANTED])

    error = caught.value
    assert (True, 6.0) == (error.retryable, error.retry_after)
    assert "<Place redis://host> keeps the counts" in str(error)
    assert 'on_failure = "open"' in str(error)
    assert error.retry_after == pickle.loads(pickle.dumps(error)).retry_after

    place.failing = False
    with pytest.raises(StateUnavailableError):
        await closed.take([WANTED])
    clock.now += 6
    assert await closed.take([WANTED]) is None


async def test_closed_what_was_used_is_counted_nevertheless(closed, place, clock):
    """Calls that were let through before the outage are settled in it."""
    place.failing = True
    await closed.take([SETTLED])
    place.failing = False
    clock.now += 7
    await closed.take([WANTED])

    assert 5 == await count(place)


async def test_in_an_outage_one_call_asks_and_only_after_a_pause(opened, place, clock):
    place.failing = True
    for _ in range(100):
        await opened.take([WANTED])
    assert 1 == place.asked

    clock.now += 6
    await asyncio.gather(*(opened.take([WANTED]) for _ in range(100)))

    assert 2 == place.asked


async def test_a_place_that_hangs_holds_a_call_for_the_timeout_at_most(place, clock):
    place.hanging = True
    state = Enduring(place, on_failure="closed", timeout=0.02, clock=clock)

    async with asyncio.timeout(30):
        with pytest.raises(StateUnavailableError):
            await state.take([WANTED])
        with pytest.raises(StateUnavailableError, match=r"no answer within 0.02 s"):
            await state.counts(["key"])
    assert 0 == await count(place)


async def test_counts_cannot_be_made_up(opened, place):
    place.failing = True

    with pytest.raises(StateUnavailableError, match="ConnectionError: refused"):
        await opened.counts(["key"])


@pytest.mark.parametrize(
    ("policy", "words"), [("open", "Calls are made"), ("closed", "are refused until")]
)
async def test_an_outage_is_said_once_and_so_is_its_end(place, clock, caplog, policy, words):
    state = Enduring(place, on_failure=policy, timeout=5, clock=clock)
    place.failing = True
    for _ in range(5):
        await state.take([SETTLED])
        clock.now += 6
    place.failing = False
    await state.take([SETTLED])
    await state.take([SETTLED])

    said = [record.getMessage() for record in caplog.records if record.name == "kor_core.state"]
    assert [logging.WARNING] * 2 == [record.levelno for record in caplog.records]
    assert "<Place redis://host> does not answer: ConnectionError: refused." in said[0]
    assert words in said[0]
    assert "<Place redis://host> answers again, after 30.0 s." == said[1]


async def test_a_caller_that_leaves_takes_nothing_back(opened, place, clock):
    """Cancelled while it settles: what it used is counted later. Nothing it only wanted is."""
    place.hanging = True
    for charges in ([SETTLED], [WANTED]):
        task = asyncio.create_task(opened.take(charges))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    place.hanging = False
    await opened.take([WANTED])

    assert 5 == await count(place)


async def test_debts_that_cannot_be_paid_stay_owed(opened, place, clock):
    place.failing = True
    await opened.take([SETTLED])
    clock.now += 7
    await opened.take([SETTLED])
    place.failing = False
    clock.now += 7
    await opened.take([WANTED])

    assert 9 == await count(place)


async def test_a_debt_that_is_never_taken_is_said_and_holds_up_no_other(place, opened, caplog):
    """Else every call after it would fail, until the debt's window is over."""
    place.failing = True
    await opened.take([SETTLED, SETTLED._replace(key="bad"), SETTLED._replace(key="third")])
    place.failing, place.refusing, opened._ask_again = False, "bad", 0
    await opened.take([WANTED])
    asked = place.asked
    await opened.take([WANTED])

    assert [6, 0, 4] == await opened.counts(["key", "bad", "third"])
    assert asked + 1 + 1 == place.asked
    words = "charge of 4 to bad, which is forgotten: ResponseError: WRONGTYPE."
    assert 1 == sum(words in each.message for each in caplog.records)


async def test_an_outage_among_debts_that_are_not_taken_leaves_the_rest_owed(place, opened):
    place.failing = True
    await opened.take([SETTLED._replace(key="bad"), SETTLED, SETTLED._replace(key="third")])
    place.failing, place.refusing, opened._ask_again = False, "bad", 0
    place.fails_at = place.asked + 3  # all at once, the bad one, and then this
    await opened.take([WANTED])
    place.fails_at, opened._ask_again = None, 0
    await opened.take([WANTED])

    assert [6, 4] == await opened.counts(["key", "third"])


@pytest.mark.parametrize("policy", ["open", "closed"])
async def test_a_count_that_takes_no_charges_is_no_outage_for_others(place, clock, policy, caplog):
    state = Enduring(place, on_failure=policy, timeout=5, clock=clock)
    place.refusing = "bad"
    for charge in (WANTED, SETTLED):
        with suppress(StateUnavailableError):
            await state.take([charge._replace(key="bad")])
        assert await state.take([WANTED]) is None

    assert 2 == await count(place)
    assert not [each for each in caplog.records if "does not answer" in each.message]


async def test_closed_a_call_that_cannot_be_counted_is_refused(place, closed):
    place.refusing = "key"
    with pytest.raises(StateUnavailableError, match="WRONGTYPE"):
        await closed.take([WANTED])


async def test_debts_of_windows_that_are_over_are_forgotten(opened, place, clock):
    place.failing = True
    await opened.take([SETTLED])
    clock.now += 61
    await opened.take([SETTLED._replace(key="other")])
    place.failing = False
    clock.now += 7
    await opened.take([WANTED._replace(key="third")])

    assert [0, 4, 1] == await opened.counts(["key", "other", "third"])


@pytest.mark.parametrize(("failing", "counted"), [(False, 4), (True, 0)])
async def test_what_is_owed_is_paid_at_the_end_where_that_can_be(opened, place, failing, counted):
    place.failing = True
    await opened.take([SETTLED])
    place.failing = failing
    await opened.aclose()

    assert (counted, ("aclose",)) == (await count(place), place.closed)


async def test_closing_closes_the_place(opened, place):
    opened.close()
    await opened.aclose()

    assert ("close", "aclose") == place.closed


async def test_two_that_come_back_at_once_say_so_once(opened, place, clock, caplog):
    place.failing = True
    await opened.take([WANTED])
    place.failing = False
    clock.now += 7
    # As if another thread had found out between the look and the lock.
    opened._lock = Meanwhile(opened)
    await opened.take([WANTED])

    assert 1 == len(caplog.records)


class Meanwhile:
    """A lock whose holder before us noted that the place is back."""

    def __init__(self, state):
        self.state = state
        self.entered = 0

    def __enter__(self):
        self.entered += 1
        if self.entered == 3:
            self.state._down_since = None

    def __exit__(self, *_):
        return None
