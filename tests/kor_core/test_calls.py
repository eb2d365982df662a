"""A call over its candidates: who is asked next, how often, until when, and what is told of it."""

import asyncio
import gc
import logging
import time
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import BaseModel, field_validator

from kor_core.adapters.state_memory import MemoryState
from kor_core.errors import (
    AllModelsFailedError,
    AuthenticationError,
    BadRequestError,
    BudgetExceededError,
    CapabilityNotSupportedError,
    CircuitOpenError,
    ConfigurationError,
    ContentFilterError,
    ContextWindowExceededError,
    InvalidAnswerError,
    LLMConnectionError,
    LLMError,
    LLMTimeoutError,
    ModelNotFoundError,
    PermissionDeniedError,
    ProviderError,
    QuotaExhaustedError,
    RateLimitError,
    StateUnavailableError,
    StreamInterruptedError,
)
from kor_core.llm.base import BaseLLMModel, BaseLLMProvider
from kor_core.llm.catalogue import Catalogue
from kor_core.llm.handle import ModelHandle
from kor_core.llm.messages import ToolCall
from kor_core.llm.pipeline import Policies
from kor_core.llm.policies.breaker import Breakers
from kor_core.llm.policies.cache import ResponseCache
from kor_core.llm.policies.circuit import CircuitKey
from kor_core.llm.policies.concurrency import Concurrency
from kor_core.llm.policies.limits import Meter
from kor_core.llm.policies.retrier import Retrier
from kor_core.llm.profile import ModelProfile
from kor_core.llm.reference import Reference
from kor_core.llm.registry import LLMRegistry
from kor_core.llm.response import Delta, Embeddings, LLMResponse, Usage
from kor_core.llm.target import Target
from kor_core.settings import settings_from
from kor_core.testing import ScriptedModel, ScriptedProvider
from kor_core.testing.waiting import await_until

USAGE = Usage(10, 5)
PRICES = {"input_price": 1_000_000, "output_price": 2_000_000}  # US$ 1 and 2 a token


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Acting(BaseLLMModel):
    """Does what its provider says at each call."""

    act: Any
    capabilities = frozenset({"tools", "json_schema"})

    async def agenerate(self, prompt: str, **kwargs: Any) -> str:
        return await self.act(self.model_name, prompt)


class ActingProvider(BaseLLMProvider):
    def __init__(self, act, name="acting"):
        self.id = name
        self.act = act

    def create_model(self, model_name, config):
        model = Acting(model_name, config)
        model.act = self.act
        return model


class Bench(SimpleNamespace):
    """Candidates on doubles, `first:m` before `second:m` and so on, and all that is told."""

    def outcomes(self):
        return [(each.model.partition(":")[0], each.outcome) for each in self.records]

    def told(self):
        return [event.name.removeprefix("llm.call.") for event in self.events]


def bench(*providers, policies=None, llm=None, settings=None, **table) -> Any:
    events: list[Any] = []
    records: list[Any] = []
    ids = [provider.id for provider in providers]
    default = {"candidates": [f"{name}:m" for name in ids], **table}
    tables = {"llm": {"default": default, **(llm or {})}, **(settings or {})}
    made = settings_from(tables)
    chosen: dict[str, Any] = {
        "observer": events.append,
        "sink": records.append,
        "retrier": Retrier(base=0),
        "breakers": Breakers(failures=100),
    }
    given = {**chosen, **(policies or {})}
    if given.get("meter") == "counting":
        given["meter"] = Meter(made, MemoryState())
    registry = LLMRegistry(made, Catalogue(providers), policies=Policies(**given))
    return Bench(
        model=registry.get_model(),
        registry=registry,
        events=events,
        records=records,
        policies=registry._policies,
    )


def scripted(*responses, id="first"):  # noqa: A002  # as the double calls it
    return ScriptedProvider(responses, id=id)


def two(error, *, times=3, **more):
    """Return a bench whose first candidate fails so, and whose second one answers."""
    first, second = scripted(*[error] * times), scripted("from the second", id="second")
    return bench(first, second, **more)


# --- what follows from which error ---

AGAIN = [
    RateLimitError("Slow down."),
    ProviderError("It failed.", status=503, retryable=True),
    LLMConnectionError("Refused."),
    LLMTimeoutError("The provider timed out."),
]
NEXT = [
    ProviderError("It redirects.", retryable=False),
    AuthenticationError("No."),
    PermissionDeniedError("No."),
    ModelNotFoundError("No such model."),
    QuotaExhaustedError("Pay."),
]


@pytest.mark.parametrize("error", AGAIN, ids=lambda error: type(error).__name__)
async def test_what_may_pass_is_tried_twice_more_and_then_the_next_is_asked(error):
    made = two(error)

    assert "from the second" == await made.model.agenerate("Hello!")
    assert [("first", "failed")] * 3 + [("second", "answered")] == made.outcomes()
    assert ["started", "finished"] == made.told()


@pytest.mark.parametrize("error", NEXT, ids=lambda error: type(error).__name__)
async def test_what_will_not_pass_is_not_tried_again_and_the_next_is_asked(error):
    made = two(error)

    response = await made.model.achat("Hello!")

    assert "from the second" == response.text
    assert [("first", "failed"), ("second", "answered")] == made.outcomes()
    assert tuple(made.records) == response.attempts


async def test_what_passes_is_answered_by_the_same_model():
    made = bench(scripted(AGAIN[0], "at last"), scripted(id="second"))

    assert "at last" == await made.model.agenerate("Hello!")
    assert [("first", "failed"), ("first", "answered")] == made.outcomes()


@pytest.mark.parametrize("error", [BadRequestError("Wrong."), ContentFilterError("No.")])
async def test_what_is_the_requests_fault_ends_the_call_with_its_own_error(error):
    made = two(error)

    with pytest.raises(type(error)) as caught:
        await made.model.agenerate("Hello!")

    assert error is caught.value
    assert [("first", "failed")] == made.outcomes()
    assert tuple(made.records) == error.attempts


async def test_it_stays_its_own_error_where_others_did_not_qualify():
    made = bench(
        scripted(BadRequestError("Wrong.")),
        scripted(id="small"),
        llm={"models": {"small:m": {"context_window": 1}}},
    )

    with pytest.raises(BadRequestError):
        await made.model.agenerate("Hello!")


async def test_declined_content_goes_to_the_next_where_that_is_opted_in_to():
    made = two(ContentFilterError("No."), policies={"content_filter_fallback": True})

    assert "from the second" == await made.model.agenerate("Hello!")
    assert [("first", "failed"), ("second", "answered")] == made.outcomes()


async def test_what_is_too_long_goes_to_those_with_a_larger_window_alone():
    windows = {"first:m": 1000, "smaller:m": 900, "larger:m": 2000}
    made = bench(
        scripted(ContextWindowExceededError("Too long.")),
        scripted(id="smaller"),
        scripted("large enough", id="larger"),
        llm={"models": {name: {"context_window": size} for name, size in windows.items()}},
    )

    assert "large enough" == await made.model.agenerate("Hello!")
    assert [("first", "failed"), ("larger", "answered")] == made.outcomes()


async def test_a_sole_candidate_raises_its_own_error_with_all_attempts():
    error = RateLimitError("Slow down.")
    made = bench(scripted(*[error] * 3))

    with pytest.raises(RateLimitError) as caught:
        await made.model.agenerate("Hello!")

    assert error is caught.value
    assert 3 == len(error.attempts)
    assert ["started", "failed"] == made.told()
    assert "RateLimitError" == made.events[-1].error


async def test_when_all_fail_the_error_holds_the_last_of_each_and_who_did_not_qualify():
    slow, down = RateLimitError("Slow down."), ProviderError("Down.", retryable=False)
    made = bench(
        scripted(*[slow] * 3),
        scripted(down, id="second"),
        scripted(id="third"),
        llm={"models": {"third:m": {"context_window": 1}}},
    )

    with pytest.raises(AllModelsFailedError, match="All 2 models that were asked failed") as caught:
        await made.model.agenerate("Hello!")

    assert (slow, down) == caught.value.exceptions[:2]
    assert isinstance(caught.value.exceptions[2], ContextWindowExceededError)
    assert "and 1 could not be asked" in str(caught.value)
    assert 4 == len(caught.value.attempts)


async def test_when_none_qualifies_nothing_is_asked_and_each_has_its_reason():
    small = {"context_window": 1}
    made = bench(
        scripted(), scripted(id="second"), llm={"models": {"first:m": small, "second:m": small}}
    )

    with pytest.raises(AllModelsFailedError, match="None of the 2 models could be asked") as caught:
        await made.model.agenerate("Hello!")

    assert [ContextWindowExceededError] * 2 == [type(each) for each in caught.value.exceptions]
    assert () == caught.value.attempts
    assert ["started", "failed"] == made.told()
    assert "first:m" == made.events[0].model


async def test_one_asked_and_one_left_out_is_said_in_words():
    made = bench(
        scripted(AuthenticationError("No.")),
        scripted(id="second"),
        llm={"models": {"second:m": {"context_window": 1}}},
    )

    with pytest.raises(AllModelsFailedError, match="The one model that was asked failed, and 1"):
        await made.model.agenerate("Hello!")


# --- waiting ---


async def test_a_wait_that_was_asked_for_is_waited_for():
    made = bench(scripted(RateLimitError("Slow down.", retry_after=0.05), "at last"))
    before = time.monotonic()

    assert "at last" == await made.model.agenerate("Hello!")
    assert time.monotonic() - before >= 0.05


async def test_nobody_waits_for_it_while_another_model_is_there():
    made = two(RateLimitError("Slow down.", retry_after=50))

    assert "from the second" == await made.model.agenerate("Hello!")
    assert [("first", "failed"), ("second", "answered")] == made.outcomes()


async def test_it_is_waited_for_where_the_others_are_left_alone():
    slow = RateLimitError("Slow down.", retry_after=0.01)
    down = ProviderError("Down.", retryable=False)
    first = scripted(slow, "at last")
    made = bench(first, scripted(down, id="second"), policies={"breakers": Breakers(failures=1)})
    with pytest.raises(ProviderError):
        await made.registry.get_model("second:m").agenerate("Hello!")

    assert "at last" == await made.model.agenerate("Hello!")


async def test_a_wait_beyond_the_deadline_is_not_begun():
    made = bench(scripted(RateLimitError("Slow down.", retry_after=30)), timeout=20)

    with pytest.raises(RateLimitError):
        await made.model.agenerate("Hello!")

    assert [("first", "failed")] == made.outcomes()


# --- the deadline ---


async def forever(*_):
    await asyncio.sleep(600)
    return ""


@pytest.mark.parametrize("kind", ["generate", "chat", "stream", "embed"])
async def test_one_deadline_ends_every_kind_of_call_in_a_typed_error(kind):
    made = bench(ActingProvider(forever), scripted(id="second"))
    model, settings = made.model, {"timeout": 0.05}
    if kind == "embed":
        made = bench(Hanging())
        model = made.model
    calls = {
        "generate": lambda: model.agenerate("Hello!", **settings),
        "chat": lambda: model.achat("Hello!", settings=settings),
        "stream": lambda: model.astream("Hello!", settings=settings).collect(),
        "embed": lambda: model.aembed("Hello!", settings=settings),
    }

    with pytest.raises(LLMTimeoutError, match=r"deadline of 0.05 s") as caught:
        await calls[kind]()

    assert ["failed"] == [each.outcome for each in caught.value.attempts]
    assert "LLMTimeoutError" == caught.value.attempts[0].error
    assert ["started", "failed"] == made.told()


class Hanging(BaseLLMProvider):
    id = "hanging"

    def create_model(self, model_name, config):
        class Model(ScriptedModel):
            async def _embed(self, texts, settings):
                return await forever()

        return Model(model_name=model_name, config=config)


async def test_the_deadline_ends_a_backoff():
    # The retrier begins no wait that passes the deadline; one of the user's may.
    patient = SimpleNamespace(wait_before=lambda error, tries, left: 500.0)
    made = bench(scripted(AGAIN[0]), policies={"retrier": patient}, timeout=0.5)

    with pytest.raises(LLMTimeoutError):
        await made.model.agenerate("Hello!")


@pytest.mark.parametrize("streamed", [False, True])
async def test_the_deadline_ends_the_wait_for_a_place(streamed):
    concurrency = Concurrency({"provider first": 1})
    made = bench(scripted(), policies={"concurrency": concurrency}, timeout=0.5)
    async with concurrency.place(("provider first",)):
        with pytest.raises(LLMTimeoutError) as caught:
            await (made.model.astream("x").collect() if streamed else made.model.agenerate("x"))

    assert ("first", "m") == (caught.value.provider, caught.value.model)
    assert () == caught.value.attempts
    assert 1 == concurrency.gates["provider first"].free


async def test_the_deadline_names_the_model_that_was_being_asked():
    hanging = ActingProvider(forever, "second")
    made = bench(scripted(AuthenticationError("No.")), hanging, timeout=0.5)

    with pytest.raises(LLMTimeoutError) as caught:
        await made.model.agenerate("Hello!")

    assert "second" == caught.value.provider
    assert ["AuthenticationError", "LLMTimeoutError"] == [e.error for e in caught.value.attempts]


async def test_a_model_that_turns_the_cancellation_into_an_error_is_not_asked_again():
    async def stubborn(*_):
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            raise OSError("The connection was closed.") from None

    made = bench(ActingProvider(stubborn), scripted("no", id="second"), timeout=0.05)

    with pytest.raises(LLMError):
        await made.model.agenerate("Hello!")

    assert 1 == len(made.records)


async def test_a_deadline_counts_as_a_failure_of_the_model():
    made = bench(ActingProvider(forever), policies={"breakers": Breakers(failures=1)}, timeout=0.02)
    with pytest.raises(LLMTimeoutError):
        await made.model.agenerate("Hello!")

    with pytest.raises(CircuitOpenError):
        await made.model.agenerate("Hello!")


# --- cancellation ---


async def cancelled(task):
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_cancelled_call_is_recorded_and_never_counted_as_a_failure(streamed):
    breakers = Breakers(failures=1)
    made = bench(ActingProvider(forever), scripted(id="second"), policies={"breakers": breakers})
    call = made.model.astream("x").collect() if streamed else made.model.agenerate("x")
    task = asyncio.create_task(call)
    await await_until(lambda: made.events, 5, "the call to begin")
    await asyncio.sleep(0.01)

    await cancelled(task)
    await await_until(lambda: made.told() != ["started"], 5, "the call to end")

    assert {} == breakers.snapshot()
    assert [("acting", "cancelled")] == made.outcomes()
    assert ["started", "cancelled"] == made.told()
    assert 1 == len(made.events[-1].attempts)


async def test_a_call_cancelled_in_the_queue_gives_back_all_that_was_set_aside():
    concurrency = Concurrency({"provider first": 1})
    made = bench(
        scripted("ok"),
        policies={"concurrency": concurrency, "meter": "counting"},
        llm={"providers": {"first": {"requests_per_minute": 1}}},
    )
    gate = concurrency.gates["provider first"]
    async with concurrency.place(("provider first",)):
        task = asyncio.create_task(made.model.agenerate("Hello!"))
        await await_until(lambda: gate.waiting, 5, "the call to queue")
        await cancelled(task)

    assert 1 == gate.free
    assert [] == made.records
    assert "ok" == await made.model.agenerate("Hello!")


async def test_a_cancelled_probe_leaves_its_place_to_the_next():
    clock = Clock()
    breakers = Breakers(failures=1, open_for=30, clock=clock)
    answers = [ProviderError("Down."), None, "back"]

    async def act(*_):
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer or await forever()

    made = bench(ActingProvider(act), policies={"breakers": breakers})
    with pytest.raises(ProviderError):
        await made.model.agenerate("Hello!")
    clock.now += 31
    probe = asyncio.create_task(made.model.agenerate("Hello!"))
    await await_until(lambda: len(answers) == 1, 5, "the probe")
    with pytest.raises(CircuitOpenError):  # one at a time
        await made.model.agenerate("Hello!")
    await cancelled(probe)

    assert "back" == await made.model.agenerate("Hello!")
    assert {} == breakers.snapshot()


async def test_a_call_cancelled_while_it_asks_for_room_gives_its_probe_back():
    class Slow(MemoryState):
        async def take(self, charges):
            return await forever()

    clock = Clock()
    breakers = Breakers(failures=1, clock=clock)
    settings = settings_from({"llm": {"providers": {"first": {"requests_per_minute": 9}}}})
    made = bench(scripted("ok"), policies={"breakers": breakers, "meter": Meter(settings, Slow())})
    circuit = made.model._targets[0].circuit
    breakers.admit(circuit).failed(ProviderError("Down."))
    clock.now += 31
    task = asyncio.create_task(made.model.agenerate("Hello!"))
    await await_until(lambda: breakers.state(circuit).probing, 5, "the probe")
    await cancelled(task)

    assert not breakers.state(circuit).probing


# --- circuits ---


async def test_a_sole_candidate_with_an_open_circuit_fails_at_once_and_costs_no_request():
    provider = scripted(*[ProviderError("Down.")] * 2)
    made = bench(provider, policies={"breakers": Breakers(failures=2)})
    for _ in range(2):
        with pytest.raises(ProviderError):
            await made.model.agenerate("Hello!")

    with pytest.raises(
        CircuitOpenError, match="2 failures, the last one a ProviderError"
    ) as caught:
        await made.model.agenerate("Hello!")

    assert 2 == len(provider.calls)
    assert caught.value.retry_after
    assert () == caught.value.attempts


async def test_a_dead_primary_costs_nothing_once_its_circuit_is_open():
    provider = scripted(ProviderError("Down."))
    made = bench(
        provider, scripted("a", "b", id="second"), policies={"breakers": Breakers(failures=1)}
    )

    assert ["a", "b"] == [await made.model.agenerate("x"), await made.model.agenerate("x")]
    assert 1 == len(provider.calls)
    assert [("second", "answered")] == made.outcomes()[2:]


@pytest.mark.parametrize("error", NEXT[1:], ids=lambda error: type(error).__name__)
async def test_a_sole_candidate_that_refused_is_asked_all_the_same(error):
    made = bench(scripted(error, "let in"), policies={"breakers": Breakers(failures=1)})
    with pytest.raises(type(error)):
        await made.model.agenerate("Hello!")

    assert "let in" == await made.model.agenerate("Hello!")


async def test_one_that_refused_is_asked_after_the_others_until_it_answers():
    first, second = scripted(NEXT[1], "first again"), scripted("b", NEXT[0], id="second")
    made = bench(first, second)

    assert "b" == await made.model.agenerate("x")
    assert "first again" == await made.model.agenerate("x")
    assert ["first", "second", "second", "first"] == [name for name, _ in made.outcomes()]


async def test_a_circuit_that_opens_while_a_call_waits_to_try_again_ends_its_waiting():
    breakers = Breakers(failures=2)
    made = bench(scripted(RateLimitError("Slow.")), policies={"breakers": breakers})
    circuit = made.model._targets[0].circuit

    def open_it(*_):
        breakers.admit(circuit).failed(ProviderError("Down."))
        return 0.0

    object.__setattr__(made.policies, "retrier", SimpleNamespace(wait_before=open_it))
    with pytest.raises(RateLimitError):
        await made.model.agenerate("Hello!")

    assert 1 == len(made.records)


async def test_a_circuit_that_opens_during_the_backoff_keeps_the_failure_to_tell():
    breakers = Breakers(failures=2)
    made = bench(
        scripted(RateLimitError("Slow.")),
        policies={
            "breakers": breakers,
            "retrier": SimpleNamespace(wait_before=lambda *_: 0.05),
        },
    )
    circuit = made.model._targets[0].circuit
    task = asyncio.create_task(made.model.agenerate("Hello!"))
    await await_until(lambda: made.records, 5, "the first request")
    breakers.admit(circuit).failed(ProviderError("Down."))

    with pytest.raises(RateLimitError):
        await task


async def test_calls_that_queued_before_a_circuit_opened_do_not_go_to_the_dead_model():
    release = asyncio.Event()

    async def act(*_):
        await release.wait()
        raise ProviderError("Down.")

    concurrency = Concurrency({"provider acting": 1})
    asked = []
    made = bench(
        ActingProvider(lambda *given: (asked.append(given), act())[1]),
        policies={
            "concurrency": concurrency,
            "breakers": Breakers(failures=1),
            "meter": "counting",
        },
        llm={"providers": {"acting": {"requests_per_minute": 100}}},
    )
    calls = [asyncio.create_task(made.model.agenerate("x")) for _ in range(5)]
    await await_until(lambda: concurrency.gates["provider acting"].waiting == 4, 5, "a queue")
    release.set()
    ended = await asyncio.gather(*calls, return_exceptions=True)

    assert 1 == len(asked)
    assert 4 == sum(isinstance(each, CircuitOpenError) for each in ended)
    planned = made.model._targets[0].planned(1, 0, None, None)
    assert [1] == [use.used for use in await made.policies.meter.uses(planned)]


# --- limits and budgets ---


async def test_a_limit_that_is_reached_leads_to_the_next_model():
    made = bench(
        scripted("a"),
        scripted("b", id="second"),
        policies={"meter": "counting"},
        llm={"providers": {"first": {"requests_per_minute": 1}}},
    )

    assert ["a", "b"] == [await made.model.agenerate("x"), await made.model.agenerate("x")]
    assert [("first", "answered"), ("second", "answered")] == made.outcomes()


async def test_what_was_refused_a_moment_ago_is_left_out_of_the_choice_with_the_reason():
    made = bench(
        scripted("a"),
        scripted("b", "c", id="second"),
        policies={"meter": "counting"},
        llm={"providers": {"first": {"requests_per_minute": 1}}},
    )
    for _ in range(2):
        await made.model.agenerate("x")

    choice = made.model.choose(tokens=5)

    assert (1,) == choice.order
    assert "KOR's own limit of 1 requests a minute is reached" in choice.rejected[0].reason
    assert isinstance(choice.rejected[0].error, RateLimitError)


async def test_a_budget_that_is_spent_is_told_to_each_caller_with_attempts_of_its_own():
    made = bench(
        scripted("x"),
        policies={"meter": "counting"},
        llm={"budgets": {"all": {"amount": 0.5, "per": "day"}}, "models": {"first:m": PRICES}},
    )
    errors = []
    for _ in range(2):
        with pytest.raises(BudgetExceededError, match=r"llm.budgets.all") as caught:
            await made.model.agenerate("x")
        errors.append(caught.value)

    assert errors[0] is not errors[1]
    assert "llm.budgets.all" == errors[1].limit


async def test_where_nobody_can_count_the_call_ends_there():
    class Away(MemoryState):
        async def take(self, charges):
            raise StateUnavailableError("Redis does not answer.")

    settings = settings_from(
        {"llm": {"providers": {name: {"requests_per_minute": 9} for name in ("first", "second")}}}
    )
    made = bench(scripted(), scripted(id="second"), policies={"meter": Meter(settings, Away())})

    with pytest.raises(StateUnavailableError):
        await made.model.agenerate("x")

    assert [] == made.records


async def test_where_nobody_can_count_afterwards_the_answer_is_given():
    class Going(MemoryState):
        async def take(self, charges):
            if any(charge.limit is None for charge in charges):
                raise StateUnavailableError("Redis does not answer.")
            return await super().take(charges)

    settings = settings_from({"llm": {"providers": {"first": {"tokens_per_minute": 900}}}})
    response = LLMResponse("ok", usage=USAGE)
    made = bench(scripted(response), policies={"meter": Meter(settings, Going())})

    assert "ok" == (await made.model.achat("x")).text


async def used(made):
    target = made.model._targets[0]
    uses = await made.policies.meter.uses(target.planned(1, 0, None, None))
    return [use.used for use in uses]


@pytest.mark.parametrize(
    ("outcome", "tokens"),
    [
        (LLMResponse("ok", usage=USAGE), 15),
        (LLMResponse("ok"), 6),  # nobody says: as estimated
        (BadRequestError("Wrong.", status=400), 0),
        (RateLimitError("Slow.", status=429), 0),
        (LLMConnectionError("Refused."), 0),
        (LLMConnectionError("Cut off.", status=200), 6),
        # It was answered, and will be on the bill.
        (InvalidAnswerError("No.", text="", problems="", status=200, retryable=False), 6),
        (ProviderError("Nobody knows.", retryable=False), 6),
    ],
    ids=str,
)
async def test_what_counts_of_a_request(outcome, tokens):
    made = bench(
        scripted(outcome),
        policies={"meter": "counting", "retrier": Retrier(retries=0)},
        llm={"providers": {"first": {"tokens_per_minute": 900}}},
    )
    with suppress(LLMError):
        await made.model.achat("Hello!")

    assert [tokens] == await used(made)


async def test_a_refusal_on_the_second_try_tells_what_the_first_one_met():
    made = bench(
        scripted(ProviderError("Down.", retryable=True)),
        policies={"meter": "counting"},
        llm={"providers": {"first": {"requests_per_minute": 1}}},
    )

    with pytest.raises(ProviderError, match="Down"):
        await made.model.agenerate("x")


# --- streams ---


LONG = "word " * 400  # 500 tokens by its length


@pytest.mark.parametrize(
    ("response", "read", "max_tokens", "tokens"),
    [
        (LONG, 400, None, 6 + 500),
        (LONG, 200, None, 6 + 250),
        (LONG, 1, None, 6 + 2),
        (LONG, 1, 50, 6 + 50),  # the estimate stands: more may have been written
        (LONG, 400, 50, 6 + 500),
        (LLMResponse(LONG, usage=USAGE), None, None, 15),
        (LLMResponse(LONG), None, None, 6 + 500),  # nobody says
        (StreamInterruptedError("Cut.", partial=LONG), None, None, 6 + 500),
        (RateLimitError("Slow.", status=429), None, None, 0),
    ],
    ids=map(str, range(9)),
)
async def test_a_stream_counts_no_less_than_what_was_received(response, read, max_tokens, tokens):
    made = bench(
        scripted(response),
        policies={"meter": "counting", "retrier": Retrier(retries=0)},
        llm={
            "providers": {"first": {"tokens_per_minute": 9000}},
            "models": {"m": PRICES},
            "budgets": {"all": {"amount": 9000, "per": "day"}},
        },
    )
    settings = {} if max_tokens is None else {"max_tokens": max_tokens}
    with suppress(LLMError):
        async with made.model.astream("Hello!", settings=settings) as stream:
            number = 0
            async for _ in stream:
                number += 1
                if number == read:
                    break

    counted, spent = await used(made)
    money = {0: 0, 15: 20}.get(tokens, 6 + 2 * (tokens - 6))  # US$
    assert (tokens, money * 10**9) == (counted, spent)


async def test_the_pieces_of_tool_calls_count_as_received():
    call = ToolCall("1", "print_it", {"text": LONG})
    made = bench(
        scripted(LLMResponse("", (call,))),
        policies={"meter": "counting"},
        llm={"providers": {"first": {"tokens_per_minute": 9000}}},
    )

    await made.model.astream("Hello!", tools=[print_it]).collect()

    assert 500 < (await used(made))[0] < 530


async def test_a_stream_goes_to_the_next_before_its_first_delta():
    made = two(AGAIN[1])
    stream = made.model.astream("Hello!")

    response = await stream.collect()

    assert "from the second" == response.text
    assert [("first", "failed")] * 3 + [("second", "answered")] == made.outcomes()
    assert tuple(made.records) == response.attempts
    assert ["started", "finished"] == made.told()
    assert tuple(made.records) == made.events[-1].attempts


async def test_a_stream_is_never_begun_anew_after_its_first_delta():
    error = StreamInterruptedError("Cut.", partial="some words")
    made = bench(scripted(error), scripted(id="second"))

    with pytest.raises(StreamInterruptedError) as caught:
        await made.model.astream("Hello!").collect()

    assert "some words" == caught.value.partial
    assert [("first", "failed")] == made.outcomes()
    assert tuple(made.records) == caught.value.attempts
    assert ["started", "failed"] == made.told()


async def test_a_stream_that_is_left_is_cancelled_and_counts_as_no_failure():
    breakers = Breakers(failures=1)
    made = bench(scripted("one two three"), policies={"breakers": breakers})
    async with made.model.astream("Hello!") as stream:
        assert "one " == (await anext(stream)).text

    assert [("first", "cancelled")] == made.outcomes()
    assert ["started", "cancelled"] == made.told()
    assert {} == breakers.snapshot()


async def test_a_stream_has_its_cost_and_usage_in_the_answer_the_ledger_and_the_event():
    made = bench(scripted(LLMResponse("one two", usage=USAGE)), llm={"models": {"first:m": PRICES}})
    response = await made.model.astream("Hello!").collect()

    for told in (response, *made.records, made.events[-1]):
        assert (USAGE, Decimal(20)) == (told.usage, told.cost)


async def test_a_stream_that_is_read_slowly_is_held_to_its_deadline():
    made = bench(StreamProvider(["one", None]), timeout=0.1)
    async with made.model.astream("Hello!") as stream:
        assert "one" == (await anext(stream)).text
        with pytest.raises(LLMTimeoutError):
            await anext(stream)

    assert [("streaming", "failed")] == made.outcomes()


class StreamProvider(BaseLLMProvider):
    """Streams texts; None stands for silence."""

    id = "streaming"

    def __init__(self, texts):
        self.texts = texts

    def create_model(self, model_name, config):
        texts = self.texts

        class Model(BaseLLMModel):
            async def agenerate(self, prompt, **kwargs):
                return ""

            async def _stream(self, request):
                for text in texts:
                    yield Delta(text if text is not None else await forever())
                yield Delta(finish_reason="stop")

        return Model(model_name, config)


# --- what is told ---


async def test_events_hold_tenant_purpose_model_tokens_cost_and_duration():
    settings = {"llm": {"purposes": {"coding": {"model": "first:m"}}, "models": {"m": PRICES}}}
    events: list[Any] = []
    registry = LLMRegistry(
        settings_from(settings),
        Catalogue([scripted(LLMResponse("ok", usage=USAGE, request_id="r1"))]),
        policies=Policies(observer=events.append),
    )
    model = registry.for_table("coding", registry._settings.llm.purposes["coding"])
    await model.achat("Hello!")
    started, finished = events

    assert ("llm.call.started", None, ()) == (started.name, started.duration, started.attempts)
    assert ("chat", "first:m", None, "coding") == (
        finished.kind,
        finished.model,
        finished.tenant,
        finished.purpose,
    )
    assert (USAGE, Decimal(20)) == (finished.usage, finished.cost)
    assert 0 <= finished.duration < 60
    assert ("r1", USAGE, Decimal(20)) == (
        finished.attempts[0].request_id,
        finished.attempts[0].usage,
        finished.attempts[0].cost,
    )


@pytest.mark.parametrize("streamed", [False, True])
async def test_observers_and_sinks_that_raise_harm_nothing(streamed, caplog):
    def broken(told):
        raise LookupError("no log")

    concurrency = Concurrency({"provider first": 1})
    policies = {"observer": broken, "sink": broken, "concurrency": concurrency}
    made = bench(scripted("a", "b"), policies=policies)
    for expected in "ab":
        call = made.model.astream("x").collect() if streamed else made.model.achat("x")
        assert expected == (await call).text

    assert 1 == concurrency.gates["provider first"].free
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert 1 == sum("A sink for the records of calls raised" in each for each in said)
    assert any("An observer of calls raised" in each for each in said)


async def test_what_is_no_llm_error_ends_the_call_and_is_told():
    error = ConfigurationError([])
    made = bench(scripted(error), scripted(id="second"))

    with pytest.raises(ConfigurationError):
        await made.model.agenerate("x")

    assert ["started", "failed"] == made.told()
    assert [("first", "failed")] == made.outcomes()


async def test_nobody_is_told_where_nobody_listens():
    registry = LLMRegistry(settings_from({}), Catalogue([scripted("ok")]))

    assert "ok" == await registry.get_model("first:m").agenerate("x")


# --- the cache ---


def cached(*responses, coalesce=False, **more):
    cache = ResponseCache[Any](coalesce=coalesce)
    return bench(scripted(*responses), policies={"cache": cache}, **more)


async def test_an_answer_that_is_kept_is_given_again_and_took_nothing():
    made = cached(LLMResponse("ok", usage=USAGE), llm={"models": {"first:m": PRICES}})
    first, again = await made.model.achat("x"), await made.model.achat("x")

    assert ("ok", USAGE, Decimal(20), 1) == (
        first.text,
        first.usage,
        first.cost,
        len(first.attempts),
    )
    assert ("ok", Usage(0, 0), Decimal(), ()) == (
        again.text,
        again.usage,
        again.cost,
        again.attempts,
    )
    assert ["started", "finished"] * 2 == made.told()
    assert Decimal() == made.events[-1].cost
    assert 1 == len(made.records)


async def test_texts_and_vectors_are_kept_too():
    made = cached("ok", Embeddings(((1.0,),), usage=USAGE))

    assert ["ok", "ok"] == [await made.model.agenerate("x"), await made.model.agenerate("x")]
    one, two = await made.model.aembed("x"), await made.model.aembed("x")
    assert (((1.0,),), 1) == (one.vectors, len(one.attempts))
    assert (((1.0,),), Usage(0, 0), ()) == (two.vectors, two.usage, two.attempts)


async def test_streams_are_never_kept():
    made = cached("a", "b")

    assert "a" == (await made.model.astream("x").collect()).text
    assert "b" == (await made.model.astream("x").collect()).text


async def test_other_settings_models_and_words_are_other_requests_and_a_timeout_is_not():
    made = cached("a", "b", "c", "d")
    model, other = made.model, made.registry.get_model("first:other")

    assert "a" == await model.agenerate("x")
    assert "a" == await model.agenerate("x", timeout=60)
    assert "b" == await model.agenerate("x", temperature=0.5)
    assert "c" == await other.agenerate("x")
    assert "d" == await made.registry.get_model("first:m", seed=1).agenerate("x")


async def test_an_answer_that_is_kept_is_given_while_the_circuit_is_open():
    made = bench(
        scripted("kept", ProviderError("Down.")),
        policies={"cache": ResponseCache[Any](), "breakers": Breakers(failures=1)},
    )
    await made.model.agenerate("x")
    with pytest.raises(ProviderError):
        await made.model.agenerate("y")

    assert "kept" == await made.model.agenerate("x")
    with pytest.raises(CircuitOpenError):
        await made.model.agenerate("y")


async def test_tenants_share_the_room_for_answers_by_who_asks_the_least():
    cache = ResponseCache[Any](3)
    made = bench(scripted(*map(str, range(9))), policies={"cache": cache})
    model = made.model
    acme, mallory = (
        ModelHandle(*model._targets, serving=replace(model._serving, tenant=tenant))
        for tenant in ("acme", "mallory")
    )

    assert "0" == await acme.agenerate("x")
    for number in range(1, 9):
        await mallory.agenerate(f"{number}")

    assert "0" == await acme.agenerate("x")


def checked(most: int) -> Any:
    class Order(BaseModel):
        amount: int

        @field_validator("amount")
        @classmethod
        def check(cls, amount: int) -> int:
            if amount > most:
                raise ValueError("too much")
            return amount

    return Order


async def test_an_answer_that_one_type_took_is_not_given_for_another_like_it():
    """Validators are in no JSON Schema."""
    loose, strict = checked(9000), checked(100)
    made = cached('{"amount": 5000}', '{"amount": 7}')

    assert 5000 == (await made.model.aparse("x", loose)).amount
    again, other = await made.model.aparse("x", loose), await made.model.aparse("x", strict)

    assert (loose, 5000) == (type(again), again.amount)
    assert (strict, 7) == (type(other), other.amount)


async def test_an_emulated_answer_is_not_kept_for_who_wants_none():
    order = checked(9)
    made = cached('{"amount": 1}', llm={"models": {"m": {"capabilities": {"json_schema": False}}}})
    await made.model.aparse("x", order)

    with pytest.raises(CapabilityNotSupportedError):
        await made.model.aparse("x", order, strict=True)


async def test_failures_are_kept_from_nobody():
    made = cached(BadRequestError("Wrong."), "ok")
    with pytest.raises(BadRequestError):
        await made.model.agenerate("x")

    assert "ok" == await made.model.agenerate("x")


async def test_identical_requests_at_one_time_make_one_call_where_that_is_asked_for():
    release = asyncio.Event()
    asked = []

    async def act(*given):
        asked.append(given)
        await release.wait()
        return "ok"

    made = bench(ActingProvider(act), policies={"cache": ResponseCache[Any](coalesce=True)})
    calls = [asyncio.create_task(made.model.achat("x")) for _ in range(5)]
    await await_until(lambda: asked, 5, "the call")
    late = asyncio.create_task(made.model.achat("x", settings={"timeout": 0.02}))
    with pytest.raises(LLMTimeoutError):  # it has a deadline of its own
        await late
    release.set()
    answers = await asyncio.gather(*calls)

    assert 1 == len(asked)
    assert [0, 0, 0, 0, 1] == sorted(len(answer.attempts) for answer in answers)
    assert 6 == made.told().count("started")


async def test_a_deadline_without_anybody_to_ask_is_a_deadline():
    release = asyncio.Event()

    async def act(model, prompt):
        if prompt == "y":
            raise ProviderError("Down.")
        await release.wait()
        return "ok"

    made = bench(
        ActingProvider(act),
        policies={"cache": ResponseCache[Any](coalesce=True), "breakers": Breakers(failures=1)},
    )
    leader = asyncio.create_task(made.model.agenerate("x"))
    await asyncio.sleep(0.01)
    with pytest.raises(ProviderError):
        await made.model.agenerate("y")
    with pytest.raises(LLMTimeoutError) as caught:
        await made.model.agenerate("x", timeout=0.02)
    release.set()

    assert caught.value.provider is None
    assert "ok" == await leader


# --- capabilities ---


async def test_a_candidate_that_cannot_is_left_out_and_the_advice_is_given_where_none_can():
    class Plain(BaseLLMProvider):
        id = "plain"

        def create_model(self, model_name, config):
            class Model(BaseLLMModel):
                async def agenerate(self, prompt, **kwargs):
                    return prompt

            return Model(model_name, config)

    def add(a: int, b: int) -> int:
        """Add."""
        return a + b

    made = bench(Plain(), scripted("calculated", id="second"))

    assert "calculated" == (await made.model.achat("x", tools=[add])).text
    with pytest.raises(CapabilityNotSupportedError, match=r"can: second:m \(default\)"):
        await made.registry.get_model("plain:m").achat("x", tools=[add])


async def test_what_the_operator_says_of_schemas_goes_before_what_the_model_says():
    class Answer(BaseModel):
        number: int

    made = bench(
        scripted('{"number": 3}'),
        llm={"models": {"first:m": {"capabilities": {"json_schema": False}}}},
    )

    response = await made.model.achat("x", schema=Answer)

    assert (Answer(number=3), {"schema"}) == (response.parsed, response.emulated)


async def test_a_handle_made_by_hand_knows_no_configuration_to_point_to():
    circuit = CircuitKey(None, "mine", "m")
    model = ScriptedModel([ModelNotFoundError("No such model.")])
    profile = ModelProfile(unsupported=frozenset({"tools"}))
    target = Target(Reference("mine", "m"), {}, lambda: model, lambda: profile, circuit)
    handle = ModelHandle(target)

    assert profile is handle.profile
    with pytest.raises(ModelNotFoundError) as caught:
        await handle.agenerate("x")
    assert "mine:m: No such model." == str(caught.value)
    with pytest.raises(CapabilityNotSupportedError, match=r"correct what .* says of this one.$"):
        await handle.achat("x", tools=[print_it])


def print_it(text: str) -> str:
    """Print a text."""
    return text


async def test_each_candidate_can_be_prepared_before_the_first_call():
    prepared: list[str] = []

    class Preparing(BaseLLMProvider):
        id = "preparing"

        def create_model(self, model_name, config):
            class Model(ScriptedModel):
                async def aprepare(self):
                    prepared.append(self.model_name)
                    await asyncio.sleep(0.2)

            return Model(["a", "b"], model_name=model_name, config=config)

    made = bench(Preparing(), candidates=["preparing:m", "preparing:n"])
    await made.model.aprepare()
    assert ["m", "n"] == prepared
    # What only the first call has to do is not the call's.
    assert "a" == await made.model.agenerate("x", timeout=0.1)


# --- nothing is left behind ---


async def test_calls_leave_no_tasks_and_no_garbage_that_grows():
    made = bench(scripted(*["ok"] * 300), policies={"sink": None})
    made.events.clear()
    for _ in range(300):
        await made.model.achat("x")
        made.events.clear()
    gc.collect()

    assert 1 == len(asyncio.all_tasks())
