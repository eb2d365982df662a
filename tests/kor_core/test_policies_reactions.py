"""Every error of a call has its row, and the retrier keeps to it."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kor_core import errors
from kor_core.llm.policies.reactions import REACTIONS, Health, Next, asked_wait, reaction_to
from kor_core.llm.policies.retrier import Retrier

MESSAGE = "It failed."


def limited(retry_after: float | None = None) -> errors.RateLimitError:
    return errors.RateLimitError(MESSAGE, retry_after=retry_after)


# --- reactions ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "then", "health", "retry"),
    [
        (errors.LLMConnectionError(MESSAGE), Next.ANY, Health.FAILING, True),
        (errors.LLMConnectionError(MESSAGE, retryable=False), Next.ANY, Health.FAILING, False),
        (errors.LLMTimeoutError(MESSAGE, status=408), Next.ANY, Health.FAILING, True),
        (errors.ProviderError(MESSAGE, retryable=True), Next.ANY, Health.FAILING, True),
        (errors.ProviderError(MESSAGE), Next.ANY, Health.FAILING, False),
        (errors.RateLimitError(MESSAGE), Next.ANY, Health.FAILING, True),
        (errors.StreamInterruptedError(MESSAGE, partial=""), Next.ANY, Health.FAILING, True),
        (errors.ContextWindowExceededError(MESSAGE), Next.LARGER, Health.ANSWERED, False),
        (errors.ContentFilterError(MESSAGE), Next.OPTED_IN, Health.ANSWERED, False),
        (errors.AuthenticationError(MESSAGE), Next.ANY, Health.REFUSING, False),
        (errors.PermissionDeniedError(MESSAGE), Next.ANY, Health.REFUSING, False),
        (errors.ModelNotFoundError(MESSAGE), Next.ANY, Health.REFUSING, False),
        (errors.QuotaExhaustedError(MESSAGE), Next.ANY, Health.REFUSING, False),
        (
            errors.CapabilityNotSupportedError(MESSAGE, capability="tools"),
            *(Next.ANY, Health.UNTRIED, False),
        ),
        (
            errors.InvalidAnswerError(MESSAGE, text="", problems=""),
            *(Next.ANY, Health.ANSWERED, False),
        ),
        (
            errors.InvalidToolCallError(MESSAGE, tool="t", arguments=""),
            *(Next.ANY, Health.ANSWERED, True),
        ),
        (errors.AllModelsFailedError(MESSAGE, [limited()]), Next.ANY, Health.UNTRIED, False),
        (errors.BadRequestError(MESSAGE), Next.NONE, Health.ANSWERED, False),
        (errors.BadRequestError(MESSAGE, retryable=True), Next.NONE, Health.ANSWERED, False),
        (errors.BudgetExceededError(MESSAGE), Next.NONE, Health.UNTRIED, False),
        (errors.RealCallsBlockedError(MESSAGE), Next.NONE, Health.UNTRIED, False),
        (errors.StateUnavailableError(MESSAGE), Next.NONE, Health.UNTRIED, False),
        (errors.ToolRoundsExceededError(MESSAGE, rounds=3), Next.NONE, Health.UNTRIED, False),
        (errors.ConfigurationError([]), Next.NONE, Health.UNTRIED, False),
        (
            errors.MissingCredentialsError(
                errors.Problem(MESSAGE), variables=(), provider="p", model="m"
            ),
            *(Next.NONE, Health.UNTRIED, False),
        ),
        (errors.PluginError(MESSAGE, plugin="p", origin="o"), Next.NONE, Health.UNTRIED, False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_an_error_leads_to_what_the_table_says(
    error: errors.KorError, then: Next, health: Health, *, retry: bool
):
    reaction = reaction_to(error)

    assert (then, health, retry) == (reaction.then, reaction.health, reaction.retry)


def test_every_error_of_a_call_has_a_row_of_its_own():
    """So that whoever adds a class decides what it leads to."""
    # Tests and plugins derive others.
    own = {kind for kind in errors.LLMError.__subclasses__() if kind.__module__ == errors.__name__}
    inherits = {errors.MissingCredentialsError}  # a configuration that is wrong

    assert set() == own - set(REACTIONS) - inherits


def test_an_error_of_a_plugin_is_judged_by_its_nearest_base():
    class TenantRateLimitError(errors.RateLimitError):
        pass

    class OddError(errors.LLMError):
        pass

    assert reaction_to(TenantRateLimitError(MESSAGE)).retry
    assert reaction_to(OddError(MESSAGE, retryable=True)).retry
    assert not reaction_to(OddError(MESSAGE)).retry


@pytest.mark.parametrize("wait", [None, 0, -1.0, math.nan, math.inf])
def test_what_is_no_wait_does_not_become_one(wait: float | None):
    assert 0.0 == asked_wait(limited(wait))


def test_a_wait_is_asked_for_by_calls_alone():
    assert 2.0 == asked_wait(limited(2))
    assert 0.0 == asked_wait(errors.ConfigurationError([]))


# --- retrier --------------------------------------------------------------------------------


def test_the_bound_doubles_up_to_the_cap():
    retrier = Retrier(retries=9, base=0.5, cap=3.0, random=lambda: 1.0)

    waits = [retrier.wait_before(limited(), attempt, None) for attempt in (1, 2, 3, 4, 9)]

    assert [0.5, 1.0, 2.0, 3.0, 3.0] == waits


def test_no_number_of_attempts_overflows():
    retrier = Retrier(retries=10_000, random=lambda: 1.0)

    assert 8.0 == retrier.wait_before(limited(), 9_999, None)


def test_after_the_last_retry_the_next_is_asked_at_once():
    retrier = Retrier(retries=2, random=lambda: 0.0)

    waits = [retrier.wait_before(limited(), attempt, None) for attempt in (1, 2, 3)]

    assert [0.0, 0.0, None] == waits


def test_what_is_not_retryable_is_not_retried():
    assert Retrier().wait_before(errors.BadRequestError(MESSAGE), 1, None) is None


def test_a_wait_that_would_pass_the_deadline_is_not_begun():
    retrier = Retrier(random=lambda: 0.0)

    assert 1.0 == retrier.wait_before(limited(1), 1, left=1.1)
    assert retrier.wait_before(limited(1), 1, left=1.0) is None
    assert retrier.wait_before(limited(), 1, left=0.0) is None


def test_a_provider_that_asks_for_too_much_is_not_waited_for():
    retrier = Retrier(patience=5, random=lambda: 0.0)

    assert 5.0 == retrier.wait_before(limited(5), 1, None)
    assert retrier.wait_before(limited(5.1), 1, None) is None


@given(
    attempt=st.integers(1, 100),
    asked=st.none() | st.floats(0, 100),
    left=st.none() | st.floats(0, 200),
    random=st.floats(0, 1, exclude_max=True),
)
def test_a_wait_is_never_shorter_than_asked_nor_longer_than_allowed(
    attempt: int, asked: float | None, left: float | None, random: float
):
    retrier = Retrier(retries=50, random=lambda: random)

    wait = retrier.wait_before(limited(asked), attempt, left)

    if wait is not None:
        assert (asked or 0) <= wait <= (asked or 0) + retrier.cap
        assert left is None or wait < left
        assert attempt <= retrier.retries
