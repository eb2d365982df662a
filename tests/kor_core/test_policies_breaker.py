"""A circuit opens when it should, lets one probe through, and is forgotten when it is idle."""

import asyncio
import gc
from contextlib import suppress
from threading import Barrier, Thread

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from kor_core.errors import (
    AuthenticationError,
    BadRequestError,
    BudgetExceededError,
    KorError,
    LLMError,
    LLMTimeoutError,
    ProviderError,
    QuotaExhaustedError,
    RateLimitError,
)
from kor_core.llm.policies.breaker import Breakers, Guard
from kor_core.llm.policies.circuit import CLOSED, CircuitKey, CircuitState

KEY = CircuitKey("acme", "openai", "m", "f")
FAILED = ProviderError("It failed.", retryable=True)
REFUSED = AuthenticationError("The key was refused.", status=401)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breakers(clock: Clock) -> Breakers:
    return Breakers(clock=clock)


def admitted(breakers: Breakers, key: CircuitKey = KEY) -> Guard:
    guard = breakers.admit(key)
    assert guard is not None
    return guard


def fail(breakers: Breakers, error: KorError = FAILED, times: int = 1) -> None:
    for _ in range(times):
        admitted(breakers).failed(error)


# --- opening --------------------------------------------------------------------------------


def test_five_failures_within_the_window_open_it(breakers: Breakers):
    fail(breakers, times=4)
    before = breakers.state(KEY)
    fail(breakers)

    assert CircuitState("closed", None, "ProviderError", 4) == before
    assert CircuitState("open", "failures", "ProviderError", 5, left=30.0) == breakers.state(KEY)
    assert breakers.admit(KEY) is None


def test_failures_further_apart_than_the_window_do_not_open_it(breakers: Breakers, clock: Clock):
    for _ in range(50):
        fail(breakers)
        clock.now += 15

    assert "closed" == breakers.state(KEY).state


def test_answers_in_between_do_not_hide_failures(breakers: Breakers):
    """The rule is so many failures in so much time, whatever else succeeded."""
    for _ in range(5):
        fail(breakers)
        if guard := breakers.admit(KEY):
            guard.succeeded()

    assert "open" == breakers.state(KEY).state


@pytest.mark.parametrize(
    ("error", "reason", "left"),
    [
        (RateLimitError("Slow down.", retry_after=7), "retry_after", 7.0),
        (ProviderError("Overloaded.", retry_after=0.5), "retry_after", 0.5),
        (RateLimitError("Come back next year.", retry_after=1e9), "retry_after", 3600.0),
        (REFUSED, "refused", 30.0),
        (QuotaExhaustedError("Spent.", retry_after=90), "refused", 90.0),
    ],
)
def test_what_asks_for_a_rest_opens_it_at_once(
    breakers: Breakers, error: KorError, reason: str, left: float
):
    fail(breakers, error)

    state = breakers.state(KEY)
    assert ("open", reason, left) == (state.state, state.reason, state.left)


@pytest.mark.parametrize(
    "error",
    [
        BadRequestError("Wrong.", status=400),
        BadRequestError("Refused before it was sent."),
        BudgetExceededError("Spent."),
    ],
)
def test_what_is_not_the_models_fault_never_opens_it(breakers: Breakers, error: KorError):
    fail(breakers, error, times=50)

    assert CLOSED == breakers.state(KEY)


def test_circuits_are_apart(breakers: Breakers):
    fail(breakers, times=5)

    for other in (
        KEY._replace(tenant=None),
        KEY._replace(provider="litellm"),
        KEY._replace(model="n"),
        KEY._replace(credential="g"),
    ):
        assert breakers.admit(other)
        assert breakers.would_admit(other)


# --- half open ------------------------------------------------------------------------------


@pytest.fixture
def half_open(breakers: Breakers, clock: Clock) -> Breakers:
    fail(breakers, times=5)
    clock.now += 30
    return breakers


def test_it_admits_one_probe_when_the_time_is_over(half_open: Breakers):
    before = half_open.state(KEY)
    probe = half_open.admit(KEY)
    during = half_open.state(KEY)

    assert ("half_open", False, False) == (before.state, before.probing, before.blocked)
    assert probe is not None
    assert probe.probe
    assert half_open.admit(KEY) is None
    assert ("half_open", True, True) == (during.state, during.probing, during.blocked)


def test_a_probe_that_is_answered_closes_it(half_open: Breakers):
    with admitted(half_open):
        pass

    assert CLOSED == half_open.state(KEY)


def test_a_probe_that_is_answered_with_a_complaint_about_the_request_closes_it(
    half_open: Breakers,
):
    admitted(half_open).failed(BadRequestError("Wrong.", status=400))

    assert CLOSED == half_open.state(KEY)


@pytest.mark.parametrize(
    "error", [BadRequestError("Refused before it was sent."), BudgetExceededError("Spent.")]
)
def test_a_probe_that_was_never_sent_gives_its_place_back(half_open: Breakers, error: KorError):
    admitted(half_open).failed(error)

    assert admitted(half_open).probe


def test_a_probe_that_fails_opens_it_again(half_open: Breakers):
    admitted(half_open).failed(FAILED)

    assert ("open", 30.0) == (half_open.state(KEY).state, half_open.state(KEY).left)
    assert half_open.admit(KEY) is None


@pytest.mark.parametrize("leaving", [asyncio.CancelledError, GeneratorExit])
def test_a_probe_that_is_cancelled_gives_its_place_back(
    half_open: Breakers, leaving: type[BaseException]
):
    with pytest.raises(leaving), admitted(half_open):
        raise leaving

    assert "half_open" == half_open.state(KEY).state
    assert admitted(half_open).probe


def test_a_probe_that_is_lost_gives_its_place_back(half_open: Breakers):
    probe = admitted(half_open)

    del probe
    gc.collect()

    assert admitted(half_open).probe


def test_a_guard_is_told_once(half_open: Breakers):
    probe = admitted(half_open)

    probe.released()
    probe.succeeded()
    probe.failed(FAILED)

    assert ("half_open", 5) == (half_open.state(KEY).state, half_open.state(KEY).failures)


def test_one_probe_among_many_threads(half_open: Breakers):
    start = Barrier(8)
    guards: list[Guard] = []

    def ask() -> None:
        start.wait()
        guards.extend(guard for _ in range(200) if (guard := half_open.admit(KEY)))

    threads = [Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [True] == [guard.probe for guard in guards]


def test_one_probe_among_two_loops(half_open: Breakers):
    start = Barrier(2)
    guards: list[Guard] = []

    async def ask() -> None:
        if guard := half_open.admit(KEY):
            guards.append(guard)
            await asyncio.sleep(0)

    async def many() -> None:
        start.wait()
        await asyncio.gather(*(ask() for _ in range(100)))

    threads = [Thread(target=lambda: asyncio.run(many())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert 1 == len(guards)


# --- late news ------------------------------------------------------------------------------


def test_an_answer_to_a_request_from_before_does_not_close_it(breakers: Breakers):
    before = admitted(breakers)
    fail(breakers, RateLimitError("Slow down.", retry_after=7))

    before.succeeded()

    assert "open" == breakers.state(KEY).state


def test_a_probe_of_an_earlier_opening_does_not_close_it(breakers: Breakers, clock: Clock):
    fail(breakers, times=5)
    before = admitted(breakers) if breakers.would_admit(KEY) else None
    clock.now += 30
    probe = admitted(breakers)
    late = Guard(breakers, KEY)
    late.failed(RateLimitError("Slow down.", retry_after=7))

    probe.succeeded()

    assert before is None
    assert "open" == breakers.state(KEY).state


def test_failures_of_requests_from_before_do_not_prolong_it(breakers: Breakers, clock: Clock):
    late = [admitted(breakers) for _ in range(10)]
    fail(breakers, times=5)

    clock.now += 10
    for guard in late:
        guard.failed(FAILED)

    assert 20.0 == breakers.state(KEY).left


def test_a_shorter_wait_never_shortens_a_longer_one(breakers: Breakers):
    late = admitted(breakers)
    fail(breakers, RateLimitError("Slow down.", retry_after=50))

    late.failed(RateLimitError("Slow down.", retry_after=1))

    assert 50.0 == breakers.state(KEY).left


def test_a_guard_of_a_circuit_that_was_forgotten_does_no_harm(half_open: Breakers):
    probe, other = admitted(half_open), Guard(half_open, KEY, opening=1)
    half_open.forget(lambda key: key.tenant == "acme")

    other.succeeded()
    probe.failed(FAILED)

    assert ("closed", 1) == (half_open.state(KEY).state, half_open.state(KEY).failures)


# --- cooldowns ------------------------------------------------------------------------------


def test_a_cooldown_turns_nobody_away(breakers: Breakers):
    """A sole candidate is still asked; where there are others, its state says: they first."""
    fail(breakers, REFUSED)

    guards = [breakers.admit(KEY) for _ in range(3)]

    assert [False, False, False] == [guard.probe for guard in guards if guard]
    assert breakers.would_admit(KEY)
    assert breakers.state(KEY).cooled
    assert not breakers.state(KEY).blocked


def test_an_answer_ends_a_cooldown(breakers: Breakers):
    fail(breakers, REFUSED)

    admitted(breakers).succeeded()

    assert CLOSED == breakers.state(KEY)


def test_after_a_cooldown_one_asks_first_and_the_others_ask_last(breakers: Breakers, clock: Clock):
    fail(breakers, REFUSED)
    clock.now += 30

    over = breakers.state(KEY)
    guards = [admitted(breakers) for _ in range(3)]

    assert not over.cooled
    assert [True, False, False] == [guard.probe for guard in guards]
    assert breakers.state(KEY).cooled


def test_failures_during_a_cooldown_open_it_for_all(breakers: Breakers):
    fail(breakers, REFUSED)
    fail(breakers, LLMTimeoutError("Late."), times=3)
    before = breakers.admit(KEY)
    fail(breakers)

    assert before is not None
    assert breakers.admit(KEY) is None
    assert breakers.state(KEY).blocked


# --- foresight ------------------------------------------------------------------------------


def test_it_says_whether_waiting_helps(breakers: Breakers, clock: Clock):
    fail(breakers, RateLimitError("Slow down.", retry_after=2))

    assert not breakers.would_admit(KEY)
    assert not breakers.would_admit(KEY, after=1.9)
    assert breakers.would_admit(KEY, after=2.0)

    clock.now += 2
    probe = admitted(breakers)

    assert not breakers.would_admit(KEY, after=2.0)
    probe.released()


# --- memory and secrets ---------------------------------------------------------------------


def keys(number: int) -> list[CircuitKey]:
    return [CircuitKey(f"tenant {each}", "openai", "m") for each in range(number)]


def test_where_nothing_fails_nothing_is_kept(breakers: Breakers):
    for key in keys(5000):
        with admitted(breakers, key):
            pass

    assert {} == breakers._circuits


def test_idle_circuits_are_forgotten(breakers: Breakers, clock: Clock):
    for key in keys(10_000):
        admitted(breakers, key).failed(FAILED)
        clock.now += 1

    # Those of the last minute, and at most as many again before they are swept out.
    assert len(breakers._circuits) <= 128


def test_open_circuits_are_forgotten_when_nobody_tries_them(breakers: Breakers, clock: Clock):
    first, *others = keys(100)
    admitted(breakers, first).failed(REFUSED)

    clock.now += 700
    for key in others:
        admitted(breakers, key).failed(FAILED)

    assert first not in breakers.snapshot()


def test_a_circuit_that_is_being_tried_is_kept(breakers: Breakers, clock: Clock):
    first, *others = keys(100)
    admitted(breakers, first).failed(REFUSED)

    clock.now += 700
    probe = admitted(breakers, first)
    for key in others:
        admitted(breakers, key).failed(FAILED)

    assert probe.probe
    assert first in breakers.snapshot()


def test_no_number_of_failing_tenants_fills_the_memory(clock: Clock):
    breakers = Breakers(most=100, clock=clock)

    for key in keys(1000):
        admitted(breakers, key).failed(REFUSED)

    assert 75 <= len(breakers._circuits) <= 100
    assert keys(1000)[-1] in breakers.snapshot()


def test_a_tenant_that_fails_everywhere_makes_nobody_forget(clock: Clock):
    breakers = Breakers(most=100, clock=clock)
    acmes = [CircuitKey("acme", "openai", str(number)) for number in range(20)]
    for key in acmes:
        admitted(breakers, key).failed(REFUSED)

    for number in range(1000):
        admitted(breakers, CircuitKey("mallory", "openai", str(number))).failed(REFUSED)

    assert set(acmes) <= breakers.snapshot().keys()
    assert CircuitKey("mallory", "openai", "999") in breakers.snapshot()


def test_a_state_is_found_without_looking_through_all(breakers: Breakers):
    """It is asked for at each call, and thousands of tenants may fail."""
    for key in keys(100):
        admitted(breakers, key).failed(REFUSED)
    looked_at: list[CircuitKey] = []

    class Counted(dict[CircuitKey, object]):
        def items(self):
            looked_at.extend(self)
            return super().items()

    breakers._circuits = Counted(breakers._circuits)

    assert breakers.state(keys(100)[-1]).cooled
    assert [] == looked_at
    assert 100 == len(breakers.snapshot())
    assert 100 == len(looked_at)


def test_forgetting_a_tenant_leaves_the_others(breakers: Breakers):
    for key in keys(3):
        admitted(breakers, key).failed(REFUSED)

    breakers.forget(lambda key: key.tenant == "tenant 1")

    assert ["tenant 0", "tenant 2"] == [key.tenant for key in breakers.snapshot()]


def test_a_fingerprint_tells_keys_apart_and_shows_none(breakers: Breakers):
    planted = "sk-planted"

    prints = {
        breakers.fingerprint(*parts)
        for parts in [(planted,), ("sk-other",), (planted, ""), ("sk", "-planted"), (), ("\ud800",)]
    }

    assert 6 == len(prints)
    assert breakers.fingerprint(planted) == breakers.fingerprint(planted)
    assert breakers.fingerprint(planted) != Breakers().fingerprint(planted)
    assert planted not in "".join(prints)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (
            CircuitState("open", "failures", "ProviderError", 5, 2.0),
            "open for another 2.0 s: 5 failures, the last one a ProviderError",
        ),
        (CLOSED, "closed"),
        (
            CircuitState("open", "refused", "AuthenticationError", left=3.0),
            "open for another 3.0 s: AuthenticationError",
        ),
        (
            CircuitState("half_open", "retry_after", "RateLimitError"),
            "half open: the provider asked to be left alone: RateLimitError",
        ),
    ],
)
def test_a_state_says_in_words_what_it_is(state: CircuitState, words: str):
    assert words == str(state)


def test_a_request_that_meets_a_circuit_just_closed_is_let_through(half_open: Breakers):
    """Between the look without the lock and the one with it another thread may close it."""
    assert half_open._through(KEY, None) is not None


# --- the model ------------------------------------------------------------------------------

FAILURES = [
    FAILED,
    REFUSED,
    RateLimitError("Slow down.", retry_after=20),
    RateLimitError("Slow down."),
]


class BreakerMachine(RuleBasedStateMachine):
    """Any number of requests, ending in any order, with any time in between."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.breakers = Breakers(failures=3, clock=self.clock)
        self.running: list[Guard] = []
        self.failures: list[float] = []

    @rule()
    def admit(self):
        state = self.breakers.state(KEY)
        would = self.breakers.would_admit(KEY)

        guard = self.breakers.admit(KEY)

        assert would == (guard is not None) == (not state.blocked)
        if guard is not None:
            assert guard.probe == (state.state == "half_open" and not state.probing)
            self.running.append(guard)

    def some(self, data: st.DataObject) -> Guard:
        return self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))

    @precondition(lambda self: self.running)
    @rule(data=st.data(), error=st.sampled_from(FAILURES))
    def fail(self, data: st.DataObject, error: LLMError):
        guard = self.some(data)
        before, trial = self.breakers.state(KEY), guard.probe and self.is_current(guard)

        with suppress(LLMError), guard:
            raise error

        self.failures.append(self.clock.now)
        recent = [at for at in self.failures if at > self.clock.now - 60]
        counts = len(recent) >= 3 and before.reason in {None, "refused"}
        after = self.breakers.state(KEY)
        if error is REFUSED:
            assert ("refused", max(30.0, before.left)) == (after.reason, after.left)
        elif error.retry_after:
            assert ("retry_after", max(20.0, before.left)) == (after.reason, after.left)
        elif trial or counts:
            assert ("failures", max(30.0, before.left)) == (after.reason, after.left)
        else:
            assert (before.state, before.reason, before.left) == (
                *(after.state, after.reason, after.left),
            )

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def complain(self, data: st.DataObject):
        """The model works, and calls the request wrong."""
        guard = self.some(data)
        current = guard.opening and self.is_current(guard)
        before = self.breakers.state(KEY)

        with suppress(LLMError), guard:
            raise BadRequestError("Wrong.", status=400)

        self.closes(before, current)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def answer(self, data: st.DataObject):
        guard = self.some(data)
        current = guard.opening and self.is_current(guard)
        before = self.breakers.state(KEY)

        with guard:
            pass

        self.closes(before, current)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject):
        guard = self.some(data)
        before = self.breakers.state(KEY)

        with suppress(asyncio.CancelledError), guard:
            raise asyncio.CancelledError

        after = self.breakers.state(KEY)
        assert (before.state, before.failures) == (after.state, after.failures)
        assert not (guard.probe and after.probing and self.is_current(guard))

    @rule(seconds=st.sampled_from([1.0, 15.0, 30.0, 60.0]))
    def wait(self, seconds: float):
        self.clock.now += seconds

    @invariant()
    def at_most_one_probe_of_an_opening_runs(self):
        probes = [each for each in self.running if each.probe and self.is_current(each)]
        assert len(probes) <= 1
        assert self.breakers.state(KEY).probing == bool(probes)

    @invariant()
    def it_always_opens_to_trials_in_the_end(self):
        if not self.breakers.state(KEY).probing:
            assert self.breakers.would_admit(KEY, after=60.0)

    def closes(self, before: CircuitState, current: object):
        after = self.breakers.state(KEY)
        if current:
            assert CLOSED == after
            self.failures.clear()
        else:
            assert before == after

    def is_current(self, guard: Guard) -> bool:
        circuit = self.breakers._circuits.get(KEY)
        return guard.opening == (circuit.opening if circuit else 0)


TestBreakerMachine = BreakerMachine.TestCase
