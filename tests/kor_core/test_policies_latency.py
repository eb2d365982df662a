"""Averages of the time to the first token follow what is seen now, and stay few."""

import math
from threading import Thread

import pytest

from kor_core.llm.policies.circuit import CircuitKey
from kor_core.llm.policies.latency import Latencies


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_what_was_seen_a_half_life_ago_weighs_half():
    clock = Clock()
    latencies = Latencies(half_life=10, clock=clock)

    latencies.note("m", 3.0)
    clock.now += 10
    latencies.note("m", 0.0)

    assert math.isclose(1.0, latencies.of("m") or 0)


def test_a_figure_of_long_ago_is_none():
    clock = Clock()
    latencies = Latencies(half_life=10, clock=clock)
    latencies.note("m", 3.0)

    clock.now += 100
    known = latencies.of("m")
    clock.now += 1

    assert 3.0 == known
    assert latencies.of("m") is None
    assert {} == latencies.snapshot()


def test_a_clock_that_goes_back_does_no_harm():
    clock = Clock()
    latencies = Latencies(half_life=1, clock=clock)
    latencies.note("m", 1.0)

    clock.now -= 1e9
    latencies.note("m", 3.0)

    assert 2.0 == latencies.of("m")


@pytest.mark.parametrize("seconds", [math.nan, math.inf, -0.1])
def test_what_is_no_time_is_left_out(seconds: float):
    latencies = Latencies()

    latencies.note("m", seconds)

    assert latencies.of("m") is None


def test_the_model_unheard_of_for_longest_is_forgotten():
    latencies = Latencies(most=2, clock=Clock())

    for model in ("a", "b", "a", "c"):
        latencies.note(model, 1.0)

    assert {"a": 1.0, "c": 1.0} == latencies.snapshot()


def test_a_tenant_that_asks_the_most_drives_out_no_figure_of_others():
    latencies = Latencies(most=4, clock=Clock())
    latencies.note(CircuitKey("acme", "p", "m"), 1.0)

    for number in range(50):
        latencies.note(CircuitKey("mallory", "p", f"{number}"), 2.0)
    latencies.note(CircuitKey("globex", "p", "m"), 3.0)

    expected = {("acme", "m"): 1.0, ("mallory", "48"): 2.0, ("mallory", "49"): 2.0}
    found = {(key.tenant, key.model): each for key, each in latencies.snapshot().items()}
    assert {**expected, ("globex", "m"): 3.0} == found


def test_the_figure_of_the_tenant_that_came_first_goes_where_all_have_one():
    latencies = Latencies(most=2, clock=Clock())
    keys = [CircuitKey(tenant, "p", "m") for tenant in "abc"]

    for key in keys:
        latencies.note(key, 1.0)

    assert [None, 1.0, 1.0] == [latencies.of(key) for key in keys]


def test_no_figure_of_any_thread_is_lost():
    latencies = Latencies(clock=Clock())

    def note(seconds: float) -> None:
        for _ in range(500):
            latencies.note("m", seconds)

    threads = [Thread(target=note, args=(seconds,)) for seconds in (1.0, 2.0, 3.0, 4.0)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert 2.5 == latencies.of("m")
