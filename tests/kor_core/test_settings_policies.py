"""Rates, budgets, policies and the shared state: what is accepted, and what an error says."""

from decimal import Decimal

import pytest

from kor_core.adapters.dynaconf import load_settings
from kor_core.errors import ConfigurationError
from kor_core.settings import settings_from

BUDGET = {"amount": 5, "per": "day"}


def problem(**llm):
    with pytest.raises(ConfigurationError) as caught:
        settings_from({"llm": llm})
    (found,) = caught.value.problems
    return found.key, found.message


def test_what_is_not_set_bounds_nothing_and_the_policies_are_those_of_the_documentation():
    settings = settings_from({"llm": {"providers": {"openai": {}}}})

    openai, policies, state = (
        settings.llm.providers["openai"],
        settings.llm.policies,
        settings.state,
    )
    assert {} == settings.llm.budgets
    assert (None, None, None) == (
        openai.requests_per_minute,
        openai.tokens_per_minute,
        openai.concurrency,
    )
    assert (2, False) == (policies.retries, policies.content_filter_fallback)
    breaker, cache = policies.breaker, policies.cache
    assert (5, 60, 30) == (breaker.failures, breaker.window, breaker.cooldown)
    assert (0, 300, False) == (cache.entries, cache.ttl, cache.coalesce)
    assert (None, "open", 0.5, "kor") == (state.url, state.on_failure, state.timeout, state.prefix)


def test_an_amount_is_the_one_that_was_written():
    budgets = settings_from({"llm": {"budgets": {"a": {**BUDGET, "amount": 0.1}}}}).llm.budgets

    assert Decimal("0.1") == budgets["a"].amount


@pytest.mark.parametrize(
    ("change", "key", "words"),
    [
        ({"amount": -1}, "amount", "at least 0"),
        ({"amount": 9_000_001}, "amount", "at most 9,000,000."),
        ({"amount": "5"}, "amount", "Expected a number, found text"),
        ({"per": "week"}, "per", "Expected 'day' or 'month'"),
        ({"each": "user"}, "each", "Expected 'tenant', 'purpose' or 'model'"),
        ({"model": [""]}, "model.0", "Must not be empty"),
    ],
)
def test_a_budget_that_makes_no_sense_is_refused(change, key, words):
    path, message = problem(budgets={"team": {**BUDGET, **change}})

    assert f"llm.budgets.team.{key}" == path
    assert words in message


def test_a_budget_says_its_amount_and_its_period_itself():
    assert ("llm.budgets.a.per", "Missing: it has no default.") == problem(
        budgets={"a": {"amount": 1}}
    )


@pytest.mark.parametrize("table", ["providers", "models"])
@pytest.mark.parametrize("rate", ["requests_per_minute", "tokens_per_minute", "concurrency"])
def test_a_rate_is_at_least_one(table, rate):
    path, message = problem(**{table: {"openai": {rate: 0}}})

    assert (f"llm.{table}.openai.{rate}", "Expected a number at least 1.") == (path, message)


def test_variables_of_the_environment_reach_budgets_and_state(monkeypatch, clean_machine):
    (clean_machine / "config.toml").write_text('[llm.budgets.team]\namount = 1\nper = "day"\n')
    monkeypatch.setenv("KOR_LLM__BUDGETS__TEAM__AMOUNT", "2.50")
    monkeypatch.setenv("KOR_STATE__URL", "redis://:planted@redis")
    monkeypatch.setenv("KOR_STATE__ON_FAILURE", "closed")
    settings = load_settings()

    assert Decimal("2.50") == settings.llm.budgets["team"].amount
    assert ("closed", True) == (settings.state.on_failure, "planted" in str(settings.state.url))
    assert "planted" not in repr(settings)
