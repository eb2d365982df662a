"""Limits and budgets count what is sent, refuse what does not fit, and say until when."""

import asyncio
import json
import pickle
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from kor_containers import TenantKernels, create_container, create_kernel
from kor_core.adapters.dynaconf import load_settings
from kor_core.adapters.state_memory import MemoryState
from kor_core.errors import BadRequestError, BudgetExceededError, LLMError, RateLimitError
from kor_core.llm.policies.bounds import Planned, dollars, nanodollars
from kor_core.llm.policies.estimates import estimated_tokens, longest_answer
from kor_core.llm.policies.limits import Meter
from kor_core.llm.policies.state import MOST, Charge, Full
from kor_core.llm.policies.windows import window_at
from kor_core.settings import settings_from
from kor_core.testing import ScriptedProvider, Upstream, faults

SHORT = hypothesis_settings(max_examples=40, stateful_step_count=25, deadline=None)
NOON = datetime(2026, 2, 28, 12, 0, 0, tzinfo=UTC).timestamp()


class Clock:
    def __init__(self, now=NOON):
        self.now = now

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def meter_of(clock, **llm):
    return Meter(settings_from({"llm": llm}), MemoryState(clock), clock)


def rates(clock, **limits):
    return meter_of(clock, providers={"openai": limits})


def budgets(clock, **tables):
    return meter_of(clock, budgets=tables)


def planned(tokens=10, cost="0.1", **facts):
    return Planned("openai", "gpt-4o", tokens, None if cost is None else Decimal(cost), **facts)


async def refusal(meter, call):
    with pytest.raises(LLMError) as caught:
        await meter.reserve(call)
    return caught.value


async def used(meter, call):
    return [use.used for use in await meter.uses(call)]


# --- rates ---


async def test_a_rate_lets_as_many_through_as_it_says_and_then_none(clock):
    meter = rates(clock, requests_per_minute=3)
    for _ in range(3):
        await meter.reserve(planned())

    error = await refusal(meter, planned())

    assert RateLimitError is type(error)
    assert "llm.providers.openai.requests_per_minute" == error.limit
    assert (True, "openai", "gpt-4o") == (error.retryable, error.provider, error.model)
    assert "KOR's own limit of 3 requests a minute is reached: 3 count" in str(error)
    assert error.limit == pickle.loads(pickle.dumps(error)).limit


async def test_a_refused_request_adds_to_no_count(clock):
    """All or nothing: the tokens of a request that had no request left are not counted."""
    meter = rates(clock, requests_per_minute=1, tokens_per_minute=100)
    await meter.reserve(planned(10))
    await refusal(meter, planned(10))

    assert [1, 10] == await used(meter, planned())


async def test_retry_after_is_when_the_request_fits_and_not_before(clock):
    meter = rates(clock, tokens_per_minute=100)
    clock.now += 45
    await meter.reserve(planned(90))
    clock.now += 5

    error = await refusal(meter, planned(20))
    # 10 s to the end of the minute, and then a ninth of 90 is to be a minute ago
    assert 10 + 60 * (1 - 80 / 90) == pytest.approx(error.retry_after)

    clock.now += error.retry_after - 1
    assert RateLimitError is type(await refusal(meter, planned(20)))
    clock.now += 1.001
    await meter.reserve(planned(20))


async def test_in_the_next_minute_the_share_counts_that_is_less_than_a_minute_ago(clock):
    meter = rates(clock, requests_per_minute=4)
    for _ in range(4):
        await meter.reserve(planned())
    clock.now += 60 + 30

    assert [2] == await used(meter, planned())
    await meter.reserve(planned())
    await meter.reserve(planned())
    error = await refusal(meter, planned())

    assert 15 == pytest.approx(error.retry_after)
    clock.now += 15.001
    await meter.reserve(planned())


async def test_two_minutes_later_nothing_is_left(clock):
    meter = rates(clock, requests_per_minute=4)
    await meter.reserve(planned())
    clock.now += 120

    assert [0] == await used(meter, planned())


async def test_a_request_larger_than_the_limit_is_refused_for_good(clock):
    error = await refusal(rates(clock, tokens_per_minute=100), planned(101))

    assert (False, None) == (error.retryable, error.retry_after)
    assert "may take 101 tokens" in str(error)
    assert "max_tokens" in str(error)


async def test_the_rates_of_a_model_count_beside_those_of_its_provider(clock):
    meter = meter_of(
        clock,
        providers={"openai": {"requests_per_minute": 9, "tokens_per_minute": 900}},
        models={
            "gpt-4o": {"requests_per_minute": 5, "tokens_per_minute": 500},
            "openai/gpt-4o": {"requests_per_minute": 4},
            "openai:gpt-4o": {"tokens_per_minute": 300},
            "gpt-4": {"requests_per_minute": 1},
        },
    )

    found = {use.limit: use.amount for use in await meter.uses(planned())}

    expected = {
        "llm.providers.openai.requests_per_minute": 9,
        "llm.providers.openai.tokens_per_minute": 900,
        'llm.models."openai/gpt-4o".requests_per_minute': 4,
        'llm.models."openai:gpt-4o".tokens_per_minute': 300,
    }
    assert expected == found


async def test_a_limit_of_a_name_counts_for_each_provider_apart(clock):
    meter = meter_of(clock, models={"gpt-4o": {"requests_per_minute": 1}})
    await meter.reserve(planned())

    await meter.reserve(Planned("azure", "gpt-4o", 1, None))
    await refusal(meter, planned())


async def test_rates_count_by_the_account_whose_key_is_used(clock):
    meter = rates(clock, requests_per_minute=1)
    await meter.reserve(planned(tenant="acme"))
    await meter.reserve(planned(tenant="globex", account="globex"))

    await refusal(meter, planned(tenant="initech"))
    await refusal(meter, planned(tenant="globex", account="globex"))


async def test_what_a_tenants_own_account_takes_is_in_pots_of_its_own(clock):
    """The operator does not pay for it, and its tenant's own server says how much it was."""
    meter = budgets(
        clock,
        all={"amount": 1, "per": "day"},
        tenants={"amount": 1, "per": "day", "each": "tenant"},
    )
    own = planned(tenant="mallory", account="mallory")
    reserved = await meter.reserve(own)
    await reserved.settle(tokens=10**9, cost=Decimal(5000))

    assert ["account=mallory", "tenant=mallory/account=mallory"] == [
        use.pot for use in await meter.uses(own)
    ]
    assert [0, 0] == await used(meter, planned(tenant="mallory"))
    await meter.reserve(planned(tenant="acme"))
    assert "for account=mallory has US$ 0 left" in str(await refusal(meter, own))


# --- budgets ---


async def test_a_budget_names_itself_what_is_left_and_the_cure(clock):
    meter = budgets(clock, team={"amount": 1, "per": "day"})
    reserved = await meter.reserve(planned(cost="0.75"))
    await reserved.settle(tokens=5, cost=Decimal("0.7"))

    error = await refusal(meter, planned(cost="0.5"))

    assert BudgetExceededError is type(error)
    assert ("llm.budgets.team", False) == (error.limit, error.retryable)
    assert 12 * 3600 == error.retry_after
    assert "budget of US$ 1 a day has US$ 0.3 left" in str(error)
    assert "may cost US$ 0.5 (llm.budgets.team)" in str(error)
    assert "full again at 2026-03-01 00:00 UTC" in str(error)
    assert error.limit == pickle.loads(pickle.dumps(error)).limit


async def test_an_error_says_the_file_and_line_of_the_limit(tmp_path, clock):
    path = tmp_path / "config.toml"
    path.write_text('[llm.budgets.team]\namount = 0\nper = "day"\n')
    meter = Meter(load_settings(path), MemoryState(clock), clock)

    error = await refusal(meter, planned())

    assert f"(llm.budgets.team in {path}:1)" in str(error)


@pytest.mark.parametrize(
    ("each", "same", "other"),
    [
        ("tenant", {"tenant": "acme", "purpose": "x"}, {"tenant": "globex"}),
        ("tenant", {"tenant": None}, {"tenant": "application"}),
        ("tenant", {"tenant": None}, {"tenant": ""}),
        ("purpose", {"purpose": "coding", "tenant": "x"}, {"purpose": None}),
        (None, {"tenant": "acme"}, None),
    ],
)
async def test_each_gives_everybody_a_pot_of_their_own(clock, each, same, other):
    table = {"amount": 1, "per": "day"} | ({"each": each} if each else {})
    meter = budgets(clock, pots=table)
    await meter.reserve(planned(cost="1", **{each: same[each]} if each else {}))

    await refusal(meter, planned(**same))
    if other:
        await meter.reserve(planned(cost="1", **other))


async def test_each_model_can_have_a_pot(clock):
    meter = budgets(clock, models={"amount": 1, "per": "day", "each": "model"})
    await meter.reserve(planned(cost="1"))

    await meter.reserve(Planned("openai", "gpt-5", 1, Decimal(1)))
    await refusal(meter, planned())


@pytest.mark.parametrize(
    ("table", "counts"),
    [
        ({"tenant": "acme"}, True),
        ({"tenant": ["globex", "acme"]}, True),
        ({"tenant": "globex"}, False),
        ({"purpose": "coding"}, True),
        ({"purpose": "fast"}, False),
        ({"model": "gpt-4o"}, True),
        ({"model": "openai:gpt-4o"}, True),
        ({"model": "openai/gpt-4o"}, True),
        ({"model": "azure:gpt-4o"}, False),
        ({"tenant": "acme", "purpose": "fast"}, False),
    ],
)
async def test_a_budget_counts_the_calls_that_fit_all_it_names(clock, table, counts):
    meter = budgets(clock, pot={"amount": 1, "per": "day", **table})

    uses = await meter.uses(planned(tenant="acme", purpose="coding"))

    assert counts == bool(uses)


@pytest.mark.parametrize(
    ("per", "last", "first", "wait"),
    [
        ("day", "2026-02-28T23:59:59", "2026-03-01T00:00:00", 1),
        ("month", "2026-01-31T12:00:00", "2026-02-01T00:00:00", 12 * 3600),
        ("month", "2026-12-31T23:59:30", "2027-01-01T00:00:00", 30),
        ("month", "2028-02-29T23:59:59", "2028-03-01T00:00:00", 1),
    ],
)
async def test_days_and_months_begin_at_midnight_in_utc(per, last, first, wait):
    clock = Clock(datetime.fromisoformat(f"{last}+00:00").timestamp())
    meter = budgets(clock, pot={"amount": 1, "per": per})
    await meter.reserve(planned(cost="1"))

    assert wait == (await refusal(meter, planned())).retry_after
    clock.now = datetime.fromisoformat(f"{first}+00:00").timestamp()
    await meter.reserve(planned(cost="1"))


async def test_what_nobody_knows_the_price_of_is_refused_with_the_cure(clock):
    meter = budgets(clock, team={"amount": 100, "per": "day"})

    error = await refusal(meter, planned(cost=None))

    assert BudgetExceededError is type(error)
    assert "No price of 'openai:gpt-4o' is known" in str(error)
    assert '[llm.models."gpt-4o"]' in str(error)
    assert 'unpriced = "allow"' in str(error)


async def test_unpriced_calls_may_be_allowed_and_count_once_their_cost_is_known(clock):
    meter = budgets(clock, team={"amount": 1, "per": "day", "unpriced": "allow"})
    await (await meter.reserve(planned(cost=None))).settle(tokens=1, cost=None)
    reserved = await meter.reserve(planned(cost=None))
    await reserved.settle(tokens=1, cost=Decimal("1.5"))

    assert [1_500_000_000] == await used(meter, planned())
    await meter.reserve(planned(cost=None))
    await refusal(meter, planned(cost="0.1"))


async def test_free_calls_fit_an_empty_budget(clock):
    meter = budgets(clock, none={"amount": 0, "per": "day"})

    await meter.reserve(planned(cost="0"))
    await refusal(meter, planned(cost="0.000000001"))


# --- settling ---


async def test_settling_counts_what_was_taken_instead_of_the_estimate(clock):
    meter = meter_of(
        clock,
        providers={"openai": {"requests_per_minute": 9, "tokens_per_minute": 999}},
        budgets={"team": {"amount": 1, "per": "month"}},
    )
    reserved = await meter.reserve(planned(500, "0.5"))
    assert [1, 500, 500_000_000] == await used(meter, planned())

    await reserved.settle(tokens=800, cost=Decimal("0.1"))

    assert [1, 800, 100_000_000] == await used(meter, planned())


async def test_what_is_unknown_stays_as_estimated(clock):
    meter = meter_of(
        clock,
        providers={"openai": {"tokens_per_minute": 999}},
        budgets={"team": {"amount": 1, "per": "month"}},
    )
    await (await meter.reserve(planned(500, "0.5"))).settle(tokens=None, cost=None)

    assert [500, 500_000_000] == await used(meter, planned())


@pytest.mark.parametrize("cost", ["NaN", "Infinity", "-1", "1E+999999"])
@pytest.mark.parametrize(
    "tokens", [10**400, -(10**9), 5.5, True], ids=["huge", "negative", "broken", "flag"]
)
async def test_what_makes_no_sense_is_unknown_and_stays_as_estimated(clock, tokens, cost):
    """Neither does a lie give anything back, nor does it reach the next minute's arithmetic."""
    meter = meter_of(
        clock,
        providers={"openai": {"tokens_per_minute": 100}},
        budgets={"team": {"amount": 1, "per": "day"}},
    )
    reserved = await meter.reserve(planned(80, "0.4"))
    await reserved.settle(tokens=tokens, cost=Decimal(cost))

    assert [80, 400_000_000] == await used(meter, planned())
    clock.now += 60
    assert RateLimitError is type(await refusal(meter, planned(80)))


async def test_a_cost_may_be_any_number(clock):
    meter = budgets(clock, team={"amount": 1, "per": "day"})
    reserved = await meter.reserve(planned())
    await reserved.settle(tokens=1, cost=0.25)

    assert [250_000_000] == await used(meter, planned())


async def test_nothing_is_set_aside_for_less_than_nothing(clock):
    meter = meter_of(
        clock,
        providers={"openai": {"tokens_per_minute": 100}},
        budgets={"team": {"amount": 1, "per": "day"}},
    )
    await meter.reserve(planned(-(10**9), "-1000"))

    assert [0, 0] == await used(meter, planned())


async def test_what_would_take_more_than_can_be_counted_is_refused(clock):
    error = await refusal(rates(clock, tokens_per_minute=100), planned(10**5000))

    assert (False, "llm.providers.openai.tokens_per_minute") == (error.retryable, error.limit)


async def test_a_count_stays_between_nothing_and_the_most_that_is_exact(clock):
    """Over it, Redis would count wrongly and then not at all; below 0, a limit would be higher."""
    state = MemoryState(clock)
    for amount in (MOST, MOST, 10**400):
        await state.take([Charge("high", amount, None, 60), Charge("low", -amount, None, 60)])

    assert [MOST, 0] == await state.counts(["high", "low"])


async def test_a_refund_gives_back_the_request_too_and_counts_once(clock):
    meter = rates(clock, requests_per_minute=1, tokens_per_minute=100)
    reserved = await meter.reserve(planned(10))
    assert "<Reservation 1 requests, 10 tokens>" == repr(reserved)
    await reserved.refund()
    await reserved.refund()
    await reserved.settle(tokens=50, cost=None)

    assert [0, 0] == await used(meter, planned())
    assert "<Reservation of nothing>" == repr(reserved)


async def test_a_call_is_settled_in_the_window_that_it_was_counted_in(clock):
    meter = budgets(clock, team={"amount": 1, "per": "day"})
    reserved = await meter.reserve(planned(cost="0.5"))
    clock.now += 24 * 3600
    await reserved.settle(tokens=1, cost=Decimal("0.9"))

    assert [0] == await used(meter, planned())


async def test_without_limits_nothing_is_kept(clock):
    state = MemoryState(clock)
    meter = Meter(settings_from({}), state, clock)
    reserved = await meter.reserve(planned(cost=None))
    await reserved.settle(tokens=10, cost=Decimal(1))

    assert 0 == len(state)
    assert "<Meter <MemoryState>>" == repr(meter)


# --- what was refused ---


async def test_a_refusal_is_remembered_for_a_moment_for_calls_as_large(clock):
    meter = rates(clock, tokens_per_minute=100)
    assert meter.refused(planned(60)) is None
    await meter.reserve(planned(60))
    error = await refusal(meter, planned(50))

    assert str(error) == str(meter.refused(planned(50)))
    assert str(error) == str(meter.refused(planned(70)))
    assert meter.refused(planned(10)) is None
    assert meter.refused(Planned("azure", "gpt-4o", 50, None)) is None
    clock.now += 1.001
    assert meter.refused(planned(50)) is None


async def test_refusals_that_are_remembered_do_not_pile_up(clock):
    meter = budgets(clock, none={"amount": 0, "per": "day", "each": "tenant"})
    for number in range(1001):
        await refusal(meter, planned(tenant=str(number)))

    assert meter.refused(planned(tenant="0")) is None
    assert meter.refused(planned(tenant="1000"))


# --- memory ---


async def test_old_counts_are_forgotten(clock):
    state = MemoryState(clock)
    await state.take([Charge("a", 1, 9, lasts=100), Charge("b", 1, 9, lasts=1000)])
    clock.now += 500
    await state.take([Charge("c", 1, 9, lasts=1000)])

    assert (2, [0, 1, 1]) == (len(state), await state.counts(["a", "b", "c"]))


async def test_memory_has_nothing_to_close():
    state = MemoryState()
    await state.take([Charge("a", 1, None, lasts=100)])
    state.close()
    await state.aclose()

    assert Full(0, 1, 0) == await state.take([Charge("a", 1, 1, lasts=100)])


def test_threads_and_their_loops_share_one_count_exactly(clock):
    meter = rates(clock, requests_per_minute=100)

    async def some():
        taken = 0
        for _ in range(50):
            try:
                await meter.reserve(planned())
            except RateLimitError:
                continue
            taken += 1
        return taken

    async def all_of_them():
        return await asyncio.gather(*(asyncio.to_thread(asyncio.run, some()) for _ in range(8)))

    assert 100 == sum(asyncio.run(all_of_them()))


# --- through kernels ---


def served(upstream, **llm):
    return {
        "llm": {
            "default": {"model": "openai:gpt-4o", "max_tokens": 100},
            "providers": {"openai": {"base_url": upstream.openai_url}},
            "models": {"gpt-4o": {"input_price": 1000, "output_price": 1000}},
            **llm,
        }
    }


def test_a_call_that_does_not_fit_is_never_sent():
    with Upstream() as upstream:
        settings = served(upstream, budgets={"team": {"amount": 0.1, "per": "day"}})
        with create_kernel(settings) as kernel:
            model = kernel.model_selector.get_model()
            with pytest.raises(BudgetExceededError) as caught:
                model.chat("Hello!")
            model.chat("Hello!", settings={"max_tokens": 50})

        assert "llm.budgets.team" == caught.value.limit
        assert 1 == len(upstream.requests)


def test_calls_count_as_they_were_and_not_as_estimated():
    """Estimated at 0.106 US$ each, they take 0.002: of a budget for two, there is room for all."""
    with Upstream() as upstream:
        settings = served(upstream, budgets={"team": {"amount": 0.2, "per": "day"}})
        with create_kernel(settings) as kernel:
            model = kernel.model_selector.get_model()
            costs = [model.chat("Hello!").cost for _ in range(10)]

    assert [Decimal("0.002")] * 10 == costs


def test_requests_that_were_refused_by_the_vendor_cost_nothing():
    with Upstream() as upstream:
        settings = served(upstream, budgets={"team": {"amount": 0.11, "per": "day"}})
        upstream.fail(400, times=3)
        with create_kernel(settings) as kernel:
            model = kernel.model_selector.get_model()
            for _ in range(3):
                with pytest.raises(BadRequestError):
                    model.chat("Hello!")
            model.chat("Hello!")


def test_each_tenant_has_a_pot_of_its_own():
    with Upstream() as upstream:
        budget = {"amount": 0.107, "per": "day", "each": "tenant"}
        app = create_container(served(upstream, budgets={"team": budget}))
        overlays = {"acme": {}, "globex": {}}
        with app, TenantKernels(app, overlays) as tenants:
            for _ in range(2):
                with tenants.use("acme") as kernel:
                    said = outcome(kernel)
            with tenants.use("globex") as kernel:
                assert "answered" == outcome(kernel)

    assert "for tenant=acme has US$ 0.105 left" in said


def test_what_a_tenants_own_endpoint_says_spends_nothing_of_the_operators():
    with Upstream() as upstream, Upstream() as own:
        usage = {"prompt_tokens": 10**9, "completion_tokens": 10**9}
        own.play(faults.Body(json.dumps(answer(usage=usage))))
        settings = served(upstream, budgets={"all": {"amount": 1, "per": "month"}})
        overlay = {"providers": {"openai": {"api_key": "sk-m", "base_url": own.openai_url}}}
        overlays = {"mallory": {"llm": overlay}, "acme": {}}
        app = create_container(settings)
        with app, TenantKernels(app, overlays) as tenants:
            with tenants.use("mallory") as kernel:
                assert "answered" == outcome(kernel)
                assert "for account=mallory has US$ 0 left" in outcome(kernel)
            with tenants.use("acme") as kernel:
                assert "answered" == outcome(kernel)


OWN_KEY = {"api_key": "sk-made-up"}
OWN_URL = {"base_url": "http://localhost:1"}


@pytest.mark.parametrize(
    ("provider", "operators", "own"),
    [
        ("vllm", {}, OWN_KEY),
        ("openai", {}, OWN_KEY),
        ("plain", {"api_key": "sk-operator"}, OWN_KEY),
        ("plain", {"api_key": "sk-operator"}, OWN_URL),
    ],
)
def test_a_made_up_account_is_none(provider, operators, own):
    """Where the operator's server asks for no key, or the provider may not heed an endpoint."""
    assert [None, None] == accounts(provider, operators, own)


@pytest.mark.parametrize(
    ("provider", "operators", "own"),
    [
        ("openai", {"api_key": "sk-operator"}, OWN_KEY),
        ("vllm", {}, OWN_URL),
        ("openai", {}, OWN_URL | OWN_KEY),
    ],
)
def test_an_account_that_a_tenant_brings_is_its_own(provider, operators, own):
    assert [None, "mallory"] == accounts(provider, operators, own)


class Plain(ScriptedProvider):
    """Says nothing of keys and endpoints."""


def accounts(provider, operators, own):
    """Return whose account the operator's calls and a tenant's count in."""
    with Upstream() as upstream:
        table = {"base_url": upstream.openai_url, **operators}
        default = {"provider": provider, "model": "m"}
        app = create_container(
            {"llm": {"default": default, "providers": {provider: table}}},
            providers=[Plain(["Hi!"], id="plain")],
        )
        overlays = {"acme": {}, "mallory": {"llm": {"providers": {provider: own}}}}
        with app, TenantKernels(app, overlays) as tenants:
            found = []
            for tenant in overlays:
                with tenants.use(tenant) as kernel:
                    (target,) = kernel.llm_registry.get_model()._targets
                    found.append(target.account)
    return found


def answer(**facts):
    message = {"role": "assistant", "content": "Hi"}
    return {"choices": [{"index": 0, "finish_reason": "stop", "message": message}], **facts}


def outcome(kernel):
    try:
        kernel.model_selector.get_model().chat("Hello!")
    except BudgetExceededError as error:
        return str(error)
    return "answered"


# --- numbers ---


def test_money_is_counted_in_whole_billionths_of_a_dollar_rounded_up():
    assert 37_500_000 == nanodollars(Decimal("0.0375"))
    assert 1 == nanodollars(Decimal("1e-12"))
    assert "US$ 0.0375" == dollars(37_500_000)
    assert "US$ 1000000" == dollars(nanodollars(Decimal(10) ** 6))


def test_a_thousand_tenths_are_a_hundred(clock):
    """Floats would drift: the hundredth dollar is spent exactly, and nothing is left."""
    meter = budgets(clock, pot={"amount": 100, "per": "day"})

    async def spend():
        for _ in range(1000):
            await meter.reserve(planned(cost="0.1"))
        await refusal(meter, planned(cost="0.000000001"))

    asyncio.run(spend())


def test_tokens_are_estimated_by_letters_and_by_bytes():
    assert 0 == estimated_tokens([])
    assert 4 + 1 + 100 == estimated_tokens(["four"], max_tokens=100)
    assert (4 + 2) + (4 + 2) == estimated_tokens(["five5", "日本"])
    assert 4 + 1 == estimated_tokens(["\ud800"])


def test_an_answer_is_as_long_as_the_settings_that_win_allow_and_never_below_nothing():
    assert 120 == estimated_tokens(["You are brief.", "What is the capital of France?"], 100)
    assert 5 == estimated_tokens(["abc"], -(10**9))
    assert 7 == longest_answer({"max_completion_tokens": 7}, {"max_tokens": 5})
    assert 7 == longest_answer({}, {"max_tokens": 7}, {"max_tokens": 500})
    assert 0 == longest_answer({"max_tokens": -5}, {"max_output_tokens": "9"})


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_a_longest_answer_in_extra_is_set_aside_too(name):
    with Upstream() as upstream:
        settings = served(upstream, budgets={"team": {"amount": 0.1, "per": "day"}})
        settings["llm"]["default"].pop("max_tokens")
        with create_kernel(settings) as kernel:
            model = kernel.model_selector.get_model()
            with pytest.raises(BudgetExceededError):
                model.chat("Hello!", settings={"extra": {name: 100}})
            model.chat("Hello!", settings={"extra": {name: 50}})

    assert 1 == len(upstream.requests)


def test_a_minute_slides_and_its_counts_outlive_the_next():
    minute = window_at("minute", NOON)

    shares = [minute.share(NOON + seconds) for seconds in (0, 45, 61)]
    assert [1_000_000, 250_000, 0] == shares
    assert ("2026-02-28T11:59", 240) == (minute.before, minute.lasts)
    assert ("", 25 * 3600) == (window_at("day", NOON).before, window_at("day", NOON).lasts)


# --- any order ---


class AnyOrder(RuleBasedStateMachine):
    """Whatever the order of reserving, settling, refunding and waiting, counts are exact."""

    reserved = Bundle("reserved")
    AMOUNT = 1_000

    def __init__(self):
        super().__init__()
        self.clock = Clock()
        self.meter = budgets(self.clock, pot={"amount": 1e-6, "per": "day", "each": "tenant"})
        self.counts = {}
        self.beyond = {}

    @rule(target=reserved, tenant=st.sampled_from("ab"), amount=st.integers(0, 600))
    def reserve(self, tenant, amount):
        pot = (tenant, self.clock.now // 86400)
        fits = self.counts.get(pot, 0) + amount <= self.AMOUNT
        try:
            made = asyncio.run(self.meter.reserve(self.call(tenant, amount)))
        except BudgetExceededError as error:
            error_says = error.retry_after
        else:
            error_says = None
        assert error_says == (None if fits else 86400 - self.clock.now % 86400)
        if not fits:
            return None
        self.counts[pot] = self.counts.get(pot, 0) + amount
        return pot, amount, made

    @rule(each=consumes(reserved), taken=st.integers(0, 900))
    def settle(self, each, taken):
        if each:
            pot, amount, made = each
            asyncio.run(made.settle(tokens=1, cost=Decimal(taken).scaleb(-9)))
            self.counts[pot] += taken - amount
            self.beyond[pot] = self.beyond.get(pot, 0) + max(0, taken - amount)

    @rule(each=consumes(reserved))
    def refund(self, each):
        if each:
            pot, amount, made = each
            asyncio.run(made.refund())
            self.counts[pot] -= amount

    @rule(seconds=st.sampled_from([1, 3600, 12 * 3600]))
    def wait(self, seconds):
        self.clock.now += seconds

    @invariant()
    def the_counts_are_those_of_the_model(self):
        for tenant in "ab":
            pot = (tenant, self.clock.now // 86400)
            (use,) = asyncio.run(self.meter.uses(self.call(tenant, 0)))
            assert self.counts.get(pot, 0) == use.used

    @invariant()
    def nothing_is_overspent_but_by_what_calls_took_beyond_their_estimates(self):
        for pot, count in self.counts.items():
            assert count <= self.AMOUNT + self.beyond.get(pot, 0)

    @staticmethod
    def call(tenant, amount):
        return planned(cost=str(Decimal(amount).scaleb(-9)), tenant=tenant)


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = SHORT


class AnyRate(RuleBasedStateMachine):
    """A sliding minute: what is let through never exceeds the limit, as the window counts it."""

    LIMIT = 100

    def __init__(self):
        super().__init__()
        self.clock = Clock()
        self.meter = rates(self.clock, tokens_per_minute=self.LIMIT)

    @rule(amount=st.integers(1, 100))
    def take(self, amount):
        try:
            asyncio.run(self.meter.reserve(planned(amount)))
        except RateLimitError as error:
            self.clock.now += error.retry_after + 0.001
            asyncio.run(self.meter.reserve(planned(amount)))

    @rule(seconds=st.floats(0, 130))
    def wait(self, seconds):
        self.clock.now += seconds

    @invariant()
    def no_more_count_than_are_allowed(self):
        assert asyncio.run(self.meter.uses(planned()))[0].used <= self.LIMIT


TestAnyRate = AnyRate.TestCase
TestAnyRate.settings = SHORT
