"""Answers are kept for their tenant, for a time, unchanged; no leader harms its followers."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from threading import Barrier, Lock, Thread
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from kor_core.llm.messages import user
from kor_core.llm.policies.cache import ResponseCache, request_key
from kor_core.llm.policies.weighing import weight
from kor_core.llm.response import LLMResponse
from kor_core.redaction import Secret


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True)
class Answer:
    text: str
    arguments: dict[str, Any] = field(default_factory=dict[str, Any])


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


# --- keys -----------------------------------------------------------------------------------

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.decimals(allow_nan=False),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(min_size=1), inner),
    max_leaves=8,
)


def exact(value: object) -> object:
    """Return it so that only what is the same in type and value is equal."""
    if isinstance(value, dict):
        return "dict", sorted((name, exact(item)) for name, item in value.items()).__repr__()
    if isinstance(value, list):
        return "list", [exact(item) for item in value]
    return type(value).__name__, repr(value)


@given(one=VALUES, other=VALUES)
def test_different_requests_never_share_a_key(one: object, other: object):
    same = exact(one) == exact(other)

    assert same == (request_key("t", "m", one) == request_key("t", "m", other))


def test_the_order_of_names_and_the_kind_of_sequence_play_no_part():
    one = {"a": [1, 2], "b": {"x": 1, "y": 2}}
    other = {"b": {"y": 2, "x": 1}, "a": (1, 2)}

    assert request_key(None, "m", one) == request_key(None, "m", other)


def test_values_that_compare_equal_are_told_apart():
    keys = {request_key(None, "m", {"n": value}) for value in (1, 1.0, True, "1", Decimal(1))}

    assert 5 == len(keys)


def test_tenant_and_model_are_part_of_the_key():
    keys = {request_key(tenant, model, 1) for tenant in (None, "", "a") for model in ("m", "n")}

    assert 6 == len(keys)


def test_messages_are_requests():
    keys = {request_key(None, "m", [user(text)]) for text in ("Hello!", "Goodbye!")}

    assert 2 == len(keys)
    assert None not in keys


@pytest.mark.parametrize(
    "request_", [object(), {1: "a"}, {"": 1}, {"f": print}, {"class": Answer}, {1, 2}, bytearray()]
)
def test_what_has_no_canonical_form_has_no_key(request_: object):
    assert request_key(None, "m", request_) is None


def test_subclasses_of_plain_types_are_what_they_look_like_and_sets_have_no_order():
    key = Secret("sk-planted")

    assert request_key(None, "m", {"k": key}) == request_key(None, "m", {"k": "sk-planted"})
    assert request_key(None, "m", frozenset("ab")) == request_key(None, "m", frozenset("ba"))
    assert request_key(None, "m", frozenset("ab")) != request_key(None, "m", frozenset("a"))
    assert request_key(None, "m", MappingProxyType({})) == request_key(None, "m", {})


def test_what_holds_itself_has_no_key():
    endless: list[object] = []
    endless.append(endless)

    assert request_key(None, "m", endless) is None


# --- keeping --------------------------------------------------------------------------------


def test_an_answer_is_kept_for_its_time():
    clock = Clock()
    cache = ResponseCache[str](ttl=10, clock=clock)
    cache.put("k", "answer")

    clock.now += 9.9
    before = cache.get("k")
    clock.now += 0.1

    assert "answer" == before
    assert cache.get("k") is None
    assert 0 == len(cache)


def test_the_answer_unused_for_longest_goes():
    cache = ResponseCache[str](most=2)
    for key in ("a", "b"):
        cache.put(key, key)

    cache.get("a")
    cache.put("c", "c")

    assert ["a", None, "c"] == [cache.get(key) for key in "abc"]


def test_a_tenant_that_asks_the_most_drives_out_nobody_elses_answers():
    cache = ResponseCache[str](most=4)
    cache.put("of acme", "kept", "acme")

    for number in range(50):
        cache.put(f"{number}", "answer", "mallory")
    cache.put("of globex", "kept too", "globex")

    assert 4 == len(cache)
    assert "kept" == cache.get("of acme", "acme")
    assert "kept too" == cache.get("of globex", "globex")
    assert [None, "answer", "answer"] == [cache.get(f"{each}", "mallory") for each in (47, 48, 49)]


def test_the_answer_of_the_tenant_that_came_first_goes_where_all_have_one():
    cache = ResponseCache[str](most=2)
    for tenant in ("a", "b", "c"):
        cache.put(tenant, "answer", tenant)

    assert [None, "answer", "answer"] == [cache.get(each, each) for each in ("a", "b", "c")]
    assert 2 == len(cache)


def test_what_is_too_large_is_kept_without_the_providers_own_words_or_not_at_all():
    cache = ResponseCache[LLMResponse]()
    numbers = {"numbers": [1.5] * 100_000}

    cache.put("raw", LLMResponse("Hello!", raw=numbers))
    cache.put("long", LLMResponse("x" * 300_000, raw=numbers))
    cache.put("bare", LLMResponse("x" * 300_000))

    found = cache.get("raw")
    assert LLMResponse("Hello!") == found
    assert found.raw is None
    assert [None, None] == [cache.get("long"), cache.get("bare")]
    assert 1 == len(cache)


async def test_an_answer_too_large_to_be_kept_reaches_followers_all_the_same():
    cache = ResponseCache[LLMResponse](coalesce=True)
    calls: list[int] = []

    async def call() -> LLMResponse:
        calls.append(1)
        await asyncio.sleep(0)
        return LLMResponse("x" * 300_000)

    found = await asyncio.gather(*(cache.through("k", call) for _ in range(5)))

    assert [1] == calls
    assert {300_000} == {len(each.text) for each in found}
    assert 0 == len(cache)


def test_answers_are_bounded_in_size_and_the_tenant_with_the_largest_makes_room():
    cache = ResponseCache[str](most=16)
    for number in range(4):
        cache.put(f"{number}", "small", "acme")

    for number in range(10):
        cache.put(f"{number}", "x" * 200_000, "mallory")
    cache.put("9", "x" * 100_000, "mallory")

    assert 4 + 5 == len(cache)
    assert ["small"] * 4 == [cache.get(f"{each}", "acme") for each in range(4)]
    assert [5, 6, 7, 8, 9] == [n for n in range(10) if cache.get(f"{n}", "mallory")]


def test_all_that_an_answer_holds_is_weighed():
    class Parsed:
        def __init__(self) -> None:
            self.held = [self, {"text": "x" * 1000}, frozenset({"y" * 1000}), Answer("z" * 1000)]

    assert 3000 < weight(Parsed(), 10_000) <= 10_000 + 3000
    assert 1000 < weight(LLMResponse("x" * 1000), 10_000) < 2500


def nested(depth: int) -> Answer:
    arguments: dict[str, Any] = {}
    for _ in range(depth):
        arguments = {"x": arguments}
    return Answer("deep", arguments)


@pytest.mark.parametrize("coalesce", [False, True])
async def test_an_answer_too_deep_to_be_copied_is_given_and_not_kept(coalesce):
    cache = ResponseCache[Answer](coalesce=coalesce)

    async def call() -> Answer:
        return nested(100_000)

    answer = await cache.through("k", call)

    assert "deep" == answer.text
    assert 0 == len(cache)


def test_an_answer_too_deep_to_be_given_out_just_now_is_none():
    """There may be less room on the stack than there was when it was kept."""

    def copied(answer: str) -> str:
        if len(cache):
            raise RecursionError
        return answer

    cache = ResponseCache[str](copied=copied)
    cache.put("k", "answer")

    assert cache.get("k") is None
    assert 1 == len(cache)


def test_cleared_it_holds_nothing():
    cache = ResponseCache[str]()
    cache.put("k", "answer")

    cache.clear()

    assert cache.get("k") is None


def test_a_caller_who_changes_an_answer_changes_its_own():
    cache = ResponseCache[Answer]()
    given_in = Answer("text", {"city": "Bern"})
    cache.put("k", given_in)

    given_in.arguments["city"] = "changed"
    first = cache.get("k")
    assert first is not None
    first.arguments["city"] = "changed"

    assert Answer("text", {"city": "Bern"}) == cache.get("k")


def test_responses_are_kept_whole():
    cache = ResponseCache[LLMResponse]()
    response = LLMResponse("Hello!", model_id="m", raw={"id": [1]})

    cache.put("k", response)

    found = cache.get("k")
    assert found == response
    assert found is not None
    assert {"id": [1]} == found.raw


async def test_an_answer_that_cannot_be_copied_is_given_and_not_kept():
    cache = ResponseCache[LLMResponse](coalesce=True)
    response = LLMResponse("Hello!", raw={"held": Lock()})

    async def call() -> LLMResponse:
        return response

    assert response is await cache.through("k", call)
    assert 0 == len(cache)


# --- calls ----------------------------------------------------------------------------------


class Upstream:
    """Counts the calls, and answers, fails or waits as told."""

    def __init__(self, *outcomes: object) -> None:
        self.outcomes = list(outcomes)
        self.calls = 0
        self.gate = asyncio.Event()

    async def __call__(self) -> Answer:
        self.calls += 1
        number = self.calls
        await self.gate.wait()
        outcome = self.outcomes.pop(0) if self.outcomes else None
        if isinstance(outcome, Exception):
            raise outcome
        return Answer(f"answer {number}", {})


@pytest.fixture(params=[False, True], ids=["apart", "together"])
def cache(request: pytest.FixtureRequest) -> ResponseCache[Answer]:
    return ResponseCache(coalesce=request.param)


async def test_the_second_request_makes_no_call(cache: ResponseCache[Answer]):
    upstream = Upstream()
    upstream.gate.set()

    answers = [await cache.through("k", upstream) for _ in range(2)]

    assert [Answer("answer 1")] * 2 == answers
    assert 1 == upstream.calls


async def test_what_has_no_key_is_always_asked(cache: ResponseCache[Answer]):
    upstream = Upstream()
    upstream.gate.set()

    for _ in range(2):
        await cache.through(None, upstream)

    assert 2 == upstream.calls
    assert 0 == len(cache)


async def test_a_failure_is_not_kept(cache: ResponseCache[Answer]):
    upstream = Upstream(ZeroDivisionError())
    upstream.gate.set()

    with pytest.raises(ZeroDivisionError):
        await cache.through("k", upstream)

    assert Answer("answer 2") == await cache.through("k", upstream)


async def test_identical_requests_make_a_call_each_unless_told_otherwise():
    cache, upstream = ResponseCache[Answer](), Upstream()
    tasks = [asyncio.create_task(cache.through("k", upstream)) for _ in range(3)]
    await settled()

    upstream.gate.set()
    await asyncio.gather(*tasks)

    assert 3 == upstream.calls


# --- together -------------------------------------------------------------------------------


@pytest.fixture
def together() -> ResponseCache[Answer]:
    return ResponseCache(coalesce=True)


async def many(
    cache: ResponseCache[Answer], upstream: Callable[[], Any], number: int = 5
) -> list[asyncio.Task[Answer]]:
    tasks = [asyncio.create_task(cache.through("k", upstream)) for _ in range(number)]
    await settled()
    return tasks


async def test_identical_requests_at_one_time_make_one_call(together: ResponseCache[Answer]):
    upstream = Upstream()
    tasks = await many(together, upstream)

    upstream.gate.set()
    answers = await asyncio.gather(*tasks)

    assert 1 == upstream.calls
    assert [Answer("answer 1")] * 5 == answers
    assert 5 == len({id(answer) for answer in answers})
    assert {} == dict(together._flights)


async def test_different_requests_do_not_wait_for_each_other(together: ResponseCache[Answer]):
    stuck, quick = Upstream(), Upstream()
    quick.gate.set()
    waiting = asyncio.create_task(together.through("stuck", stuck))
    await settled()

    assert Answer("answer 1") == await together.through("quick", quick)
    waiting.cancel()


async def test_the_answer_reaches_followers_also_where_it_is_not_kept():
    cache, upstream = ResponseCache[Answer](ttl=0, coalesce=True), Upstream()
    tasks = await many(cache, upstream)

    upstream.gate.set()
    await asyncio.gather(*tasks)

    assert 1 == upstream.calls


async def test_a_cancelled_leader_harms_no_follower(together: ResponseCache[Answer]):
    upstream = Upstream()
    leader, *followers = await many(together, upstream)

    leader.cancel()
    await settled()
    upstream.gate.set()
    answers = await asyncio.gather(*followers)

    assert leader.cancelled()
    assert 2 == upstream.calls
    assert [Answer("answer 2")] * 4 == answers


async def test_a_failed_leader_harms_no_follower(together: ResponseCache[Answer]):
    upstream = Upstream(ZeroDivisionError())
    leader, *followers = await many(together, upstream)

    upstream.gate.set()
    answers = await asyncio.gather(*followers)

    assert isinstance(leader.exception(), ZeroDivisionError)
    assert 2 == upstream.calls
    assert [Answer("answer 2")] * 4 == answers


async def test_a_cancelled_follower_harms_nobody(together: ResponseCache[Answer]):
    upstream = Upstream()
    leader, first, second = await many(together, upstream, 3)

    first.cancel()
    await settled()
    upstream.gate.set()

    assert [Answer("answer 1")] * 2 == await asyncio.gather(leader, second)
    assert 1 == upstream.calls


async def test_followers_of_what_keeps_failing_go_several_at_a_time(
    together: ResponseCache[Answer],
):
    """One after the other, the last of a hundred would wait a hundred times as long."""
    rounds: list[int] = []

    async def failing() -> Answer:
        rounds[-1] += 1
        await asyncio.sleep(0)
        raise ZeroDivisionError

    tasks = [asyncio.create_task(together.through("k", failing)) for _ in range(100)]
    while not all(task.done() for task in tasks):
        rounds.append(0)
        await asyncio.sleep(0)

    assert all(isinstance(task.exception(), ZeroDivisionError) for task in tasks)
    assert 100 == sum(rounds)
    assert 8 <= max(rounds)


async def test_who_comes_while_followers_are_served_makes_no_call(
    together: ResponseCache[Answer],
):
    upstream = Upstream()
    tasks = await many(together, upstream, 20)

    upstream.gate.set()
    await asyncio.sleep(0)
    late = [await together.through("k", upstream) for _ in range(3)]
    await asyncio.gather(*tasks)

    assert 1 == upstream.calls
    assert [Answer("answer 1")] * 3 == late


async def test_who_looked_before_the_answer_was_kept_does_not_ask_again(
    together: ResponseCache[Answer],
):
    upstream = Upstream()
    upstream.gate.set()
    together.put("k", Answer("kept meanwhile"))

    assert Answer("kept meanwhile") == await together._together("k", upstream, None)
    assert 0 == upstream.calls


def test_identical_requests_of_several_loops_make_one_call(together: ResponseCache[Answer]):
    start, lock = Barrier(4), Lock()
    calls: list[int] = []
    answers: list[Answer] = []

    async def call() -> Answer:
        with lock:
            calls.append(1)
        await asyncio.sleep(0.01)
        return Answer("once")

    async def main() -> None:
        start.wait()
        answers.extend(await asyncio.gather(*(together.through("k", call) for _ in range(50))))

    threads = [Thread(target=lambda: asyncio.run(main())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert [1] == calls
    assert [Answer("once")] * 200 == answers


# --- the model ------------------------------------------------------------------------------


class CacheMachine(RuleBasedStateMachine):
    """A dict with times beside it, in the order of use."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.cache = ResponseCache[int](most=3, ttl=10, clock=self.clock)
        self.model: dict[str, tuple[int, float]] = {}

    @rule(key=st.sampled_from("abcde"), answer=st.integers())
    def put(self, key: str, answer: int):
        self.cache.put(key, answer)
        self.model.pop(key, None)
        self.model[key] = answer, self.clock.now + 10
        if len(self.model) > 3:
            del self.model[next(iter(self.model))]

    @rule(key=st.sampled_from("abcde"))
    def get(self, key: str):
        answer, expires = self.model.pop(key, (None, 0.0))
        expected = answer if expires > self.clock.now else None
        if expected is not None:
            self.model[key] = expected, expires

        assert expected == self.cache.get(key)

    @rule(seconds=st.sampled_from([1.0, 5.0, 10.0]))
    def wait(self, seconds: float):
        self.clock.now += seconds

    @invariant()
    def it_is_bounded(self):
        assert list(self.model) == list(self.cache._answers.get(None, ()))
        assert 3 >= len(self.cache)


TestCacheMachine = CacheMachine.TestCase
